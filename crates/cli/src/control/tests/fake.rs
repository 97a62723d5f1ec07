//! A cluster that is none: it says what a test wants to hear, and waits where a test wants to look.

use crate::control::Operator;
use api::{Error, ErrorCode, Outcome, Phase, Progress, Receipt};
use everup_api as api;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// More progress than a socket's queue holds.
pub(super) const FLOOD: u32 = 20_000;
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct Fake {
    /// A reload goes on when it is open.
    pub(super) gate: Gate,
    pub(super) reloads: Counter,
    pub(super) restarts: Counter,
    workers: AtomicU32,
}

impl Fake {
    pub(super) fn set_workers(&self, workers: u32) {
        self.workers.store(workers, Ordering::SeqCst);
    }

    fn workers(&self) -> u32 {
        match self.workers.load(Ordering::SeqCst) {
            0 => 2,
            workers => workers,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Gate(Counter);

impl Gate {
    pub(super) fn open(&self) {
        self.0.add();
    }
}

/// Counts, and can be waited for.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<u32>, Condvar);

impl Counter {
    fn add(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    pub(super) fn wait_for(&self, number: u32) {
        let waited = self
            .1
            .wait_timeout_while(self.0.lock().unwrap(), LIMIT, |count| *count < number)
            .unwrap();
        assert!(!waited.1.timed_out(), "it never came to {number}");
    }
}

fn worker(worker: u32) -> api::WorkerStatus {
    api::WorkerStatus {
        worker,
        slot: worker - 1,
        pid: 1000 + worker,
        generation: 1,
        role: api::Role::Active,
        state: api::WorkerState::Ready,
        uptime_ms: 1000,
        connections: Some(1),
        accepted: 10,
        memory: None,
        restarts: 0,
        status_text: None,
        draining_ms: None,
    }
}

fn exit(worker: u32) -> api::Exit {
    api::Exit {
        worker,
        slot: 0,
        pid: 1000 + worker,
        generation: 1,
        at: "2026-08-05T12:34:56.789Z".into(),
        uptime_ms: 1,
        status: api::ExitStatus::Code { code: 1 },
        reason: "own".into(),
        cause: "it exited with code 1".into(),
        oom: false,
        forced: false,
        last_lines: vec![],
        lines_known: true,
        then: "replaced at once".into(),
    }
}

fn receipt(cause: &str) -> Receipt {
    Receipt {
        outcome: Outcome::Done,
        reason: None,
        generation: 2,
        cause: cause.into(),
        workers: vec![],
        duration_ms: 1,
        connections_moved: 0,
        connections_cut: 0,
        requests_lost: Some(0),
        lost_unknown_because: None,
        queue_overflows: Some(0),
        still_draining: 0,
    }
}

fn step(done: u32) -> Progress {
    Progress {
        phase: Phase::Rolling,
        done,
        total: 2,
        message: "on we go".into(),
    }
}

impl Operator for Fake {
    fn ping(&self) -> api::Pong {
        api::Pong {
            pid: std::process::id(),
            app: "fake".into(),
            version: "1".into(),
            protocol: api::PROTOCOL,
        }
    }

    fn status(&self) -> Result<api::Status, Error> {
        Ok(api::Status {
            app: "fake".into(),
            pid: 1,
            generation: 1,
            target: 2,
            spares: 0,
            uptime_ms: 1,
            reload: None,
            workers: (1..=self.workers()).map(worker).collect(),
            storm: None,
        })
    }

    fn why(&self, request: api::WhyRequest) -> Result<api::Why, Error> {
        Ok(api::Why {
            app: "fake".into(),
            summary: format!("asked for {:?} and {:?}", request.worker, request.limit),
            exits: (1..=self.workers()).rev().map(exit).collect(),
            reloads: vec![],
            omitted: 0,
        })
    }

    /// Waits for the gate after the first step.
    fn reload(
        &self,
        _request: api::ReloadRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Receipt, Error> {
        progress(step(0));
        self.gate.0.wait_for(1);
        progress(step(1));
        progress(step(2));
        self.reloads.add();
        Ok(receipt("reload"))
    }

    fn abort(&self) -> Result<api::Aborted, Error> {
        Ok(api::Aborted { aborted: false })
    }

    fn scale(&self, request: api::ScaleRequest) -> Result<api::Scaled, Error> {
        let to = request.workers.of(2);
        Ok(api::Scaled {
            from: 2,
            to,
            ready: to,
        })
    }

    /// Tells a lot.
    fn restart(
        &self,
        _request: api::RestartRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Receipt, Error> {
        (0..FLOOD).for_each(|done| progress(step(done)));
        self.restarts.add();
        Ok(receipt("restart"))
    }

    fn stop(&self, _request: api::StopRequest) -> Result<api::Stopping, Error> {
        Ok(api::Stopping { stopping: true })
    }

    fn reopen(&self) -> Result<api::Reopened, Error> {
        Ok(api::Reopened {
            reopened: 2,
            message: "2 log files opened anew".into(),
        })
    }

    /// As many as its number.
    fn signal(&self, signal: i32, worker: Option<u32>) -> Result<api::Signalled, Error> {
        match worker {
            Some(worker) => Err(Error::new(
                ErrorCode::UnknownWorker,
                format!("there is no worker {worker}"),
            )),
            None => Ok(api::Signalled {
                sent: signal.unsigned_abs(),
            }),
        }
    }

    fn launch(&self) -> Result<api::Launched, Error> {
        Err(Error::new(ErrorCode::Unsupported, "there is no scheduled job"))
    }
}
