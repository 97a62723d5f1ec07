//! How many descriptors this process may have: as many as it can get. Its workers are not to notice: `select` and some
//! programs' loops over all numbers do not bear a high soft limit, so each gets the one back that was there before.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::sync::atomic::{AtomicU64, Ordering};

/// What workers get, plus one; 0 is what we have ourselves.
static OF_WORKERS: AtomicU64 = AtomicU64::new(0);

/// Raises this process's soft limit to its hard limit. Workers that are started from now on get the one from before, or
/// `of_workers` if this process was started with a raised one.
pub fn raise(of_workers: Option<u64>) {
    let mut limit = getrlimit(Resource::Nofile);
    let before = of_workers.or(limit.current);
    OF_WORKERS.store(
        before.map_or(0, |before| before.saturating_add(1)),
        Ordering::Relaxed,
    );
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // It is ours to raise; where that is refused, things are as they were.
        setrlimit(Resource::Nofile, limit).ok();
    }
}

/// What a worker's soft limit is, if it is another than ours. Allocates nothing and takes no lock: it is asked for between
/// fork and exec.
pub(crate) fn of_workers() -> Option<u64> {
    OF_WORKERS.load(Ordering::Relaxed).checked_sub(1)
}
