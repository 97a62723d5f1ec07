//! Storms: most of the pool dying in the same way within seconds.
//!
//! A crash that every worker runs into (a lost database, a poisoned queue, a bad deploy) must not become a storm
//! of restarts. When deaths of one kind within [`WINDOW`] come from most of the slots, only one of the slots is
//! filled again, as a *probe*; the others wait. When the probe has proven itself (it is ready, and served somebody
//! or stayed for a second) the storm is over and all are filled.
//!
//! ```text
//! calm ──most slots died alike──▶ storm(probe) ──the probe proved itself──▶ calm
//! ```
//!
//! Job: count, and say who may be filled. Owner: [`crate::app::App`]. Must not know: workers, delays.

use crate::exit::ExitStatus;
use crate::id::Slot;
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// Deaths within this belong together.
pub const WINDOW: Duration = Duration::from_secs(5);
/// Fewer slots than this make no storm.
const FEWEST: usize = 2;

/// See the module's documentation.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Storm {
    deaths: VecDeque<(Time, Slot, ExitStatus)>,
    probe: Option<Slot>,
    status: Option<ExitStatus>,
}

impl Storm {
    /// A worker died that was not asked to. True if a storm begins with it; its slot is the probe then.
    pub fn died(&mut self, now: Time, slot: Slot, status: ExitStatus, slots: usize) -> bool {
        while self
            .deaths
            .front()
            .is_some_and(|(at, ..)| now.since(*at) > WINDOW)
        {
            self.deaths.pop_front();
        }
        self.deaths.retain(|(_, who, _)| *who != slot);
        self.deaths.push_back((now, slot, status));
        if self.probe.is_some() {
            return false;
        }
        let alike = self.deaths.iter().filter(|(.., how)| *how == status).count();
        let storm = alike >= FEWEST && alike * 3 >= slots * 2;
        if storm {
            self.probe = Some(slot);
            self.status = Some(status);
        }
        storm
    }

    /// Whether this slot may be filled now.
    #[must_use]
    pub fn admits(&self, slot: Slot) -> bool {
        self.probe.is_none_or(|probe| probe == slot)
    }

    /// How the workers died, while there is a storm.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.probe.and(self.status)
    }

    /// Who is tried, while there is a storm.
    #[must_use]
    pub fn probe(&self) -> Option<Slot> {
        self.probe
    }

    /// Some worker proved itself since, or the probe's slot is gone: the storm is over. True if there was one.
    pub fn calm(&mut self) -> bool {
        self.deaths.clear();
        self.probe.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }
    const CRASH: ExitStatus = ExitStatus::Code(1);

    #[test]
    fn most_of_the_pool_dying_alike_is_a_storm_and_one_probes() {
        let mut storm = Storm::default();
        assert!(!storm.died(at(0), Slot(0), CRASH, 4));
        assert!(!storm.died(at(10), Slot(1), CRASH, 4));
        assert!(storm.admits(Slot(1)));
        assert!(storm.died(at(20), Slot(2), CRASH, 4));
        assert!(storm.admits(Slot(2)) && !storm.admits(Slot(0)) && !storm.admits(Slot(3)));
        assert!(!storm.died(at(30), Slot(2), CRASH, 4), "it is one already");
        assert!(storm.calm());
        assert!(storm.admits(Slot(0)));
        assert!(!storm.calm());
    }

    #[test]
    fn the_same_slot_again_other_ways_and_long_ago_are_none() {
        let mut storm = Storm::default();
        for n in 0..20 {
            assert!(!storm.died(at(n), Slot(0), CRASH, 3));
        }
        assert!(!storm.died(at(30), Slot(1), ExitStatus::Code(2), 3));
        assert!(!storm.died(at(40), Slot(2), ExitStatus::Code(3), 3));
        assert!(!storm.died(at(9000), Slot(1), CRASH, 3));
        assert!(storm.died(at(9001), Slot(2), CRASH, 3));
    }

    #[test]
    fn a_single_worker_has_no_storms() {
        let mut storm = Storm::default();
        for n in 0..20 {
            assert!(!storm.died(at(n), Slot(0), CRASH, 1));
        }
    }
}
