//! Signals to `everup run`: the first SIGINT or SIGTERM stops gracefully, the second at once; SIGHUP reloads, SIGTTIN
//! and SIGTTOU scale by one, SIGUSR1 reopens logs.

use crate::events::Reporter;
use crate::notes::Notes;
use crate::operate::{Operator, Refusal};
use everup::signals::Signals;
use everup::{Cause, signal_name};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

/// Signals so close together are one request: `timeout` and process managers signal both the process and its
/// group.
const SAME: Duration = Duration::from_millis(50);

/// Takes our signals from the system's default actions. Call it before any thread is started.
pub(crate) fn block() -> io::Result<Signals> {
    Signals::block(&[
        SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGTTIN, SIGTTOU,
    ])
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
    operator: Operator,
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
            let reaction = Reaction::to(signal, asked.map(|first| first.elapsed()));
            if reaction == Reaction::Repeated {
                continue;
            }
            if reaction == Reaction::Kill {
                notes.hurry();
            }
            let Some(told) = reaction.perform(&operator) else {
                return;
            };
            if matches!(reaction, Reaction::Stop | Reaction::Kill) {
                asked.get_or_insert_with(Instant::now);
            }
            // Full only if nobody reads: then nobody misses it.
            notices.try_send(format!("{}: {told}", signal_name(signal))).ok();
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
    Reload,
    More,
    Fewer,
    Reopen,
    Ignore,
}

impl Reaction {
    /// `asked` is how long ago the first request to stop came.
    fn to(signal: i32, asked: Option<Duration>) -> Self {
        match (signal, asked) {
            (SIGINT | SIGTERM, None) => Self::Stop,
            (SIGINT | SIGTERM, Some(ago)) if ago < SAME => Self::Repeated,
            (SIGINT | SIGTERM | SIGQUIT, _) => Self::Kill,
            (SIGHUP, _) => Self::Reload,
            (SIGTTIN, _) => Self::More,
            (SIGTTOU, _) => Self::Fewer,
            (SIGUSR1, _) => Self::Reopen,
            _ => Self::Ignore,
        }
    }

    /// Does it, and says what was done; `None` when there is no cluster any more.
    fn perform(self, operator: &Operator) -> Option<String> {
        let told = match self {
            Self::Stop => {
                operator.cluster().ok()?.stop();
                "stopping gracefully; once more kills the workers".into()
            }
            Self::Kill => {
                operator.cluster().ok()?.stop_now();
                "killing the workers".into()
            }
            Self::Reload => match operator.reload(Cause::Reload, None) {
                Ok(reload) if reload.queued() => "reloading after the reload under way".into(),
                Ok(_) => "reloading".into(),
                Err(refusal) => refusal.to_string(),
            },
            Self::More => scaled(operator.scale(|from| from.checked_add(1))),
            Self::Fewer => scaled(operator.scale(|from| Some(from.saturating_sub(1)))),
            Self::Reopen => Operator::reopen().into(),
            Self::Repeated | Self::Ignore => "ignored, it has no meaning".into(),
        };
        Some(told)
    }
}

fn scaled(result: Result<(u32, u32), Refusal>) -> String {
    match result {
        Ok((from, to)) if from == to => format!("there are {to} workers already"),
        Ok((from, to)) => format!("scaling from {from} to {to}"),
        Err(refusal) => refusal.to_string(),
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
        let others = [SIGHUP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2].map(|signal| Reaction::to(signal, later));
        let expected = [
            Reaction::Reload,
            Reaction::More,
            Reaction::Fewer,
            Reaction::Reopen,
            Reaction::Ignore,
        ];
        assert_eq!(others, expected);
    }
}
