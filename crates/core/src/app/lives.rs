//! The beginnings and ends of workers, and of the cluster.

use super::{Action, App, Notice, Outcome, Phase};
use crate::exit::ExitStatus;
use crate::id::{Slot, WorkerId};
use crate::restart::{PROVEN, RestartPolicy};
use crate::schedule::Policy;
use crate::time::Time;
use crate::worker::{ExitReason, ReadyBasis, State, Step, Worker};

impl App {
    pub(super) fn start(&mut self, now: Time, out: &mut Vec<Action>) {
        for slot in self.slots.all() {
            self.spawn(now, slot, out);
        }
    }

    pub(super) fn spawn(&mut self, now: Time, slot: Slot, out: &mut Vec<Action>) -> WorkerId {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let worker = Worker::new(now, id, slot, self.config.channel, self.config.listen_timeout);
        self.workers.insert(id, worker);
        self.slots.filled(slot, id);
        out.push(Action::Spawn { worker: id, slot });
        id
    }

    pub(super) fn spawned(&mut self, worker: WorkerId, pid: u32, out: &mut Vec<Action>) {
        let Some(known) = self.workers.get_mut(&worker) else {
            return;
        };
        known.pid = pid;
        out.push(Action::Notice(Notice::Fork {
            worker,
            slot: known.slot,
            pid,
        }));
        if self.all_ready {
            self.all_ready = false;
        }
    }

    pub(super) fn spawn_failed(&mut self, now: Time, worker: WorkerId, why: String, out: &mut Vec<Action>) {
        let Some(mut failed) = self.workers.remove(&worker) else {
            return;
        };
        failed.exit = Some(ExitStatus::Unknown);
        let slot = failed.slot;
        out.push(Action::Notice(Notice::SpawnFailed { worker, slot, why }));
        self.replace(now, &failed, false, out);
    }

    pub(super) fn garbled(&mut self, now: Time, worker: WorkerId, what: String, out: &mut Vec<Action>) {
        out.push(Action::Notice(Notice::Error {
            worker: Some(worker),
            what,
        }));
        self.out_of_rotation(now, worker, out);
        self.with_worker(now, worker, out, |worker, steps| {
            worker.kill(now, ExitReason::Protocol, steps)
        });
    }

    pub(super) fn channel_closed(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Action>) {
        let Some(known) = self.workers.get_mut(&worker).filter(|known| known.connected) else {
            return;
        };
        let restarts = matches!(self.config.restart, RestartPolicy::Always(_));
        known.channel_closed(now, restarts.then_some(self.config.kill_timeout));
        out.push(Action::Notice(Notice::Disconnect { worker }));
        self.out_of_rotation(now, worker, out);
        self.dispatcher.silent(now, worker, &mut self.placements);
        self.place(out);
    }

    pub(super) fn exited(&mut self, now: Time, worker: WorkerId, status: ExitStatus, out: &mut Vec<Action>) {
        self.channel_closed(now, worker, out);
        let Some(mut dead) = self.workers.remove(&worker) else {
            return;
        };
        dead.exit = Some(status);
        self.last_status = Some(status);
        let killed = matches!(dead.reason(), ExitReason::KillTimeout | ExitReason::Killed);
        self.killed += u32::from(killed && self.phase == Phase::Stopping);
        out.push(Action::Notice(Notice::Exit {
            worker,
            slot: dead.slot,
            pid: dead.pid,
            status,
            reason: dead.reason(),
            voluntary: dead.voluntary,
            uptime: now.since(dead.forked),
        }));
        let proven = self.proven(now, &dead);
        self.dispatcher.lost(now, worker, &mut self.placements);
        self.place(out);
        self.replace(now, &dead, proven, out);
    }

    /// Whether a dead worker had been of use: see [`crate::restart`]. Where we do not see who is served, it had if
    /// it was ready.
    fn proven(&self, now: Time, dead: &Worker) -> bool {
        let Some(since) = dead.ready_since() else {
            return false;
        };
        let seen = self.config.channel && self.config.policy != Policy::Shared;
        !seen || self.dispatcher.accepted(dead.id) > 0 || now.since(since) >= PROVEN
    }

    /// What follows from the end of a worker.
    pub(super) fn replace(&mut self, now: Time, dead: &Worker, proven: bool, out: &mut Vec<Action>) {
        let budget = match &self.config.restart {
            RestartPolicy::Always(budget) if self.phase == Phase::Running && !dead.retired() => {
                budget.clone()
            }
            RestartPolicy::Always(_) | RestartPolicy::Never => {
                self.slots.retire(dead.slot, dead.id);
                return self.end_if_over(out);
            }
        };
        let (delay, death) = self.slots.died(now, dead.slot, proven, &budget);
        if self.workers.is_empty() && self.slots.all_spent(&budget) {
            return self.finish(
                Outcome::Failed {
                    status: self.last_status,
                },
                out,
            );
        }
        out.push(Action::Notice(Notice::Respawn {
            slot: dead.slot,
            delay,
            death,
        }));
        if delay.is_zero() {
            self.spawn(now, dead.slot, out);
        } else {
            self.slots.respawn_at(dead.slot, now + delay);
        }
    }

    pub(super) fn disconnect(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Action>) {
        self.out_of_rotation(now, worker, out);
        self.with_worker(now, worker, out, |worker, steps| worker.disconnect(steps));
    }

    pub(super) fn stop(&mut self, now: Time, out: &mut Vec<Action>) {
        self.begin_stop(out);
        self.dispatcher.flush(now, &mut self.placements);
        self.place(out);
        self.endpoints.unbind_all(&mut self.effects);
        self.effect(now, out);
        let (ask, limit) = (self.config.ask, self.config.kill_timeout);
        for id in self.ids() {
            self.out_of_rotation(now, id, out);
            self.with_worker(now, id, out, |worker, steps| worker.stop(now, ask, limit, steps));
        }
        self.end_if_over(out);
    }

    pub(super) fn stop_now(&mut self, now: Time, out: &mut Vec<Action>) {
        self.begin_stop(out);
        for id in self.ids() {
            self.with_worker(now, id, out, |worker, steps| {
                worker.kill(now, ExitReason::Killed, steps)
            });
        }
        self.end_if_over(out);
    }

    pub(super) fn begin_stop(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
            self.slots.cancel();
            out.push(Action::Notice(Notice::Stopping));
        }
    }

    pub(super) fn end_if_over(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Stopping && self.workers.is_empty() {
            let outcome = match self.killed {
                0 => Outcome::Stopped,
                workers => Outcome::Killed { workers },
            };
            self.finish(outcome, out);
        }
    }

    pub(super) fn finish(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        out.push(Action::Finish(outcome));
    }

    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    pub(super) fn out_of_rotation(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Action>) {
        self.dispatcher.retire(worker);
        self.endpoints.gone(worker, &mut self.effects);
        self.effect(now, out);
        self.retries.retain(|retry| retry.worker != worker);
    }

    /// Feeds a worker and turns its steps into actions.
    pub(super) fn with_worker(
        &mut self,
        now: Time,
        id: WorkerId,
        out: &mut Vec<Action>,
        feed: impl FnOnce(&mut Worker, &mut Vec<Step>),
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let mut steps = std::mem::take(&mut self.steps);
        feed(worker, &mut steps);
        for step in steps.drain(..) {
            match step {
                Step::Disconnect => out.push(Action::Disconnect { worker: id }),
                Step::Shutdown => out.push(Action::Shutdown { worker: id }),
                Step::Signal(signal) => out.push(Action::Signal { worker: id, signal }),
                Step::Kill => out.push(Action::Kill { worker: id }),
                Step::Ready(basis) => self.became_ready(now, id, basis, out),
            }
        }
        self.steps = steps;
    }

    pub(super) fn became_ready(&mut self, now: Time, id: WorkerId, basis: ReadyBasis, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        out.push(Action::Notice(Notice::Ready {
            worker: id,
            basis,
            after: now.since(worker.forked),
        }));
        let ready = self
            .workers
            .values()
            .filter(|worker| worker.state() == State::Online)
            .count();
        if ready != self.slots.count() || self.phase != Phase::Running {
            return;
        }
        self.endpoints.all_ready(now);
        if !self.all_ready {
            self.all_ready = true;
            let workers = u32::try_from(ready).unwrap_or(u32::MAX);
            out.push(Action::Notice(Notice::AllReady { workers }));
        }
    }
}
