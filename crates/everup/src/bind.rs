//! Binding sockets the way libuv does, so that an app finds what it would have got by itself.

use crate::event::Address;
use crate::spec::{Listen, ListenAddress};
use everup_core::endpoint::{BindRequest, Sharing};
use everup_core::wire::{AddressType, SharedKind, Sockname};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What an app gets that asks for no backlog, or for Node's default.
const DEFAULT_BACKLOG: u32 = 511;
/// `sun_path` without its NUL.
const LONGEST_PATH: usize = 107;

/// A bound socket. Dropping it closes it and removes its file, if that is still its own.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct BoundSocket {
    #[serde(with = "crate::estate::number")]
    pub(crate) descriptor: OwnedFd,
    pub(crate) kind: SharedKind,
    pub(crate) sockname: Option<Sockname>,
    /// Removed when this is dropped.
    file: Option<SocketFile>,
}

/// The file of a UNIX socket, and which one it was.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // Somebody else may be faster; there is nothing to be done about it.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Binds what a worker asked for. `known` finds a descriptor that `listen({fd})` may name.
pub(crate) fn for_worker<'a>(
    request: &BindRequest,
    known: impl FnOnce(i32) -> Option<BorrowedFd<'a>>,
) -> Result<BoundSocket, Errno> {
    if let Some(fd) = request.fd {
        let known = known(fd).ok_or(Errno::BADF)?;
        return adopt(rustix::io::fcntl_dupfd_cloexec(known, 3)?, backlog(request));
    }
    let port = request.port.unwrap_or(0);
    let udp = UdpFlags {
        v6_only: request.flags & 1 != 0,
        reuse_address: request.flags & 4 != 0,
        reuse_port: request.flags & 8 != 0,
    };
    match request.address_type {
        AddressType::Unix => unix_for_worker(request),
        AddressType::Udp4 => udp_socket(socket_address(request, Ipv4Addr::UNSPECIFIED.into(), port)?, udp),
        AddressType::Udp6 => udp_socket(socket_address(request, Ipv6Addr::UNSPECIFIED.into(), port)?, udp),
        AddressType::Tcp4 | AddressType::Tcp6 if request.address.is_none() => any_address(request, port),
        AddressType::Tcp4 | AddressType::Tcp6 => {
            let address = socket_address(request, Ipv6Addr::UNSPECIFIED.into(), port)?;
            tcp(
                address,
                request.flags & 1 != 0,
                backlog(request),
                siblings(request),
            )
        }
        AddressType::Descriptor => Err(Errno::INVAL),
    }
}

/// Binds what the operator asked for. Blocking, as systemd passes its sockets: programs that want it otherwise
/// say so themselves.
pub(crate) fn for_operator(asked: &Listen) -> Result<BoundSocket, Errno> {
    let bound = match &asked.address {
        ListenAddress::Tcp(address) => tcp(*address, false, DEFAULT_BACKLOG, Siblings::None),
        ListenAddress::Udp(address) => udp_socket(*address, UdpFlags::default()),
        ListenAddress::Unix(path) => {
            remove_stale(path);
            unix(path, DEFAULT_BACKLOG)
        }
    }?;
    rustix::io::ioctl_fionbio(&bound.descriptor, false)?;
    Ok(bound)
}

/// Binds one more socket to the address of `first`, which was bound with [`Sharing::PerSlot`].
pub(crate) fn sibling(first: &BoundSocket, request: &BindRequest) -> Result<OwnedFd, Errno> {
    let address = SocketAddr::try_from(getsockname(&first.descriptor)?)?;
    let v6_only = address.is_ipv6() && sockopt::ipv6_v6only(&first.descriptor)?;
    Ok(tcp(address, v6_only, backlog(request), Siblings::Joins)?.descriptor)
}

/// Dual-stack first; IPv4 where there is no IPv6.
fn any_address(request: &BindRequest, port: u16) -> Result<BoundSocket, Errno> {
    let v6_only = request.flags & 1 != 0;
    let (backlog, siblings) = (backlog(request), siblings(request));
    match tcp((Ipv6Addr::UNSPECIFIED, port).into(), v6_only, backlog, siblings) {
        Err(error) if error != Errno::ADDRINUSE && error != Errno::ACCESS => {
            tcp((Ipv4Addr::UNSPECIFIED, port).into(), false, backlog, siblings)
        }
        other => other,
    }
}

fn backlog(request: &BindRequest) -> u32 {
    request.backlog.unwrap_or(DEFAULT_BACKLOG)
}

/// Whether other sockets have the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Siblings {
    None,
    /// They will: this is the first.
    Begins,
    /// They have.
    Joins,
}

fn siblings(request: &BindRequest) -> Siblings {
    match request.sharing {
        Sharing::PerSlot => Siblings::Begins,
        Sharing::HandOver | Sharing::Shared => Siblings::None,
    }
}

fn tcp(address: SocketAddr, v6_only: bool, backlog: u32, siblings: Siblings) -> Result<BoundSocket, Errno> {
    let socket = socket_with(family(address), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6_only)?;
    }
    if siblings == Siblings::Joins {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    if siblings == Siblings::Begins {
        // After the binding: a port that somebody else has, and shares (another everup, say), is taken. To get into
        // their group would mix up who serves whom.
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(BoundSocket {
        sockname: sockname(&socket)?,
        descriptor: socket,
        kind: SharedKind::Tcp,
        file: None,
    })
}

/// Flags of a UDP bind, as libuv has them.
#[derive(Debug, Default, Clone, Copy)]
struct UdpFlags {
    v6_only: bool,
    reuse_address: bool,
    reuse_port: bool,
}

fn udp_socket(address: SocketAddr, flags: UdpFlags) -> Result<BoundSocket, Errno> {
    let socket = socket_with(family(address), SocketType::DGRAM, FLAGS, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, flags.v6_only)?;
    }
    sockopt::set_socket_reuseaddr(&socket, flags.reuse_address)?;
    if flags.reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(BoundSocket {
        sockname: sockname(&socket)?,
        descriptor: socket,
        kind: SharedKind::Udp,
        file: None,
    })
}

fn unix_for_worker(request: &BindRequest) -> Result<BoundSocket, Errno> {
    let address = request.address.as_deref().ok_or(Errno::INVAL)?;
    if let Some((_, name)) = address.split_once('\0') {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
        bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        listen(&socket, i32::try_from(backlog(request)).unwrap_or(i32::MAX))?;
        return Ok(BoundSocket {
            descriptor: socket,
            kind: SharedKind::Pipe,
            sockname: None,
            file: None,
        });
    }
    let path = Path::new(address);
    let bound = unix(path, backlog(request))?;
    let mut extra = Mode::empty();
    if request.readable_all {
        extra |= Mode::RUSR | Mode::RGRP | Mode::ROTH;
    }
    if request.writable_all {
        extra |= Mode::WUSR | Mode::WGRP | Mode::WOTH;
    }
    if !extra.is_empty() {
        let mode = Mode::from_raw_mode(rustix::fs::stat(path)?.st_mode) | extra;
        rustix::fs::chmod(path, mode)?;
    }
    Ok(bound)
}

fn unix(path: &Path, backlog: u32) -> Result<BoundSocket, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    if path.as_os_str().len() <= LONGEST_PATH {
        bind(&socket, &SocketAddrUnix::new(path)?)?;
    } else {
        // A path too long for the address: name it by its directory's descriptor.
        let (parent, name) = (
            path.parent().ok_or(Errno::NAMETOOLONG)?,
            path.file_name().ok_or(Errno::INVAL)?,
        );
        let directory = rustix::fs::open(
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut short = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        short.extend_from_slice(name.as_bytes());
        bind(&socket, &SocketAddrUnix::new(short)?)?;
    }
    let file = identity(path).map(|identity| SocketFile {
        path: path.to_owned(),
        identity,
    });
    listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(BoundSocket {
        descriptor: socket,
        kind: SharedKind::Pipe,
        sockname: None,
        file,
    })
}

/// Where an operator's socket came to be bound.
pub(crate) fn address(asked: &Listen, bound: &BoundSocket) -> Address {
    let real = |given: SocketAddr| {
        SocketAddr::new(
            given.ip(),
            bound.sockname.as_ref().map_or(given.port(), |name| name.port),
        )
    };
    match &asked.address {
        ListenAddress::Tcp(given) => Address::Tcp(real(*given)),
        ListenAddress::Udp(given) => Address::Udp(real(*given)),
        ListenAddress::Unix(path) => Address::Unix(path.to_string_lossy().into_owned()),
    }
}

/// Removes a socket file that nobody listens on any more: what a primary leaves that is killed. (What a *worker*
/// asks for gets Node's answer instead, which is EADDRINUSE.)
fn remove_stale(path: &Path) {
    let is_socket = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
    if !rustix::fs::lstat(path).is_ok_and(is_socket) {
        return;
    }
    if UnixStream::connect(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
        // If it cannot be removed, binding says why.
        std::fs::remove_file(path).ok();
    }
}

/// A socket that somebody else has bound.
fn adopt(socket: OwnedFd, backlog: u32) -> Result<BoundSocket, Errno> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    let datagram = sockopt::socket_type(&socket)? == SocketType::DGRAM;
    if !datagram {
        listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    }
    let sockname = sockname(&socket)?;
    let kind = match (datagram, &sockname) {
        (true, _) => SharedKind::Udp,
        (false, Some(_)) => SharedKind::Tcp,
        (false, None) => SharedKind::Pipe,
    };
    Ok(BoundSocket {
        descriptor: socket,
        kind,
        sockname,
        file: None,
    })
}

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    }
}

fn sockname(socket: impl AsFd) -> Result<Option<Sockname>, Errno> {
    let name = |address: IpAddr, port| {
        Some(Sockname {
            address: address.to_string(),
            v6: address.is_ipv6(),
            port,
        })
    };
    Ok(match SocketAddr::try_from(getsockname(socket)?) {
        Ok(address) => name(address.ip(), address.port()),
        Err(_) => None,
    })
}

/// The asked address with its port; a zone (`fe80::1%eth0`) is an interface.
fn socket_address(request: &BindRequest, unspecified: IpAddr, port: u16) -> Result<SocketAddr, Errno> {
    let Some(text) = request.address.as_deref() else {
        return Ok((unspecified, port).into());
    };
    let Some((address, zone)) = text.split_once('%') else {
        return text
            .parse::<IpAddr>()
            .map(|ip| (ip, port).into())
            .map_err(|_| Errno::INVAL);
    };
    let address: Ipv6Addr = address.parse().map_err(|_| Errno::INVAL)?;
    let scope = match zone.parse() {
        Ok(number) => number,
        Err(_) => interface(zone)?,
    };
    Ok(SocketAddrV6::new(address, port, 0, scope).into())
}

fn interface(name: &str) -> Result<u32, Errno> {
    let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, FLAGS, None)?;
    rustix::net::netdevice::name_to_index(&socket, name)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &Path) -> Listen {
        Listen::new(ListenAddress::Unix(path.to_owned()))
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bound = for_operator(&asked(&path)).unwrap();
        assert_eq!(for_operator(&asked(&path)).unwrap_err(), Errno::ADDRINUSE);
        drop(bound);
        assert!(!path.exists());
        std::fs::write(&path, "not a socket").unwrap();
        assert_eq!(for_operator(&asked(&path)).unwrap_err(), Errno::ADDRINUSE);
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_is_another_by_now_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = for_operator(&asked(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = for_operator(&asked(&path)).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_long_path_is_bound_by_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let bound = for_operator(&asked(&deep.join("s"))).unwrap();
        assert!(deep.join("s").exists());
        drop(bound);
        assert!(!deep.join("s").exists());
    }
}
