//! What is sent through a channel, by either side: messages, sockets, and why one was not sent.
//!
//! A message is one JSON value. It is given as text, or as anything that serde can write.
//! Must not know: who sends, and to whom.

use everup_core::wire::{FRAME_LIMIT, HandleKind};
use rustix::fs::FileType;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// What the protocol may put around a message, in bytes: it counts for the frame, too.
const AROUND: usize = 256;

/// The longest message, in bytes of its JSON text: 64 MiB, less 256 bytes for what the protocol puts around it. The
/// same in both directions. Node itself has no limit; a worker's channel that brings more is closed.
pub const MESSAGE_LIMIT: usize = FRAME_LIMIT - AROUND;

/// Why a message was not sent. Nothing of it was.
///
/// A message that was taken can still be lost: the other end may die before it has read it. What must not be lost
/// needs an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The other end is gone: it has ended, it has closed its channel, or it never had one.
    #[error("the other end of the channel is gone")]
    Gone,
    /// The message is longer than [`MESSAGE_LIMIT`].
    #[error("a message of {size} bytes, where {limit} are the most")]
    FrameTooLarge {
        /// Its JSON text, in bytes.
        size: usize,
        /// [`MESSAGE_LIMIT`], in bytes.
        limit: usize,
    },
    /// It is not one JSON value, or cannot be written as JSON (a map whose keys are not strings).
    #[error("the message is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// The other end does not read, and so much waits for it already.
    #[error("the other end does not read: {queued} of {limit} are queued")]
    QueueFull {
        /// What is queued: bytes of messages, or, where a handle was sent, handles.
        queued: usize,
        /// The most that may be.
        limit: usize,
    },
    /// A value in V8's format, for a channel that speaks JSON; or a value that is in no such format.
    #[error("the channel has no such format")]
    WrongFormat,
    /// The descriptor is not what its kind says: a stream socket, a UDP socket, or (only as
    /// [`HandleKind::NativeStream`]) a pipe. Node would abort at a file, and take no handle any more after others.
    #[error("the descriptor is no socket of that kind")]
    NotASocket,
    /// The descriptor cannot be sent: what it is cannot be found out, or it cannot be made non-blocking.
    #[error("the descriptor cannot be sent")]
    Descriptor(#[source] io::Error),
}

/// A value as the JSON of a message.
///
/// # Errors
/// [`SendError::NotJson`], [`SendError::FrameTooLarge`].
pub(crate) fn json(message: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, SendError> {
    checked(to_raw_value(message))
}

/// A text that is to be one JSON value as a message.
///
/// # Errors
/// [`SendError::NotJson`], [`SendError::FrameTooLarge`].
pub(crate) fn text(message: &str) -> Result<Box<RawValue>, SendError> {
    checked_size(message.len())?;
    checked(RawValue::from_string(message.to_owned()))
}

fn checked(message: serde_json::Result<Box<RawValue>>) -> Result<Box<RawValue>, SendError> {
    let message = message.map_err(SendError::NotJson)?;
    checked_size(message.get().len())?;
    Ok(message)
}

/// # Errors
/// [`SendError::FrameTooLarge`].
pub(crate) fn checked_size(size: usize) -> Result<(), SendError> {
    match size <= MESSAGE_LIMIT {
        true => Ok(()),
        false => Err(SendError::FrameTooLarge {
            size,
            limit: MESSAGE_LIMIT,
        }),
    }
}

/// A socket that goes with a message, or came with one. A Node worker gets a `net.Server`, `net.Socket` or
/// `dgram.Socket`.
///
/// It is closed on this side once it is delivered. A worker that reads it makes it non-blocking, and with it every
/// other copy: that belongs to the socket, not to the descriptor. What came from Node is non-blocking.
///
/// ```
/// use everup::{Handle, HandleKind};
/// use std::os::fd::OwnedFd;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let handle = Handle::from(listener);
/// assert_eq!(handle.kind(), HandleKind::Server);
/// // As the other end sees it: a descriptor and a kind.
/// let handle = Handle::of(HandleKind::Server, OwnedFd::from(handle));
/// assert!(matches!(handle, Handle::Listener(_)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Handle {
    /// A listening TCP socket.
    Listener(TcpListener),
    /// A TCP connection.
    Stream(TcpStream),
    /// A UDP socket.
    Datagram(UdpSocket),
    /// A listening UNIX stream socket.
    UnixListener(UnixListener),
    /// A connection over a UNIX stream socket.
    UnixStream(UnixStream),
    /// Anything else, named by the kind that the other end is told.
    Raw(HandleKind, OwnedFd),
}

impl Handle {
    /// What the other end is told that it is.
    #[must_use]
    pub fn kind(&self) -> HandleKind {
        match self {
            Self::Listener(_) | Self::UnixListener(_) => HandleKind::Server,
            Self::Stream(_) | Self::UnixStream(_) => HandleKind::Socket,
            Self::Datagram(socket) => match socket.local_addr() {
                Ok(address) if address.is_ipv6() => HandleKind::Udp6,
                _ => HandleKind::Udp4,
            },
            Self::Raw(kind, _) => *kind,
        }
    }

    /// What it is, and its descriptor, ready to be sent.
    ///
    /// # Errors
    /// [`SendError::NotASocket`], [`SendError::Descriptor`].
    pub(crate) fn prepare(self) -> Result<(HandleKind, OwnedFd), SendError> {
        let kind = self.kind();
        let descriptor = OwnedFd::from(self);
        let pipe = || {
            let status = rustix::fs::fstat(&descriptor);
            status.is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Fifo)
        };
        let datagram = matches!(
            kind,
            HandleKind::Udp4 | HandleKind::Udp6 | HandleKind::NativeDatagram
        );
        let fits = match Found::of(&descriptor) {
            Some(Found::Datagram) => datagram,
            Some(Found::Listener { .. } | Found::Stream { .. }) => !datagram,
            None => kind == HandleKind::NativeStream && pipe(),
        };
        if !fits {
            return Err(SendError::NotASocket);
        }
        // libuv does not: a blocking socket would freeze the worker.
        rustix::io::ioctl_fionbio(&descriptor, true).map_err(|errno| SendError::Descriptor(errno.into()))?;
        Ok((kind, descriptor))
    }

    /// A descriptor that came as this kind, as what it really is. What the kind promises and the descriptor is not
    /// (and what std has no type for) stays [`Raw`](Self::Raw).
    #[must_use]
    pub fn of(kind: HandleKind, descriptor: OwnedFd) -> Self {
        let Some(found) = Found::of(&descriptor) else {
            return Self::Raw(kind, descriptor);
        };
        match (kind, found) {
            (HandleKind::Server | HandleKind::NativeStream, Found::Listener { unix: false }) => {
                Self::Listener(descriptor.into())
            }
            (HandleKind::Server | HandleKind::NativeStream, Found::Listener { unix: true }) => {
                Self::UnixListener(descriptor.into())
            }
            (HandleKind::Socket | HandleKind::NativeStream, Found::Stream { unix: false }) => {
                Self::Stream(descriptor.into())
            }
            (HandleKind::Socket | HandleKind::NativeStream, Found::Stream { unix: true }) => {
                Self::UnixStream(descriptor.into())
            }
            (HandleKind::Udp4 | HandleKind::Udp6 | HandleKind::NativeDatagram, Found::Datagram) => {
                Self::Datagram(descriptor.into())
            }
            _ => Self::Raw(kind, descriptor),
        }
    }
}

/// What the kernel says of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Listener { unix: bool },
    Stream { unix: bool },
    Datagram,
}

impl Found {
    fn of(descriptor: &OwnedFd) -> Option<Self> {
        use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
        use rustix::net::{AddressFamily, SocketType};
        let unix = match socket_domain(descriptor).ok()? {
            AddressFamily::UNIX => true,
            AddressFamily::INET | AddressFamily::INET6 => false,
            _ => return None,
        };
        match socket_type(descriptor).ok()? {
            SocketType::STREAM if socket_acceptconn(descriptor).ok()? => Some(Self::Listener { unix }),
            SocketType::STREAM => Some(Self::Stream { unix }),
            SocketType::DGRAM if !unix => Some(Self::Datagram),
            _ => None,
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Listener(socket) => socket.as_fd(),
            Self::Stream(socket) => socket.as_fd(),
            Self::Datagram(socket) => socket.as_fd(),
            Self::UnixListener(socket) => socket.as_fd(),
            Self::UnixStream(socket) => socket.as_fd(),
            Self::Raw(_, descriptor) => descriptor.as_fd(),
        }
    }
}

impl From<Handle> for OwnedFd {
    fn from(handle: Handle) -> Self {
        match handle {
            Handle::Listener(socket) => socket.into(),
            Handle::Stream(socket) => socket.into(),
            Handle::Datagram(socket) => socket.into(),
            Handle::UnixListener(socket) => socket.into(),
            Handle::UnixStream(socket) => socket.into(),
            Handle::Raw(_, descriptor) => descriptor,
        }
    }
}

impl From<TcpListener> for Handle {
    fn from(socket: TcpListener) -> Self {
        Self::Listener(socket)
    }
}

impl From<TcpStream> for Handle {
    fn from(socket: TcpStream) -> Self {
        Self::Stream(socket)
    }
}

impl From<UdpSocket> for Handle {
    fn from(socket: UdpSocket) -> Self {
        Self::Datagram(socket)
    }
}

impl From<UnixListener> for Handle {
    fn from(socket: UnixListener) -> Self {
        Self::UnixListener(socket)
    }
}

impl From<UnixStream> for Handle {
    fn from(socket: UnixStream) -> Self {
        Self::UnixStream(socket)
    }
}

/// Why nothing was written to a worker's standard input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The worker is gone.
    #[error("the worker is gone")]
    Gone,
    /// Its standard input is not ours.
    #[error("its standard input is no pipe of ours")]
    None,
    /// It is longer than [`InputError::LONGEST`].
    #[error("more than {} bytes", InputError::LONGEST)]
    TooLong,
    /// It does not read, and the pipe is full.
    #[error("it does not read its standard input, and the pipe is full")]
    Full,
    /// It has closed its standard input.
    #[error("it has closed its standard input")]
    Closed,
    /// The system says something else.
    #[error("write to its standard input")]
    System(#[source] io::Error),
}

impl InputError {
    /// The longest piece, in bytes: what a pipe keeps together (`PIPE_BUF` of Linux).
    pub const LONGEST: usize = 4096;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::error::Error;

    #[test]
    fn messages_are_one_json_value_within_the_limit() {
        assert_eq!(json(&vec![1, 2]).unwrap().get(), "[1,2]");
        assert_eq!(text("{\"a\": 1}").unwrap().get(), "{\"a\": 1}");
        assert!(matches!(text("1 2"), Err(SendError::NotJson(_))));
        let no_json: HashMap<Vec<u8>, u8> = HashMap::from([(vec![1], 1)]);
        assert!(matches!(json(&no_json), Err(SendError::NotJson(_))));
        let quoted = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
        assert!(text(&quoted(MESSAGE_LIMIT)).is_ok());
        for result in [text(&quoted(MESSAGE_LIMIT + 1)), json(&"x".repeat(MESSAGE_LIMIT))] {
            let error = result.unwrap_err();
            assert!(matches!(
                error,
                SendError::FrameTooLarge {
                    limit: MESSAGE_LIMIT,
                    ..
                }
            ));
        }
    }

    #[test]
    fn errors_name_their_source_once() {
        let error = text("nope").unwrap_err();
        let source = error.source().unwrap().to_string();
        assert!(!error.to_string().contains(&source), "{error}");
    }

    #[test]
    fn sockets_come_back_as_what_they_are() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("[::1]:0")
            .or_else(|_| UdpSocket::bind("127.0.0.1:0"))
            .unwrap();
        let six = udp.local_addr().unwrap().is_ipv6();
        let (unix, _other) = UnixStream::pair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = UnixListener::bind(folder.path().join("s")).unwrap();
        let sent: [(Handle, HandleKind); 5] = [
            (tcp.into(), HandleKind::Server),
            (stream.into(), HandleKind::Socket),
            (udp.into(), if six { HandleKind::Udp6 } else { HandleKind::Udp4 }),
            (unix.into(), HandleKind::Socket),
            (server.into(), HandleKind::Server),
        ];
        for (handle, kind) in sent {
            assert_eq!(handle.kind(), kind);
            let before = std::mem::discriminant(&handle);
            let again = Handle::of(kind, handle.into());
            assert_eq!(std::mem::discriminant(&again), before, "{again:?}");
        }
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        let file = Handle::of(HandleKind::Socket, file);
        assert!(matches!(file, Handle::Raw(..)));
        assert!(matches!(file.prepare(), Err(SendError::NotASocket)));
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        assert!(Handle::Raw(HandleKind::NativeStream, pipe).prepare().is_ok());
    }
}
