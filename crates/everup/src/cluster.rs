//! The handle of a running cluster.
//!
//! Its parts: `start` (from a spec to an engine), `fork` and `reload` (what may be asked for), `command` (the way to the
//! engine), `events` (what it tells), `until` (ways to the end: with a deadline, or by signals).

mod command;
mod events;
mod fork;
mod reload;
mod start;
mod until;

pub(crate) use command::{Command, Commander, Release, Replacement, Sent};
pub use events::{Events, TimedOut};
pub use fork::{Fork, Stdio};
pub use reload::{Reload, Reloading};
pub use start::{StartError, end_stray, marked_children};
pub use until::RunError;

use crate::confine::Confiner;
use crate::driver::Version;
use crate::event::Outcome;
use crate::handle::WorkerHandle;
use crate::history::{ExitRecord, History};
use crate::limits::LimitsError;
use crate::message::{Handle, InputError, SendError};
use crate::roster::Roster;
use crate::spec::Spec;
use everup_core::app::{Accepted, Status, WorkerStatus};
use everup_core::cause::Cause;
use everup_core::id::{Slot, WorkerId};
use everup_core::reload::Receipt;
use everup_core::worker::State;
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

/// Commands a running cluster. Dropping it kills the workers; call [`stop`](Self::stop) and
/// [`join`](Self::join), or [`shutdown`](Self::shutdown), for a graceful end.
///
/// Methods that ask or send something wait for the engine's answer, some tens of microseconds: the engine itself never
/// waits for anything. Those that wait for an end ([`join`](Self::join), [`shutdown`](Self::shutdown),
/// [`run_until_signal`](Self::run_until_signal)) take as long as it takes: async code waits for
/// [`Event::Stopped`](crate::Event::Stopped) instead, or gives them a thread.
///
/// ```no_run
/// use everup::{Cluster, Event, Reload};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (cluster, mut events) = Cluster::builder().node("app.js").workers(4).start()?;
/// while let Some(event) = events.recv_blocking() {
///     match event {
///         Event::AllReady { .. } => cluster.scale(6),
///         Event::Message { worker, message, .. } if message == "\"work\"" => {
///             // It may have ended meanwhile.
///             cluster.send(worker, &[1, 2, 3]).ok();
///         }
///         Event::Message { message, .. } if message == "\"new version\"" => {
///             let _reloading = cluster.reload(Reload::default());
///         }
///         Event::Exit { worker, pid, status, .. } => println!("{worker} (pid {pid}): {status}"),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    commander: Commander,
    history: Arc<History>,
    roster: Arc<Roster>,
    /// `None` when somebody has seen its end.
    engine: Mutex<Option<JoinHandle<Outcome>>>,
    outcome: OnceLock<Outcome>,
}

/// A [`Status`] that was asked for: [`Cluster::ask_status`].
#[derive(Debug)]
pub struct AskedStatus(Receiver<Status>);

impl AskedStatus {
    /// Waits for it, some tens of microseconds; `None` after the end of the cluster.
    #[must_use]
    pub fn wait(self) -> Option<Status> {
        self.0.recv().ok()
    }
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
    /// Connections that it has open: of those handed over to it, if it tells (a worker of this crate does).
    pub connections: Option<u64>,
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
            connections: worker.connections,
            connected: worker.connected,
            voluntary: worker.voluntary,
        }
    }
}

impl Cluster {
    /// Starts one more worker, in a new slot. It is a process when this returns, or could not be started:
    /// [`WorkerHandle::pid`] tells. `None` when the cluster is ending.
    #[must_use]
    pub fn fork(&self, fork: Fork) -> Option<WorkerHandle> {
        let forked = self.commander.ask(|answer| Command::Fork(fork, answer));
        Some(WorkerHandle::new(self.commander.clone(), forked.flatten()?))
    }

    /// The handle of a worker that has not ended: Node's `cluster.workers[id]`.
    #[must_use]
    pub fn worker(&self, id: WorkerId) -> Option<WorkerHandle> {
        let life = self.roster.find(id)?;
        Some(WorkerHandle::new(self.commander.clone(), life))
    }

    /// The handles of all workers that have not ended, by id: Node's `cluster.workers`.
    #[must_use]
    pub fn handles(&self) -> Vec<WorkerHandle> {
        let handle = |life| WorkerHandle::new(self.commander.clone(), life);
        self.roster.all().into_iter().map(handle).collect()
    }

    fn living(&self, id: WorkerId) -> Result<WorkerHandle, SendError> {
        self.worker(id).ok_or(SendError::Gone)
    }

    /// Sends a message to a worker: [`WorkerHandle::send`] says what that means.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::Gone`] if there is no such worker (any more).
    pub fn send(&self, worker: WorkerId, message: &(impl Serialize + ?Sized)) -> Result<(), SendError> {
        self.living(worker)?.send(message)
    }

    /// The same for a message that is JSON already: one value as text.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn send_json(&self, worker: WorkerId, json: &str) -> Result<(), SendError> {
        self.living(worker)?.send_json(json)
    }

    /// Sends a message and a socket with it: see [`WorkerHandle::send_handle`].
    ///
    /// # Errors
    /// As for [`send`](Self::send); the socket is closed then.
    pub fn send_handle(
        &self,
        worker: WorkerId,
        message: &(impl Serialize + ?Sized),
        handle: impl Into<Handle>,
    ) -> Result<(), SendError> {
        self.living(worker)?.send_handle(message, handle)
    }

    /// Sends a value in V8's wire format: see [`WorkerHandle::send_opaque`].
    ///
    /// # Errors
    /// As there.
    pub fn send_opaque(&self, worker: WorkerId, payload: Vec<u8>) -> Result<(), SendError> {
        self.living(worker)?.send_opaque(payload)
    }

    /// Node's `worker.disconnect()`: see [`WorkerHandle::disconnect`].
    pub fn disconnect(&self, worker: WorkerId) {
        self.commander.send(Command::Disconnect(worker));
    }

    /// Node's `cluster.disconnect()`: every worker disconnects, nobody is started any more, and when all have gone the
    /// cluster ends. Nobody is killed: a worker that keeps a connection open, or has no channel, stays for as long as
    /// it likes. [`stop`](Self::stop) has an end.
    pub fn disconnect_all(&self) {
        self.commander.send(Command::DisconnectAll);
    }

    /// Another worker takes the place of this one, without a gap: it is started first. Nothing happens if the worker is gone
    /// or on its way out.
    pub fn replace(&self, worker: WorkerId, cause: Cause) {
        self.commander.send(Command::Replace(worker, cause));
    }

    /// Writes to a worker's standard input, if that is a pipe of ours ([`Spec::stdin`]): all of it, or nothing.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn input(&self, worker: WorkerId, bytes: Vec<u8>) -> Result<(), InputError> {
        let written = self.commander.ask(|answer| Command::Input(worker, bytes, answer));
        written.unwrap_or(Err(InputError::Gone))
    }

    /// Cuts the channel without a word.
    pub fn cut(&self, worker: WorkerId) {
        self.commander.send(Command::Cut(worker));
    }

    /// Sends a signal to a worker (only the process itself): see [`WorkerHandle::kill`].
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
        let mut status = self.commander.ask(Command::Status)?;
        // Not in the engine's thread: it may take long for large processes.
        for worker in status.workers.iter_mut().filter(|worker| worker.pid > 0) {
            worker.memory = crate::meter::tree(worker.pid);
        }
        Some(status)
    }

    /// Asks for the [`status`](Self::status) without the workers' memory, and waits for it only later: who has many
    /// clusters asks all of them before waiting for the first.
    #[must_use]
    pub fn ask_status(&self) -> AskedStatus {
        AskedStatus(self.commander.asked(Command::Status))
    }

    /// Replaces all workers by a new generation, without losing a connection. See
    /// [`Rollout`](crate::Rollout) for how, and [`Receipt`] for what comes of it. While another reload is under way it waits, together
    /// with all others that do. `None` when the cluster is ending.
    #[must_use]
    pub fn reload(&self, reload: Reload) -> Option<Reloading> {
        let accepted = self
            .commander
            .ask(|answer| Command::Reload(reload, None, answer))?;
        self.accepted(accepted)
    }

    /// The same, and the new generation is what `spec` says: its command, variables, limits and output. How workers are
    /// watched, restarted and stopped is changed for all of them, at once; that stays so if the reload is aborted. Its
    /// policy, channel, sockets, number of workers and spares do not count: these do not change while a cluster runs, or have a
    /// command of their own. `None` when the cluster is ending.
    ///
    /// # Errors
    /// The new workers cannot be given their limits. Nothing was done.
    pub fn reload_to(&self, spec: Spec, reload: Reload) -> Result<Option<Reloading>, LimitsError> {
        let confiner = Confiner::new(&spec.limits, spec.cwd.as_deref(), &spec.program)?;
        let version = Version::of(&spec, confiner);
        let new = Some(Box::new((spec, version)));
        let accepted = self.commander.ask(|answer| Command::Reload(reload, new, answer));
        Ok(accepted.and_then(|accepted| self.accepted(accepted)))
    }

    fn accepted(&self, accepted: Accepted) -> Option<Reloading> {
        let (generation, queued) = match accepted {
            Accepted::Begun { generation } => (generation, false),
            Accepted::Queued { generation } => (generation, true),
            _ => return None,
        };
        Some(Reloading::new(generation, queued, Arc::clone(&self.history)))
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

    /// Runs a [job](crate::Spec::job), unless it still runs ([`Event::Overlap`](crate::Event::Overlap)).
    pub fn launch(&self) {
        self.commander.send(Command::Launch);
    }

    /// A connection that was accepted, and that nobody knows of: one that this cluster serves goes to a worker, unless a
    /// worker has it open. For what a dead engine accepted last ([`adopt`](Self::adopt)).
    pub fn take_in(&self, connection: OwnedFd) {
        self.commander.send(Command::TakeIn(connection));
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
    pub fn join(self) -> Outcome {
        self.ended()
    }

    /// Waits for the end. Whoever comes second waits for the lock.
    fn ended(&self) -> Outcome {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        match engine.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => *self.outcome.get_or_init(|| outcome),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => self.outcome.get().copied().unwrap_or(Outcome::Stopped),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let engine = self.engine.get_mut().unwrap_or_else(PoisonError::into_inner);
        if engine.is_some() {
            self.stop_now();
        }
    }
}
