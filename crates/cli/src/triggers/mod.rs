//! What makes an app reload, or a job start, without anybody asking: times and changed files.
//!
//! Job: turn the clock ([`cron`]) and the file system ([`watch`]) into calls of a closure with a [`Trigger`].
//! Owner: `everup run`; each source has a thread of its own, which the [`Handle`] in [`Running`] stops and joins.
//!
//! ```text
//! Triggers (plan) ─open─▶ Sources ─start─▶ Running ─stop, or drop─▶ joined
//! ```
//!
//! Invariants: a source calls its closure from its own thread, one call at a time, and waits for it. Nobody polls: a
//! thread sleeps until a file changes, until the next time (at most a minute, see [`cron`]), or until told.
//! Must not know: the cluster, what a reload is.

pub(crate) mod cron;
pub(crate) mod watch;

use crate::plan::triggers::Triggers;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use watch::{Watch, WatchError};

/// Why something is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The time of `--cron-restart` has come.
    Cron { expression: String },
    /// The time of `--schedule` has come.
    Schedule,
    /// Files changed: the first few, relative to the app's directory where they are in it, and how many others.
    Watch { files: Vec<PathBuf>, more: usize },
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron { expression } => write!(f, "cron `{expression}`"),
            Self::Schedule => write!(f, "schedule"),
            Self::Watch { files, more } => {
                let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
                write!(f, "changed: {}", files.join(", "))?;
                match more {
                    0 => Ok(()),
                    1 => write!(f, " and 1 other"),
                    more => write!(f, " and {more} others"),
                }
            }
        }
    }
}

/// Whom a source calls.
#[derive(Clone)]
pub(crate) struct Calls<F, N> {
    /// Does what the trigger is for. May take as long as that takes: see [`watch`].
    pub(crate) fire: F,
    /// Tells the user something.
    pub(crate) notice: N,
}

/// The sources of one app, which have all that they need but do not call anybody yet.
#[derive(Debug)]
pub(crate) struct Sources {
    cron: Option<(cron::Expression, cron::Purpose)>,
    watch: Option<Watch>,
}

impl Sources {
    /// Takes what the sources need from the system: from now on changes of files are noticed.
    pub(crate) fn open(plan: Triggers) -> Result<Self, WatchError> {
        let cron = plan.cron.map(|expression| (expression, cron::Purpose::Restart));
        let schedule = || plan.schedule.map(|expression| (expression, cron::Purpose::Start));
        Ok(Self {
            cron: cron.or_else(schedule),
            watch: plan.watch.map(Watch::open).transpose()?,
        })
    }

    /// Whether nothing will ever fire.
    pub(crate) fn is_empty(&self) -> bool {
        self.cron.is_none() && self.watch.is_none()
    }

    /// Starts a thread for each source.
    pub(crate) fn start<F, N>(self, calls: Calls<F, N>) -> io::Result<Running>
    where
        F: Fn(Trigger) + Clone + Send + 'static,
        N: Fn(String) + Clone + Send + 'static,
    {
        let cron = self
            .cron
            .map(|(expression, purpose)| cron::start(expression, purpose, calls.clone()));
        Ok(Running {
            cron: cron.transpose()?,
            watch: self.watch.map(|watch| watch.start(calls)).transpose()?,
        })
    }
}

/// The sources at work. Dropping it stops them, and waits for a closure that is being called.
#[derive(Debug)]
pub(crate) struct Running {
    cron: Option<Handle>,
    watch: Option<Handle>,
}

impl Running {
    /// A reload has begun: files that change from now on are told when it is over.
    pub(crate) fn pause(&self) {
        self.watch.iter().for_each(|watch| watch.hold(true));
    }

    /// The reload is over.
    pub(crate) fn resume(&self) {
        self.watch.iter().for_each(|watch| watch.hold(false));
    }

    /// Ends the threads.
    pub(crate) fn stop(self) {
        let handles = [self.cron, self.watch];
        // All are told before the first is waited for.
        handles.iter().flatten().for_each(Handle::end);
        drop(handles);
    }
}

/// The thread of one source.
#[derive(Debug)]
struct Handle {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Starts the thread; `work` ends when its bell says so.
    fn spawn(name: &str, work: impl FnOnce(&Bell) + Send + 'static) -> io::Result<Self> {
        let bell = Arc::new(Bell::new()?);
        let own = Arc::clone(&bell);
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&own))?;
        Ok(Self {
            bell,
            thread: Some(thread),
        })
    }

    fn hold(&self, hold: bool) {
        self.bell.held.store(hold, Ordering::SeqCst);
        self.bell.ring();
    }

    fn end(&self) {
        self.bell.ended.store(true, Ordering::SeqCst);
        self.bell.ring();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
        let thread = self.thread.take();
        // The closure may be the last to own us: a thread cannot wait for itself.
        let other = thread.filter(|thread| thread.thread().id() != std::thread::current().id());
        other.map(|thread| thread.join().ok());
    }
}

/// By which a sleeping source is told something.
#[derive(Debug)]
struct Bell {
    event: OwnedFd,
    ended: AtomicBool,
    held: AtomicBool,
}

impl Bell {
    fn new() -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ended: AtomicBool::new(false),
            held: AtomicBool::new(false),
        })
    }

    fn ring(&self) {
        // Full only when it has rung often enough.
        rustix::io::write(&self.event, &1_u64.to_ne_bytes()).ok();
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Sleeps until it rings, `news` is readable or the limit has passed; without a limit as long as that takes.
    fn wait(&self, news: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> io::Result<()> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let both = [Some(self.event.as_fd()), news];
        let mut both: Vec<_> = both
            .iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        match poll(&mut both, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        rustix::io::read(&self.event, &mut [0; 8]).ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn triggers_are_told() {
        let watch = |names: &[&str], more| Trigger::Watch {
            files: names.iter().map(PathBuf::from).collect(),
            more,
        };
        assert_eq!(watch(&["a.js"], 0).to_string(), "changed: a.js");
        assert_eq!(
            watch(&["a.js", "b"], 1).to_string(),
            "changed: a.js, b and 1 other"
        );
        assert_eq!(
            watch(&["a.js", "b"], 9).to_string(),
            "changed: a.js, b and 9 others"
        );
        let cron = Trigger::Cron {
            expression: "0 3 * * *".into(),
        };
        assert_eq!(cron.to_string(), "cron `0 3 * * *`");
    }

    #[test]
    fn both_sources_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        let expression = cron::Expression::parse("* * * * * *", cron::local(), jiff::Timestamp::now());
        let plan = Triggers {
            cron: Some(expression.unwrap()),
            schedule: None,
            watch: Some(watch::WatchPlan {
                base: base.into(),
                roots: vec![base.into()],
                commanded: Vec::new(),
                globs: watch::Globs::parse(base, &[]).unwrap(),
                own: Vec::new(),
                delay: Duration::from_millis(10),
                limit: 10,
            }),
        };
        let sources = Sources::open(plan).unwrap();
        // What happens before the start is not lost.
        std::fs::write(base.join("a.js"), "").unwrap();
        let (fired, fires) = mpsc::channel();
        let calls = Calls {
            fire: move |trigger| drop(fired.send(trigger)),
            notice: |_| {},
        };
        let running = sources.start(calls).unwrap();
        let next = |wanted: fn(&Trigger) -> bool| {
            let next = || fires.recv_timeout(Duration::from_secs(20)).unwrap();
            std::iter::from_fn(|| Some(next())).find(wanted).unwrap()
        };
        let changed = |trigger: &Trigger| matches!(trigger, Trigger::Watch { .. });
        assert_eq!(next(changed).to_string(), "changed: a.js");
        running.pause();
        std::fs::write(base.join("b.js"), "").unwrap();
        // Times go on, files wait.
        assert_eq!(next(|_| true).to_string(), "cron `* * * * * *`");
        running.resume();
        assert_eq!(next(changed).to_string(), "changed: b.js");
        running.stop();
        // Both threads have gone, with all that could send.
        while fires.recv().is_ok() {}
    }

    #[test]
    fn a_handle_may_be_dropped_by_its_own_thread() {
        let (give, take) = mpsc::channel::<Handle>();
        let (done, seen) = mpsc::channel();
        let handle = Handle::spawn("test", move |bell| {
            drop(take.recv());
            assert!(bell.ended());
            done.send(()).unwrap();
        });
        give.send(handle.unwrap()).unwrap();
        seen.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_held_bell_rings_once() {
        let bell = Bell::new().unwrap();
        bell.ring();
        bell.ring();
        bell.wait(None, None).unwrap();
        // Would hang without the limit: nothing is left of the second ring.
        let start = std::time::Instant::now();
        bell.wait(None, Some(Duration::from_millis(20))).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
