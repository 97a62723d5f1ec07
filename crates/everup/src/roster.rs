//! Which workers there are: for whoever asks while they live, and of those that he knows also afterwards.
//!
//! Owner: the engine, which is the only writer; handles of workers and the reporter of events read. A worker is in
//! the table from the decision to start it until its end is told. How it ended is in its [`Life`], which lives as long
//! as somebody holds it: nothing grows with the workers that were.
//!
//! Invariant: an end is noted before its event can be read.

use everup_core::exit::ExitStatus;
use everup_core::id::{Slot, WorkerId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    living: Mutex<BTreeMap<WorkerId, Arc<Life>>>,
}

/// What does not change of a worker, once it is known.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) id: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) generation: u32,
    pid: OnceLock<u32>,
    end: OnceLock<End>,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Unknown also if it could not be started.
    pub(crate) status: ExitStatus,
    /// Node's `exitedAfterDisconnect`.
    pub(crate) voluntary: bool,
}

impl Life {
    /// Its process id, unless it could not be started.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid.get().copied()
    }

    /// How it ended, if it did.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.get().copied()
    }
}

impl Roster {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Arc<Life>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker is about to be started.
    pub(crate) fn born(&self, id: WorkerId, slot: Slot, generation: u32) {
        let life = Life {
            id,
            slot,
            generation,
            pid: OnceLock::new(),
            end: OnceLock::new(),
        };
        self.lock().insert(id, Arc::new(life));
    }

    /// It is a process now.
    pub(crate) fn started(&self, id: WorkerId, pid: u32) {
        if let Some(life) = self.lock().get(&id) {
            life.pid.get_or_init(|| pid);
        }
    }

    /// It has ended, or could not be started.
    pub(crate) fn ended(&self, id: WorkerId, end: End) {
        if let Some(life) = self.lock().remove(&id) {
            life.end.get_or_init(|| end);
        }
    }

    /// The engine has ended, and all workers with it.
    pub(crate) fn close(&self) {
        let end = End {
            status: ExitStatus::Unknown,
            voluntary: false,
        };
        for life in std::mem::take(&mut *self.lock()).into_values() {
            life.end.get_or_init(|| end);
        }
    }

    /// A worker that has not ended.
    pub(crate) fn find(&self, id: WorkerId) -> Option<Arc<Life>> {
        self.lock().get(&id).cloned()
    }

    /// All that have not ended, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Life>> {
        self.lock().values().cloned().collect()
    }

    /// The place of a worker that has not ended, and its process id (0 before it is one).
    pub(crate) fn place(&self, id: WorkerId) -> Option<(Slot, u32)> {
        let living = self.lock();
        let life = living.get(&id)?;
        Some((life.slot, life.pid().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_outlives_its_place_in_the_table() {
        let roster = Roster::default();
        let id = WorkerId(7);
        roster.born(id, Slot(2), 1);
        assert_eq!(roster.place(id), Some((Slot(2), 0)));
        roster.started(id, 4711);
        let life = roster.find(id).unwrap();
        assert_eq!((life.pid(), life.end()), (Some(4711), None));
        let end = End {
            status: ExitStatus::Code(3),
            voluntary: true,
        };
        roster.ended(id, end);
        assert_eq!(life.end(), Some(end));
        assert!(roster.find(id).is_none() && roster.place(id).is_none() && roster.all().is_empty());
    }

    #[test]
    fn nobody_lives_on_without_an_engine() {
        let roster = Roster::default();
        roster.born(WorkerId(1), Slot(0), 1);
        let life = roster.find(WorkerId(1)).unwrap();
        roster.close();
        assert!(life.end().is_some() && life.pid().is_none());
    }
}
