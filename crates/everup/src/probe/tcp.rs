//! A probe that connects, and sees whether the worker accepts.
//!
//! The kernel completes a connection although nobody accepts it, so that alone says nothing about a worker that hangs.
//! It tells how many connections wait in the listener's queue: when ours was put there and none waits any more, it was
//! taken.

use super::{Step, trouble};
use crate::sys::tcp::waiting;
use everup_core::health::Probed;
use everup_core::time::short;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getpeername, socket_with, sockopt};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often the queue is looked at. The first look comes as late too: the kernel puts a connection there a moment
/// after its other end is connected.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Knock {
    stream: OwnedFd,
    listener: Option<OwnedFd>,
    /// When the queue is looked at; `None` until connected.
    look: Option<Instant>,
}

impl Knock {
    pub(super) fn begin(address: SocketAddr, listener: Option<OwnedFd>) -> Result<Self, Probed> {
        Ok(Self {
            stream: open(address).map_err(trouble)?,
            listener,
            look: None,
        })
    }

    pub(super) fn watch(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.look.is_none().then(|| (self.stream.as_fd(), PollFlags::OUT))
    }

    /// When it is to be looked at without news.
    pub(super) fn look(&self) -> Option<Instant> {
        self.look
    }

    pub(super) fn step(&mut self, now: Instant) -> Step {
        let Some(look) = self.look else {
            return match connected(&self.stream) {
                Ok(false) => Step::Wait,
                Err(error) => Step::Done(trouble(error)),
                Ok(true) if self.listener.is_none() => Step::Done(Probed::Ok),
                Ok(true) => {
                    self.look = Some(now + LOOK);
                    Step::Wait
                }
            };
        };
        if now < look {
            return Step::Wait;
        }
        self.look = Some(now + LOOK);
        // Where the kernel does not tell, the connection is all that can be known.
        match self.listener.as_ref().and_then(waiting) {
            Some(0) | None => Step::Done(Probed::Ok),
            Some(_) => Step::Wait,
        }
    }

    pub(super) fn expire(&self, limit: Duration) -> Step {
        let what = if self.look.is_some() {
            "not accepted"
        } else {
            "no connection"
        };
        Step::Done(Probed::Failed(format!("{what} within {}", short(limit))))
    }
}

/// Begins to connect.
pub(super) fn open(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let stream = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&stream, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(stream),
        Err(error) => Err(error),
    }
}

/// Whether it is connected by now.
pub(super) fn connected(stream: &OwnedFd) -> Result<bool, Errno> {
    sockopt::socket_error(stream)??;
    match getpeername(stream) {
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error),
    }
}
