//! The daemon's process: its socket, its signals, its end.

use crate::daemon::{Daemon, Ending};
use crate::home::Home;
use crate::http;
use crate::launcher::Launcher;
use crate::ops::Steps;
use everup::signals::Signals;
use everup_api::v1::SOCKET;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
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
    let path = home.join(SOCKET);
    let listener = bind(&path)?;
    let daemon = Daemon::new(Home::new(config.home), config.launcher);
    fs::write(daemon.home.pid_file(), format!("{}\n", std::process::id())).map_err(failed)?;
    // The main thread may be one that was cloned without exec: nothing may rely on its thread id.
    let worker = Arc::clone(&daemon);
    let thread = std::thread::Builder::new()
        .name("everup-api".into())
        .spawn(move || run(worker, listener, signals))
        .map_err(system("start a thread"))?;
    let result = thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    fs::remove_file(&path).ok();
    fs::remove_file(daemon.home.pid_file()).ok();
    result
}

fn run(daemon: Arc<Daemon>, listener: UnixListener, signals: Signals) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(async {
        listener.set_nonblocking(true).map_err(system("use the socket"))?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(system("use the socket"))?;
        obey(&daemon, signals).map_err(system("start a thread for signals"))?;
        http::serve(daemon, listener).await;
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
            daemon.kill(Steps::new(steps)).await;
            daemon.end(Ending::Over);
        });
    };
    std::thread::Builder::new()
        .name("everup-signals".into())
        .spawn(wait)
        .map(|_| ())
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
