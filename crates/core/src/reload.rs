//! One reload: a new generation of workers beside the old one, slot by slot.
//!
//! ```text
//! Canary ──it stayed well──▶ Rolling ──every slot swapped──▶ Draining ──old ones gone──▶ receipt (done)
//!    │ failed                   │ failed
//!    ▼                          ▼ nothing swapped: as from Canary
//! receipt (aborted)         RollingBack ──every swapped slot back, or given up──▶ receipt (rolled back)
//! ```
//!
//! The first slot is the canary: its new worker serves beside the old one for a time. If it dies or fails meanwhile,
//! nothing has been taken away from the old generation. Then slot after slot: the new worker becomes ready, then the
//! old one leaves. When a new worker fails during the roll, the swapped slots get workers of the old generation
//! again; a new worker that serves is never given up for one that does not come up.
//!
//! Job: say what is next, and keep the record. Owner: [`crate::app::App`], which does the moves and reports. Must
//! not know: workers' states, connections, processes.
//!
//! Invariants: never more than `surge` slots have two workers, never more than `max_unavailable` have none because of
//! us; every slot ends swapped, untouched, or rolled back; a move for a slot is answered before the next one for it.

use crate::cause::Cause;
use crate::id::{Slot, WorkerId};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How a reload goes about it.
///
/// ```
/// use everup_core::reload::Rollout;
/// use std::time::Duration;
///
/// let careful = Rollout::default().canary(Duration::from_secs(60));
/// assert_eq!((careful.surge, careful.max_unavailable), (1, 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Rollout {
    /// So many slots may have a new worker beside the old one at the same time. 1 by default.
    pub surge: u32,
    /// So many slots may be without a worker meanwhile. 0 by default; with a surge of 0 it is at least 1.
    pub max_unavailable: u32,
    /// How long the first new worker must stay well until the others follow. 1 s by default.
    pub canary: Duration,
    /// How long a new worker may take until it is ready, where the app has no such limit of its own. 30 s by
    /// default.
    pub ready_limit: Duration,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            surge: 1,
            max_unavailable: 0,
            canary: Duration::from_secs(1),
            ready_limit: Duration::from_secs(30),
        }
    }
}

impl Rollout {
    /// Stop everything, then start everything.
    #[must_use]
    pub fn restart() -> Self {
        Self {
            surge: 0,
            max_unavailable: u32::MAX,
            canary: Duration::ZERO,
            ..Self::default()
        }
    }

    /// So many slots may have a new worker beside the old one at the same time.
    #[must_use]
    pub fn surge(mut self, surge: u32) -> Self {
        self.surge = surge;
        self
    }

    /// So many slots may be without a worker meanwhile; with a surge of 0 it is at least 1.
    #[must_use]
    pub fn max_unavailable(mut self, max_unavailable: u32) -> Self {
        self.max_unavailable = max_unavailable;
        self
    }

    /// How long the first new worker must stay well until the others follow; zero: no canary.
    #[must_use]
    pub fn canary(mut self, canary: Duration) -> Self {
        self.canary = canary;
        self
    }

    /// How long a new worker may take until it is ready, where the app has no such limit of its own.
    #[must_use]
    pub fn ready_limit(mut self, ready_limit: Duration) -> Self {
        self.ready_limit = ready_limit;
        self
    }

    fn gaps(&self) -> u32 {
        if self.surge == 0 {
            self.max_unavailable.max(1)
        } else {
            self.max_unavailable
        }
    }
}

/// How far a reload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Phase {
    /// The first new worker is on its way, or being watched.
    Canary,
    /// The others follow.
    Rolling,
    /// It failed; swapped slots get the old generation again.
    RollingBack,
    /// Every slot is swapped; the old workers finish their connections.
    Draining,
}

impl Phase {
    /// Its stable name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Rolling => "rolling",
            Self::RollingBack => "rolling_back",
            Self::Draining => "draining",
        }
    }
}

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Verdict {
    /// Every slot has a worker of the new generation.
    Done,
    /// It failed or was called off before anything was taken away: the old generation is as it was.
    Aborted,
    /// It failed or was called off in the roll; the old generation was started again.
    RolledBack,
    /// The cluster was stopped meanwhile.
    Stopped,
}

impl Verdict {
    /// Its stable name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Aborted => "aborted",
            Self::RolledBack => "rolled_back",
            Self::Stopped => "stopped",
        }
    }
}

/// One slot's change, for the receipt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The place.
    pub slot: Slot,
    /// Who left; `None` if the place was empty.
    pub old: Option<(WorkerId, u32)>,
    /// Who came, with its process id.
    pub new: (WorkerId, u32),
    /// From its fork until it was ready.
    pub boot: Duration,
    /// From its leaving the rotation until its end; `None` if the old one is still there, or was not.
    pub drain: Option<Duration>,
    /// Whether the old one had to be killed.
    pub forced: bool,
    /// Whether the new one was given up again for one of the old generation.
    pub reverted: bool,
}

/// What became of the connections of a worker that left the rotation.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Drained {
    /// So many went to other workers.
    pub moved: u64,
    /// Requests that clients sent and that nobody will answer.
    pub lost: u64,
    /// Connections that ended with the process when it was killed: whether an answer was under way is not known.
    pub cut: u64,
    /// Why the numbers say nothing, where the connections could not be seen.
    pub unknown: Option<String>,
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// How it ended.
    pub verdict: Verdict,
    /// Why, where it did not go as asked.
    pub reason: Option<String>,
    /// The new generation's number.
    pub generation: u32,
    /// What it was for.
    pub cause: Cause,
    /// What changed, in the order of swapping.
    pub changes: Vec<Change>,
    /// From the request to the receipt.
    pub duration: Duration,
    /// Idle connections that went from an old worker to a new one.
    pub moved: u64,
    /// Requests that clients sent and that nobody will answer; `None` if that could not be seen.
    pub lost: Option<u64>,
    /// Connections that ended with a killed worker: an answer may have been under way.
    pub cut: u64,
    /// Why `lost` is not known.
    pub unknown: Option<String>,
    /// Old workers that have not ended yet.
    pub still_draining: u32,
}

/// What is to be done for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Move {
    /// Start a worker of the new generation beside the old one.
    StartBeside(Slot),
    /// Let the old one go; when it is gone, start one of the new generation.
    StopFirst(Slot),
    /// The new one takes the old one's place, which leaves.
    Swap(Slot),
    /// Let the new one go that has not taken its place.
    BackOut(Slot),
    /// Start a worker of the old generation beside the new one; it takes the place when it is ready.
    Restore(Slot),
    /// Start a worker of the old generation in an emptied slot, without waiting for the end of the one before.
    Refill(Slot),
    /// Tell the owner how far it is.
    Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Step {
    Pending,
    /// Two workers, or none, in the slot.
    Started {
        beside: bool,
    },
    /// The canary is ready, and watched.
    Watched {
        until: Time,
        beside: bool,
    },
    Swapped,
    /// The slot is on its way back.
    Restoring,
    /// Back, or given up.
    Settled,
}

/// See the module's documentation.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Reload {
    generation: u32,
    cause: Cause,
    rollout: Rollout,
    begun: Time,
    phase: Phase,
    steps: BTreeMap<Slot, Step>,
    /// Who leaves because of it, and has not ended.
    leaving: BTreeSet<WorkerId>,
    /// Whose connections are being counted.
    counting: BTreeSet<WorkerId>,
    reason: Option<String>,
    changes: Vec<Change>,
    drained: Drained,
    told: Option<(Phase, u32, u32)>,
    /// A slot was emptied, and not filled with the new generation: the old one is not as it was.
    emptied: bool,
}

impl Reload {
    /// A reload of these slots.
    #[must_use]
    pub fn new(now: Time, generation: u32, cause: Cause, rollout: Rollout, slots: &[Slot]) -> Self {
        Self {
            generation,
            cause,
            rollout,
            begun: now,
            phase: Phase::Canary,
            steps: slots.iter().map(|&slot| (slot, Step::Pending)).collect(),
            leaving: BTreeSet::new(),
            counting: BTreeSet::new(),
            reason: None,
            changes: Vec::new(),
            drained: Drained::default(),
            told: None,
            emptied: false,
        }
    }

    /// The new generation's number.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What it is for.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When it began.
    #[must_use]
    pub fn begun(&self) -> Time {
        self.begun
    }

    /// The progress, if it is another one than the last time.
    pub fn news(&mut self) -> Option<(Phase, u32, u32)> {
        let (done, total) = self.progress();
        let now = Some((self.phase, done, total));
        if self.told == now {
            return None;
        }
        self.told = now;
        now
    }

    /// How long its workers may take until they are ready.
    #[must_use]
    pub fn ready_limit(&self) -> Duration {
        self.rollout.ready_limit
    }

    /// Slots that are done, and all slots.
    #[must_use]
    pub fn progress(&self) -> (u32, u32) {
        let done = self.steps.values().filter(|step| **step == Step::Swapped).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (count(done), count(self.steps.len()))
    }

    /// Which generation a worker has that is started in this slot now, other than by a [`Move`]: the new one as soon
    /// as the canary has stayed well, and in a slot that was emptied for it.
    #[must_use]
    pub fn wants_new(&self, slot: Slot) -> bool {
        let emptied = self.steps.get(&slot) == Some(&Step::Started { beside: false });
        match self.phase {
            Phase::Canary => emptied,
            Phase::Rolling | Phase::Draining => true,
            Phase::RollingBack => false,
        }
    }

    /// Whether this slot is tried first, and not decided yet.
    #[must_use]
    pub fn is_canary(&self, slot: Slot) -> bool {
        let step = self.steps.get(&slot);
        self.phase == Phase::Canary && matches!(step, Some(Step::Started { .. } | Step::Watched { .. }))
    }

    /// Whether a worker of this slot was started for the reload, and has not taken its place.
    #[must_use]
    pub fn has_started(&self, slot: Slot) -> bool {
        matches!(
            self.steps.get(&slot),
            Some(Step::Started { beside: true } | Step::Watched { beside: true, .. } | Step::Restoring)
        )
    }

    /// Whether this slot is, or was, on its way back.
    #[must_use]
    pub fn is_back(&self, slot: Slot) -> bool {
        matches!(self.steps.get(&slot), Some(Step::Restoring | Step::Settled))
    }

    /// A new worker of this slot is ready.
    pub fn ready(&mut self, now: Time, slot: Slot, out: &mut Vec<Move>) {
        let Some(step) = self.steps.get_mut(&slot) else {
            return;
        };
        match (*step, self.phase) {
            (Step::Started { beside }, Phase::Canary) => {
                *step = Step::Watched {
                    until: now + self.rollout.canary,
                    beside,
                };
                out.push(Move::Progress);
            }
            (Step::Started { beside }, Phase::Rolling) => {
                *step = Step::Swapped;
                if beside {
                    out.push(Move::Swap(slot));
                }
                out.push(Move::Progress);
            }
            (Step::Restoring, _) => {
                *step = Step::Settled;
                out.push(Move::Swap(slot));
            }
            _ => {}
        }
        self.next(out);
    }

    /// A new worker of this slot did not become ready, or died, or is not well; or an operator calls it off (`None`).
    pub fn failed(&mut self, slot: Option<Slot>, reason: String, out: &mut Vec<Move>) {
        match self.phase {
            Phase::Draining => return,
            Phase::RollingBack => {
                // The way back failed: what serves stays.
                let step = slot.and_then(|slot| self.steps.get_mut(&slot));
                if let Some(step) = step.filter(|step| **step == Step::Restoring) {
                    *step = Step::Settled;
                }
                return self.next(out);
            }
            Phase::Canary | Phase::Rolling => {}
        }
        self.reason.get_or_insert(reason);
        self.phase = Phase::RollingBack;
        for (&at, step) in &mut self.steps {
            match *step {
                Step::Started { beside: true } | Step::Watched { beside: true, .. } => {
                    *step = Step::Settled;
                    out.push(Move::BackOut(at));
                }
                Step::Watched { beside: false, .. } => *step = Step::Swapped,
                Step::Started { beside: false } => {
                    // Whoever of the new generation is there already is given up by and by.
                    *step = Step::Swapped;
                    self.emptied = true;
                    out.push(Move::Refill(at));
                }
                Step::Pending => *step = Step::Settled,
                Step::Swapped | Step::Restoring | Step::Settled => {}
            }
        }
        out.push(Move::Progress);
        self.next(out);
    }

    /// The worker of this slot is gone while another one was on its way, which has the slot now; or the slot was empty
    /// and is filled. `new`: it is of the new generation.
    pub fn took_over(&mut self, slot: Slot, new: bool, out: &mut Vec<Move>) {
        if let Some(step) = self.steps.get_mut(&slot) {
            match step {
                Step::Pending | Step::Started { .. } if new => *step = Step::Started { beside: false },
                Step::Pending | Step::Started { .. } => {}
                Step::Watched { beside, .. } => *beside = false,
                Step::Restoring => *step = Step::Settled,
                Step::Swapped | Step::Settled => {}
            }
        }
        self.next(out);
    }

    /// A slot is there now that was not, filled as [`wants_new`](Self::wants_new) says.
    pub fn added(&mut self, slot: Slot) {
        match self.phase {
            Phase::Canary => self.steps.insert(slot, Step::Pending),
            Phase::Rolling => self.steps.insert(slot, Step::Started { beside: false }),
            Phase::RollingBack | Phase::Draining => None,
        };
    }

    /// A slot that was to be restored needs nothing: it has, or will have, a worker of the old generation.
    pub fn settled(&mut self, slot: Slot, out: &mut Vec<Move>) {
        if let Some(step) = self.steps.get_mut(&slot) {
            *step = Step::Settled;
        }
        self.next(out);
    }

    /// A slot is gone, and everything in it.
    pub fn removed(&mut self, slot: Slot, out: &mut Vec<Move>) {
        self.steps.remove(&slot);
        self.next(out);
    }

    /// Time has passed, or something changed that makes room.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Move>) {
        let watched = self.steps.iter_mut().find_map(|(&slot, step)| match *step {
            Step::Watched { until, beside } if until <= now => Some((slot, beside, step)),
            _ => None,
        });
        if let (Some((slot, beside, step)), Phase::Canary) = (watched, self.phase) {
            *step = Step::Swapped;
            self.phase = Phase::Rolling;
            if beside {
                out.push(Move::Swap(slot));
            }
            out.push(Move::Progress);
        }
        self.next(out);
    }

    /// When [`tick`](Self::tick) is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.steps
            .values()
            .filter_map(|step| match *step {
                Step::Watched { until, .. } => Some(until),
                _ => None,
            })
            .min()
    }

    /// Whether nothing is left to be done but to wait for the old workers' end.
    #[must_use]
    pub fn rolled(&self) -> bool {
        match self.phase {
            Phase::Draining => true,
            Phase::RollingBack => !self.steps.values().any(|step| *step == Step::Restoring),
            Phase::Canary | Phase::Rolling => false,
        }
    }

    /// Records a swap.
    pub fn changed(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// The change of this slot was taken back.
    pub fn reverted(&mut self, slot: Slot) {
        for change in self.changes.iter_mut().filter(|change| change.slot == slot) {
            change.reverted = true;
        }
    }

    /// A worker leaves because of this reload. `counted`: what becomes of its connections will be told.
    pub fn leaves(&mut self, worker: WorkerId, counted: bool) {
        self.leaving.insert(worker);
        if counted {
            self.counting.insert(worker);
        }
    }

    /// Whether nobody's end and nobody's connections are awaited any more.
    #[must_use]
    pub fn settled_down(&self) -> bool {
        self.leaving.is_empty() && self.counting.is_empty()
    }

    /// How many workers leave because of this, and have not ended.
    #[must_use]
    pub fn leaving(&self) -> u32 {
        u32::try_from(self.leaving.len()).unwrap_or(u32::MAX)
    }

    /// A worker has ended that left because of this.
    pub fn drained(&mut self, worker: WorkerId, took: Duration, forced: bool) {
        self.leaving.remove(&worker);
        let changes = self.changes.iter_mut();
        for change in changes.filter(|change| change.old.is_some_and(|(old, _)| old == worker)) {
            change.drain = Some(took);
            change.forced = forced;
        }
    }

    /// What became of the connections of a worker that left.
    pub fn counted(&mut self, worker: WorkerId, drained: Drained) {
        if self.counting.remove(&worker) {
            self.drained.moved += drained.moved;
            self.drained.lost += drained.lost;
            self.drained.cut += drained.cut;
            self.drained.unknown = self.drained.unknown.take().or(drained.unknown);
        }
    }

    /// The end.
    #[must_use]
    pub fn receipt(mut self, now: Time, stopped: bool) -> Receipt {
        let still_draining = self.leaving();
        let verdict = match self.phase {
            Phase::Draining => Verdict::Done,
            _ if stopped => Verdict::Stopped,
            _ if self.changes.is_empty() && !self.emptied => Verdict::Aborted,
            _ => Verdict::RolledBack,
        };
        if verdict == Verdict::Stopped {
            self.reason
                .get_or_insert_with(|| "the cluster was stopped".into());
        }
        let early = || "old workers are still draining".to_owned();
        let counting = !self.counting.is_empty() || still_draining > 0;
        let unknown = self.drained.unknown.or_else(|| counting.then(early));
        Receipt {
            verdict,
            reason: self.reason,
            generation: self.generation,
            cause: self.cause,
            changes: self.changes,
            duration: now.since(self.begun),
            moved: self.drained.moved,
            lost: unknown.is_none().then_some(self.drained.lost),
            cut: self.drained.cut,
            unknown,
            still_draining,
        }
    }

    /// Starts what may be started.
    fn next(&mut self, out: &mut Vec<Move>) {
        match self.phase {
            Phase::Canary => {
                let busy = |step: &Step| matches!(step, Step::Started { .. } | Step::Watched { .. });
                if self.steps.is_empty() {
                    self.phase = Phase::Draining;
                    out.push(Move::Progress);
                } else if self.rollout.canary.is_zero() {
                    self.phase = Phase::Rolling;
                    self.next(out);
                } else if !self.steps.values().any(busy) {
                    self.begin(1, out);
                }
            }
            Phase::Rolling => {
                let all = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
                self.begin(all, out);
                if self.steps.values().all(|step| *step == Step::Swapped) {
                    self.phase = Phase::Draining;
                    out.push(Move::Progress);
                }
            }
            Phase::RollingBack => {
                let most = self.rollout.surge.max(1) as usize;
                let busy = self
                    .steps
                    .values()
                    .filter(|step| **step == Step::Restoring)
                    .count();
                let next = self
                    .steps
                    .iter_mut()
                    .filter(|(_, step)| **step == Step::Swapped)
                    .take(most.saturating_sub(busy));
                for (&slot, step) in next {
                    *step = Step::Restoring;
                    out.push(Move::Restore(slot));
                }
            }
            Phase::Draining => {}
        }
    }

    fn begin(&mut self, mut most: u32, out: &mut Vec<Move>) {
        let started = |beside: bool| {
            let now = |step: &&Step| **step == Step::Started { beside };
            u32::try_from(self.steps.values().filter(now).count()).unwrap_or(u32::MAX)
        };
        let mut beside = self.rollout.surge.saturating_sub(started(true));
        let mut gaps = self.rollout.gaps().saturating_sub(started(false));
        for (&slot, step) in &mut self.steps {
            if most == 0 || *step != Step::Pending {
                continue;
            }
            if beside > 0 {
                beside -= 1;
                *step = Step::Started { beside: true };
                out.push(Move::StartBeside(slot));
            } else if gaps > 0 {
                gaps -= 1;
                *step = Step::Started { beside: false };
                out.push(Move::StopFirst(slot));
            } else {
                return;
            }
            most -= 1;
        }
    }
}
