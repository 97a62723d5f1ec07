//! For clients: a daemon that answers, started if there is none.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, Mode, OFlags};
use rustix::thread::Timespec;

use crate::arguments;
use crate::run::BUSY;

/// Standard error of the keeper and the daemon.
pub const LOG: &str = "daemon.log";
/// Tells the daemon where to listen.
const SOCKET_VARIABLE: &str = "EVERUP_SOCKET";
/// The longest path of a UNIX socket, without the zero byte.
const LONGEST_SOCKET: usize = 107;
/// How long another keeper may take before we look again whether it is still there.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
const STEP: Duration = Duration::from_millis(5);

/// Variables that the keeper and the daemon get. Nothing else of the caller's environment: it is no app's.
const PASSED: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "RUST_BACKTRACE",
    "PM2_HOME",
];
const PASSED_PREFIXES: [&str; 2] = ["LC_", "EVERUP_"];

/// Where a daemon lives.
#[derive(Debug, Clone)]
pub struct Place {
    /// `$EVERUP_HOME`: made if it is not there.
    pub home: PathBuf,
    /// Where the daemon listens.
    pub socket: PathBuf,
}

/// There is a daemon that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It was there before.
    Before,
    /// It was started now.
    Now,
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnsureError {
    /// The home cannot be made.
    #[error("{}: the folder cannot be made", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The home is no folder.
    #[error("{}: not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The home is somebody else's.
    #[error("{}: belongs to uid {owner}, and this is uid {me}", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        me: u32,
    },
    /// Nothing can be written into the home.
    #[error("{}: nothing can be written there", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a socket, but we may not use it, or it is none.
    #[error("{}: cannot connect", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The keeper's program cannot be started.
    #[error("{}: cannot be started", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The keeper or the daemon could not start, and said why.
    #[error("the daemon did not start: {reason} (see {})", log.display())]
    Failed {
        /// Their words.
        reason: String,
        /// Where more may be found.
        log: PathBuf,
    },
    /// No daemon in time.
    #[error("no daemon answers after {} s (see {})", limit.as_secs_f32(), log.display())]
    Slow {
        /// How long we waited.
        limit: Duration,
        /// Where more may be found.
        log: PathBuf,
    },
}

/// Sees to it that a daemon listens, for at most so long. `program` is the path of a program that calls
/// [`run`](crate::run) when it is told to. Several callers at once get one daemon.
///
/// # Errors
/// There is none, and it could not be started.
pub fn ensure(place: &Place, program: &Path, limit: Duration) -> Result<Started, EnsureError> {
    if connects(&place.socket)? {
        return Ok(Started::Before);
    }
    prepare_home(&place.home)?;
    let deadline = Instant::now() + limit;
    let log = || place.home.join(LOG);
    let slow = || EnsureError::Slow { limit, log: log() };
    loop {
        match start(place, program, deadline)? {
            Outcome::Ready => return Ok(Started::Now),
            Outcome::Failed(reason) => return Err(EnsureError::Failed { reason, log: log() }),
            Outcome::Slow => return Err(slow()),
            Outcome::Busy => {}
        }
        // Another keeper is at work: its daemon will listen, or it ends and gives the lock free.
        let again = Instant::now() + LOOK_AGAIN;
        while Instant::now() < again {
            if connects(&place.socket)? {
                return Ok(Started::Before);
            }
            if Instant::now() >= deadline {
                return Err(slow());
            }
            thread::sleep(STEP);
        }
    }
}

/// A daemon that is just being replaced counts: its socket is open, and the next one answers.
fn connects(socket: &Path) -> Result<bool, EnsureError> {
    match connect(socket) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                Ok(false)
            }
            _ => Err(EnsureError::Connect {
                path: socket.to_owned(),
                source: error,
            }),
        },
    }
}

/// A path that is too long for the kernel is reached by its folder.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return UnixStream::connect(socket);
    };
    if socket.as_os_str().len() <= LONGEST_SOCKET {
        return UnixStream::connect(socket);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let by_number = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    UnixStream::connect(by_number.join(name))
}

fn prepare_home(home: &Path) -> Result<(), EnsureError> {
    let failed = |source| EnsureError::Create {
        path: home.to_owned(),
        source,
    };
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(home) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !home.is_dir() => {
            return Err(failed(error));
        }
        Ok(()) | Err(_) => {}
    }
    let found = fs::metadata(home).map_err(failed)?;
    if !found.is_dir() {
        return Err(EnsureError::NotAFolder(home.to_owned()));
    }
    let (owner, me) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != me {
        return Err(EnsureError::Owner {
            path: home.to_owned(),
            owner,
            me,
        });
    }
    rustix::fs::access(home, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| EnsureError::NotWritable {
        path: home.to_owned(),
        source: errno.into(),
    })
}

/// What became of a keeper that was started.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Ready,
    /// Another one has the lock.
    Busy,
    Failed(String),
    Slow,
}

fn start(place: &Place, program: &Path, deadline: Instant) -> Result<Outcome, EnsureError> {
    let home = &place.home;
    let log = open_log(&home.join(LOG))?;
    let mut child = Command::new(program)
        .args(arguments::start(home.as_os_str()))
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| is_passed(name)))
        .env(SOCKET_VARIABLE, &place.socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|source| EnsureError::Spawn {
            program: program.to_owned(),
            source,
        })?;
    let outcome = match child.stdout.take().map(|pipe| hear(pipe, deadline)) {
        Some(Ok(Some(words))) => understand(&words),
        Some(Ok(None)) => Outcome::Slow,
        Some(Err(error)) => Outcome::Failed(error.to_string()),
        None => Outcome::Failed("no pipe".to_owned()),
    };
    Ok(match outcome {
        Outcome::Ready | Outcome::Slow => outcome,
        Outcome::Busy => {
            child.wait().ok();
            outcome
        }
        Outcome::Failed(reason) if reason.is_empty() => Outcome::Failed(last_words(&mut child)),
        Outcome::Failed(_) => outcome,
    })
}

fn open_log(path: &Path) -> Result<File, EnsureError> {
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    opened.map_err(|source| EnsureError::NotWritable {
        path: path.to_owned(),
        source,
    })
}

fn is_passed(name: &OsString) -> bool {
    let name: &OsStr = name;
    PASSED.iter().any(|passed| name == *passed)
        || name
            .to_str()
            .is_some_and(|name| PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// All that is said until the other end is closed, or `None` if that takes too long.
fn hear(mut pipe: ChildStdout, deadline: Instant) -> io::Result<Option<String>> {
    let mut words = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match pipe.read(&mut buffer)? {
            0 => return Ok(Some(String::from_utf8_lossy(&words).into_owned())),
            read => words.extend_from_slice(&buffer[..read]),
        }
    }
}

fn understand(words: &str) -> Outcome {
    match words {
        "ready" => Outcome::Ready,
        BUSY => Outcome::Busy,
        other => Outcome::Failed(other.strip_prefix("failed: ").unwrap_or(other).to_owned()),
    }
}

/// It said nothing.
fn last_words(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) => format!("the keeper ended with {}", crate::policy::how(status)),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn tried(home: &Path, program: &str) -> EnsureError {
        let place = Place {
            home: home.to_owned(),
            socket: home.join("everup.sock"),
        };
        ensure(&place, Path::new(program), Duration::from_secs(20)).unwrap_err()
    }

    #[test]
    fn a_home_is_made_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("a b").join("ü");
        assert!(matches!(tried(&home, "/nonexistent"), EnsureError::Spawn { .. }));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home), 0o700);
        assert_eq!(mode(&home.join(LOG)), 0o600);
    }

    #[test]
    fn what_is_wrong_with_a_home_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(tried(&file, "/x"), EnsureError::NotAFolder(_)));
        assert!(matches!(
            tried(&file.join("below"), "/x"),
            EnsureError::Create { .. }
        ));
        // No path is too long for a socket.
        let long = folder.path().join("x".repeat(100));
        assert!(matches!(tried(&long, "/nonexistent"), EnsureError::Spawn { .. }));
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        let around = format!("{}s", "../".to_owned() + &"./".repeat(100));
        assert!(connects(&long.join(around)).unwrap());
        drop(listener);
        assert!(matches!(
            tried(Path::new("/proc/sys"), "/x"),
            EnsureError::NotWritable { .. }
        ));
    }

    #[test]
    fn a_keeper_that_says_nothing_or_fails_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        for (script, expected) in [
            ("exit 3", "the keeper ended with exit code 3"),
            ("echo -n 'failed: no luck'", "no luck"),
        ] {
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
            let error = tried(folder.path(), program.to_str().unwrap());
            assert!(
                matches!(&error, EnsureError::Failed { reason, .. } if reason == expected),
                "{error}"
            );
        }
    }

    #[test]
    fn only_harmless_variables_are_passed_on() {
        for (name, passed) in [
            ("PATH", true),
            ("EVERUP_HOME", true),
            ("LC_ALL", true),
            ("AWS_SECRET", false),
            ("PATHS", false),
        ] {
            assert_eq!(is_passed(&OsString::from(name)), passed, "{name}");
        }
    }
}
