//! Strict rotation, by counting turns.
//!
//! The worker with the fewest turns is next, ties by age: 1, 2, 3, 1, 2, 3. One that has no room in its turn gets it
//! later. The others do not get ahead of it by more than [`AHEAD`] turns for as long as it is a candidate, which is a
//! moment; after that they go on, and it catches up by at most [`CATCH_UP`] turns, so that one that was stuck for long
//! is not flooded when it comes back.

use super::Candidate;
use crate::id::WorkerId;
use std::collections::BTreeMap;

/// How many turns others may take before one is waited for.
const AHEAD: u64 = 3;
/// How many missed turns are made up for.
const CATCH_UP: u64 = 64;

/// Strict rotation over the workers that can take a connection.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct RoundRobin {
    turns: BTreeMap<WorkerId, u64>,
    most: u64,
}

impl RoundRobin {
    pub(super) fn pick(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<WorkerId> {
        let oldest_credit = self.most.saturating_sub(CATCH_UP);
        // A newcomer starts level with those who have had the most turns, not with a debt of its whole absence.
        let turns_of = |turns: &BTreeMap<WorkerId, u64>, worker| match turns.get(&worker) {
            Some(&had) => had.max(oldest_credit),
            None => self.most.saturating_sub(1),
        };
        let (mut next, mut full) = (None, None);
        for candidate in candidates {
            let best = if candidate.room { &mut next } else { &mut full };
            let turn = (turns_of(&self.turns, candidate.worker), candidate.worker);
            *best = Some(best.map_or(turn, |other: (u64, WorkerId)| other.min(turn)));
        }
        if full.is_some_and(|(turns, _)| turns + AHEAD <= self.most) {
            return None;
        }
        let (turns, worker) = next?;
        self.turns.insert(worker, turns + 1);
        self.most = self.most.max(turns + 1);
        Some(worker)
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.turns.remove(&worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(ids: &[u32]) -> impl Iterator<Item = Candidate> {
        ids.iter().map(|&id| Candidate {
            worker: WorkerId(id),
            in_flight: 0,
            open: None,
            room: true,
        })
    }

    #[test]
    fn goes_round() {
        let mut policy = RoundRobin::default();
        let order: Vec<_> = (0..7)
            .filter_map(|_| policy.pick(candidates(&[1, 2, 3])))
            .map(|w| w.0)
            .collect();
        assert_eq!(order, [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn one_that_was_away_catches_up_a_little() {
        let mut policy = RoundRobin::default();
        for _ in 0..2 {
            policy.pick(candidates(&[1, 2]));
        }
        for _ in 0..100 {
            policy.pick(candidates(&[1]));
        }
        let next: Vec<_> = (0..84)
            .filter_map(|_| policy.pick(candidates(&[1, 2])))
            .map(|w| w.0)
            .collect();
        assert_eq!(next[..64], [2; 64]);
        let ones = next[64..].iter().filter(|&&w| w == 1).count();
        assert_eq!(ones, 10, "{next:?}");
    }

    #[test]
    fn newcomer_is_not_flooded() {
        let mut policy = RoundRobin::default();
        for _ in 0..1000 {
            policy.pick(candidates(&[1, 2]));
        }
        let next: Vec<_> = (0..6)
            .filter_map(|_| policy.pick(candidates(&[1, 2, 3])))
            .map(|w| w.0)
            .collect();
        assert!(next.iter().filter(|&&w| w == 3).count() <= 3, "{next:?}");
    }

    #[test]
    fn one_that_is_far_behind_is_waited_for() {
        let mut policy = RoundRobin::default();
        let mut pick = |room_of_one: bool| {
            let candidates = [(1, room_of_one), (2, true)];
            let candidates = candidates.into_iter().map(|(id, room)| Candidate {
                worker: WorkerId(id),
                in_flight: 0,
                open: None,
                room,
            });
            policy.pick(candidates).map(|worker| worker.0)
        };
        assert_eq!(pick(true), Some(1));
        for _ in 0..=AHEAD {
            assert_eq!(pick(false), Some(2));
        }
        assert_eq!(pick(false), None);
        assert_eq!(pick(true), Some(1));
    }

    #[test]
    fn nobody_there() {
        assert_eq!(RoundRobin::default().pick(candidates(&[])), None);
    }
}
