//! The files that output goes to: opened once each, opened again when they were removed, and left alone for a while
//! when they cannot be written.
//!
//! States of a file: closed, open, troubled (until an instant; then it is tried again, the pause doubles).
//! Invariants: a file is in the journal while it is open; nobody writes into a file between two pieces of somebody
//! who has not finished ([`File::owner`]).

use super::journal::{Journal, Record};
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A file, open or not.
#[derive(Debug, Default)]
pub(super) struct File {
    descriptor: Option<OwnedFd>,
    mode: u32,
    /// Pipes that lead here.
    users: usize,
    pause: Option<(Instant, Duration)>,
    /// The pipe whose bytes are to come next, and until when others wait for that; for ever if there is no instant.
    pub(super) owner: Option<(RawFd, Option<Instant>)>,
    /// The pipe whose bytes came last, as far as that is in the journal.
    turn: Option<RawFd>,
    /// Pipes that wait for the owner.
    pub(super) waiting: BTreeSet<RawFd>,
}

/// Not now.
#[derive(Debug)]
pub(super) struct Blocked {
    /// When to try again at the latest.
    pub(super) until: Instant,
    /// Why, if that is worth telling.
    pub(super) why: Option<String>,
}

/// A file that can be written now.
#[derive(Debug)]
pub(super) struct Open<'a> {
    pub(super) descriptor: &'a OwnedFd,
    /// Its length; `None` if it is a pipe or a device.
    pub(super) length: Option<u64>,
    /// Whether others write to it too.
    pub(super) shared: bool,
}

/// All of them, by path.
#[derive(Debug, Default)]
pub(super) struct Files {
    all: BTreeMap<PathBuf, File>,
}

impl Files {
    /// One that a predecessor had open.
    pub(super) fn adopt(&mut self, path: PathBuf, descriptor: OwnedFd) {
        self.all.entry(path).or_default().descriptor = Some(descriptor);
    }

    /// Somebody will write to it.
    pub(super) fn join(&mut self, path: &Path, mode: u32) {
        let file = self.all.entry(path.to_owned()).or_default();
        file.users += 1;
        file.mode = mode;
    }

    /// Somebody will not any more. The last one closes it.
    pub(super) fn leave(&mut self, path: &Path, journal: &Mutex<Journal>) {
        let Some(file) = self.all.get_mut(path) else {
            return;
        };
        file.users = file.users.saturating_sub(1);
        if file.users == 0 {
            file.close(journal);
            self.all.remove(path);
        }
    }

    /// Closes what a predecessor had open and nobody writes to.
    pub(super) fn sweep(&mut self, journal: &Mutex<Journal>) {
        self.all.retain(|_, file| {
            if file.users == 0 {
                file.close(journal);
            }
            file.users > 0
        });
    }

    /// As [`Self::ready`], for bytes that the kernel moves: it is noted whose they are, so that a successor knows whose line
    /// it is that has no end.
    pub(super) fn turn(
        &mut self,
        path: &Path,
        pipe: RawFd,
        now: Instant,
        journal: &Mutex<Journal>,
    ) -> Result<Open<'_>, Blocked> {
        let open = self.ready(path, pipe, now, journal)?;
        let (fd, length, shared) = (open.descriptor.as_raw_fd(), open.length, open.shared);
        let file = self.all.entry(path.to_owned()).or_default();
        if shared && file.turn != Some(pipe) {
            let noted = lock(journal).note(Record::Turn { file: fd, pipe });
            noted.map_err(|error| file.failed(path, &error, now))?;
            file.turn = Some(pipe);
        }
        let descriptor = file.descriptor.as_ref();
        Ok(Open {
            descriptor: descriptor.ok_or(Blocked {
                until: now,
                why: None,
            })?,
            length,
            shared,
        })
    }

    /// What a predecessor noted by [`Self::turn`]: if the file ends within a line, its rest comes first.
    pub(super) fn resume(&mut self, path: &Path, pipe: RawFd, until: Instant) {
        let Some(file) = self.all.get_mut(path) else {
            return;
        };
        let within = file.descriptor.as_ref().is_some_and(|descriptor| {
            rustix::fs::fstat(descriptor)
                .ok()
                .and_then(|status| u64::try_from(status.st_size).ok())
                .is_some_and(|end| !ends_a_line(descriptor, end))
        });
        if within && file.owner.is_none() {
            file.owner = Some((pipe, Some(until)));
        }
    }

    /// How many pipes lead to it.
    pub(super) fn users(&self, path: &Path) -> usize {
        self.all.get(path).map_or(0, |file| file.users)
    }

    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut File> {
        self.all.get_mut(path)
    }

    /// The file for a pipe that has something to write.
    pub(super) fn ready(
        &mut self,
        path: &Path,
        pipe: RawFd,
        now: Instant,
        journal: &Mutex<Journal>,
    ) -> Result<Open<'_>, Blocked> {
        let file = self.all.entry(path.to_owned()).or_default();
        match file.owner {
            Some((owner, until)) if owner != pipe && until.is_none_or(|until| until > now) => {
                file.waiting.insert(pipe);
                let until = until.unwrap_or(now + LONGEST_PAUSE);
                return Err(Blocked { until, why: None });
            }
            Some((owner, _)) if owner != pipe => file.owner = None,
            _ => {}
        }
        if let Some((until, _)) = file.pause.filter(|(until, _)| *until > now) {
            return Err(Blocked { until, why: None });
        }
        match file.length(path, journal) {
            Ok(length) => Ok(Open {
                shared: file.users > 1,
                length,
                descriptor: file.descriptor.as_ref().ok_or(Blocked {
                    until: now,
                    why: None,
                })?,
            }),
            Err(error) => Err(file.failed(path, &error, now)),
        }
    }

    /// A write failed.
    pub(super) fn failed(&mut self, path: &Path, error: &io::Error, now: Instant) -> Blocked {
        self.all
            .entry(path.to_owned())
            .or_default()
            .failed(path, error, now)
    }

    /// A write succeeded. True if that had not been so.
    pub(super) fn worked(&mut self, path: &Path) -> bool {
        self.all
            .get_mut(path)
            .is_some_and(|file| file.pause.take().is_some())
    }

    /// Opens them anew by their paths: those there are, and that are asked for. The errors, as texts.
    pub(super) fn reopen(&mut self, which: impl Fn(&Path) -> bool, journal: &Mutex<Journal>) -> Vec<String> {
        let mut failed = Vec::new();
        for (path, file) in self.all.iter_mut().filter(|(path, _)| which(path)) {
            file.pause = None;
            if let Err(error) = file.open(path, journal) {
                failed.push(told(path, &error));
            }
        }
        failed
    }
}

impl File {
    fn length(&mut self, path: &Path, journal: &Mutex<Journal>) -> io::Result<Option<u64>> {
        let status = |file: &Self| file.descriptor.as_ref().map(rustix::fs::fstat).transpose();
        let mut found = status(self)?;
        // Removed by somebody: what is written to it now nobody would ever see.
        if found.is_none_or(|found| found.st_nlink == 0) {
            self.open(path, journal)?;
            found = status(self)?;
        }
        let regular = found.filter(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile);
        Ok(regular.and_then(|found| u64::try_from(found.st_size).ok()))
    }

    /// Opens it anew. If that fails, it stays as it is.
    fn open(&mut self, path: &Path, journal: &Mutex<Journal>) -> io::Result<()> {
        let descriptor = open(path, self.mode)?;
        let record = Record::File {
            fd: descriptor.as_raw_fd(),
            path: path.to_owned(),
        };
        lock(journal).note(record)?;
        self.close(journal);
        self.descriptor = Some(descriptor);
        Ok(())
    }

    fn close(&mut self, journal: &Mutex<Journal>) {
        self.turn = None;
        if let Some(descriptor) = self.descriptor.take() {
            let fd = descriptor.as_raw_fd();
            // Without memory for this, the number stays in the journal, so the descriptor must stay too.
            if lock(journal).note(Record::Left { fd }).is_err() {
                std::mem::forget(descriptor);
            }
        }
    }

    fn failed(&mut self, path: &Path, error: &io::Error, now: Instant) -> Blocked {
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some((now + pause, pause));
        Blocked {
            until: now + pause,
            why: Some(told(path, error)),
        }
    }
}

pub(super) fn told(path: &Path, error: &io::Error) -> String {
    // The system's words, without Rust's `(os error 28)`.
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let text: String = first.into_iter().chain(letters).collect();
    format!("cannot write {}: {text}", path.display())
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether what is before this place is the end of a line. Not known: as if it were.
pub(super) fn ends_a_line(file: &OwnedFd, end: u64) -> bool {
    let mut last = [0_u8];
    let read = end
        .checked_sub(1)
        .map(|at| rustix::io::pread(file, &mut last, at));
    !matches!(read, Some(Ok(1))) || last == *b"\n"
}

/// For reading and writing; made if it is not there, as are the directories above it.
fn open(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match open_existing(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            open_existing(path, mode)
        }
        result => result,
    }
}

fn open_existing(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    // Where anybody may put a link, it may lead to a file that only we can write.
    let public = path
        .parent()
        .and_then(|parent| parent.metadata().ok())
        .is_some_and(|parent| parent.mode() & 0o002 != 0);
    let mut flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    flags.set(OFlags::NOFOLLOW, public);
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?;
    if public {
        let status = rustix::fs::fstat(&file)?;
        let ours = status.st_uid == rustix::process::geteuid().as_raw() && status.st_nlink == 1;
        if !ours {
            let what = "somebody else's file in a directory that all may write to";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
    }
    Ok(file)
}
