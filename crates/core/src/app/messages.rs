//! Everything that passes between the machine and its driver.

use super::{Notice, Outcome};
use crate::cause::Cause;
use crate::dispatch::{Look, Placement};
use crate::endpoint::{BindRequest, Bound};
use crate::exit::ExitStatus;
use crate::health::{ProbeId, Probed};
use crate::id::{EndpointId, Slot, Token, WorkerId};
use crate::notify::Notification;
use crate::reload::Drained;
use crate::wire::{Event, Reply};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The cluster starts.
    Start,
    /// Time has passed.
    Tick,
    /// [`Action::Spawn`] was done: the process id.
    Spawned {
        /// Who.
        worker: WorkerId,
        /// Its process id.
        pid: u32,
    },
    /// [`Action::Spawn`] failed.
    SpawnFailed {
        /// Who.
        worker: WorkerId,
        /// Why, as a fragment.
        why: String,
    },
    /// A worker said something on its channel.
    Said {
        /// Who.
        worker: WorkerId,
        /// What.
        event: Event,
    },
    /// A worker said something that is no matter of ours.
    Heard {
        /// Who.
        worker: WorkerId,
    },
    /// A worker broke the protocol.
    Garbled {
        /// Who.
        worker: WorkerId,
        /// How, as a fragment.
        what: String,
    },
    /// A worker's channel is closed, and everything it said was read before.
    ChannelClosed {
        /// Whose.
        worker: WorkerId,
    },
    /// A worker's process is gone. Its channel was closed before.
    Exited {
        /// Who.
        worker: WorkerId,
        /// How.
        status: ExitStatus,
    },
    /// What came of [`Action::Bind`]; the error is an errno.
    Bound {
        /// For which endpoint.
        endpoint: EndpointId,
        /// The socket, or why not.
        result: Result<Bound, i32>,
    },
    /// What came of [`Action::BindSlot`]; the error is an errno.
    SlotBound {
        /// For which endpoint.
        endpoint: EndpointId,
        /// For which slot.
        slot: Slot,
        /// The socket, or why not.
        result: Result<Token, i32>,
    },
    /// A connection was accepted.
    Connection {
        /// From which endpoint.
        endpoint: EndpointId,
        /// Its name.
        connection: Token,
        /// Where it came from; `None` for UNIX sockets.
        client: Option<IpAddr>,
    },
    /// What came of [`Placement::Look`].
    Looked {
        /// Who accepted it.
        worker: WorkerId,
        /// Which.
        connection: Token,
        /// What was seen.
        look: Look,
    },
    /// Accepting failed for want of descriptors or memory.
    AcceptFailed {
        /// From which endpoint.
        endpoint: EndpointId,
        /// Why, as a fragment.
        why: String,
    },
    /// An operator: disconnect this worker (Node's meaning: it is not killed, and not replaced).
    Disconnect {
        /// Whom.
        worker: WorkerId,
    },
    /// An operator sends a signal to a worker: if that ends it, it is the operator's doing.
    Signalled {
        /// Whom.
        worker: WorkerId,
        /// Which.
        signal: i32,
    },
    /// An operator: cut this worker's channel.
    Cut {
        /// Whose.
        worker: WorkerId,
    },
    /// A worker failed its liveness probe, or the like: it is replaced.
    Unhealthy {
        /// Who.
        worker: WorkerId,
        /// Why.
        cause: Cause,
    },
    /// What came of [`Action::Probe`].
    Probed {
        /// Whose.
        worker: WorkerId,
        /// Which.
        probe: ProbeId,
        /// What.
        found: Probed,
    },
    /// A worker took a connection that was a probe of ours.
    ProbeTaken {
        /// Who.
        worker: WorkerId,
    },
    /// A worker said something by `sd_notify`, and it was really the worker.
    Notified {
        /// Who.
        worker: WorkerId,
        /// What.
        said: Notification,
    },
    /// How much memory a worker's process tree uses.
    Measured {
        /// Whose.
        worker: WorkerId,
        /// How much, in bytes.
        bytes: u64,
    },
    /// What became of the connections of a worker that left the rotation: once for each [`Action::Hold`], in the end.
    Drained {
        /// Whose.
        worker: WorkerId,
        /// What.
        drained: Drained,
    },
    /// An operator: so many workers.
    Scale {
        /// How many.
        workers: u32,
    },
    /// An operator: the reload is called off.
    AbortReload,
    /// A job is to be run now.
    Launch,
    /// An operator: stop everything by the ladder. What waits in the kernel's queues was accepted just before:
    /// it is still handed over, and the sockets are closed.
    Stop,
    /// An operator: everybody disconnects, and nobody is killed. Then it is over. As for [`Input::Stop`], what waits is
    /// handed over, and the sockets are closed.
    DisconnectAll,
    /// An operator: kill everything now.
    StopNow,
}

/// Something to do.
#[derive(Debug)]
pub enum Action {
    /// Start a worker; report [`Input::Spawned`] or [`Input::SpawnFailed`].
    Spawn {
        /// Who.
        worker: WorkerId,
        /// Its place.
        slot: Slot,
        /// Which version of the app's command and settings it runs.
        generation: u32,
    },
    /// A worker has left the rotation and will be asked to go: from now on, watch what becomes of its connections and
    /// report it by [`Input::Drained`].
    Hold {
        /// Whose.
        worker: WorkerId,
    },
    /// Probe a worker; report [`Input::Probed`].
    Probe {
        /// Whom.
        worker: WorkerId,
        /// The probe's number.
        probe: ProbeId,
        /// How long it may take.
        limit: Duration,
        /// Whether it is the probe for readiness; else that for liveness.
        readiness: bool,
    },
    /// Bind a socket; report [`Input::Bound`].
    Bind {
        /// For which endpoint.
        endpoint: EndpointId,
        /// What.
        request: BindRequest,
    },
    /// Bind one more socket to an endpoint's address, for the workers of one slot; report [`Input::SlotBound`]. The first
    /// slot gets the one that is there.
    BindSlot {
        /// Of which endpoint.
        endpoint: EndpointId,
        /// For whom.
        slot: Slot,
    },
    /// New connections go to these slots' sockets only, and what waits in the queues of the others is accepted here, as
    /// far as there is demand.
    Steer {
        /// Of which endpoint.
        endpoint: EndpointId,
        /// At least one.
        active: BTreeSet<Slot>,
    },
    /// Close an endpoint's sockets.
    Unbind {
        /// Which.
        endpoint: EndpointId,
    },
    /// Answer a query.
    Reply {
        /// Whom.
        worker: WorkerId,
        /// Which query.
        seq: u64,
        /// With what.
        reply: Reply,
    },
    /// Do this with a connection. A [`Placement::Look`] is reported by [`Input::Looked`].
    Place(Placement),
    /// Send `disconnect` on the channel.
    Disconnect {
        /// Whom.
        worker: WorkerId,
    },
    /// Send the message `"shutdown"` on the channel.
    Shutdown {
        /// Whom.
        worker: WorkerId,
    },
    /// Close a worker's channel.
    Cut {
        /// Whose.
        worker: WorkerId,
    },
    /// Send a signal to a worker's process.
    Signal {
        /// Whom.
        worker: WorkerId,
        /// Which.
        signal: i32,
    },
    /// SIGKILL a worker's process and all its descendants.
    Kill {
        /// Whom.
        worker: WorkerId,
    },
    /// Tell the owner of the cluster.
    Notice(Notice),
    /// Nothing follows; release everything.
    Finish(Outcome),
}
