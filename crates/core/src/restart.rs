//! Whether and when a dead worker is replaced.
//!
//! A worker that was ready is replaced at once, unless its slot loses ready workers faster than [`BURST`] in
//! [`BURST_WINDOW`]. A worker that died *early*, before it was ready, counts against its slot's budget; the first
//! is replaced at once, from the second on the delay doubles. The app has failed when every slot has spent its
//! budget and nobody is left alive; while somebody serves, the spent slots go on trying at the longest delay.

use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// So many deaths of ready workers of one slot within [`BURST_WINDOW`] are replaced at once.
pub const BURST: usize = 10;
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
    /// Deaths in a row, of one slot, before the worker was ready. When every slot has spent it and no worker is
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

/// One slot's record of deaths.
#[derive(Debug, Default)]
pub struct Record {
    early: u32,
    ready: VecDeque<Time>,
}

impl Record {
    /// A worker became ready: what was before is forgiven.
    pub fn became_ready(&mut self) {
        self.early = 0;
    }

    /// A worker died. Returns how long to wait for its successor, and the failures in a row.
    pub fn died(&mut self, now: Time, was_ready: bool, budget: &Budget) -> (Duration, u32) {
        if !was_ready {
            self.early = self.early.saturating_add(1);
            return (budget.delay_after(self.early), self.early);
        }
        self.ready.push_back(now);
        while self.ready.front().is_some_and(|&at| now.since(at) > BURST_WINDOW) {
            self.ready.pop_front();
        }
        let over = u32::try_from(self.ready.len().saturating_sub(BURST)).unwrap_or(u32::MAX);
        let delay = if over == 0 {
            Duration::ZERO
        } else {
            budget.delay_after(over.saturating_add(1))
        };
        (delay, over)
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
        assert_eq!(
            record.died(Time::ZERO, false, &budget),
            (Duration::from_millis(800), 5)
        );
        assert!(record.spent(&budget));
        record.became_ready();
        assert!(!record.spent(&budget));
        for _ in 0..100 {
            assert!(record.died(Time::ZERO, false, &budget).0 <= budget.max_delay);
        }
    }

    #[test]
    fn ready_workers_are_replaced_at_once_unless_they_die_in_bursts() {
        let (budget, mut record) = (Budget::default(), Record::default());
        for n in 0..BURST {
            let at = Time(Duration::from_millis(n as u64));
            assert_eq!(record.died(at, true, &budget).0, Duration::ZERO);
        }
        assert_eq!(
            record.died(Time(Duration::from_secs(1)), true, &budget).0,
            Duration::from_millis(100)
        );
        assert_eq!(
            record.died(Time(Duration::from_secs(2)), true, &budget).0,
            Duration::from_millis(200)
        );
        assert_eq!(
            record.died(Time(Duration::from_secs(60)), true, &budget).0,
            Duration::ZERO
        );
    }
}
