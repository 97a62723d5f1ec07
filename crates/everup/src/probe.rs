//! Probes of workers: asked for by the engine, made in a thread of their own, answered by a callback.
//!
//! Job: make one probe for each [`Probe`] that is asked for, and give exactly one [`Answer`]. Owner: the driver, one
//! [`Prober`] for a cluster; its thread is started by the first probe and joined when the prober is dropped, which kills
//! the commands that are still running. Must not know: how often a worker is probed and what an answer leads to
//! ([`everup_core::health`]).
//!
//! One thread with `poll`, not a thread for each probe: a thousand workers that hang are a thousand descriptors then, not
//! a thousand stacks, and a limit on threads would make probes wait for those that hang. Nothing in the thread waits but
//! `poll`, apart from fork and exec of a command, and a look through `/proc` when one is killed.
//!
//! Invariants: an answer says why in a few words, or that nothing could be found out ([`Probed::Unknown`]: trouble of
//! ours must not count against a worker); at most 64 KiB are read for one probe; a command that is over its limit is
//! killed with all that it has started; the engine does not reap the commands ([`Children`]).
//!
//! - [`exec`], [`http`], [`tcp`]: one probe of each kind.
//! - [`pair`]: how a probe reaches one worker and no other.
//! - [`runner`]: the thread.

mod children;
mod exec;
mod http;
pub(crate) mod pair;
mod runner;
mod tcp;

pub(crate) use children::Children;

use crate::output::wake;
use crate::sys::spawn::waker;
use everup_core::health::{ProbeId, Probed};
use everup_core::id::{Slot, WorkerId};
use runner::Runner;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A probe that is to be made.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) worker: WorkerId,
    pub(crate) id: ProbeId,
    /// How long it may take.
    pub(crate) limit: Duration,
    pub(crate) task: Task,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Task {
    /// `GET`s a path.
    Http { way: Way, path: String, host: String },
    /// Connects to a private listener. With our copy of it, it counts when the worker has accepted; without, when the
    /// kernel has. (That a Node worker accepts is seen by its answer to a hand-over, so there is no probe to be made.)
    Tcp {
        address: SocketAddr,
        listener: Option<OwnedFd>,
    },
    /// Runs a command.
    Exec(Exec),
}

/// How the worker is reached.
#[derive(Debug)]
pub(crate) enum Way {
    /// By a connection whose other end it has got: [`pair::loopback_pair`].
    Connected(OwnedFd),
    /// At an address where only it listens: [`pair::private_listener`].
    Address(SocketAddr),
}

/// A command that finds out about a worker.
#[derive(Debug)]
pub(crate) struct Exec {
    /// Not empty.
    pub(crate) argv: Vec<OsString>,
    /// Its environment, without the variables that tell which worker is meant.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: Option<PathBuf>,
    /// The worker's pid.
    pub(crate) pid: u32,
    pub(crate) slot: Slot,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) worker: WorkerId,
    pub(crate) id: ProbeId,
    pub(crate) found: Probed,
}

type Report = Arc<dyn Fn(Answer) + Send + Sync>;

/// See the module's documentation.
pub(crate) struct Prober {
    mark: String,
    report: Report,
    children: Children,
    thread: Option<Thread>,
}

struct Thread {
    probes: Sender<Probe>,
    wake: Arc<OwnedFd>,
    handle: JoinHandle<()>,
}

impl Prober {
    /// Commands get a mark that begins with `mark`. `report` is called in the prober's thread, or in the caller's where
    /// there is none; it must not wait.
    pub(crate) fn new(mark: &str, report: impl Fn(Answer) + Send + Sync + 'static) -> Self {
        Self {
            mark: mark.into(),
            report: Arc::new(report),
            children: Children::default(),
            thread: None,
        }
    }

    /// Makes a probe. Does not wait.
    pub(crate) fn start(&mut self, probe: Probe) {
        let (worker, id) = (probe.worker, probe.id);
        let sent = self.thread().and_then(|thread| {
            let sent = thread.probes.send(probe);
            wake(&thread.wake);
            sent.map_err(|_| io::Error::other("the thread for probes has ended"))
        });
        if let Err(error) = sent {
            let found = Probed::Unknown(plain(&error));
            (self.report)(Answer { worker, id, found });
        }
    }

    /// Processes that must not be reaped as strangers.
    pub(crate) fn children(&self) -> Children {
        self.children.clone()
    }

    fn thread(&mut self) -> io::Result<&Thread> {
        if self
            .thread
            .as_ref()
            .is_none_or(|thread| thread.handle.is_finished())
        {
            self.thread = Some(self.start_thread()?);
        }
        self.thread.as_ref().ok_or_else(|| io::ErrorKind::Other.into())
    }

    fn start_thread(&self) -> io::Result<Thread> {
        let wake = Arc::new(waker()?);
        let (probes, asked) = channel();
        let runner = Runner::new(
            asked,
            Arc::clone(&wake),
            Arc::clone(&self.report),
            self.children.clone(),
            self.mark.clone(),
        );
        let handle = std::thread::Builder::new()
            .name("everup-probes".into())
            .spawn(move || runner.run())?;
        Ok(Thread { probes, wake, handle })
    }
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober")
            .field("running", &self.thread.is_some())
            .finish_non_exhaustive()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            drop(thread.probes);
            wake(&thread.wake);
            // A panic there has been printed; nobody is left to be told.
            thread.handle.join().ok();
        }
    }
}

/// How far a probe has come.
#[derive(Debug)]
enum Step {
    /// It waits for its descriptors, or its time.
    Wait,
    /// Answered; there is something to clean up.
    Answered(Probed),
    /// Answered, and over.
    Done(Probed),
    /// Over; it was answered before.
    Over,
}

/// An error on a connection of a probe: the worker's doing, or ours.
fn trouble(error: Errno) -> Probed {
    match error {
        Errno::CONNRESET | Errno::PIPE => Probed::Failed("connection reset".into()),
        Errno::CONNREFUSED => Probed::Failed("connection refused".into()),
        Errno::TIMEDOUT => Probed::Failed("connection timed out".into()),
        error => Probed::Unknown(plain(&error.into())),
    }
}

/// An error of the system, in lower case and without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests;
