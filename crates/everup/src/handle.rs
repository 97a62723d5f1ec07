//! The handle of one worker.

use crate::cluster::{Command, Commander, Sent, WorkerInfo};
use crate::message::{self, Handle, SendError};
use crate::roster::Life;
use everup_core::exit::ExitStatus;
use everup_core::id::{Slot, WorkerId};
use everup_core::worker::State;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// One worker of a running cluster: Node's `cluster.workers[id]`.
///
/// Cheap to clone, and good for as long as you keep it: of a worker that has ended it still knows how. From
/// [`Cluster::fork`](crate::Cluster::fork), [`Cluster::worker`](crate::Cluster::worker) and
/// [`Cluster::handles`](crate::Cluster::handles).
///
/// Methods that ask the engine or send something wait for its answer, some tens of microseconds: the engine itself
/// never waits for anything. They may be called in async code.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use everup::{Cluster, Fork};
///
/// let (cluster, _events) = Cluster::builder().node("worker.js").workers(0).start()?;
/// let worker = cluster.fork(Fork::default()).ok_or("the cluster is ending")?;
/// println!("worker {} runs as process {:?}", worker.id(), worker.pid());
/// worker.send(&("job", 42))?;
/// worker.disconnect();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    commander: Commander,
    life: Arc<Life>,
}

impl WorkerHandle {
    pub(crate) fn new(commander: Commander, life: Arc<Life>) -> Self {
        Self { commander, life }
    }

    /// Who it is. Node's `worker.id`; never used again in this cluster.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.life.id
    }

    /// Its place, from 0 on: what its `NODE_APP_INSTANCE` says. A successor has the same.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.life.slot
    }

    /// Which version of the app's command and settings it runs: 1, and one more with each reload.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.life.generation
    }

    /// Its process id, also after its end, when the number may be another process's. `None` if it could not be
    /// started.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.life.pid()
    }

    /// All there is to know of it now; `None` when it has ended.
    #[must_use]
    pub fn info(&self) -> Option<WorkerInfo> {
        let ask = |answer| Command::Look(self.id(), answer);
        self.commander.ask(ask).flatten().map(WorkerInfo::from)
    }

    /// Where it is in its life; `None` when it has ended.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.info().map(|info| info.state)
    }

    /// Node's `worker.isConnected()`: whether its channel is open. Never, without one.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.info().is_some_and(|info| info.connected)
    }

    /// Node's `worker.isDead()`: whether its process has ended, or could not be started. True before
    /// [`Event::Exit`](crate::Event::Exit) can be read.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.life.end().is_some()
    }

    /// How its process ended; `None` while it lives.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.life.end().map(|end| end.status)
    }

    /// Node's `worker.exitedAfterDisconnect`: whether it leaves, or has left, on purpose, by itself or because it was
    /// asked. False while it serves.
    #[must_use]
    pub fn exited_after_disconnect(&self) -> bool {
        let now = || self.info().map(|info| info.voluntary);
        // It may end between the two questions.
        let end = || self.life.end().map(|end| end.voluntary);
        end().or_else(now).or_else(end).unwrap_or(false)
    }

    /// Sends a message to its app: Node's `worker.send(value)`.
    ///
    /// A worker that dies before it has read a message loses it, without a word. So does a Node worker that has not
    /// attached a listener for messages yet, as with Node's own primary: wait for its first message, or until it
    /// listens.
    ///
    /// # Errors
    /// [`SendError`]; nothing of the message was sent then. At most 256 MiB are queued for a worker that does not
    /// read.
    pub fn send(&self, message: &(impl Serialize + ?Sized)) -> Result<(), SendError> {
        self.post(message::json(message)?)
    }

    /// The same for a message that is JSON already: one value as text.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn send_json(&self, json: &str) -> Result<(), SendError> {
        self.post(message::text(json)?)
    }

    fn post(&self, message: Box<RawValue>) -> Result<(), SendError> {
        self.told(|answer| Command::Send(self.id(), message, answer))
    }

    /// Sends a message and a socket with it: Node's `worker.send(value, handle)`. The socket is made non-blocking, and
    /// closed here once it is delivered; to keep it, send a clone.
    ///
    /// # Errors
    /// [`SendError`]; the socket is closed then. At most 1024 sockets are under way to one worker. One that is
    /// lost later (a worker without free descriptors refuses it again and again) is told by
    /// [`Event::Error`](crate::Event::Error).
    pub fn send_handle(
        &self,
        message: &(impl Serialize + ?Sized),
        handle: impl Into<Handle>,
    ) -> Result<(), SendError> {
        let message = message::json(message)?;
        let (kind, descriptor) = handle.into().prepare()?;
        self.told(|answer| Command::SendHandle(self.id(), message, kind, descriptor, answer))
    }

    /// Sends a value in V8's wire format, as [`Event::Opaque`](crate::Event::Opaque) has it.
    ///
    /// # Errors
    /// [`SendError::WrongFormat`] without [`Serialization::Advanced`](crate::Serialization::Advanced), or if it is
    /// no such value; else as for [`send`](Self::send).
    pub fn send_opaque(&self, payload: Vec<u8>) -> Result<(), SendError> {
        message::checked_size(payload.len())?;
        self.told(|answer| Command::SendOpaque(self.id(), payload, answer))
    }

    fn told(&self, command: impl FnOnce(Sent) -> Command) -> Result<(), SendError> {
        self.commander.ask(command).unwrap_or(Err(SendError::Gone))
    }

    /// Node's `worker.disconnect()`: out of rotation, then its servers close, then its channel. It is not killed if it
    /// stays, and not replaced. Of one that has ended, nothing.
    pub fn disconnect(&self) {
        self.commander.send(Command::Disconnect(self.id()));
    }

    /// Cuts the channel without a word.
    pub fn cut(&self) {
        self.commander.send(Command::Cut(self.id()));
    }

    /// Sends a signal to it (only to the process itself). One that ends it does not keep it from being replaced:
    /// [`disconnect`](Self::disconnect) does. What fails is told by [`Event::Error`](crate::Event::Error); to one that
    /// has ended nothing is sent.
    pub fn kill(&self, signal: i32) {
        self.commander.send(Command::Kill(self.id(), signal));
    }
}
