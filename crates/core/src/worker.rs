//! One worker's life, from its fork until its process and its channel are both gone.
//!
//! ```text
//! Starting ──ready──▶ Online ──▶ Draining ──channel closed──▶ Stopping ──▶ (exited)
//!     └──────────────────┴──stop──▶ Draining or Stopping ──kill timeout──▶ killed
//! ```
//!
//! Job: know whether a worker is ready, run the stop ladder, remember why it ends. Owner: [`crate::app::App`].
//! Must not know: sockets, other workers, whether it is replaced.

use crate::cause::Cause;
use crate::exit::ExitStatus;
use crate::health::Health;
use crate::id::{Slot, WorkerId};
use crate::time::Time;
use std::time::Duration;

/// How a worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ReadyBasis {
    /// It listens.
    Listening,
    /// It sent the message `"ready"`.
    Message,
    /// It sent `READY=1` (`sd_notify`).
    Notify,
    /// It answered its probe.
    Probe,
    /// Nothing better can be known of it: it has been up for a second and asked for no endpoint.
    Uptime,
}

/// Why a worker ended, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// The supervisor let it go.
    Replaced(Cause),
}

/// Which signs make a worker ready; any of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Readiness {
    /// It listens.
    pub listening: bool,
    /// It sends the message `"ready"`.
    pub message: bool,
    /// It sends `READY=1` by `sd_notify`.
    pub notify: bool,
    /// It answers its probe.
    pub probe: bool,
    /// It has been up for so long.
    pub uptime: Option<Duration>,
    /// Whether somebody chose these signs. Otherwise uptime counts only where the worker gives no sign that it
    /// wants to listen.
    pub chosen: bool,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            listening: true,
            message: true,
            notify: true,
            probe: false,
            uptime: Some(UPTIME_READY),
            chosen: false,
        }
    }
}

impl Readiness {
    fn accepts(&self, basis: ReadyBasis) -> bool {
        match basis {
            ReadyBasis::Listening => self.listening,
            ReadyBasis::Message => self.message,
            ReadyBasis::Notify => self.notify,
            ReadyBasis::Probe => self.probe,
            ReadyBasis::Uptime => self.uptime.is_some(),
        }
    }
}

/// What a worker is born with.
#[derive(Debug, Clone, Copy)]
pub struct Birth {
    /// Who.
    pub id: WorkerId,
    /// Its place.
    pub slot: Slot,
    /// Which version of the app's command and settings it runs.
    pub generation: u32,
    /// Whether it has a channel.
    pub has_channel: bool,
    /// Whether that is for messages only: it does not say when it boots and listens.
    pub ipc: bool,
    /// Whether it starts out of the rotation, as a spare.
    pub standby: bool,
    /// Whether it takes connections only when it is ready, and not as soon as it asks for them.
    pub gated: bool,
    /// What makes it ready.
    pub readiness: Readiness,
    /// How long it may take until it is.
    pub ready_limit: Option<Duration>,
    /// Whether it must have passed its liveness probe once, too.
    pub must_pass: bool,
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
#[derive(Debug, serde::Serialize, serde::Deserialize)]
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
    /// Which version of the app's command and settings it runs.
    pub generation: u32,
    /// Whether it is out of the rotation as a spare.
    pub standby: bool,
    /// Whether another one has its place, or nobody: it is on its way out.
    pub outgoing: bool,
    /// The last signal that an operator sent to it.
    pub signalled: Option<i32>,
    /// Whether what becomes of its connections is being watched.
    pub held: bool,
    /// When it is too old.
    pub old_at: Option<Time>,
    /// How much memory it may use, in bytes.
    pub memory_limit: Option<u64>,
    /// How it is watched, at the moment.
    pub health: Option<Health>,
    /// Whether its liveness probe has begun.
    pub checked: bool,
    /// What it does, in its own words (`STATUS=`).
    pub status: Option<String>,
    /// How its process ended.
    pub exit: Option<ExitStatus>,
    state: State,
    has_channel: bool,
    /// It says when it boots and listens.
    tells: bool,
    online: Option<Time>,
    asked: bool,
    ready_since: Option<Time>,
    retired: bool,
    left_at: Option<Time>,
    cause: Option<Cause>,
    /// It gave a sign of readiness, and its probe is awaited.
    sign: Option<ReadyBasis>,
    must_pass: bool,
    gated: bool,
    readiness: Readiness,
    ready_limit: Option<Duration>,
    /// It asked for more time (`EXTEND_TIMEOUT_USEC`).
    extended: Option<Time>,
    ladder: Option<Ladder>,
    killed: Option<ExitReason>,
    forced: bool,
}

/// The steps still ahead of a worker that is to stop.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Ladder {
    signal_at: Option<Time>,
    kill_at: Time,
    /// From the signal to the kill.
    grace: Duration,
}

impl Worker {
    /// A worker that is about to be spawned.
    #[must_use]
    pub fn new(now: Time, birth: Birth) -> Self {
        Self {
            id: birth.id,
            slot: birth.slot,
            pid: 0,
            forked: now,
            connected: birth.has_channel,
            voluntary: false,
            generation: birth.generation,
            standby: birth.standby,
            outgoing: false,
            signalled: None,
            held: false,
            old_at: None,
            memory_limit: None,
            health: None,
            checked: false,
            status: None,
            exit: None,
            state: State::Starting,
            has_channel: birth.has_channel,
            tells: birth.has_channel && !birth.ipc,
            online: None,
            asked: false,
            ready_since: None,
            retired: false,
            left_at: None,
            cause: None,
            sign: None,
            must_pass: birth.must_pass,
            gated: birth.gated,
            readiness: birth.readiness,
            ready_limit: birth.ready_limit,
            extended: None,
            ladder: None,
            killed: None,
            forced: false,
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

    /// Whether it takes connections, as soon as it has asked for them.
    #[must_use]
    pub fn in_rotation(&self) -> bool {
        let early = !self.gated && self.state == State::Starting;
        !self.standby && (early || self.state == State::Online) && self.exit.is_none()
    }

    /// Whether nobody knows yet if it can serve, and its probe would tell.
    #[must_use]
    pub fn awaits_probe(&self) -> bool {
        self.readiness.probe && self.state == State::Starting && self.ladder.is_none()
    }

    /// Why it ended.
    #[must_use]
    pub fn reason(&self) -> ExitReason {
        match (self.killed, self.cause) {
            (Some(ExitReason::KillTimeout) | None, Some(cause)) => ExitReason::Replaced(cause),
            (Some(reason), _) => reason,
            (None, None) if self.ended_by_operator() => ExitReason::Killed,
            (None, None) if self.retired => ExitReason::Stopped,
            (None, None) => ExitReason::Own,
        }
    }

    /// How long it might take until it was ready.
    #[must_use]
    pub fn ready_limit(&self) -> Option<Duration> {
        self.ready_limit
    }

    fn ended_by_operator(&self) -> bool {
        let sent = self.signalled;
        matches!(self.exit, Some(ExitStatus::Signal { signal, .. }) if sent == Some(signal))
    }

    /// Whether it was killed by us.
    #[must_use]
    pub fn forced(&self) -> bool {
        self.forced
    }

    /// Since when it has been on its way out, if it is.
    #[must_use]
    pub fn left_at(&self) -> Option<Time> {
        self.left_at
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
        // A sign that comes when it was told to go already is too late.
        if self.state != State::Starting || !self.readiness.accepts(basis) {
            return;
        }
        if self.must_pass {
            self.sign.get_or_insert(basis);
            return;
        }
        self.state = State::Online;
        self.ready_since = Some(now);
        out.push(Step::Ready(basis));
    }

    /// Whether it gave its sign, and its probe is awaited.
    #[must_use]
    pub fn awaits_health(&self) -> bool {
        self.must_pass && self.sign.is_some() && self.in_service()
    }

    /// It passed its liveness probe for the first time.
    pub fn passed(&mut self, now: Time, out: &mut Vec<Step>) {
        self.must_pass = false;
        if let Some(basis) = self.sign.take() {
            self.ready(now, basis, out);
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

    /// It says that it is about to end. After `limit` it is killed, unless it asks for more time.
    pub fn stops_itself(&mut self, now: Time, limit: Duration) {
        self.leaves();
        self.ladder.get_or_insert(Ladder {
            signal_at: None,
            kill_at: now + limit,
            grace: Duration::ZERO,
        });
    }

    /// The first rung of the stop ladder.
    pub fn stop(&mut self, now: Time, ask: Ask, kill_timeout: Duration, out: &mut Vec<Step>) {
        if self.retired && self.ladder.is_some() || self.exit.is_some() {
            return self.hurry(now, kill_timeout.mul_f64(0.8), kill_timeout);
        }
        self.ask(now, ask, Duration::ZERO, kill_timeout, out);
    }

    /// It is replaced, or no longer wanted: it is asked to go, has `drain` to finish its connections, then gets a
    /// signal, and is killed after `kill_timeout` more. Out of the rotation already.
    pub fn retire(
        &mut self,
        now: Time,
        cause: Cause,
        ask: Ask,
        [drain, kill_timeout]: [Duration; 2],
        out: &mut Vec<Step>,
    ) {
        if self.exit.is_some() {
            return;
        }
        self.outgoing = true;
        if self.retired && self.ladder.is_some() {
            return;
        }
        self.cause.get_or_insert(cause);
        self.ask(now, ask, drain, kill_timeout, out);
    }

    /// What it will have been retired for.
    pub fn blame(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    /// What is left of its ladder takes no longer than this.
    pub fn hurry(&mut self, now: Time, signal_in: Duration, kill_in: Duration) {
        if let Some(ladder) = &mut self.ladder {
            ladder.signal_at = ladder.signal_at.map(|at| at.min(now + signal_in));
            ladder.kill_at = ladder.kill_at.min(now + kill_in);
        }
    }

    /// It needs more time for what it is doing: becoming ready, or ending.
    pub fn extend(&mut self, now: Time, by: Duration) {
        if let Some(ladder) = &mut self.ladder {
            ladder.kill_at = ladder.kill_at.max(now + by);
        } else if self.state == State::Starting {
            self.extended = self.extended.max(Some(now + by));
        }
    }

    fn ask(&mut self, now: Time, ask: Ask, drain: Duration, kill_timeout: Duration, out: &mut Vec<Step>) {
        self.left_at.get_or_insert(now);
        let draining = self.state == State::Draining;
        self.voluntary = true;
        self.retired = true;
        let mut ladder = Ladder {
            signal_at: None,
            kill_at: now + drain + kill_timeout,
            grace: kill_timeout,
        };
        match ask {
            Ask::Disconnect if self.connected => {
                self.state = State::Draining;
                ladder.signal_at = Some(if drain.is_zero() {
                    now + kill_timeout.mul_f64(0.8)
                } else {
                    now + drain
                });
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
        self.forced = true;
        self.left_at.get_or_insert(now);
        self.ladder = Some(Ladder {
            signal_at: None,
            kill_at: now + Duration::from_secs(3600),
            grace: Duration::ZERO,
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
            ladder.kill_at = ladder.kill_at.min(now + EXIT_GRACE + ladder.grace);
        } else if let Some(limit) = detached.filter(|_| self.ladder.is_none() && !self.retired) {
            self.ladder = Some(Ladder {
                signal_at: Some(now + limit),
                kill_at: now + limit * 2,
                grace: limit,
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
        } else if self.ready_deadline().is_some_and(|at| at <= now) {
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
                .ready_deadline()
                .into_iter()
                .chain(self.uptime_deadline())
                .min(),
        }
    }

    fn ready_deadline(&self) -> Option<Time> {
        // One that leaves before it was ready has failed as well, if it stays.
        self.ready_limit
            .filter(|_| self.ready_since.is_none() && self.state != State::Stopping)
            .map(|limit| self.forked + limit)
            .max(self.extended.filter(|_| self.ready_limit.is_some()))
    }

    /// Uptime is a basis only where nothing better will come, or where it was chosen.
    fn uptime_deadline(&self) -> Option<Time> {
        let uptime = self.readiness.uptime.filter(|_| self.state == State::Starting)?;
        let silent = !self.asked && (self.ready_limit.is_none() || !self.tells);
        let since = if self.tells {
            self.online
        } else {
            Some(self.forked)
        };
        since
            .filter(|_| silent || self.readiness.chosen)
            .map(|since| since + uptime)
    }
}
