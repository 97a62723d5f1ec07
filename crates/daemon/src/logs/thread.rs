//! The thread `everup-logs`: one for the output of all apps.
//!
//! It waits at one epoll instance (edge-triggered: a pipe whose file cannot be written does not wake it), moves what
//! is there, pipe after pipe ([`super::pump`]), and does what it is told. It is the only one that reads the pipes and
//! writes the files. Invariant: it sleeps when there is nothing that it could do.

use super::Shared;
use super::files::{Files, lock};
use super::journal::{Entry, Ledger, Record, Route};
use super::pump::{Desk, Next, PATIENCE, Pipe};
use everup::possess;
use jiff::tz::TimeZone;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// A worker's stream.
    Pipe(OwnedFd, Route),
    /// Open the files of an app, or of all, again. The answer: what failed.
    Reopen(Option<String>, Sender<Vec<String>>),
    /// Empty these files.
    Flush(Vec<PathBuf>, Sender<Vec<String>>),
    /// Write what is there, and end.
    Stop,
}

const EVENTS: usize = 64;
/// Of a worker's last lines, at most so many bytes.
const TAIL: u64 = 4 * 1024;
/// Something is wrong with the pipe itself.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread's own.
#[derive(Debug)]
pub(super) struct Thread {
    shared: Arc<Shared>,
    epoll: OwnedFd,
    pipes: BTreeMap<RawFd, Pipe>,
    files: Files,
    /// Those that may have something.
    queue: VecDeque<RawFd>,
    /// When to look at pipes that cannot go on now.
    later: BTreeSet<(Instant, RawFd)>,
    buffer: Vec<u8>,
    zone: TimeZone,
    stopping: bool,
}

impl Thread {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = EventData::new_u64(u64::MAX);
        epoll::add(&epoll, &shared.wake, wake, EventFlags::IN)?;
        Ok(Self {
            shared,
            epoll,
            pipes: BTreeMap::new(),
            files: Files::default(),
            queue: VecDeque::new(),
            later: BTreeSet::new(),
            buffer: Vec::new(),
            zone: TimeZone::system(),
            stopping: false,
        })
    }

    /// Goes on with what a predecessor had. What cannot be taken over is left out of the journal.
    pub(super) fn adopt(&mut self, ledger: &Ledger) {
        for (fd, path) in &ledger.files {
            match possess(*fd) {
                Ok(descriptor) => self.files.adopt(path.clone(), descriptor),
                Err(_) => self.note(Record::Left { fd: *fd }),
            }
        }
        for (fd, entry) in &ledger.pipes {
            if self.adopt_pipe(*fd, entry).is_err() {
                self.note(Record::Gone { fd: *fd });
            }
        }
        self.files.sweep(&self.shared.journal);
        let until = Instant::now() + PATIENCE;
        for (file, pipe) in &ledger.turns {
            if let Some(path) = ledger.files.get(file).filter(|_| self.pipes.contains_key(pipe)) {
                self.files.resume(path, *pipe, until);
            }
        }
        // Those in the middle of a write come first: nobody else may write to their files before.
        let under_way: Vec<(RawFd, &Entry)> = ledger.pipes.iter().map(|(fd, entry)| (*fd, entry)).collect();
        for (fd, entry) in under_way {
            self.with(fd, |pipe, desk| pipe.recover(&entry.step, desk).ok());
            if self.pipes.get(&fd).is_some_and(|pipe| pipe.pending.is_some()) {
                self.queue.push_front(fd);
            }
        }
    }

    fn adopt_pipe(&mut self, fd: RawFd, entry: &Entry) -> io::Result<()> {
        let mut pipe = Pipe::new(possess(fd)?, entry.route.clone());
        if let Some([read_end, write_end]) = entry.aside {
            pipe.aside = Some((possess(read_end)?, possess(write_end)?));
        }
        self.add(pipe)
    }

    fn note(&self, record: Record) {
        // No memory: a later snapshot says it.
        lock(&self.shared.journal).note(record).ok();
    }

    fn add(&mut self, pipe: Pipe) -> io::Result<()> {
        let fd = pipe.fd.as_raw_fd();
        let key = EventData::new_u64(u64::try_from(fd).map_err(io::Error::other)?);
        epoll::add(&self.epoll, &pipe.fd, key, EventFlags::IN | EventFlags::ET)?;
        for path in &pipe.route.files {
            self.files.join(path, pipe.route.mode);
            // So that it is there from the beginning, and its trouble known. With bytes it is tried again.
            if let Err(blocked) = self.files.ready(path, fd, Instant::now(), &self.shared.journal) {
                self.shared.trouble(&pipe.route, blocked.why);
            }
        }
        self.pipes.insert(fd, pipe);
        Ok(())
    }

    pub(super) fn run(mut self) {
        loop {
            self.obey();
            self.wait();
            self.due();
            // Only those that are in it now: the others after the next look at the poller.
            for _ in 0..self.queue.len() {
                let Some(fd) = self.queue.pop_front() else {
                    break;
                };
                self.turn(fd);
            }
            if self.stopping && self.queue.is_empty() {
                return;
            }
        }
    }

    fn obey(&mut self) {
        let commands = std::mem::take(&mut *lock(&self.shared.commands));
        for command in commands {
            match command {
                Command::Pipe(fd, route) => {
                    self.shared.tail(&route, None);
                    let record = Record::Gone { fd: fd.as_raw_fd() };
                    let number = fd.as_raw_fd();
                    if self.add(Pipe::new(fd, route)).is_err() {
                        self.note(record);
                    }
                    self.alone(number);
                }
                Command::Reopen(app, reply) => {
                    let of = |app: &String| self.shared.files_of(app);
                    let only = app.as_ref().map(of);
                    let which = |path: &std::path::Path| only.as_ref().is_none_or(|only| only.contains(path));
                    reply.send(self.files.reopen(which, &self.shared.journal)).ok();
                    self.zone = TimeZone::system();
                    self.all();
                }
                Command::Flush(paths, reply) => {
                    let failed = paths
                        .iter()
                        .filter_map(|path| empty(path).err().map(|error| super::files::told(path, &error)));
                    reply.send(failed.collect()).ok();
                    self.all();
                }
                Command::Stop => self.stopping = true,
            }
        }
    }

    /// All may have something to do.
    fn all(&mut self) {
        self.later.clear();
        let waiting = self.pipes.values_mut().filter(|pipe| pipe.retry.is_some());
        for pipe in waiting {
            pipe.retry = None;
            self.queue.push_back(pipe.fd.as_raw_fd());
        }
    }

    fn wait(&mut self) {
        let limit = match (self.queue.is_empty() && !self.stopping, self.later.first()) {
            (false, _) => Some(Duration::ZERO),
            (true, Some((until, _))) => Some(until.saturating_duration_since(Instant::now())),
            (true, None) => None,
        };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut events = [MaybeUninit::uninit(); EVENTS];
        // Interrupted or not: the rest of the loop is right in any case.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, limit.as_ref()) else {
            return;
        };
        for event in events {
            let (key, flags) = (event.data.u64(), event.flags);
            let Some(pipe) = RawFd::try_from(key).ok().and_then(|fd| self.pipes.get_mut(&fd)) else {
                let mut count = [0_u8; 8];
                rustix::io::read(&self.shared.wake, &mut count).ok();
                continue;
            };
            pipe.ended |= flags.intersects(EventFlags::HUP | EventFlags::ERR);
            if pipe.retry.is_none() {
                self.queue.push_back(pipe.fd.as_raw_fd());
            }
        }
    }

    /// Those whose pause is over.
    fn due(&mut self) {
        let now = Instant::now();
        while let Some((until, fd)) = self.later.first().copied() {
            if until > now {
                return;
            }
            self.later.remove(&(until, fd));
            self.wake(fd);
        }
    }

    fn wake(&mut self, fd: RawFd) {
        if let Some(pipe) = self.pipes.get_mut(&fd)
            && let Some(until) = pipe.retry.take()
        {
            self.later.remove(&(until, fd));
            self.queue.push_back(fd);
        }
    }

    fn with<T: Default>(&mut self, fd: RawFd, act: impl FnOnce(&mut Pipe, &mut Desk<'_>) -> T) -> T {
        let Some(pipe) = self.pipes.get_mut(&fd) else {
            return T::default();
        };
        let mut desk = Desk {
            files: &mut self.files,
            journal: &self.shared.journal,
            buffer: &mut self.buffer,
            zone: &self.zone,
            released: Vec::new(),
            worked: false,
        };
        let result = act(pipe, &mut desk);
        let (released, worked) = (desk.released, desk.worked);
        if worked {
            self.shared.untroubled(&pipe.route);
        }
        released.into_iter().for_each(|fd| self.wake(fd));
        result
    }

    fn turn(&mut self, fd: RawFd) {
        let next = self.with(fd, |pipe, desk| Some(pipe.pump(desk)));
        match next {
            None | Some(Next::Empty) => {}
            Some(Next::More) => self.queue.push_back(fd),
            Some(Next::End) => self.bury(fd),
            Some(Next::Blocked(blocked)) => self.later(fd, blocked.until, blocked.why),
            Some(Next::Broken(error)) => {
                let why = format!("cannot read its output: {error}");
                self.later(fd, Instant::now() + PAUSE, Some(why));
            }
        }
    }

    fn later(&mut self, fd: RawFd, until: Instant, why: Option<String>) {
        if let Some(pipe) = self.pipes.get_mut(&fd) {
            if why.is_some() {
                let waiting = rustix::io::ioctl_fionread(&pipe.fd).unwrap_or(0);
                let why = why.map(|why| format!("{why} ({waiting} bytes wait)"));
                self.shared.trouble(&pipe.route, why);
            }
            pipe.retry = Some(until);
            self.later.insert((until, fd));
        }
    }

    /// A new pipe: is its first file its own from now on? That of others is not any more.
    fn alone(&mut self, fd: RawFd) {
        let Some(path) = self
            .pipes
            .get(&fd)
            .and_then(|pipe| pipe.route.files.first().cloned())
        else {
            return;
        };
        let alone = self.files.users(&path) == 1;
        if !alone {
            let others = self.pipes.values_mut();
            others
                .filter(|pipe| pipe.route.files.contains(&path))
                .for_each(|pipe| pipe.begin = None);
        }
        if let Some(pipe) = self.pipes.get_mut(&fd).filter(|_| alone) {
            pipe.begin = Some(path.metadata().map_or(0, |status| status.len()));
        }
    }

    /// What the worker wrote last, before others write there.
    fn tail(&self, pipe: &Pipe) {
        let lines = pipe.begin.and_then(|begin| {
            let file = std::fs::File::open(pipe.route.files.first()?).ok()?;
            let end = file.metadata().ok()?.len();
            super::tail::last(&file, super::LINES, end.saturating_sub(begin).min(TAIL)).ok()
        });
        let texts = lines.map(|lines| {
            let text = |line: &Vec<u8>| String::from_utf8_lossy(line).into_owned();
            lines.iter().map(text).collect()
        });
        self.shared.tail(&pipe.route, texts);
    }

    fn bury(&mut self, fd: RawFd) {
        let Some(pipe) = self.pipes.remove(&fd) else {
            return;
        };
        self.tail(&pipe);
        epoll::delete(&self.epoll, &pipe.fd).ok();
        let noted = lock(&self.shared.journal).note(Record::Gone { fd });
        for path in &pipe.route.files {
            self.files.leave(path, &self.shared.journal);
        }
        // Without memory for this, the number stays in the journal, so the descriptor must stay too.
        if noted.is_err() {
            std::mem::forget(pipe);
        }
    }
}

/// Empties a file, if there is one.
fn empty(path: &std::path::Path) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => Ok(rustix::fs::ftruncate(file, 0)?),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
