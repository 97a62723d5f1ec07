//! The thread in which probes are made: one `poll` over all that are under way.
//!
//! Owner: [`super::Prober`]. It ends when the prober is dropped, and takes the running commands with it.

use super::exec::Running as Command;
use super::http::Exchange;
use super::tcp::Knock;
use super::{Answer, Children, Probe, Report, Step, Task, plain};
use crate::output::clear;
use everup_core::health::{ProbeId, Probed};
use everup_core::id::WorkerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

pub(super) struct Runner {
    asked: Receiver<Probe>,
    wake: Arc<OwnedFd>,
    report: Report,
    children: Children,
    mark: String,
    /// Commands that were started.
    commands: u64,
    jobs: Vec<Job>,
}

/// A probe that is under way.
struct Job {
    worker: WorkerId,
    id: ProbeId,
    limit: Duration,
    /// `None` when it has passed.
    deadline: Option<Instant>,
    answered: bool,
    over: bool,
    kind: Kind,
}

enum Kind {
    Http(Exchange),
    Tcp(Knock),
    Exec(Command),
}

impl Runner {
    pub(super) fn new(
        asked: Receiver<Probe>,
        wake: Arc<OwnedFd>,
        report: Report,
        children: Children,
        mark: String,
    ) -> Self {
        Self {
            asked,
            wake,
            report,
            children,
            mark,
            commands: 0,
            jobs: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let news = match self.wait() {
                Ok(news) => news,
                Err(error) => return self.give_up(error),
            };
            for (job, news) in self.jobs.iter_mut().zip(news) {
                job.go_on(Instant::now(), news, &self.report);
            }
            self.jobs.retain(|job| !job.over);
            if !self.take_orders() {
                return;
            }
        }
    }

    /// Waits for news, and tells which jobs have some.
    fn wait(&self) -> Result<Vec<bool>, Errno> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        let mut owners = Vec::new();
        for (nth, job) in self.jobs.iter().enumerate() {
            for (descriptor, flags) in job.watch() {
                fds.push(PollFd::from_borrowed_fd(descriptor, flags));
                owners.push(nth);
            }
        }
        let now = Instant::now();
        let due = self.jobs.iter().filter_map(Job::due).min();
        let limit = due.map(|due| timespec(due.saturating_duration_since(now)));
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let mut news = vec![false; self.jobs.len()];
        for (fd, owner) in fds[1..].iter().zip(owners) {
            news[owner] |= !fd.revents().is_empty();
        }
        Ok(news)
    }

    /// False when nobody can ask for probes any more.
    fn take_orders(&mut self) -> bool {
        clear(&self.wake);
        loop {
            match self.asked.try_recv() {
                Ok(probe) => self.begin(probe),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn begin(&mut self, probe: Probe) {
        let Probe {
            worker,
            id,
            limit,
            task,
        } = probe;
        let kind = match task {
            Task::Http { way, path, host } => Exchange::begin(way, &path, &host).map(Kind::Http),
            Task::Tcp { address, listener } => Knock::begin(address, listener).map(Kind::Tcp),
            Task::Exec(_) if self.has_command(worker) => Err(Probed::Unknown(
                "the command of the probe before has not ended yet".into(),
            )),
            Task::Exec(exec) => {
                self.commands += 1;
                let mark = format!("{}.probe.{}", self.mark, self.commands);
                Command::begin(&exec, worker, mark, self.children.clone()).map(Kind::Exec)
            }
        };
        match kind {
            Ok(kind) => {
                let now = Instant::now();
                let mut job = Job {
                    worker,
                    id,
                    limit,
                    deadline: Some(now + limit),
                    answered: false,
                    over: false,
                    kind,
                };
                job.go_on(now, true, &self.report);
                if !job.over {
                    self.jobs.push(job);
                }
            }
            Err(found) => (self.report)(Answer { worker, id, found }),
        }
    }

    /// One that was killed and cannot end keeps its place, so that they do not pile up.
    fn has_command(&self, worker: WorkerId) -> bool {
        self.jobs
            .iter()
            .any(|job| job.worker == worker && matches!(job.kind, Kind::Exec(_)))
    }

    /// Nothing can be known any more.
    fn give_up(mut self, error: Errno) {
        for job in &mut self.jobs {
            job.answer(Probed::Unknown(plain(&error.into())), &self.report);
        }
    }
}

impl Job {
    fn watch(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match &self.kind {
            Kind::Http(exchange) => vec![exchange.watch()],
            Kind::Tcp(knock) => knock.watch().into_iter().collect(),
            Kind::Exec(command) => command.watch().collect(),
        }
    }

    fn due(&self) -> Option<Instant> {
        let look = match &self.kind {
            Kind::Tcp(knock) => knock.look(),
            Kind::Http(_) | Kind::Exec(_) => None,
        };
        look.into_iter().chain(self.deadline).min()
    }

    fn go_on(&mut self, now: Instant, news: bool, report: &Report) {
        if !news && self.due().is_none_or(|due| due > now) {
            return;
        }
        // An answer that has come in time counts, also when we are late to see it.
        let step = match &mut self.kind {
            Kind::Http(exchange) => exchange.step(),
            Kind::Tcp(knock) => knock.step(now),
            Kind::Exec(command) => command.step(),
        };
        self.take(step, report);
        if !self.over && self.deadline.take_if(|deadline| *deadline <= now).is_some() {
            let step = match &mut self.kind {
                Kind::Http(exchange) => exchange.expire(self.limit),
                Kind::Tcp(knock) => knock.expire(self.limit),
                Kind::Exec(command) => command.expire(self.limit),
            };
            self.take(step, report);
        }
    }

    fn take(&mut self, step: Step, report: &Report) {
        match step {
            Step::Wait => {}
            Step::Answered(found) => self.answer(found, report),
            Step::Done(found) => {
                self.over = true;
                self.answer(found, report);
            }
            Step::Over => self.over = true,
        }
    }

    /// Once for each probe.
    fn answer(&mut self, found: Probed, report: &Report) {
        if !std::mem::replace(&mut self.answered, true) {
            report(Answer {
                worker: self.worker,
                id: self.id,
                found,
            });
        }
    }
}

fn timespec(limit: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    }
}
