//! The worker with the fewest connections that it has not answered yet.
//!
//! Ties go to the one whose last turn is longest ago, so that equal workers are served in rotation.

use super::Candidate;
use crate::id::WorkerId;
use std::collections::BTreeMap;

/// Fewest unanswered connections first.
#[derive(Debug, Default)]
pub struct LeastConnections {
    last_turn: BTreeMap<WorkerId, u64>,
    turn: u64,
}

impl LeastConnections {
    pub(super) fn pick(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<WorkerId> {
        let last = |worker| self.last_turn.get(&worker).copied().unwrap_or(0);
        let chosen = candidates
            .filter(|c| c.room)
            .min_by_key(|c| (c.in_flight, last(c.worker), c.worker))?
            .worker;
        self.turn += 1;
        self.last_turn.insert(chosen, self.turn);
        Some(chosen)
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.last_turn.remove(&worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(policy: &mut LeastConnections, load: &[(u32, usize)]) -> Option<u32> {
        let candidates = load.iter().map(|&(id, in_flight)| Candidate {
            worker: WorkerId(id),
            in_flight,
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
}
