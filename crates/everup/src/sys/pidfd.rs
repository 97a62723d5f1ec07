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

/// How a process ended that somebody else has reaped, if the kernel keeps that (Linux 6.15 and later):
/// `PIDFD_GET_INFO`, `include/uapi/linux/pidfd.h`. (exit code, signal, core dumped).
pub(crate) fn exit_info(pidfd: BorrowedFd<'_>) -> Option<(Option<i32>, Option<i32>, bool)> {
    /// `struct pidfd_info`, version 1: the fields that are used, and room for the others.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const EXIT: u64 = 1 << 3;
    /// `_IOWR(0xFF, 11, struct pidfd_info)`
    const REQUEST: libc::c_ulong =
        (3 << 30) | ((size_of::<Info>() as libc::c_ulong) << 16) | (0xFF << 8) | 11;
    let mut info = Info {
        mask: EXIT,
        ..Info::default()
    };
    // SAFETY: the kernel writes at most as many bytes as the request's size says, which is that of `info`.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), REQUEST, std::ptr::from_mut(&mut info)) };
    if result < 0 || info.mask & EXIT == 0 {
        return None;
    }
    let status = info.exit_code;
    if libc::WIFEXITED(status) {
        Some((Some(libc::WEXITSTATUS(status)), None, false))
    } else {
        Some((None, Some(libc::WTERMSIG(status)), libc::WCOREDUMP(status)))
    }
}
