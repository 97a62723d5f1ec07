//! Signals as things to read, and threads that are stopped by one.

use std::io;
use std::mem;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{NanosleepRelativeResult, Timespec};

use super::table;

/// A signal that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) number: i32,
    /// From a terminal or the like: the daemon has got it too.
    pub(crate) by_kernel: bool,
}

/// Blocks these signals in this thread, and gives a descriptor that they are read from.
pub(crate) fn block(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set(signals);
    change(libc::SIG_BLOCK, &set)?;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// No longer blocks these in this thread and those that it starts.
pub(crate) fn unblock(signals: &[i32]) -> io::Result<()> {
    change(libc::SIG_UNBLOCK, &set(signals))
}

/// The next signal, if there is one.
pub(crate) fn next(fd: BorrowedFd<'_>) -> Option<Received> {
    let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut buffer)).ok()?;
    // Number, errno, code: 32 bits each, in native order.
    let word = |at: usize| Some(i32::from_ne_bytes(*buffer[at..].first_chunk()?));
    (read == buffer.len()).then_some(())?;
    Some(Received {
        number: word(0)?,
        by_kernel: word(8)? == libc::SI_KERNEL,
    })
}

fn set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a sigset_t is plain data, and sigemptyset initialises it.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: the set is initialised; a bad number is refused.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

fn change(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialised, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

static FROZEN: AtomicUsize = AtomicUsize::new(0);
static THAW: AtomicBool = AtomicBool::new(false);

/// Stops all other threads of this process wherever they are, or gives up after `limit`. Takes no memory: a stopped thread may
/// hold any lock. Works once in the life of a process, unless [`thaw`] follows.
pub(crate) fn freeze(limit: Duration) -> io::Result<()> {
    let signal = libc::SIGRTMIN() + 12;
    handle(signal)?;
    let start = Instant::now();
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    loop {
        // Counted before looking: if so many were stopped and there are no more, then none could have started another.
        let frozen = FROZEN.load(Ordering::SeqCst);
        let mut others = 0;
        table::each_thread(&mut |thread| others += usize::from(thread != me))?;
        if frozen == others {
            return Ok(());
        }
        if start.elapsed() > limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        table::each_thread(&mut |thread| {
            if thread != me {
                // SAFETY: a system call on numbers; who is gone is not there.
                unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal) };
            }
        })?;
        pause(Duration::from_micros(200));
    }
}

/// Lets the others go on.
pub(crate) fn thaw() {
    THAW.store(true, Ordering::SeqCst);
}

fn handle(signal: i32) -> io::Result<()> {
    // SAFETY: a sigaction is plain data.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = stop as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler does nothing but look at atomics and sleep, which is allowed at any place; it is a real-time
    // signal that nobody else uses.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn stop(_signal: i32) {
    FROZEN.fetch_add(1, Ordering::SeqCst);
    while !THAW.load(Ordering::SeqCst) {
        pause(Duration::from_millis(10));
    }
    FROZEN.fetch_sub(1, Ordering::SeqCst);
}

/// Sleeps by one system call.
fn pause(time: Duration) {
    let time = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    // rustix calls the kernel itself: errno of an interrupted thread stays as it is.
    let slept = rustix::thread::nanosleep(&time);
    debug_assert!(
        !matches!(slept, NanosleepRelativeResult::Err(_)),
        "the time is a valid one"
    );
}
