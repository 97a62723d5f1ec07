//! How processes ended that the keeper reaped: workers of a daemon that is dead, and their descendants.

use std::os::fd::BorrowedFd;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::link::Link;
use crate::sys::process;

/// What the keeper remembers of ended processes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Exits(pub(crate) Arc<Link>);

impl Exits {
    /// How many ends were noted so far. Whoever keeps this number from before a process was started can ask for exactly that
    /// process later, even if its pid was somebody else's before or is now.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.0.count()
    }

    /// How the first process of this pid ended since `mark`. `None`: it has not, or was not the keeper's to reap, or 4096 others
    /// ended since.
    #[must_use]
    pub fn lookup(&self, mark: u64, pid: u32) -> Option<ExitStatus> {
        self.0.end_since(mark, pid)
    }

    /// Waits for that: a pidfd says that a process has ended an instant before the keeper has noted how.
    #[must_use]
    pub fn wait(&self, mark: u64, pid: u32, limit: Duration) -> Option<ExitStatus> {
        self.0.wait_for_end(mark, pid, limit)
    }
}

/// What the kernel remembers of an ended process, whoever reaped it, as long as this pidfd is open (Linux 6.15).
#[must_use]
pub fn exit_by_pidfd(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    process::exit_by_pidfd(pidfd)
}
