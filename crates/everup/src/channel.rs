//! The IO of one worker's channel: bytes and descriptors in, bytes and descriptors out.
//!
//! What they mean is [`Session`]'s business. This keeps the received descriptors in the order in which the
//! session claims them.

use everup_core::id::Token;
use everup_core::wire::{Event, Session, Settings, WireError};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes read at once: as many as libuv reads.
pub(crate) const READ_BUFFER: usize = 64 * 1024;
/// Descriptors received at once. The kernel never joins two messages that carry some.
const RECEIVED_AT_ONCE: usize = 8;

/// One end of a channel, and the conversation on it.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    pub(crate) session: Session,
    received: VecDeque<OwnedFd>,
    broken: bool,
    /// Whether it is closed as soon as everything is written.
    pub(crate) closing: bool,
    /// Whether its last write had to wait for the system.
    pub(crate) troubled: bool,
    /// Whether the poller watches for room to write.
    pub(crate) waits_for_room: bool,
}

/// What reading came to.
#[derive(Debug)]
pub(crate) enum Read {
    /// Something was read; there may be more.
    Some,
    /// Nothing now.
    Nothing,
    /// The other end is closed, and everything it said has been read.
    End,
    /// The other end does not keep to the protocol.
    Garbled(WireError),
}

/// What writing came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Everything that may be written now.
    All,
    /// The socket is full.
    Full,
    /// The system is short of something (memory, descriptors in flight): to be tried again in a moment. No
    /// readiness tells when.
    Later,
    /// The other end does not read any more. What it said before is still to be read.
    Broken,
    /// The descriptor that is to be sent next is gone, so nothing can follow: the channel is of no use.
    Lost,
}

impl Channel {
    /// A channel, and the end for the worker.
    pub(crate) fn pair(settings: Settings) -> Result<(Self, OwnedFd), Errno> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let session = Session::new(settings);
        let channel = Self {
            socket: ours,
            session,
            received: VecDeque::new(),
            broken: false,
            closing: false,
            troubled: false,
            waits_for_room: false,
        };
        Ok((channel, theirs))
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads once.
    pub(crate) fn read(&mut self, buffer: &mut [u8], events: &mut Vec<Event>) -> Read {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RECEIVED_AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let read = match recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(buffer)],
            &mut ancillary,
            flags,
        ) {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
            Err(_) => return Read::End,
        };
        let before = self.received.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.received.extend(descriptors);
            }
        }
        if read == 0 {
            return Read::End;
        }
        match self
            .session
            .receive(&buffer[..read], self.received.len() - before, events)
        {
            Ok(()) => Read::Some,
            Err(error) => Read::Garbled(error),
        }
    }

    /// The descriptor that an [`Event::Handle`] is about.
    pub(crate) fn claim(&mut self) -> Option<OwnedFd> {
        self.received.pop_front()
    }

    /// Writes what the session has to say. `find` gives the descriptor of a token.
    pub(crate) fn write<'a>(&mut self, find: impl Fn(Token) -> Option<BorrowedFd<'a>>) -> Written {
        while !self.broken {
            let Some(next) = self.session.transmit() else {
                return Written::All;
            };
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptor;
            if let Some(token) = next.descriptor {
                let Some(found) = find(token) else {
                    return Written::Lost;
                };
                descriptor = [found];
                ancillary.push(SendAncillaryMessage::ScmRights(&descriptor));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.socket, &[IoSlice::new(next.bytes)], &mut ancillary, flags) {
                Ok(written) => self.session.wrote(written),
                Err(Errno::AGAIN) => return Written::Full,
                Err(Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS | Errno::MFILE | Errno::NFILE) => {
                    return Written::Later;
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        self.broken = true;
        Written::Broken
    }
}
