//! The descriptor table by numbers.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::FdFlags;

/// Makes a number an owned descriptor. The caller knows that it is open and that nobody else owns it.
pub(crate) fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: descriptors of this crate are held by number across processes; who takes one says by the root memory or by
    // `Inherited` that it is given out once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Uses a descriptor that is held by number, and stays open.
pub(crate) fn lend(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: as in `take`; the keeper's own descriptors are open as long as the process is, or are named in the root memory
    // no longer.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Closes all from this number on: they were inherited by accident.
pub(crate) fn close_from(first: RawFd) {
    range(first, 0);
}

/// From this number on all are closed on exec.
pub(crate) fn close_on_exec_from(first: RawFd) {
    if !range(first, libc::CLOSE_RANGE_CLOEXEC) {
        each(&mut |fd| {
            if fd >= first {
                rustix::io::fcntl_setfd(lend(fd), FdFlags::CLOEXEC).ok();
            }
        })
        .ok();
    }
}

fn range(first: RawFd, flags: libc::c_uint) -> bool {
    // SAFETY: a system call on numbers. Nothing in this process owns a descriptor of this range yet (it has just started), or
    // only the flag is changed.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) == 0 }
}

/// From this number on all stay open on exec, but for some. Takes no memory.
pub(crate) fn keep_on_exec_from(first: RawFd, but: &[RawFd]) -> io::Result<()> {
    each(&mut |fd| {
        if fd >= first && !but.contains(&fd) {
            rustix::io::fcntl_setfd(lend(fd), FdFlags::empty()).ok();
        }
    })
}

/// Calls this for each open descriptor, but for the one that this needs itself. Takes no memory.
pub(crate) fn each(visit: &mut dyn FnMut(RawFd)) -> io::Result<()> {
    numbers_in(c"/proc/self/fd", visit)
}

/// Calls this for each thread of this process. Takes no memory.
pub(crate) fn each_thread(visit: &mut dyn FnMut(i32)) -> io::Result<()> {
    numbers_in(c"/proc/self/task", visit)
}

fn numbers_in(folder: &std::ffi::CStr, visit: &mut dyn FnMut(i32)) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(folder.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number| *number != folder.as_raw_fd()) {
            visit(number);
        }
    }
    Ok(())
}
