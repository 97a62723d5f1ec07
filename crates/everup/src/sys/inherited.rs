//! What this process was started with: descriptors by number, variables.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the descriptors that the environment names have an owner. The environment belongs to the process, so there
/// is one answer for all of it.
static CLAIMED: AtomicBool = AtomicBool::new(false);

/// The right to take descriptors by number: given out once in the life of a process.
#[derive(Debug)]
pub(crate) struct Claim(());

impl Claim {
    /// `None` when it was given out before.
    pub(crate) fn first() -> Option<Self> {
        (!CLAIMED.swap(true, Ordering::Relaxed)).then_some(Self(()))
    }

    /// Gives the right back, when nothing was taken.
    pub(crate) fn unused(self) {
        CLAIMED.store(false, Ordering::Relaxed);
    }

    /// Takes a descriptor that the environment gives to this process by number, and closes it on exec from now on.
    /// Every number is to be taken once; the right to do so is not given out again.
    ///
    /// # Errors
    /// It is not open, is one of the first three, or does not fit: then it is somebody else's, and left alone.
    pub(crate) fn take(
        &self,
        number: RawFd,
        fits: impl FnOnce(BorrowedFd<'_>) -> io::Result<bool>,
    ) -> io::Result<OwnedFd> {
        if number < 3 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: borrowed only to ask whether it is open, and what it is; the kernel answers EBADF if not.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        if !fits(borrowed)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
        // SAFETY: it is open, it is what the environment says is there for us; only the one holder of the claim gets here,
        // so nobody else in this process takes it by the same words.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

/// Takes a descriptor that an engine which is dead by now has left under this number in the table that was its own and is
/// ours: nobody else in this process owns it.
///
/// # Errors
/// It is not open, or is one of the first three.
pub fn possess(number: RawFd) -> io::Result<OwnedFd> {
    let number = checked(number)?;
    // SAFETY: borrowed only to be asked; the kernel answers EBADF if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and its owner was an engine that does not exist any more: an estate is opened once, by the
    // successor, before anything else uses these numbers.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn checked(number: RawFd) -> io::Result<RawFd> {
    match number {
        3.. => Ok(number),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Takes variables out of the environment, so that programs which we start do not take them for their own, if that can
/// be done safely: while this is the only thread.
pub(crate) fn forget_variables(names: &[&str]) {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if !alone {
        return;
    }
    for name in names {
        // SAFETY: no other thread exists that could read the environment, and none is started meanwhile, since this is
        // the only one that could.
        unsafe { std::env::remove_var(name) };
    }
}
