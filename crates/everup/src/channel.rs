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
        let before = self.received.len();
        let read = match receive(&self.socket, buffer, &mut self.received) {
            Ok(0) => return Read::End,
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
            Err(_) => return Read::End,
        };
        let arrived = self.received.len() - before;
        match self.session.receive(&buffer[..read], arrived, events) {
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
            let descriptor = match next.descriptor.map(&find) {
                Some(None) => return Written::Lost,
                Some(found) => found,
                None => None,
            };
            match send(&self.socket, next.bytes, descriptor) {
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

/// Reads what is there, at most a buffer full; descriptors that came with it are appended. 0 is the end.
pub(crate) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    received: &mut VecDeque<OwnedFd>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RECEIVED_AT_ONCE))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received.extend(descriptors);
        }
    }
    Ok(message.bytes)
}

/// Writes what there is room for; the descriptor goes with the first byte.
pub(crate) fn send(
    socket: &OwnedFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    if let Some(descriptors) = &descriptors {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
}
