//! What the daemon remembers of an app's instances, folded from its cluster's events.
//!
//! Job: ids, counters, who lives, how the last one ended, what it told of itself. Owner: the app's `Kept`. Pure: events
//! and times go in. Invariants: a place keeps its id and its counters over the clusters that come and go; what lives
//! belongs to the present cluster only. Must not know: clusters, files, HTTP.

use crate::view;
use everup::{Death, Event, ExitReason, Phase, Verdict};
use everup_api::v1::LastExit;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// See the module's documentation.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    /// By slot.
    pub(crate) places: BTreeMap<u32, Place>,
    /// By the worker's number.
    pub(crate) lives: BTreeMap<u32, Life>,
    /// Places of the present cluster that have had a worker.
    forked: BTreeSet<u32>,
    /// Why a worker could not even be started, the first time in the present cluster.
    pub(crate) not_started: Option<String>,
    /// An address that a worker could not have, since one was ready last.
    #[serde(default)]
    pub(crate) not_bound: Option<NotBound>,
    /// Whether all were ready, and nobody has died since.
    pub(crate) all_ready: bool,
    /// Slots that wait until they are filled again.
    pub(crate) waiting: BTreeSet<u32>,
    /// The reload that is going on, or was last.
    pub(crate) reload: Option<Stage>,
    /// Restarts by slot that count only if that reload is done: its new workers, where others were before.
    #[serde(default)]
    rolled: BTreeMap<u32, u64>,
}

/// An address that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct NotBound {
    pub(crate) address: String,
    pub(crate) errno: i32,
    /// In words, with who has it.
    pub(crate) why: String,
}

/// How far a reload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Stage {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) done: u32,
    pub(crate) total: u32,
}

/// One place of an app.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    pub(crate) id: u32,
    pub(crate) restarts: u64,
    pub(crate) unstable: u64,
    pub(crate) last_exit: Option<LastExit>,
    pub(crate) node_version: Option<String>,
    pub(crate) axm: BTreeMap<String, Value>,
}

/// A worker that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Life {
    pub(crate) slot: u32,
    pub(crate) pid: u32,
    pub(crate) generation: u32,
    /// Milliseconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) ready: bool,
    /// When the kernel started it, in its own time: tells it from another one of the same pid.
    pub(crate) born: Option<u64>,
}

impl Record {
    /// A cluster was started.
    pub(crate) fn begin(&mut self) {
        self.lives.clear();
        self.forked.clear();
        self.waiting.clear();
        self.not_started = None;
        self.not_bound = None;
        self.all_ready = false;
        self.reload = None;
        self.rolled.clear();
    }

    /// The cluster is as this says: some of what happened was not heard.
    pub(crate) fn reconcile(&mut self, status: &everup::Status, now: u64) {
        self.lives
            .retain(|id, _| status.workers.iter().any(|worker| worker.id.0 == *id));
        for worker in &status.workers {
            let life = self.lives.entry(worker.id.0).or_insert_with(|| Life {
                slot: worker.slot.0,
                pid: worker.pid,
                generation: worker.generation,
                started_at: now.saturating_sub(view::millis(worker.uptime)),
                ready: false,
                born: crate::proc::born(worker.pid),
            });
            life.ready |= worker.state == everup::State::Online;
            life.pid = worker.pid;
            self.forked.insert(worker.slot.0);
        }
    }

    /// Something happened in it.
    pub(crate) fn note(&mut self, event: &Event, now: u64) {
        match event {
            Event::Fork {
                worker,
                slot,
                pid,
                generation,
            } => {
                self.forked(slot.0, *generation);
                self.lives.insert(
                    worker.0,
                    Life {
                        slot: slot.0,
                        pid: *pid,
                        generation: *generation,
                        started_at: now,
                        ready: false,
                        born: None,
                    },
                );
            }
            Event::SpawnFailed { why, .. } => {
                self.not_started.get_or_insert_with(|| why.clone());
            }
            Event::Ready { worker, .. } => {
                if let Some(life) = self.lives.get_mut(&worker.0) {
                    life.ready = true;
                }
                self.not_bound = None;
            }
            Event::AllReady { .. } => self.all_ready = true,
            Event::Exit {
                worker,
                slot,
                status,
                reason,
                uptime,
                ..
            } => {
                self.all_ready = false;
                self.lives.remove(&worker.0);
                if let Some(place) = self.places.get_mut(&slot.0) {
                    place.last_exit = Some(view::last_exit(*status, *reason, *uptime, now));
                    if *reason == ExitReason::Own {
                        place.axm.clear();
                    }
                }
            }
            Event::Respawn { slot, delay, death } => self.respawn(slot.0, !delay.is_zero(), *death),
            Event::Reloading {
                generation,
                phase,
                done,
                total,
                ..
            } => {
                if self.reload.is_none_or(|stage| stage.generation != *generation) {
                    self.rolled.clear();
                }
                self.reload = Some(Stage {
                    generation: *generation,
                    phase: *phase,
                    done: *done,
                    total: *total,
                });
            }
            Event::Reloaded(receipt) => self.reloaded(receipt.verdict == Verdict::Done),
            Event::Stopped { .. } => {
                self.lives.clear();
                self.waiting.clear();
                self.reload = None;
            }
            _ => {}
        }
    }

    fn forked(&mut self, slot: u32, generation: u32) {
        self.waiting.remove(&slot);
        let again = !self.forked.insert(slot);
        if let Some(place) = self.places.get_mut(&slot).filter(|_| again) {
            place.restarts += 1;
            if self.reload.is_some_and(|stage| stage.generation == generation) {
                *self.rolled.entry(slot).or_default() += 1;
            }
        }
    }

    /// Workers of a reload that failed were tried, and took nobody's place for good.
    fn reloaded(&mut self, done: bool) {
        self.reload = None;
        for (slot, tried) in std::mem::take(&mut self.rolled) {
            if let Some(place) = self.places.get_mut(&slot).filter(|_| !done) {
                place.restarts = place.restarts.saturating_sub(tried);
            }
        }
    }

    fn respawn(&mut self, slot: u32, later: bool, death: Death) {
        if later {
            self.waiting.insert(slot);
        }
        let place = self.places.get_mut(&slot);
        if let Some(place) = place.filter(|_| matches!(death, Death::Early { .. })) {
            place.unstable += 1;
        }
    }

    /// Whether each of the first places has (or had) a worker of the present cluster.
    pub(crate) fn started(&self, workers: u32) -> bool {
        (0..workers).all(|slot| self.forked.contains(&slot))
    }

    /// Whether each of the first places has a worker of this generation or a later one.
    pub(crate) fn renewed(&self, workers: u32, generation: u32) -> bool {
        let new = |slot| {
            self.lives
                .values()
                .any(|life| life.slot == slot && life.generation >= generation)
        };
        (0..workers).all(new)
    }

    /// Whether each of the first places, and no other, has a worker.
    pub(crate) fn settled(&self, workers: u32) -> bool {
        self.started(workers) && self.lives.values().all(|life| life.slot < workers)
    }

    /// The worker of an instance, the newest one.
    pub(crate) fn worker_of(&self, id: u32) -> Option<u32> {
        let slot = self.slot_of(id)?;
        let mut lives = self.lives.iter().rev();
        lives
            .find(|(_, life)| life.slot == slot)
            .map(|(worker, _)| *worker)
    }

    /// The place of an id.
    pub(crate) fn slot_of(&self, id: u32) -> Option<u32> {
        let mut places = self.places.iter();
        places.find(|(_, place)| place.id == id).map(|(slot, _)| *slot)
    }

    /// All ids, by slot.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.places.values().map(|place| place.id).collect()
    }

    /// Another cluster took the place of one that ran: that counts in each place.
    pub(crate) fn restarted(&mut self) {
        for place in self.places.values_mut() {
            place.restarts += 1;
        }
    }

    /// Counters begin anew.
    pub(crate) fn reset(&mut self) {
        for place in self.places.values_mut() {
            (place.restarts, place.unstable) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests;
