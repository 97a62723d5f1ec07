//! The socket in the file system: bound so that nobody else can connect, removed when it is still ours.
//!
//! States: [`bind`](ControlSocket::bind) makes it and listens (clients wait in the kernel's queue) → dropped: removed.
//! A lock on the directory keeps two everups that start together from taking each other's socket for a dead one's.

use crate::exit::Exit;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What fits into a socket address of the kernel, beside the zero at its end.
const LONGEST: usize = 107;
/// Connections that wait to be accepted.
const QUEUE: i32 = 64;
/// How long we wait for somebody who starts in the same directory.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("--control {} is {bytes} bytes long, and a socket's path has at most {LONGEST}", path.display())]
    TooLong { path: PathBuf, bytes: usize },
    #[error("directory {} of the control socket does not exist", path.display())]
    NoDirectory { path: PathBuf },
    #[error("{}, where the control socket should be, is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("anybody may replace files in {}, where the control socket should be", path.display())]
    OpenDirectory { path: PathBuf },
    #[error("{}, where the control socket should be, is there and is no socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("a server listens at the control socket {}{}", path.display(), by(*pid))]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("could not use the control socket {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(": process {pid}")).unwrap_or_default()
}

impl ControlError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::TooLong { .. } => Exit::Usage,
            Self::Held { .. } => Exit::PidFile,
            Self::NoDirectory { .. }
            | Self::NotADirectory { .. }
            | Self::OpenDirectory { .. }
            | Self::NotASocket { .. }
            | Self::Io { .. } => Exit::Input,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooLong { .. } => "name a shorter one, such as /run/NAME.sock".into(),
            Self::NoDirectory { path } => format!("create it: mkdir -p {}", path.display()),
            Self::OpenDirectory { path } => {
                format!(
                    "name another one, or take the right from others: chmod o-w {}",
                    path.display()
                )
            }
            Self::NotASocket { path } => {
                format!(
                    "name another path, or remove {} if nobody needs it",
                    path.display()
                )
            }
            Self::Held { path, .. } => format!(
                "if it is an everup (see: everup ping --control {}), stop it first, or name another path",
                path.display()
            ),
            Self::NotADirectory { .. } | Self::Io { .. } => return None,
        })
    }
}

/// A listening control socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Binds it and listens. A socket that nobody listens at is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, ControlError> {
        let path = std::path::absolute(path).map_err(io_error(path))?;
        let bytes = path.as_os_str().as_bytes().len();
        if bytes > LONGEST {
            return Err(ControlError::TooLong { path, bytes });
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        check_directory(directory, &path)?;
        let _lock = lock(directory);
        clear(&path)?;
        let listener = listen(&path).map_err(|errno| io_error(&path)(errno.into()))?;
        let metadata = fs::symlink_metadata(&path).map_err(io_error(&path))?;
        let identity = identity(&metadata);
        Ok(Self {
            listener,
            path,
            identity,
        })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _lock = self.path.parent().map(lock);
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity);
        if ours {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> ControlError {
    move |source| ControlError::Io {
        path: path.into(),
        source,
    }
}

fn check_directory(directory: &Path, socket: &Path) -> Result<(), ControlError> {
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o002;
    let path = directory.to_owned();
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => Err(ControlError::NotADirectory { path }),
        Ok(found) if found.permissions().mode() & (STICKY | OTHERS_WRITE) == OTHERS_WRITE => {
            Err(ControlError::OpenDirectory { path })
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ControlError::NoDirectory { path }),
        Err(error) => Err(io_error(socket)(error)),
    }
}

/// Keeps other everups out of the directory, as long as it is held. Not every file system can do that, nor may
/// everybody open every directory: then two that start in the same instant are not told apart.
fn lock(directory: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
    let begun = Instant::now();
    while rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        if begun.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(directory)
}

/// Removes what a dead server left at `path`; anything else that is there is in the way.
fn clear(path: &Path) -> Result<(), ControlError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(path)(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ControlError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    match probe(path) {
        Ok(pid) => Err(ControlError::Held {
            path: path.into(),
            pid,
        }),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(io_error(path)),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(io_error(path)(errno.into())),
    }
}

/// Connects; `Ok` if somebody listens there, with its process if that can be seen.
fn probe(path: &Path) -> Result<Option<u32>, Errno> {
    let socket = stream_socket()?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {}
        // Its queue is full: it is busy, not dead. Another type of socket is somebody's too.
        Err(Errno::AGAIN | Errno::PROTOTYPE) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let peer = sockopt::socket_peercred(&socket).ok();
    Ok(peer.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok()))
}

/// Nobody can connect before it listens, so its mode is set in time.
fn listen(path: &Path) -> Result<UnixListener, Errno> {
    let socket = stream_socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let listening =
        rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR).and_then(|()| rustix::net::listen(&socket, QUEUE));
    if let Err(errno) = listening {
        fs::remove_file(path).ok();
        return Err(errno);
    }
    Ok(UnixListener::from(socket))
}

fn stream_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        (directory, path)
    }

    fn refused(path: &Path) -> (String, String) {
        let error = ControlSocket::bind(path).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    }

    #[test]
    fn bound_and_removed() {
        let (directory, path) = place();
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_ones_is_replaced() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_live_ones_is_not() {
        let (_directory, path) = place();
        let first = ControlSocket::bind(&path).unwrap();
        let (message, hint) = refused(&path);
        let shown = path.display();
        let us = std::process::id();
        assert_eq!(
            message,
            format!("a server listens at the control socket {shown}: process {us}")
        );
        assert!(hint.contains(&format!("everup ping --control {shown}")), "{hint}");
        // Neither if it does not get to accepting: its queue is full.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut waiting = Vec::new();
        loop {
            let socket =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            if rustix::net::connect(&socket, &SocketAddrUnix::new(&path).unwrap()).is_err() {
                break;
            }
            waiting.push(socket);
        }
        assert_eq!(
            refused(&path).0,
            format!("a server listens at the control socket {shown}")
        );
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn somebody_elses_is_left_alone() {
        let (_directory, path) = place();
        let socket = ControlSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        let shown = path.display();
        let (message, hint) = refused(&path);
        assert_eq!(
            message,
            format!("{shown}, where the control socket should be, is there and is no socket")
        );
        assert_eq!(
            hint,
            format!("name another path, or remove {shown} if nobody needs it")
        );
        fs::remove_file(&path).unwrap();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        assert_eq!(
            refused(&path).0,
            format!("a server listens at the control socket {shown}")
        );
    }

    #[test]
    fn places_that_cannot_be() {
        let (directory, path) = place();
        let here = directory.path().display();
        let (message, hint) = refused(&directory.path().join("no/app.sock"));
        assert_eq!(
            message,
            format!("directory {here}/no of the control socket does not exist")
        );
        assert_eq!(hint, format!("create it: mkdir -p {here}/no"));

        let long = directory
            .path()
            .join("x".repeat(108 - directory.path().as_os_str().len() - 1));
        let (message, _) = refused(&long);
        assert_eq!(
            message,
            format!(
                "--control {} is 108 bytes long, and a socket's path has at most 107",
                long.display()
            )
        );
        let longest = long.to_str().unwrap();
        drop(ControlSocket::bind(Path::new(&longest[..107])).unwrap());

        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let (message, hint) = refused(&path);
        assert_eq!(
            message,
            format!("anybody may replace files in {here}, where the control socket should be")
        );
        assert!(hint.ends_with(&format!("chmod o-w {here}")), "{hint}");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        drop(ControlSocket::bind(&path).unwrap());
    }

    #[test]
    fn of_two_that_start_together_one_gets_it() {
        let (_directory, path) = place();
        for _ in 0..20 {
            drop(UnixListener::bind(&path).unwrap());
            let start = std::sync::Barrier::new(4);
            let won: Vec<bool> = std::thread::scope(|scope| {
                let bind = || {
                    start.wait();
                    let socket = ControlSocket::bind(&path);
                    start.wait();
                    socket.is_ok()
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
            assert!(!path.exists());
        }
    }
}
