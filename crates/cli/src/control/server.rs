//! Accepts connections, checks who it is, and gives each a thread of its own, [`MOST`] at a time.
//!
//! States: started → [`finish`](Server::finish)ed: no new request is read, the answers that are due are written, the
//! socket is removed. The accepting thread is joined; a connection's thread says when it ends, and is waited for, for
//! a limited time.

use super::connection::{self, Limits};
use super::{ControlSocket, Operator};
use everup_api::{Error, ErrorCode};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connections that are served at once.
pub(super) const MOST: usize = 16;
/// How long the end waits for answers that are being written.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running control socket.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<ControlSocket>>,
}

impl Server {
    /// Serves from now on.
    pub(crate) fn start(socket: ControlSocket, operator: Arc<dyn Operator>) -> io::Result<Self> {
        Self::with_limits(socket, operator, Limits::USUAL)
    }

    pub(super) fn with_limits(
        socket: ControlSocket,
        operator: Arc<dyn Operator>,
        limits: Limits,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            operator,
            limits,
            end: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            open: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            let accept = move || {
                accept(&socket, &shared);
                socket
            };
            thread::Builder::new().name("control".into()).spawn(accept)?
        };
        Ok(Self {
            shared,
            accepting: Some(accepting),
        })
    }

    /// Ends it. To be called when the cluster has ended, so that no operation is going on any more.
    pub(crate) fn finish(self) {
        drop(self);
    }

    fn end(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        let mut open = self.shared.open();
        open.closing = true;
        for stream in open.streams.values() {
            // Wakes the one that waits for a request; what is being written is not touched.
            stream.shutdown(Shutdown::Read).ok();
        }
        drop(open);
        rustix::io::write(&self.shared.end, &1_u64.to_ne_bytes()).ok();
        // The socket's file goes first: who comes now is told at once that nobody is there.
        drop(accepting.join());
        let open = self.shared.open();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(open, PATIENCE, |open| !open.streams.is_empty());
        drop(waited);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

struct Shared {
    operator: Arc<dyn Operator>,
    limits: Limits,
    /// Readable when it is over.
    end: OwnedFd,
    open: Mutex<Open>,
    /// A connection has ended.
    changed: Condvar,
}

/// The connections that are being served.
#[derive(Debug, Default)]
struct Open {
    streams: BTreeMap<u64, Arc<UnixStream>>,
    next: u64,
    closing: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if there is no place for it.
    fn enter(self: &Arc<Self>, stream: &Arc<UnixStream>) -> Option<Place> {
        let mut open = self.open();
        if open.closing || open.streams.len() >= MOST {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, Arc::clone(stream));
        Some(Place {
            shared: Arc::clone(self),
            number,
        })
    }
}

/// A connection's place among those that are open; given back when it is dropped, also by a thread that panics.
struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open().streams.remove(&self.number);
        self.shared.changed.notify_all();
    }
}

fn accept(socket: &ControlSocket, shared: &Arc<Shared>) {
    let listener = socket.listener();
    while wait(shared, Some(listener)) {
        match listener.accept() {
            Ok((stream, _)) => admit(stream, shared),
            Err(error) if is_passing(&error) => {}
            // Out of descriptors, say. It would fail again at once.
            Err(_) => {
                wait(shared, None);
            }
        }
    }
}

/// The client has gone again, or there was none.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

/// Waits for a client, or a second without a listener. `false` when it is over.
fn wait(shared: &Shared, listener: Option<&std::os::unix::net::UnixListener>) -> bool {
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let limit = if listener.is_some() { None } else { Some(&second) };
    let mut waited = vec![PollFd::new(&shared.end, PollFlags::IN)];
    waited.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
    poll(&mut waited, limit).ok();
    waited[0].revents().is_empty()
}

fn admit(stream: UnixStream, shared: &Arc<Shared>) {
    if let Err(error) = permitted(&stream) {
        return connection::refuse(&stream, error);
    }
    let stream = Arc::new(stream);
    let Some(place) = shared.enter(&stream) else {
        return connection::refuse(&stream, busy());
    };
    let serve = {
        let stream = Arc::clone(&stream);
        move || {
            let shared = &place.shared;
            let closing = || shared.open().closing;
            connection::serve(&stream, &*shared.operator, shared.limits, &closing);
        }
    };
    let thread = thread::Builder::new().name("control-client".into()).spawn(serve);
    if thread.is_err() {
        connection::refuse(&stream, busy());
    }
}

fn busy() -> Error {
    let message = format!("{MOST} connections are being served already");
    Error::new(ErrorCode::Busy, message).with_hint("try again in a moment")
}

fn permitted(stream: &UnixStream) -> Result<(), Error> {
    let us = rustix::process::geteuid().as_raw();
    match everup::peer::peer(stream.as_fd()) {
        Ok(peer) if is_permitted(peer.uid, us) => Ok(()),
        Ok(peer) => {
            let message = format!("user {} may not control this everup", peer.uid);
            let hint = format!("do it as root, or as the user {us} whom it runs as");
            Err(Error::new(ErrorCode::PermissionDenied, message).with_hint(hint))
        }
        Err(error) => {
            let message = format!("could not find out who you are: {error}");
            Err(Error::new(ErrorCode::Internal, message))
        }
    }
}

/// Root, and the user whom we run as.
pub(super) fn is_permitted(peer: u32, us: u32) -> bool {
    peer == 0 || peer == us
}
