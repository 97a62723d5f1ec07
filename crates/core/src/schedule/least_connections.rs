//! The worker with the fewest connections: open ones and those that it has not answered yet, if all candidates tell how
//! many they have open; else only the latter.
//!
//! Ties go to the one whose last turn is longest ago, so that equal workers are served in rotation. Where all tell, the
//! others do not get ahead of one that has no room by more than [`AHEAD`] connections for as long as it is a candidate,
//! which is a moment: connections that stay make up for that moment.

use super::Candidate;
use crate::id::WorkerId;
use std::collections::BTreeMap;

/// How many connections more others may have than one that is waited for.
const AHEAD: u64 = 4;

/// Fewest connections first.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct LeastConnections {
    last_turn: BTreeMap<WorkerId, u64>,
    turn: u64,
}

impl LeastConnections {
    pub(super) fn pick(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<WorkerId> {
        let last = |worker| self.last_turn.get(&worker).copied().unwrap_or(0);
        let (mut by_flight, mut by_open, mut full, mut all_tell) = (None, None, None, true);
        for candidate in candidates {
            let (worker, in_flight) = (candidate.worker, candidate.in_flight as u64);
            let rank = |load: u64| (load, last(worker), worker);
            if candidate.room {
                least(&mut by_flight, rank(in_flight));
            }
            match candidate.open.map(|open| rank(open.saturating_add(in_flight))) {
                Some(rank) if candidate.room => least(&mut by_open, rank),
                Some(rank) => least(&mut full, rank),
                None => all_tell = false,
            }
        }
        let (load, _, chosen) = by_open.filter(|_| all_tell).or(by_flight)?;
        if all_tell && full.is_some_and(|(least, ..)| least.saturating_add(AHEAD) < load) {
            return None;
        }
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
        let all = load.iter().map(|&(id, in_flight)| candidate(id, in_flight, None));
        policy.pick(all).map(|worker| worker.0)
    }

    fn candidate(id: u32, in_flight: usize, open: Option<u64>) -> Candidate {
        Candidate {
            worker: WorkerId(id),
            in_flight,
            open,
            room: true,
        }
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
        let all = [
            candidate(1, 0, Some(9)),
            candidate(2, 3, Some(1)),
            candidate(3, 1, Some(5)),
        ];
        assert_eq!(policy.pick(all.into_iter()), Some(WorkerId(2)));
        let not_all = [all[0], all[1], candidate(3, 1, None)];
        assert_eq!(policy.pick(not_all.into_iter()), Some(WorkerId(1)));
    }

    #[test]
    fn one_without_room_that_has_far_fewer_is_waited_for() {
        let mut policy = LeastConnections::default();
        let full = |open| Candidate {
            room: false,
            ..candidate(1, 1, open)
        };
        let mut pick = |all: [Candidate; 2]| policy.pick(all.into_iter()).map(|worker| worker.0);
        let other = |open| candidate(2, 0, Some(open));
        assert_eq!(pick([full(Some(3)), other(4 + AHEAD)]), Some(2));
        assert_eq!(pick([full(Some(3)), other(5 + AHEAD)]), None);
        assert_eq!(pick([full(None), other(100)]), Some(2), "it does not tell");
    }
}
