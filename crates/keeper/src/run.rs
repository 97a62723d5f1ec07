//! How a process becomes the keeper: as the first one, or in another's place.

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode};
use rustix::process::{PidfdFlags, Resource, getrlimit, setrlimit};

use crate::arguments::Command;
use crate::check::ANSWER;
use crate::handoff::Handoff;
use crate::keeper::{BLOCKED, Keeper};
use crate::link::Link;
use crate::log;
use crate::memory::{self, Memory};
use crate::root::{Descriptors, NAME, Root};
use crate::sys::{process, signals, table};

/// Its lock is held as long as there is a keeper, whichever process that is.
pub(crate) const LOCK: &str = "keeper.lock";
/// What is told when another keeper holds the lock.
pub(crate) const BUSY: &str = "busy";

/// What a keeper runs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Config {
    /// The daemon: called in a thread of a new process; what it gives is that process's exit code. 0: the work is done,
    /// the keeper ends too. Any other: another daemon is started. To come back only means to have closed what was dropped.
    ///
    /// SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 and SIGUSR2 are blocked in it, so that none is lost before it reads them
    /// (`signalfd`); the keeper passes its own on.
    pub daemon: fn(Handoff) -> i32,
    /// After an upgrade the new daemon has so long to become ready, else the old program comes back.
    pub trial: Duration,
    /// A new program that is neither ready nor has given way so long after that is killed, and the old one comes back.
    pub grace: Duration,
}

impl Config {
    /// With this daemon; a new program is on trial for 10 s, and killed after 15 s.
    #[must_use]
    pub fn new(daemon: fn(Handoff) -> i32) -> Self {
        Self {
            daemon,
            trial: Duration::from_secs(10),
            grace: Duration::from_secs(5),
        }
    }
}

/// Why a process did not become the keeper.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{}: another keeper is at work", .0.display())]
    Busy(PathBuf),
    #[error("{}: cannot be opened: {error}", path.display())]
    Lock { path: PathBuf, error: io::Error },
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    #[error("nothing to go on with: this is started by the keeper only")]
    NoRoot,
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System(what, error)
}

/// Is the keeper until a daemon is done. To be called from `main`, before any thread is started.
#[must_use]
pub fn run(command: Command, config: Config) -> ExitCode {
    let keeper = match command {
        Command::Check => {
            let written = io::stdout().write_all(ANSWER.as_bytes());
            return ExitCode::from(u8::from(written.is_err()));
        }
        Command::Start { home, tell } => {
            let pipe = detach(tell);
            let keeper = start(home, pipe.as_ref().map(OwnedFd::as_raw_fd), config);
            let pipe = pipe.map(IntoRawFd::into_raw_fd);
            if let (Err(error), Some(pipe)) = (&keeper, pipe) {
                let text = match error {
                    StartError::Busy(_) => BUSY.to_owned(),
                    other => format!("failed: {other}"),
                };
                rustix::io::write(table::lend(pipe), text.as_bytes()).ok();
            }
            keeper
        }
        Command::Resume { killed } => go_on(killed, config),
    };
    match keeper {
        Ok(keeper) => keeper.keep(),
        Err(error) => {
            if !matches!(error, StartError::Busy(_)) {
                log::line(format_args!("cannot start: {error}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// Leaves the terminal, the folder and the descriptors of whoever started us. Gives the pipe that was standard output.
fn detach(tell: bool) -> Option<OwnedFd> {
    table::close_from(3);
    // Not possible for who leads a group of processes, as under an init system: then there is no terminal to leave.
    rustix::process::setsid().ok();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::chdir(c"/").ok();
    if !tell {
        return None;
    }
    let pipe = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).ok()?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).ok()?;
    Some(pipe)
}

fn start(home: PathBuf, pipe: Option<RawFd>, config: Config) -> Result<Keeper, StartError> {
    let lock = lock(&home.join(LOCK))?;
    let memory = Memory::create(NAME).map_err(system("cannot make a memory"))?;
    let (link, link_fd) = Link::create().map_err(system("cannot make a memory"))?;
    let mut root = Root {
        home,
        program: env::args_os().next().unwrap_or_else(|| OsString::from("everup")),
        descriptors: Descriptors {
            lock: Some(lock),
            link: Some(link_fd),
            pipe,
            ..Descriptors::default()
        },
        ..Root::default()
    };
    let signals = equip(&mut root)?;
    Ok(ready(config, root, memory, link, signals))
}

fn go_on(killed: bool, config: Config) -> Result<Keeper, StartError> {
    table::close_on_exec_from(3);
    let found = memory::find().map_err(system("cannot look for descriptors"))?;
    let fd = found
        .into_iter()
        .find(|(name, _)| name == NAME)
        .ok_or(StartError::NoRoot)?
        .1;
    let (memory, contents) = Memory::open(table::take(fd)).map_err(system("cannot read the root memory"))?;
    let mut root = Root::decode(&contents.snapshot);
    let link = root.descriptors.link.ok_or(StartError::NoRoot)?;
    let link = Link::open(link).map_err(system("cannot read the link memory"))?;
    if killed {
        root.previous = Some("the keeper was killed".to_owned());
        log::line(format_args!("goes on in the daemon's place"));
    }
    if let Some(lock) = root.descriptors.lock {
        write_pid(lock);
    }
    let signals = equip(&mut root)?;
    Ok(ready(config, root, memory, link, signals))
}

fn ready(config: Config, root: Root, memory: Memory, link: Link, signals: RawFd) -> Keeper {
    let mut keeper = Keeper {
        config,
        root,
        memory,
        link: Arc::new(link),
        signals,
    };
    keeper.save();
    keeper
}

/// What every keeper makes for itself. The numbers of the keeper before are closed by now.
fn equip(root: &mut Root) -> Result<RawFd, StartError> {
    process::name_thread(c"everup-keeper");
    raise_limit(root);
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me))
        .map_err(|error| StartError::System("cannot become a subreaper", error.into()))?;
    let signals = signals::block(&BLOCKED)
        .map_err(system("cannot read signals"))?
        .into_raw_fd();
    let pidfd = rustix::process::pidfd_open(me, PidfdFlags::empty())
        .map_err(|error| StartError::System("cannot open its own pidfd", error.into()))?;
    root.keepers += 1;
    root.descriptors.signals = Some(signals);
    root.descriptors.keeper = Some(pidfd.into_raw_fd());
    if root.descriptors.executable.is_none() {
        let executable = OpenOptions::new().read(true).open("/proc/self/exe");
        let executable = executable.map_err(system("cannot open its own program"))?;
        root.descriptors.executable = Some(executable.into_raw_fd());
    }
    Ok(signals)
}

/// One table for all descriptors of all apps: as many as can be had. What was there before is for the workers.
fn raise_limit(root: &mut Root) {
    let mut limit = getrlimit(Resource::Nofile);
    if root.keepers == 0 {
        root.soft_limit = limit.current;
    }
    limit.current = limit.maximum;
    // Where that is refused, it is as it was.
    setrlimit(Resource::Nofile, limit).ok();
}

fn lock(path: &Path) -> Result<RawFd, StartError> {
    let failed = |error| StartError::Lock {
        path: path.to_owned(),
        error,
    };
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let file = file.map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(StartError::Busy(path.to_owned())),
        Err(error) => return Err(failed(error.into())),
    }
    let fd = file.into_raw_fd();
    write_pid(fd);
    Ok(fd)
}

/// For the eyes of people: the lock is what counts.
fn write_pid(lock: RawFd) {
    let text = format!("{}\n", rustix::process::getpid());
    let written = rustix::io::pwrite(table::lend(lock), text.as_bytes(), 0);
    // A longer number may have been there.
    if let Some(len) = written.ok().and_then(|len| u64::try_from(len).ok()) {
        rustix::fs::ftruncate(table::lend(lock), len).ok();
    }
}
