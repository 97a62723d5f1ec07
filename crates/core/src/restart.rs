//! Whether and when a dead worker is replaced.
//!
//! A worker has *proven* itself when it was ready, and either served somebody or stayed for [`PROVEN`]. A proven
//! worker that dies is replaced at once, unless its slot loses such workers faster than [`BURST`] in
//! [`BURST_WINDOW`]: then the delay doubles from death to death. A worker that died *early*, unproven, counts
//! against its slot's budget; the first is replaced at once, from the second on the delay doubles. The app has
//! failed when every slot has spent its budget and nobody is left alive; while somebody serves, the spent slots go
//! on trying at the longest delay.

use crate::exit::ExitStatus;
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a ready worker that has served nobody must stay until its death is no early one.
pub const PROVEN: Duration = Duration::from_secs(1);
/// So many deaths of proven workers of one slot within [`BURST_WINDOW`] are replaced at once.
pub const BURST: u32 = 10;
/// See [`BURST`].
pub const BURST_WINDOW: Duration = Duration::from_secs(10);

/// When a worker that ended by itself is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum When {
    /// Whatever its end.
    #[default]
    Always,
    /// Unless it ended with code 0.
    OnFailure,
    /// Never.
    Never,
}

/// What happens when a worker dies that was not asked to.
///
/// ```
/// use everup_core::restart::{Budget, RestartPolicy, When};
///
/// let policy = RestartPolicy::default().when(When::OnFailure).stop_code(64);
/// let patient = policy.budget(Budget::default().early(20));
/// assert_eq!(patient.budget.early, 20);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct RestartPolicy {
    /// Whether it is replaced.
    pub when: When,
    /// A worker that ends with one of these codes is not replaced.
    pub stop_codes: Vec<i32>,
    /// How soon, and how often.
    pub budget: Budget,
}

impl RestartPolicy {
    /// The policy that replaces nobody.
    #[must_use]
    pub fn never() -> Self {
        Self {
            when: When::Never,
            ..Self::default()
        }
    }

    /// Whether a worker that ended is replaced.
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// One more code: a worker that ends with it is not replaced.
    #[must_use]
    pub fn stop_code(mut self, code: i32) -> Self {
        self.stop_codes.push(code);
        self
    }

    /// How soon, and how often.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Whether this is an end after which the worker is meant to stay away.
    #[must_use]
    pub fn stops(&self, status: ExitStatus) -> bool {
        matches!(status, ExitStatus::Code(code) if self.stop_codes.contains(&code))
    }

    /// Whether a worker that ended like this is replaced.
    #[must_use]
    pub fn replaces(&self, status: ExitStatus) -> bool {
        let stops = self.stops(status);
        match self.when {
            _ if stops => false,
            When::Always => true,
            When::OnFailure => !status.success(),
            When::Never => false,
        }
    }
}

/// How much early dying is put up with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Budget {
    /// Early deaths in a row, of one slot, each within [`window`](Self::window) of the one before. When every slot
    /// has spent it and no worker is left, the app has failed. 5 by default.
    pub early: u32,
    /// An early death longer ago than this is forgotten. 60 s by default.
    pub window: Duration,
    /// How long a ready worker that has served nobody must stay until its death is no early one. [`PROVEN`] by
    /// default.
    pub min_uptime: Duration,
    /// Waited before every restart. Zero by default.
    pub pause: Duration,
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
            window: Duration::from_secs(60),
            min_uptime: PROVEN,
            pause: Duration::ZERO,
            delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(15),
        }
    }
}

impl Budget {
    /// So many early deaths in a row, of one slot: see the field [`early`](Self#structfield.early).
    #[must_use]
    pub fn early(mut self, early: u32) -> Self {
        self.early = early;
        self
    }

    /// An early death longer ago than this is forgotten.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How long a ready worker that has served nobody must stay until its death is no early one.
    #[must_use]
    pub fn min_uptime(mut self, min_uptime: Duration) -> Self {
        self.min_uptime = min_uptime;
        self
    }

    /// What is waited before every restart.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The first delay; it doubles from death to death.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The longest delay.
    #[must_use]
    pub fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// The delay after the nth failure in a row (1 is the first).
    fn delay_after(&self, failures: u32) -> Duration {
        match failures {
            0 | 1 => Duration::ZERO,
            n => self
                .delay
                .saturating_mul(1 << (n - 2).min(20))
                .min(self.max_delay),
        }
        .max(self.pause)
    }
}

/// What kind of death a successor follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Record {
    early: u32,
    last_early: Option<Time>,
    proven: VecDeque<Time>,
}

impl Record {
    /// A worker died. Returns how long to wait for its successor, and what kind of death that was.
    pub fn died(&mut self, now: Time, proven: bool, budget: &Budget) -> (Duration, Death) {
        if !proven {
            if self.last_early.is_none_or(|last| now.since(last) > budget.window) {
                self.early = 0;
            }
            self.last_early = Some(now);
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
            None => (budget.pause, Death::Proven),
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
    fn what_is_longer_ago_than_the_window_is_forgotten() {
        let (budget, mut record) = (Budget::default(), Record::default());
        for n in 0..20 {
            let at = Time(Duration::from_secs(61 * n));
            assert_eq!(record.died(at, false, &budget).1, Death::Early { in_a_row: 1 });
        }
        assert!(!record.spent(&budget));
    }

    #[test]
    fn the_policy_looks_at_the_end() {
        let crash = ExitStatus::Code(1);
        let killed = ExitStatus::Signal {
            signal: 9,
            core: false,
        };
        let policy = |when, stop_codes: &[i32]| {
            let policy = RestartPolicy::default().when(when);
            stop_codes.iter().copied().fold(policy, RestartPolicy::stop_code)
        };
        let replaced = |policy: &RestartPolicy| {
            [ExitStatus::Code(0), crash, killed, ExitStatus::Unknown].map(|status| policy.replaces(status))
        };
        assert_eq!(replaced(&policy(When::Always, &[])), [true; 4]);
        assert_eq!(
            replaced(&policy(When::Always, &[0, 1])),
            [false, false, true, true]
        );
        assert_eq!(replaced(&policy(When::OnFailure, &[])), [false, true, true, true]);
        assert_eq!(
            replaced(&policy(When::OnFailure, &[1])),
            [false, false, true, true]
        );
        assert_eq!(replaced(&RestartPolicy::never()), [false; 4]);
    }

    #[test]
    fn a_pause_is_kept_before_every_restart() {
        let budget = Budget::default().pause(Duration::from_millis(250));
        let mut record = Record::default();
        let mut died = |proven| record.died(Time::ZERO, proven, &budget).0.as_millis();
        assert_eq!(
            [died(true), died(false), died(false), died(false), died(false)],
            [250, 250, 250, 250, 400]
        );
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
