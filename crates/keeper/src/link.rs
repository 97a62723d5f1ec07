//! Words that keeper and daemon share, in a memfd: who ended, whether the daemon is ready, what it asks for.
//!
//! ```text
//! 0        magic
//! 1        how many ends were noted, ever
//! 2        the bell: half a word, changes with each end
//! 3        the last incarnation that reported ready
//! 4        not 0: whoever started the keeper was told how it went
//! 5        the last daemon that was started: pid << 32 | half of its incarnation
//! 6        daemons up to this incarnation are not to be: a guard takes over
//! 8        how long the path of the new program is, in bytes; then the path
//! 1024     ends: a ring; pid << 32 | status + 1
//! ```
//!
//! The keeper writes the ends, a guard the claim, the daemon writes the rest. Every word is valid by itself, so each may be killed at any time.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, IntoRawFd as _, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::thread::{Timespec, futex};

use crate::sys::{table, words::Words};

/// How many ends are remembered.
const RING: u64 = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"evlink\0\x01");
const COUNT: usize = 1;
const BELL: usize = 2;
const READY: usize = 3;
const TOLD: usize = 4;
const DAEMON: usize = 5;
const CLAIM: usize = 6;
const PATH: usize = 8;
const PATH_BYTES: usize = 4096;
const ENDS: usize = 1024;
const WORDS: usize = ENDS + 4096;

/// The shared words.
#[derive(Debug)]
pub(crate) struct Link {
    words: Words,
}

impl Link {
    /// A new one, and the number of its descriptor, which stays open.
    pub(crate) fn create() -> io::Result<(Self, RawFd)> {
        let fd = rustix::fs::memfd_create("everup:link", MemfdFlags::CLOEXEC)?;
        let size = u64::try_from(WORDS * size_of::<u64>()).map_err(|_| io::ErrorKind::InvalidInput)?;
        rustix::fs::ftruncate(&fd, size)?;
        let words = Words::new(fd.as_fd(), WORDS)?;
        words.word(0).store(MAGIC, Ordering::SeqCst);
        Ok((Self { words }, fd.into_raw_fd()))
    }

    /// A predecessor's.
    pub(crate) fn open(fd: RawFd) -> io::Result<Self> {
        let fd = table::lend(fd);
        let size = usize::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0);
        if size < WORDS * size_of::<u64>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let words = Words::new(fd, WORDS)?;
        if words.word(0).load(Ordering::SeqCst) != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a link of another version",
            ));
        }
        Ok(Self { words })
    }

    /// Notes an end, before the process is reaped.
    pub(crate) fn note(&self, pid: u32, status: ExitStatus) {
        let count = self.count();
        let status = u64::try_from(status.into_raw()).unwrap_or(0) & 0xffff;
        let end = u64::from(pid) << 32 | (status + 1);
        self.words.word(slot(count)).store(end, Ordering::SeqCst);
        self.words.word(COUNT).store(count + 1, Ordering::SeqCst);
        let bell = self.words.bell(BELL);
        bell.fetch_add(1, Ordering::SeqCst);
        // Nobody may be waiting.
        futex::wake(bell, futex::Flags::empty(), u32::MAX >> 1).ok();
    }

    pub(crate) fn count(&self) -> u64 {
        self.words.word(COUNT).load(Ordering::SeqCst)
    }

    /// The first end of this pid among those from `mark` on that are still remembered.
    pub(crate) fn end_since(&self, mark: u64, pid: u32) -> Option<ExitStatus> {
        let count = self.count();
        (mark.max(count.saturating_sub(RING))..count)
            .map(|at| self.words.word(slot(at)).load(Ordering::SeqCst))
            .find(|end| end >> 32 == u64::from(pid))
            .map(status_in)
    }

    /// Waits for that.
    pub(crate) fn wait_for_end(&self, mark: u64, pid: u32, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        let bell = self.words.bell(BELL);
        loop {
            let rung = bell.load(Ordering::SeqCst);
            if let Some(status) = self.end_since(mark, pid) {
                return Some(status);
            }
            let left = limit
                .checked_sub(start.elapsed())
                .filter(|left| !left.is_zero())?;
            let left = Timespec::try_from(left).ok()?;
            // Woken, interrupted or too late: looked at again in any case.
            futex::wait(bell, futex::Flags::empty(), rung, Some(&left)).ok();
        }
    }

    pub(crate) fn set_ready(&self, incarnation: u64) {
        self.words.word(READY).store(incarnation, Ordering::SeqCst);
    }

    pub(crate) fn ready(&self) -> u64 {
        self.words.word(READY).load(Ordering::SeqCst)
    }

    pub(crate) fn set_told(&self) {
        self.words.word(TOLD).store(1, Ordering::SeqCst);
    }

    pub(crate) fn told(&self) -> bool {
        self.words.word(TOLD).load(Ordering::SeqCst) != 0
    }

    /// A daemon says that it is there. `false`: it is not to be.
    pub(crate) fn begin(&self, incarnation: u64, pid: u32) -> bool {
        let word = u64::from(pid) << 32 | incarnation & u64::from(u32::MAX);
        self.words.word(DAEMON).store(word, Ordering::SeqCst);
        incarnation > self.words.word(CLAIM).load(Ordering::SeqCst)
    }

    /// The last daemon: half of its incarnation, and its pid.
    pub(crate) fn daemon(&self) -> (u32, u32) {
        let word = self.words.word(DAEMON).load(Ordering::SeqCst);
        let half = |word| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        (half(word), half(word >> 32))
    }

    /// Daemons up to this incarnation that have not begun yet are not to be.
    pub(crate) fn claim(&self, incarnation: u64) {
        self.words.word(CLAIM).store(incarnation, Ordering::SeqCst);
    }

    /// Asks for another program.
    pub(crate) fn set_program(&self, path: &OsStr) -> io::Result<()> {
        let bytes = path.as_bytes();
        if bytes.len() > PATH_BYTES {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        self.words.word(PATH).store(0, Ordering::SeqCst);
        for (at, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.words
                .word(PATH + 1 + at)
                .store(u64::from_ne_bytes(word), Ordering::SeqCst);
        }
        let len = u64::try_from(bytes.len()).unwrap_or(0);
        self.words.word(PATH).store(len, Ordering::SeqCst);
        Ok(())
    }

    /// Takes what was asked for.
    pub(crate) fn take_program(&self) -> Option<OsString> {
        let len = self.words.word(PATH).swap(0, Ordering::SeqCst);
        let len = usize::try_from(len)
            .ok()
            .filter(|len| (1..=PATH_BYTES).contains(len))?;
        let words = (PATH + 1..).take(len.div_ceil(8));
        let mut bytes: Vec<u8> = words
            .flat_map(|at| self.words.word(at).load(Ordering::SeqCst).to_ne_bytes())
            .collect();
        bytes.truncate(len);
        Some(OsString::from_vec(bytes))
    }
}

fn slot(count: u64) -> usize {
    ENDS + usize::try_from(count % RING).unwrap_or(0)
}

fn status_in(end: u64) -> ExitStatus {
    let status = (end & u64::from(u32::MAX)).saturating_sub(1);
    ExitStatus::from_raw(i32::try_from(status).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(raw: i32) -> ExitStatus {
        ExitStatus::from_raw(raw)
    }

    #[test]
    fn an_end_is_found_by_pid_and_mark() {
        let (link, _) = Link::create().unwrap();
        link.note(7, status(0));
        let mark = link.count();
        assert_eq!(link.end_since(mark, 7), None, "an earlier process of that number");
        link.note(7, status(3 << 8));
        link.note(7, status(9));
        assert_eq!(
            link.end_since(mark, 7),
            Some(status(3 << 8)),
            "the first since the mark"
        );
        assert_eq!(link.end_since(0, 7).unwrap().code(), Some(0));
        assert_eq!(link.end_since(0, 8), None);
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let (link, fd) = Link::create().unwrap();
        for pid in 1..=5000 {
            link.note(pid, status(9));
        }
        let successor = Link::open(fd).unwrap();
        assert_eq!(successor.end_since(0, 904), None);
        assert_eq!(successor.end_since(0, 905), Some(status(9)));
        assert_eq!(successor.end_since(0, 5000), Some(status(9)));
    }

    #[test]
    fn who_waits_is_woken() {
        let (link, _) = Link::create().unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| link.wait_for_end(0, 5, Duration::from_mins(1)));
            link.note(4, status(0));
            link.note(5, status(1 << 8));
            assert_eq!(waiter.join().unwrap(), Some(status(1 << 8)));
        });
        assert_eq!(link.wait_for_end(2, 5, Duration::from_millis(1)), None);
    }

    #[test]
    fn a_daemon_begins_unless_a_guard_was_first() {
        let (link, _) = Link::create().unwrap();
        assert_eq!(link.daemon(), (0, 0));
        assert!(link.begin(1, 4_000_000));
        assert_eq!(link.daemon(), (1, 4_000_000));
        link.claim(2);
        assert!(!link.begin(2, 7));
        assert!(link.begin(3, 8));
    }

    #[test]
    fn a_program_is_asked_for_once() {
        let (link, _) = Link::create().unwrap();
        for path in ["/x", "/a path/with ümlaut", &"/long".repeat(800)] {
            link.set_program(OsStr::new(path)).unwrap();
            assert_eq!(link.take_program(), Some(OsString::from(path)));
            assert_eq!(link.take_program(), None);
        }
        assert!(link.set_program(OsStr::new(&"/long".repeat(820))).is_err());
    }
}
