//! How many workers there are: up, down to zero and back; spares; jobs.

use super::{Action, App, Notice, Phase};
use crate::cause::Cause;
use crate::id::{Slot, WorkerId};
use crate::time::Time;
use crate::worker::{State, Worker};

impl App {
    /// New slots are filled at once; the highest ones go, and their workers drain. The sockets stay, also at zero:
    /// clients wait in their queues.
    pub(super) fn scale(&mut self, now: Time, workers: u32, out: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        let from = std::mem::replace(&mut self.target, workers);
        out.push(Action::Notice(Notice::Scaled { from, to: workers }));
        let spares = if workers > 0 { self.config.spares } else { 0 };
        let wanted = workers.saturating_add(spares) as usize;
        while self.slots.count() < wanted {
            let slot = self.slots.add();
            if let Some(reload) = &mut self.reload {
                reload.added(slot);
            }
            if !self.config.job {
                self.spawn(now, slot, out);
            }
        }
        while self.slots.count() > wanted {
            let Some(slot) = self.slots.last() else { break };
            self.remove_slot(now, slot, Cause::Scale, out);
        }
        self.rebalance(now, out);
        self.all_ready = false;
        self.look_whether_all_are_ready(now, out);
        self.restless = true;
    }

    fn remove_slot(&mut self, now: Time, slot: Slot, cause: Cause, out: &mut Vec<Action>) {
        let Some(place) = self.slots.remove(slot) else {
            return;
        };
        if self.storm.probe() == Some(slot) {
            self.calm(now, out);
        }
        for worker in place.successor.into_iter().chain(place.worker) {
            self.retire(now, worker, cause, out);
        }
        self.roll(now, out, |reload, moves| reload.removed(slot, moves));
    }

    /// Spares take the places of active workers that are missing.
    pub(super) fn rebalance(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.config.spares == 0 || self.phase != Phase::Running {
            return;
        }
        let missing = (self.target as usize).saturating_sub(self.online(false).len());
        for id in self.online(true).into_iter().take(missing) {
            self.promote(now, id, out);
        }
    }

    /// A worker is ready. If a spare was ready before it and has taken its part, it stands by instead.
    pub(super) fn change_places(&mut self, id: WorkerId) {
        let mut others = self.online(false);
        others.retain(|other| *other != id);
        let enough = others.len() >= self.target as usize;
        if let Some(worker) = self.workers.get_mut(&id).filter(|_| self.config.spares > 0) {
            worker.standby |= enough;
        }
    }

    /// Holders that are ready: those that stand by, or the others.
    fn online(&self, standby: bool) -> Vec<WorkerId> {
        let meant = |worker: &Worker| worker.state() == State::Online && worker.standby == standby;
        let holders = self.slots.holders();
        holders
            .filter(|id| self.workers.get(id).is_some_and(meant))
            .collect()
    }

    pub(super) fn promote(&mut self, now: Time, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.standby = false;
        let slot = worker.slot;
        self.enter_rotation(now, id, out);
        out.push(Action::Notice(Notice::Promoted { worker: id, slot }));
    }

    /// Whether a worker that is started now is to stand by.
    pub(super) fn stands_by(&self) -> bool {
        let active = |id: &WorkerId| self.workers.get(id).is_some_and(|worker| !worker.standby);
        self.config.spares > 0 && self.slots.holders().filter(active).count() >= self.target as usize
    }

    /// Runs the job, unless it still runs.
    pub(super) fn launch(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        if !self.workers.is_empty() {
            return out.push(Action::Notice(Notice::Overlap));
        }
        for slot in self.slots.all() {
            self.spawn(now, slot, out);
        }
    }
}
