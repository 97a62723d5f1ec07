//! The daemon's process: its socket, its signals, its end.

use crate::daemon::{Daemon, Ending, Past};
use crate::home::Home;
use crate::http;
use crate::launcher::Launcher;
use crate::logs;
use crate::ops::Steps;
use crate::output::Outputs;
use crate::saving;
use everup::signals::Signals;
use everup_api::v1::SOCKET;
use everup_keeper::{Contents, Memory};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
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

/// Runs a daemon without a keeper until it is told to end: its workers end with it. `signals` are those that end it, blocked
/// in all threads.
///
/// # Errors
/// When it cannot begin.
pub fn main(config: Config, signals: Signals) -> Result<(), DaemonError> {
    let home = folder(config.home)?;
    let path = home.path().join(SOCKET);
    let listener = bind(&path)?;
    let outputs = outputs(&home, None)?;
    let past = Past {
        seq: 0,
        keeper_pid: std::process::id(),
        incarnation: 1,
        exits: None,
    };
    let daemon = Daemon::new(home, config.launcher, outputs, past);
    write_pid(&daemon)?;
    let serving = Arc::clone(&daemon);
    let begin = |daemon: &Arc<Daemon>| daemon.restore();
    let result = in_a_thread(move || run(serving, listener, signals, begin));
    fs::remove_file(&path).ok();
    fs::remove_file(daemon.home.pid_file()).ok();
    result
}

/// The main thread may be one that was cloned without exec: nothing may rely on its thread id.
fn in_a_thread(work: impl FnOnce() -> Result<(), DaemonError> + Send + 'static) -> Result<(), DaemonError> {
    let thread = std::thread::Builder::new().name("everup-api".into()).spawn(work);
    let thread = thread.map_err(system("start a thread"))?;
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn folder(home: PathBuf) -> Result<Home, DaemonError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&home);
    made.map_err(|source| DaemonError::Home {
        path: home.clone(),
        source,
    })?;
    Ok(Home::new(home))
}

fn write_pid(daemon: &Daemon) -> Result<(), DaemonError> {
    let pid = format!("{}\n", std::process::id());
    fs::write(daemon.home.pid_file(), pid).map_err(|source| DaemonError::Home {
        path: daemon.home.path().into(),
        source,
    })
}

fn outputs(home: &Home, left: Option<(Memory, Contents)>) -> Result<Outputs, DaemonError> {
    let what = "begin with the logs";
    let (memory, contents) = match left {
        Some(left) => left,
        None => (
            Memory::create(logs::MEMORY).map_err(system(what))?,
            Contents::default(),
        ),
    };
    Outputs::start(&home.logs(), memory, &contents).map_err(system(what))
}

fn run(
    daemon: Arc<Daemon>,
    listener: UnixListener,
    signals: Signals,
    begin: impl FnOnce(&Arc<Daemon>),
) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(async {
        listener.set_nonblocking(true).map_err(system("use the socket"))?;
        daemon.listens(listener.as_raw_fd());
        let listener = tokio::net::UnixListener::from_std(listener).map_err(system("use the socket"))?;
        obey(&daemon, signals).map_err(system("start a thread for signals"))?;
        begin(&daemon);
        tokio::spawn(saving::save(Arc::clone(&daemon)));
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
    let thread = std::thread::Builder::new().name("everup-signals".into());
    thread.spawn(wait).map(|_| ())
}

fn bind(path: &Path) -> Result<UnixListener, DaemonError> {
    let failed = |source| DaemonError::Socket {
        path: path.into(),
        source,
    };
    if UnixStream::connect(path).is_ok() {
        return Err(DaemonError::Running { path: path.into() });
    }
    // Of a daemon that is gone.
    fs::remove_file(path).ok();
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}
