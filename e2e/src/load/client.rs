//! The client's one loop.
//!
//! ```text
//! begin ──▶ connecting ──▶ waiting for the answer ──▶ done ──(keep-alive)──▶ waiting …
//! ```

use super::response::{Progress, parse};
use super::{Failure, Kind, Length, Pace, Plan, Report};
use anyhow::{Context, Result, ensure};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often requests are looked at for their timeout.
const SWEEP: Duration = Duration::from_millis(50);

/// Sends what the plan says and waits for the answers.
///
/// # Errors
/// When the system refuses what the client itself needs; what becomes of requests is in the report.
pub fn run(plan: &Plan) -> Result<Report> {
    run_while(plan, &AtomicBool::new(true))
}

/// The same, but no request is begun any more once `goes_on` is false.
pub(super) fn run_while(plan: &Plan, goes_on: &AtomicBool) -> Result<Report> {
    let cpu = thread_cpu();
    let mut client = Client::new(plan, goes_on)?;
    client.work()?;
    let mut report = client.report;
    report.elapsed = now() - client.start;
    report.cpu = thread_cpu() - cpu;
    report.latencies.sort_unstable();
    Ok(report)
}

#[derive(Debug)]
struct Client<'a> {
    plan: &'a Plan,
    goes_on: &'a AtomicBool,
    request: Vec<u8>,
    epoll: OwnedFd,
    slots: Vec<Option<Request>>,
    free: Vec<usize>,
    live: usize,
    start: Duration,
    report: Report,
    piece: Vec<u8>,
}

/// A request under way, and its connection.
#[derive(Debug)]
struct Request {
    socket: OwnedFd,
    port: u16,
    began: Duration,
    sent: bool,
    read: Vec<u8>,
}

/// What is to be done with a request after a look at its socket.
enum Next {
    Wait,
    Again,
    Done,
    Failed(Kind),
}

impl<'a> Client<'a> {
    fn new(plan: &'a Plan, goes_on: &'a AtomicBool) -> Result<Self> {
        ensure!(!plan.targets.is_empty(), "no target");
        let connection = if plan.keep_alive {
            ""
        } else {
            "Connection: close\r\n"
        };
        Ok(Self {
            plan,
            goes_on,
            request: format!(
                "GET {} HTTP/1.1\r\nHost: localhost\r\n{connection}\r\n",
                plan.path
            )
            .into_bytes(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?,
            slots: Vec::new(),
            free: Vec::new(),
            live: 0,
            start: now(),
            report: Report::default(),
            piece: vec![0; 16 * 1024],
        })
    }

    fn work(&mut self) -> Result<()> {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: if matches!(self.plan.pace, Pace::Open { .. }) {
                1_000_000
            } else {
                20_000_000
            },
        };
        let mut events = Vec::with_capacity(256);
        let mut swept = self.start;
        loop {
            let time = now();
            for _ in 0..self.due(time) {
                self.begin()?;
            }
            if self.live == 0 && self.enough(time) {
                return Ok(());
            }
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&wait),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                let data = event.data;
                self.look(usize::try_from(data.u64())?)?;
            }
            if time - swept > SWEEP {
                swept = time;
                self.sweep(time);
            }
        }
    }

    fn enough(&self, time: Duration) -> bool {
        if !self.goes_on.load(Ordering::Relaxed) {
            return true;
        }
        match self.plan.length {
            Length::Requests(requests) => self.report.sent >= requests,
            Length::For(length) => time - self.start >= length,
        }
    }

    /// How many requests are to begin now.
    fn due(&self, time: Duration) -> u64 {
        let left = match self.plan.length {
            _ if self.enough(time) => 0,
            Length::Requests(requests) => requests - self.report.sent,
            Length::For(_) => u64::MAX,
        };
        let due = match self.plan.pace {
            Pace::Closed { concurrency } => concurrency.saturating_sub(self.live) as u64,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of requests"
            )]
            Pace::Open { per_second, at_most } => {
                let scheduled = ((time - self.start).as_secs_f64() * per_second) as u64 + 1;
                scheduled
                    .saturating_sub(self.report.sent)
                    .min(at_most.saturating_sub(self.live) as u64)
            }
        };
        due.min(left)
    }

    fn begin(&mut self) -> Result<()> {
        let turn = self.report.sent % self.plan.targets.len() as u64;
        let target = self.plan.targets[usize::try_from(turn)?];
        self.report.sent += 1;
        let began = now();
        // On loopback the connection is there at once, as a rule.
        let tried = connect(target).map_err(|error| (error, 0));
        let tried = tried.and_then(|(socket, port)| match send(&socket, &self.request) {
            Ok(sent) => Ok((socket, port, sent)),
            Err(error) => Err((error, port)),
        });
        let (socket, port, sent) = match tried {
            Ok(begun) => begun,
            Err((error, port)) => {
                let kind = kind_of(error, true);
                self.report.failures.push(Failure {
                    kind,
                    port,
                    began,
                    ended: now(),
                });
                return Ok(());
            }
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let wanted = if sent {
            epoll::EventFlags::IN
        } else {
            epoll::EventFlags::OUT
        };
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(slot as u64),
            wanted,
        )
        .context("epoll_ctl")?;
        self.slots[slot] = Some(Request {
            socket,
            port,
            began,
            sent,
            read: Vec::new(),
        });
        self.live += 1;
        Ok(())
    }

    /// Something happened to a request's socket.
    fn look(&mut self, slot: usize) -> Result<()> {
        let Some(request) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        let next = if request.sent {
            request.receive(&mut self.piece, &mut self.report, self.plan.keep_alive)
        } else {
            request.connected(&self.request, |socket| {
                let data = epoll::EventData::new_u64(slot as u64);
                epoll::modify(&self.epoll, socket, data, epoll::EventFlags::IN)
            })
        };
        match next {
            Next::Wait => {}
            Next::Failed(kind) => self.fail(slot, kind),
            Next::Done => self.forget(slot),
            Next::Again => self.again(slot),
        }
        Ok(())
    }

    /// The next request on a connection that stays.
    fn again(&mut self, slot: usize) {
        let time = now();
        if self.enough(time) {
            return self.forget(slot);
        }
        self.report.sent += 1;
        let Some(request) = self.slots[slot].as_mut() else {
            return;
        };
        request.began = time;
        match send(&request.socket, &self.request) {
            Ok(true) => {}
            Ok(false) => self.fail(slot, Kind::Client(Errno::AGAIN.raw_os_error())),
            Err(error) => self.fail(slot, kind_of(error, true)),
        }
    }

    fn fail(&mut self, slot: usize, kind: Kind) {
        if let Some(request) = &self.slots[slot] {
            let (port, began) = (request.port, request.began);
            self.report.failures.push(Failure {
                kind,
                port,
                began,
                ended: now(),
            });
        }
        self.forget(slot);
    }

    /// Closing the socket takes it out of epoll.
    fn forget(&mut self, slot: usize) {
        if self.slots[slot].take().is_some() {
            self.free.push(slot);
            self.live -= 1;
        }
    }

    fn sweep(&mut self, time: Duration) {
        for slot in 0..self.slots.len() {
            let late = |request: &Request| time.saturating_sub(request.began) > self.plan.timeout;
            if self.slots[slot].as_ref().is_some_and(late) {
                self.fail(slot, Kind::Timeout);
            }
        }
    }
}

impl Request {
    /// The connection is there, or failed: send what could not be sent at once.
    fn connected(
        &mut self,
        request: &[u8],
        wait_for_answer: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Next {
        let outcome = match rustix::net::sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => send(&self.socket, request),
            Ok(Err(error)) | Err(error) => Err(error),
        };
        match outcome.and_then(|sent| {
            if sent {
                wait_for_answer(&self.socket).map(|()| true)
            } else {
                Ok(false)
            }
        }) {
            Ok(sent) => {
                self.sent = sent;
                Next::Wait
            }
            Err(error) => Next::Failed(kind_of(error, true)),
        }
    }

    /// Reads what has come of the answer.
    fn receive(&mut self, piece: &mut [u8], report: &mut Report, keep_alive: bool) -> Next {
        let count = match rustix::net::recv(&self.socket, &mut *piece, RecvFlags::DONTWAIT) {
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Next::Wait,
            Err(error) => return Next::Failed(kind_of(error, self.read.is_empty())),
        };
        let whole = if self.read.is_empty() {
            &piece[..count]
        } else {
            self.read.extend_from_slice(&piece[..count]);
            &self.read
        };
        let head = match parse(whole) {
            Progress::Whole(head) => head,
            Progress::UntilEof(head) if count == 0 => head,
            Progress::Partial | Progress::UntilEof(_) if count == 0 => return Next::Failed(Kind::Eof),
            Progress::Partial | Progress::UntilEof(_) => {
                if self.read.is_empty() {
                    self.read.extend_from_slice(&piece[..count]);
                }
                return Next::Wait;
            }
        };
        if head.status != 200 {
            return Next::Failed(Kind::Status(head.status));
        }
        let stays = keep_alive && !head.closes;
        let took = (now() - self.began).as_micros();
        report.ok += 1;
        report.latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
        match report.workers.get_mut(head.worker) {
            Some(count) => *count += 1,
            None => drop(report.workers.insert(head.worker.to_owned(), 1)),
        }
        self.read.clear();
        if stays { Next::Again } else { Next::Done }
    }
}

/// A socket whose connection is under way, and its port.
fn connect(target: SocketAddr) -> Result<(OwnedFd, u16), Errno> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let ours = SocketAddr::try_from(rustix::net::getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?;
    Ok((socket, ours.port()))
}

/// False if the socket takes nothing yet. The request is small: it goes whole or not at all.
fn send(socket: &OwnedFd, request: &[u8]) -> Result<bool, Errno> {
    match rustix::net::send(socket, request, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::NOTCONN | Errno::INPROGRESS) => Ok(false),
        Err(error) => Err(error),
    }
}

fn kind_of(error: Errno, nothing_read: bool) -> Kind {
    match error {
        Errno::CONNREFUSED => Kind::Refused,
        Errno::CONNRESET | Errno::PIPE if nothing_read => Kind::Reset,
        Errno::CONNRESET | Errno::PIPE => Kind::ResetMid,
        other => Kind::Client(other.raw_os_error()),
    }
}

fn now() -> Duration {
    time_of(ClockId::Monotonic)
}

fn thread_cpu() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}
