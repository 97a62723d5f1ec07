//! What can go wrong for a worker: one error for each kind of operation.

use super::place;
use everup_core::wire::child::Ask;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// Why this process could not take up its place as a worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// It was not started by a primary. Only of [`Worker::required`](super::Worker::required).
    #[error(
        "not a worker: NODE_CHANNEL_FD and NODE_UNIQUE_ID are not set (start it by a cluster, or use Worker::from_env)"
    )]
    NotAWorker,
    /// It was done before: there is one channel, and it has one owner.
    #[error("the channel of this process was taken before")]
    Taken,
    /// A variable of the protocol's has a value that makes no sense. Was it inherited by mistake?
    #[error("the environment variable {variable} is {value:?}, which is not {wanted}")]
    Invalid {
        /// Which.
        variable: &'static str,
        /// As it is.
        value: OsString,
        /// What it should be.
        wanted: &'static str,
    },
    /// The descriptor that the environment names is not open, or not a socket.
    #[error("descriptor {fd}, which {variable} names, is not a socket of ours")]
    Descriptor {
        /// Its number.
        fd: i32,
        /// Who names it.
        variable: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The system refused something that every worker needs: a descriptor, a thread.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Why there is no listening socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody else listens there, or this worker does already.
    #[error("{address} is in use")]
    AddressInUse {
        /// Where.
        address: String,
    },
    /// Ports below 1024 need a privilege (of the primary, which binds), and UNIX sockets a folder that may be written.
    #[error("no permission to listen on {address}")]
    PermissionDenied {
        /// Where.
        address: String,
    },
    /// The system says no for another reason.
    #[error("listen on {address}")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// There is no port in it, or none that can be one.
    #[error("no port in {text:?}: write ADDRESS:PORT, or just the PORT")]
    NoPort {
        /// As it was given.
        text: String,
    },
    /// The name has no address.
    #[error("look {name:?} up")]
    Lookup {
        /// As it was given: `name:port`.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// None of the sockets that this process was started with has this name.
    #[error("no socket was inherited under the name {name:?} (LISTEN_FDNAMES)")]
    NoSuchName {
        /// As asked for.
        name: String,
    },
    /// A path of a UNIX socket must be UTF-8: it goes to the primary as JSON.
    #[error("the path {path:?} is not UTF-8")]
    NotText {
        /// Which.
        path: PathBuf,
    },
    /// The primary is gone: it has ended, or it has closed the channel.
    #[error("the primary is gone")]
    PrimaryGone,
    /// This worker is about to leave, and gets no new sockets. It may be told so before it ever listened: then this is no
    /// failure, and `main` may end well.
    #[error("this worker is draining")]
    Draining,
    /// This process, or the primary, which binds for it, is out of descriptors (`ulimit -n`).
    #[error("out of file descriptors")]
    DescriptorLimit,
    /// What the primary sent for it is not a socket of that kind.
    #[error("the primary sent something else than a socket for {address}")]
    WrongSocket {
        /// For what.
        address: String,
    },
}

impl ListenError {
    /// What a number of the system's means for a place.
    pub(super) fn of(ask: &Ask, error: io::Error) -> Self {
        let address = place::describe(ask);
        match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => Self::AddressInUse { address },
            Some(Errno::ACCESS | Errno::PERM) => Self::PermissionDenied { address },
            Some(Errno::MFILE | Errno::NFILE) => Self::DescriptorLimit,
            _ => Self::Bind {
                address,
                source: error,
            },
        }
    }
}

impl From<ListenError> for io::Error {
    fn from(error: ListenError) -> Self {
        let kind = match &error {
            ListenError::AddressInUse { .. } => io::ErrorKind::AddrInUse,
            ListenError::PermissionDenied { .. } => io::ErrorKind::PermissionDenied,
            ListenError::Bind { source, .. } | ListenError::Lookup { source, .. } => source.kind(),
            ListenError::NotText { .. } | ListenError::NoPort { .. } => io::ErrorKind::InvalidInput,
            ListenError::PrimaryGone => io::ErrorKind::NotConnected,
            ListenError::NoSuchName { .. } => io::ErrorKind::NotFound,
            ListenError::Draining | ListenError::DescriptorLimit | ListenError::WrongSocket { .. } => {
                io::ErrorKind::Other
            }
        };
        Self::new(kind, error)
    }
}

/// Why there is no socket to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoSocket {
    /// The cluster's policy hands connections over, one by one. Use the policy `shared` or `reuseport`, or accept
    /// from the listener.
    #[error(
        "the primary hands connections over: there is a socket only with the policies shared and reuseport"
    )]
    HandOver,
    /// The system refused a descriptor.
    #[error("duplicate the listening socket")]
    System(#[source] io::Error),
}

/// Why no connection was accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The worker leaves, or the listener was closed: there will be no more. Connections that were on their way go to
    /// other workers.
    #[error("the worker is draining")]
    Drained,
    /// This process is out of descriptors (`ulimit -n`). The connection still waits; try again when some are closed.
    #[error("out of file descriptors")]
    DescriptorLimit,
    /// Something else; the next one may be fine.
    #[error("accept a connection")]
    Io(#[source] io::Error),
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE) => Self::DescriptorLimit,
            _ => Self::Io(error),
        }
    }
}
