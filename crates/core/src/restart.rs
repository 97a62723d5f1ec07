//! Whether and when a dead worker is replaced.
//!
//! A worker has *proven* itself when it was ready, and either served somebody or stayed for [`PROVEN`]. A proven
//! worker that dies is replaced at once, unless its slot loses such workers faster than [`BURST`] in
//! [`BURST_WINDOW`]: then the delay doubles from death to death. A worker that died *early*, unproven, counts
//! against its slot's budget; the first is replaced at once, from the second on the delay doubles. The app has
//! failed when every slot has spent its budget and nobody is left alive; while somebody serves, the spent slots go
//! on trying at the longest delay.

use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a ready worker that has served nobody must stay until its death is no early one.
pub const PROVEN: Duration = Duration::from_secs(1);
/// So many deaths of proven workers of one slot within [`BURST_WINDOW`] are replaced at once.
pub const BURST: u32 = 10;
/// See [`BURST`].
pub const BURST_WINDOW: Duration = Duration::from_secs(10);

/// What happens when a worker dies that was not asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// It is replaced.
    Always(Budget),
    /// It is not.
    Never,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self::Always(Budget::default())
    }
}

/// How much early dying is put up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Early deaths in a row, of one slot. When every slot has spent it and no worker is
    /// left, the app has failed. 5 by default.
    pub early: u32,
    /// The first delay; the first early death is replaced at once, and it doubles from the second on.
    /// 100 ms by default.
    pub delay: Duration,
    /// The longest delay. 15 s by default.
    pub max_delay: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            early: 5,
            delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(15),
        }
    }
}

impl Budget {
    /// The delay after the nth failure in a row (1 is the first).
    fn delay_after(&self, failures: u32) -> Duration {
        match failures {
            0 | 1 => Duration::ZERO,
            n => self
                .delay
                .saturating_mul(1 << (n - 2).min(20))
                .min(self.max_delay),
        }
    }
}

/// What kind of death a successor follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Death {
    /// Of a worker that had proven itself.
    Proven,
    /// The same, but too many of them: more than [`BURST`] in [`BURST_WINDOW`].
    Frequent {
        /// So many within the window.
        deaths: u32,
    },
    /// Before it had proven itself.
    Early {
        /// So many in a row.
        in_a_row: u32,
    },
}

/// One slot's record of deaths.
#[derive(Debug, Default)]
pub struct Record {
    early: u32,
    proven: VecDeque<Time>,
}

impl Record {
    /// A worker died. Returns how long to wait for its successor, and what kind of death that was.
    pub fn died(&mut self, now: Time, proven: bool, budget: &Budget) -> (Duration, Death) {
        if !proven {
            self.early = self.early.saturating_add(1);
            return (
                budget.delay_after(self.early),
                Death::Early { in_a_row: self.early },
            );
        }
        self.early = 0;
        self.proven.push_back(now);
        while self
            .proven
            .front()
            .is_some_and(|&at| now.since(at) > BURST_WINDOW)
        {
            self.proven.pop_front();
        }
        let deaths = u32::try_from(self.proven.len()).unwrap_or(u32::MAX);
        match deaths.checked_sub(BURST).filter(|&over| over > 0) {
            Some(over) => (
                budget.delay_after(over.saturating_add(1)),
                Death::Frequent { deaths },
            ),
            None => (Duration::ZERO, Death::Proven),
        }
    }

    /// Whether the budget for early deaths is spent.
    #[must_use]
    pub fn spent(&self, budget: &Budget) -> bool {
        self.early >= budget.early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_deaths_back_off_and_spend_the_budget() {
        let (budget, mut record) = (Budget::default(), Record::default());
        let mut died = || record.died(Time::ZERO, false, &budget).0.as_millis();
        assert_eq!([died(), died(), died(), died()], [0, 100, 200, 400]);
        assert!(!record.spent(&budget));
        let fifth = record.died(Time::ZERO, false, &budget);
        assert_eq!(fifth, (Duration::from_millis(800), Death::Early { in_a_row: 5 }));
        assert!(record.spent(&budget));
        record.died(Time::ZERO, true, &budget);
        assert!(
            !record.spent(&budget),
            "one that had proven itself: what was before is forgiven"
        );
        for _ in 0..100 {
            assert!(record.died(Time::ZERO, false, &budget).0 <= budget.max_delay);
        }
    }

    #[test]
    fn proven_workers_are_replaced_at_once_unless_they_die_too_often() {
        let (budget, mut record) = (Budget::default(), Record::default());
        let mut died = |ms| record.died(Time(Duration::from_millis(ms)), true, &budget);
        for n in 0..u64::from(BURST) {
            assert_eq!(died(n), (Duration::ZERO, Death::Proven));
        }
        assert_eq!(
            died(1000),
            (Duration::from_millis(100), Death::Frequent { deaths: 11 })
        );
        assert_eq!(died(2000).0, Duration::from_millis(200));
        assert_eq!(died(60_000), (Duration::ZERO, Death::Proven));
    }
}
