//! Moving bytes of one pipe to its files, so that a kill at any instant neither loses nor repeats any.
//!
//! Two ways:
//!
//! - **Moved by the kernel** (raw, one file): `splice` from the pipe to the end of the file. A system call that has begun
//!   ends before its process dies: each byte is in the pipe or in the file.
//! - **Written by us** (dated, JSON, or two files): with a second pipe, the *aside*, that nobody else has.
//!   1. `Peek` is noted; `tee` copies what is in the pipe to the aside; the copies are read. The aside is empty again.
//!   2. How much of it can be written is decided (whole lines), and what is to be written is made.
//!   3. `Move` is noted: how many bytes, when, and how long the files are.
//!   4. Exactly these bytes are moved from the pipe to the aside by `splice`.
//!   5. The files are written.
//!   6. The aside is emptied.
//!
//!   A successor that finds the aside empty has nothing to do: 1, 2, 3 and 6 leave no trace. If it holds something after `Peek`,
//!   these are copies. After `Move` they are bytes whose write is to be finished: how much of it was done is the
//!   difference of the files' lengths. That is wrong only if somebody else (not one of our pipes) wrote to the file, or
//!   truncated it, just between 3 and the recovery; and a pipe or device as a "file" has no length: what was on its way there
//!   is not written again.

use super::files::{Blocked, Files};
use super::journal::{Journal, Record, Route, Step};
use jiff::tz::TimeZone;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice, tee};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::files::{ends_a_line, lock};

/// At most so many bytes by one call, and calls in a row for one pipe: then it is another one's turn.
const PIECE: usize = 1024 * 1024;
const TURNS: usize = 16;
/// How long others wait for the end of a line that somebody has begun.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);
/// A line of this length may fill its pipe: 16 pages, each at least half full but for the first.
const LONG: usize = 28 * 1024;
/// The longest line is given up if nothing was added to it for so long.
const SETTLE: Duration = Duration::from_millis(20);

/// The read end of a worker's stream.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) fd: OwnedFd,
    pub(super) route: Arc<Route>,
    pub(super) aside: Option<(OwnedFd, OwnedFd)>,
    pub(super) pending: Option<Pending>,
    /// Nobody can write to it any more.
    pub(super) ended: bool,
    /// Not before; `None` if it is waited for bytes.
    pub(super) retry: Option<Instant>,
    /// How long a line without an end was, when it was seen last.
    long: Option<(usize, Instant)>,
    /// The kernel cannot move its bytes: its file's file system does not know how.
    by_hand: bool,
    /// Where in its first file the worker's own bytes begin, as long as nobody else writes there.
    pub(super) begin: Option<u64>,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Pending {
    text: Vec<u8>,
    /// How much of it is in each file.
    done: Vec<usize>,
    raw: usize,
    at: i64,
}

/// What is next with a pipe.
#[derive(Debug)]
pub(super) enum Next {
    /// It is empty; the poller tells when it is not.
    Empty,
    /// There is more.
    More,
    /// It has ended, and all is written.
    End,
    /// Not now.
    Blocked(Blocked),
    /// It cannot go on like this.
    Broken(io::Error),
}

impl From<Blocked> for Next {
    fn from(blocked: Blocked) -> Self {
        Self::Blocked(blocked)
    }
}

/// What moving needs besides the pipe.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) files: &'a mut Files,
    pub(super) journal: &'a Mutex<Journal>,
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) zone: &'a TimeZone,
    /// Pipes that waited for this one.
    pub(super) released: Vec<RawFd>,
    /// Something was written.
    pub(super) worked: bool,
}

impl Pipe {
    pub(super) fn new(fd: OwnedFd, route: Route) -> Self {
        Self {
            fd,
            route: Arc::new(route),
            aside: None,
            pending: None,
            ended: false,
            retry: None,
            long: None,
            by_hand: false,
            begin: None,
        }
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Moves what is there, for a while.
    pub(super) fn pump(&mut self, desk: &mut Desk<'_>) -> Next {
        for _ in 0..TURNS {
            let spliced = self.pending.is_none()
                && !self.by_hand
                && self.route.files.len() == 1
                && self.route.style == super::style::Style::Raw;
            let next = match (&self.pending, spliced) {
                (Some(_), _) => self.finish(desk),
                (None, true) => self.splice(desk),
                (None, false) => self.copy(desk),
            };
            match next {
                Ok(()) => {}
                Err(next) => return next,
            }
        }
        Next::More
    }

    fn splice(&mut self, desk: &mut Desk<'_>) -> Result<(), Next> {
        let route = Arc::clone(&self.route);
        let [path] = route.files.as_slice() else {
            return Err(Next::Empty);
        };
        let (pipe, now) = (self.raw(), Instant::now());
        if rustix::io::ioctl_fionread(&self.fd).is_ok_and(|waiting| waiting == 0) {
            if self.ended {
                release(desk, path, pipe);
            }
            return Err(if self.ended { Next::End } else { Next::Empty });
        }
        let file = desk.files.turn(path, pipe, now, desk.journal)?;
        let mut end = file.length;
        let moved = splice(
            &self.fd,
            None,
            file.descriptor,
            end.as_mut(),
            PIECE,
            SpliceFlags::NONBLOCK,
        );
        match moved {
            Ok(0) => {
                release(desk, path, pipe);
                Err(Next::End)
            }
            Ok(_) => {
                let open_line = file.shared && end.is_some_and(|end| !ends_a_line(file.descriptor, end));
                desk.worked |= desk.files.worked(path);
                match desk.files.get_mut(path) {
                    Some(file) if open_line => {
                        let until = file.owner.and_then(|(_, until)| until);
                        file.owner = Some((pipe, Some(until.unwrap_or(now + PATIENCE))));
                    }
                    _ => release(desk, path, pipe),
                }
                Ok(())
            }
            Err(Errno::AGAIN) if end.is_some() => Err(Next::Empty),
            Err(Errno::INTR) => Ok(()),
            Err(Errno::INVAL) => {
                self.by_hand = true;
                Ok(())
            }
            Err(error) => Err(desk.files.failed(path, &error.into(), now).into()),
        }
    }

    /// The steps of the module's documentation.
    fn copy(&mut self, desk: &mut Desk<'_>) -> Result<(), Next> {
        let fd = self.raw();
        let Some(copied) = self.peek(desk).map_err(Next::Broken)? else {
            return Err(if self.ended { Next::End } else { Next::Empty });
        };
        let raw = self.decide(&desk.buffer[..copied])?;
        let at = jiff::Timestamp::now().as_millisecond();
        let route = Arc::clone(&self.route);
        let text = route
            .style
            .render(&desk.buffer[..raw], route.writer(), at, desk.zone);
        self.pending = Some(Pending {
            done: vec![0; route.files.len()],
            text,
            raw,
            at,
        });
        // The files are asked first: bytes that cannot be written stay where they are.
        if let Err(blocked) = self.announce(desk) {
            self.pending = None;
            return Err(blocked);
        }
        let moved = match &self.aside {
            Some((_, write_end)) => {
                splice(&self.fd, None, write_end, None, raw, SpliceFlags::NONBLOCK).map_err(io::Error::from)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        };
        match moved {
            Ok(moved) if moved == raw => self.finish(desk),
            Ok(moved) => Err(Next::Broken(io::Error::other(format!(
                "{moved} of {raw} bytes were moved"
            )))),
            Err(error) => {
                self.pending = None;
                self.note(desk, fd, Step::Peek).ok();
                Err(Next::Broken(error))
            }
        }
    }

    fn note(&self, desk: &Desk<'_>, fd: RawFd, step: Step) -> io::Result<()> {
        lock(desk.journal).note(Record::Step { fd, step })
    }

    /// Copies what is in the pipe to the buffer: so many bytes, or `None` if there is nothing.
    fn peek(&mut self, desk: &mut Desk<'_>) -> io::Result<Option<usize>> {
        let fd = self.raw();
        if self.aside.is_none() {
            let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let ends = [read_end.as_raw_fd(), write_end.as_raw_fd()];
            lock(desk.journal).note(Record::Aside { fd, ends })?;
            self.aside = Some((read_end, write_end));
        }
        let Some((read_end, write_end)) = &self.aside else {
            return Ok(None);
        };
        if rustix::io::ioctl_fionread(&self.fd)? == 0 {
            return Ok(None);
        }
        self.note(desk, fd, Step::Peek)?;
        match tee(&self.fd, write_end, PIECE, SpliceFlags::NONBLOCK) {
            Ok(0) | Err(Errno::AGAIN) => Ok(None),
            Ok(copied) => read_exactly(read_end, desk.buffer, copied).map(|()| Some(copied)),
            Err(error) => Err(error.into()),
        }
    }

    /// How much of it is written now.
    fn decide(&mut self, bytes: &[u8]) -> Result<usize, Next> {
        let now = Instant::now();
        let settled = matches!(self.long, Some((length, since))
            if length == bytes.len() && now.duration_since(since) >= SETTLE);
        let raw = self.route.style.take(bytes, self.ended || settled);
        if raw > 0 {
            self.long = None;
            return Ok(raw);
        }
        if bytes.len() < LONG {
            return Err(Next::Empty);
        }
        let since = match self.long {
            Some((length, since)) if length == bytes.len() => since,
            _ => now,
        };
        self.long = Some((bytes.len(), since));
        let until = since + SETTLE;
        Err(Next::Blocked(Blocked { until, why: None }))
    }

    /// Notes what is about to be written, and makes the files ours until it is.
    fn announce(&self, desk: &mut Desk<'_>) -> Result<(), Next> {
        let Some(pending) = &self.pending else {
            return Ok(());
        };
        let (fd, now) = (self.raw(), Instant::now());
        let mut from = Vec::with_capacity(pending.done.len());
        for (path, done) in self.route.files.iter().zip(&pending.done) {
            if *done == pending.text.len() {
                from.push(None);
                continue;
            }
            let length = desk.files.ready(path, fd, now, desk.journal)?.length;
            let begin = length.and_then(|length| i64::try_from(length).ok());
            from.push(begin.and_then(|begin| begin.checked_sub(i64::try_from(*done).ok()?)));
        }
        let step = Step::Move {
            raw: pending.raw,
            at: pending.at,
            from,
        };
        self.note(desk, fd, step).map_err(Next::Broken)
    }

    /// Writes what is pending, then empties the aside.
    fn finish(&mut self, desk: &mut Desk<'_>) -> Result<(), Next> {
        let (fd, now, route) = (self.raw(), Instant::now(), Arc::clone(&self.route));
        let Some(pending) = &mut self.pending else {
            return Ok(());
        };
        let mut trouble = None;
        for (path, done) in route.files.iter().zip(&mut pending.done) {
            let written = write_rest(desk, path, fd, &pending.text, done, now);
            if let Some(file) = desk.files.get_mut(path)
                && written.is_err()
            {
                file.owner = Some((fd, None));
            }
            match written {
                Ok(()) => release(desk, path, fd),
                Err(blocked) => trouble = Some(blocked),
            }
        }
        let raw = pending.raw;
        if let Some(blocked) = trouble {
            // The lengths may be others when it goes on.
            self.announce_again(desk);
            return Err(blocked.into());
        }
        if let Some((read_end, _)) = &self.aside {
            read_exactly(read_end, desk.buffer, raw).map_err(Next::Broken)?;
        }
        self.pending = None;
        Ok(())
    }

    fn announce_again(&self, desk: &mut Desk<'_>) {
        // Blocked again: then what was noted before is still right.
        drop(self.announce(desk));
    }

    /// What a predecessor left in the aside is thrown away, or its write goes on.
    pub(super) fn recover(&mut self, step: &Step, desk: &mut Desk<'_>) -> io::Result<()> {
        let Some((read_end, write_end)) = &self.aside else {
            return Ok(());
        };
        let waiting = usize::try_from(rustix::io::ioctl_fionread(read_end)?).map_err(io::Error::other)?;
        if waiting == 0 {
            return Ok(());
        }
        let Step::Move { raw, at, from } = step else {
            return read_exactly(read_end, desk.buffer, waiting);
        };
        if let Some(rest @ 1..) = raw.checked_sub(waiting) {
            splice(&self.fd, None, write_end, None, rest, SpliceFlags::NONBLOCK)?;
        }
        copies(read_end, *raw, desk.buffer)?;
        let text = self
            .route
            .style
            .render(&desk.buffer[..*raw], self.route.writer(), *at, desk.zone);
        let done = self.route.files.iter().enumerate().map(|(index, path)| {
            let begin = from.get(index).copied().flatten();
            let length = desk
                .files
                .ready(path, self.raw(), Instant::now(), desk.journal)
                .ok()
                .and_then(|file| i64::try_from(file.length?).ok());
            done(begin, length, text.len())
        });
        let done = done.collect();
        self.pending = Some(Pending {
            text,
            done,
            raw: *raw,
            at: *at,
        });
        for path in &self.route.files {
            if let Some(file) = desk.files.get_mut(path) {
                file.owner = Some((self.raw(), None));
            }
        }
        Ok(())
    }
}

/// How much of a text is in a file that was so long before it, and is so long now. Not known: all of it, rather than
/// twice.
fn done(begin: Option<i64>, length: Option<i64>, text: usize) -> usize {
    let (Some(begin), Some(length)) = (begin, length) else {
        return text;
    };
    // Shorter than before: somebody has emptied it, and would not expect the rest of a line.
    usize::try_from(length.saturating_sub(begin)).map_or(text, |done| done.min(text))
}

fn write_rest(
    desk: &mut Desk<'_>,
    path: &std::path::Path,
    pipe: RawFd,
    text: &[u8],
    done: &mut usize,
    now: Instant,
) -> Result<(), Blocked> {
    while *done < text.len() {
        let file = desk.files.ready(path, pipe, now, desk.journal)?;
        let written = match file.length {
            Some(length) => rustix::io::pwrite(file.descriptor, &text[*done..], length),
            None => rustix::io::write(file.descriptor, &text[*done..]),
        };
        match written {
            Ok(0) => return Err(desk.files.failed(path, &io::ErrorKind::WriteZero.into(), now)),
            Ok(written) => {
                *done += written;
                desk.worked |= desk.files.worked(path);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(desk.files.failed(path, &error.into(), now)),
        }
    }
    Ok(())
}

/// The file is not this pipe's any more, if it was.
fn release(desk: &mut Desk<'_>, path: &std::path::Path, pipe: RawFd) {
    if let Some(file) = desk.files.get_mut(path)
        && file.owner.is_some_and(|(owner, _)| owner == pipe)
    {
        file.owner = None;
        desk.released.extend(std::mem::take(&mut file.waiting));
    }
}

/// Takes bytes that are known to be there.
fn read_exactly(from: &OwnedFd, buffer: &mut Vec<u8>, count: usize) -> io::Result<()> {
    if buffer.len() < count {
        buffer.resize(count, 0);
    }
    let mut read = 0;
    while read < count {
        match rustix::io::read(from, &mut buffer[read..count]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Copies what a pipe holds, without taking it.
fn copies(from: impl AsFd, count: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let copied = tee(from, &write_end, count, SpliceFlags::NONBLOCK)?;
    if copied < count {
        return Err(io::Error::other("less is there than was moved"));
    }
    read_exactly(&read_end, buffer, count)
}

#[cfg(test)]
mod tests {
    use super::done;

    #[test]
    fn what_is_done_is_the_difference() {
        for (begin, length, expected) in [
            (Some(100), Some(100), 0),
            (Some(100), Some(103), 3),
            (Some(100), Some(110), 10),
            (Some(100), Some(500), 10),
            (Some(-4), Some(0), 4),
            (Some(100), Some(0), 10),
            (None, Some(5), 10),
            (Some(5), None, 10),
        ] {
            assert_eq!(done(begin, length, 10), expected, "{begin:?} {length:?}");
        }
    }
}
