//! Where connections come from, whatever the policy: a queue that the primary fills, and a socket where there is one.
//!
//! With a policy by which the primary hands over, the queue is all there is. With a real socket the queue is empty but
//! for connections that the primary rescues from the queue of a worker that died.

use super::error::AcceptError;
use super::link::{Link, Taken};
use crate::bind::BoundSocket;
#[cfg(feature = "tokio")]
use crate::sys::readiness;
use everup_core::wire::child::ServerId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) link: Arc<Link>,
    /// `None` without a primary.
    queue: Option<(ServerId, Arc<Notify>)>,
    socket: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    descriptor: Arc<OwnedFd>,
    /// Bound by ourselves: its file goes with it.
    bound: Option<BoundSocket>,
    /// The socket in the runtime that asked first.
    #[cfg(feature = "tokio")]
    watched: tokio::sync::OnceCell<tokio::io::unix::AsyncFd<Arc<OwnedFd>>>,
}

/// A connection, and whether it was handed over.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) connection: OwnedFd,
    /// The client's, if it was told with the connection.
    pub(super) peer: Option<SocketAddrAny>,
    pub(super) handed_over: bool,
}

impl Acceptor {
    pub(super) fn new(
        link: &Arc<Link>,
        queue: Option<(ServerId, Arc<Notify>)>,
        socket: Option<(OwnedFd, Option<BoundSocket>)>,
    ) -> Self {
        let socket = socket.map(|(descriptor, bound)| Socket {
            descriptor: Arc::new(descriptor),
            bound,
            #[cfg(feature = "tokio")]
            watched: tokio::sync::OnceCell::new(),
        });
        if socket.is_some() {
            link.count_socket(true);
        }
        Self {
            link: Arc::clone(link),
            queue,
            socket,
        }
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.descriptor.as_fd())
    }

    /// The real socket for somebody else, if there is one. The server stays open until the worker leaves.
    pub(super) fn into_socket(mut self) -> Option<io::Result<OwnedFd>> {
        let socket = self.socket.take()?;
        self.link.count_socket(false);
        if let Some((server, _)) = self.queue.take() {
            self.link.take_no_more(server);
        }
        // Its file stays from now on, as with a socket of std.
        std::mem::forget(socket.bound);
        #[cfg(feature = "tokio")]
        drop(socket.watched);
        Some(match Arc::try_unwrap(socket.descriptor) {
            Ok(descriptor) => Ok(descriptor),
            Err(shared) => shared.try_clone(),
        })
    }

    /// What the queue has now.
    fn queued(&self) -> Result<Option<Accepted>, AcceptError> {
        let Some((server, _)) = &self.queue else {
            return match self.link.drain.reason() {
                Some(_) => Err(AcceptError::Drained),
                None => Ok(None),
            };
        };
        match self.link.take(*server) {
            Taken::Connection(connection) => Ok(Some(Accepted {
                connection,
                peer: None,
                handed_over: true,
            })),
            Taken::Nothing => Ok(None),
            // It takes nothing that is handed over, but its socket lives.
            Taken::Closed if self.socket.is_some() && self.link.drain.reason().is_none() => Ok(None),
            Taken::Closed => Err(AcceptError::Drained),
        }
    }

    /// What the socket has now.
    fn direct(&self) -> Result<Option<Accepted>, AcceptError> {
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        let accepted = self.link.accept(|| {
            loop {
                match acceptfrom_with(&socket.descriptor, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                    Ok(accepted) => return Ok(Some(accepted)),
                    // A client that is gone already is nobody's error.
                    Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                    Err(Errno::AGAIN) => return Ok(None),
                    Err(errno) => return Err(errno),
                }
            }
        });
        let accepted = accepted.map_err(io::Error::from)?;
        Ok(accepted.map(|(connection, peer)| Accepted {
            connection,
            peer,
            handed_over: false,
        }))
    }

    /// The next connection. Cancelling it loses none.
    #[cfg(feature = "tokio")]
    pub(super) async fn accept(&self) -> Result<Accepted, AcceptError> {
        let never = Notify::new();
        let arrived = self.queue.as_ref().map_or(&never, |(_, arrived)| arrived);
        let mut drained = pin!(self.link.drain.begun());
        let mut direct = pin!(self.accept_direct());
        loop {
            let mut news = pin!(arrived.notified());
            news.as_mut().enable();
            if let Some(accepted) = self.queued()? {
                return Ok(accepted);
            }
            let accepted = std::future::poll_fn(|context| {
                let news = news.as_mut().poll(context).is_ready();
                if news || drained.as_mut().poll(context).is_ready() {
                    return std::task::Poll::Ready(None);
                }
                direct.as_mut().poll(context).map(Some)
            });
            if let Some(accepted) = accepted.await {
                return accepted;
            }
            if self.link.drain.reason().is_some() {
                return self.queued()?.ok_or(AcceptError::Drained);
            }
        }
    }

    /// The next connection from the socket; never without one.
    #[cfg(feature = "tokio")]
    async fn accept_direct(&self) -> Result<Accepted, AcceptError> {
        let Some(socket) = &self.socket else {
            return std::future::pending().await;
        };
        let register = || async { readiness::readable(&socket.descriptor) };
        let watched = socket.watched.get_or_try_init(register).await?;
        loop {
            let mut ready = watched.readable().await?;
            match self.direct()? {
                Some(accepted) => return Ok(accepted),
                None => ready.clear_ready(),
            }
        }
    }

    /// The next connection, waiting in this thread.
    pub(super) fn accept_blocking(&self) -> Result<Accepted, AcceptError> {
        let Some(socket) = &self.socket else {
            return self.wait_for_queue();
        };
        if let Some((server, _)) = &self.queue {
            // This thread can wait for one thing only; what the primary rescues goes to another worker.
            self.link.take_no_more(*server);
        }
        loop {
            if self.link.drain.reason().is_some() {
                return Err(AcceptError::Drained);
            }
            if let Some(accepted) = self.direct()? {
                return Ok(accepted);
            }
            let mut watched = Vec::new();
            let drain = self.link.drain.descriptor();
            // A quiet worker only waits for the drain, which is about to begin.
            if drain.is_none() || !self.link.is_quiet() {
                watched.push(PollFd::new(&socket.descriptor, PollFlags::IN));
            }
            watched.extend(drain.map(|drain| PollFd::from_borrowed_fd(drain, PollFlags::IN)));
            match poll(&mut watched, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }

    fn wait_for_queue(&self) -> Result<Accepted, AcceptError> {
        let Some((_, arrived)) = &self.queue else {
            return Err(AcceptError::Drained);
        };
        crate::wait::block_on(async {
            loop {
                let mut news = pin!(arrived.notified());
                news.as_mut().enable();
                if let Some(accepted) = self.queued()? {
                    return Ok(accepted);
                }
                news.await;
            }
        })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if self.socket.is_some() {
            self.link.count_socket(false);
        }
        if let Some((server, _)) = &self.queue {
            self.link.close(*server);
        }
    }
}
