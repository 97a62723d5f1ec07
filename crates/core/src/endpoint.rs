//! The endpoints that workers listen on: who asked for which, and what they are told.
//!
//! Job: answer `queryServer`. Workers that ask for the same address share one socket; one worker that asks twice
//! for the same address gets a socket of its own (or the error that belongs to that). Owner: [`crate::app::App`].
//!
//! ```text
//! asked ──▶ binding ──ok──▶ open ──last holder closed it──▶ idle ──LINGER, ABANDONED──▶ gone
//!              └─error──▶ gone │   ──everybody ready, ──────▶  │
//!                              │     nobody holds it           │
//!                              └◀────────asked again───────────┘
//! ```
//!
//! Invariants: a key is unique for ever; an endpoint whose holders *died* stays open while successors are on their
//! way (clients wait in its queue); only one that living workers closed, or that no successor wants, goes away.
//!
//! Under [`Policy::ReusePort`] an endpoint has a socket for each slot (`SlotSockets`), which its workers inherit from one
//! another; none is closed before the endpoint is.
//!
//! Identity rule: `address:port:type:fd`, and the index only when the port is 0, as in Node since its pull request
//! 60141.

mod sockets;

use crate::id::{EndpointId, Slot, Token, WorkerId};
use crate::schedule::Policy;
use crate::time::Time;
use crate::wire::{AddressType, Query, Reply, SharedKind, Sockname};
use serde_json::value::RawValue;
use sockets::{Asked, SlotSockets};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a socket is kept that its last holder closed, while it lives on and holds another.
pub const LINGER: Duration = Duration::from_millis(500);

/// How long a socket is kept whose last holder has closed everything it held: that is how leaving begins
/// (`cluster.worker.disconnect()`), and the worker says so only when its connections have ended.
pub const DRAIN_LINGER: Duration = Duration::from_secs(30);

/// How long a socket is kept whose holders died, once every worker is ready again and none has asked for it.
pub const ABANDONED: Duration = Duration::from_secs(10);

/// What is to be bound.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BindRequest {
    /// `None` is the unspecified address; a path for UNIX sockets.
    pub address: Option<String>,
    /// The port; `None` for UNIX sockets and descriptors.
    pub port: Option<u16>,
    /// The family.
    pub address_type: AddressType,
    /// A descriptor of the primary's, instead of all that.
    pub fd: Option<i32>,
    /// As in [`Query::flags`].
    pub flags: u32,
    /// As in [`Query::backlog`].
    pub backlog: Option<u32>,
    /// UNIX sockets: readable for all.
    pub readable_all: bool,
    /// UNIX sockets: writable for all.
    pub writable_all: bool,
    /// Who accepts from it.
    pub sharing: Sharing,
}

/// Who accepts from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Sharing {
    /// We do, and hand connections over.
    HandOver,
    /// All workers, from this one.
    Shared,
    /// The workers of each slot, from one of their own, bound to the same address.
    PerSlot,
}

/// A socket that was bound.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bound {
    /// The descriptor.
    pub descriptor: Token,
    /// What it is.
    pub kind: SharedKind,
    /// Its address; `None` for UNIX sockets.
    pub sockname: Option<Sockname>,
}

/// What follows from an input.
#[derive(Debug)]
pub enum Effect {
    /// Bind this, and tell [`Endpoints::bound`].
    Bind {
        /// For which endpoint.
        endpoint: EndpointId,
        /// What.
        request: BindRequest,
    },
    /// Bind one more socket to the address of this endpoint, and tell [`Endpoints::slot_bound`].
    BindSlot {
        /// For which endpoint.
        endpoint: EndpointId,
        /// For which slot.
        slot: Slot,
    },
    /// Answer a worker's query.
    Reply {
        /// Whom.
        worker: WorkerId,
        /// Which query of its.
        seq: u64,
        /// With what.
        reply: Reply,
    },
    /// It can take connections of this endpoint from now on.
    Join {
        /// Who.
        worker: WorkerId,
        /// Where.
        endpoint: EndpointId,
    },
    /// It can no longer.
    Leave {
        /// Who.
        worker: WorkerId,
        /// Where.
        endpoint: EndpointId,
    },
    /// Close the socket.
    Unbind {
        /// Which.
        endpoint: EndpointId,
    },
    /// The app asked for something that could not be bound, and was told.
    Failed {
        /// Who asked.
        worker: WorkerId,
        /// For what, as text.
        address: String,
        /// The error number, negative.
        errno: i32,
    },
}

/// All endpoints of one primary.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Endpoints {
    policy: Policy,
    next: u32,
    all: BTreeMap<EndpointId, Endpoint>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Endpoint {
    request: BindRequest,
    index: u64,
    /// A second socket for the same address in one worker: found by nobody else.
    private: bool,
    data: Option<Box<RawValue>>,
    state: State,
    sockets: SlotSockets,
    holders: BTreeSet<WorkerId>,
    idle: Option<Idle>,
}

/// An open endpoint that nobody holds, and that is not waited for.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Idle {
    until: Time,
    /// Who closed it; `None` if its holders died.
    closed_by: Option<WorkerId>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum State {
    Binding { waiting: Vec<Asker> },
    Open(Bound),
}

/// Who asks for an endpoint.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Asker {
    worker: WorkerId,
    slot: Slot,
    /// Its query's number.
    seq: u64,
}

impl Endpoints {
    /// No endpoints yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            next: 1,
            all: BTreeMap::new(),
        }
    }

    /// A worker asks for an endpoint.
    pub fn asked(&mut self, worker: WorkerId, slot: Slot, query: Query, out: &mut Vec<Effect>) {
        let seq = query.seq;
        let asker = Asker { worker, slot, seq };
        let (request, index, data) = self.request(query);
        if request.address_type == AddressType::Descriptor && request.fd.is_none() {
            return self.refuse_junk(worker, seq, &request, out);
        }
        let held = self
            .find(&request, index)
            .filter(|id| self.all.get(id).is_some_and(|endpoint| endpoint.holds(worker)));
        let known = if held.is_some() {
            None
        } else {
            self.find(&request, index)
        };
        let id = known.unwrap_or_else(|| self.add(request, index, held.is_some(), out));
        let Some(endpoint) = self.all.get_mut(&id) else {
            return;
        };
        if endpoint.data.is_none() {
            endpoint.data = data;
        }
        match &mut endpoint.state {
            State::Binding { waiting } => waiting.push(asker),
            State::Open(_) => endpoint.admit(id, asker, out),
        }
    }

    /// What came of [`Effect::Bind`]. The error is an errno of either sign.
    pub fn bound(&mut self, id: EndpointId, result: Result<Bound, i32>, out: &mut Vec<Effect>) {
        let Some(endpoint) = self.all.get_mut(&id) else {
            return;
        };
        let State::Binding { waiting } = &mut endpoint.state else {
            return;
        };
        let waiting = std::mem::take(waiting);
        match result {
            Ok(bound) => {
                endpoint.state = State::Open(bound);
                for asker in waiting {
                    endpoint.admit(id, asker, out);
                }
            }
            Err(errno) => {
                for asker in waiting {
                    endpoint.fail(id, asker, errno, out);
                }
                self.all.remove(&id);
            }
        }
    }

    /// What came of [`Effect::BindSlot`]. The error is an errno of either sign.
    pub fn slot_bound(
        &mut self,
        id: EndpointId,
        slot: Slot,
        result: Result<Token, i32>,
        out: &mut Vec<Effect>,
    ) {
        let Some(endpoint) = self.all.get_mut(&id) else {
            return;
        };
        for asker in endpoint.sockets.bound(slot, result.ok()) {
            // It may be gone by now.
            if !endpoint.holders.contains(&asker.worker) {
                continue;
            }
            match result {
                Ok(_) => endpoint.admit(id, asker, out),
                Err(errno) => {
                    endpoint.holders.remove(&asker.worker);
                    endpoint.fail(id, asker, errno, out);
                }
            }
        }
    }

    /// The endpoint of this key, if a worker holds it.
    #[must_use]
    pub fn named(&self, worker: WorkerId, key: &str) -> Option<EndpointId> {
        let id = parse_key(key)?;
        let holds = self.all.get(&id).is_some_and(|endpoint| endpoint.holds(worker));
        holds.then_some(id)
    }

    /// The first stream endpoint that a worker holds.
    #[must_use]
    pub fn held_by(&self, worker: WorkerId) -> Option<EndpointId> {
        let stream = |state: &State| matches!(state, State::Open(bound) if matches!(bound.kind, SharedKind::Tcp | SharedKind::Pipe));
        let mut all = self.all.iter();
        all.find(|(_, endpoint)| stream(&endpoint.state) && endpoint.holds(worker))
            .map(|(&id, _)| id)
    }

    /// A worker closed the server with this key.
    pub fn closed(&mut self, now: Time, worker: WorkerId, key: &str, out: &mut Vec<Effect>) {
        let Some(id) = parse_key(key) else { return };
        let Some(endpoint) = self.all.get_mut(&id) else {
            return;
        };
        if !endpoint.holders.remove(&worker) {
            return;
        }
        out.push(Effect::Leave { worker, endpoint: id });
        if endpoint.holders.is_empty() {
            endpoint.idle = Some(Idle {
                until: now + LINGER,
                closed_by: Some(worker),
            });
        }
        if !self.holds_any(worker) {
            for idle in self
                .all
                .values_mut()
                .filter_map(|endpoint| endpoint.idle.as_mut())
            {
                if idle.closed_by == Some(worker) {
                    idle.until = now + DRAIN_LINGER;
                }
            }
        }
    }

    /// A worker is gone, or leaving: it holds nothing any more, but what it held stays open, except for a second
    /// socket of its own, which nobody else can find.
    pub fn gone(&mut self, worker: WorkerId, out: &mut Vec<Effect>) {
        self.leaving(worker);
        self.all.retain(|&id, endpoint| {
            let held = endpoint.holders.remove(&worker);
            if let State::Binding { waiting } = &mut endpoint.state {
                waiting.retain(|asker| asker.worker != worker);
            }
            let useless = held && endpoint.private && endpoint.holders.is_empty();
            if useless {
                out.push(Effect::Unbind { endpoint: id });
            }
            !useless
        });
    }

    /// Every worker is ready: what nobody holds by now is not waited for much longer.
    pub fn all_ready(&mut self, now: Time) {
        for endpoint in self.all.values_mut() {
            let open = matches!(endpoint.state, State::Open(_));
            if open && endpoint.holders.is_empty() {
                endpoint.idle.get_or_insert(Idle {
                    until: now + ABANDONED,
                    closed_by: None,
                });
            }
        }
    }

    /// A worker leaves on purpose: what it closed a moment ago, it closed because of that, so it stays open for
    /// its successor.
    pub fn leaving(&mut self, worker: WorkerId) {
        for endpoint in self.all.values_mut() {
            endpoint.idle.take_if(|idle| idle.closed_by == Some(worker));
        }
    }

    /// Lingering may be over.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Effect>) {
        let over = |endpoint: &Endpoint| endpoint.idle.as_ref().is_some_and(|idle| idle.until <= now);
        let gone: Vec<EndpointId> = self
            .all
            .iter()
            .filter(|(_, e)| over(e))
            .map(|(&id, _)| id)
            .collect();
        for endpoint in gone {
            self.all.remove(&endpoint);
            out.push(Effect::Unbind { endpoint });
        }
    }

    /// The cluster stops: every socket is closed.
    pub fn unbind_all(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.all.keys().map(|&endpoint| Effect::Unbind { endpoint }));
        self.all.clear();
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.all
            .values()
            .filter_map(|endpoint| endpoint.idle.as_ref())
            .map(|idle| idle.until)
            .min()
    }

    /// The key of an endpoint on the wire.
    #[must_use]
    pub fn key(id: EndpointId) -> String {
        key(id)
    }

    /// Whether a worker holds or waits for any endpoint.
    #[must_use]
    pub fn holds_any(&self, worker: WorkerId) -> bool {
        self.all.values().any(|endpoint| endpoint.holds(worker))
    }

    /// The real address behind what a worker calls `address` and `port`: the socket's own, where the worker
    /// gave none.
    #[must_use]
    pub fn sockname(&self, worker: WorkerId, address_type: AddressType, port: u16) -> Option<&Sockname> {
        self.all
            .values()
            .filter(|e| e.holds(worker) && e.request.address_type == address_type)
            .find_map(|e| match &e.state {
                State::Open(Bound {
                    sockname: Some(name), ..
                }) if name.port == port => Some(name),
                State::Open(_) | State::Binding { .. } => None,
            })
    }

    fn request(&self, query: Query) -> (BindRequest, u64, Option<Box<RawValue>>) {
        let sharing = self.sharing(&query);
        let request = BindRequest {
            address: query.address,
            port: query.port,
            address_type: query.address_type,
            fd: query.fd,
            flags: query.flags,
            backlog: query.backlog,
            readable_all: query.readable_all,
            writable_all: query.writable_all,
            sharing,
        };
        (request, query.index, query.data)
    }

    fn sharing(&self, query: &Query) -> Sharing {
        let udp = matches!(query.address_type, AddressType::Udp4 | AddressType::Udp6);
        let tcp = matches!(query.address_type, AddressType::Tcp4 | AddressType::Tcp6);
        match self.policy {
            Policy::ReusePort if tcp && query.fd.is_none() => Sharing::PerSlot,
            Policy::Shared | Policy::ReusePort => Sharing::Shared,
            Policy::LeastConnections | Policy::RoundRobin | Policy::Sticky if udp => Sharing::Shared,
            Policy::LeastConnections | Policy::RoundRobin | Policy::Sticky => Sharing::HandOver,
        }
    }

    /// `listen(handle)` under Node 18 and older asks with neither address nor descriptor; Node's own primary
    /// crashes on it.
    #[expect(clippy::unused_self, reason = "an answer of the endpoints'")]
    fn refuse_junk(&self, worker: WorkerId, seq: u64, request: &BindRequest, out: &mut Vec<Effect>) {
        const EINVAL: i32 = -22;
        out.push(Effect::Reply {
            worker,
            seq,
            reply: Reply::Failed {
                errno: EINVAL,
                key: "-".into(),
            },
        });
        out.push(Effect::Failed {
            worker,
            address: describe(request),
            errno: EINVAL,
        });
    }

    fn find(&self, request: &BindRequest, index: u64) -> Option<EndpointId> {
        let same = |endpoint: &Endpoint| {
            let known = &endpoint.request;
            !endpoint.private
                && known.address == request.address
                && known.port == request.port
                && known.address_type == request.address_type
                && known.fd == request.fd
                && (request.port != Some(0) || endpoint.index == index)
        };
        self.all
            .iter()
            .find(|(_, endpoint)| same(endpoint))
            .map(|(&id, _)| id)
    }

    fn add(
        &mut self,
        mut request: BindRequest,
        index: u64,
        private: bool,
        out: &mut Vec<Effect>,
    ) -> EndpointId {
        let id = EndpointId(self.next);
        self.next += 1;
        if private && request.sharing == Sharing::PerSlot {
            // Its address is taken: it must not join the sockets that are there.
            request.sharing = Sharing::Shared;
        }
        out.push(Effect::Bind {
            endpoint: id,
            request: request.clone(),
        });
        let endpoint = Endpoint {
            request,
            index,
            private,
            data: None,
            state: State::Binding { waiting: Vec::new() },
            sockets: SlotSockets::default(),
            holders: BTreeSet::new(),
            idle: None,
        };
        self.all.insert(id, endpoint);
        id
    }
}

impl Endpoint {
    fn holds(&self, worker: WorkerId) -> bool {
        let waits = match &self.state {
            State::Binding { waiting } => waiting.iter().any(|asker| asker.worker == worker),
            State::Open(_) => false,
        };
        waits || self.holders.contains(&worker)
    }

    fn admit(&mut self, id: EndpointId, asker: Asker, out: &mut Vec<Effect>) {
        let State::Open(bound) = &self.state else { return };
        let Asker { worker, slot, seq } = asker;
        self.holders.insert(worker);
        self.idle = None;
        let (key, data, kind) = (key(id), self.data.clone(), bound.kind);
        let shared = |key, data, descriptor| Reply::Shared {
            key,
            data,
            kind,
            descriptor,
        };
        let reply = match self.request.sharing {
            // Streams are also handed over: what a worker that leaves has to give away.
            Sharing::Shared if kind == SharedKind::Udp => {
                let reply = shared(key, data, bound.descriptor);
                return out.push(Effect::Reply { worker, seq, reply });
            }
            Sharing::Shared => shared(key, data, bound.descriptor),
            Sharing::HandOver => Reply::HandOver {
                key,
                data,
                sockname: bound.sockname.clone(),
            },
            Sharing::PerSlot => match self.sockets.asked(asker) {
                Asked::Open(descriptor) => shared(key, data, descriptor),
                Asked::Waits => return,
                Asked::Bind => return out.push(Effect::BindSlot { endpoint: id, slot }),
            },
        };
        out.push(Effect::Reply { worker, seq, reply });
        out.push(Effect::Join { worker, endpoint: id });
    }

    /// The app asked for something that cannot be had.
    fn fail(&self, id: EndpointId, asker: Asker, errno: i32, out: &mut Vec<Effect>) {
        let (worker, seq, errno) = (asker.worker, asker.seq, -errno.abs());
        let reply = Reply::Failed { errno, key: key(id) };
        out.push(Effect::Reply { worker, seq, reply });
        let address = describe(&self.request);
        out.push(Effect::Failed {
            worker,
            address,
            errno,
        });
    }
}

fn key(id: EndpointId) -> String {
    format!("e{}", id.0)
}

fn parse_key(key: &str) -> Option<EndpointId> {
    key.strip_prefix('e')?.parse().ok().map(EndpointId)
}

/// What was asked for, as a user would write it.
fn describe(request: &BindRequest) -> String {
    let address = request.address.as_deref();
    let port = request.port.unwrap_or(0);
    match request.address_type {
        AddressType::Unix => format!("unix:{}", address.unwrap_or_default().replace('\0', "@")),
        AddressType::Descriptor => match request.fd {
            Some(fd) => format!("fd {fd}"),
            None => "a handle".into(),
        },
        AddressType::Tcp4 => format!("{}:{port}", address.unwrap_or("*")),
        AddressType::Tcp6 => format!("[{}]:{port}", address.unwrap_or("::")),
        AddressType::Udp4 => format!("udp://{}:{port}", address.unwrap_or("0.0.0.0")),
        AddressType::Udp6 => format!("udp://[{}]:{port}", address.unwrap_or("::")),
    }
}
