//! Ways to the end of a cluster: with a deadline, or by the signals of an operator.

use super::{Cluster, Command, Commander, Reload};
use crate::event::Outcome;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;
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
    /// SIGTERM stops gracefully, the next one (or SIGQUIT at any time) kills, SIGHUP reloads. So the `main` of a primary
    /// has three lines.
    ///
    /// Others may have the cluster meanwhile (in an `Arc`): to send messages, say, in answer to events.
    ///
    /// Handlers for these four signals are installed now. They stay: after this has returned, none of the four ends the
    /// process. A signal that comes before has the system's default action, which is the end of this process and of its
    /// workers with it. Two clusters of one process both obey.
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
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
        let closing = signals.handle();
        let commander = self.commander.clone();
        let waiting = thread::Builder::new()
            .name("everup-signals".into())
            .spawn(move || {
                let mut asked: Option<Instant> = None;
                for signal in signals.forever() {
                    let reaction = Reaction::to(signal, asked.map(|first| first.elapsed()));
                    reaction.perform(&commander);
                    if matches!(reaction, Reaction::Stop | Reaction::Kill) {
                        asked.get_or_insert_with(Instant::now);
                    }
                }
            })?;
        let outcome = self.ended();
        closing.close();
        if let Err(panic) = waiting.join() {
            std::panic::resume_unwind(panic);
        }
        Ok(outcome)
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
                commander.send(Command::Reload(Reload::default(), answer));
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
