//! UNIX stream sockets whose use ends at a moment.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A path by which a socket of any path can be reached or made: the kernel takes at most 107 bytes. What comes with it has to
/// live as long as the path is used.
///
/// # Errors
/// There is no such folder, or it may not be entered.
pub fn short(path: &Path) -> io::Result<(Option<OwnedFd>, PathBuf)> {
    const LONGEST: usize = 107;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok((None, path.to_owned()));
    };
    if path.as_os_str().len() <= LONGEST {
        return Ok((None, path.to_owned()));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let by_number = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    Ok((Some(folder), by_number.join(name)))
}

/// As [`UnixStream::connect`], but with an end: a server that accepts nobody has its queue full some time.
pub(crate) fn connect(path: &Path, deadline: Option<Instant>) -> io::Result<UnixStream> {
    const PAUSE: Duration = Duration::from_millis(10);
    let (_folder, path) = short(path)?;
    let address = SocketAddrUnix::new(&path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    while let Err(errno) = rustix::net::connect(&socket, &address) {
        if errno != Errno::AGAIN {
            return Err(errno.into());
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The kernel tells nobody when there is room.
        std::thread::sleep(PAUSE);
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The other side has closed the connection.
pub(crate) fn ended(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// A stream whose reads and writes end at a moment, however slowly the other side goes on.
pub(crate) struct Until<'a> {
    stream: &'a UnixStream,
    deadline: Option<Instant>,
}

impl<'a> Until<'a> {
    pub(crate) fn new(stream: &'a UnixStream, deadline: Option<Instant>) -> Self {
        Self { stream, deadline }
    }

    /// The next read of the stream ends in time.
    pub(crate) fn ready(&self) -> io::Result<()> {
        self.stream.set_read_timeout(self.left()?)
    }

    /// What is left; `None` is no limit.
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match left {
            Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
