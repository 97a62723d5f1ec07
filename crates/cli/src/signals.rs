//! Signals to `everup run`: the first SIGINT or SIGTERM stops gracefully, the second at once.

use crate::events::Reporter;
use everup::signals::Signals;
use everup::{Cluster, signal_name};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;

/// Takes our signals from the system's default actions. Call it before any thread is started.
pub(crate) fn block() -> io::Result<Signals> {
    Signals::block(&[SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM])
}

/// Acts on signals for as long as the cluster lives, in a thread of its own.
pub(crate) fn watch(
    signals: Signals,
    cluster: Weak<Cluster>,
    reporter: Arc<Mutex<Reporter>>,
) -> io::Result<()> {
    let act = move || {
        let mut asked = false;
        while let Ok(signal) = signals.wait() {
            let Some(cluster) = cluster.upgrade() else { return };
            let reaction = Reaction::to(signal, asked);
            let notice = format!("{}: {}", signal_name(signal), reaction.told());
            reporter
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .notice(&notice);
            match reaction {
                Reaction::Stop => cluster.stop(),
                Reaction::Kill => cluster.stop_now(),
                Reaction::Ignore => {}
            }
            asked |= reaction != Reaction::Ignore;
        }
    };
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
    Ignore,
}

impl Reaction {
    fn to(signal: i32, asked: bool) -> Self {
        match signal {
            SIGINT | SIGTERM if !asked => Self::Stop,
            SIGINT | SIGTERM | SIGQUIT => Self::Kill,
            _ => Self::Ignore,
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Stop => "stopping gracefully; once more kills the workers",
            Self::Kill => "killing the workers",
            Self::Ignore => "ignored, it has no meaning yet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_kills() {
        assert_eq!(Reaction::to(SIGINT, false), Reaction::Stop);
        assert_eq!(Reaction::to(SIGTERM, false), Reaction::Stop);
        assert_eq!(Reaction::to(SIGTERM, true), Reaction::Kill);
        assert_eq!(Reaction::to(SIGINT, true), Reaction::Kill);
        assert_eq!(Reaction::to(SIGQUIT, false), Reaction::Kill);
        for signal in [SIGHUP, SIGUSR1, SIGUSR2] {
            assert_eq!(Reaction::to(signal, true), Reaction::Ignore);
        }
    }
}
