//! The IO of one worker's channel: bytes and descriptors in, bytes and descriptors out.
//!
//! What they mean is [`Session`]'s business. This keeps the received descriptors in the order in which the
//! session claims them.

use crate::driver::keep;
use crate::estate::Ledger;
use crate::sys::inherited::possess;
use everup_core::id::{Token, WorkerId};
use everup_core::wire::{Event, Session, Settings, WireError};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// Bytes read at once.
pub(crate) const READ_BUFFER: usize = 16 * 1024;
/// Descriptors received at once. The kernel never joins two messages that carry some.
const RECEIVED_AT_ONCE: usize = 8;

/// One end of a channel, and the conversation on it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Channel {
    #[serde(with = "crate::estate::number")]
    socket: OwnedFd,
    pub(crate) session: Session,
    #[serde(with = "crate::estate::number::queue")]
    received: VecDeque<OwnedFd>,
    broken: bool,
    /// Whether it is closed as soon as everything is written.
    pub(crate) closing: bool,
    /// Whether its last write had to wait for the system.
    pub(crate) troubled: bool,
    /// Whether the poller watches for room to write.
    pub(crate) waits_for_room: bool,
}

/// Where what is said to and by a worker is noted.
pub(crate) type Noted<'a> = (WorkerId, &'a mut (dyn Ledger + 'static));

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

    /// Reads once; what is read is in the ledger before anything is done with it.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        events: &mut Vec<Event>,
        ledger: Option<Noted<'_>>,
    ) -> Read {
        let before = self.received.len();
        let received = match ledger {
            None => receive(&self.socket, buffer, &mut self.received),
            Some(ledger) => self.receive_noted(buffer, ledger),
        };
        let read = match received {
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

    fn receive_noted(&mut self, buffer: &mut [u8], (worker, ledger): Noted<'_>) -> Result<usize, Errno> {
        let before = self.received.len();
        // A ledger that has no room is reported with the next snapshot.
        let Ok(space) = ledger.reserve(&keep::read_head(worker), buffer.len()) else {
            return receive(&self.socket, buffer, &mut self.received);
        };
        let received = receive(&self.socket, space, &mut self.received);
        let read = *received.as_ref().unwrap_or(&0);
        buffer[..read].copy_from_slice(&space[..read]);
        if read > 0 {
            ledger.commit(read);
        }
        if self.received.len() > before {
            ledger
                .append(&keep::came(worker, self.received.iter().skip(before)))
                .ok();
        }
        received
    }

    /// What a dead engine had read, with the descriptors that came.
    pub(crate) fn inherit(
        &mut self,
        bytes: &[u8],
        came: &[RawFd],
        events: &mut Vec<Event>,
    ) -> Result<(), WireError> {
        // One that cannot be had is missed by its message, and the worker sends it again.
        let descriptors = came.iter().filter_map(|number| possess(*number).ok());
        let before = self.received.len();
        self.received.extend(descriptors);
        self.session.receive(bytes, self.received.len() - before, events)
    }

    /// The descriptor that an [`Event::Handle`] is about.
    pub(crate) fn claim(&mut self) -> Option<OwnedFd> {
        self.received.pop_front()
    }

    /// Writes what the session has to say. `find` gives the descriptor of a token.
    pub(crate) fn write<'a>(
        &mut self,
        find: impl Fn(Token) -> Option<BorrowedFd<'a>>,
        mut ledger: Option<Noted<'_>>,
    ) -> Written {
        while !self.broken {
            let Some(next) = self.session.transmit() else {
                return Written::All;
            };
            let descriptor = match next.descriptor.map(&find) {
                Some(None) => return Written::Lost,
                Some(found) => found,
                None => None,
            };
            if let Some((worker, ledger)) = &mut ledger {
                ledger
                    .append(&keep::writing(*worker, next.bytes.len(), next.descriptor))
                    .ok();
            }
            let sent = send(&self.socket, next.bytes, descriptor);
            if let Some((worker, ledger)) = &mut ledger {
                ledger
                    .append(&keep::wrote(*worker, *sent.as_ref().unwrap_or(&0)))
                    .ok();
            }
            match sent {
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
