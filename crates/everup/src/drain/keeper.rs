//! The thread that holds the copies.
//!
//! Job: look when [`Drain`] says, tell it what is seen, do what it decides. Owner: [`super::Holder`].
//!
//! What the worker has is seen by listing its descriptors, now and then. What it has let go is waited for by epoll,
//! so a request that comes later goes on at once.

use super::table::{self, Entry, Table};
use super::{Command, News, Plan, Unknown};
use crate::output::{clear, wake};
use crate::sys::tcp::{self, Stage};
use everup_core::drain::{Counters, Decision, Drain, Flow, Gone, Head, Link, Observation, PEEK};
use everup_core::id::Token;
use everup_core::time::Time;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after a process was seen ending its owner may take to say how it ended.
const VERDICT: Duration = Duration::from_millis(250);
/// How often a worker with no connections is looked at: it may accept some still.
const EMPTY_LOOK: Duration = Duration::from_millis(100);
/// How often a look is repeated if data comes while looking.
const ATTEMPTS: usize = 4;
/// The key of the waker; connections have numbers from 1.
const WAKER: u64 = 0;
const BATCH: usize = 128;

/// The other side.
pub(super) struct Outside {
    pub(super) commands: Receiver<Command>,
    pub(super) waker: OwnedFd,
    pub(super) news: Sender<News>,
    pub(super) counters: Arc<Mutex<Counters>>,
    pub(super) stop: Arc<AtomicBool>,
}

/// A copy.
struct Copy {
    connection: OwnedFd,
    local: SocketAddr,
    inode: u64,
}

/// See the module's documentation.
pub(super) struct Keeper {
    plan: Plan,
    outside: Outside,
    drain: Drain,
    epoll: OwnedFd,
    started: Instant,
    last_token: u64,
    copies: HashMap<Token, Copy>,
    /// What the worker has, by inode.
    held: HashMap<u64, Token>,
    /// Sockets of the worker that are none of ours.
    foreign: HashSet<u64>,
    missed: usize,
    /// When the worker was seen ending.
    ending: Option<Time>,
    gone: bool,
    next_sweep: Time,
    buffer: Vec<u8>,
}

impl Keeper {
    pub(super) fn new(plan: Plan, outside: Outside) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &outside.waker, EventData::new_u64(WAKER), EventFlags::IN)?;
        Ok(Self {
            drain: Drain::new(Time::ZERO, plan.rules),
            plan,
            outside,
            epoll,
            started: Instant::now(),
            last_token: 0,
            copies: HashMap::new(),
            held: HashMap::new(),
            foreign: HashSet::new(),
            missed: 0,
            ending: None,
            gone: false,
            next_sweep: Time::ZERO,
            buffer: vec![0; PEEK],
        })
    }

    pub(super) fn run(mut self) {
        let pid = self.plan.pid;
        if let Err(error) = self.keep() {
            self.tell(News::Unknown(Unknown::new(pid, error)));
        } else if !self.stopped() {
            self.tell(News::Over);
        }
    }

    fn keep(&mut self) -> Result<(), Errno> {
        let process = rustix::io::fcntl_dupfd_cloexec(&self.plan.process, 3)?;
        let table = Table::open(process, self.plan.pid)?;
        self.sweep(&table)?;
        self.publish();
        self.tell(News::Taken { missed: self.missed });
        while !self.finished() {
            for token in self.wait()? {
                self.look(token, false);
            }
            self.obey();
            for token in self.drain.due(self.now()) {
                self.look(token, false);
            }
            if !self.gone && self.next_sweep <= self.now() {
                self.sweep(&table)?;
            }
            self.publish();
        }
        Ok(())
    }

    /// Waits until a connection that was let go has something, or a time has come.
    fn wait(&mut self) -> Result<Vec<Token>, Errno> {
        let sweep = (!self.gone).then_some(self.next_sweep);
        let until = sweep.into_iter().chain(self.drain.next_limit()).min();
        let limit = until.map(|until| until.since(self.now())).map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        let events = match epoll::wait(&self.epoll, &mut space, limit.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(events
            .iter()
            .map(|event| event.data.u64())
            .filter(|&key| key != WAKER)
            .map(Token)
            .collect())
    }

    fn obey(&mut self) {
        clear(&self.outside.waker);
        while let Ok(command) = self.outside.commands.try_recv() {
            match command {
                Command::Gone(how) => self.gone(how),
                Command::Stir => {
                    self.drain.stir(self.now());
                    self.next_sweep = self.now();
                }
                Command::Immovable => self.drain.immovable(self.now()),
            }
        }
        let overdue = |since: Time| self.now().since(since) > VERDICT;
        if !self.gone && self.ending.is_some_and(overdue) {
            self.gone(Gone::Cut);
        }
    }

    fn gone(&mut self, how: Gone) {
        self.gone = true;
        self.drain.gone(how);
        let left: Vec<Token> = self.held.drain().map(|(_, token)| token).collect();
        self.let_go(&left);
    }

    /// Looks at all that the worker has.
    fn sweep(&mut self, table: &Table) -> Result<(), Errno> {
        let begin = Instant::now();
        let stop = Arc::clone(&self.outside.stop);
        let entries = table.sockets(|| stop.load(Ordering::Relaxed))?;
        if self.stopped() {
            return Ok(());
        }
        let mut took = begin.elapsed();
        let has = |inode: &u64| entries.binary_search_by_key(inode, |entry| entry.inode).is_ok();
        self.foreign.retain(has);
        let closed = self.held.iter().filter(|(inode, _)| !has(inode));
        let closed: Vec<Token> = closed.map(|(_, token)| *token).collect();
        // In this order: what was closed before the process began to end was closed on purpose.
        if !closed.is_empty() && table.exiting() {
            self.ending.get_or_insert(self.now());
        } else {
            for entry in &entries {
                self.consider(table, *entry)?;
            }
            self.held.retain(|inode, _| has(inode));
            self.let_go(&closed);
            // Taking is left out: that is once for each.
            let begin = Instant::now();
            self.sample();
            took += begin.elapsed();
        }
        self.drain.looked(self.now(), took);
        let next = self.drain.next_look();
        self.next_sweep = next.unwrap_or_else(|| self.now() + EMPTY_LOOK);
        Ok(())
    }

    /// Takes a copy of a socket that was not there before.
    fn consider(&mut self, table: &Table, entry: Entry) -> Result<(), Errno> {
        if self.held.contains_key(&entry.inode) || !self.foreign.insert(entry.inode) {
            return Ok(());
        }
        let connection = match table.copy(entry) {
            Ok(connection) => connection,
            Err(error @ (Errno::PERM | Errno::NOSYS)) => return Err(error),
            Err(Errno::MFILE | Errno::NFILE) => {
                self.missed += 1;
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let Some(local) = table::came_in_at(&connection, &self.plan.endpoints) else {
            return Ok(());
        };
        if self.copies.len() >= self.plan.at_most {
            self.missed += 1;
            return Ok(());
        }
        // Not that of the entry if the descriptor has changed hands since.
        if let Some(inode) = table::inode(&connection).filter(|inode| !self.held.contains_key(inode)) {
            self.last_token += 1;
            let token = Token(self.last_token);
            self.foreign.remove(&inode);
            self.held.insert(inode, token);
            self.drain.taken(token, local.port());
            let copy = Copy {
                connection,
                local,
                inode,
            };
            self.copies.insert(token, copy);
        }
        Ok(())
    }

    fn let_go(&mut self, tokens: &[Token]) {
        for token in tokens {
            if let Some(copy) = self.copies.get(token) {
                let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
                epoll::add(&self.epoll, &copy.connection, EventData::new_u64(token.0), flags).ok();
            }
            self.look(*token, false);
        }
    }

    /// Notes how far the worker is with each: when it closes one it is too late to see.
    fn sample(&mut self) {
        let held: Vec<Token> = self.held.values().copied().collect();
        for token in held {
            if self.stopped() {
                return;
            }
            self.look(token, true);
        }
    }

    fn look(&mut self, token: Token, held: bool) {
        let Some(copy) = self.copies.get(&token) else {
            return;
        };
        let seen = observe(&copy.connection, held, &mut self.buffer);
        let now = self.now();
        match self.drain.observe(now, token, seen) {
            Decision::Keep => {}
            Decision::Finish => {
                // It may be reset by now; the next look tells.
                shutdown(&copy.connection, Shutdown::Write).ok();
            }
            Decision::End(_) => drop(self.remove(token)),
            Decision::Move => {
                if let Some(copy) = self.remove(token) {
                    let (connection, local) = (copy.connection, copy.local);
                    self.tell(News::Moved { connection, local });
                }
            }
        }
    }

    fn remove(&mut self, token: Token) -> Option<Copy> {
        let copy = self.copies.remove(&token)?;
        self.held.remove(&copy.inode);
        // It is not there if the worker had it still.
        epoll::delete(&self.epoll, &copy.connection).ok();
        Some(copy)
    }

    fn tell(&self, news: News) {
        // Nobody listens any more: what is in it is closed.
        if self.outside.news.send(news).is_ok() {
            wake(&self.plan.wake);
        }
    }

    fn publish(&self) {
        let mut counters = self
            .outside
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *counters = self.drain.counters();
    }

    fn finished(&self) -> bool {
        self.stopped() || self.gone && self.drain.over()
    }

    fn stopped(&self) -> bool {
        self.outside.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> Time {
        Time(self.started.elapsed())
    }
}

/// A look at a connection. What is unread is read only if the worker does not have it: it is for the worker.
fn observe(connection: &OwnedFd, held: bool, buffer: &mut [u8]) -> Observation {
    let over = Observation {
        held,
        link: Link::Over,
        head: Head::Nothing,
        flow: Flow::default(),
    };
    let Some((sight, unread)) = consistent(connection) else {
        return over;
    };
    let head = if held || unread == 0 {
        Head::Nothing
    } else {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let length = recv(connection, &mut *buffer, flags).map_or(0, |(length, _)| length);
        Head::of(&buffer[..length])
    };
    Observation {
        held,
        link: match sight.stage {
            Stage::Open => Link::Open,
            Stage::HalfClosed => Link::HalfClosed,
            Stage::Finished => Link::Finished,
            Stage::Over | Stage::None => Link::Over,
        },
        head,
        flow: Flow {
            received: sight.received,
            unread,
            written: sight.written,
            acknowledged: sight.acknowledged,
            bare_acknowledgements: sight.bare_segments,
            received_ago: sight.received_ago,
            sent_ago: sight.sent_ago,
        },
    }
}

/// The counters, and what was unread at that moment: both are asked for until nothing happens in between.
fn consistent(connection: &OwnedFd) -> Option<(tcp::Sight, u64)> {
    let mut unread = rustix::io::ioctl_fionread(connection).ok()?;
    for _ in 0..ATTEMPTS {
        let sight = tcp::sight(connection)?;
        let again = rustix::io::ioctl_fionread(connection).ok()?;
        if again == unread {
            return Some((sight, unread));
        }
        unread = again;
    }
    let sight = tcp::sight(connection)?;
    Some((sight, unread))
}
