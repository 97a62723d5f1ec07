//! The places that workers fill, and when an empty one is filled again.

use crate::id::{Slot, WorkerId};
use crate::restart::{Budget, Death, Record};
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// All places of a cluster.
#[derive(Debug)]
pub(super) struct Slots {
    all: BTreeMap<Slot, Place>,
}

#[derive(Debug, Default)]
struct Place {
    worker: Option<WorkerId>,
    record: Record,
    respawn_at: Option<Time>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Self {
            all: (0..count).map(|n| (Slot(n), Place::default())).collect(),
        }
    }

    pub(super) fn all(&self) -> Vec<Slot> {
        self.all.keys().copied().collect()
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// A new place, with the lowest number that is free.
    pub(super) fn add(&mut self) -> Slot {
        let free = (0..)
            .map(Slot)
            .find(|slot| !self.all.contains_key(slot))
            .unwrap_or(Slot(u32::MAX));
        self.all.insert(free, Place::default());
        free
    }

    pub(super) fn filled(&mut self, slot: Slot, worker: WorkerId) {
        let place = self.all.entry(slot).or_default();
        place.worker = Some(worker);
        place.respawn_at = None;
    }

    /// The worker of a place died: how long until its successor, and what kind of death it was.
    pub(super) fn died(&mut self, now: Time, slot: Slot, proven: bool, budget: &Budget) -> (Duration, Death) {
        let place = self.all.entry(slot).or_default();
        place.worker = None;
        place.record.died(now, proven, budget)
    }

    pub(super) fn respawn_at(&mut self, slot: Slot, at: Time) {
        if let Some(place) = self.all.get_mut(&slot) {
            place.respawn_at = Some(at);
        }
    }

    /// A place goes with its worker.
    pub(super) fn retire(&mut self, slot: Slot, worker: WorkerId) {
        if self
            .all
            .get(&slot)
            .is_some_and(|place| place.worker == Some(worker))
        {
            self.all.remove(&slot);
        }
    }

    /// Whether there are places, and each has spent its budget.
    pub(super) fn all_spent(&self, budget: &Budget) -> bool {
        !self.all.is_empty() && self.all.values().all(|place| place.record.spent(budget))
    }

    /// Nothing will be filled again.
    pub(super) fn cancel(&mut self) {
        for place in self.all.values_mut() {
            place.respawn_at = None;
        }
    }

    pub(super) fn due(&self, now: Time) -> Vec<Slot> {
        let due = |place: &Place| place.respawn_at.is_some_and(|at| at <= now);
        self.all
            .iter()
            .filter(|(_, place)| due(place))
            .map(|(&slot, _)| slot)
            .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.all.values().filter_map(|place| place.respawn_at).min()
    }
}
