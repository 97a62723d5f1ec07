//! What is done when the daemon has ended. Pure.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

/// Exit code of a daemon that wants another program in the keeper's place.
pub(crate) const UPGRADE: i32 = 75;
/// A daemon that lives shorter was restarted in vain.
const QUICK: Duration = Duration::from_secs(5);
/// So many quick ends in a row cost no pause, if the daemon had been ready: it is being killed, it does not fail.
const FREE: u32 = 60;
/// After those: requests wait as long as there is no daemon.
const READY_PAUSES: Pauses = Pauses {
    first: Duration::from_millis(50),
    longest: Duration::from_millis(500),
};
/// Who never gets ready fails for a reason of its own.
const UNREADY_PAUSES: Pauses = Pauses {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
};
/// So many daemons that never were ready are enough, where there is something better to do than to go on.
const ENOUGH: u32 = 3;

/// Pauses that double.
#[derive(Debug, Clone, Copy)]
struct Pauses {
    first: Duration,
    longest: Duration,
}

/// How one daemon's life went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) status: ExitStatus,
    pub(crate) lasted: Duration,
    pub(crate) ready: bool,
    /// It has said which program it wants.
    pub(crate) asked: bool,
}

/// What is remembered of the lives before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Some daemon was ready once: there may be workers.
    pub(crate) ever_ready: bool,
    /// The program is new, and there is an old one to fall back to.
    pub(crate) trial: bool,
    /// Quick ends in a row.
    pub(crate) quick: u32,
    /// Ends before being ready, in a row.
    pub(crate) unready: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another daemon, after this time.
    Restart(Duration),
    /// The program that the daemon has asked for.
    Upgrade,
    /// The program from before the upgrade.
    FallBack,
    /// The keeper's work is done, or there never was any.
    Exit(u8),
}

impl Record {
    /// The daemon is ready: the program has proved itself.
    pub(crate) fn proved(&mut self) {
        self.ever_ready = true;
        self.trial = false;
        self.unready = 0;
    }

    /// Takes one more life into account.
    pub(crate) fn next(&mut self, life: &Life) -> Next {
        if life.ready {
            self.proved();
        } else {
            self.unready = self.unready.saturating_add(1);
        }
        match life.status.code() {
            Some(0) if !self.trial => return Next::Exit(0),
            Some(UPGRADE) if life.asked && !self.trial => return Next::Upgrade,
            Some(code) if !self.ever_ready => return Next::Exit(u8::try_from(code).unwrap_or(1)),
            Some(_) | None => {}
        }
        if self.unready >= ENOUGH && self.trial {
            return Next::FallBack;
        }
        if self.unready >= ENOUGH && !self.ever_ready {
            return Next::Exit(1);
        }
        Next::Restart(self.pause(life))
    }

    fn pause(&mut self, life: &Life) -> Duration {
        if life.lasted >= QUICK {
            self.quick = 0;
            return Duration::ZERO;
        }
        self.quick = self.quick.saturating_add(1);
        let (free, pauses) = if life.ready {
            (FREE, READY_PAUSES)
        } else {
            (0, UNREADY_PAUSES)
        };
        match self.quick.saturating_sub(free).checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => pauses
                .first
                .saturating_mul(1 << doublings.min(10))
                .min(pauses.longest),
        }
    }
}

/// In words, for the log.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(raw: i32, lasted: u64, ready: bool) -> Life {
        Life {
            status: ExitStatus::from_raw(raw),
            lasted: Duration::from_millis(lasted),
            ready,
            asked: false,
        }
    }

    const KILLED: i32 = 9;
    const CODE: i32 = 1 << 8;

    fn running() -> Record {
        Record {
            ever_ready: true,
            ..Record::default()
        }
    }

    fn pauses(record: &mut Record, life: &Life, count: usize) -> Vec<u128> {
        let pause = |next| match next {
            Next::Restart(pause) => pause.as_millis(),
            other => panic!("{other:?}"),
        };
        (0..count).map(|_| pause(record.next(life))).collect()
    }

    #[test]
    fn a_daemon_that_does_not_come_up_is_tried_ever_more_slowly_and_for_ever() {
        let pauses = pauses(&mut running(), &life(CODE, 10, false), 50);
        assert_eq!(pauses[..8], [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pauses[49], 5000);
    }

    #[test]
    fn a_daemon_that_is_killed_comes_back_at_once() {
        let mut record = running();
        assert_eq!(pauses(&mut record, &life(KILLED, 10, true), 60), [0; 60]);
        let slower = pauses(&mut record, &life(KILLED, 10, true), 50);
        assert_eq!(slower[..6], [50, 100, 200, 400, 500, 500]);
        assert_eq!(slower[49], 500);
        assert_eq!(pauses(&mut record, &life(KILLED, 5000, true), 1), [0]);
        assert_eq!(pauses(&mut record, &life(KILLED, 10, true), 1), [0]);
    }

    #[test]
    fn a_daemon_that_is_done_ends_the_keeper() {
        assert_eq!(running().next(&life(0, 10, true)), Next::Exit(0));
    }

    #[test]
    fn one_that_refuses_at_the_very_start_is_not_tried_again() {
        assert_eq!(Record::default().next(&life(7 << 8, 10, false)), Next::Exit(7));
        let mut record = Record::default();
        assert_eq!(pauses(&mut record, &life(KILLED, 10, false), 2), [100, 200]);
        assert_eq!(record.next(&life(KILLED, 10, false)), Next::Exit(1));
    }

    #[test]
    fn an_upgrade_has_to_be_asked_for() {
        let mut asked = life(UPGRADE << 8, 10, true);
        assert_eq!(running().next(&asked), Next::Restart(Duration::ZERO));
        asked.asked = true;
        assert_eq!(running().next(&asked), Next::Upgrade);
    }

    #[test]
    fn a_new_program_that_does_not_come_up_gives_way_whatever_its_exit_code() {
        for raw in [0, KILLED, CODE, UPGRADE << 8] {
            let mut record = Record {
                trial: true,
                ..running()
            };
            let end = life(raw, 10, false);
            assert_eq!(pauses(&mut record, &end, 2), [100, 200]);
            assert_eq!(record.next(&end), Next::FallBack);
        }
    }

    #[test]
    fn a_new_program_that_was_ready_once_stays() {
        let mut record = Record {
            trial: true,
            ..running()
        };
        pauses(&mut record, &life(KILLED, 10, false), 2);
        assert_eq!(pauses(&mut record, &life(KILLED, 10, true), 1), [0]);
        assert!(!record.trial);
        assert_eq!(pauses(&mut record, &life(KILLED, 10, false), 5).len(), 5);
    }
}
