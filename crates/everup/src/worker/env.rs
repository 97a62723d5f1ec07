//! How this process was started, as its environment tells.
//!
//! | variables | started by |
//! |---|---|
//! | `NODE_CHANNEL_FD`, `NODE_UNIQUE_ID` | a cluster's primary: everup, or Node's own |
//! | `NODE_CHANNEL_FD` alone | `child_process.fork` |
//! | `LISTEN_FDS`, `LISTEN_PID` | `everup run` without a channel, systemd |

use super::error::EnvError;
use crate::process::FEEDBACK;
use crate::sys::inherited::{Claim, forget_variables};
use everup_core::id::WorkerId;
use everup_core::wire::Serialization;
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::OnceLock;

const CHANNEL: &str = "NODE_CHANNEL_FD";
const MODE: &str = "NODE_CHANNEL_SERIALIZATION_MODE";
const ID: &str = "NODE_UNIQUE_ID";
/// The first descriptor that `LISTEN_FDS` counts.
const FIRST: RawFd = 3;

/// Variables of the channel: a Node program that inherited them would take them for its own.
pub(super) const VARIABLES: [&str; 7] = [
    CHANNEL,
    MODE,
    ID,
    FEEDBACK,
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// A channel to a primary or parent.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) socket: OwnedFd,
    pub(super) serialization: Serialization,
    pub(super) everup: bool,
}

/// A socket that was there at the start.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) name: Option<String>,
    pub(super) socket: OwnedFd,
}

/// How a worker was started.
#[derive(Debug)]
pub(super) enum Start {
    Channel(Channel, WorkerId),
    Inherited(Vec<Inherited>),
}

/// As what this process took its place. The environment cannot tell any more: its variables may be gone.
static TAKEN: OnceLock<Role> = OnceLock::new();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Worker,
    Child,
}

impl Role {
    /// Fails the second time: a worker must never be told that it is none.
    fn once<T>(self, take: impl FnOnce() -> Result<Option<T>, EnvError>) -> Result<Option<T>, EnvError> {
        if TAKEN.get() == Some(&self) {
            return Err(EnvError::Taken);
        }
        let taken = take()?;
        if taken.is_some() {
            // Only the holder of the claim gets here.
            TAKEN.get_or_init(|| self);
        }
        Ok(taken)
    }
}

/// `None`: not as a worker.
pub(super) fn worker() -> Result<Option<Start>, EnvError> {
    Role::Worker.once(find_worker)
}

fn find_worker() -> Result<Option<Start>, EnvError> {
    let id: Option<u32> = number(ID, "a worker's number")?;
    if let (Some(fd), Some(id)) = (number(CHANNEL, "a descriptor's number")?, id) {
        let channel = channel(fd)?;
        return Ok(Some(Start::Channel(channel, WorkerId(id))));
    }
    let (count, pid) = (
        number::<RawFd>("LISTEN_FDS", "a number of descriptors")?,
        number::<u32>("LISTEN_PID", "a process's number")?,
    );
    match (count, pid) {
        // For another process, which did not take them out of our environment.
        (_, Some(pid)) if pid != std::process::id() => Ok(None),
        (Some(count), Some(_)) if count > 0 => inherited(count).map(|all| Some(Start::Inherited(all))),
        _ => Ok(None),
    }
}

/// `None`: not by `child_process.fork`.
pub(super) fn parent() -> Result<Option<Channel>, EnvError> {
    Role::Child.once(find_parent)
}

fn find_parent() -> Result<Option<Channel>, EnvError> {
    if std::env::var_os(ID).is_some() {
        return Ok(None);
    }
    match number(CHANNEL, "a descriptor's number")? {
        Some(fd) => channel(fd).map(Some),
        None => Ok(None),
    }
}

fn channel(fd: RawFd) -> Result<Channel, EnvError> {
    let serialization = match std::env::var_os(MODE) {
        None => Serialization::Json,
        Some(mode) if mode == "json" => Serialization::Json,
        Some(mode) if mode == "advanced" => Serialization::Advanced,
        Some(value) => {
            let (variable, wanted) = (MODE, "json or advanced");
            return Err(EnvError::Invalid {
                variable,
                value,
                wanted,
            });
        }
    };
    let claim = Claim::first().ok_or(EnvError::Taken)?;
    let socket = match take(&claim, fd, CHANNEL, is_channel) {
        Ok(socket) => socket,
        Err(error) => {
            claim.unused();
            return Err(error);
        }
    };
    let everup = std::env::var_os(FEEDBACK).is_some_and(|value| value == "1");
    forget_variables(&VARIABLES);
    Ok(Channel {
        socket,
        serialization,
        everup,
    })
}

fn inherited(count: RawFd) -> Result<Vec<Inherited>, EnvError> {
    let claim = Claim::first().ok_or(EnvError::Taken)?;
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut all = Vec::new();
    for fd in FIRST..FIRST.saturating_add(count.min(MOST)) {
        let name = names.next().filter(|name| !name.is_empty() && *name != "unknown");
        all.push(Inherited {
            name: name.map(str::to_owned),
            socket: take(&claim, fd, "LISTEN_FDS", is_server)?,
        });
    }
    forget_variables(&VARIABLES);
    Ok(all)
}

/// How many descriptors are believed to be passed.
const MOST: RawFd = 4096;

fn take(
    claim: &Claim,
    fd: RawFd,
    variable: &'static str,
    fits: impl FnOnce(BorrowedFd<'_>) -> io::Result<bool>,
) -> Result<OwnedFd, EnvError> {
    let failed = |source| EnvError::Descriptor { fd, variable, source };
    claim.take(fd, fits).map_err(failed)
}

/// One end of a pair of UNIX stream sockets.
fn is_channel(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let unix = sockopt::socket_domain(socket)? == AddressFamily::UNIX;
    let stream = sockopt::socket_type(socket)? == SocketType::STREAM;
    Ok(unix && stream && !sockopt::socket_acceptconn(socket)?)
}

/// A listening stream socket, or one of datagrams.
fn is_server(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let stream = sockopt::socket_type(socket)? == SocketType::STREAM;
    Ok(!stream || sockopt::socket_acceptconn(socket)?)
}

fn number<T: FromStr>(variable: &'static str, wanted: &'static str) -> Result<Option<T>, EnvError> {
    let Some(value) = std::env::var_os(variable) else {
        return Ok(None);
    };
    match value.to_str().map(str::parse) {
        Some(Ok(number)) => Ok(Some(number)),
        _ => Err(EnvError::Invalid {
            variable,
            value,
            wanted,
        }),
    }
}

/// The slot, where the primary gives one under the usual name.
pub(super) fn slot() -> Option<u32> {
    let value: OsString = std::env::var_os("NODE_APP_INSTANCE")?;
    value.to_str()?.parse().ok()
}
