//! Node's cluster channel, spoken as the worker.
//!
//! Job: the whole conversation of a worker with its primary (ours, or Node's own) without IO: turn what the
//! channel brings into [`Said`]s, answer by itself what needs no decision, and say what is to be written next.
//! One [`Child`] per process. Source: Node's `lib/internal/cluster/child.js` and `lib/internal/child_process.js`.
//!
//! Descriptors are treated as [`Session`](super::Session) does it on the other side: the caller keeps those that
//! arrived in a queue, says how many came with the bytes at hand, and takes the oldest for each [`Said`] that
//! is documented to have one.
//!
//! # Servers
//!
//! ```text
//! ask ──▶ Asked ──Answer──▶ Open ──close, drain──▶ gone
//!         │ ▲  └─Failed, Missing─▶ gone             ▲
//!         │ └───asked for again──┐                  │
//!         └─close, drain─▶ Abandoned ──Answer───────┘
//! ```
//! A connection for a server that is gone is refused, so that another worker gets it; a shared socket for one
//! is closed. A question cannot be taken back: its answer is awaited, and then the primary is told that the server
//! is closed. Whoever asks for the same place meanwhile gets that answer, because a primary gives a place to a
//! worker only once (Node's own ends by an assertion when it is asked under the same index again).
//!
//! # Leaving
//!
//! `Staying` → `Asked` (the primary said `disconnect`: servers close, the process ends when its connections have)
//! or `Announced` (we said `exitedAfterDisconnect`) → `LetGo` (and were answered: the channel may be closed).
//!
//! # Invariants
//!
//! - Kept input never exceeds the frame limit, unclaimed descriptors never [`UNCLAIMED`], answers to the
//!   primary's questions not yet written never [`ANSWERS`](super::session::ANSWERS).
//! - Each connection is answered once, accepted or not.
//! - Nothing that the primary says makes it panic.
//!
//! Must not know: sockets, runtimes, what the app does with a connection.

mod encode;
mod hear;

use super::encode::{self as shared, Framing};
use super::frame::Deframer;
use super::message::{HandleKind, Serialization, Sockname};
use super::outbox::{Handle, Outbox};
use super::received::Received;
use super::session::{Settings, Transmit, UNCLAIMED, WireError};
use crate::id::Token;
use crate::wire::AddressType;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A server of this worker's, from the question on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u64);

/// A connection that was handed over and not answered yet: the primary's sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offer(u64);

/// What is asked for: Node's `queryServer`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// `None` is the unspecified address; for UNIX sockets the absolute path.
    pub address: Option<String>,
    /// `None` for UNIX sockets. 0 takes a free one, the same for all workers.
    pub port: Option<u16>,
    /// The family. Never [`AddressType::Descriptor`].
    pub address_type: AddressType,
    /// As in [`Query::flags`](super::Query::flags).
    pub flags: u32,
    /// The length of the kernel's queue; `None` is the primary's default.
    pub backlog: Option<u32>,
}

impl Ask {
    fn place(&self) -> Place {
        (self.address.clone(), self.port, self.address_type)
    }
}

/// The primary's answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It could not be bound.
    Failed {
        /// The platform's error number, positive.
        errno: i32,
    },
    /// The primary accepts and hands over.
    HandOver {
        /// Where it listens; `None` for UNIX sockets.
        sockname: Option<Sockname>,
    },
    /// The socket itself: the oldest received descriptor not yet claimed.
    Shared,
    /// The socket itself, but its descriptor did not arrive: this process is out of descriptors.
    Missing,
}

/// What the primary has said. In the order in which it said it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Said {
    /// The answer to [`Child::ask`].
    Answer {
        /// For which server.
        server: ServerId,
        /// What.
        answer: Answer,
    },
    /// A connection for a server: the oldest received descriptor not yet claimed. To be answered with
    /// [`Child::answer`].
    Connection {
        /// For which server.
        server: ServerId,
        /// To be quoted in the answer.
        offer: Offer,
    },
    /// Accept nothing from sockets any more, and say so ([`Child::quiet`]): what you have now is to be known.
    Quiet,
    /// Close everything and go when your connections have ended. All servers are gone; what they were offered and
    /// have not answered is to be answered.
    Disconnect,
    /// The primary knows that we leave on purpose: the channel may be closed.
    LetGo,
    /// A message for the app, as JSON.
    Message(Box<RawValue>),
    /// A message for the app that only V8's format can express: the payload of its frame.
    Opaque(Vec<u8>),
    /// A message for the app with a descriptor: the oldest received one not yet claimed.
    Handle {
        /// What it is.
        kind: HandleKind,
        /// The app's message, as JSON.
        message: Box<RawValue>,
        /// Where the sender wants to hear of its end: call [`Child::released`] with it when our copy is closed.
        key: Option<String>,
    },
    /// A handle that we sent arrived.
    Delivered(Token),
    /// A handle that we sent did not arrive: the primary is out of descriptors.
    Undelivered(Token),
    /// The oldest received descriptor not yet claimed is to be closed.
    Discard,
}

/// The worker's side of its channel.
#[derive(Debug)]
pub struct Child {
    deframer: Deframer,
    framing: Framing,
    outbox: Outbox,
    broken: bool,
    next_seq: u64,
    next_server: u64,
    servers: BTreeMap<ServerId, Server>,
    /// How often each place was asked for: Node's `index`.
    indexes: BTreeMap<Place, u64>,
    /// Received descriptors whose line is not complete.
    unclaimed: usize,
    received: Received,
    departure: Departure,
}

#[derive(Debug)]
struct Server {
    ask: Ask,
    index: u64,
    state: ServerState,
}

/// What of an [`Ask`] makes it the same for a primary: address, port and family.
type Place = (Option<String>, Option<u16>, AddressType);

#[derive(Debug, PartialEq, Eq)]
enum ServerState {
    /// Under this sequence number.
    Asked(u64),
    /// Closed before this question was answered.
    Abandoned(u64),
    /// Under this key.
    Open(String),
}

impl Server {
    fn is_abandoned(&self) -> bool {
        matches!(self.state, ServerState::Abandoned(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Departure {
    Staying,
    Asked,
    /// Under this sequence number.
    Announced(u64),
    LetGo,
}

impl Child {
    /// A channel on which nothing was said yet.
    #[must_use]
    pub fn new(serialization: Serialization, frame_limit: usize) -> Self {
        Self {
            deframer: Deframer::new(serialization, frame_limit),
            framing: Framing {
                serialization,
                bun: false,
            },
            // Node's own rule: one handle in flight.
            outbox: Outbox::new(1),
            broken: false,
            next_seq: 0,
            next_server: 1,
            servers: BTreeMap::new(),
            indexes: BTreeMap::new(),
            unclaimed: 0,
            received: Received::default(),
            departure: Departure::Staying,
        }
    }

    /// The same with the default [frame limit](Settings::frame_limit).
    #[must_use]
    pub fn with_serialization(serialization: Serialization) -> Self {
        Self::new(serialization, Settings::default().frame_limit)
    }

    /// Takes bytes just read from the channel and the number of descriptors that came with them; what they mean is
    /// appended to `said`, also when an error follows.
    ///
    /// # Errors
    /// The primary does not speak the protocol. The channel is to be closed; later calls fail as well.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        descriptors: usize,
        said: &mut Vec<Said>,
    ) -> Result<(), WireError> {
        if self.broken {
            return Err(WireError::Broken);
        }
        self.unclaimed = self.unclaimed.saturating_add(descriptors);
        let result = self.take(&mut bytes, said);
        self.broken = result.is_err();
        result
    }

    fn take(&mut self, bytes: &mut &[u8], said: &mut Vec<Said>) -> Result<(), WireError> {
        // Apart, because a frame is lent from it while we change.
        let mut deframer =
            std::mem::replace(&mut self.deframer, Deframer::new(self.framing.serialization, 0));
        let mut result = Ok(());
        while result.is_ok() {
            result = match deframer.next(bytes) {
                Ok(Some(frame)) => self.frame(frame, said),
                Ok(None) => break,
                Err(error) => Err(error),
            };
        }
        if result.is_err() {
            deframer.clear();
        }
        self.deframer = deframer;
        result?;
        if self.unclaimed > UNCLAIMED {
            return Err(WireError::TooManyDescriptors);
        }
        Ok(())
    }

    /// What to write next, as [`Session::transmit`](super::Session::transmit).
    #[must_use]
    pub fn transmit(&self) -> Option<Transmit<'_>> {
        self.outbox.transmit()
    }

    /// `n` bytes of the last offer were written, and with the first of them its descriptor.
    pub fn wrote(&mut self, n: usize) {
        self.outbox.wrote(n);
    }

    /// Bytes queued and not yet written.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.outbox.backlog()
    }

    /// Says that the program has started. To be said first, once, by a worker of a cluster.
    pub fn online(&mut self) {
        self.internal(encode::online);
    }

    /// Asks for a listening socket, as often as wanted for the same place; flags and backlog do not count for what
    /// is the same. `None` when this worker is leaving: it gets none any more.
    pub fn ask(&mut self, ask: Ask) -> Option<ServerId> {
        if self.departure != Departure::Staying {
            return None;
        }
        let (index, seq) = self.abandoned(&ask).unwrap_or_else(|| self.query(&ask));
        let server = ServerId(self.next_server);
        self.next_server += 1;
        let state = ServerState::Asked(seq);
        self.servers.insert(server, Server { ask, index, state });
        Some(server)
    }

    fn query(&mut self, ask: &Ask) -> (u64, u64) {
        let next = self.indexes.entry(ask.place()).or_insert(0);
        let index = *next;
        *next += 1;
        let seq = self.internal(|out, seq| encode::query(out, ask, index, seq));
        (index, seq)
    }

    /// Takes over a question for the same place whose server was closed: its index and sequence number.
    fn abandoned(&mut self, ask: &Ask) -> Option<(u64, u64)> {
        let place = ask.place();
        let mut servers = self.servers.iter();
        let (id, index, seq) = servers.find_map(|(&id, server)| match server.state {
            ServerState::Abandoned(seq) if server.ask.place() == place => Some((id, server.index, seq)),
            ServerState::Abandoned(_) | ServerState::Asked(_) | ServerState::Open(_) => None,
        })?;
        self.servers.remove(&id);
        Some((index, seq))
    }

    /// Says that a server listens. `port`: the real one.
    pub fn listening(&mut self, server: ServerId, port: Option<u16>) {
        if let Some(known) = self.servers.get(&server).filter(|server| !server.is_abandoned()) {
            let (mut ask, index) = (known.ask.clone(), known.index);
            ask.port = port.or(ask.port);
            self.internal(|out, seq| encode::listening(out, &ask, index, seq));
        }
    }

    /// Closes a server. What it was offered and has not answered is to be answered.
    pub fn close(&mut self, server: ServerId) {
        let Some(mut known) = self.servers.remove(&server) else {
            return;
        };
        match known.state {
            ServerState::Open(key) => {
                self.forget_place(&known.ask);
                self.say_close(&key);
            }
            ServerState::Asked(seq) | ServerState::Abandoned(seq) => {
                known.state = ServerState::Abandoned(seq);
                self.servers.insert(server, known);
            }
        }
    }

    /// Tells an everup primary that this worker accepts by itself from the socket of a server, and takes nothing there
    /// that is handed over.
    pub fn direct(&mut self, server: ServerId) {
        if let Some(ServerState::Open(key)) = self.servers.get(&server).map(|known| &known.state) {
            let key = key.clone();
            self.internal(|out, seq| encode::direct(out, &key, seq));
        }
    }

    /// Says that nothing is accepted any more.
    pub fn quiet(&mut self) {
        self.internal(encode::quiet);
    }

    fn say_close(&mut self, key: &str) {
        self.internal(|out, seq| encode::close(out, key, seq));
    }

    /// When nobody has the place any more, counting begins anew, as in Node.
    fn forget_place(&mut self, ask: &Ask) {
        let place = ask.place();
        if !self.servers.values().any(|server| server.ask.place() == place) {
            self.indexes.remove(&place);
        }
    }

    /// Closes all servers.
    pub fn close_all(&mut self) {
        let servers: Vec<ServerId> = self.servers.keys().copied().collect();
        servers.into_iter().for_each(|server| self.close(server));
    }

    /// Answers an offered connection. `accepted: false`: our copy is closed, another worker shall have it.
    pub fn answer(&mut self, offer: Offer, accepted: bool) {
        self.internal(|out, seq| encode::answer(out, offer.0, accepted, seq));
    }

    /// Tells an everup primary how many of the connections that it handed over have ended, in all.
    pub fn closed_connections(&mut self, total: u64) {
        self.internal(|out, seq| encode::closed(out, total, seq));
    }

    /// Leaves on purpose: closes all servers, and says so, once. Whether [`Said::LetGo`] will follow: not when it
    /// did already, or the primary asked for it.
    pub fn leave(&mut self) -> bool {
        if self.departure != Departure::Staying {
            return matches!(self.departure, Departure::Announced(_));
        }
        self.close_all();
        let seq = self.internal(encode::leaving);
        self.departure = Departure::Announced(seq);
        true
    }

    /// Node's `exitedAfterDisconnect`.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.departure != Departure::Staying
    }

    /// Sends a message to the primary's app.
    pub fn send(&mut self, message: &RawValue) {
        let framing = self.framing;
        self.outbox
            .push(|out| framing.user(out, |out| shared::user_message(out, message)));
    }

    /// Sends a message and a descriptor to the primary's app.
    pub fn send_handle(&mut self, message: &RawValue, kind: HandleKind, descriptor: Token) {
        let framing = self.framing;
        let handle = Handle {
            descriptor,
            newconn: None,
        };
        self.outbox.push_handle(handle, |out| {
            framing.user(out, |out| shared::user_envelope(out, kind, message));
        });
    }

    /// Our copy of a socket that came with this key is closed.
    pub fn released(&mut self, key: &str) {
        if self.received.closed(key) {
            self.reply(|out| shared::all_closed(out, key));
        }
    }

    /// Queues a message of the protocol's with the next sequence number, which it returns.
    fn internal(&mut self, write: impl FnOnce(&mut Vec<u8>, u64)) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        let framing = self.framing;
        self.outbox
            .push(|out| framing.internal(out, |out| write(out, seq)));
        seq
    }

    /// Refuses a connection without asking anybody; counted as an answer.
    fn refuse(&mut self, offer: Offer) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.reply(|out| encode::answer(out, offer.0, false, seq));
    }

    /// Queues an answer that the primary made us give.
    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let framing = self.framing;
        self.outbox.push_answer(|out| framing.internal(out, write));
    }
}
