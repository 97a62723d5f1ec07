//! The places that workers fill: who has each, who is about to take it over, when an empty one is filled again.
//!
//! Invariants: a place has at most one worker and at most one successor; a successor is there only to take the place
//! over or to go again.

use crate::cause::Cause;
use crate::id::{Slot, WorkerId};
use crate::restart::{Budget, Death, Record};
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// All places of a cluster.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Slots {
    all: BTreeMap<Slot, Place>,
}

/// One place.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Place {
    /// Who has it.
    pub(super) worker: Option<WorkerId>,
    /// Who is to take it over.
    pub(super) successor: Option<WorkerId>,
    /// Its worker is to be replaced, and from when on that may begin.
    pub(super) wanted: Option<(Cause, Time)>,
    /// Whose end is awaited before it is filled again, and who had it last.
    pub(super) left: Option<(WorkerId, u32)>,
    /// Whether it waits for that end.
    pub(super) waits: bool,
    /// Whether it waits for the end of a storm.
    pub(super) held: bool,
    /// How often it was filled again after a death.
    pub(super) restarts: u32,
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

    pub(super) fn get(&self, slot: Slot) -> Option<&Place> {
        self.all.get(&slot)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Place> {
        self.all.get_mut(&slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Place)> {
        self.all.iter().map(|(&slot, place)| (slot, place))
    }

    /// Those who have a place.
    pub(super) fn holders(&self) -> impl Iterator<Item = WorkerId> {
        self.all.values().filter_map(|place| place.worker)
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

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Place> {
        self.all.remove(&slot)
    }

    pub(super) fn last(&self) -> Option<Slot> {
        self.all.keys().next_back().copied()
    }

    pub(super) fn filled(&mut self, slot: Slot, worker: WorkerId) {
        let place = self.all.entry(slot).or_default();
        place.worker = Some(worker);
        place.respawn_at = None;
        place.waits = false;
        place.held = false;
    }

    /// The worker of a place died, or does no good: how long until its successor, and what kind of death it was.
    pub(super) fn died(&mut self, now: Time, slot: Slot, proven: bool, budget: &Budget) -> (Duration, Death) {
        let place = self.all.entry(slot).or_default();
        place.restarts = place.restarts.saturating_add(1);
        place.record.died(now, proven, budget)
    }

    pub(super) fn respawn_at(&mut self, slot: Slot, at: Time) {
        if let Some(place) = self.all.get_mut(&slot) {
            place.respawn_at = Some(at);
        }
    }

    /// Whether a place has spent its budget.
    pub(super) fn spent(&self, slot: Slot, budget: &Budget) -> bool {
        self.all
            .get(&slot)
            .is_some_and(|place| place.record.spent(budget))
    }

    /// Whether there are places, and each has spent its budget.
    pub(super) fn all_spent(&self, budget: &Budget) -> bool {
        !self.all.is_empty() && self.all.values().all(|place| place.record.spent(budget))
    }

    /// Nothing will be filled again.
    pub(super) fn cancel(&mut self) {
        for place in self.all.values_mut() {
            place.respawn_at = None;
            place.wanted = None;
            place.waits = false;
            place.held = false;
        }
    }

    pub(super) fn due(&self, now: Time) -> Vec<Slot> {
        let due = |place: &Place| !place.held && place.respawn_at.is_some_and(|at| at <= now);
        self.all
            .iter()
            .filter(|(_, place)| due(place))
            .map(|(&slot, _)| slot)
            .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.all
            .values()
            .filter(|place| !place.held)
            .filter_map(|place| place.respawn_at)
            .min()
    }
}
