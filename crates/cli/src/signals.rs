//! Signals to `everup run`: the first SIGINT or SIGTERM stops gracefully, the second at once.

use crate::events::Reporter;
use crate::notes::Notes;
use everup::signals::Signals;
use everup::{Cluster, signal_name};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;

/// Signals so close together are one request: `timeout` and process managers signal both the process and its
/// group.
const SAME: Duration = Duration::from_millis(50);

/// Takes our signals from the system's default actions. Call it before any thread is started.
pub(crate) fn block() -> io::Result<Signals> {
    Signals::block(&[SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM])
}

/// Our signals, and whom they may concern beside the cluster.
#[derive(Debug)]
pub(crate) struct Alarm {
    pub(crate) signals: Signals,
    pub(crate) notes: Notes,
}

/// Acts on signals for as long as the cluster lives, in a thread of its own. Another one tells of them: an
/// output that nobody reads must not keep the second signal from being heard.
pub(crate) fn watch(
    Alarm { signals, notes }: Alarm,
    cluster: Weak<Cluster>,
    reporter: Arc<Mutex<Reporter>>,
) -> io::Result<()> {
    let (notices, received) = mpsc::sync_channel::<String>(16);
    let tell = move || {
        for notice in received {
            reporter
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .notice(&notice);
        }
    };
    let act = move || {
        let mut asked: Option<Instant> = None;
        while let Ok(signal) = signals.wait() {
            let Some(cluster) = cluster.upgrade() else { return };
            let reaction = Reaction::to(signal, asked.map(|first| first.elapsed()));
            match reaction {
                Reaction::Stop => cluster.stop(),
                Reaction::Kill => {
                    notes.hurry();
                    cluster.stop_now();
                }
                Reaction::Repeated => continue,
                Reaction::Ignore => {}
            }
            if reaction != Reaction::Ignore {
                asked.get_or_insert_with(Instant::now);
            }
            // Full only if nobody reads: then nobody misses it.
            notices
                .try_send(format!("{}: {}", signal_name(signal), reaction.told()))
                .ok();
        }
    };
    std::thread::Builder::new().name("notices".into()).spawn(tell)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(act)
        .map(drop)
}

/// What a signal makes us do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Stop,
    Kill,
    /// The same request once more.
    Repeated,
    Ignore,
}

impl Reaction {
    /// `asked` is how long ago the first request to stop came.
    fn to(signal: i32, asked: Option<Duration>) -> Self {
        match (signal, asked) {
            (SIGINT | SIGTERM, None) => Self::Stop,
            (SIGINT | SIGTERM, Some(ago)) if ago < SAME => Self::Repeated,
            (SIGINT | SIGTERM | SIGQUIT, _) => Self::Kill,
            _ => Self::Ignore,
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Stop => "stopping gracefully; once more kills the workers",
            Self::Kill => "killing the workers",
            Self::Repeated | Self::Ignore => "ignored, it has no meaning yet",
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
        assert_eq!(Reaction::to(SIGQUIT, soon), Reaction::Kill);
        for signal in [SIGHUP, SIGUSR1, SIGUSR2] {
            assert_eq!(Reaction::to(signal, later), Reaction::Ignore);
        }
    }
}
