//! The daemon's process: its socket, its signals, its end.

use crate::adopt::{self, Legacy};
use crate::daemon::{Daemon, Ending, Parts};
use crate::home::Home;
use crate::http;
use crate::journal::Journal;
use crate::launcher::Launcher;
use crate::ops::Steps;
use crate::output::Outputs;
use crate::sample;
use crate::saving;
use crate::socket::{self, SocketError};
use crate::systemd;
use crate::thrift;
use everup::signals::Signals;
use everup_keeper::{Handoff, Inherited, Ready};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a daemon needs.
#[derive(Debug)]
pub struct Config {
    /// `$EVERUP_HOME`, absolute.
    pub home: PathBuf,
    /// Understands apps.
    pub launcher: Arc<dyn Launcher>,
}

/// Why a daemon could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// Its directory.
    #[error("could not use {} as the home of the daemon", path.display())]
    Home {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else answers at the socket.
    #[error("a daemon runs already at {}", path.display())]
    Running {
        /// Its socket.
        path: PathBuf,
    },
    /// The socket.
    #[error("could not listen at {}", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The operating system refused something.
    #[error("could not {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

/// Runs a daemon until it is told to end. `signals` are those that end it: blocked in all threads.
///
/// # Errors
/// When it cannot begin.
pub fn main(config: Config, signals: Signals) -> Result<(), DaemonError> {
    everup::limits::descriptors::raise(None);
    let home = config.home.clone();
    let failed = |source| DaemonError::Home {
        path: home.clone(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&home)
        .map_err(failed)?;
    let place = Home::new(home.clone());
    let path = socket::path(&place);
    let listener = bind(&place)?;
    let home_of = Home::new(config.home);
    let outputs = Outputs::start(&home_of.logs(), None).map_err(system("start the thread for logs"))?;
    let daemon = Daemon::new(Parts {
        home: home_of,
        launcher: config.launcher,
        journal: Journal::new(1),
        outputs,
        keeper_pid: std::process::id(),
        incarnation: 1,
        exits: None,
        upgrade: None,
        fell_back: None,
    });
    fs::write(daemon.home.pid_file(), format!("{}\n", std::process::id())).map_err(failed)?;
    // The main thread may be one that was cloned without exec: nothing may rely on its thread id.
    let worker = Arc::clone(&daemon);
    let thread = std::thread::Builder::new()
        .name("everup-api".into())
        .spawn(move || run(worker, listener, signals, None))
        .map_err(system("start a thread"))?;
    let result = thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    fs::remove_file(&path).ok();
    fs::remove_file(daemon.home.pid_file()).ok();
    result
}

/// Runs a daemon under a keeper until it is told to end; gives the exit code for the keeper. Everything that a daemon
/// before this one has left goes on.
#[must_use]
pub fn kept(handoff: Handoff, launcher: Arc<dyn Launcher>) -> i32 {
    const FAILED: i32 = 1;
    let Handoff {
        home,
        incarnation,
        keeper_pid,
        exits,
        ready,
        upgrade,
        inherited,
        previous,
        fell_back,
        soft_limit,
        ..
    } = handoff;
    everup::limits::descriptors::raise(soft_limit);
    everup::heap::be_frugal();
    let begun = begin(&home, inherited, |legacy, outputs, listener| {
        let journal = Journal::new(legacy.seq);
        if let Some(memory) = legacy.common.take().or_else(|| adopt::common_memory().ok()) {
            journal.keep_in(memory, listener.as_raw_fd());
        }
        Daemon::new(Parts {
            home: Home::new(home.clone()),
            launcher,
            journal,
            outputs,
            keeper_pid,
            incarnation,
            exits: Some(adopt::exits(exits)),
            upgrade: Some(upgrade),
            fell_back: fell_back.clone(),
        })
    });
    let (daemon, listener, signals, legacy) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            ready.fail(&words(&error));
            return FAILED;
        }
    };
    for what in previous.into_iter().chain(fell_back) {
        daemon.note("daemon", serde_json::json!({"what": what}));
    }
    let pid = format!("{}\n", std::process::id());
    fs::write(daemon.home.pid_file(), pid).ok();
    let ended = run(Arc::clone(&daemon), listener, signals, Some((legacy, ready)));
    fs::remove_file(socket::path(&daemon.home)).ok();
    fs::remove_file(daemon.home.pid_file()).ok();
    i32::from(ended.is_err())
}

type Begun = (Arc<Daemon>, UnixListener, Signals, Legacy);

/// First what was left is sorted: nothing of our own may be open yet.
fn begin(
    home: &Path,
    inherited: Inherited,
    make: impl FnOnce(&mut Legacy, Outputs, &UnixListener) -> Arc<Daemon>,
) -> Result<Begun, DaemonError> {
    const SIGINT: i32 = 2;
    const SIGTERM: i32 = 15;
    let mut legacy =
        Legacy::sort(inherited).map_err(system("sort what a daemon before this one has left"))?;
    let signals = Signals::block(&[SIGINT, SIGTERM]).map_err(system("take over the signals"))?;
    let listener = match legacy.socket.take() {
        Some(listener) => listener,
        None => bind(&Home::new(home.into()))?,
    };
    let outputs = Outputs::start(&Home::new(home.into()).logs(), legacy.logs.take());
    let outputs = outputs.map_err(system("start the thread for logs"))?;
    let daemon = make(&mut legacy, outputs, &listener);
    Ok((daemon, listener, signals, legacy))
}

fn words(error: &DaemonError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn run(
    daemon: Arc<Daemon>,
    listener: UnixListener,
    signals: Signals,
    left: Option<(Legacy, Ready)>,
) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(async {
        listener.set_nonblocking(true).map_err(system("use the socket"))?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(system("use the socket"))?;
        saving::tidy(&daemon);
        obey(&daemon, signals).map_err(system("start a thread for signals"))?;
        if let Some((legacy, ready)) = left {
            for what in &legacy.trouble {
                daemon.note("error", serde_json::json!({"what": what}));
            }
            let none = legacy.is_empty();
            daemon.adopt(legacy).await;
            // Whatever ran before is on disk.
            if none {
                daemon.restore();
            }
            ready.report();
            systemd::ready(daemon.keeper_pid);
        } else {
            daemon.restore();
        }
        tokio::spawn(sample::sample(Arc::clone(&daemon)));
        tokio::spawn(saving::save(Arc::clone(&daemon)));
        tokio::spawn(thrift::give_back(Arc::clone(&daemon)));
        http::serve(Arc::clone(&daemon), listener).await;
        saving::save_last(&daemon).await;
        Ok(())
    })
}

/// The first signal ends everything.
fn obey(daemon: &Arc<Daemon>, signals: Signals) -> io::Result<()> {
    let (daemon, runtime) = (Arc::clone(daemon), tokio::runtime::Handle::current());
    let wait = move || {
        if signals.wait().is_err() {
            return;
        }
        runtime.spawn(async move {
            let (steps, _told) = mpsc::channel(1);
            daemon.kill(Steps::new(steps), false).await;
            daemon.end(Ending::Over);
        });
    };
    std::thread::Builder::new()
        .name("everup-signals".into())
        .spawn(wait)
        .map(|_| ())
}

fn bind(home: &Home) -> Result<UnixListener, DaemonError> {
    let path = socket::path(home);
    socket::listen(home).map_err(|error| match error {
        SocketError::Running => DaemonError::Running { path },
        SocketError::Io(source) => DaemonError::Socket { path, source },
        SocketError::NoGroup(_) => DaemonError::Socket {
            path,
            source: io::Error::new(io::ErrorKind::NotFound, error.to_string()),
        },
    })
}
