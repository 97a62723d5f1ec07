//! The handle of a running cluster, and the stream of its events.

use crate::bind;
use crate::confine::Confiner;
use crate::driver::{Driver, reporter};
use crate::event::{Event, Outcome};
use crate::history::{ExitRecord, History};
use crate::limits::LimitsError;
use crate::output::{Relay, wake};
use crate::spec::{Output, Spec};
use everup_core::app::{Accepted, Status, WorkerStatus};
use everup_core::cause::Cause;
use everup_core::health::{ProbeId, Probed};
use everup_core::id::{Slot, WorkerId};
use everup_core::reload::{Receipt, Rollout};
use everup_core::wire::HandleKind;
use everup_core::worker::State;
use serde_json::value::RawValue;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

/// Commands a running cluster. Dropping it kills the workers; call [`stop`](Self::stop) and
/// [`join`](Self::join) for a graceful end.
#[derive(Debug)]
pub struct Cluster {
    commander: Commander,
    history: Arc<History>,
    engine: Option<JoinHandle<Outcome>>,
}

/// What [`Cluster::fork`] changes for one worker.
#[derive(Debug, Clone, Default)]
pub struct Fork {
    /// Added to (and winning over) the spec's environment.
    pub env: Vec<(OsString, OsString)>,
    /// Instead of the spec's arguments.
    pub args: Option<Vec<OsString>>,
}

/// A worker as it is now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Who.
    pub id: WorkerId,
    /// Its place.
    pub slot: Slot,
    /// Its process id.
    pub pid: u32,
    /// Where it is in its life.
    pub state: State,
    /// Connections handed over and accepted by it since it started.
    pub accepted: u64,
    /// Whether its channel is open.
    pub connected: bool,
    /// Node's `exitedAfterDisconnect`.
    pub voluntary: bool,
}

impl From<WorkerStatus> for WorkerInfo {
    fn from(worker: WorkerStatus) -> Self {
        Self {
            id: worker.id,
            slot: worker.slot,
            pid: worker.pid,
            state: worker.state,
            accepted: worker.accepted,
            connected: worker.connected,
            voluntary: worker.voluntary,
        }
    }
}

/// What [`Cluster::reload`] is to do.
#[derive(Debug, Clone)]
pub struct Reload {
    /// What it is for.
    pub cause: Cause,
    /// Instead of [`Spec::rollout`].
    pub rollout: Option<Rollout>,
    /// Instead of [`Spec::env`], for the new generation and those after it.
    pub env: Option<Vec<(OsString, OsString)>>,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            cause: Cause::Reload,
            rollout: None,
            env: None,
        }
    }
}

/// A reload under way.
#[derive(Debug, Clone)]
pub struct Reloading {
    generation: u32,
    queued: bool,
    history: Arc<History>,
}

impl Reloading {
    /// The new generation's number.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it had to wait for another one.
    #[must_use]
    pub fn queued(&self) -> bool {
        self.queued
    }

    /// Waits until it has replaced all that it will; old workers may still be draining.
    pub fn wait_rolled(&self) {
        self.history.await_rolled(self.generation);
    }

    /// Waits for its receipt, which is there when the old workers have ended (or when the next reload begins).
    /// `None` at the limit, or when the cluster has ended without.
    #[must_use]
    pub fn wait(&self, limit: Option<Duration>) -> Option<Receipt> {
        self.history.await_receipt(self.generation, limit)
    }
}

/// Why a cluster could not be started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A socket of [`Spec::listen`] could not be bound.
    #[error("bind {address}")]
    Bind {
        /// Which.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The workers cannot be given [`Spec::limits`].
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The operating system refused something that every cluster needs.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// What the engine is told to do.
#[derive(Debug)]
pub(crate) enum Command {
    Fork(Fork, SyncSender<Option<WorkerId>>),
    Send(WorkerId, Box<RawValue>),
    SendOpaque(WorkerId, Vec<u8>),
    SendHandle(WorkerId, Box<RawValue>, HandleKind, OwnedFd),
    Released(WorkerId, String),
    Disconnect(WorkerId),
    Cut(WorkerId),
    Kill(WorkerId, i32),
    Stop,
    StopNow,
    Reload(Reload, SyncSender<Accepted>),
    AbortReload,
    Scale(u32),
    Launch,
    Measured(WorkerId, u64),
    Probed(WorkerId, ProbeId, Probed),
    Status(SyncSender<Status>),
}

/// The way to the engine. Commands are few and small, so their queue has no bound.
#[derive(Debug, Clone)]
pub(crate) struct Commander {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Commander {
    pub(crate) fn send(&self, command: Command) {
        // An engine that has ended obeys no more; its events say so.
        self.commands.send(command).ok();
        wake(&self.wake);
    }
}

/// Tells a worker that we have closed our copy of a socket that it sent.
#[derive(Debug)]
pub(crate) struct Release {
    commander: Commander,
    worker: WorkerId,
    key: String,
}

impl Release {
    pub(crate) fn new(commander: Commander, worker: WorkerId, key: String) -> Self {
        Self {
            commander,
            worker,
            key,
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        self.commander
            .send(Command::Released(self.worker, std::mem::take(&mut self.key)));
    }
}

impl Cluster {
    /// Starts the engine and the first workers.
    ///
    /// # Errors
    /// When a socket cannot be bound, limits are not allowed, or the system refuses epoll, a thread or the like. A program that cannot
    /// be started is not an error here: it is reported as events and ends in [`Outcome::Failed`].
    pub fn start(mut spec: Spec) -> Result<(Self, Events), StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let confiner = Confiner::new(&spec.limits, spec.cwd.as_deref(), &spec.program)?;
        let mut passed = Vec::new();
        for asked in &spec.listen {
            let failed = |errno: rustix::io::Errno| StartError::Bind {
                address: asked.address.to_string(),
                source: errno.into(),
            };
            passed.push(bind::for_operator(asked).map_err(failed)?);
        }
        let history = Arc::new(History::new(matches!(spec.output, Output::Lines(_))));
        let relay = match std::mem::replace(&mut spec.output, Output::Inherit) {
            Output::Lines(sink) => {
                spec.output = Output::Lines(Box::new(Elsewhere));
                Some(
                    Relay::start(sink, Arc::clone(&history))
                        .map_err(system("start the thread that reads output"))?,
                )
            }
            other => {
                spec.output = other;
                None
            }
        };
        let waker = crate::sys::spawn::waker().map_err(system("make an event descriptor"))?;
        let wake = waker.try_clone().map_err(system("duplicate a descriptor"))?;
        let (commands, received) = channel();
        let commander = Commander {
            commands,
            wake: Arc::new(wake),
        };
        let (reporter, events, queued) = reporter(commander.clone(), Arc::clone(&history));
        let driver = Driver::new(spec, confiner, passed, relay, received, waker, reporter)
            .map_err(system("set up the engine's descriptors"))?;
        let engine = std::thread::Builder::new()
            .name("everup-engine".into())
            .spawn(move || driver.run());
        let engine = engine.map_err(system("start the engine's thread"))?;
        Ok((
            Self {
                commander,
                history,
                engine: Some(engine),
            },
            Events { events, queued },
        ))
    }

    /// Starts one more worker, in a new slot. `None` when the cluster is ending.
    #[must_use]
    pub fn fork(&self, fork: Fork) -> Option<WorkerId> {
        let (answer, answered) = sync_channel(1);
        self.commander.send(Command::Fork(fork, answer));
        answered.recv().ok().flatten()
    }

    /// Sends a message (one JSON value as text) to a worker's app. False if it is not JSON.
    ///
    /// At most 256 MiB are queued for a worker that does not read; what is more is dropped, with an
    /// [`Event::Error`].
    ///
    /// A message to a Node worker that has not attached a listener yet is lost in the worker, as with Node's
    /// own primary: wait for its first message, or until it listens.
    #[must_use]
    pub fn send(&self, worker: WorkerId, json: &str) -> bool {
        match RawValue::from_string(json.to_owned()) {
            Ok(message) => {
                self.commander.send(Command::Send(worker, message));
                true
            }
            Err(_) => false,
        }
    }

    /// Sends a value in V8's wire format, as [`Event::Opaque`] has it. Only with
    /// [`Serialization::Advanced`](crate::Serialization::Advanced); otherwise nothing is sent.
    pub fn send_opaque(&self, worker: WorkerId, payload: Vec<u8>) {
        self.commander.send(Command::SendOpaque(worker, payload));
    }

    /// The same with a descriptor, which is closed here once it is delivered. It is made non-blocking.
    #[must_use]
    pub fn send_handle(&self, worker: WorkerId, json: &str, kind: HandleKind, descriptor: OwnedFd) -> bool {
        match RawValue::from_string(json.to_owned()) {
            Ok(message) => {
                self.commander
                    .send(Command::SendHandle(worker, message, kind, descriptor));
                true
            }
            Err(_) => false,
        }
    }

    /// Node's `worker.disconnect()`: out of rotation, then its servers close, then its channel. It is not
    /// killed if it stays, and not replaced.
    pub fn disconnect(&self, worker: WorkerId) {
        self.commander.send(Command::Disconnect(worker));
    }

    /// Cuts the channel without a word.
    pub fn cut(&self, worker: WorkerId) {
        self.commander.send(Command::Cut(worker));
    }

    /// Sends a signal to a worker (only the process itself).
    pub fn kill(&self, worker: WorkerId, signal: i32) {
        self.commander.send(Command::Kill(worker, signal));
    }

    /// Stops all workers by the stop plan, then the cluster ends.
    pub fn stop(&self) {
        self.commander.send(Command::Stop);
    }

    /// Kills all workers with their process trees now, then the cluster ends.
    pub fn stop_now(&self) {
        self.commander.send(Command::StopNow);
    }

    /// The workers as they are now, by id; none after the end.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let status = self.status();
        status.map_or_else(Vec::new, |status| {
            status.workers.into_iter().map(WorkerInfo::from).collect()
        })
    }

    /// The cluster as it is now; `None` after the end.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let (answer, answered) = sync_channel(1);
        self.commander.send(Command::Status(answer));
        let mut status = answered.recv().ok()?;
        // Not in the engine's thread: it may take long for large processes.
        for worker in status.workers.iter_mut().filter(|worker| worker.pid > 0) {
            worker.memory = crate::meter::tree(worker.pid);
        }
        Some(status)
    }

    /// Replaces all workers by a new generation, without losing a connection. See
    /// [`Rollout`] for how, and [`Receipt`] for what comes of it. While another reload is under way it waits, together
    /// with all others that do. `None` when the cluster is ending.
    #[must_use]
    pub fn reload(&self, reload: Reload) -> Option<Reloading> {
        let (answer, answered) = sync_channel(1);
        self.commander.send(Command::Reload(reload, answer));
        let (generation, queued) = match answered.recv().ok()? {
            Accepted::Begun { generation } => (generation, false),
            Accepted::Queued { generation } => (generation, true),
            _ => return None,
        };
        Some(Reloading {
            generation,
            queued,
            history: Arc::clone(&self.history),
        })
    }

    /// Calls the reload under way off: new workers that have not taken a place go, and in places that are taken the
    /// old generation is started again. Nothing happens when there is none.
    pub fn abort_reload(&self) {
        self.commander.send(Command::AbortReload);
    }

    /// Another number of workers: new ones are started at once, surplus ones (of the highest places) drain. 0 keeps the
    /// sockets, so that clients wait.
    pub fn scale(&self, workers: u32) {
        self.commander.send(Command::Scale(workers));
    }

    /// Runs a [job](crate::Spec::job), unless it still runs ([`Event::Overlap`]).
    pub fn launch(&self) {
        self.commander.send(Command::Launch);
    }

    /// How workers have ended, the last [`EXITS`](crate::history::EXITS) of them, oldest first. Works after the end,
    /// too.
    #[must_use]
    pub fn exits(&self) -> Vec<ExitRecord> {
        self.history.exits()
    }

    /// What came of reloads, the last [`RECEIPTS`](crate::history::RECEIPTS) of them, oldest first.
    #[must_use]
    pub fn receipts(&self) -> Vec<Receipt> {
        self.history.receipts()
    }

    /// Waits until the cluster has ended, which [`stop`](Self::stop) or a spent restart budget brings about.
    ///
    /// # Panics
    /// If the engine's thread panicked, which is a defect of this crate.
    #[must_use]
    pub fn join(mut self) -> Outcome {
        match self.engine.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Outcome::Stopped,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.engine.is_some() {
            self.stop_now();
        }
    }
}

/// The events of a cluster, in order. Bounded: see [`Event::Skipped`].
#[derive(Debug)]
pub struct Events {
    events: Receiver<Event>,
    /// Bytes of messages in the queue.
    queued: Arc<AtomicUsize>,
}

impl Events {
    /// The next event; `None` after [`Event::Stopped`]. Works in any async runtime; cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        Some(self.taken(event?))
    }

    /// The next event, waiting for it in this thread; `None` after [`Event::Stopped`].
    pub fn recv_blocking(&mut self) -> Option<Event> {
        let event = self.events.blocking_recv();
        Some(self.taken(event?))
    }

    fn taken(&self, event: Event) -> Event {
        self.queued.fetch_sub(event.weight(), Ordering::Relaxed);
        event
    }

    /// The next event if it comes within `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] at the limit.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<Option<Event>, TimedOut> {
        let deadline = Instant::now() + limit;
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut next = pin!(self.recv());
        loop {
            if let Poll::Ready(event) = next.as_mut().poll(&mut context) {
                return Ok(event);
            }
            match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                _ => return Err(TimedOut),
            }
        }
    }
}

/// Nothing happened within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing happened within the limit")]
pub struct TimedOut;

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Stands in the spec for a sink that the output thread has.
#[derive(Debug)]
struct Elsewhere;

impl crate::output::LineSink for Elsewhere {
    fn line(&mut self, _: crate::output::Line<'_>) {}
    fn flush(&mut self) {}
}
