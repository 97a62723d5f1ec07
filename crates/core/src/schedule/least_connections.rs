//! The worker with the fewest connections: open ones and those that it has not answered yet, if all candidates tell how
//! many they have open; else only the latter.
//!
//! Ties go to the one whose last turn is longest ago, so that equal workers are served in rotation.

use super::Candidate;
use crate::id::WorkerId;
use std::collections::BTreeMap;

/// Fewest connections first.
#[derive(Debug, Default)]
pub struct LeastConnections {
    last_turn: BTreeMap<WorkerId, u64>,
    turn: u64,
}

impl LeastConnections {
    pub(super) fn pick(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<WorkerId> {
        let last = |worker| self.last_turn.get(&worker).copied().unwrap_or(0);
        let (mut by_flight, mut by_open, mut all_tell) = (None, None, true);
        for candidate in candidates.filter(|candidate| candidate.room) {
            let (worker, in_flight) = (candidate.worker, candidate.in_flight as u64);
            let rank = |load: u64| (load, last(worker), worker);
            least(&mut by_flight, rank(in_flight));
            match candidate.open {
                Some(open) => least(&mut by_open, rank(open.saturating_add(in_flight))),
                None => all_tell = false,
            }
        }
        let (_, _, chosen) = by_open.filter(|_| all_tell).or(by_flight)?;
        self.turn += 1;
        self.last_turn.insert(chosen, self.turn);
        Some(chosen)
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.last_turn.remove(&worker);
    }
}

/// What a candidate is ranked by.
type Rank = (u64, u64, WorkerId);

fn least(best: &mut Option<Rank>, rank: Rank) {
    *best = Some(best.map_or(rank, |other| other.min(rank)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(policy: &mut LeastConnections, load: &[(u32, usize)]) -> Option<u32> {
        let load: Vec<_> = load
            .iter()
            .map(|&(id, in_flight)| (id, in_flight, None))
            .collect();
        pick_of(policy, &load)
    }

    fn pick_of(policy: &mut LeastConnections, load: &[(u32, usize, Option<u64>)]) -> Option<u32> {
        let candidates = load.iter().map(|&(id, in_flight, open)| Candidate {
            worker: WorkerId(id),
            in_flight,
            open,
            room: true,
        });
        policy.pick(candidates).map(|w| w.0)
    }

    #[test]
    fn fewest_first_then_rotation() {
        let mut policy = LeastConnections::default();
        assert_eq!(pick(&mut policy, &[(1, 2), (2, 1), (3, 2)]), Some(2));
        assert_eq!(pick(&mut policy, &[(1, 1), (2, 1), (3, 1)]), Some(1));
        assert_eq!(pick(&mut policy, &[(1, 1), (2, 1), (3, 1)]), Some(3));
        assert_eq!(pick(&mut policy, &[(1, 1), (2, 1), (3, 1)]), Some(2));
        assert_eq!(pick(&mut policy, &[]), None);
    }

    #[test]
    fn open_ones_count_if_all_tell() {
        let mut policy = LeastConnections::default();
        let all = [(1, 0, Some(9)), (2, 3, Some(1)), (3, 1, Some(5))];
        assert_eq!(pick_of(&mut policy, &all), Some(2));
        let not_all = [(1, 0, Some(9)), (2, 3, Some(1)), (3, 1, None)];
        assert_eq!(pick_of(&mut policy, &not_all), Some(1));
    }
}
