//! Reloads: doing what [`crate::reload`] says, one at a time, and telling it what came of it.
//!
//! A reload that is asked for while another one is under way waits for it; all that are asked for meanwhile are one,
//! which begins afterwards. A stop ends the reload with a receipt that says so.

use super::{Action, App, Notice, Phase};
use crate::cause::Cause;
use crate::id::{Slot, WorkerId};
use crate::reload::{Change, Drained, Move, Reload, Rollout, Verdict};
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// What becomes of a request to reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accepted {
    /// It has begun. Its receipt names this generation.
    Begun {
        /// The new generation's number.
        generation: u32,
    },
    /// It begins when the one under way is over, together with all others that wait.
    Queued {
        /// The new generation's number.
        generation: u32,
    },
    /// The cluster is ending.
    Refused,
}

/// A reload that waits for another one.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) struct Queued {
    generation: u32,
    cause: Cause,
    rollout: Rollout,
}

impl App {
    /// An operator or a trigger asks for a reload. `rollout` instead of the configured one.
    pub fn reload(
        &mut self,
        now: Time,
        cause: Cause,
        rollout: Option<Rollout>,
        out: &mut Vec<Action>,
    ) -> Accepted {
        if self.phase != Phase::Running {
            return Accepted::Refused;
        }
        let rollout = rollout.unwrap_or(self.config.rollout);
        let generation = match self.queued {
            Some(queued) => queued.generation,
            None => {
                self.next_generation += 1;
                self.next_generation - 1
            }
        };
        self.queued = Some(Queued {
            generation,
            cause,
            rollout,
        });
        self.advance(now, out);
        if self.queued.is_some() {
            Accepted::Queued { generation }
        } else {
            Accepted::Begun { generation }
        }
    }

    fn begin_queued(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(queued) = self.queued.take_if(|_| self.reload.is_none()) else {
            return;
        };
        // A job runs at its times only: what is reloaded is what the next run will be.
        let slots = if self.config.job {
            Vec::new()
        } else {
            self.slots.all()
        };
        self.reload = Some(Reload::new(
            now,
            queued.generation,
            queued.cause,
            queued.rollout,
            &slots,
        ));
        if self.storm.probe().is_some() {
            // Somebody has put in what may be the remedy.
            self.calm(now, out);
        }
        self.tell_progress(out);
        self.roll(now, out, |reload, moves| reload.tick(now, moves));
    }

    /// An operator calls the reload off.
    pub(super) fn call_off(&mut self, now: Time, out: &mut Vec<Action>) {
        self.fail_reload(now, None, "called off by an operator".into(), out);
    }

    pub(super) fn fail_reload(&mut self, now: Time, slot: Option<Slot>, why: String, out: &mut Vec<Action>) {
        self.roll(now, out, |reload, moves| reload.failed(slot, why, moves));
    }

    /// Whether a worker of this generation in this slot is one of the new ones of the reload under way, whose failure
    /// is the reload's failure.
    pub(super) fn in_reload(&self, slot: Slot, generation: u32) -> bool {
        self.reload.as_ref().is_some_and(|reload| {
            !reload.rolled() && reload.generation() == generation && reload.wants_new(slot)
                || reload.is_canary(slot) && reload.generation() == generation
        })
    }

    /// Whether the successor in this slot is the reload's.
    pub(super) fn reload_has(&self, slot: Slot) -> bool {
        self.reload
            .as_ref()
            .is_some_and(|reload| reload.has_started(slot))
    }

    /// Feeds the reload and does its moves.
    pub(super) fn roll(
        &mut self,
        now: Time,
        out: &mut Vec<Action>,
        feed: impl FnOnce(&mut Reload, &mut Vec<Move>),
    ) {
        let Some(reload) = self.reload.as_mut() else {
            return;
        };
        let mut moves = Vec::new();
        feed(reload, &mut moves);
        let mut moves = VecDeque::from(moves);
        while let Some(next) = moves.pop_front() {
            let mut more = Vec::new();
            self.make(now, next, &mut more, out);
            moves.extend(more);
        }
        self.restless = true;
    }

    fn make(&mut self, now: Time, next: Move, more: &mut Vec<Move>, out: &mut Vec<Action>) {
        let Some(reload) = self.reload.as_mut() else {
            return;
        };
        let (new, cause) = (reload.generation(), reload.cause());
        match next {
            Move::StartBeside(slot) => {
                self.drop_successor(now, slot, cause, out);
                let Some(reload) = self.reload.as_mut() else {
                    return;
                };
                if self.slots.get(slot).is_some_and(|place| place.worker.is_none()) {
                    reload.took_over(slot, true, more);
                    self.spawn(now, slot, out);
                } else {
                    self.start_successor(now, slot, new, out);
                }
            }
            Move::StopFirst(slot) => {
                self.drop_successor(now, slot, cause, out);
                self.stop_first(now, slot, cause, out);
            }
            Move::Swap(slot) => self.swap_for_reload(now, slot, out),
            Move::BackOut(slot) => self.drop_successor(now, slot, Cause::Rollback, out),
            Move::Restore(slot) => {
                self.drop_successor(now, slot, Cause::Rollback, out);
                let Some(reload) = self.reload.as_mut() else {
                    return;
                };
                let holder = self.slots.get(slot).and_then(|place| place.worker);
                let new_one = holder
                    .and_then(|id| self.workers.get(&id))
                    .is_some_and(|worker| worker.generation == new && !worker.retired());
                if new_one {
                    self.start_successor(now, slot, self.generation, out);
                } else {
                    reload.settled(slot, more);
                }
            }
            Move::Refill(slot) => {
                let waits = |place: &mut super::slots::Place| std::mem::take(&mut place.waits);
                if self.slots.get_mut(slot).is_some_and(waits) {
                    self.spawn_if_running(now, slot, out);
                }
            }
            Move::Progress => self.tell_progress(out),
        }
    }

    fn tell_progress(&mut self, out: &mut Vec<Action>) {
        let Some(reload) = &mut self.reload else { return };
        let Some((phase, done, total)) = reload.news() else {
            return;
        };
        out.push(Action::Notice(Notice::Reloading {
            generation: reload.generation(),
            cause: reload.cause(),
            phase,
            done,
            total,
        }));
    }

    /// A successor that has not taken the place goes again.
    fn drop_successor(&mut self, now: Time, slot: Slot, cause: Cause, out: &mut Vec<Action>) {
        let taken = self.slots.get_mut(slot).and_then(|place| place.successor.take());
        if let Some(id) = taken {
            self.retire(now, id, cause, out);
            self.leaves_for_reload(id);
        }
    }

    fn stop_first(&mut self, now: Time, slot: Slot, cause: Cause, out: &mut Vec<Action>) {
        let Some(place) = self.slots.get_mut(slot) else {
            return;
        };
        let Some(old) = place.worker.take() else {
            return self.spawn_if_running(now, slot, out);
        };
        place.left = Some((old, self.workers.get(&old).map_or(0, |worker| worker.pid)));
        place.waits = true;
        place.wanted = None;
        self.retire(now, old, cause, out);
        self.leaves_for_reload(old);
        self.rebalance(now, out);
    }

    fn spawn_if_running(&mut self, now: Time, slot: Slot, out: &mut Vec<Action>) {
        if self.phase == Phase::Running {
            self.spawn(now, slot, out);
        }
    }

    fn leaves_for_reload(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if let Some(reload) = self.reload.as_mut() {
            reload.leaves(id, worker.held);
        }
    }

    fn swap_for_reload(&mut self, now: Time, slot: Slot, out: &mut Vec<Action>) {
        let Some(place) = self.slots.get(slot) else { return };
        let (old, new) = (place.worker, place.successor);
        let Some(reload) = self.reload.as_mut() else {
            return;
        };
        let back = reload.is_back(slot);
        let cause = if back { Cause::Rollback } else { reload.cause() };
        self.swap(now, slot, cause, out);
        if let Some(old) = old {
            self.leaves_for_reload(old);
        }
        let Some(new) = new.and_then(|id| self.workers.get(&id)) else {
            return;
        };
        let boot = new
            .ready_since()
            .map_or(Duration::ZERO, |at| at.since(new.forked));
        let new = new.id;
        if back {
            if let Some(reload) = self.reload.as_mut() {
                reload.reverted(slot);
            }
        } else {
            self.record_change(slot, new, boot);
        }
    }

    pub(super) fn record_change(&mut self, slot: Slot, new: WorkerId, boot: Duration) {
        let pid = self.workers.get(&new).map_or(0, |worker| worker.pid);
        let old = self.slots.get(slot).and_then(|place| place.left);
        if let Some(reload) = self.reload.as_mut() {
            reload.changed(Change {
                slot,
                old,
                new: (new, pid),
                boot,
                drain: None,
                forced: false,
                reverted: false,
            });
        }
    }

    /// The successor has the slot now, because the worker that had it is gone.
    pub(super) fn took_over(&mut self, now: Time, slot: Slot, out: &mut Vec<Action>) {
        let holder = self.slots.get(slot).and_then(|place| place.worker);
        let generation = holder
            .and_then(|id| self.workers.get(&id))
            .map(|worker| worker.generation);
        self.roll(now, out, |reload, moves| {
            reload.took_over(slot, generation == Some(reload.generation()), moves);
        });
        if let Some(place) = self.slots.get_mut(slot) {
            place.wanted = None;
        }
    }

    /// What became of a leaving worker's connections.
    pub(super) fn counted(&mut self, worker: WorkerId, drained: Drained) {
        if let Some(reload) = self.reload.as_mut() {
            reload.counted(worker, drained);
        }
        self.restless = true;
    }

    /// Whatever may go on, goes on.
    pub(super) fn advance(&mut self, now: Time, out: &mut Vec<Action>) {
        loop {
            self.roll(now, out, |reload, moves| reload.tick(now, moves));
            self.finish_reload(now, out);
            if self.reload.is_some() || self.queued.is_none() {
                break;
            }
            self.begin_queued(now, out);
        }
        self.begin_wanted(now, out);
        self.restless = false;
    }

    /// Tells the receipt when nothing more is to come, or the next reload is waiting.
    fn finish_reload(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(reload) = self.reload.as_ref().filter(|reload| reload.rolled()) else {
            return;
        };
        if reload.phase() == crate::reload::Phase::Draining {
            self.generation = reload.generation();
        }
        if reload.settled_down() || self.queued.is_some() {
            self.tell_receipt(now, false, out);
        }
    }

    pub(super) fn tell_receipt(&mut self, now: Time, stopped: bool, out: &mut Vec<Action>) {
        if let Some(reload) = self.reload.take() {
            let receipt = reload.receipt(now, stopped);
            debug_assert!(stopped || receipt.verdict != Verdict::Stopped);
            out.push(Action::Notice(Notice::Reloaded(Box::new(receipt))));
        }
    }
}
