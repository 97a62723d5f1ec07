//! Signals to a process by its descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends any signal, real-time ones too (`rustix` has only the named ones). A process that is gone is no error.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a system call on numbers; no information is passed with the signal.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error),
    }
}
