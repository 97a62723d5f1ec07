//! A worker's channel: its state, shared by everything that speaks on it.
//!
//! Job: do what [`Child`] says: keep descriptors, wake those who wait, write what is to be written. Everybody may
//! write, at once and without another thread, so that `accepted` is on its way before the app sees the connection;
//! reading is the business of one thread ([`super::reader`]).
//!
//! How it leaves is in [`super::leaving`].
//!
//! States: connected → gone (the end was read, or we have closed it). A link without a socket is gone from the
//! beginning: that of a worker without a primary.
//!
//! Invariants: the lock is never held while anything waits; a connection is in the queue of exactly one server until
//! it is taken or refused; what was handed over and not taken when the primary dies is still served, as nobody else has
//! it.

use super::drain::{Drain, DrainReason};
use super::leaving::{LAST, Leaving};
use super::messages::{Inbox, Message};
use crate::channel;
use crate::message::{Handle, SendError};
use everup_core::id::Token;
use everup_core::wire::child::{Answer, Ask, Child, Offer, Said, ServerId};
use everup_core::wire::{Serialization, Sockname};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Bytes that may wait for a primary that does not read.
const SEND_QUEUE: usize = 256 << 20;

pub(super) struct Link {
    socket: Option<OwnedFd>,
    state: Mutex<State>,
    pub(super) drain: Drain,
    /// Whether nothing is accepted from sockets any more. Held while something is accepted; never is
    /// [`State`] locked under it, but it may be locked under that.
    accepting: Mutex<bool>,
    /// Wakes the reader: there is something that could not be written at once, or something to be done later.
    wake: Option<OwnedFd>,
    /// Whether the primary understands how many connections have ended.
    pub(super) reports: bool,
    /// Told when the last connection has ended, everything is written, and the primary lets us go.
    pub(super) settled: Notify,
}

/// What keeps the channel from taking more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Blocked {
    #[default]
    Not,
    /// It is full: there will be news when there is room.
    Full,
    /// The system is short of something: nobody will tell.
    Short,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) child: Child,
    /// Received, and not claimed yet.
    received: VecDeque<OwnedFd>,
    /// Sent, or to be sent, and not known to be delivered.
    outgoing: BTreeMap<Token, OwnedFd>,
    next_token: u64,
    asks: BTreeMap<ServerId, oneshot::Sender<Granted>>,
    pub(super) servers: BTreeMap<ServerId, Server>,
    inbox: Inbox,
    /// Messages that found no room, to be dropped outside the lock: a socket that came with one tells its sender.
    rejected: Vec<Message>,
    said: Vec<Said>,
    pub(super) gone: bool,
    blocked: Blocked,
    pub(super) leaving: Option<Leaving>,
    /// How many sockets connections are accepted from.
    pub(super) sockets: usize,
    /// Whether there was nothing when one of them was looked at last.
    pub(super) dry: bool,
    /// Connections that nobody has read from yet.
    pub(super) unread: u64,
    pub(super) let_go: bool,
    /// Connections that are open.
    pub(super) open: u64,
    /// Connections that were handed over and have ended.
    pub(super) closed: u64,
    /// Handles of ours that did not arrive.
    handles_lost: u64,
}

/// A server to which connections may be handed over.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) waiting: VecDeque<(Offer, OwnedFd)>,
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

/// Short, and without what others have sent.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = f.debug_struct("Link");
        link.field("connected", &self.is_connected());
        link.field("drain", &self.drain.reason()).finish_non_exhaustive()
    }
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
                blocked: Blocked::Not,
                leaving: None,
                sockets: 0,
                dry: false,
                unread: 0,
                let_go: false,
                open: 0,
                closed: 0,
                handles_lost: 0,
            }),
            drain: Drain::new(),
            accepting: Mutex::new(false),
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

    pub(super) fn blocked(&self) -> Blocked {
        self.lock().blocked
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
        let rejected = std::mem::take(&mut state.rejected);
        drop(state);
        drop(rejected);
        Heard::Something
    }

    fn heard(self: &Arc<Self>, state: &mut State, said: Said) {
        match said {
            Said::Answer { server, answer } => state.grant(server, answer),
            Said::Connection { server, offer } => state.arrive(server, offer),
            Said::Quiet => self.become_quiet(state),
            Said::Disconnect => self.begin_to_leave(state, DrainReason::Primary, LAST),
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
            Said::Delivered(token) => drop(state.outgoing.remove(&token)),
            Said::Undelivered(token) => {
                state.outgoing.remove(&token);
                state.handles_lost += 1;
            }
            Said::Discard => drop(state.received.pop_front()),
            _ => {}
        }
    }

    /// The channel is of no use any more.
    fn lose(&self, mut state: MutexGuard<'_, State>) {
        state.gone = true;
        state.leaving = None;
        state.asks.clear();
        state.outgoing.clear();
        state.inbox.end();
        for server in state.servers.values() {
            server.arrived.notify_waiters();
        }
        if let Some(socket) = &self.socket {
            // The primary is not to think that somebody hears it. It fails when the other end is closed.
            rustix::net::shutdown(socket, rustix::net::Shutdown::Both).ok();
        }
        let rejected = std::mem::take(&mut state.rejected);
        drop(state);
        drop(rejected);
        self.settled.notify_waiters();
        self.drain.begin(DrainReason::PrimaryGone);
    }

    /// Writes what may be written now.
    pub(super) fn write(&self) {
        let mut state = self.lock();
        self.flush(&mut state);
    }

    pub(super) fn flush(&self, state: &mut State) {
        let Some(socket) = self.socket.as_ref().filter(|_| !state.gone) else {
            return;
        };
        let (queued, before) = (state.child.backlog(), std::mem::take(&mut state.blocked));
        while let Some(next) = state.child.transmit() {
            let descriptor = next.descriptor.and_then(|token| state.outgoing.get(&token));
            match channel::send(socket, next.bytes, descriptor.map(AsFd::as_fd)) {
                Ok(written) => state.child.wrote(written),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    state.blocked = Blocked::Full;
                    break;
                }
                Err(Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS) => {
                    state.blocked = Blocked::Short;
                    break;
                }
                // What it said before is still to be read; the reader comes to the end by itself.
                Err(_) => break,
            }
        }
        if queued > 0 && state.child.backlog() == 0 {
            self.settled.notify_waiters();
        }
        if state.blocked != Blocked::Not && state.blocked != before {
            self.wake_reader();
        }
    }

    pub(super) fn wake_reader(&self) {
        if let Some(wake) = &self.wake {
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
        if state.gone || state.leaving.is_some() || self.drain.reason().is_some() {
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
        self.drain_if_settled(&mut state);
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
        state.unread += 1;
        self.flush(&mut state);
        Taken::Connection(connection)
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

    pub(super) async fn settle(&self, done: impl Fn(&State) -> bool) {
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

    pub(super) fn send_handle(&self, message: &RawValue, handle: Handle) -> Result<(), SendError> {
        let (kind, descriptor) = handle.prepare()?;
        let mut state = self.may_send()?;
        let token = Token(state.next_token);
        state.next_token += 1;
        state.outgoing.insert(token, descriptor);
        state.child.send_handle(message, kind, token);
        self.flush(&mut state);
        Ok(())
    }

    pub(super) fn handles_lost(&self) -> u64 {
        self.lock().handles_lost
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

    pub(super) fn accepting_lock(&self) -> MutexGuard<'_, bool> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
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

    pub(super) fn close_servers(&mut self) {
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
