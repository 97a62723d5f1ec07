//! Ways to the end of a cluster: with a deadline, or by the signals of an operator.

use super::{Cluster, Command, Commander, Events, Reload, StartError};
use crate::builder::Builder;
use crate::event::{Event, Outcome};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Signals so close together are one request: `timeout` and process managers signal both the process and its
/// group.
const SAME: Duration = Duration::from_millis(50);

impl Cluster {
    /// Stops all workers by the stop plan ([`Spec::stop`](crate::Spec::stop)), and kills with their process trees those
    /// that are still there after `deadline`. Waits until all is over.
    ///
    /// # Panics
    /// As [`join`](Self::join).
    #[must_use]
    pub fn shutdown(self, deadline: Duration) -> Outcome {
        self.stop();
        if !self.history.await_end(deadline) {
            self.stop_now();
        }
        self.join()
    }

    /// Waits until the cluster has ended, and does meanwhile what the signals to this process say: the first SIGINT or
    /// SIGTERM stops gracefully, the next one (or SIGQUIT at any time) kills, SIGHUP reloads.
    ///
    /// Others may have the cluster meanwhile (in an `Arc`): to send messages, say, in answer to events.
    ///
    /// Handlers for these four signals are installed now. They stay: after this has returned, none of the four ends the
    /// process. A signal that comes before has the system's default action, which is the end of this process and of its
    /// workers with it: [`Builder::run`] leaves no such gap. Two clusters of one process both obey.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cluster, _events) = everup::Cluster::builder().node("app.js").start()?;
    /// let outcome = cluster.run_until_signal()?;
    /// println!("{outcome:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the handlers cannot be installed or the thread that waits for them cannot be started. The cluster runs on.
    ///
    /// # Panics
    /// As [`join`](Self::join).
    pub fn run_until_signal(&self) -> io::Result<Outcome> {
        let obeying = Obeying::start(handlers()?, self.commander.clone())?;
        let outcome = self.ended();
        obeying.end();
        Ok(outcome)
    }
}

/// Why a cluster was not run to its end. No worker is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The handlers of the signals, or the thread that waits for them.
    #[error("wait for signals")]
    Signals(#[source] io::Error),
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Builder {
    /// Starts the cluster and waits for its end, obeying signals as [`Cluster::run_until_signal`] does: SIGHUP reloads,
    /// SIGINT and SIGTERM stop. So the `main` of a primary is one line. Nobody is told of events.
    ///
    /// The handlers are installed before anything is started: a signal that comes while the first workers are
    /// starting is obeyed, too. They stay, also when this fails: see there.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let outcome = everup::Cluster::builder().node("app.js").run()?;
    /// println!("{outcome:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RunError`]; no worker is left then.
    ///
    /// # Panics
    /// As [`Cluster::join`].
    pub fn run(self) -> Result<Outcome, RunError> {
        let (cluster, events, obeying) = self.obedient()?;
        drop(events);
        let outcome = cluster.ended();
        obeying.end();
        Ok(outcome)
    }

    /// The same, and `told` is called with each event, in this thread, until the last one. Events wait while it works
    /// (at most so many: see [`Event::Skipped`]); the cluster does not. It may command the cluster. If it never comes back,
    /// neither does this, though the cluster ends.
    ///
    /// ```no_run
    /// use everup::{Cluster, Event};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// Cluster::builder().node("app.js").run_with(|cluster, event| match event {
    ///     Event::Ready { worker, .. } => {
    ///         // It may have ended meanwhile.
    ///         cluster.send(worker, "hello").ok();
    ///     }
    ///     Event::Exit { worker, status, .. } => println!("{worker}: {status}"),
    ///     _ => {}
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    ///
    /// # Panics
    /// As [`Cluster::join`]. When `told` panics, the workers are killed.
    pub fn run_with(self, mut told: impl FnMut(&Cluster, Event)) -> Result<Outcome, RunError> {
        let (cluster, mut events, obeying) = self.obedient()?;
        while let Some(event) = events.recv_blocking() {
            told(&cluster, event);
        }
        let outcome = cluster.ended();
        obeying.end();
        Ok(outcome)
    }

    /// A cluster that obeys signals from its first moment on.
    fn obedient(self) -> Result<(Cluster, Events, Obeying), RunError> {
        let spec = self.into_spec()?;
        // What comes from here on is kept until somebody reads it.
        let signals = handlers().map_err(RunError::Signals)?;
        let (cluster, events) = Cluster::start(spec)?;
        match Obeying::start(signals, cluster.commander.clone()) {
            Ok(obeying) => Ok((cluster, events, obeying)),
            Err(error) => {
                cluster.stop_now();
                // Only that it has ended matters.
                let _outcome = cluster.join();
                Err(RunError::Signals(error))
            }
        }
    }
}

fn handlers() -> io::Result<Signals> {
    Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])
}

/// The thread that obeys signals, until this is dropped.
#[derive(Debug)]
struct Obeying {
    closing: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Obeying {
    fn start(signals: Signals, commander: Commander) -> io::Result<Self> {
        let closing = signals.handle();
        let thread = thread::Builder::new()
            .name("everup-signals".into())
            .spawn(move || obey(signals, &commander))?;
        Ok(Self {
            closing,
            thread: Some(thread),
        })
    }

    fn end(mut self) {
        if let Some(Err(panic)) = self.close() {
            std::panic::resume_unwind(panic);
        }
    }

    fn close(&mut self) -> Option<thread::Result<()>> {
        self.closing.close();
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for Obeying {
    fn drop(&mut self) {
        // Unless `end` was called, somebody panics already.
        self.close();
    }
}

fn obey(mut signals: Signals, commander: &Commander) {
    let mut asked: Option<Instant> = None;
    for signal in signals.forever() {
        let reaction = Reaction::to(signal, asked.map(|first| first.elapsed()));
        reaction.perform(commander);
        if matches!(reaction, Reaction::Stop | Reaction::Kill) {
            asked.get_or_insert_with(Instant::now);
        }
    }
}

/// What a signal makes us do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Stop,
    Kill,
    Reload,
    /// The same request once more.
    Repeated,
}

impl Reaction {
    /// `asked` is how long ago the first request to stop came.
    fn to(signal: i32, asked: Option<Duration>) -> Self {
        match (signal, asked) {
            (SIGHUP, _) => Self::Reload,
            (SIGQUIT, _) => Self::Kill,
            (_, None) => Self::Stop,
            (_, Some(ago)) if ago < SAME => Self::Repeated,
            (_, Some(_)) => Self::Kill,
        }
    }

    fn perform(self, commander: &Commander) {
        match self {
            Self::Stop => commander.send(Command::Stop),
            Self::Kill => commander.send(Command::StopNow),
            Self::Reload => {
                // What becomes of it is told by events.
                let (answer, _) = sync_channel(1);
                commander.send(Command::Reload(Reload::default(), None, answer));
            }
            Self::Repeated => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_kills() {
        let (soon, later) = (Some(Duration::from_millis(1)), Some(SAME));
        for signal in [SIGINT, SIGTERM] {
            assert_eq!(Reaction::to(signal, None), Reaction::Stop);
            assert_eq!(Reaction::to(signal, soon), Reaction::Repeated);
            assert_eq!(Reaction::to(signal, later), Reaction::Kill);
        }
        assert_eq!(Reaction::to(SIGQUIT, None), Reaction::Kill);
        assert_eq!(Reaction::to(SIGHUP, later), Reaction::Reload);
    }
}
