//! The beginnings and ends of workers, and of the cluster.

use super::{Action, App, Notice, Outcome, Phase};
use crate::cause::Cause;
use crate::exit::ExitStatus;
use crate::id::{Slot, WorkerId};
use crate::reload::Reload;
use crate::restart::{Death, When};
use crate::time::Time;
use crate::worker::{ExitReason, State, Step, Worker};
use std::time::Duration;

/// How much shorter a delay may become by chance, in percent, so that workers do not come back all at once.
const RESPAWN_SPREAD: u32 = 20;

impl App {
    pub(super) fn start(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.config.job {
            return;
        }
        for slot in self.slots.all() {
            self.spawn(now, slot, out);
        }
    }

    /// Starts a worker that has its slot from now on.
    pub(super) fn spawn(&mut self, now: Time, slot: Slot, out: &mut Vec<Action>) -> WorkerId {
        let reload = self.reload.as_ref().filter(|reload| reload.wants_new(slot));
        let generation = reload.map_or(self.generation, Reload::generation);
        let (standby, strict) = (self.stands_by(), reload.is_some());
        let worker = self.birth(now, slot, generation, standby, strict);
        self.slots.filled(slot, worker);
        out.push(Action::Spawn {
            worker,
            slot,
            generation,
        });
        worker
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
            generation: known.generation,
        }));
        if self.slots.get(known.slot).and_then(|place| place.worker) == Some(worker) {
            self.all_ready = false;
        }
    }

    pub(super) fn spawn_failed(&mut self, now: Time, worker: WorkerId, why: String, out: &mut Vec<Action>) {
        let Some(mut failed) = self.workers.remove(&worker) else {
            return;
        };
        failed.exit = Some(ExitStatus::Unknown);
        let slot = failed.slot;
        let reason = format!("worker {worker} could not be started: {why}");
        out.push(Action::Notice(Notice::SpawnFailed { worker, slot, why }));
        self.buried(now, &failed, false, reason, out);
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
        // One that closes the channel of a cluster is about to end; for any other it is one thing among many.
        let restarts = self.config.restart.when != When::Never && !self.config.ipc;
        known.channel_closed(now, restarts.then_some(self.config.kill_timeout));
        out.push(Action::Notice(Notice::Disconnect { worker }));
        self.out_of_rotation(now, worker, out);
        // Before what it had not taken is given to others: a spare is one of them. Its end may be told a little later.
        self.rebalance(now, out);
        self.dispatcher.silent(now, worker, &mut self.placements);
        self.place(out);
    }

    pub(super) fn exited(&mut self, now: Time, worker: WorkerId, status: ExitStatus, out: &mut Vec<Action>) {
        self.channel_closed(now, worker, out);
        let Some(mut dead) = self.workers.remove(&worker) else {
            return;
        };
        dead.exit = Some(status);
        self.waiting.remove(&worker);
        self.last_status = Some(status);
        let killed =
            dead.forced() && !matches!(dead.reason(), ExitReason::Protocol | ExitReason::ListenTimeout);
        self.killed += u32::from(killed && self.phase == Phase::Stopping);
        out.push(Action::Notice(Notice::Exit {
            worker,
            slot: dead.slot,
            pid: dead.pid,
            generation: dead.generation,
            status,
            reason: dead.reason(),
            forced: dead.forced(),
            voluntary: dead.voluntary,
            uptime: now.since(dead.forked),
        }));
        let proven = self.proven(now, &dead);
        if let Some(reload) = self.reload.as_mut() {
            let left = dead.left_at().unwrap_or(now);
            reload.drained(worker, now.since(left), dead.forced());
        }
        self.dispatcher.lost(now, worker, &mut self.placements);
        self.place(out);
        let why = self.why_it_failed(&dead);
        self.buried(now, &dead, proven, why, out);
        self.restless = true;
    }

    /// Whether a dead worker had been of use: see [`crate::restart`]. Where we do not see who is served, it had if
    /// it was ready.
    pub(super) fn proven(&self, now: Time, worker: &Worker) -> bool {
        let Some(since) = worker.ready_since() else {
            return false;
        };
        let seen = self.config.channel && !self.config.ipc && self.config.policy.hands_over();
        let least = self.config.restart.budget.min_uptime;
        !seen || self.dispatcher.accepted(worker.id) > 0 || now.since(since) >= least
    }

    /// What follows from the end of a worker.
    fn buried(&mut self, now: Time, dead: &Worker, proven: bool, why: String, out: &mut Vec<Action>) {
        let slot = dead.slot;
        let Some(place) = self.slots.get_mut(slot) else {
            return self.end_if_over(out);
        };
        if place.successor == Some(dead.id) {
            place.successor = None;
            if self.reload_has(slot) {
                self.fail_reload(now, Some(slot), why, out);
            } else {
                self.successor_failed(now, slot);
            }
        } else if place.worker == Some(dead.id) {
            place.worker = None;
            place.left = Some((dead.id, dead.pid));
            self.holder_died(now, dead, proven, why, out);
        } else if place.waits && place.left.is_some_and(|(left, _)| left == dead.id) {
            place.waits = false;
            if self.phase == Phase::Running {
                self.spawn(now, slot, out);
            }
        }
        self.end_if_over(out);
    }

    fn holder_died(&mut self, now: Time, dead: &Worker, proven: bool, why: String, out: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        let slot = dead.slot;
        self.rebalance(now, out);
        let status = dead.exit.unwrap_or(ExitStatus::Unknown);
        let ours = matches!(dead.reason(), ExitReason::ListenTimeout | ExitReason::Protocol);
        if dead.retired() || self.config.job || !ours && !self.config.restart.replaces(status) {
            return self.gone_for_good(now, dead, status, out);
        }
        if self.in_reload(slot, dead.generation) {
            self.fail_reload(now, Some(slot), why, out);
        }
        let budget = self.config.restart.budget.clone();
        let (delay, death) = self.slots.died(now, slot, proven, &budget);
        let slots = self.slots.count();
        if self.storm.died(now, slot, status, slots) {
            out.push(Action::Notice(Notice::Storm { status, probe: slot }));
            for other in self.slots.all() {
                let probe = self.storm.admits(other);
                if let Some(place) = self.slots.get_mut(other) {
                    place.held = !probe && place.worker.is_none();
                }
            }
        }
        let Some(place) = self.slots.get_mut(slot) else {
            return;
        };
        place.wanted = None;
        if let Some(successor) = place.successor.take() {
            place.worker = Some(successor);
            self.took_over(now, slot, out);
            return self.rebalance(now, out);
        }
        self.refill(now, slot, delay, death, out);
    }

    /// A worker that is not to be replaced is gone.
    fn gone_for_good(&mut self, now: Time, dead: &Worker, status: ExitStatus, out: &mut Vec<Action>) {
        let slot = dead.slot;
        let intended = status.success() || self.config.restart.stops(status);
        self.failures += u32::from(!dead.retired() && !intended);
        if self.config.job {
            return out.push(Action::Notice(Notice::Finished { slot }));
        }
        let place = self.slots.remove(slot);
        if self.storm.probe() == Some(slot) {
            self.calm(now, out);
        }
        if let Some(successor) = place.and_then(|place| place.successor) {
            self.retire(now, successor, Cause::Scale, out);
        }
        self.roll(now, out, |reload, moves| reload.removed(slot, moves));
        if !dead.retired() {
            out.push(Action::Notice(Notice::Finished { slot }));
        }
        let over = self.config.ends_when_done && self.target > 0 && !dead.retired();
        if over && self.slots.count() == 0 && self.workers.is_empty() {
            let (failures, status) = (self.failures, Some(status));
            self.finish(Outcome::Done { failures, status }, out);
        }
    }

    /// A place is filled again after the death of its worker, unless the app has failed.
    pub(super) fn refill(
        &mut self,
        now: Time,
        slot: Slot,
        delay: Duration,
        death: Death,
        out: &mut Vec<Action>,
    ) {
        let budget = &self.config.restart.budget;
        let tried = self
            .storm
            .probe()
            .is_some_and(|probe| self.slots.spent(probe, budget));
        if self.workers.is_empty() && (tried || self.slots.all_spent(budget)) {
            self.tell_receipt(now, false, out);
            return self.finish(
                Outcome::Failed {
                    status: self.last_status,
                },
                out,
            );
        }
        let delay = self.jitter.shorten(delay, RESPAWN_SPREAD);
        out.push(Action::Notice(Notice::Respawn { slot, delay, death }));
        let held = !self.storm.admits(slot);
        if delay.is_zero() && !held {
            self.spawn(now, slot, out);
        } else {
            self.slots.respawn_at(slot, now + delay);
            if let Some(place) = self.slots.get_mut(slot) {
                place.held = held;
            }
        }
    }

    /// The storm is over: whoever waited for that is started.
    pub(super) fn calm(&mut self, now: Time, out: &mut Vec<Action>) {
        if !self.storm.calm() {
            return;
        }
        out.push(Action::Notice(Notice::Calm));
        for slot in self.slots.all() {
            let Some(place) = self.slots.get_mut(slot).filter(|place| place.held) else {
                continue;
            };
            place.held = false;
        }
        for slot in self.slots.due(now) {
            self.spawn(now, slot, out);
        }
    }

    /// Whether the probe of a storm has proven itself.
    pub(super) fn look_at_the_probe(&mut self, now: Time, out: &mut Vec<Action>) {
        let probe = self.storm.probe().and_then(|slot| self.slots.get(slot)?.worker);
        let proven = |worker: &Worker| self.proven(now, worker);
        if probe.and_then(|id| self.workers.get(&id)).is_some_and(proven) {
            self.calm(now, out);
        }
    }

    fn probe_deadline(&self) -> Option<Time> {
        let probe = self.slots.get(self.storm.probe()?)?.worker?;
        let since = self.workers.get(&probe)?.ready_since()?;
        Some(since + self.config.restart.budget.min_uptime)
    }

    /// What is to be looked at as time passes.
    pub(super) fn supervise(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        self.look_at_everybody(now, out);
        self.look_for_the_bad(now, out);
        self.look_at_the_probe(now, out);
        self.advance(now, out);
    }

    /// When [`supervise`](Self::supervise) may find something to do.
    pub(super) fn supervision_deadline(&self) -> Option<Time> {
        if self.phase != Phase::Running {
            return None;
        }
        let reload = self.reload.as_ref().and_then(Reload::next_deadline);
        [
            self.wanted_deadline(),
            self.bad_deadline(),
            self.probe_deadline(),
            self.health_deadline(),
            reload,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn disconnect(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Action>) {
        self.out_of_rotation(now, worker, out);
        self.with_worker(now, worker, out, |worker, steps| worker.disconnect(steps));
    }

    pub(super) fn stop(&mut self, now: Time, out: &mut Vec<Action>) {
        self.close_all(now, out);
        let ask = self.config.ask_at_stop.unwrap_or(self.config.ask);
        let limit = self.config.kill_timeout;
        for id in self.ids() {
            self.out_of_rotation(now, id, out);
            self.with_worker(now, id, out, |worker, steps| worker.stop(now, ask, limit, steps));
        }
        self.end_if_over(out);
    }

    /// Node's `cluster.disconnect()`: as a stop, but nobody is killed.
    pub(super) fn disconnect_all(&mut self, now: Time, out: &mut Vec<Action>) {
        self.close_all(now, out);
        for id in self.ids() {
            self.disconnect(now, id, out);
        }
        self.end_if_over(out);
    }

    /// The beginning of the end: nobody is started, and no connection accepted any more.
    fn close_all(&mut self, now: Time, out: &mut Vec<Action>) {
        self.tell_receipt(now, true, out);
        self.begin_stop(out);
        self.dispatcher.flush(now, &mut self.placements);
        self.place(out);
        self.endpoints.unbind_all(&mut self.effects);
        self.effect(now, out);
    }

    pub(super) fn stop_now(&mut self, now: Time, out: &mut Vec<Action>) {
        self.tell_receipt(now, true, out);
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
            self.queued = None;
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
        self.waiting.remove(&worker);
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

    pub(super) fn all_are_ready(&self) -> bool {
        let online = |id: &WorkerId| {
            let worker = self.workers.get(id);
            worker.is_some_and(|worker| worker.state() == State::Online)
        };
        let ready = self.slots.holders().filter(online).count();
        ready > 0 && ready == self.slots.count() && self.phase == Phase::Running
    }

    /// Whether everybody is ready who is to be there; told once until it is no longer so.
    pub(super) fn look_whether_all_are_ready(&mut self, now: Time, out: &mut Vec<Action>) {
        if !self.all_are_ready() {
            return;
        }
        self.endpoints.all_ready(now);
        if !self.all_ready {
            self.all_ready = true;
            let workers = u32::try_from(self.slots.count()).unwrap_or(u32::MAX);
            out.push(Action::Notice(Notice::AllReady { workers }));
        }
    }
}
