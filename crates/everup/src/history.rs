//! What has happened: how workers ended and what followed, and the receipts of reloads. For `why`.
//!
//! Owner: the engine writes, [`Cluster`](crate::Cluster) reads. Bounded by [`EXITS`], [`RECEIPTS`] and, per worker,
//! [`TAIL`] lines of at most [`TAIL_LINE`] bytes. Invariant: an exit is recorded before its event can be read.

use crate::event::{Event, ExitReason};
use everup_core::exit::ExitStatus;
use everup_core::id::{Slot, WorkerId};
use everup_core::reload::{Phase, Receipt};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// So many exits are remembered.
pub const EXITS: usize = 100;
/// So many receipts are remembered.
pub const RECEIPTS: usize = 20;
/// So many last lines of each worker's output are remembered.
pub const TAIL: usize = 20;
/// What is longer is cut.
pub const TAIL_LINE: usize = 2048;

/// How a worker ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExitRecord {
    /// Who.
    pub worker: WorkerId,
    /// Its place.
    pub slot: Slot,
    /// Its process id.
    pub pid: u32,
    /// Which version of the app's command and settings it ran.
    pub generation: u32,
    /// When.
    pub at: SystemTime,
    /// Since its fork.
    pub uptime: Duration,
    /// How.
    pub status: ExitStatus,
    /// Why, as far as we know.
    pub reason: ExitReason,
    /// Whether we killed it.
    pub forced: bool,
    /// Whether the kernel killed it for want of memory, as far as its control group tells.
    pub oom: bool,
    /// What followed.
    pub sequel: Sequel,
    /// The last lines that it wrote to standard output and error, oldest first; `None` where we do not read them.
    pub last_lines: Option<Vec<Vec<u8>>>,
}

/// What followed the end of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sequel {
    /// Nobody took its place.
    None,
    /// Another one had its place already, or took it over.
    TakenOver,
    /// Another one was started after this delay (zero: at once).
    Restarted {
        /// How long after.
        delay: Duration,
    },
    /// The app had failed.
    Failed,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct History {
    kept: Mutex<Kept>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    exits: VecDeque<ExitRecord>,
    receipts: VecDeque<Receipt>,
    tails: BTreeMap<WorkerId, VecDeque<Vec<u8>>>,
    /// Whether the workers' lines come to us.
    lines: bool,
    ended: bool,
    /// The last generation whose reload has done all it will but for the draining.
    rolled: u32,
}

impl History {
    pub(crate) fn new(lines: bool) -> Self {
        let history = Self::default();
        history.lock().lines = lines;
        history
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub(crate) fn note(&self, event: &Event) {
        let mut kept = self.lock();
        match event {
            Event::Exit {
                worker,
                slot,
                pid,
                generation,
                status,
                reason,
                forced,
                oom,
                uptime,
                ..
            } => kept.exited(ExitRecord {
                worker: *worker,
                slot: *slot,
                pid: *pid,
                generation: *generation,
                at: SystemTime::now(),
                uptime: *uptime,
                status: *status,
                reason: *reason,
                forced: *forced,
                oom: *oom,
                sequel: match reason {
                    ExitReason::Replaced(cause) if *cause != everup_core::cause::Cause::Scale => {
                        Sequel::TakenOver
                    }
                    _ => Sequel::None,
                },
                last_lines: None,
            }),
            Event::Respawn { slot, delay, .. } => kept.followed(*slot, Sequel::Restarted { delay: *delay }),
            Event::Reloading {
                generation,
                phase: Phase::Draining,
                ..
            } => {
                kept.rolled = *generation;
                self.news.notify_all();
            }
            Event::Reloaded(receipt) => {
                kept.rolled = receipt.generation;
                kept.receipts.push_back((**receipt).clone());
                if kept.receipts.len() > RECEIPTS {
                    kept.receipts.pop_front();
                }
                self.news.notify_all();
            }
            _ => {}
        }
    }

    /// The cluster has ended.
    pub(crate) fn end(&self, failed: bool) {
        let mut kept = self.lock();
        kept.ended = true;
        if let Some(last) = kept.exits.back_mut().filter(|_| failed) {
            last.sequel = Sequel::Failed;
        }
        self.news.notify_all();
    }

    /// A worker wrote a line.
    pub(crate) fn line(&self, worker: WorkerId, text: &[u8]) {
        let mut kept = self.lock();
        let tail = kept.tails.entry(worker).or_default();
        let mut line = if tail.len() >= TAIL {
            tail.pop_front()
        } else {
            None
        }
        .unwrap_or_default();
        line.clear();
        line.extend_from_slice(&text[..text.len().min(TAIL_LINE)]);
        tail.push_back(line);
    }

    pub(crate) fn exits(&self) -> Vec<ExitRecord> {
        let kept = self.lock();
        let with_lines = |record: &ExitRecord| ExitRecord {
            last_lines: kept.lines.then(|| {
                let tail = kept.tails.get(&record.worker);
                tail.map(|tail| tail.iter().cloned().collect())
                    .unwrap_or_default()
            }),
            ..record.clone()
        };
        kept.exits.iter().map(with_lines).collect()
    }

    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        self.lock().receipts.iter().cloned().collect()
    }

    /// Waits for the receipt of this generation's reload; `None` at the limit, or when the cluster ended without.
    pub(crate) fn await_receipt(&self, generation: u32, limit: Option<Duration>) -> Option<Receipt> {
        let find = |kept: &Kept| {
            let mut receipts = kept.receipts.iter();
            receipts.find(|receipt| receipt.generation == generation).cloned()
        };
        self.await_news(limit, find)
    }

    /// Waits until a reload has replaced all it will; its old workers may still be draining.
    pub(crate) fn await_rolled(&self, generation: u32) {
        self.await_news(None, |kept| (kept.rolled >= generation).then_some(()));
    }

    /// Waits until the cluster has ended; false at the limit.
    pub(crate) fn await_end(&self, limit: Duration) -> bool {
        let ended = |kept: &Kept| kept.ended.then_some(());
        self.await_news(Some(limit), ended).is_some()
    }

    fn await_news<T>(&self, limit: Option<Duration>, look: impl Fn(&Kept) -> Option<T>) -> Option<T> {
        // One that cannot be expressed never comes.
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut kept = self.lock();
        loop {
            let found = look(&kept);
            if found.is_some() || kept.ended {
                return found;
            }
            let left = match end {
                None => Duration::from_secs(3600),
                Some(end) => end
                    .checked_duration_since(Instant::now())
                    .filter(|left| !left.is_zero())?,
            };
            kept = self
                .news
                .wait_timeout(kept, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Kept {
    fn exited(&mut self, record: ExitRecord) {
        self.exits.push_back(record);
        let oldest = (self.exits.len() > EXITS)
            .then(|| self.exits.pop_front())
            .flatten();
        if let Some(oldest) = oldest {
            self.tails.remove(&oldest.worker);
        }
    }

    /// What was decided after the last death in this slot.
    fn followed(&mut self, slot: Slot, sequel: Sequel) {
        let last = self.exits.iter_mut().rev().find(|record| record.slot == slot);
        if let Some(last) = last.filter(|last| last.sequel == Sequel::None) {
            last.sequel = sequel;
        }
    }
}
