//! What the owner of a cluster is told.

use crate::cause::Cause;
use crate::exit::ExitStatus;
use crate::id::{Slot, WorkerId};
use crate::reload::{Phase, Receipt};
use crate::restart::Death;
use crate::wire::{AddressType, Listening, Sockname};
use crate::worker::{ExitReason, ReadyBasis};
use serde_json::value::RawValue;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Something that the owner of a cluster may want to know. The `everup` crate documents each one, as its `Event`.
///
/// The two are not one type: an event also has what this crate must not know (descriptors, the kernel's kills) or need
/// not repeat (every worker's place and process id), and it is an interface that this machine does not have to keep.
#[derive(Debug)]
#[expect(missing_docs, reason = "everup::Event, which this becomes, has the docs")]
pub enum Notice {
    Fork {
        worker: WorkerId,
        slot: Slot,
        pid: u32,
        generation: u32,
    },
    SpawnFailed {
        worker: WorkerId,
        slot: Slot,
        why: String,
    },
    Online {
        worker: WorkerId,
    },
    Listening {
        worker: WorkerId,
        address: Address,
    },
    Ready {
        worker: WorkerId,
        basis: ReadyBasis,
        after: Duration,
    },
    AllReady {
        workers: u32,
    },
    Disconnect {
        worker: WorkerId,
    },
    Exit {
        worker: WorkerId,
        slot: Slot,
        pid: u32,
        status: ExitStatus,
        generation: u32,
        reason: ExitReason,
        forced: bool,
        voluntary: bool,
        uptime: Duration,
    },
    Respawn {
        slot: Slot,
        delay: Duration,
        death: Death,
    },
    Message {
        worker: WorkerId,
        message: Box<RawValue>,
    },
    BindFailed {
        worker: WorkerId,
        address: String,
        errno: i32,
    },
    Error {
        worker: Option<WorkerId>,
        what: String,
    },
    Replacing {
        worker: WorkerId,
        slot: Slot,
        cause: Cause,
    },
    Promoted {
        worker: WorkerId,
        slot: Slot,
    },
    Storm {
        status: ExitStatus,
        probe: Slot,
    },
    Calm,
    Scaled {
        from: u32,
        to: u32,
    },
    Reloading {
        generation: u32,
        cause: Cause,
        phase: Phase,
        done: u32,
        total: u32,
    },
    Reloaded(Box<Receipt>),
    Overlap,
    Finished {
        slot: Slot,
    },
    Stopping,
}

/// How a cluster ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// As asked; every worker ended by itself in time.
    Stopped,
    /// As asked, but this many workers had to be killed.
    Killed {
        /// How many.
        workers: u32,
    },
    /// Every worker has ended, and by the restart policy none is started again.
    Done {
        /// So many of them failed.
        failures: u32,
        /// The last one's end.
        status: Option<ExitStatus>,
    },
    /// The restart budget is spent: workers die before they are ready.
    Failed {
        /// The last worker's end; `None` if none could even be started.
        status: Option<ExitStatus>,
    },
}

/// Where a worker listens.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A UNIX socket: a path, or `\0name` for an abstract one.
    Unix(String),
    /// A descriptor of the primary's.
    Descriptor(i32),
    /// An address that the worker named and bound by itself, as it said it.
    Other(String),
}

impl Address {
    /// The address of a `listening` message; `name` is the real one, where we know the socket.
    #[must_use]
    pub fn of(listening: &Listening, name: Option<&Sockname>) -> Self {
        let port = listening.port.unwrap_or(0);
        let said = || {
            name.map(|name| name.address.clone())
                .or_else(|| listening.address.clone())
        };
        let ip = |unspecified: &str| {
            let text = said().unwrap_or_else(|| unspecified.to_owned());
            text.parse()
                .map(|ip| SocketAddr::new(ip, port))
                .map_err(|_| format!("{text}:{port}"))
        };
        match listening.address_type {
            AddressType::Tcp4 => ip("0.0.0.0").map_or_else(Self::Other, Self::Tcp),
            AddressType::Tcp6 => ip("::").map_or_else(Self::Other, Self::Tcp),
            AddressType::Udp4 => ip("0.0.0.0").map_or_else(Self::Other, Self::Udp),
            AddressType::Udp6 => ip("::").map_or_else(Self::Other, Self::Udp),
            AddressType::Unix => Self::Unix(unix_name(listening.address.as_deref().unwrap_or_default())),
            AddressType::Descriptor => Self::Descriptor(listening.fd.unwrap_or(-1)),
        }
    }
}

/// Node puts its working directory before the NUL of an abstract name.
fn unix_name(address: &str) -> String {
    match address.split_once('\0') {
        Some((_, name)) => format!("\0{name}"),
        None => address.to_owned(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.replace('\0', "@")),
            Self::Descriptor(fd) => write!(f, "fd {fd}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}
