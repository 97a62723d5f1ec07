//! The keeper's loop. One thread; opens no descriptor once it runs, since the table is the daemon's too.
//!
//! States: a daemon runs; or it is dead and the next one waits for its time. While a new program is on trial, there is a
//! deadline too.

use std::ffi::{CString, OsString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::Timespec;

use crate::arguments::{FELL_BACK, UPGRADED, resume};
use crate::guard::Guard;
use crate::handoff::{Handoff, tell};
use crate::link::Link;
use crate::log;
use crate::memory::Memory;
use crate::policy::{Life, Next, how};
use crate::root::Root;
use crate::run::Config;
use crate::successor::Successor;
use crate::sys::process::Image;
use crate::sys::{process, signals, table};

/// When there can be no child.
const CLONE_AGAIN: Duration = Duration::from_secs(1);

/// What the keeper reads. All but the first are passed on to the daemon.
pub(crate) const BLOCKED: [i32; 7] = [
    libc::SIGCHLD,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// A keeper at work.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) config: Config,
    pub(crate) root: Root,
    pub(crate) memory: Memory,
    pub(crate) link: Arc<Link>,
    pub(crate) signals: RawFd,
}

/// What the loop knows besides.
#[derive(Debug)]
enum Daemon {
    Runs { pid: u32, since: Instant },
    Waits { until: Instant },
}

#[derive(Debug)]
struct Loop {
    keeper: Keeper,
    daemon: Daemon,
    /// Signals for a daemon that is not there.
    pending: Vec<i32>,
    /// A new program must be ready by then.
    trial: Option<Instant>,
}

impl Keeper {
    /// Keeps daemons running until one is done.
    pub(crate) fn keep(self) -> ExitCode {
        let now = Instant::now();
        let mut state = Loop {
            trial: self.root.record.trial.then(|| now + self.config.trial),
            keeper: self,
            daemon: Daemon::Waits { until: now },
            pending: Vec::with_capacity(16),
        };
        loop {
            if let Some(code) = state.turn() {
                return ExitCode::from(code);
            }
        }
    }

    /// Makes good what a daemon has closed by mistake: without it the keeper would hear nothing, and never sleep.
    fn make_signals(&mut self) {
        match signals::block(&BLOCKED) {
            Ok(signals) => self.signals = signals.into_raw_fd(),
            Err(_) => thread::sleep(CLONE_AGAIN),
        }
        self.root.descriptors.signals = Some(self.signals);
        self.save();
    }

    /// Writes down what must be known after our death.
    pub(crate) fn save(&mut self) {
        if let Err(error) = self.memory.snapshot(&self.root.encode()) {
            log::line(format_args!("cannot write down its state: {error}"));
        }
    }

    /// The child: a daemon in a thread of its own, and a watch over us.
    fn child(&self) -> i32 {
        if !self.link.begin(self.root.incarnation, std::process::id()) {
            return 1;
        }
        process::name_thread(c"everup");
        let handoff = Handoff::new(&self.root, self.memory.fd().as_raw_fd(), &self.link);
        let (Ok(handoff), Ok(())) = (handoff, signals::unblock(&[libc::SIGCHLD])) else {
            return 1;
        };
        let daemon = self.config.daemon;
        let work = move || {
            let code = catch_unwind(AssertUnwindSafe(|| daemon(handoff)));
            process::exit_now(code.unwrap_or(101))
        };
        if let Err(error) = thread::Builder::new().name("daemon".to_owned()).spawn(work) {
            log::line(format_args!("cannot start a thread: {error}"));
            return 1;
        }
        let watched = Successor::new(&self.root).map(|successor| successor.watch());
        log::line(format_args!("the daemon goes on without a keeper: {watched:?}"));
        loop {
            thread::park();
        }
    }
}

impl Loop {
    /// Waits for something and deals with it. Gives an exit code when all is done.
    fn turn(&mut self) -> Option<u8> {
        let mut ended = None;
        if let Daemon::Waits { until } = self.daemon
            && until <= Instant::now()
        {
            self.start();
            // Who ended before SIGCHLD was ours to read (in a take-over) is announced by nobody.
            ended = self.reap();
        }
        if ended.is_none() {
            self.wait();
            self.read_signals();
            ended = self.reap();
        }
        if let Some(status) = ended {
            return self.ended(status);
        }
        self.judge_trial();
        None
    }

    fn start(&mut self) {
        let keeper = &mut self.keeper;
        keeper.root.incarnation += 1;
        keeper.save();
        match process::clone_sharing_descriptors(|| keeper.child()) {
            Ok(pid) => {
                self.daemon = Daemon::Runs {
                    pid,
                    since: Instant::now(),
                };
                for signal in self.pending.drain(..) {
                    process::signal_child(pid, signal);
                }
            }
            Err(error) => {
                log::line(format_args!("cannot start a daemon, tries again: {error}"));
                let until = Instant::now() + CLONE_AGAIN;
                self.daemon = Daemon::Waits { until };
            }
        }
    }

    fn wait(&mut self) {
        let until = match self.daemon {
            Daemon::Waits { until } => Some(until),
            Daemon::Runs { .. } => self.trial,
        };
        let limit = until.and_then(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec::try_from(left).ok()
        });
        let signals = table::lend(self.keeper.signals);
        let mut descriptors = [PollFd::new(&signals, PollFlags::IN)];
        // Too early is no harm.
        poll(&mut descriptors, limit.as_ref()).ok();
        if descriptors[0].revents().contains(PollFlags::NVAL) {
            log::line(format_args!("the daemon closed a descriptor of the keeper"));
            self.keeper.make_signals();
        }
    }

    fn read_signals(&mut self) {
        while let Some(signal) = signals::next(table::lend(self.keeper.signals)) {
            if signal.number == libc::SIGCHLD {
                continue;
            }
            match self.daemon {
                Daemon::Runs { .. } if signal.by_kernel => {}
                Daemon::Runs { pid, .. } => process::signal_child(pid, signal.number),
                Daemon::Waits { .. } => {
                    self.pending.push(signal.number);
                    self.daemon = Daemon::Waits {
                        until: Instant::now(),
                    };
                }
            }
        }
    }

    /// Notes and reaps all who have ended. Gives the daemon's status.
    fn reap(&self) -> Option<ExitStatus> {
        let mut ended = None;
        while let Ok(Some((pid, status))) = process::ended_child() {
            if matches!(self.daemon, Daemon::Runs { pid: daemon, .. } if daemon == pid) {
                ended = Some(status);
            } else {
                self.keeper.link.note(pid, status);
            }
            process::reap(pid);
        }
        ended
    }

    fn ended(&mut self, status: ExitStatus) -> Option<u8> {
        let Daemon::Runs { since, .. } = self.daemon else {
            return None;
        };
        let keeper = &mut self.keeper;
        let program = keeper.link.take_program();
        let life = Life {
            status,
            lasted: since.elapsed(),
            ready: keeper.link.ready() == keeper.root.incarnation,
            asked: program.is_some(),
        };
        let next = keeper.root.record.next(&life);
        keeper.root.previous = Some(how(status));
        self.daemon = Daemon::Waits {
            until: Instant::now(),
        };
        self.settle();
        match next {
            Next::Exit(code) => {
                let keeper = &self.keeper;
                let text = format!("failed: the daemon ended with {}", how(status));
                tell(&keeper.link, keeper.root.descriptors.pipe, &text);
                return Some(code);
            }
            Next::Restart(pause) => self.restart(status, pause),
            Next::Upgrade => self.upgrade(program.unwrap_or_default()),
            Next::FallBack => self.fall_back(&format!(
                "the new daemon ended before it was ready, the last time with {}",
                how(status)
            )),
        }
        None
    }

    fn restart(&mut self, status: ExitStatus, pause: Duration) {
        let how = how(status);
        if pause.is_zero() {
            log::line(format_args!("the daemon ended with {how}; starts another"));
        } else {
            log::line(format_args!(
                "the daemon ended with {how}; starts another in {pause:?}"
            ));
        }
        let until = Instant::now() + pause;
        self.daemon = Daemon::Waits { until };
    }

    /// Has the new program proved itself, or failed?
    fn judge_trial(&mut self) {
        let Some(deadline) = self.trial else {
            return;
        };
        if deadline > Instant::now() {
            return;
        }
        let Daemon::Runs { pid, .. } = self.daemon else {
            return self.fall_back("the new daemon was not ready in time");
        };
        if self.keeper.link.ready() == self.keeper.root.incarnation {
            self.keeper.root.record.proved();
            return self.settle();
        }
        process::signal_child(pid, libc::SIGKILL);
        while self.reap().is_none() {
            self.wait_for_child();
        }
        self.fall_back(&format!(
            "the new daemon was not ready within {:?}",
            self.keeper.config.trial
        ));
    }

    fn wait_for_child(&self) {
        let signals = table::lend(self.keeper.signals);
        let limit = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(&signals, PollFlags::IN)], Some(&limit)).ok();
        signals::next(signals);
    }

    /// Writes the record down; the old program is closed when nobody will fall back to it.
    fn settle(&mut self) {
        let root = &mut self.keeper.root;
        let old = if root.record.trial {
            None
        } else {
            self.trial = None;
            root.descriptors.old.take()
        };
        self.keeper.save();
        drop(old.map(table::take));
    }

    fn upgrade(&mut self, program: OsString) {
        log::line(format_args!("makes room for {}", program.display()));
        let before = self.keeper.root.clone();
        let root = &mut self.keeper.root;
        root.descriptors.old = root.descriptors.executable.take();
        root.record.trial = true;
        root.record.quick = 0;
        root.fell_back = None;
        root.previous = Some("an upgrade".to_owned());
        root.old_program = mem::replace(&mut root.program, program.clone());
        self.keeper.save();
        let why = match self.leave_a_guard() {
            Ok(guard) => {
                let error = self.exec(&program, UPGRADED);
                process::signal_child(guard, libc::SIGKILL);
                format!("the new program could not be started: {error}")
            }
            Err(error) => format!("nobody could stand by for the new program: {error}"),
        };
        log::line(format_args!("{why}"));
        self.keeper.root = before;
        self.keeper.root.fell_back = Some(why);
        self.keeper.save();
        self.daemon = Daemon::Waits {
            until: Instant::now(),
        };
    }

    /// From here on nothing may be opened or closed before the exec.
    fn leave_a_guard(&self) -> io::Result<u32> {
        let keeper = &self.keeper;
        let limit = keeper.config.trial + keeper.config.grace;
        let guard = Guard::new(&keeper.root, keeper.memory.fd().as_raw_fd(), &keeper.link, limit);
        let guard = guard.ok_or(io::ErrorKind::NotFound)?;
        process::clone_sharing_descriptors(|| guard.stand_by())
    }

    /// The old program comes back.
    fn fall_back(&mut self, why: &str) {
        log::line(format_args!("falls back to the program from before: {why}"));
        self.trial = None;
        self.daemon = Daemon::Waits {
            until: Instant::now(),
        };
        let root = &mut self.keeper.root;
        root.fell_back = Some(why.to_owned());
        root.previous = Some("an upgrade that was taken back".to_owned());
        root.record.trial = false;
        root.record.unready = 0;
        let Some(old) = root.descriptors.old.take() else {
            return self.keeper.save();
        };
        root.program = mem::take(&mut root.old_program);
        let new = root.descriptors.executable.replace(old);
        self.keeper.save();
        drop(new.map(table::take));
        let error = self.exec(OsString::default().as_os_str(), FELL_BACK);
        log::line(format_args!("cannot fall back: {error}"));
    }

    /// Another program in our place: a path, or nothing for the one whose descriptor is kept.
    fn exec(&self, program: &std::ffi::OsStr, why: &str) -> io::Error {
        let root = &self.keeper.root;
        let from = root.descriptors.executable.unwrap_or(libc::AT_FDCWD);
        let (Ok(path), Some(arguments)) = (CString::new(program.as_bytes()), resume(&root.program, why))
        else {
            return io::ErrorKind::InvalidInput.into();
        };
        let dropped: Vec<RawFd> = [root.descriptors.keeper, root.descriptors.signals]
            .into_iter()
            .flatten()
            .collect();
        let error = match table::keep_on_exec_from(3, &dropped) {
            Ok(()) => Image::new(path, arguments).exec(from),
            Err(error) => error,
        };
        table::close_on_exec_from(3);
        error
    }
}
