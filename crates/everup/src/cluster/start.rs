//! Starting a cluster.

use super::{Cluster, Commander, Events};
use crate::bind;
use crate::confine::Confiner;
use crate::conflict::{self, Conflict};
use crate::driver::{Driver, reporter};
use crate::estate::{Heirloom, Keeping};
use crate::event::Outcome;
use crate::history::History;
use crate::limits::LimitsError;
use crate::output::{Line, LineSink, Relay};
use crate::roster::Roster;
use crate::spec::{Output, Spec};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};

/// Why a cluster could not be started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The spec contradicts itself.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A socket of [`Spec::listen`] could not be bound.
    #[error("bind {address}")]
    Bind {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The workers cannot be given [`Spec::limits`].
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// Another cluster of this process has [`Spec::init`]: two would take each other's orphans.
    #[error("another cluster of this process reaps orphans already")]
    SecondInit,
    /// This process is a worker, and the workers would be this same program: each would start workers without end.
    /// Ask [`Worker::from_env`](crate::Worker::from_env) first (who is a worker by that may have a cluster of its own),
    /// or name another program.
    #[error("this process is a worker, and its workers would be the same program")]
    IsWorker,
    /// Where this process's own program is cannot be found out. [`Builder::program`](crate::Builder::program) names
    /// one.
    #[error("find out which program this is")]
    OwnProgram(#[source] io::Error),
    /// The operating system refused something that every cluster needs.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Set while a cluster of this process reaps orphans. It is the process that has this property, not the cluster.
static REAPER: AtomicBool = AtomicBool::new(false);

/// The right to reap the orphans of this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reaper(());

impl Reaper {
    fn take() -> Result<Self, StartError> {
        match REAPER.swap(true, Ordering::AcqRel) {
            false => Ok(Self(())),
            true => Err(StartError::SecondInit),
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        REAPER.store(false, Ordering::Release);
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

impl Cluster {
    /// Starts the engine and the first workers. [`Cluster::builder`] is the short way to a spec.
    ///
    /// # Errors
    /// When the spec contradicts itself, a socket cannot be bound, limits are not allowed, or the system refuses
    /// epoll, a thread or the like. A program that cannot be started is not an error here: it is reported as events
    /// and ends in [`Outcome::Failed`].
    pub fn start(spec: Spec) -> Result<(Self, Events), StartError> {
        Self::start_by(spec, None)
    }

    /// The same for a cluster that outlives this process: its workers are not killed when it ends, and a successor that
    /// has the same descriptors goes on ([`adopt`](Self::adopt)).
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_kept(spec: Spec, keeping: Keeping) -> Result<(Self, Events), StartError> {
        Self::start_by(spec, Some(keeping))
    }

    fn start_by(spec: Spec, keeping: Option<Keeping>) -> Result<(Self, Events), StartError> {
        conflict::check(&spec)?;
        let reaper = spec.init.then(Reaper::take).transpose()?;
        let confiner = Confiner::new(&spec.limits, spec.cwd.as_deref(), &spec.program)?;
        let passed = bind_all(&spec)?;
        Self::engine(spec, confiner, passed, keeping, move |driver| {
            // Given back when nothing of this cluster is left to be reaped.
            let _reaper = reaper;
            driver.run()
        })
    }

    /// Goes on with a cluster whose process is dead. Its events begin with what happens from now on; who is there,
    /// [`status`](Self::status) tells. `strays` are processes with the mark of a worker ([`marked_children`]), of any
    /// cluster: those of this one that nobody knows of are ended.
    ///
    /// # Errors
    /// When the system refuses epoll, a thread or the like. The descriptors are closed then, and workers that are there
    /// get no connections any more.
    pub fn adopt(
        mut left: Heirloom,
        output: Output,
        keeping: Keeping,
        strays: Arc<Vec<(u32, String)>>,
    ) -> Result<(Self, Events), StartError> {
        let mut spec = left.take_spec();
        spec.output = output;
        let confiner = Confiner::again(&spec.limits, spec.cwd.as_deref(), &spec.program)?;
        Self::engine(spec, confiner, Vec::new(), Some(keeping), move |driver| {
            driver.run_on(left, &strays)
        })
    }

    fn engine(
        mut spec: Spec,
        confiner: Confiner,
        passed: Vec<bind::BoundSocket>,
        keeping: Option<Keeping>,
        run: impl FnOnce(Driver) -> Outcome + Send + 'static,
    ) -> Result<(Self, Events), StartError> {
        let history = Arc::new(History::new(matches!(spec.output, Output::Lines(_))));
        let relay = relay(&mut spec, &history)?;
        let waker = crate::sys::spawn::waker().map_err(system("make an event descriptor"))?;
        let wake = waker.try_clone().map_err(system("duplicate a descriptor"))?;
        let (commands, received) = channel();
        let commander = Commander::new(commands, wake);
        let roster = Arc::new(Roster::default());
        let (reporter, events) = reporter(commander.clone(), Arc::clone(&history), Arc::clone(&roster));
        let driver = Driver::new(spec, confiner, passed, relay, received, waker, reporter, keeping)
            .map_err(system("set up the engine's descriptors"))?;
        let engine = std::thread::Builder::new()
            .name("everup-engine".into())
            .spawn(move || run(driver));
        let cluster = Self {
            commander,
            history,
            roster,
            engine: Mutex::new(Some(engine.map_err(system("start the engine's thread"))?)),
            outcome: OnceLock::new(),
        };
        Ok((cluster, events))
    }
}

/// Processes that have the mark of a worker of some cluster, among the children of a process (`self`, or a pid).
#[must_use]
pub fn marked_children(of: &str) -> Vec<(u32, String)> {
    crate::process::marks(of)
}

/// Kills a process with the mark of a worker, and all that it has started.
pub fn end_stray(pid: u32, mark: &str) {
    crate::process::end_stray(pid, mark);
}

fn bind_all(spec: &Spec) -> Result<Vec<bind::BoundSocket>, StartError> {
    let bound = spec.listen.iter().map(|asked| {
        bind::for_operator(asked).map_err(|errno| StartError::Bind {
            address: asked.address.to_string(),
            source: errno.into(),
        })
    });
    bound.collect()
}

/// The thread that reads the workers' output, where we do.
fn relay(spec: &mut Spec, history: &Arc<History>) -> Result<Option<Relay>, StartError> {
    match std::mem::replace(&mut spec.output, Output::Inherit) {
        Output::Lines(sink) => {
            spec.output = Output::Lines(Box::new(Elsewhere));
            let relay = Relay::start(sink, Arc::clone(history));
            relay
                .map(Some)
                .map_err(system("start the thread that reads output"))
        }
        other => {
            spec.output = other;
            Ok(None)
        }
    }
}

/// Stands in the spec for a sink that the output thread has.
#[derive(Debug)]
struct Elsewhere;

impl LineSink for Elsewhere {
    fn line(&mut self, _: Line<'_>) {}
    fn flush(&mut self) {}
}
