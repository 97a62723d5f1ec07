//! A worker's channel: its state, shared by everything that speaks on it.
//!
//! Job: do what [`Child`] says: keep descriptors, wake those who wait, write what is to be written. Everybody may
//! write, at once and without another thread, so that `accepted` is on its way before the app sees the connection;
//! reading is the business of one thread ([`super::reader`]).
//!
//! States: connected → gone (the end was read, or we have closed it). A link without a socket is gone from the
//! beginning: that of a worker without a primary.
//!
//! Invariants: the lock is never held while anything waits; a connection is in the queue of exactly one server until
//! it is taken or refused; what was handed over and not taken when the primary dies is still served, as nobody else has
//! it.

use super::drain::{Drain, DrainReason};
use super::messages::{Inbox, Message};
use crate::channel;
use crate::message::SendError;
use everup_core::id::Token;
use everup_core::wire::child::{Answer, Ask, Child, Offer, Said, ServerId};
use everup_core::wire::{HandleKind, Serialization, Sockname};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Bytes that may wait for a primary that does not read.
const SEND_QUEUE: usize = 256 << 20;

#[derive(Debug)]
pub(super) struct Link {
    socket: Option<OwnedFd>,
    state: Mutex<State>,
    pub(super) drain: Drain,
    /// Wakes the reader: there is something that could not be written at once.
    wake: Option<OwnedFd>,
    /// Whether the primary understands how many connections have ended.
    reports: bool,
    /// Told when the last connection has ended, and when the primary lets us go.
    settled: Notify,
}

#[derive(Debug)]
struct State {
    child: Child,
    /// Received, and not claimed yet.
    received: VecDeque<OwnedFd>,
    /// Sent, or to be sent, and not known to be delivered.
    outgoing: BTreeMap<Token, OwnedFd>,
    next_token: u64,
    asks: BTreeMap<ServerId, oneshot::Sender<Granted>>,
    servers: BTreeMap<ServerId, Server>,
    inbox: Inbox,
    /// Messages that found no room, to be dropped outside the lock: a socket that came with one tells its sender.
    rejected: Vec<Message>,
    said: Vec<Said>,
    gone: bool,
    /// Nothing is accepted from sockets any more.
    quiet: bool,
    /// The socket takes no more for now.
    full: bool,
    let_go: bool,
    /// Connections that are open.
    open: u64,
    /// Connections that were handed over and have ended.
    closed: u64,
}

/// A server to which connections may be handed over.
#[derive(Debug)]
struct Server {
    waiting: VecDeque<(Offer, OwnedFd)>,
    arrived: Arc<Notify>,
}

/// What the primary gave.
#[derive(Debug)]
pub(super) enum Granted {
    HandOver {
        sockname: Option<Sockname>,
        arrived: Arc<Notify>,
    },
    Shared {
        socket: OwnedFd,
        arrived: Arc<Notify>,
    },
    Failed {
        errno: i32,
    },
    Missing,
}

/// What a queue has.
#[derive(Debug)]
pub(super) enum Taken {
    Connection(OwnedFd),
    Nothing,
    /// And there will be nothing more.
    Closed,
}

/// What reading came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Something,
    End,
}

impl Link {
    pub(super) fn new(socket: Option<OwnedFd>, serialization: Serialization, reports: bool) -> Arc<Self> {
        let gone = socket.is_none();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Arc::new(Self {
            socket,
            state: Mutex::new(State {
                child: Child::with_serialization(serialization),
                received: VecDeque::new(),
                outgoing: BTreeMap::new(),
                next_token: 0,
                asks: BTreeMap::new(),
                servers: BTreeMap::new(),
                inbox: Inbox::default(),
                rejected: Vec::new(),
                said: Vec::new(),
                gone,
                quiet: false,
                full: false,
                let_go: false,
                open: 0,
                closed: 0,
            }),
            drain: Drain::new(),
            wake: wake.filter(|_| !gone),
            reports,
            settled: Notify::new(),
        })
    }

    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    pub(super) fn wake_descriptor(&self) -> Option<&OwnedFd> {
        self.wake.as_ref()
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().full
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.lock().gone
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.lock().child.is_leaving()
    }

    /// Reads once, and does what follows.
    pub(super) fn hear(self: &Arc<Self>, buffer: &mut [u8]) -> Heard {
        let Some(socket) = &self.socket else {
            return Heard::End;
        };
        let mut state = self.lock();
        if state.gone {
            return Heard::End;
        }
        let before = state.received.len();
        let read = match channel::receive(socket, buffer, &mut state.received) {
            Err(Errno::AGAIN | Errno::INTR) => return Heard::Something,
            Ok(0) | Err(_) => {
                self.lose(state);
                return Heard::End;
            }
            Ok(read) => read,
        };
        let arrived = state.received.len() - before;
        let mut said = std::mem::take(&mut state.said);
        let result = state.child.receive(&buffer[..read], arrived, &mut said);
        for said in said.drain(..) {
            self.heard(&mut state, said);
        }
        state.said = said;
        self.flush(&mut state);
        if result.is_err() {
            self.lose(state);
            return Heard::End;
        }
        if state.child.backlog() == 0 {
            self.settled.notify_waiters();
        }
        let rejected = std::mem::take(&mut state.rejected);
        drop(state);
        drop(rejected);
        Heard::Something
    }

    fn heard(self: &Arc<Self>, state: &mut State, said: Said) {
        match said {
            Said::Answer { server, answer } => state.grant(server, answer),
            Said::Connection { server, offer } => state.arrive(server, offer),
            Said::Quiet => {
                // Whoever accepts does so under the lock that we have: nothing is accepted after this.
                state.quiet = true;
                state.child.quiet();
            }
            Said::Disconnect => {
                state.close_servers();
                self.drain.begin(DrainReason::Primary);
            }
            Said::LetGo => {
                state.let_go = true;
                self.settled.notify_waiters();
            }
            Said::Message(message) => state.deliver(Message::json_only(message)),
            Said::Opaque(payload) => state.deliver(Message::opaque_only(payload)),
            Said::Handle { kind, message, key } => {
                if let Some(descriptor) = state.received.pop_front() {
                    let release = key.map(|key| (Arc::clone(self), key));
                    state.deliver(Message::with_handle(message, kind, descriptor, release));
                }
            }
            Said::Delivered(token) | Said::Undelivered(token) => drop(state.outgoing.remove(&token)),
            Said::Discard => drop(state.received.pop_front()),
            _ => {}
        }
    }

    /// The channel is of no use any more.
    fn lose(&self, mut state: MutexGuard<'_, State>) {
        state.gone = true;
        state.asks.clear();
        state.outgoing.clear();
        state.inbox.end();
        for server in state.servers.values() {
            server.arrived.notify_waiters();
        }
        drop(state);
        self.settled.notify_waiters();
        self.drain.begin(DrainReason::PrimaryGone);
    }

    /// Writes what may be written now.
    pub(super) fn write(&self) {
        let mut state = self.lock();
        self.flush(&mut state);
        if state.child.backlog() == 0 {
            self.settled.notify_waiters();
        }
    }

    fn flush(&self, state: &mut State) {
        let Some(socket) = self.socket.as_ref().filter(|_| !state.gone) else {
            return;
        };
        let was_full = std::mem::take(&mut state.full);
        while let Some(next) = state.child.transmit() {
            let descriptor = next.descriptor.and_then(|token| state.outgoing.get(&token));
            match channel::send(socket, next.bytes, descriptor.map(AsFd::as_fd)) {
                Ok(written) => state.child.wrote(written),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS) => {
                    state.full = true;
                    break;
                }
                // What it said before is still to be read; the reader comes to the end by itself.
                Err(_) => break,
            }
        }
        if let Some(wake) = self.wake.as_ref().filter(|_| state.full && !was_full) {
            rustix::io::write(wake, &1_u64.to_ne_bytes()).ok();
        }
    }

    pub(super) fn online(&self) {
        let mut state = self.lock();
        state.child.online();
        self.flush(&mut state);
    }

    /// Asks for a listening socket. `None`: the worker is leaving, or the primary gone.
    pub(super) fn ask(&self, ask: Ask) -> Option<(ServerId, oneshot::Receiver<Granted>)> {
        let mut state = self.lock();
        if state.gone || self.drain.reason().is_some() {
            return None;
        }
        let server = state.child.ask(ask)?;
        let (answer, answered) = oneshot::channel();
        state.asks.insert(server, answer);
        self.flush(&mut state);
        Some((server, answered))
    }

    pub(super) fn listening(&self, server: ServerId, port: Option<u16>) {
        let mut state = self.lock();
        state.child.listening(server, port);
        self.flush(&mut state);
    }

    /// Closes a server; connections that wait there go to other workers.
    pub(super) fn close(&self, server: ServerId) {
        let mut state = self.lock();
        state.asks.remove(&server);
        state.child.close(server);
        if let Some(server) = state.servers.remove(&server) {
            state.refuse(server);
        }
        self.flush(&mut state);
    }

    /// No connection can be handed to this server any more, but it stays open.
    pub(super) fn take_no_more(&self, server: ServerId) {
        let mut state = self.lock();
        let Some(queue) = state.servers.remove(&server) else {
            return;
        };
        if self.reports {
            state.child.direct(server);
        }
        state.refuse(queue);
        self.flush(&mut state);
    }

    /// Takes a connection, which is the app's from then on.
    pub(super) fn take(&self, server: ServerId) -> Taken {
        let mut state = self.lock();
        let gone = state.gone;
        let Some(queue) = state.servers.get_mut(&server) else {
            return Taken::Closed;
        };
        let Some((offer, connection)) = queue.waiting.pop_front() else {
            return if gone { Taken::Closed } else { Taken::Nothing };
        };
        if !queue.waiting.is_empty() {
            queue.arrived.notify_one();
        }
        state.child.answer(offer, true);
        state.open += 1;
        self.flush(&mut state);
        Taken::Connection(connection)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.lock().quiet
    }

    /// Accepts from a socket of our own, which must not wait: `Ok(None)` if there is nothing, or we accept no more.
    pub(super) fn accept<T, E>(&self, accept: impl FnOnce() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
        let mut state = self.lock();
        if state.quiet {
            return Ok(None);
        }
        let accepted = accept()?;
        state.open += u64::from(accepted.is_some());
        Ok(accepted)
    }

    /// A connection has ended.
    pub(super) fn ended(&self, handed_over: bool) {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            self.settled.notify_waiters();
        }
        if handed_over {
            state.closed += 1;
            if self.reports && !state.gone {
                let total = state.closed;
                state.child.closed_connections(total);
                self.flush(&mut state);
            }
        }
    }

    /// Begins to leave: no new connections; what waits goes to other workers.
    pub(super) fn leave(&self, reason: DrainReason) {
        if self.drain.begin(reason) {
            let mut state = self.lock();
            state.close_servers();
            self.flush(&mut state);
        }
    }

    /// Waits until every connection has ended.
    pub(super) async fn idle(&self) {
        self.settle(|state| state.open == 0).await;
    }

    /// Begins to leave, and tells the primary first that it is on purpose: the app may end as soon as it hears of it.
    pub(super) fn leave_on_purpose(&self) {
        let mut state = self.lock();
        if !state.gone {
            if !state.child.leave() {
                state.let_go = true;
            }
            state.close_servers();
            self.flush(&mut state);
        }
        drop(state);
        self.drain.begin(DrainReason::Worker);
    }

    /// Waits until the primary knows that we leave on purpose, and closes the channel.
    pub(super) async fn say_goodbye(&self) {
        self.settle(|state| state.let_go || state.gone).await;
        self.shut();
    }

    /// Waits until everything is written.
    pub(super) async fn written(&self) {
        self.settle(|state| state.gone || state.child.backlog() == 0)
            .await;
    }

    /// Closes the channel.
    pub(super) fn shut(&self) {
        let mut state = self.lock();
        self.flush(&mut state);
        if let Some(socket) = &self.socket {
            // It fails only when the other end has closed it already.
            rustix::net::shutdown(socket, rustix::net::Shutdown::Both).ok();
        }
        state.gone = true;
        state.inbox.end();
        drop(state);
        // The reader says nothing of an end that we have made; who waits for it hears of it here.
        self.drain.begin(DrainReason::Worker);
    }

    async fn settle(&self, done: impl Fn(&State) -> bool) {
        loop {
            let mut news = std::pin::pin!(self.settled.notified());
            news.as_mut().enable();
            if done(&self.lock()) {
                return;
            }
            news.await;
        }
    }

    pub(super) fn send(&self, message: &RawValue) -> Result<(), SendError> {
        let mut state = self.may_send()?;
        state.child.send(message);
        self.flush(&mut state);
        Ok(())
    }

    pub(super) fn send_handle(
        &self,
        message: &RawValue,
        kind: HandleKind,
        descriptor: OwnedFd,
    ) -> Result<(), SendError> {
        rustix::io::ioctl_fionbio(&descriptor, true).map_err(|errno| SendError::descriptor(errno.into()))?;
        let mut state = self.may_send()?;
        let token = Token(state.next_token);
        state.next_token += 1;
        state.outgoing.insert(token, descriptor);
        state.child.send_handle(message, kind, token);
        self.flush(&mut state);
        Ok(())
    }

    fn may_send(&self) -> Result<MutexGuard<'_, State>, SendError> {
        let state = self.lock();
        let queued = state.child.backlog();
        if state.gone {
            Err(SendError::Gone)
        } else if queued > SEND_QUEUE {
            let limit = SEND_QUEUE;
            Err(SendError::QueueFull { queued, limit })
        } else {
            Ok(state)
        }
    }

    pub(super) fn released(&self, key: &str) {
        let mut state = self.lock();
        state.child.released(key);
        self.flush(&mut state);
    }

    pub(super) fn with_inbox<T>(&self, act: impl FnOnce(&mut Inbox) -> T) -> T {
        act(&mut self.lock().inbox)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves it whole: nothing there runs the app's code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn grant(&mut self, server: ServerId, answer: Answer) {
        let socket = match answer {
            Answer::Shared => self.received.pop_front(),
            _ => None,
        };
        let Some(asked) = self.asks.remove(&server) else {
            return;
        };
        let arrived = Arc::new(Notify::new());
        let granted = match (answer, socket) {
            (Answer::HandOver { sockname }, _) => Granted::HandOver {
                sockname,
                arrived: Arc::clone(&arrived),
            },
            (_, Some(socket)) => Granted::Shared {
                socket,
                arrived: Arc::clone(&arrived),
            },
            (Answer::Failed { errno }, None) => Granted::Failed { errno },
            _ => Granted::Missing,
        };
        if matches!(granted, Granted::HandOver { .. } | Granted::Shared { .. }) {
            let waiting = VecDeque::new();
            self.servers.insert(server, Server { waiting, arrived });
        }
        // Whoever asked may have given up; then what closes the server is on its way.
        asked.send(granted).ok();
    }

    fn arrive(&mut self, server: ServerId, offer: Offer) {
        let connection = self.received.pop_front();
        match (self.servers.get_mut(&server), connection) {
            (Some(server), Some(connection)) => {
                server.waiting.push_back((offer, connection));
                server.arrived.notify_one();
            }
            _ => self.child.answer(offer, false),
        }
    }

    fn deliver(&mut self, message: Message) {
        self.rejected.extend(self.inbox.push(message));
    }

    fn close_servers(&mut self) {
        self.asks.clear();
        for (id, server) in std::mem::take(&mut self.servers) {
            self.child.close(id);
            self.refuse(server);
        }
    }

    fn refuse(&mut self, server: Server) {
        for (offer, connection) in server.waiting {
            // Ours first: the other worker may shut it down for writing before it is closed here.
            drop(connection);
            self.child.answer(offer, false);
        }
        server.arrived.notify_waiters();
    }
}
