//! One worker takes another one's place: make before break, and who is replaced when.
//!
//! A worker that may be relied on (memory, age) waits for its turn: one such replacement at a time, none during a
//! reload, which replaces everybody anyway. One that may not (a failed probe) leaves at once if all the others serve; else
//! it stays until its successor is ready. One that is stuck leaves in any case.

use super::slots::Place;
use super::{Action, App, Notice, Phase};
use crate::cause::Cause;
use crate::health::Health;
use crate::id::{Slot, WorkerId};
use crate::reload::Reload;
use crate::time::Time;
use crate::worker::{Birth, ExitReason, ReadyBasis, State, Worker};
use std::time::Duration;

/// How much below the limits workers are replaced at most, in percent, so that they do not go together.
const SPREAD: u32 = 10;

impl App {
    /// Starts a worker that is to take over a slot.
    pub(super) fn start_successor(
        &mut self,
        now: Time,
        slot: Slot,
        generation: u32,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(place) = self.slots.get(slot).filter(|place| place.successor.is_none()) else {
            return false;
        };
        let holder = place.worker;
        let standby = holder
            .and_then(|id| self.workers.get(&id))
            .map_or_else(|| self.stands_by(), |worker| worker.standby);
        let id = self.birth(now, slot, generation, standby, true);
        match self.slots.get_mut(slot) {
            Some(place) => place.successor = Some(id),
            None => return false,
        }
        out.push(Action::Spawn {
            worker: id,
            slot,
            generation,
        });
        true
    }

    /// A worker as it is born. `strict`: it has to show more than its uptime if its predecessors did.
    pub(super) fn birth(
        &mut self,
        now: Time,
        slot: Slot,
        generation: u32,
        standby: bool,
        strict: bool,
    ) -> WorkerId {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let mut readiness = self.config.readiness;
        let strict = strict && self.speaks && !readiness.chosen;
        if strict {
            readiness.uptime = None;
        }
        let limit = self.config.ready_limit;
        let reload_limit = || self.reload.as_ref().map(Reload::ready_limit);
        let fallback = || reload_limit().unwrap_or(self.config.rollout.ready_limit);
        let tells = self.config.channel && !self.config.ipc;
        let ready_limit = match limit {
            Some(limit) if tells || readiness.chosen || strict => Some(limit),
            _ if strict || readiness.chosen && self.reload.is_some() => Some(fallback()),
            _ => None,
        };
        let birth = Birth {
            id,
            slot,
            generation,
            has_channel: self.config.channel,
            ipc: self.config.ipc,
            standby,
            gated: readiness.chosen || self.config.spares > 0 || self.config.checks.is_some(),
            must_pass: self.config.checks.is_some(),
            readiness,
            ready_limit,
        };
        self.workers.insert(id, Worker::new(now, birth));
        self.watch_from_birth(now, id);
        id
    }

    /// The successor takes the place, and the worker that had it goes.
    pub(super) fn swap(&mut self, now: Time, slot: Slot, cause: Cause, out: &mut Vec<Action>) {
        let Some(place) = self.slots.get_mut(slot) else {
            return;
        };
        let Some(new) = place.successor.take() else {
            return;
        };
        let old = place.worker.replace(new);
        place.wanted = None;
        place.left = old.map(|old| (old, self.workers.get(&old).map_or(0, |worker| worker.pid)));
        // Its role may have changed while the new one came up.
        let standby = old
            .and_then(|old| self.workers.get(&old))
            .is_some_and(|w| w.standby);
        if !standby && self.workers.get(&new).is_some_and(|worker| worker.standby) {
            self.promote(now, new, out);
        }
        if let Some(old) = old {
            self.retire(now, old, cause, out);
        }
        // What only the old ones listened on is waited for no longer.
        self.look_whether_all_are_ready(now, out);
    }

    /// A worker leaves the rotation, drains, and ends.
    pub(super) fn retire(&mut self, now: Time, id: WorkerId, cause: Cause, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let slot = worker.slot;
        let held = worker.state() == State::Online && !worker.held;
        worker.held |= held;
        out.push(Action::Notice(Notice::Replacing {
            worker: id,
            slot,
            cause,
        }));
        self.out_of_rotation(now, id, out);
        if held {
            out.push(Action::Hold { worker: id });
        }
        let drain = match cause {
            // It does not hear us, or was of no use: nobody waits for it for long.
            Cause::Stuck | Cause::Watchdog | Cause::Rollback => Duration::ZERO,
            _ => self.config.drain_timeout,
        };
        let at_stop = self.config.ask_at_stop.filter(|_| cause == Cause::Restart);
        let ask = at_stop.unwrap_or(self.config.ask);
        let limits = [drain, self.config.kill_timeout];
        self.with_worker(now, id, out, |worker, steps| {
            worker.retire(now, cause, ask, limits, steps);
        });
        self.hurry_the_oldest(now);
    }

    /// Keeps the number of old generations that drain within its limit.
    fn hurry_the_oldest(&mut self, now: Time) {
        let mut generations: Vec<u32> = self
            .workers
            .values()
            .filter(|w| w.outgoing)
            .map(|w| w.generation)
            .collect();
        generations.sort_unstable();
        generations.dedup();
        let most = self.config.max_draining.max(1) as usize;
        let too_many = generations.len().saturating_sub(most);
        let limit = self.config.kill_timeout;
        for worker in self.workers.values_mut().filter(|worker| worker.outgoing) {
            if generations[..too_many].contains(&worker.generation) {
                worker.hurry(now, Duration::ZERO, limit);
            }
        }
    }

    /// A worker is not to be relied on any more; `why` says it more exactly than the cause.
    pub(super) fn unhealthy(
        &mut self,
        now: Time,
        id: WorkerId,
        cause: Cause,
        why: &str,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id).filter(|_| self.phase == Phase::Running) else {
            return;
        };
        let (slot, generation, ready) = (worker.slot, worker.generation, worker.state() == State::Online);
        if worker.outgoing || worker.retired() {
            return;
        }
        let Some(place) = self.slots.get(slot) else {
            return;
        };
        if place.successor == Some(id) {
            if self.reload_has(slot) {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.blame(cause);
                }
                return self.fail_reload(now, Some(slot), format!("worker {id}: {why}"), out);
            }
            if let Some(place) = self.slots.get_mut(slot) {
                place.successor = None;
            }
            self.retire(now, id, cause, out);
            return self.successor_failed(now, slot);
        }
        if self.in_reload(slot, generation) {
            self.fail_reload(now, Some(slot), format!("worker {id}: {why}"), out);
        }
        if ready && cause != Cause::Stuck && !self.others_serve(id) {
            if let Some(place) = self.slots.get_mut(slot) {
                place.wanted.get_or_insert((cause, now));
            }
            self.restless = true;
            return;
        }
        self.vacate(now, id, slot, cause, out);
    }

    /// Whether all the others serve, and there are any: one that fails alone is at fault itself; when several fail,
    /// something else may be, and nothing is gained by taking away those that still do something.
    fn others_serve(&self, but: WorkerId) -> bool {
        let mut others = self.slots.iter().filter(|(_, place)| place.worker != Some(but));
        let serves = |place: &Place| {
            let worker = place.worker.and_then(|id| self.workers.get(&id));
            place.wanted.is_none() && worker.is_some_and(|worker| worker.state() == State::Online)
        };
        self.slots.count() > 1 && others.all(|(_, place)| serves(place))
    }

    /// A worker loses its place at once; the place is filled as after a death.
    fn vacate(&mut self, now: Time, id: WorkerId, slot: Slot, cause: Cause, out: &mut Vec<Action>) {
        let Some(place) = self.slots.get_mut(slot).filter(|place| place.worker == Some(id)) else {
            return;
        };
        place.worker = place.successor.take();
        place.wanted = None;
        let filled = place.worker.is_some();
        self.retire(now, id, cause, out);
        self.rebalance(now, out);
        if filled {
            return self.took_over(now, slot, out);
        }
        let budget = self.config.restart.budget.clone();
        let (delay, death) = self.slots.died(now, slot, false, &budget);
        self.refill(now, slot, delay, death, out);
    }

    /// A successor that no reload asked for came to nothing: again later, while the old one serves.
    pub(super) fn successor_failed(&mut self, now: Time, slot: Slot) {
        let budget = self.config.restart.budget.clone();
        let (delay, _) = self.slots.died(now, slot, false, &budget);
        if let Some((_, at)) = self.slots.get_mut(slot).and_then(|place| place.wanted.as_mut()) {
            *at = now + delay.max(budget.min_uptime);
        }
    }

    /// A worker became ready.
    pub(super) fn became_ready(&mut self, now: Time, id: WorkerId, basis: ReadyBasis, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let (slot, generation, boot) = (worker.slot, worker.generation, now.since(worker.forked));
        out.push(Action::Notice(Notice::Ready {
            worker: id,
            basis,
            after: boot,
        }));
        self.speaks |= basis != ReadyBasis::Uptime;
        let age = self.config.max_age.map(|age| self.jitter.shorten(age, SPREAD));
        let memory = self.config.memory_limit;
        let limit = memory.map(|limit| self.jitter.reduce(limit, u64::from(SPREAD)));
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.old_at = age.map(|age| now + age);
            worker.memory_limit = limit;
        }
        self.watch_from_now(now, id);
        if self.slots.get(slot).and_then(|place| place.worker) == Some(id) {
            self.change_places(id);
        }
        self.enter_rotation(now, id, out);
        let Some(place) = self.slots.get(slot) else {
            return;
        };
        let (holder, successor) = (place.worker == Some(id), place.successor == Some(id));
        let cause = place.wanted.map(|(cause, _)| cause);
        if holder {
            self.rebalance(now, out);
        }
        if holder && self.in_reload(slot, generation) {
            self.record_change(slot, id, boot);
            self.roll(now, out, |reload, moves| reload.ready(now, slot, moves));
        } else if successor && self.reload_has(slot) {
            self.roll(now, out, |reload, moves| reload.ready(now, slot, moves));
        } else if successor {
            self.swap(now, slot, cause.unwrap_or(Cause::Reload), out);
        }
        self.look_whether_all_are_ready(now, out);
        self.restless = true;
    }

    /// Begins what is wanted and may begin.
    pub(super) fn begin_wanted(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some((slot, cause)) = self.next_wanted(now) {
            let holder = self.slots.get(slot).and_then(|place| place.worker);
            if let Some(worker) = holder {
                out.push(Action::Notice(Notice::Replacing { worker, slot, cause }));
            }
            // In a reload the slot may have the new generation already, which is kept.
            let same = holder
                .and_then(|id| self.workers.get(&id))
                .map(|worker| worker.generation);
            let generation = same.unwrap_or(self.generation);
            if !self.start_successor(now, slot, generation, out) {
                return;
            }
        }
    }

    fn next_wanted(&self, now: Time) -> Option<(Slot, Cause)> {
        self.may_begin()
            .find(|(_, _, at)| *at <= now)
            .map(|(slot, cause, _)| (slot, cause))
    }

    /// When a replacement that waits for nothing but its time may begin.
    pub(super) fn wanted_deadline(&self) -> Option<Time> {
        self.may_begin().map(|(.., at)| at).min()
    }

    fn may_begin(&self) -> impl Iterator<Item = (Slot, Cause, Time)> {
        let busy = self.slots.iter().any(|(_, place)| place.successor.is_some());
        let reloading = self.reload.as_ref().is_some_and(|reload| !reload.rolled());
        self.slots.iter().filter_map(move |(slot, place)| {
            let (cause, at) = place.wanted?;
            let urgent = match cause {
                // It does not wait when it leaks faster than others are replaced.
                Cause::Memory { bytes, limit } => bytes > limit.saturating_add(limit / 20),
                _ => false,
            };
            let free = place.successor.is_none() && place.worker.is_some();
            (free && (urgent || !busy && !reloading)).then_some((slot, cause, at))
        })
    }

    /// How much memory a worker uses.
    pub(super) fn measured(&mut self, now: Time, id: WorkerId, bytes: u64) {
        let Some(worker) = self.workers.get(&id).filter(|worker| !worker.outgoing) else {
            return;
        };
        let over = worker.memory_limit.is_some_and(|limit| bytes >= limit);
        let Some(limit) = self.config.memory_limit.filter(|_| over) else {
            return;
        };
        let slot = worker.slot;
        if let Some(place) = self.slots.get_mut(slot).filter(|place| place.worker == Some(id)) {
            let at = place.wanted.map_or(now, |(_, at)| at);
            place.wanted = Some((Cause::Memory { bytes, limit }, at));
            self.restless = true;
        }
    }

    /// Whoever is too old, or stuck.
    pub(super) fn look_for_the_bad(&mut self, now: Time, out: &mut Vec<Action>) {
        let old: Vec<Slot> = self
            .workers
            .values()
            .filter(|worker| !worker.outgoing && worker.old_at.is_some_and(|at| at <= now))
            .map(|worker| worker.slot)
            .collect();
        for slot in old {
            let Some(place) = self.slots.get_mut(slot) else {
                continue;
            };
            if let Some(worker) = place.worker.and_then(|id| self.workers.get_mut(&id)) {
                worker.old_at = None;
                place.wanted.get_or_insert((Cause::MaxAge, now));
            }
        }
        if let Some(limit) = self.config.stuck_timeout {
            let stuck: Vec<WorkerId> = self.dispatcher.stuck(now, limit).collect();
            for id in stuck {
                self.unhealthy(now, id, Cause::Stuck, &Cause::Stuck.to_string(), out);
            }
        }
    }

    /// When [`look_for_the_bad`](Self::look_for_the_bad) may find somebody.
    pub(super) fn bad_deadline(&self) -> Option<Time> {
        let here = || self.workers.values().filter(|worker| !worker.outgoing);
        let old = here().filter_map(|worker| worker.old_at).min();
        let stuck = self.config.stuck_timeout.and_then(|limit| {
            here()
                .filter(|worker| !worker.retired())
                .filter_map(|worker| Some(self.dispatcher.oldest(worker.id)? + limit))
                .min()
        });
        old.into_iter().chain(stuck).min()
    }

    /// Why a new worker came to nothing, for the receipt.
    pub(super) fn why_it_failed(&self, worker: &Worker) -> String {
        let ended = worker.exit.map_or_else(String::new, |status| status.to_string());
        match worker.reason() {
            ExitReason::ListenTimeout => {
                let limit = worker.ready_limit().unwrap_or_default();
                let last = worker.health.as_ref().and_then(Health::last_failure);
                let probe = last.map_or_else(String::new, |last| format!("; its last probe: {last}"));
                format!("worker {} was not ready within {limit:?}{probe}", worker.id)
            }
            ExitReason::Protocol => format!("worker {} broke the channel's protocol", worker.id),
            _ if worker.ready_since().is_none() => {
                format!("worker {} ended before it was ready, with {ended}", worker.id)
            }
            _ => format!("worker {} ended soon after it was ready, with {ended}", worker.id),
        }
    }
}
