//! Starting a process with exactly the descriptors it is to have.
//!
//! `std::process::Command` cannot tell the child its own pid in a variable (`LISTEN_PID`), so this is fork and
//! exec by hand. Everything that allocates happens before the fork; between fork and exec only system calls that
//! are safe in the child of a threaded process are made.
//!
//! The child gets: a session of its own (a terminal's Ctrl-C is for the primary only), default signal
//! dispositions and an empty mask, SIGKILL when the *thread* that forked it ends, standard input from
//! `/dev/null`, and no descriptor but the asked ones.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Spawn<'a> {
    /// The program, with a slash in it; relative to `cwd`.
    pub(crate) program: &'a Path,
    /// Its arguments, with the program's own name first.
    pub(crate) args: &'a [OsString],
    /// Its whole environment.
    pub(crate) env: &'a [(OsString, OsString)],
    /// A variable whose value is to be the child's pid.
    pub(crate) pid_variable: Option<&'a OsStr>,
    /// Its working directory.
    pub(crate) cwd: Option<&'a Path>,
    /// Its descriptors and the numbers they are to have. 0, 1 and 2 are kept where they are not named, but 0 is
    /// `/dev/null` then.
    pub(crate) descriptors: &'a [(BorrowedFd<'a>, RawFd)],
}

/// Enough digits for any pid.
const PID_DIGITS: usize = 10;

/// Starts it and returns its pid.
///
/// # Errors
/// Whatever fork, chdir or exec say, with the child gone again; `InvalidInput` for a NUL in a string.
pub(crate) fn spawn(spec: &Spawn<'_>) -> io::Result<u32> {
    let program = c_string(spec.program.as_os_str())?;
    let cwd = spec.cwd.map(|cwd| c_string(cwd.as_os_str())).transpose()?;
    let args = spec
        .args
        .iter()
        .map(|arg| c_string(arg))
        .collect::<io::Result<Vec<_>>>()?;
    let mut env = spec.env.iter().map(variable).collect::<io::Result<Vec<_>>>()?;
    let mut pid_entry = spec.pid_variable.map(|name| {
        let mut entry = name.as_bytes().to_vec();
        entry.push(b'=');
        let digits_at = entry.len();
        entry.extend([0; PID_DIGITS + 1]);
        (entry, digits_at)
    });
    let argv: Vec<_> = args
        .iter()
        .map(|arg| arg.as_ptr())
        .chain([std::ptr::null()])
        .collect();
    let mut envp: Vec<_> = env.iter_mut().map(|entry| entry.as_ptr()).collect();
    if let Some((entry, _)) = &mut pid_entry {
        envp.push(entry.as_mut_ptr().cast_const().cast());
    }
    envp.push(std::ptr::null());

    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let mut table: Vec<(RawFd, RawFd)> = spec
        .descriptors
        .iter()
        .map(|(fd, to)| (fd.as_raw_fd(), *to))
        .collect();
    if !table.iter().any(|(_, to)| *to == 0) {
        table.push((null.as_raw_fd(), 0));
    }
    let (failure_read, failure_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let highest = table.iter().map(|(_, to)| *to).max().unwrap_or(2).max(2);
    let mut child = Child {
        program: program.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        cwd: cwd.as_ref().map_or(std::ptr::null(), |cwd| cwd.as_ptr()),
        digits: pid_entry
            .as_mut()
            .map_or(std::ptr::null_mut(), |(entry, at)| entry[*at..].as_mut_ptr()),
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        failure: failure_write.as_raw_fd(),
        above: highest + 1,
        table: &mut table,
    };

    // SAFETY: the child only makes async-signal-safe calls on memory prepared above, then execs or exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: we are the forked child; every pointer in `child` is to memory that fork copied.
        unsafe { child.become_it() }
    }
    drop(failure_write);
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    match report(&failure_read)? {
        None => Ok(pid.unsigned_abs()),
        Some(error) => {
            // It has said why and is exiting: reap it.
            let pid = rustix::process::Pid::from_raw(pid);
            rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
            Err(error)
        }
    }
}

/// What the child needs between fork and exec.
struct Child<'a> {
    program: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    cwd: *const libc::c_char,
    digits: *mut u8,
    parent: i32,
    failure: RawFd,
    above: RawFd,
    table: &'a mut Vec<(RawFd, RawFd)>,
}

impl Child<'_> {
    /// # Safety
    /// Only in the child of a fork, with all pointers valid.
    unsafe fn become_it(&mut self) -> ! {
        // SAFETY: passed on to the caller.
        unsafe {
            let errno = match self.try_exec() {
                Ok(never) => match never {},
                Err(errno) => errno,
            };
            let bytes = errno.to_ne_bytes();
            libc::write(self.failure, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(127)
        }
    }

    /// # Safety
    /// As [`become_it`](Self::become_it).
    unsafe fn try_exec(&mut self) -> Result<std::convert::Infallible, i32> {
        // SAFETY: plain system calls on valid memory; nothing here allocates or locks.
        unsafe {
            check(libc::setsid())?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid() != self.parent {
                libc::_exit(127); // The parent died before it could be noticed.
            }
            // Sources first go above every target, so that no dup2 hits one that is still needed.
            self.failure = check(libc::fcntl(self.failure, libc::F_DUPFD_CLOEXEC, self.above))?;
            for (from, _) in self.table.iter_mut() {
                *from = check(libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, self.above))?;
            }
            libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            for (from, to) in self.table.iter() {
                check(libc::dup2(*from, *to))?;
            }
            if !self.cwd.is_null() {
                check(libc::chdir(self.cwd))?;
            }
            self.write_pid();
            reset_signals();
            libc::execve(self.program, self.argv, self.envp);
            Err(*libc::__errno_location())
        }
    }

    /// # Safety
    /// `digits` is null or has room for [`PID_DIGITS`] and a NUL.
    unsafe fn write_pid(&mut self) {
        if self.digits.is_null() {
            return;
        }
        let mut text = [0u8; PID_DIGITS];
        let mut at = PID_DIGITS;
        // SAFETY: getpid has no preconditions.
        let mut pid = unsafe { libc::getpid() }.unsigned_abs();
        while pid > 0 && at > 0 {
            at -= 1;
            text[at] = b'0' + (pid % 10) as u8;
            pid /= 10;
        }
        let digits = &text[at..];
        // SAFETY: the caller's room is at least as long; the bytes after it are NUL already.
        unsafe { std::ptr::copy_nonoverlapping(digits.as_ptr(), self.digits, digits.len()) };
    }
}

/// Default dispositions (an ignored signal would be inherited) and an empty mask.
///
/// # Safety
/// Only in the child of a fork.
unsafe fn reset_signals() {
    // SAFETY: plain system calls; the set is initialised by sigemptyset.
    unsafe {
        for signal in 1..32 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

fn check(result: libc::c_int) -> Result<libc::c_int, i32> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: the location is valid for this thread.
    Err(unsafe { *libc::__errno_location() })
}

/// What the child wrote before it gave up; `None` when exec closed the pipe.
fn report(pipe: &OwnedFd) -> io::Result<Option<io::Error>> {
    let mut errno = [0; 4];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut errno))?;
    Ok((read > 0).then(|| io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| nul(text))
}

fn variable((name, value): &(OsString, OsString)) -> io::Result<CString> {
    let mut entry = name.clone();
    entry.push("=");
    entry.push(value);
    CString::new(entry.into_vec()).map_err(|_| nul(name))
}

fn nul(text: &OsStr) -> io::Error {
    let what = format!("a NUL byte in {:?}", text.to_string_lossy());
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// A descriptor that one thread makes readable to wake another.
pub(crate) fn waker() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(
        0,
        rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn run(script: &str, extra: &[(BorrowedFd<'_>, RawFd)]) -> String {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let args = ["sh", "-c", script].map(OsString::from);
        let mut descriptors = vec![(write.as_fd(), 1)];
        descriptors.extend_from_slice(extra);
        let spec = Spawn {
            program: Path::new("/bin/sh"),
            args: &args,
            env: &[
                ("PATH".into(), std::env::var_os("PATH").unwrap()),
                ("A".into(), "b".into()),
            ],
            pid_variable: Some(OsStr::new("LISTEN_PID")),
            cwd: Some(Path::new("/")),
            descriptors: &descriptors,
        };
        let pid = spawn(&spec).unwrap();
        drop(write);
        let mut output = String::new();
        std::fs::File::from(read).read_to_string(&mut output).unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        output
    }

    #[test]
    fn the_child_knows_its_pid_and_has_only_its_descriptors() {
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let stray = rustix::io::dup(&file).unwrap(); // Not close-on-exec.
        let output = run(
            "test \"$LISTEN_PID\" = $$ && echo own pid; echo $A; pwd; ls /proc/$$/fd; readlink /proc/$$/fd/7; \
             readlink /proc/$$/fd/0",
            &[(file.as_fd(), 7)],
        );
        drop(stray);
        assert_eq!(output, "own pid\nb\n/\n0\n1\n2\n7\n/etc/passwd\n/dev/null\n");
    }

    #[test]
    fn a_swapped_table_is_fine() {
        let (a, b) = (
            std::fs::File::open("/etc/passwd").unwrap(),
            std::fs::File::open("/etc/group").unwrap(),
        );
        let table = [(a.as_fd(), b.as_raw_fd()), (b.as_fd(), a.as_raw_fd())];
        let (x, y) = (a.as_raw_fd(), b.as_raw_fd());
        let output = run(
            &format!("readlink /proc/$$/fd/{x}; readlink /proc/$$/fd/{y}"),
            &table,
        );
        assert_eq!(output, "/etc/group\n/etc/passwd\n");
    }

    #[test]
    fn a_failed_exec_says_why() {
        let args = [OsString::from("x")];
        let spec = Spawn {
            program: Path::new("/no/such/program"),
            args: &args,
            env: &[],
            pid_variable: None,
            cwd: None,
            descriptors: &[],
        };
        assert_eq!(spawn(&spec).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let nul = Spawn {
            args: &[OsString::from("a\0b")],
            program: Path::new("/bin/true"),
            ..spec
        };
        assert_eq!(spawn(&nul).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
