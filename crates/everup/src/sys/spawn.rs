//! Starting a process with exactly the descriptors it is to have.
//!
//! `std::process::Command` cannot tell the child its own pid in a variable (`LISTEN_PID`), so this is fork and
//! exec by hand. Everything that allocates happens before the fork; between fork and exec only system calls that
//! are safe in the child of a threaded process are made.
//!
//! The child gets: a session of its own (a terminal's Ctrl-C is for the primary only), default signal
//! dispositions and an empty mask, SIGKILL when the *thread* that forked it ends, standard input from
//! `/dev/null`, no descriptor but the asked ones, and its limits and identity ([`confine`](super::confine)).
//!
//! The child borrows our memory until it executes its program, and this thread waits (`CLONE_VM | CLONE_VFORK`): a fork
//! copies the page tables of the whole process, and has every thread copy pages afterwards; that took longer than all
//! the rest, and more with each app. A child with another identity is forked: the kernel would take the change for
//! ours, too, and make us undumpable.
//!
//! What the child cannot do it says on a pipe that a successful exec closes, with the step.

use super::confine::{Confinement, Refusal, Step};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

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
    /// Its limits and identity.
    pub(crate) confinement: &'a Confinement,
    /// Whether it goes on when the thread that starts it ends.
    pub(crate) outlives: bool,
}

/// Why nothing was started.
#[derive(Debug)]
pub(crate) enum SpawnError {
    /// It did not come to the child.
    System(io::Error),
    /// The child could not do this. Who asked for it knows what to call it.
    Refused(Refusal),
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for SpawnError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// Enough digits for any pid.
const PID_DIGITS: usize = 10;

/// Starts it and returns its pid.
///
/// # Errors
/// Whatever fork, the limits, chdir or exec say, with the child gone again; `InvalidInput` for a NUL in a string.
pub(crate) fn spawn(spec: &Spawn<'_>) -> Result<u32, SpawnError> {
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
    let highest = table.iter().map(|(_, to)| *to).max().unwrap_or(2).max(2);
    let child = Child {
        program: program.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        cwd: cwd.as_ref().map_or(std::ptr::null(), |cwd| cwd.as_ptr()),
        digits: pid_entry
            .as_mut()
            .map_or(std::ptr::null_mut(), |(entry, at)| entry[*at..].as_mut_ptr()),
        parent: rustix::process::getpid(),
        outlives: spec.outlives,
        failure: -1,
        above: highest + 1,
        table: &mut table,
        confinement: spec.confinement,
        rehearsal: None,
    };
    Ok(start(child)?.as_raw_nonzero().get().unsigned_abs())
}

/// What a worker has to get at.
#[derive(Debug, Default)]
pub(crate) struct Reach<'a> {
    /// To be entered.
    pub(crate) cwd: Option<&'a Path>,
    /// To be executed.
    pub(crate) program: Option<&'a Path>,
    /// To be read.
    pub(crate) files: &'a [PathBuf],
}

/// Does in a child everything that [`spawn`] would do to its limits and identity, looks what is in its reach then, and
/// lets the child end.
///
/// # Errors
/// What [`spawn`] would say.
pub(crate) fn rehearse(confinement: &Confinement, reach: &Reach<'_>) -> Result<(), SpawnError> {
    let string = |path: Option<&Path>| path.map(|path| c_string(path.as_os_str())).transpose();
    let (program, cwd) = (string(reach.program)?, string(reach.cwd)?);
    let files = reach.files.iter().map(|file| c_string(file.as_os_str()));
    let files = files.collect::<io::Result<Vec<_>>>()?;
    let pid = start(Child {
        program: program
            .as_ref()
            .map_or(std::ptr::null(), |program| program.as_ptr()),
        argv: std::ptr::null(),
        envp: std::ptr::null(),
        cwd: cwd.as_ref().map_or(std::ptr::null(), |cwd| cwd.as_ptr()),
        digits: std::ptr::null_mut(),
        parent: rustix::process::getpid(),
        outlives: false,
        failure: -1,
        above: 3,
        table: &mut Vec::new(),
        confinement,
        rehearsal: Some(&files),
    })?;
    match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
        Ok(Some((_, status))) if status.exit_status() != Some(0) => {
            Err(io::Error::other("the trial process was killed by its limits").into())
        }
        // Or somebody else has reaped it, who waits for all children.
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Forks, and waits until the child has executed its program, has rehearsed, or has said why not.
fn start(mut child: Child<'_>) -> Result<Pid, SpawnError> {
    let (failure_read, failure_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    child.failure = failure_write.as_raw_fd();
    let same_identity = child.confinement.ids.is_none() && child.confinement.caps.is_none();
    let borrows = child.rehearsal.is_none() && same_identity;
    let pid = if borrows { child.lend() } else { child.fork() };
    drop(failure_write);
    let pid = Pid::from_raw(pid?).ok_or(io::Error::other("no pid"))?;
    match report(&failure_read)? {
        None => Ok(pid),
        Some(refusal) => {
            // It has said why and is exiting: reap it.
            rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
            Err(SpawnError::Refused(refusal))
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
    parent: Pid,
    outlives: bool,
    failure: RawFd,
    above: RawFd,
    table: &'a mut Vec<(RawFd, RawFd)>,
    confinement: &'a Confinement,
    /// Only try it, and look whether these files can be read.
    rehearsal: Option<&'a [CString]>,
}

/// What the child needs until it executes its program; more than it could use even in a debug build.
const STACK: usize = 256 * 1024;

impl Child<'_> {
    fn fork(&mut self) -> io::Result<i32> {
        // SAFETY: the child only makes async-signal-safe calls on memory that was prepared, then execs or exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: we are the forked child; every pointer in `self` is to memory that fork copied.
            unsafe { self.become_it() }
        }
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pid)
    }

    /// As a fork, but in our memory, on a stack of its own, while this thread waits.
    fn lend(&mut self) -> io::Result<i32> {
        extern "C" fn begin(child: *mut libc::c_void) -> libc::c_int {
            // SAFETY: the pointer is the one given to clone below; its owner waits.
            unsafe { (*child.cast::<Child<'_>>()).become_it() }
        }
        let mut stack = Box::<[u128]>::new_uninit_slice(STACK / size_of::<u128>());
        let top = stack.as_mut_ptr_range().end;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let signals = Blocked::all()?;
        // SAFETY: the child only makes async-signal-safe calls, on memory that was prepared and that nobody else touches, as this
        // thread goes on when it has executed its program or is gone. No handler of ours runs in it: all signals are blocked,
        // and it lets them through after their dispositions are the default ones. It has a stack of its own.
        let pid = unsafe { libc::clone(begin, top.cast(), flags, (&raw mut *self).cast()) };
        let error = io::Error::last_os_error();
        drop(signals);
        if pid < 0 { Err(error) } else { Ok(pid) }
    }

    /// # Safety
    /// Only in the child of a fork, with all pointers valid.
    unsafe fn become_it(&mut self) -> ! {
        // SAFETY: passed on to the caller.
        unsafe {
            let done = match self.rehearsal {
                Some(files) => self.try_limits(files),
                None => self.try_exec(),
            };
            if let Err(refusal) = done {
                let bytes = refusal.encode();
                libc::write(self.failure, bytes.as_ptr().cast(), bytes.len());
                libc::_exit(127)
            }
            libc::_exit(0)
        }
    }

    /// Comes back only with a refusal.
    ///
    /// # Safety
    /// As [`become_it`](Self::become_it).
    unsafe fn try_exec(&mut self) -> Result<(), Refusal> {
        // SAFETY: plain system calls on valid memory; nothing here allocates or locks.
        unsafe {
            check(libc::setsid(), Step::Session)?;
            self.die_with_parent()?;
            self.place_descriptors()?;
            self.confinement.apply()?;
            // The kernel has forgotten it, if another user was set.
            self.die_with_parent()?;
            self.enter_directory()?;
            self.write_pid();
            reset_signals();
            libc::execve(self.program, self.argv, self.envp);
            Err(last(Step::Program))
        }
    }

    /// # Safety
    /// As [`become_it`](Self::become_it).
    unsafe fn try_limits(&mut self, files: &[CString]) -> Result<(), Refusal> {
        self.confinement.apply()?;
        // SAFETY: plain system calls on valid memory.
        unsafe {
            self.enter_directory()?;
            if !self.program.is_null() {
                check(libc::access(self.program, libc::X_OK), Step::Program)?;
            }
            for (at, file) in (0..).zip(files) {
                if libc::access(file.as_ptr(), libc::R_OK) < 0 {
                    return Err(Refusal {
                        detail: at,
                        ..last(Step::File)
                    });
                }
            }
        }
        Ok(())
    }

    fn die_with_parent(&self) -> Result<(), Refusal> {
        if self.outlives {
            return Ok(());
        }
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(Refusal::at(Step::ParentDeath))?;
        if rustix::process::getppid() == Some(self.parent) {
            return Ok(());
        }
        // The parent died before it could be noticed.
        // SAFETY: ends this process, which is the forked child.
        unsafe { libc::_exit(127) }
    }

    /// # Safety
    /// As [`become_it`](Self::become_it).
    unsafe fn place_descriptors(&mut self) -> Result<(), Refusal> {
        // SAFETY: plain system calls on descriptors that fork copied.
        unsafe {
            // Sources first go above every target, so that no dup2 hits one that is still needed.
            self.failure = self.lift(self.failure)?;
            for at in 0..self.table.len() {
                self.table[at].0 = self.lift(self.table[at].0)?;
            }
            libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            for (from, to) in self.table.iter() {
                check(libc::dup2(*from, *to), Step::Descriptors)?;
            }
        }
        Ok(())
    }

    /// # Safety
    /// As [`become_it`](Self::become_it).
    unsafe fn lift(&self, descriptor: RawFd) -> Result<RawFd, Refusal> {
        // SAFETY: a plain system call.
        let lifted = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, self.above) };
        check(lifted, Step::Descriptors)
    }

    /// # Safety
    /// As [`become_it`](Self::become_it).
    unsafe fn enter_directory(&self) -> Result<(), Refusal> {
        if !self.cwd.is_null() {
            // SAFETY: a NUL-terminated string, by the caller.
            check(unsafe { libc::chdir(self.cwd) }, Step::Directory)?;
        }
        Ok(())
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

/// All signals are blocked for this thread as long as this lives.
struct Blocked(libc::sigset_t);

impl Blocked {
    fn all() -> io::Result<Self> {
        // SAFETY: plain calls on sets that are initialised before they are read.
        let (set, result) = unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            let result = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            (before, result)
        };
        match result {
            0 => Ok(Self(set)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set is the one that was there before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
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

fn check(result: libc::c_int, step: Step) -> Result<libc::c_int, Refusal> {
    if result >= 0 { Ok(result) } else { Err(last(step)) }
}

/// The step and the error of the last call.
fn last(step: Step) -> Refusal {
    // SAFETY: the location is valid for this thread.
    let errno = unsafe { *libc::__errno_location() };
    Refusal::at(step)(Errno::from_raw_os_error(errno))
}

/// What the child wrote before it gave up; `None` when exec closed the pipe.
fn report(pipe: &OwnedFd) -> io::Result<Option<Refusal>> {
    let mut bytes = [0; Refusal::SIZE];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut bytes))?;
    if read == 0 {
        return Ok(None);
    }
    // Written in one go, and far below what a pipe takes in one go.
    let refusal = Refusal::decode(bytes).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some(refusal))
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
            confinement: &Confinement::default(),
            outlives: false,
        };
        let pid = spawn(&spec).unwrap();
        drop(write);
        let mut output = String::new();
        std::fs::File::from(read).read_to_string(&mut output).unwrap();
        let pid = Pid::from_raw(i32::try_from(pid).unwrap());
        rustix::process::waitpid(pid, WaitOptions::empty()).unwrap();
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
    fn signals_are_blocked_for_nobody_afterwards() {
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("SigBlk:")).unwrap();
            line.to_owned()
        };
        let before = blocked();
        let childs = run("grep SigBlk: /proc/$$/status", &[]);
        assert_eq!(childs, "SigBlk:\t0000000000000000\n");
        assert_eq!(blocked(), before);
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
            confinement: &Confinement::default(),
            outlives: false,
        };
        let refused = |spec: &Spawn<'_>| match spawn(spec).unwrap_err() {
            SpawnError::Refused(refusal) => refusal,
            SpawnError::System(error) => panic!("{error}"),
        };
        let refusal = refused(&spec);
        assert_eq!((refusal.step, refusal.errno), (Step::Program, libc::ENOENT));
        let lost = Spawn {
            cwd: Some(Path::new("/no/such/folder")),
            ..spec
        };
        assert_eq!(refused(&lost).step, Step::Directory);
        let nul = Spawn {
            args: &[OsString::from("a\0b")],
            program: Path::new("/bin/true"),
            ..spec
        };
        assert!(matches!(
            spawn(&nul),
            Err(SpawnError::System(error)) if error.kind() == io::ErrorKind::InvalidInput
        ));
    }
}
