//! What happens in a cluster, as its owner sees it.

use crate::cluster::Release;
use crate::message::Handle;
use everup_core::cause::Cause;
use everup_core::exit::ExitStatus;
use everup_core::id::{Slot, WorkerId};
use everup_core::reload::{Phase, Receipt};
use everup_core::wire::HandleKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub use everup_core::app::{Address, Outcome};
pub use everup_core::restart::Death;
pub use everup_core::worker::{ExitReason, ReadyBasis};

/// Something that happened. For one worker always in the order
/// `Fork → Online → Listening* → Ready → Disconnect → Exit`, where all but `Fork` and `Exit` may be missing.
///
/// What concerns a worker has its id, its place and its process id. When it happened:
/// [`Events::at`](crate::Events::at).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A socket of [`Spec::listen`](crate::Spec::listen) is bound; the workers get it by `LISTEN_FDS`. Before
    /// everything else, in the order of the spec.
    Bound {
        /// As in the spec.
        name: Option<String>,
        /// Where, with the real port.
        address: Address,
    },
    /// A worker process was started.
    Fork {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
        /// Which version of the app's command and settings it runs: 1, and one more with each reload.
        generation: u32,
    },
    /// A worker process could not be started. It counts as an early death.
    SpawnFailed {
        /// Who it would have been.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Why, as the system says it.
        why: String,
    },
    /// Node booted in it; the app has not run yet.
    Online {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
    },
    /// One of its servers listens.
    Listening {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
        /// Where.
        address: Address,
    },
    /// It can serve.
    Ready {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
        /// How we know.
        basis: ReadyBasis,
        /// Since the fork.
        after: Duration,
    },
    /// Every worker that is to be there is ready. Once after the start, and again after each time this was
    /// no longer so.
    AllReady {
        /// How many.
        workers: u32,
    },
    /// Its channel is closed.
    Disconnect {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
    },
    /// Its process is gone.
    Exit {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// Which version of the app's command and settings it ran.
        generation: u32,
        /// Why, as far as we know.
        reason: ExitReason,
        /// Whether we killed it.
        forced: bool,
        /// Whether the kernel killed it for want of memory, as far as its control group tells.
        oom: bool,
        /// Node's `exitedAfterDisconnect`: it left on purpose, by itself or because we asked.
        voluntary: bool,
        /// Since the fork.
        uptime: Duration,
    },
    /// A successor will be started in this slot.
    Respawn {
        /// The place.
        slot: Slot,
        /// How long until then; zero is at once.
        delay: Duration,
        /// What kind of death it follows.
        death: Death,
    },
    /// A worker is being replaced, or removed.
    Replacing {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id; 0 if it is none yet.
        pid: u32,
        /// Why.
        cause: Cause,
    },
    /// A spare took an active worker's place.
    Promoted {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id; 0 if it is none yet.
        pid: u32,
    },
    /// Most of the workers died in the same way within seconds: only one place is filled again, until its worker has
    /// proven itself.
    Storm {
        /// How they died.
        status: ExitStatus,
        /// Which place is filled.
        probe: Slot,
    },
    /// The storm is over.
    Calm,
    /// Another number of workers was asked for.
    Scaled {
        /// So many there were to be.
        from: u32,
        /// So many there are to be.
        to: u32,
    },
    /// A reload has come this far.
    Reloading {
        /// The new generation.
        generation: u32,
        /// What it is for.
        cause: Cause,
        /// How far it is.
        phase: Phase,
        /// Places that are done.
        done: u32,
        /// All places.
        total: u32,
    },
    /// A reload is over.
    Reloaded(Box<Receipt>),
    /// A job was to be run, and still runs.
    Overlap,
    /// A worker has ended, and by the restart policy (or because it is a job) it is not started again.
    Finished {
        /// Its place.
        slot: Slot,
    },
    /// A message of the app's, as JSON text.
    Message {
        /// From whom.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
        /// The JSON.
        message: String,
    },
    /// A message of the app's that JSON cannot express (a `Date`, a circular object): what V8's serializer wrote.
    /// Only with [`Serialization::Advanced`](crate::Serialization::Advanced).
    Opaque {
        /// From whom.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
        /// The value, as V8 has it on the wire.
        payload: Vec<u8>,
    },
    /// A message of the app's with a descriptor, now ours.
    Handle {
        /// From whom.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
        /// What the descriptor is.
        kind: HandleKind,
        /// The JSON.
        message: String,
        /// The descriptor. Dropping it closes our copy.
        descriptor: ReceivedHandle,
    },
    /// A worker asked for an address that could not be bound. The app got the same error.
    BindFailed {
        /// Who asked.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process id.
        pid: u32,
        /// For what, as text.
        address: String,
        /// The platform's error number (positive).
        errno: i32,
    },
    /// Something went wrong that the cluster survives.
    Error {
        /// The worker it concerns, if one.
        worker: Option<WorkerId>,
        /// Its place, if the worker has not ended.
        slot: Option<Slot>,
        /// Its process id, if the worker has not ended.
        pid: Option<u32>,
        /// What went wrong, as a lower-case fragment.
        what: String,
    },
    /// A stop has begun.
    Stopping,
    /// The cluster has ended; nothing follows.
    Stopped {
        /// How.
        outcome: Outcome,
    },
    /// The reader was slower than the bound of the queue: this many events are missing here.
    Skipped {
        /// How many.
        events: u64,
    },
}

/// So that at most 256 descriptors wait for a reader: see the bound of the queue.
const HANDLE_WEIGHT: usize = 1024 * 1024;

impl Event {
    /// Something that is survived; `place` is the worker's, as long as it has one.
    pub(crate) fn error(worker: Option<WorkerId>, place: Option<(Slot, u32)>, what: String) -> Self {
        Self::Error {
            worker,
            slot: place.map(|(slot, _)| slot),
            pid: place.map(|(_, pid)| pid).filter(|pid| *pid > 0),
            what,
        }
    }

    /// How much it holds beside itself: the bytes of a message. A descriptor weighs as much as a large one.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Message { message, .. } => message.len(),
            Self::Handle { message, .. } => message.len() + HANDLE_WEIGHT,
            Self::Opaque { payload, .. } => payload.len(),
            _ => 0,
        }
    }
}

/// A descriptor that a worker sent. The worker is told when it is dropped, where it waits for that.
#[derive(Debug)]
pub struct ReceivedHandle {
    kind: HandleKind,
    descriptor: OwnedFd,
    /// Told after the descriptor is closed: fields are dropped in this order.
    release: Option<Release>,
}

impl ReceivedHandle {
    pub(crate) fn new(kind: HandleKind, descriptor: OwnedFd, release: Option<Release>) -> Self {
        Self {
            kind,
            descriptor,
            release,
        }
    }

    /// Another descriptor for the same thing, which the worker is not told about.
    ///
    /// # Errors
    /// When we are out of descriptors.
    pub fn duplicate(&self) -> std::io::Result<OwnedFd> {
        self.descriptor.try_clone()
    }

    /// The same as a typed socket, another descriptor: keep `self` for as long as the socket is in use, if the worker is
    /// to wait for that ([`awaited`](Self::awaited)).
    ///
    /// # Errors
    /// When we are out of descriptors.
    pub fn open(&self) -> std::io::Result<Handle> {
        Ok(Handle::of(self.kind, self.duplicate()?))
    }

    /// The socket itself. The worker is told at once that we have closed our copy: it waits for nothing.
    #[must_use]
    pub fn into_handle(self) -> Handle {
        Handle::of(self.kind, self.descriptor)
    }

    /// Whether the worker waits until this is dropped (a socket that came from a server of its).
    #[must_use]
    pub fn awaited(&self) -> bool {
        self.release.is_some()
    }
}

impl AsFd for ReceivedHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
