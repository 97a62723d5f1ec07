//! A worker's last way: its end is told when everything that it had started has ended, too.
//!
//! ```text
//! process gone ──▶ descendants killed ──▶ looked at every few ms ──all gone, or it took too long──▶ told
//! ```
//!
//! Until then nobody takes its place: a successor could find a port or a file of the dead one's taken. Only where we
//! are the reaper of orphans; elsewhere they are nobody's that we know.

use super::workers::WorkerIo;
use super::{Driver, Later, keep};
use crate::cgroup::Leaf;
use crate::process::Remains;
use everup_core::app::Input;
use everup_core::exit::ExitStatus;
use everup_core::id::WorkerId;
use everup_core::time::Time;
use std::time::Duration;

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(3);
/// Longer than this a burial does not take. SIGKILL takes longer only if the kernel itself hangs.
const LONGEST: Duration = Duration::from_secs(2);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Burial {
    status: ExitStatus,
    remains: Remains,
    /// Kills whoever is left in it when it is dropped.
    _group: Option<Leaf>,
    until: Time,
}

impl Driver {
    /// A worker is reaped, and its channel read to the end.
    pub(super) fn bury(&mut self, worker: WorkerId, status: ExitStatus, io: WorkerIo) {
        if !self.spec.init {
            self.close(keep::Closing::Worker(Box::new(io)));
            return self.feed(Input::Exited { worker, status });
        }
        let burial = Burial {
            status,
            remains: Remains::of(io.process, io.victims),
            _group: io.group,
            until: self.now + LONGEST,
        };
        self.burials.insert(worker, burial);
        self.look_at_burial(worker);
    }

    pub(super) fn look_at_burial(&mut self, worker: WorkerId) {
        let known = self.pids();
        let Some(burial) = self.burials.get_mut(&worker) else {
            return;
        };
        let gone = burial.remains.gone(&known);
        if !gone && self.now < burial.until {
            return self.later.push((self.now + LOOK, Later::Bury(worker)));
        }
        let status = burial.status;
        if !gone {
            let pids: Vec<String> = burial.remains.pids().iter().map(u32::to_string).collect();
            let what = format!(
                "processes that it started live on {LONGEST:?} after they were killed: {}",
                pids.join(", ")
            );
            self.reporter.error(Some(worker), what);
        }
        self.burials.remove(&worker);
        self.feed(Input::Exited { worker, status });
    }
}
