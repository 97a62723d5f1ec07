//! The descriptors of another process: which sockets it has, and copies of them.
//!
//! Job: list a process's sockets by `/proc/PID/fd`, duplicate one, say whether it is a connection that came in at an
//! endpoint, and whether the process is ending. The directory is opened once, so a pid that is used again is never
//! looked at. Owner: the keeper of the copies.

use crate::sys::tcp::{self, Stage};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

/// The kernel's flag of a task that is ending (`linux/sched.h`).
const PF_EXITING: u64 = 0x4;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Table {
    process: OwnedFd,
    /// `/proc/PID` and `/proc/PID/fd`.
    directory: OwnedFd,
    descriptors: OwnedFd,
}

/// A socket that a process has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) descriptor: i32,
    /// The socket's own number, the same whatever descriptors there are of it.
    pub(super) inode: u64,
}

impl Table {
    /// Of the process with this pid, which `process` names: it is not reaped yet, so the pid is its own.
    pub(super) fn open(process: OwnedFd, pid: u32) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
        let descriptors = openat(&directory, "fd", flags, Mode::empty())?;
        Ok(Self {
            process,
            directory,
            descriptors,
        })
    }

    /// Its sockets, by inode. Those of a process that has ended are none.
    pub(super) fn sockets(&self, stop: impl Fn() -> bool) -> Result<Vec<Entry>, Errno> {
        let mut sockets = Vec::new();
        // A directory of its own for each reading: the position belongs to the open file.
        let directory = match rustix::fs::Dir::read_from(&self.descriptors) {
            Ok(directory) => directory,
            Err(Errno::SRCH | Errno::NOENT) => return Ok(sockets),
            // What is left of a process belongs to root.
            Err(Errno::ACCESS | Errno::PERM) if self.exiting() => return Ok(sockets),
            Err(error) => return Err(error),
        };
        for (count, entry) in directory.enumerate() {
            if count % 64 == 0 && stop() {
                break;
            }
            let name = match entry {
                Ok(entry) => entry.file_name().to_owned(),
                Err(Errno::SRCH | Errno::NOENT) => break,
                Err(error) => return Err(error),
            };
            let Ok(link) = rustix::fs::readlinkat(&self.descriptors, &name, Vec::new()) else {
                continue;
            };
            let descriptor = name.to_str().ok().and_then(|name| name.parse().ok());
            if let (Some(descriptor), Some(inode)) = (descriptor, socket_inode(link.to_bytes())) {
                sockets.push(Entry { descriptor, inode });
            }
        }
        sockets.sort_unstable_by_key(|entry| entry.inode);
        Ok(sockets)
    }

    /// A copy of one of them. It may be another socket by now: [`inode`] tells.
    pub(super) fn copy(&self, entry: Entry) -> Result<OwnedFd, Errno> {
        pidfd_getfd(&self.process, entry.descriptor, PidfdGetfdFlags::empty())
    }

    /// Whether it has begun to end, so that it may have closed its descriptors for no other reason.
    pub(super) fn exiting(&self) -> bool {
        let Ok(stat) = openat(
            &self.directory,
            "stat",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        ) else {
            return true;
        };
        let mut text = [0; 1024];
        let length = rustix::io::read(&stat, &mut text).unwrap_or(0);
        flags(&text[..length]).is_none_or(|flags| flags & PF_EXITING != 0)
    }
}

/// `man 5 proc_pid_stat`: the flags are the seventh field after the name, which is in parentheses.
fn flags(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 2;
    let fields = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    fields.split(' ').nth(6)?.parse().ok()
}

fn socket_inode(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The number of a socket that we have.
pub(super) fn inode(socket: impl AsFd) -> Option<u64> {
    rustix::fs::fstat(socket).ok().map(|stat| stat.st_ino)
}

/// Its address on our side, if it is a connection of TCP that came in at one of these.
pub(super) fn came_in_at(socket: &OwnedFd, endpoints: &[SocketAddr]) -> Option<SocketAddr> {
    let family = sockopt::socket_domain(socket).ok()?;
    let ip = family == AddressFamily::INET || family == AddressFamily::INET6;
    let stream = sockopt::socket_type(socket).ok()? == SocketType::STREAM;
    if !ip || !stream || !matches!(tcp::sight(socket)?.stage, Stage::Open | Stage::HalfClosed) {
        return None;
    }
    let local = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    endpoints
        .iter()
        .any(|endpoint| belongs(local, *endpoint))
        .then_some(local)
}

fn belongs(local: SocketAddr, endpoint: SocketAddr) -> bool {
    let plain = |ip: IpAddr| ip.to_canonical();
    let ip = endpoint.ip();
    local.port() == endpoint.port() && (ip.is_unspecified() || plain(ip) == plain(local.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn which_connections_came_in_at_an_endpoint() {
        let any = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(belongs(any("10.0.0.1:80"), any("0.0.0.0:80")));
        assert!(belongs(any("[::ffff:10.0.0.1]:80"), any("[::]:80")));
        assert!(belongs(any("[::ffff:10.0.0.1]:80"), any("10.0.0.1:80")));
        assert!(!belongs(any("10.0.0.1:80"), any("10.0.0.2:80")));
        assert!(!belongs(any("10.0.0.1:81"), any("0.0.0.0:80")));
    }

    #[test]
    fn listeners_and_others_are_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let server = listener.accept().unwrap().0;
        let is = |socket: OwnedFd| came_in_at(&socket, &[address]).is_some();
        assert!(is(server.into()));
        assert!(!is(client.into()), "it went out");
        assert!(!is(listener.into()));
        assert!(!is(std::fs::File::open("/dev/null").unwrap().into()));
    }

    #[test]
    fn the_name_of_a_process_does_not_matter() {
        assert_eq!(flags(b"7 (a) R b) S 1 7 7 0 -1 4194308 1 2"), Some(4_194_308));
        assert_eq!(flags(b"nonsense"), None);
    }
}
