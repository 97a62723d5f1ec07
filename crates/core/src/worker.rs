//! One worker's life, from its fork until its process and its channel are both gone.
//!
//! ```text
//! Starting ──ready──▶ Online ──▶ Draining ──channel closed──▶ Stopping ──▶ (exited)
//!     └──────────────────┴──stop──▶ Draining or Stopping ──kill timeout──▶ killed
//! ```
//!
//! Job: know whether a worker is ready, run the stop ladder, remember why it ends. Owner: [`crate::app::App`].
//! Must not know: sockets, other workers, whether it is replaced.

use crate::exit::ExitStatus;
use crate::id::{Slot, WorkerId};
use crate::time::Time;
use std::time::Duration;

/// How a worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ask {
    /// Node's `disconnect`: its servers close, connections end, the channel closes; then SIGTERM if the
    /// process stays although its channel is closed. A worker without a channel gets SIGTERM at once.
    Disconnect,
    /// This signal, at once.
    Signal(i32),
    /// The message `"shutdown"` on the channel (pm2's `shutdown_with_message`). A worker without a channel
    /// gets SIGTERM.
    Message,
}

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Forked; not ready.
    Starting,
    /// Ready.
    Online,
    /// Out of rotation, finishing its connections.
    Draining,
    /// Told to end.
    Stopping,
}

/// How we know that a worker is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadyBasis {
    /// It listens.
    Listening,
    /// It sent the message `"ready"`.
    Message,
    /// Nothing better can be known of it: it has been up for a second and asked for no endpoint.
    Uptime,
}

/// Why a worker ended, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// By itself, or by somebody else's doing.
    Own,
    /// We asked it to stop, and it did.
    Stopped,
    /// It was asked to stop, stayed past the kill timeout, and was killed.
    KillTimeout,
    /// It did not listen within the limit and was killed.
    ListenTimeout,
    /// It broke the channel's protocol and was killed.
    Protocol,
    /// An operator's `kill`.
    Killed,
}

/// After this long without a sign that it wants an endpoint a worker counts as ready.
pub const UPTIME_READY: Duration = Duration::from_secs(1);
/// How long a process may stay after its channel closed, before it gets SIGTERM.
const EXIT_GRACE: Duration = Duration::from_millis(250);
/// Linux's SIGTERM.
const SIGTERM: i32 = 15;

/// What is to be done to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send `disconnect` on the channel.
    Disconnect,
    /// Send the message `"shutdown"` on the channel.
    Shutdown,
    /// Send this signal to the process.
    Signal(i32),
    /// SIGKILL to the process and all its descendants.
    Kill,
    /// It became ready.
    Ready(ReadyBasis),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Worker {
    /// Who.
    pub id: WorkerId,
    /// Its place.
    pub slot: Slot,
    /// Its process id; 0 until it is spawned.
    pub pid: u32,
    /// When it was forked.
    pub forked: Time,
    /// Whether its channel is open.
    pub connected: bool,
    /// Node's `exitedAfterDisconnect`.
    pub voluntary: bool,
    /// How its process ended.
    pub exit: Option<ExitStatus>,
    state: State,
    has_channel: bool,
    online: Option<Time>,
    asked: bool,
    ready_since: Option<Time>,
    retired: bool,
    listen_limit: Option<Duration>,
    ladder: Option<Ladder>,
    killed: Option<ExitReason>,
}

/// The steps still ahead of a worker that is to stop.
#[derive(Debug)]
struct Ladder {
    signal_at: Option<Time>,
    kill_at: Time,
}

impl Worker {
    /// A worker that is about to be spawned.
    #[must_use]
    pub fn new(
        now: Time,
        id: WorkerId,
        slot: Slot,
        has_channel: bool,
        listen_limit: Option<Duration>,
    ) -> Self {
        Self {
            id,
            slot,
            pid: 0,
            forked: now,
            connected: has_channel,
            voluntary: false,
            exit: None,
            state: State::Starting,
            has_channel,
            online: None,
            asked: false,
            ready_since: None,
            retired: false,
            listen_limit: listen_limit.filter(|_| has_channel),
            ladder: None,
            killed: None,
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it may ask for endpoints and take connections.
    #[must_use]
    pub fn in_service(&self) -> bool {
        matches!(self.state, State::Starting | State::Online) && self.exit.is_none()
    }

    /// Since when it has been ready, if ever.
    #[must_use]
    pub fn ready_since(&self) -> Option<Time> {
        self.ready_since
    }

    /// Whether both its process and its channel are gone.
    #[must_use]
    pub fn over(&self) -> bool {
        self.exit.is_some() && !self.connected
    }

    /// Why it ended.
    #[must_use]
    pub fn reason(&self) -> ExitReason {
        match self.killed {
            Some(reason) => reason,
            None if self.retired => ExitReason::Stopped,
            None => ExitReason::Own,
        }
    }

    /// Whether we asked it to go, so that nobody is to take its place.
    #[must_use]
    pub fn retired(&self) -> bool {
        self.retired
    }

    /// Node booted in it.
    pub fn booted(&mut self, now: Time) {
        self.online.get_or_insert(now);
    }

    /// It asked for an endpoint, so it will say when it listens.
    pub fn asked(&mut self) {
        self.asked = true;
    }

    /// It gave a sign of readiness.
    pub fn ready(&mut self, now: Time, basis: ReadyBasis, out: &mut Vec<Step>) {
        if self.state == State::Starting {
            self.state = State::Online;
        }
        if self.ready_since.is_none() {
            self.ready_since = Some(now);
            out.push(Step::Ready(basis));
        }
    }

    /// Node's `worker.disconnect()`: ask, and wait for as long as it takes.
    pub fn disconnect(&mut self, out: &mut Vec<Step>) {
        self.voluntary = true;
        self.retired = true;
        if self.in_service() {
            self.state = State::Draining;
            if self.connected {
                out.push(Step::Disconnect);
            }
        }
    }

    /// It leaves on its own accord.
    pub fn leaves(&mut self) {
        self.voluntary = true;
        if self.in_service() {
            self.state = State::Draining;
        }
    }

    /// The first rung of the stop ladder.
    pub fn stop(&mut self, now: Time, ask: Ask, kill_timeout: Duration, out: &mut Vec<Step>) {
        if self.retired && self.ladder.is_some() || self.exit.is_some() {
            return;
        }
        let draining = self.state == State::Draining;
        self.voluntary = true;
        self.retired = true;
        let mut ladder = Ladder {
            signal_at: None,
            kill_at: now + kill_timeout,
        };
        match ask {
            Ask::Disconnect if self.connected => {
                self.state = State::Draining;
                ladder.signal_at = Some(now + kill_timeout.mul_f64(0.8));
                if !draining {
                    out.push(Step::Disconnect);
                }
            }
            Ask::Message if self.connected => {
                self.state = State::Stopping;
                out.push(Step::Shutdown);
            }
            Ask::Signal(signal) => {
                self.state = State::Stopping;
                out.push(Step::Signal(signal));
            }
            // Its channel is closed already: it is about to end, or it is not.
            Ask::Disconnect | Ask::Message if self.has_channel => {
                self.state = State::Stopping;
                ladder.signal_at = Some(now + EXIT_GRACE.min(kill_timeout));
            }
            Ask::Disconnect | Ask::Message => {
                self.state = State::Stopping;
                out.push(Step::Signal(SIGTERM));
            }
        }
        self.ladder = Some(ladder);
    }

    /// The last rung, at once.
    pub fn kill(&mut self, now: Time, reason: ExitReason, out: &mut Vec<Step>) {
        if self.exit.is_some() {
            return;
        }
        self.state = State::Stopping;
        self.killed.get_or_insert(reason);
        self.ladder = Some(Ladder {
            signal_at: None,
            kill_at: now + Duration::from_secs(3600),
        });
        out.push(Step::Kill);
    }

    /// Its channel is closed. `detached` is how long its process may stay where nobody asked it to go; after
    /// that it gets SIGTERM, and after as long again it is killed.
    pub fn channel_closed(&mut self, now: Time, detached: Option<Duration>) {
        self.connected = false;
        if self.exit.is_some() {
            return;
        }
        self.state = if self.state == State::Stopping {
            State::Stopping
        } else {
            State::Draining
        };
        if let Some(ladder) = self.ladder.as_mut().filter(|ladder| ladder.signal_at.is_some()) {
            self.state = State::Stopping;
            ladder.signal_at = Some(now + EXIT_GRACE);
        } else if let Some(limit) = detached.filter(|_| self.ladder.is_none() && !self.retired) {
            self.ladder = Some(Ladder {
                signal_at: Some(now + limit),
                kill_at: now + limit * 2,
            });
        }
    }

    /// Timers.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Step>) {
        if self.exit.is_some() {
            return;
        }
        if let Some(ladder) = &mut self.ladder {
            if ladder.kill_at <= now {
                return self.kill(now, ExitReason::KillTimeout, out);
            }
            if ladder.signal_at.take_if(|at| *at <= now).is_some() {
                self.state = State::Stopping;
                out.push(Step::Signal(SIGTERM));
            }
        } else if self.listen_deadline().is_some_and(|at| at <= now) {
            self.kill(now, ExitReason::ListenTimeout, out);
        } else if self.uptime_deadline().is_some_and(|at| at <= now) {
            self.ready(now, ReadyBasis::Uptime, out);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if self.exit.is_some() {
            return None;
        }
        match &self.ladder {
            Some(ladder) => Some(
                ladder
                    .signal_at
                    .map_or(ladder.kill_at, |at| at.min(ladder.kill_at)),
            ),
            None => self
                .listen_deadline()
                .into_iter()
                .chain(self.uptime_deadline())
                .min(),
        }
    }

    fn listen_deadline(&self) -> Option<Time> {
        self.listen_limit
            .filter(|_| self.state == State::Starting)
            .map(|limit| self.forked + limit)
    }

    /// Uptime is a basis only where nothing better will come.
    fn uptime_deadline(&self) -> Option<Time> {
        let silent = self.state == State::Starting && !self.asked && self.listen_limit.is_none();
        let since = if self.has_channel {
            self.online
        } else {
            Some(self.forked)
        };
        since.filter(|_| silent).map(|since| since + UPTIME_READY)
    }
}
