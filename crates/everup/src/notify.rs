//! The socket on which one worker speaks `sd_notify`, and whether the one who spoke may.
//!
//! Job: receive datagrams, and say whether their sender is the worker or one that it has started. Owner: the driver,
//! one socket for each worker. What a datagram says is read by [`everup_core::notify`].
//!
//! The socket is an abstract one: there is no file to be made, owned or left behind, and a worker under another user or
//! root directory reaches it. Everybody in this network namespace can send to it (`/proc/net/unix` shows its name), so a
//! datagram counts only after [`sender_belongs`]; the kernel itself tells the sender's pid, and no sender can choose it
//! without being root.
//!
//! Invariants: nothing here waits; at most [`BATCH`] datagrams are taken at once; descriptors that come along are closed
//! when their datagram is dropped, which answers a `BARRIER=1` after the datagram was worked through.

use crate::process::{marked, parent};
use crate::sys::datagram;
use everup_core::notify::DATAGRAM_LIMIT;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The variable in which a worker finds the socket.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";
/// How many datagrams are taken at once.
pub(crate) const BATCH: usize = 16;
/// How far up a sender's ancestors are followed.
const GENERATIONS: usize = 256;

/// See the module's documentation.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct NotifySocket {
    #[serde(with = "crate::estate::number")]
    socket: OwnedFd,
    name: String,
}

/// What somebody sent. Drop it when it has been worked through.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// Who, as the kernel says; `None` where it cannot be seen from here.
    pub(crate) sender: Option<u32>,
    /// At most one byte more than [`DATAGRAM_LIMIT`], which the parser then refuses.
    pub(crate) bytes: Vec<u8>,
    /// Only to be closed: whoever sent `BARRIER=1` waits for that.
    #[cfg_attr(not(test), expect(dead_code, reason = "only its drop matters"))]
    descriptors: Vec<OwnedFd>,
}

/// Why a datagram does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Stranger {
    #[error("its sender is in a pid namespace that cannot be seen from here")]
    Unseen,
    #[error("process {0}, which sent it, has ended already")]
    Gone(u32),
    #[error("process {0}, which sent it, is neither the worker nor started by it")]
    Other(u32),
}

/// Says something by `sd_notify` to whoever has started this process; nothing where nobody listens.
///
/// # Errors
/// What the system says: the socket is gone, or full.
pub(crate) fn say(what: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let name = name.as_encoded_bytes();
    let address = match name.split_first() {
        Some((b'@', abstract_name)) => SocketAddrUnix::new_abstract_name(abstract_name)?,
        _ => SocketAddrUnix::new(name)?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::sendto(
        &socket,
        what.as_bytes(),
        rustix::net::SendFlags::NOSIGNAL,
        &address,
    )?;
    Ok(())
}

impl NotifySocket {
    /// A socket with a name that nobody has.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        // Two hashes under two random keys.
        let random = || RandomState::new().hash_one(std::process::id());
        let name = format!("everup/notify/{:016x}{:016x}", random(), random());
        bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        Ok(Self { socket, name })
    }

    /// The value of [`VARIABLE`].
    pub(crate) fn value(&self) -> String {
        format!("@{}", self.name)
    }

    /// Readable when something was sent.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What has come, oldest first; the poller tells if there is more.
    pub(crate) fn receive(&self) -> io::Result<Vec<Datagram>> {
        let mut buffer = [0; DATAGRAM_LIMIT + 1];
        let mut datagrams = Vec::new();
        while datagrams.len() < BATCH {
            match datagram::receive(self.socket.as_fd(), &mut buffer) {
                Ok(received) => datagrams.push(Datagram {
                    sender: received.sender,
                    bytes: buffer[..received.length].to_vec(),
                    descriptors: received.descriptors,
                }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if datagrams.is_empty() => return Err(error),
                // It will be there the next time.
                Err(_) => break,
            }
        }
        Ok(datagrams)
    }
}

/// Whether a datagram's sender is the worker, or descends from it by parentage or by its mark
/// ([`crate::process::MARK`]), which it keeps whatever its parent is by now. The worker is not reaped yet.
pub(crate) fn sender_belongs(sender: Option<u32>, worker: u32, mark: &str) -> Result<(), Stranger> {
    let sender = sender.ok_or(Stranger::Unseen)?;
    if sender == worker {
        return Ok(());
    }
    let above = parent(sender).ok_or(Stranger::Gone(sender))?;
    let mut line = std::iter::successors(Some(above), |pid| parent(*pid));
    if line.by_ref().take(GENERATIONS).any(|pid| pid == worker) || marked(sender, mark) {
        return Ok(());
    }
    Err(Stranger::Other(sender))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::MARK;
    use everup_core::notify::{NotifyError, parse};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::process::{Child, Command, Stdio};

    const SEND: &str = "
import os, socket, sys
def send(text, *fds):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect('\\0' + os.environ['NOTIFY_SOCKET'][1:])
    socket.send_fds(s, [text.encode()], list(fds)) if fds else s.send(text.encode())
";

    fn python(socket: &NotifySocket, script: &str) -> Command {
        let mut command = Command::new("python3");
        command.args(["-c", &format!("{SEND}\n{script}")]);
        command.env(VARIABLE, socket.value()).stdin(Stdio::piped());
        command
    }

    /// The next datagrams, waited for.
    fn next(socket: &NotifySocket) -> Vec<Datagram> {
        let limit = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        let mut news = [PollFd::from_borrowed_fd(socket.descriptor(), PollFlags::IN)];
        assert_eq!(poll(&mut news, Some(&limit)), Ok(1), "nothing was sent");
        socket.receive().unwrap()
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_worker_is_heard_and_known() {
        let socket = NotifySocket::open().unwrap();
        assert!(socket.receive().unwrap().is_empty());
        let child = python(&socket, "send('READY=1\\nSTATUS=up'); sys.stdin.read()")
            .spawn()
            .unwrap();
        let said = next(&socket);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].sender, Some(child.id()));
        assert!(parse(&said[0].bytes).unwrap().ready);
        assert_eq!(sender_belongs(said[0].sender, child.id(), "mark"), Ok(()));
        let other = sender_belongs(said[0].sender, child.id() + 1, "mark");
        assert_eq!(other, Err(Stranger::Other(child.id())));
        end(child);
    }

    #[test]
    fn a_descendant_is_known_by_its_parents() {
        let socket = NotifySocket::open().unwrap();
        let script = "
import subprocess
if len(sys.argv) > 1:
    send('READY=1'); sys.stdin.read()
else:
    subprocess.run([sys.executable, '-c', sys.orig_argv[2], 'again'], check=True)
";
        let child = python(&socket, script).spawn().unwrap();
        let said = next(&socket);
        assert_ne!(said[0].sender, Some(child.id()));
        assert_eq!(sender_belongs(said[0].sender, child.id(), "mark"), Ok(()));
        end(child);
    }

    /// One that has left its parent and its session.
    const DAEMON: &str = "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        send('READY=1'); sys.stdin.read()
    os._exit(0)
os.wait()
";

    #[test]
    fn a_daemon_is_known_by_its_mark() {
        let socket = NotifySocket::open().unwrap();
        for (mark, known) in [("1234.1", true), ("1234.2", false)] {
            let mut child = python(&socket, DAEMON).env(MARK, mark).spawn().unwrap();
            let said = next(&socket);
            let sender = said[0].sender.unwrap();
            let input = child.stdin.take();
            let (worker, verdict) = (child.id(), child.wait().unwrap());
            assert!(verdict.success());
            // Its parent has been waited for: only the mark is left.
            let belongs = sender_belongs(Some(sender), worker, "1234.1");
            let expected = if known {
                Ok(())
            } else {
                Err(Stranger::Other(sender))
            };
            assert_eq!(belongs, expected);
            drop(input);
        }
    }

    #[test]
    fn senders_that_are_gone_or_unseen_are_refused() {
        let socket = NotifySocket::open().unwrap();
        let child = python(&socket, "send('READY=1')").spawn().unwrap();
        let pid = child.id();
        end(child);
        assert_eq!(next(&socket)[0].sender, Some(pid));
        assert_eq!(sender_belongs(Some(pid), 1, "mark"), Err(Stranger::Gone(pid)));
        assert_eq!(sender_belongs(None, 1, "mark"), Err(Stranger::Unseen));
    }

    #[test]
    fn a_barrier_is_answered_when_its_datagram_is_dropped() {
        let socket = NotifySocket::open().unwrap();
        let script = "
r, w = os.pipe()
send('BARRIER=1', w); os.close(w)
print('sent', flush=True)
os.read(r, 1)
";
        let mut child = python(&socket, script).spawn().unwrap();
        let said = next(&socket);
        assert!(parse(&said[0].bytes).unwrap().barrier);
        assert_eq!(said[0].descriptors.len(), 1);
        assert!(child.try_wait().unwrap().is_none(), "it waits");
        drop(said);
        end(child);
    }

    #[test]
    fn more_descriptors_than_a_barrier_needs_are_not_kept() {
        let socket = NotifySocket::open().unwrap();
        let child = python(&socket, "send('FDSTORE=1', *[0] * 50); sys.stdin.read()")
            .spawn()
            .unwrap();
        let said = next(&socket);
        assert_eq!(said[0].bytes, b"FDSTORE=1");
        assert_eq!(said[0].sender, Some(child.id()));
        assert!(said[0].descriptors.len() <= 2);
        end(child);
    }

    #[test]
    fn a_flood_comes_in_turns_and_in_order() {
        let socket = NotifySocket::open().unwrap();
        let child = python(&socket, "for i in range(200): send(f'STATUS={i}')")
            .spawn()
            .unwrap();
        let mut seen = Vec::new();
        while seen.len() < 200 {
            let said = next(&socket);
            assert!(said.len() <= BATCH);
            seen.extend(said.into_iter().map(|datagram| datagram.bytes));
        }
        let expected: Vec<Vec<u8>> = (0..200).map(|i| format!("STATUS={i}").into_bytes()).collect();
        assert_eq!(seen, expected);
        end(child);
    }

    #[test]
    fn a_long_datagram_is_seen_to_be_too_long() {
        let socket = NotifySocket::open().unwrap();
        let child = python(&socket, "send('STATUS=' + 'x' * 90_000)").spawn().unwrap();
        assert_eq!(parse(&next(&socket)[0].bytes), Err(NotifyError::TooLong));
        end(child);
    }
}
