//! Signals as things to read, instead of handlers that run in between.
//!
//! Call [`Signals::block`] before the first thread is started: a thread inherits the mask of the one that
//! starts it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Signals that are blocked in this process, to be read one by one.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks these signals in this thread and in those it will start, and SIGCHLD too (the engine reads that
    /// one, where it reaps orphans).
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for a number that is no signal.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let mut all = signals.to_vec();
        all.push(libc::SIGCHLD);
        mask(&all)?;
        Ok(Self {
            descriptor: descriptor(signals, 0)?,
        })
    }

    /// Waits for the next of them.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&self) -> io::Result<i32> {
        let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
        rustix::io::retry_on_intr(|| rustix::io::read(&self.descriptor, &mut buffer))?;
        // The first field is the number, in native order.
        Ok(i32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]))
    }
}

/// A non-blocking descriptor that is readable after SIGCHLD, where that is blocked.
pub(crate) fn child_events() -> io::Result<OwnedFd> {
    descriptor(&[libc::SIGCHLD], libc::SFD_NONBLOCK)
}

/// Forgets what [`child_events`] has reported.
pub(crate) fn clear_child_events(descriptor: &OwnedFd) {
    let mut buffer = [0; 16 * size_of::<libc::signalfd_siginfo>()];
    while rustix::io::read(descriptor, &mut buffer).is_ok_and(|read| read == buffer.len()) {}
}

fn set(signals: &[i32]) -> io::Result<libc::sigset_t> {
    // SAFETY: a sigset_t is plain data, and sigemptyset initialises it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: the set is initialised; a bad number is answered with EINVAL.
        if unsafe { libc::sigaddset(&raw mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

fn mask(signals: &[i32]) -> io::Result<()> {
    let set = set(signals)?;
    // SAFETY: the set is initialised, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn descriptor(signals: &[i32], flags: libc::c_int) -> io::Result<OwnedFd> {
    let set = set(signals)?;
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    debug_assert!(owned.as_raw_fd() >= 0);
    Ok(owned)
}
