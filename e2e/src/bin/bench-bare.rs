//! The least that a primary of Node workers can do: accept, send the connection to the next worker, read the answer.
//!
//! The measure for the cost of a hand-over. `bench-bare PORT N NODE SCRIPT`: answers `queryServer` with a fixed text,
//! hands connections out in rotation with up to [`WINDOW`] unanswered per worker. No restarts, no care for refusals.
//! Ends, with its children, when its standard input ends.

use anyhow::{Context, Result, bail};
use rustix::event::epoll;
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

/// Unanswered connections per worker.
const WINDOW: usize = 8;
const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;

struct Worker {
    process: Child,
    channel: OwnedFd,
    read: Vec<u8>,
    serves: bool,
    unanswered: usize,
}

struct Primary {
    listener: OwnedFd,
    port: u16,
    epoll: OwnedFd,
    workers: Vec<Worker>,
    turn: usize,
    sequence: u64,
    listening: bool,
}

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let mut number = || args.next()?.to_str()?.parse::<u16>().ok();
    let (port, count) = number()
        .zip(number())
        .context("usage: bench-bare PORT N NODE SCRIPT")?;
    let command: Vec<OsString> = args.collect();
    let mut primary = Primary::new(port)?;
    for slot in 0..count {
        primary.start(slot, &command)?;
    }
    primary.serve()?;
    for worker in &mut primary.workers {
        worker.process.kill()?;
        worker.process.wait()?;
    }
    Ok(())
}

impl Primary {
    fn new(port: u16) -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
        rustix::net::sockopt::set_socket_reuseaddr(&listener, true)?;
        rustix::net::sockopt::set_ipv6_v6only(&listener, false)?;
        rustix::net::bind(&listener, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).context("bind")?;
        rustix::net::listen(&listener, 511)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&epoll, std::io::stdin().as_fd(), STDIN)?;
        Ok(Self {
            listener,
            port,
            epoll,
            workers: Vec::new(),
            turn: 0,
            sequence: 0,
            listening: false,
        })
    }

    fn start(&mut self, slot: u16, command: &[OsString]) -> Result<()> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
        let [program, args @ ..] = command else {
            bail!("no program")
        };
        let mut child = Command::new(program);
        child.args(args).stdin(Stdio::null());
        child.env("NODE_CHANNEL_FD", theirs.as_raw_fd().to_string());
        child
            .env("NODE_CHANNEL_SERIALIZATION_MODE", "json")
            .env("NODE_UNIQUE_ID", (slot + 1).to_string());
        child
            .env("NODE_APP_INSTANCE", slot.to_string())
            .env("PORT", self.port.to_string());
        let process = child.spawn().context("start")?;
        watch(&self.epoll, ours.as_fd(), self.workers.len() as u64)?;
        self.workers.push(Worker {
            process,
            channel: ours,
            read: Vec::new(),
            serves: false,
            unanswered: 0,
        });
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let data = event.data;
                match data.u64() {
                    STDIN => return Ok(()),
                    LISTENER => {}
                    worker => self.hear(usize::try_from(worker)?)?,
                }
            }
            self.hand_over()?;
        }
    }

    /// Accepts while somebody can take a connection; watches the listener only then.
    fn hand_over(&mut self) -> Result<()> {
        while let Some(index) = self.next() {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let connection = match rustix::net::accept_with(&self.listener, flags) {
                Ok(connection) => connection,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            self.sequence += 1;
            let line = format!(
                r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{{"cmd":"NODE_CLUSTER","act":"newconn","key":"k","seq":{}}}}}{}"#,
                self.sequence, "\n"
            );
            send(
                &self.workers[index].channel,
                line.as_bytes(),
                Some(connection.as_fd()),
            )?;
            self.workers[index].unanswered += 1;
            self.turn = index + 1;
        }
        let wanted = self.next().is_some();
        if wanted != self.listening {
            self.listening = wanted;
            if wanted {
                watch(&self.epoll, self.listener.as_fd(), LISTENER)?;
            } else {
                epoll::delete(&self.epoll, &self.listener)?;
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<usize> {
        let count = self.workers.len();
        let can = |index: &usize| self.workers[*index].serves && self.workers[*index].unanswered < WINDOW;
        (0..count).map(|step| (self.turn + step) % count).find(can)
    }

    fn hear(&mut self, index: usize) -> Result<()> {
        let port = self.port;
        let worker = &mut self.workers[index];
        let mut piece = [0; 16 * 1024];
        let count = match rustix::net::recv(&worker.channel, &mut piece[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => bail!("a worker closed its channel"),
            Ok((count, _)) => count,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        worker.read.extend_from_slice(&piece[..count]);
        let mut from = 0;
        while let Some(length) = worker.read[from..].iter().position(|&byte| byte == b'\n') {
            let line = &worker.read[from..from + length];
            from += length + 1;
            if contains(line, b"\"accepted\":") {
                worker.unanswered -= 1;
            } else if contains(line, b"\"act\":\"queryServer\"") {
                let line = String::from_utf8_lossy(line);
                let asked = line
                    .rsplit_once("\"seq\":")
                    .map_or("", |(_, end)| end.trim_end_matches('}'));
                let answer = format!(
                    r#"{{"cmd":"NODE_CLUSTER","errno":0,"key":"k","ack":{asked},"data":null,"sockname":{{"address":"::","family":"IPv6","port":{port}}},"seq":0}}{}"#,
                    "\n"
                );
                send(&worker.channel, answer.as_bytes(), None)?;
                worker.serves = true;
            }
        }
        worker.read.drain(..from);
        Ok(())
    }
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

fn watch(epoll: &OwnedFd, what: BorrowedFd<'_>, number: u64) -> Result<()> {
    Ok(epoll::add(
        epoll,
        what,
        epoll::EventData::new_u64(number),
        epoll::EventFlags::IN,
    )?)
}

/// A worker's answers keep pace with what it is sent: the channel's buffer holds a whole window.
fn send(channel: &OwnedFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let sent = rustix::net::sendmsg(channel, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        bail!("a channel is full")
    }
}
