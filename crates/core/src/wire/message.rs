//! What worker and primary say to each other, as types.

use crate::id::Token;
use serde_json::value::RawValue;

/// How messages are written on the channel (`NODE_CHANNEL_SERIALIZATION_MODE`). The primary chooses.
///
/// Node has these two, and its workers understand no other: closed on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Serialization {
    /// One JSON value and a newline. What Node uses unless told otherwise.
    #[default]
    Json,
    /// A length and V8's structured clone format.
    Advanced,
}

/// The family of an endpoint that a worker asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum AddressType {
    /// TCP over IPv4 (`4`); with no address: dual-stack first, then IPv4.
    Tcp4,
    /// TCP over IPv6 (`6`).
    Tcp6,
    /// A UNIX stream socket (`-1`).
    Unix,
    /// UDP over IPv4 (`"udp4"`).
    Udp4,
    /// UDP over IPv6 (`"udp6"`).
    Udp6,
    /// Not said (`null`): a descriptor of the primary's is meant.
    Descriptor,
}

/// `queryServer`: a worker wants a listening endpoint. It waits until it is answered.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Query {
    /// The worker's sequence number, quoted in the reply. Bun's dialect has it as well.
    pub seq: u64,
    /// The nth open of the same address, port, type and descriptor in this worker.
    pub index: u64,
    /// `None` is the unspecified address; for UNIX sockets the absolute path (for abstract names
    /// `<cwd>/\0name`, as Node sends it).
    pub address: Option<String>,
    /// `None` for UNIX sockets (`-1` on the wire) and descriptors (`null`).
    pub port: Option<u16>,
    /// The family.
    pub address_type: AddressType,
    /// A descriptor number in the primary's table (`-1` on the wire is `None`).
    pub fd: Option<i32>,
    /// TCP: 1 = ipv6Only, 2 = reusePort. UDP: 1 = ipv6Only, 4 = reuseAddr, 8 = reusePort. 0 when absent.
    pub flags: u32,
    /// The asked backlog; `None` when absent, 0 or `false`.
    pub backlog: Option<u32>,
    /// UNIX sockets: readable for all.
    pub readable_all: bool,
    /// UNIX sockets: writable for all.
    pub writable_all: bool,
    /// Opaque to us (TLS ticket keys, so never logged); the first non-null one of an endpoint is given to
    /// every worker.
    pub data: Option<Box<RawValue>>,
}

/// `listening`: a server of the worker's fired its `listening` event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Listening {
    /// As in the query.
    pub address: Option<String>,
    /// The real port; `None` for UNIX sockets.
    pub port: Option<u16>,
    /// The family.
    pub address_type: AddressType,
    /// As in the query.
    pub fd: Option<i32>,
}

/// What a descriptor at user level is, on either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum HandleKind {
    /// `net.Server`: a listening stream socket.
    Server,
    /// `net.Socket`: a connected stream socket.
    Socket,
    /// `dgram.Socket` over IPv4.
    Udp4,
    /// `dgram.Socket` over IPv6.
    Udp6,
    /// `net.Native`: a stream handle with no JavaScript object around it.
    NativeStream,
    /// `dgram.Native`: a datagram handle with no JavaScript object around it.
    NativeDatagram,
}

/// What a shared handle is, for the envelope's type and for Deno's extra fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SharedKind {
    /// A bound TCP socket.
    Tcp,
    /// A bound UNIX stream socket.
    Pipe,
    /// A bound UDP socket.
    Udp,
}

/// The address of a bound socket as `server.address()` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sockname {
    /// In text, without brackets.
    pub address: String,
    /// Whether the family is IPv6.
    pub v6: bool,
    /// The port, in host order.
    pub port: u16,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Reply {
    /// It could not be bound; the app gets an `Error: bind E…`.
    Failed {
        /// A *negative* platform errno; a positive one would crash the worker.
        errno: i32,
        /// The key.
        key: String,
    },
    /// The primary accepts and hands connections over under `key`.
    HandOver {
        /// Unique among the worker's open servers.
        key: String,
        /// The endpoint's `data`.
        data: Option<Box<RawValue>>,
        /// `None` for UNIX sockets. Its port must be the asked one.
        sockname: Option<Sockname>,
    },
    /// The worker listens (or receives) on a socket of its own descriptor table, shared with its siblings.
    Shared {
        /// Unique among the worker's open servers.
        key: String,
        /// The endpoint's `data`.
        data: Option<Box<RawValue>>,
        /// What kind of socket.
        kind: SharedKind,
        /// The socket.
        descriptor: Token,
    },
}

/// What a worker has said. In the order in which it said it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Node booted; the app has not run yet.
    Online,
    /// It is a worker of our own library, and says how many of its connections have ended: [`Closed`](Self::Closed).
    Counts,
    /// So many of the connections handed over to it have ended in all.
    Closed {
        /// Since its start. Not to be trusted: it may be more than it ever had.
        total: u64,
    },
    /// The answer to [`Session::quiet`](super::Session::quiet): it accepts nothing any more, and has what it has.
    Quiet,
    /// It is a worker of our own library, and accepts by itself from the socket of the server under this key: it takes no
    /// connection that is handed over there.
    Direct {
        /// As given in the reply.
        key: String,
    },
    /// It wants an endpoint; answer with [`Session::reply`](super::Session::reply).
    Query(Query),
    /// One of its servers listens.
    Listening(Listening),
    /// It closed the server under this key.
    Close {
        /// As given in the reply.
        key: String,
    },
    /// `exitedAfterDisconnect`: it leaves on purpose. The session has answered.
    Leaving,
    /// The answer to a connection handed over. `accepted: false`: it closed its copy, ours is live.
    Answer {
        /// As given to [`Session::hand_over`](super::Session::hand_over).
        connection: Token,
        /// Whether it took the connection.
        accepted: bool,
    },
    /// `NODE_HANDLE_ACK`: this descriptor is in the worker.
    Delivered(Token),
    /// `NODE_HANDLE_NACK`: this descriptor did not arrive (the worker is out of descriptors). For a
    /// connection no [`Event::Answer`] will follow; for a shared socket answer the query again, later.
    Undelivered(Token),
    /// A message of the app's, as JSON.
    Message(Box<RawValue>),
    /// A message of the app's with a descriptor: the oldest received one not yet claimed. The ACK is queued.
    Handle {
        /// What it is.
        kind: HandleKind,
        /// The app's message, as JSON.
        message: Box<RawValue>,
        /// For a `net.Socket` that came from a server of the worker's: call
        /// [`Session::released`](super::Session::released) with it when our copy is closed.
        key: Option<String>,
    },
    /// A message of the app's that only V8's format can express (`advanced`): the payload of its frame, from
    /// the byte `FF` on. [`Session::send_opaque`](super::Session::send_opaque) sends such a thing.
    Opaque(Vec<u8>),
    /// A descriptor came with something that is not known: the oldest received one not yet claimed is to be
    /// closed. The ACK is queued, or the worker would wait for ever.
    Discard,
}
