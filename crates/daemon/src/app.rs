//! One app: what is wanted of it, what runs, and whose turn it is to change that.
//!
//! Operations on one app come one after the other: whoever has the [`Turn`] may change what runs. A stop hurries the one
//! before it: what only waits gives up, and says so. Everything else here is under one lock that is never held over a
//! wait. The events of the app's cluster are folded into [`Kept`] by the task that follows them ([`crate::follow`]).
//!
//! Invariants: `run` is there exactly as long as the cluster's last event has not been seen; an app that is `gone` is in
//! no list, and whoever comes to its turn later is told so.

use crate::launcher::{Facts, Firing};
use crate::record::Record;
use everup::{Cluster, Outcome};
use everup_api::v1::{App as Shown, AppState};
use everup_api::{AppSpec, Error, ErrorCode, Exit, Receipt};
use everup_keeper::Memory;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Instant, timeout_at};

/// Variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// So many exits of clusters that are gone are remembered.
const EXITS: usize = 100;
/// The same of answers to actions.
pub(crate) const REPLIES: usize = 256;
/// The same of receipts.
const RECEIPTS: usize = 20;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) name: String,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How often somebody was in a hurry.
    hurries: watch::Sender<u64>,
    news: watch::Sender<u64>,
    kept: Mutex<Kept>,
    /// Where a successor finds what is known.
    memory: Mutex<Option<Memory>>,
}

/// What is known of an app.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) spec: AppSpec,
    pub(crate) inherited: Arc<Variables>,
    pub(crate) origin: Option<PathBuf>,
    /// Whether it is meant to run.
    pub(crate) wanted: bool,
    pub(crate) created_at: u64,
    pub(crate) facts: Facts,
    /// How many workers it is to have.
    pub(crate) target: u32,
    pub(crate) job: bool,
    pub(crate) record: Record,
    pub(crate) run: Option<Run>,
    /// How the last cluster ended.
    pub(crate) end: Option<Outcome>,
    /// Why it does not run although it was to.
    pub(crate) because: Option<String>,
    pub(crate) phase: Phase,
    /// What is done to it, for those who wait.
    pub(crate) doing: &'static str,
    pub(crate) gone: bool,
    pub(crate) exits: VecDeque<Exit>,
    pub(crate) receipts: VecDeque<Receipt>,
    /// How many receipts there were in all: those of an earlier cluster have the same generations.
    pub(crate) reloads: u64,
    /// Answers to actions, the last few.
    pub(crate) replies: VecDeque<Reply>,
}

/// A worker's answer to an action of pm2's protocol.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) worker: u32,
    pub(crate) action: String,
    pub(crate) value: serde_json::Value,
}

impl Reply {
    pub(crate) fn is(&self, action: &str, worker: u32) -> bool {
        self.action == action && self.worker == worker
    }
}

/// What is being done beyond what the cluster shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    #[default]
    Idle,
    /// It waits for apps that it depends on.
    Waiting,
    Starting,
    Stopping,
}

/// A cluster at work.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) firing: Option<Box<dyn Firing>>,
    /// As it was when this was started.
    pub(crate) spec: AppSpec,
}

/// The right to change what runs.
#[derive(Debug)]
pub(crate) struct Turn {
    app: Arc<App>,
    /// Hurries at the time of asking.
    hurries: u64,
    _turn: OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut kept = self.app.kept();
        kept.doing = "";
        kept.phase = Phase::Idle;
    }
}

/// A request for the turn: made before anything is waited for, so that a stop that comes later counts.
#[derive(Debug)]
pub(crate) struct Claim {
    app: Arc<App>,
    hurries: u64,
}

impl App {
    pub(crate) fn new(name: String, spec: AppSpec, inherited: Arc<Variables>) -> Arc<Self> {
        Arc::new(Self {
            name,
            turn: Arc::default(),
            hurries: watch::Sender::new(0),
            news: watch::Sender::new(0),
            kept: Mutex::new(Kept {
                spec,
                inherited,
                origin: None,
                wanted: false,
                created_at: crate::view::now(),
                facts: Facts::default(),
                target: 0,
                job: false,
                record: Record::default(),
                run: None,
                end: None,
                because: None,
                phase: Phase::Idle,
                doing: "",
                gone: false,
                exits: VecDeque::new(),
                receipts: VecDeque::new(),
                reloads: 0,
                replies: VecDeque::new(),
            }),
            memory: Mutex::default(),
        })
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has changed: those who wait look again.
    pub(crate) fn changed(&self) {
        self.remember();
        self.news.send_modify(|news| *news = news.wrapping_add(1));
    }

    /// From now on what is known of it is written there, too.
    pub(crate) fn keep_in(&self, memory: Memory) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory);
        self.remember();
    }

    /// Whether it is.
    pub(crate) fn is_kept(&self) -> bool {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    fn remember(&self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = &mut *memory {
            let kept = self.kept();
            if kept.gone {
                // Nobody shall find it.
                return memory.snapshot(&[]).unwrap_or_default();
            }
            let blob = serde_json::to_vec(&crate::adopt::Remembered::of(&kept));
            drop(kept);
            // Without memory there is nothing to be done: the successor knows what was known before.
            blob.ok().and_then(|blob| memory.snapshot(&blob).ok());
        }
    }

    /// Asks for the turn.
    pub(crate) fn claim(self: &Arc<Self>) -> Claim {
        Claim {
            app: Arc::clone(self),
            hurries: *self.hurries.borrow(),
        }
    }

    /// Those who have the turn, or wait for it, give up what can be given up; asks for the turn.
    pub(crate) fn hurry(self: &Arc<Self>) -> Claim {
        self.hurries.send_modify(|hurries| *hurries += 1);
        self.claim()
    }

    /// Waits until `test` gives something.
    pub(crate) async fn until<T>(&self, mut test: impl FnMut(&Kept) -> Option<T>) -> T {
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            let found = test(&self.kept());
            if let Some(found) = found {
                return found;
            }
            // The sender is ours.
            news.changed().await.ok();
        }
    }

    fn busy(&self) -> Error {
        let doing = self.kept().doing;
        let doing = if doing.is_empty() { "busy" } else { doing };
        let what = format!("nothing was done: `{}` was still {doing}", self.name);
        Error::new(ErrorCode::Timeout, what)
            .with_hint("`everup list` shows how it goes; `everup stop` ends it")
    }
}

impl Claim {
    /// Waits for the turn.
    pub(crate) async fn turn(self, doing: &'static str, deadline: Instant) -> Result<Turn, Error> {
        let lock = Arc::clone(&self.app.turn).lock_owned();
        let turn = timeout_at(deadline, lock).await.map_err(|_| self.app.busy())?;
        if self.app.kept().gone {
            return Err(gone(&self.app.name));
        }
        self.app.kept().doing = doing;
        Ok(Turn {
            app: self.app,
            hurries: self.hurries,
            _turn: turn,
        })
    }
}

impl Turn {
    pub(crate) fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// An error if somebody was in a hurry since this was asked for.
    pub(crate) fn still(&self) -> Result<(), Error> {
        match *self.app.hurries.borrow() == self.hurries {
            true => Ok(()),
            false => Err(overtaken(&self.app.name)),
        }
    }

    /// Waits until `test` gives something, unless somebody is in a hurry.
    pub(crate) async fn until<T>(&self, test: impl FnMut(&Kept) -> Option<T>) -> Result<T, Error> {
        let mut hurries = self.app.hurries.subscribe();
        tokio::select! {
            biased;
            found = self.app.until(test) => Ok(found),
            _ = hurries.wait_for(|hurries| *hurries != self.hurries) => Err(overtaken(&self.app.name)),
        }
    }
}

fn gone(name: &str) -> Error {
    Error::new(ErrorCode::UnknownApp, format!("`{name}` was deleted meanwhile"))
}

fn overtaken(name: &str) -> Error {
    Error::new(ErrorCode::Conflict, format!("`{name}` was stopped meanwhile"))
        .with_hint("somebody said stop, restart or delete")
}

impl Kept {
    /// What it does.
    pub(crate) fn state(&self) -> AppState {
        match (self.phase, &self.run) {
            (Phase::Waiting, _) => AppState::Waiting,
            (Phase::Stopping, Some(_)) => AppState::Stopping,
            (_, Some(_)) if self.job && self.record.lives.is_empty() => AppState::Scheduled,
            (_, Some(_)) if self.record.lives.is_empty() && !self.record.waiting.is_empty() => {
                AppState::Backoff
            }
            (_, Some(_)) => AppState::Running,
            (Phase::Starting, None) => AppState::Running,
            (_, None) => match self.end {
                Some(Outcome::Failed { .. }) => AppState::Failed,
                _ if self.because.is_some() => AppState::Failed,
                _ => AppState::Stopped,
            },
        }
    }

    /// The cluster, if it runs.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.run.as_ref().map(|run| Arc::clone(&run.cluster))
    }

    /// The cluster is over: what it remembers goes over to us.
    pub(crate) fn ended(&mut self, outcome: Outcome) -> Option<Run> {
        self.note_exits();
        let run = self.run.take()?;
        self.end = Some(outcome);
        Some(run)
    }

    /// How workers ended is kept here, too: it outlives the cluster, and this process.
    pub(crate) fn note_exits(&mut self) {
        let Some(run) = &self.run else { return };
        for exit in run.cluster.exits().iter().map(crate::view::exit) {
            let same =
                |known: &&mut Exit| (known.pid, known.worker, &known.at) == (exit.pid, exit.worker, &exit.at);
            match self.exits.iter_mut().rev().find(same) {
                // What followed is known by now.
                Some(known) => *known = exit,
                None => self.exits.push_back(exit),
            }
        }
        let surplus = self.exits.len().saturating_sub(EXITS);
        self.exits.drain(..surplus);
    }

    /// A reload is over.
    pub(crate) fn reloaded(&mut self, receipt: Receipt) {
        if self.receipts.len() == RECEIPTS {
            self.receipts.pop_front();
        }
        self.reloads += 1;
        self.receipts.push_back(receipt);
    }

    /// How its state is named to people.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.state() {
            AppState::Running => "running",
            AppState::Backoff => "waiting for its next restart",
            AppState::Stopping => "stopping",
            AppState::Stopped => "stopped",
            AppState::Failed => "failed",
            AppState::Scheduled => "waiting for its time",
            AppState::Waiting => "waiting for an app that it depends on",
            _ => "in another state",
        }
    }
}

/// As the API shows apps.
pub(crate) type Listed = Shown;
