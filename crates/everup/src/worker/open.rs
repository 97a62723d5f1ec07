//! How a worker comes by its listening sockets: asked of the primary, inherited, or bound by itself.

use super::acceptor::Acceptor;
use super::env::Inherited;
use super::error::ListenError;
use super::link::{Granted, Link};
use super::place;
use crate::bind::{self, BoundSocket};
use everup_core::endpoint::{BindRequest, Sharing};
use everup_core::wire::AddressType;
use everup_core::wire::child::{Ask, ServerId};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where a worker's sockets come from.
#[derive(Debug)]
pub(super) enum Origin {
    Primary,
    Inherited(Vec<Inherited>),
    Own,
}

/// A socket, or the promise of connections.
#[derive(Debug)]
pub(super) struct Opened {
    /// Where, if it is not a UNIX socket.
    pub(super) address: Option<SocketAddr>,
    pub(super) acceptor: Acceptor,
}

const BACKLOG: i32 = 511;

/// Opens the first of these places that can be opened.
pub(super) async fn stream(link: &Arc<Link>, origin: &Origin, asks: Vec<Ask>) -> Result<Opened, ListenError> {
    let mut last = None;
    for ask in asks {
        let opened = match origin {
            Origin::Primary => from_primary(link, ask).await,
            Origin::Inherited(sockets) => match find(sockets, &ask)? {
                Some(socket) => own(link, socket, None, &ask),
                None => by_itself(link, &ask),
            },
            Origin::Own => by_itself(link, &ask),
        };
        match opened {
            Err(
                error @ (ListenError::PrimaryGone | ListenError::Draining | ListenError::DescriptorLimit),
            ) => {
                return Err(error);
            }
            Err(error) => last = Some(error),
            Ok(opened) => return Ok(opened),
        }
    }
    Err(last.unwrap_or(ListenError::PrimaryGone))
}

/// The inherited socket of this name.
pub(super) fn named(link: &Arc<Link>, origin: &Origin, name: &str) -> Result<Opened, ListenError> {
    let sockets: &[Inherited] = match origin {
        Origin::Inherited(sockets) => sockets,
        Origin::Primary | Origin::Own => &[],
    };
    let found = sockets
        .iter()
        .find(|inherited| inherited.name.as_deref() == Some(name));
    let Some(inherited) = found else {
        let name = name.to_owned();
        return Err(ListenError::NoSuchName { name });
    };
    let failed = |source| ListenError::Bind {
        address: name.to_owned(),
        source,
    };
    let socket = inherited.socket.try_clone().map_err(failed)?;
    rustix::io::ioctl_fionbio(&socket, true).map_err(|errno| failed(errno.into()))?;
    Ok(Opened {
        address: address_of(&socket),
        acceptor: Acceptor::new(link, None, Some((socket, None))),
    })
}

/// A UDP socket; they are always real ones.
pub(super) async fn datagram(
    link: &Arc<Link>,
    origin: &Origin,
    asks: Vec<Ask>,
) -> Result<std::net::UdpSocket, ListenError> {
    let mut last = None;
    for ask in asks {
        let socket = match origin {
            Origin::Primary => match granted(link, &ask).await {
                Ok((asking, Granted::Shared { socket, .. })) => {
                    let server = asking.keep();
                    let port = address_of(&socket).map(|address| address.port());
                    link.listening(server, port);
                    Ok(socket)
                }
                Ok((_, Granted::HandOver { .. })) => Err(ListenError::WrongSocket {
                    address: place::describe(&ask),
                }),
                Ok((_, Granted::Failed { errno })) => {
                    Err(ListenError::of(&ask, std::io::Error::from_raw_os_error(errno)))
                }
                Ok((_, Granted::Missing)) => Err(ListenError::DescriptorLimit),
                Err(error) => Err(error),
            },
            Origin::Inherited(sockets) => match find(sockets, &ask)? {
                Some(socket) => Ok(socket),
                None => bound(&ask).map(|bound| bound.descriptor),
            },
            Origin::Own => bound(&ask).map(|bound| bound.descriptor),
        };
        match socket {
            Ok(socket) => {
                nonblocking(&socket, &ask)?;
                return Ok(socket.into());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(ListenError::PrimaryGone))
}

async fn from_primary(link: &Arc<Link>, ask: Ask) -> Result<Opened, ListenError> {
    let (asking, granted) = granted(link, &ask).await?;
    match granted {
        Granted::HandOver { sockname, arrived } => {
            let address = sockname
                .and_then(|name| Some(SocketAddr::new(name.address.parse::<IpAddr>().ok()?, name.port)));
            let server = asking.keep();
            let acceptor = Acceptor::new(link, Some((server, arrived)), None);
            link.listening(server, address.map(|address| address.port()));
            Ok(Opened { address, acceptor })
        }
        Granted::Shared { socket, arrived } => {
            let address = address_of(&socket);
            bound_there(&ask, address)?;
            nonblocking(&socket, &ask)?;
            // Node's own primary has bound it only.
            rustix::net::listen(&socket, BACKLOG).map_err(|errno| ListenError::of(&ask, errno.into()))?;
            let server = asking.keep();
            let acceptor = Acceptor::new(link, Some((server, arrived)), Some((socket, None)));
            link.listening(server, address.map(|address| address.port()));
            Ok(Opened { address, acceptor })
        }
        Granted::Failed { errno } => Err(ListenError::of(&ask, std::io::Error::from_raw_os_error(errno))),
        Granted::Missing => Err(ListenError::DescriptorLimit),
    }
}

/// libuv keeps the error of `bind` for later, so Node's own primary sends a socket that is not bound: `listen` would
/// give it any port. Node's workers look, too.
fn bound_there(ask: &Ask, address: Option<SocketAddr>) -> Result<(), ListenError> {
    let wanted = ask.port.filter(|port| *port > 0);
    match (wanted, address) {
        (Some(wanted), Some(address)) if wanted != address.port() => {
            Err(ListenError::of(ask, Errno::ADDRINUSE.into()))
        }
        _ => Ok(()),
    }
}

async fn granted(link: &Arc<Link>, ask: &Ask) -> Result<(Asking, Granted), ListenError> {
    let refused = || {
        if link.is_connected() {
            ListenError::Draining
        } else {
            ListenError::PrimaryGone
        }
    };
    let (server, answered) = link.ask(ask.clone()).ok_or_else(refused)?;
    let asking = Asking {
        link: Arc::clone(link),
        server: Some(server),
    };
    let granted = answered.await.map_err(|_| refused())?;
    Ok((asking, granted))
}

/// A question under way: whoever gives up waiting closes what comes of it.
struct Asking {
    link: Arc<Link>,
    server: Option<ServerId>,
}

impl Asking {
    fn keep(mut self) -> ServerId {
        // It is there until this one call, which takes the whole.
        self.server.take().unwrap_or(ServerId(0))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(server) = self.server {
            self.link.close(server);
        }
    }
}

fn by_itself(link: &Arc<Link>, ask: &Ask) -> Result<Opened, ListenError> {
    let bound = bound(ask)?;
    let socket = bound.descriptor.try_clone();
    let socket = socket.map_err(|error| ListenError::of(ask, error))?;
    own(link, socket, Some(bound), ask)
}

fn own(
    link: &Arc<Link>,
    socket: OwnedFd,
    bound: Option<BoundSocket>,
    ask: &Ask,
) -> Result<Opened, ListenError> {
    nonblocking(&socket, ask)?;
    Ok(Opened {
        address: address_of(&socket),
        acceptor: Acceptor::new(link, None, Some((socket, bound))),
    })
}

fn bound(ask: &Ask) -> Result<BoundSocket, ListenError> {
    let request = BindRequest {
        address: ask.address.clone(),
        port: ask.port,
        address_type: ask.address_type,
        fd: None,
        flags: ask.flags,
        backlog: ask.backlog,
        readable_all: false,
        writable_all: false,
        sharing: Sharing::Shared,
    };
    bind::for_worker(&request, |_| None).map_err(|errno| ListenError::of(ask, errno.into()))
}

/// The inherited socket that is meant: of the same address and kind; where the port is 0, the first of the kind.
fn find(sockets: &[Inherited], ask: &Ask) -> Result<Option<OwnedFd>, ListenError> {
    let found = sockets.iter().find(|inherited| fits(&inherited.socket, ask));
    found
        .map(|inherited| inherited.socket.try_clone())
        .transpose()
        .map_err(|error| ListenError::of(ask, error))
}

fn fits(socket: &OwnedFd, ask: &Ask) -> bool {
    use rustix::net::{SocketType, sockopt};
    let wanted = match ask.address_type {
        AddressType::Udp4 | AddressType::Udp6 => SocketType::DGRAM,
        AddressType::Tcp4 | AddressType::Tcp6 | AddressType::Unix | AddressType::Descriptor => {
            SocketType::STREAM
        }
    };
    if sockopt::socket_type(socket) != Ok(wanted) {
        return false;
    }
    if ask.address_type == AddressType::Unix {
        return path_of(socket).is_some_and(|path| Some(path) == ask.address);
    }
    let Some(address) = address_of(socket) else {
        return false;
    };
    if ask.port == Some(0) {
        return true;
    }
    let ip: Option<IpAddr> = ask.address.as_ref().and_then(|text| text.parse().ok());
    let same = match ip {
        None => address.ip().is_unspecified(),
        Some(ip) => ip == address.ip() || (ip.is_unspecified() && address.ip().is_unspecified()),
    };
    same && ask.port == Some(address.port())
}

fn path_of(socket: &OwnedFd) -> Option<String> {
    let name = rustix::net::getsockname(socket).ok()?;
    let name = rustix::net::SocketAddrUnix::try_from(name).ok()?;
    name.path()?.to_str().ok().map(str::to_owned)
}

fn address_of(socket: &OwnedFd) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

fn nonblocking(socket: &OwnedFd, ask: &Ask) -> Result<(), ListenError> {
    rustix::io::ioctl_fionbio(socket, true).map_err(|errno: Errno| ListenError::of(ask, errno.into()))
}
