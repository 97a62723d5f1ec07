//! What the engine is told to do, and the way to it.

use super::{Fork, Reload};
use crate::driver::Version;
use crate::message::{InputError, SendError};
use crate::output::wake;
use crate::roster::Life;
use crate::spec::Spec;
use everup_core::app::{Accepted, Status, WorkerStatus};
use everup_core::cause::Cause;
use everup_core::health::{ProbeId, Probed};
use everup_core::id::WorkerId;
use everup_core::wire::HandleKind;
use serde_json::value::RawValue;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};

/// Where the answer to something that is sent goes.
pub(crate) type Sent = SyncSender<Result<(), SendError>>;

/// What a reload changes: for the cluster, and for the new generation.
pub(crate) type Replacement = (Spec, Version);

/// What the engine is told to do.
#[derive(Debug)]
pub(crate) enum Command {
    Fork(Fork, SyncSender<Option<Arc<Life>>>),
    Send(WorkerId, Box<RawValue>, Sent),
    SendOpaque(WorkerId, Vec<u8>, Sent),
    SendHandle(WorkerId, Box<RawValue>, HandleKind, OwnedFd, Sent),
    Released(WorkerId, String),
    Disconnect(WorkerId),
    DisconnectAll,
    Input(WorkerId, Vec<u8>, SyncSender<Result<(), InputError>>),
    Replace(WorkerId, Cause),
    Cut(WorkerId),
    Kill(WorkerId, i32),
    Stop,
    StopNow,
    Reload(Reload, Option<Box<Replacement>>, SyncSender<Accepted>),
    AbortReload,
    Scale(u32),
    Launch,
    TakeIn(OwnedFd),
    Measured(WorkerId, u64),
    Probed(WorkerId, ProbeId, Probed),
    Look(WorkerId, SyncSender<Option<WorkerStatus>>),
    Status(SyncSender<Status>),
}

/// The way to the engine. Commands are few and small, so their queue has no bound.
#[derive(Debug, Clone)]
pub(crate) struct Commander {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Commander {
    pub(super) fn new(commands: Sender<Command>, waker: OwnedFd) -> Self {
        Self {
            commands,
            wake: Arc::new(waker),
        }
    }

    pub(crate) fn send(&self, command: Command) {
        // An engine that has ended obeys no more; its events say so.
        self.commands.send(command).ok();
        wake(&self.wake);
    }

    /// Asks, and leaves the waiting for later.
    pub(crate) fn asked<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Receiver<T> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.send(command(answer));
        answered
    }

    /// Waits for an answer; `None` when there is no engine any more.
    pub(crate) fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Option<T> {
        self.asked(command).recv().ok()
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
