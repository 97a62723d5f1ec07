//! Copies of a draining worker's connections: nothing that a client sends while the worker closes is lost unseen.
//!
//! Job: hold duplicates of the connections that a worker serves (`pidfd_getfd`), see when the worker closes its own,
//! do with each copy what [`everup_core::drain`] decides, and tell the engine what came of it. While a copy is held,
//! the worker's `close()` does not close the connection; a request that arrives then waits in the kernel and can be
//! handed to another worker. Owner: the engine has a [`Holder`] for each worker that leaves.
//!
//! Looking at thousands of descriptors takes milliseconds, so this happens in a thread of its own, one for each
//! draining worker. No call of [`Holder`] waits for it, except that dropping one joins the thread: a millisecond.
//!
//! ```text
//! start ──▶ taking ──Taken──▶ looking ──the worker is gone, and every copy has ended──▶ Over
//!             └──Unknown                └──dropped: the copies that the worker has too are closed unseen
//! ```
//!
//! Invariants: the worker is asked to stop only after [`News::Taken`] or [`News::Unknown`]; a connection is moved at
//! most once, with nothing of what is unread read; no more copies are held than was allowed.
//!
//! - [`keeper`]: the thread.
//! - [`table`]: the worker's descriptors, by `/proc`.
//!
//! Must not know: workers' states, policies, who gets a moved connection.

mod keeper;
mod table;
#[cfg(test)]
mod tests;

use crate::output::wake;
use everup_core::drain::{Counters, Gone, Rules};
use keeper::Keeper;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{fmt, io};

/// Why a worker's connections cannot be accounted for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Unknown {
    /// The system does not let us look into the worker.
    #[error(
        "the system does not allow to look into process {0} (ptrace is restricted, or its user is another)"
    )]
    NotPermitted(u32),
    /// An old kernel.
    #[error("this kernel cannot duplicate descriptors of another process (Linux 5.6 can)")]
    Unsupported,
    /// The process ended before.
    #[error("process {0} is gone")]
    Gone(u32),
    /// Anything else.
    #[error("read the descriptors of process {0}")]
    System(u32, #[source] Errno),
}

impl Unknown {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotPermitted(_) => Some(
                "in a container add the capability SYS_PTRACE; elsewhere run everup as its workers' user or as root, \
                 with kernel.yama.ptrace_scope at 0 or 1",
            ),
            Self::Unsupported | Self::Gone(_) | Self::System(..) => None,
        }
    }

    fn new(pid: u32, error: Errno) -> Self {
        match error {
            Errno::PERM | Errno::ACCESS => Self::NotPermitted(pid),
            Errno::NOSYS => Self::Unsupported,
            Errno::SRCH | Errno::NOENT => Self::Gone(pid),
            other => Self::System(pid, other),
        }
    }
}

/// Whose connections, and which of them.
pub(crate) struct Plan {
    /// The worker's process.
    pub(crate) process: OwnedFd,
    /// Its number; it is not reaped before the holder was told that it is gone.
    pub(crate) pid: u32,
    /// Where its connections come in. Others that it has are its own business.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// What may be done with them.
    pub(crate) rules: Rules,
    /// How many copies may be held.
    pub(crate) at_most: usize,
    /// An event descriptor that is written to when there are news.
    pub(crate) wake: OwnedFd,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum News {
    /// All are held, but for so many for which there was no room. Now the worker may be asked to stop.
    Taken {
        /// These are in no counter.
        missed: usize,
    },
    /// Nothing is held; there will be no other news.
    Unknown(Unknown),
    /// A connection with a request that nobody has read: to be handed to another worker.
    Moved {
        /// It.
        connection: OwnedFd,
        /// Its address on our side: which endpoint it belongs to.
        local: SocketAddr,
    },
    /// Every connection has ended, and the worker is gone. The last news.
    Over,
}

/// What the engine says to the thread.
#[derive(Debug)]
enum Command {
    Gone(Gone),
    Stir,
    Immovable,
}

/// See the module's documentation.
pub(crate) struct Holder {
    commands: Sender<Command>,
    waker: OwnedFd,
    news: Receiver<News>,
    counters: Arc<Mutex<Counters>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Holder {
    /// Begins to take the copies.
    ///
    /// # Errors
    /// When the system refuses a thread or an event descriptor.
    pub(crate) fn start(plan: Plan) -> io::Result<Self> {
        let (commands, received) = channel();
        let (sender, news) = channel();
        let waker = crate::sys::spawn::waker()?;
        let counters = Arc::new(Mutex::new(Counters::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let outside = keeper::Outside {
            commands: received,
            waker: waker.as_fd().try_clone_to_owned()?,
            news: sender,
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
        };
        let keeper = Keeper::new(plan, outside)?;
        let thread = std::thread::Builder::new()
            .name("everup-drain".into())
            .spawn(move || keeper.run())?;
        Ok(Self {
            commands,
            waker,
            news,
            counters,
            stop,
            thread: Some(thread),
        })
    }

    /// What has come of it since the last call.
    pub(crate) fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter()
    }

    /// How many the worker has still, and how the others ended.
    pub(crate) fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker's process has ended and was reaped. [`Gone::Left`] only if it exited with code 0 and was sent no
    /// signal: then it had finished with its connections.
    pub(crate) fn gone(&self, how: Gone) {
        self.command(Command::Gone(how));
    }

    /// The worker is about to be told something: look often.
    pub(crate) fn stir(&self) {
        self.command(Command::Stir);
    }

    /// There is nobody left to hand connections to.
    pub(crate) fn immovable(&self) {
        self.command(Command::Immovable);
    }

    fn command(&self, command: Command) {
        // A thread that has ended needs no commands.
        if self.commands.send(command).is_ok() {
            wake(&self.waker);
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        wake(&self.waker);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder")
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
