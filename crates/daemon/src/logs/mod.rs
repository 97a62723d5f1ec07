//! Workers' output: from their pipes to pm2's files.
//!
//! Owner: the daemon has one [`Logs`]; the engine asks it for a pipe per stream of each worker ([`everup::OpenOutput`]).
//!
//! ```text
//! worker ──pipe──▶ thread `everup-logs` ──splice──▶ logs/NAME-out.log        (as it is, one file)
//!                         │
//!                         └─ aside, then write ──▶ NAME-error.log, NAME.log  (dated, JSON, two files)
//! ```
//!
//! Invariants:
//! - Each byte that a worker wrote comes into each of its files once, in the order of that stream, also if daemon, keeper
//!   or both binaries are killed or replaced meanwhile. `pump` says how, and what remains.
//! - No line of one worker begins within a line of another: where several write to a raw file, others wait for the end of a
//!   begun line, up to 50 ms.
//! - A file that cannot be written loses nothing: its workers' bytes wait in their pipes (and the workers with them, when
//!   these are full); it is tried again, from 100 ms to 5 s later. [`Logs::trouble`] tells.
//! - Nothing here waits for a disk in the engine's thread.
//!
//! A file is written where it ends: emptied by others (`logrotate` with `copytruncate`), it begins again; removed, it is
//! made again; renamed, it is written on until [`Logs::reopen`].
//!
//! Must not know: HTTP, the registry, how apps are started. Rotation, search and subscribers will sit here too.

pub mod dayjs;
mod files;
mod journal;
pub mod paths;
mod pump;
pub mod style;
pub mod tail;
mod thread;

#[cfg(test)]
mod tests;

use everup::{OpenOutput, Slot, Stream, WorkerId};
use everup_api::AppSpec;
use everup_keeper::{Contents, Memory};
use files::lock;
use journal::{Journal, Ledger, Record, Route};
use paths::Paths;
use rustix::fs::{Gid, Uid};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use style::Style;
use thread::{Command, Thread};

/// The name of the [`Memory`] for [`Logs::start`].
pub const MEMORY: &str = "logs";

/// How long an answer of the thread is waited for: it may be writing to a slow disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// The numbers of the descriptors that a dead daemon's logs have left.
#[must_use]
pub fn numbers(left: &Contents) -> Vec<RawFd> {
    Ledger::restore(left).descriptors().collect()
}

/// The output of all apps. See the module's documentation.
#[derive(Debug)]
pub struct Logs {
    shared: Arc<Shared>,
    directory: PathBuf,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with those who command it.
#[derive(Debug)]
struct Shared {
    /// Taken for an instant only, never while a file is written.
    journal: Mutex<Journal>,
    commands: Mutex<Vec<Command>>,
    wake: OwnedFd,
    /// By app, then by stream and files.
    troubles: Mutex<BTreeMap<String, BTreeMap<Vec<PathBuf>, String>>>,
    adopted: BTreeSet<RawFd>,
    /// The last lines of workers that have ended, by app and worker: of standard output, of standard error. `None` is
    /// for a stream whose file was not theirs alone.
    tails: Mutex<BTreeMap<(String, u32), Tails>>,
}

type Tails = [Option<Vec<String>>; 2];

/// The last lines of so many workers are kept, and so many lines of each.
const TAILS: usize = 1024;
const LINES: usize = 20;

/// An app whose output is kept.
#[derive(Clone)]
pub struct AppLogs {
    /// Its settings: name, files, style.
    pub spec: AppSpec,
    /// pm2's id of the instance in a slot.
    pub ids: Arc<dyn Fn(Slot) -> u32 + Send + Sync>,
    /// Whom its workers run as, if not as we do: may open `/dev/stdout` then.
    pub owner: Option<(u32, u32)>,
    /// The mode of files that are made: 0600, or 0640 if the group may read.
    pub mode: u32,
}

impl fmt::Debug for AppLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppLogs")
            .field("app", &self.spec.name)
            .finish_non_exhaustive()
    }
}

impl Logs {
    /// Starts the thread; goes on with what a predecessor left in the memory ([`MEMORY`]), which is nothing at first. Files
    /// are in `directory` unless an app says otherwise.
    ///
    /// # Errors
    /// No descriptors, no memory, or no thread.
    pub fn start(directory: &Path, memory: Memory, left: &Contents) -> io::Result<Self> {
        let ledger = Ledger::restore(left);
        let kept = memory.fd().as_raw_fd();
        let shared = Arc::new(Shared::new(Box::new(memory), ledger.clone(), kept)?);
        let mut thread = Thread::new(Arc::clone(&shared))?;
        thread.adopt(&ledger);
        let thread = std::thread::Builder::new()
            .name("everup-logs".into())
            .spawn(move || thread.run())?;
        Ok(Self {
            shared,
            directory: directory.to_owned(),
            thread: Some(thread),
        })
    }

    /// Where the output of an app goes: for [`everup::Output::Open`].
    #[must_use]
    pub fn app(&self, app: AppLogs) -> Arc<dyn OpenOutput> {
        Arc::new(Opener {
            shared: Arc::clone(&self.shared),
            style: Style::of(app.spec.log_date_format.as_deref(), app.spec.log_type.as_deref()),
            directory: self.directory.clone(),
            app,
        })
    }

    /// The files of an app's instance.
    #[must_use]
    pub fn paths(&self, spec: &AppSpec, id: u32) -> Paths {
        Paths::of(spec, &self.directory, id)
    }

    /// Descriptors that a successor's cleaning must spare: those that were taken over at the start, even if they are
    /// closed by now (somebody else may have got the number), and all that are in use.
    #[must_use]
    pub fn claimed(&self) -> Vec<RawFd> {
        let mut all = self.shared.adopted.clone();
        all.extend(lock(&self.shared.journal).ledger().descriptors());
        all.into_iter().collect()
    }

    /// Opens the files of an app, or of all, by their paths again.
    ///
    /// # Errors
    /// What could not be opened: the old files are used on. Or there was no answer in time.
    pub fn reopen(&self, app: Option<&str>) -> Result<(), Vec<String>> {
        let (reply, answer) = channel();
        self.shared.tell(Command::Reopen(app.map(str::to_owned), reply));
        wait(&answer)
    }

    /// Empties these files: an app's are those of [`Self::paths`] of its instances.
    ///
    /// # Errors
    /// What could not be emptied, or there was no answer in time.
    pub fn flush(&self, paths: Vec<PathBuf>) -> Result<(), Vec<String>> {
        let (reply, answer) = channel();
        self.shared.tell(Command::Flush(paths, reply));
        wait(&answer)
    }

    /// Why output of an app cannot be written at the moment.
    #[must_use]
    pub fn trouble(&self, app: &str) -> Option<String> {
        let troubles = lock(&self.shared.troubles);
        troubles.get(app)?.values().next().cloned()
    }

    /// Whether all that a worker has written is in its files, and no process can write to its streams any more.
    #[must_use]
    pub fn drained(&self, app: &str, worker: WorkerId) -> bool {
        let journal = lock(&self.shared.journal);
        let mut routes = journal.ledger().pipes.values().map(|entry| &entry.route);
        !routes.any(|route| route.app == app && route.worker == worker.0)
    }

    /// The last lines that a worker wrote which has ended: those of standard output, then those of standard error. `None`
    /// if that cannot be known: others wrote to the same file meanwhile, or it was started under another daemon.
    #[must_use]
    pub fn last_lines(&self, app: &str, worker: u32) -> Option<Vec<String>> {
        let tails = lock(&self.shared.tails);
        let [out, err] = tails.get(&(app.to_owned(), worker))?.clone();
        let (mut lines, err) = (out?, err?);
        // Errors say more.
        let surplus = (lines.len() + err.len()).saturating_sub(LINES);
        lines.drain(..surplus.min(lines.len()));
        lines.extend(err);
        Some(lines)
    }

    /// The app is no more. Pipes that are still open are read to their end.
    pub fn forget(&self, app: &str) {
        lock(&self.shared.troubles).remove(app);
        lock(&self.shared.tails).retain(|(of, _), _| of != app);
    }
}

fn wait(answer: &std::sync::mpsc::Receiver<Vec<String>>) -> Result<(), Vec<String>> {
    match answer.recv_timeout(PATIENCE) {
        Ok(failed) if failed.is_empty() => Ok(()),
        Ok(failed) => Err(failed),
        Err(_) => Err(vec!["the thread that writes the logs does not answer".into()]),
    }
}

impl Drop for Logs {
    /// Writes what can be written.
    fn drop(&mut self) {
        self.shared.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn new(store: Box<dyn journal::Store>, ledger: Ledger, kept: RawFd) -> io::Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        Ok(Self {
            adopted: ledger.descriptors().chain([kept]).collect(),
            journal: Mutex::new(Journal::new(store, ledger)?),
            commands: Mutex::default(),
            wake: rustix::event::eventfd(0, flags)?,
            troubles: Mutex::default(),
            tails: Mutex::default(),
        })
    }

    fn tell(&self, command: Command) {
        lock(&self.commands).push(command);
        // Full: it has been woken often enough.
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }

    /// How a stream of a worker ended; `None` takes back what is known of an earlier one of the same number.
    fn tail(&self, route: &Route, lines: Option<Vec<String>>) {
        let mut tails = lock(&self.tails);
        let key = (route.app.clone(), route.worker);
        tails.entry(key).or_default()[usize::from(route.err)] = lines;
        while tails.len() > TAILS {
            tails.pop_first();
        }
    }

    /// Files that an app's workers write to now.
    fn files_of(&self, app: &str) -> BTreeSet<PathBuf> {
        let journal = lock(&self.journal);
        let routes = journal.ledger().pipes.values().map(|entry| &entry.route);
        routes
            .filter(|route| route.app == app)
            .flat_map(|route| route.files.iter().cloned())
            .collect()
    }

    fn trouble(&self, route: &Route, why: Option<String>) {
        if let Some(why) = why {
            let mut troubles = lock(&self.troubles);
            let app = troubles.entry(route.app.clone()).or_default();
            app.insert(route.files.clone(), why);
        }
    }

    fn untroubled(&self, route: &Route) {
        let mut troubles = lock(&self.troubles);
        for app in troubles.values_mut() {
            app.retain(|files, _| !files.iter().any(|file| route.files.contains(file)));
        }
        troubles.retain(|_, app| !app.is_empty());
    }
}

/// Gives an app's workers their pipes.
#[derive(Debug)]
struct Opener {
    shared: Arc<Shared>,
    app: AppLogs,
    style: Style,
    directory: PathBuf,
}

impl OpenOutput for Opener {
    fn open(&self, worker: WorkerId, slot: Slot, stream: Stream) -> io::Result<OwnedFd> {
        let id = (self.app.ids)(slot);
        let files = Paths::of(&self.app.spec, &self.directory, id).stream(stream);
        if files.is_empty() {
            let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
            return Ok(rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?);
        }
        let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        if let Some((uid, gid)) = self.app.owner {
            // Inherited it is in any case; this is for programs that open `/dev/stdout`.
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::fchown(&write_end, Some(uid), Some(gid)).ok();
        }
        let route = Route {
            app: self.app.spec.name.clone(),
            id,
            worker: worker.0,
            err: stream == Stream::Err,
            files,
            mode: self.app.mode,
            style: self.style.clone(),
        };
        // Before there is a worker that depends on it.
        lock(&self.shared.journal).note(Record::Pipe {
            fd: read_end.as_raw_fd(),
            route: route.clone(),
        })?;
        self.shared.tell(Command::Pipe(read_end, route));
        Ok(write_end)
    }
}
