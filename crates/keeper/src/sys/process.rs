//! Processes: a child without exec that shares our descriptors, who ended, another program in our place.

use std::ffi::{CString, c_char};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::process::ExitStatus;
use std::{mem, ptr};

use std::os::unix::process::ExitStatusExt as _;

/// Starts a child that is a copy of this process and shares its descriptor table. It runs `child` and ends with what that
/// gives. To be called by a process with one thread; the child's `main` thread is not known to the C library by its number,
/// so `child` does its work in threads of its own.
pub(crate) fn clone_sharing_descriptors(child: impl FnOnce() -> i32) -> io::Result<u32> {
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: like fork (no new stack, memory is copied), but the descriptor table stays one. There is one thread, so no lock
    // is held by a thread that does not exist in the child.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        0 => {
            let code = child();
            exit_now(code)
        }
        _ => u32::try_from(pid).map_err(|_| io::ErrorKind::InvalidData.into()),
    }
}

/// Ends this process with all its threads, without the handlers that belong to the process that we are a copy of.
pub(crate) fn exit_now(code: i32) -> ! {
    io::stdout().flush().ok();
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Name of this thread, as `ps` shows it.
pub(crate) fn name_thread(name: &std::ffi::CStr) {
    // SAFETY: the name ends with a zero byte, and the kernel copies at most 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// The next child that has ended, which stays to be reaped.
pub(crate) fn ended_child() -> io::Result<Option<(u32, ExitStatus)>> {
    // SAFETY: a siginfo_t is plain data.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel fills our own siginfo_t.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) } != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: waitid fills these fields; with nobody there, all is zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let Some(pid) = u32::try_from(pid).ok().filter(|pid| *pid != 0) else {
        return Ok(None);
    };
    let raw = match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    };
    Ok(Some((pid, ExitStatus::from_raw(raw))))
}

/// Reaps a child of ours that [`ended_child`] named.
pub(crate) fn reap(pid: u32) {
    // SAFETY: no information is asked for.
    unsafe { libc::waitid(libc::P_PID, pid, ptr::null_mut(), libc::WEXITED | libc::WNOHANG) };
}

/// Sends a signal to a child of ours that is not reaped yet: its number is nobody else's.
pub(crate) fn signal_child(pid: u32, signal: i32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: a system call on numbers.
        unsafe { libc::kill(pid, signal) };
    }
}

/// How a process ended that was not our child, if the kernel remembers (Linux 6.15): as long as somebody holds its pidfd.
pub(crate) fn exit_by_pidfd(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    /// `struct pidfd_info`, first version.
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
    const GET_INFO: u64 = 3 << 30 | (size_of::<Info>() as u64) << 16 | 0xff << 8 | 11;
    let mut info = Info {
        mask: EXIT,
        ..Info::default()
    };
    // SAFETY: the kernel fills at most the size that is part of the request's number; the struct has that size.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    (result == 0 && info.mask & EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
}

/// A program and its arguments, made ready so that starting it needs no memory.
#[derive(Debug)]
pub(crate) struct Image {
    program: CString,
    arguments: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers are to the strings that the value owns and never changes.
unsafe impl Send for Image {}

impl Image {
    /// `program` is a path, or empty: then it is given by a descriptor.
    pub(crate) fn new(program: CString, arguments: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        pointers.push(ptr::null());
        Self {
            program,
            arguments,
            pointers,
        }
    }

    /// Puts it in this process's place, with this environment. `from` is a folder, or the program itself. Comes back only with
    /// an error.
    pub(crate) fn exec(&self, from: RawFd) -> io::Error {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        debug_assert_eq!(self.pointers.len(), self.arguments.len() + 1);
        // SAFETY: strings and lists end with a zero and live on if this comes back; nobody changes the environment meanwhile
        // (there is one thread, or the others are stopped).
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                from,
                self.program.as_ptr(),
                self.pointers.as_ptr(),
                environ,
                if self.program.is_empty() {
                    libc::AT_EMPTY_PATH
                } else {
                    0
                },
            )
        };
        io::Error::last_os_error()
    }
}
