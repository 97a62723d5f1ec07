//! What a dead worker has left behind: processes that it started, and that must be gone before its successor starts.
//!
//! Job: kill them, and say when none is left. Owner: the driver, from the worker's end to its burial. They are looked
//! for again and again, because each look can miss one that is being forked; one that was seen is waited for by its
//! pidfd, because a process loses its environment, by which it is known, some time before it closes its sockets.
//!
//! Must not know: what a worker is, how long somebody is willing to wait.

use super::{Process, Roots, Seen, end, ended, ending, marked, own_children, processes};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Remains {
    mark: String,
    /// Those that were killed and may not have ended yet.
    dying: Vec<Victim>,
}

/// A process that was killed.
#[derive(Debug, Clone)]
pub(crate) struct Victim {
    pub(super) pid: u32,
    pub(super) pidfd: Arc<OwnedFd>,
}

impl Remains {
    /// Of a process that is reaped by now, so its pid means nothing any more. `dying`: what was killed with it.
    pub(crate) fn of(process: Process, dying: Vec<Victim>) -> Self {
        let mark = process.mark;
        Self { mark, dying }
    }

    /// Kills whoever is there, of those children of ours that were its descendants, and theirs: orphans come to us,
    /// where we are their reaper. True once nobody is left.
    pub(crate) fn gone(&mut self, known: &BTreeSet<u32>) -> bool {
        self.dying.retain(|victim| !ended(victim));
        let mut strangers = own_children();
        strangers.retain(|pid| !known.contains(pid));
        if strangers.iter().any(|pid| marked(*pid, &self.mark)) {
            let family = Roots {
                pids: Vec::new(),
                marks: vec![&self.mark],
            };
            let all = processes();
            let new = |seen: &&Seen| self.dying.iter().all(|victim| victim.pid != seen.pid);
            let found: Vec<&Seen> = family.of(&all).into_iter().filter(new).collect();
            self.dying.extend(found.into_iter().filter_map(end));
        }
        // One that is ending may be of this family, and have children that come to us when it has ended.
        self.dying.is_empty() && !strangers.into_iter().any(ending)
    }

    /// Who is left.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.dying.iter().map(|victim| victim.pid).collect()
    }
}
