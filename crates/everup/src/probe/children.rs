//! The commands of probes that run now, so that the engine, where it reaps orphans, does not reap these as well and take
//! their exit status from the prober.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module's documentation. Clones are the same set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Children(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pids: Mutex<BTreeSet<u32>>,
    starting: AtomicBool,
}

impl Children {
    /// The pids. `None` while one is being started, which the engine need not wait for: reap nothing then, the end of
    /// that one is another SIGCHLD. Ask *after* the children of the process were listed.
    pub(crate) fn settled(&self) -> Option<BTreeSet<u32>> {
        let starting = self.0.starting.load(Ordering::SeqCst);
        (!starting).then(|| self.pids().clone())
    }

    /// Only the prober's thread starts and ends them.
    pub(super) fn start<E>(&self, start: impl FnOnce() -> Result<u32, E>) -> Result<u32, E> {
        self.0.starting.store(true, Ordering::SeqCst);
        let started = start();
        if let Ok(pid) = &started {
            self.pids().insert(*pid);
        }
        self.0.starting.store(false, Ordering::SeqCst);
        started
    }

    pub(super) fn ended(&self, pid: u32) {
        self.pids().remove(&pid);
    }

    /// Held for an insertion, a removal or a copy only.
    fn pids(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
