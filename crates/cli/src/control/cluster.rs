//! The running cluster as the [`Operator`] of the control socket.
//!
//! It does not own the cluster, and holds it only for moments: its owner waits for it. When it is gone, every request
//! is answered with `stopping`.

use super::{Operator, view};
use crate::operate::{self, Refusal};
use api::{Error, ErrorCode};
use everup::{Cause, Cluster, Reloading, Role, Rollout, State, Status};
use everup_api as api;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at what goes on.
const LOOK: Duration = Duration::from_millis(100);
/// How long `scale` waits for the workers.
const SCALE_LIMIT: Duration = Duration::from_secs(30);
/// How many exits are told of, if nobody says how many.
const EXITS: u32 = 20;

/// Our own cluster.
#[derive(Debug)]
pub(crate) struct Ours {
    app: String,
    /// Whether it runs on schedule.
    job: bool,
    operator: operate::Operator,
    begun: Instant,
}

impl Ours {
    pub(crate) fn new(app: String, job: bool, operator: operate::Operator) -> Self {
        Self {
            app,
            job,
            operator,
            begun: Instant::now(),
        }
    }

    fn cluster(&self) -> Result<Arc<Cluster>, Error> {
        self.operator.cluster().map_err(refused)
    }

    fn now(&self) -> Result<Status, Error> {
        self.cluster()?.status().ok_or_else(|| refused(Refusal::Stopping))
    }

    /// Tells of each step, and waits for the receipt.
    fn follow(
        &self,
        reloading: &Reloading,
        progress: &mut dyn FnMut(api::Progress),
    ) -> Result<api::Receipt, Error> {
        let mut last = None;
        loop {
            if let Some(receipt) = reloading.wait(Some(LOOK)) {
                return Ok(view::receipt(&receipt));
            }
            let step = view::progress(reloading.generation(), &self.now()?);
            if last.as_ref() != Some(&step) {
                progress(step.clone());
                last = Some(step);
            }
        }
    }

    fn replace(
        &self,
        cause: Cause,
        rollout: Option<Rollout>,
        progress: &mut dyn FnMut(api::Progress),
    ) -> Result<api::Receipt, Error> {
        let reloading = self.operator.reload(cause, rollout).map_err(refused)?;
        self.follow(&reloading, progress)
    }

    /// How many serve, when it is as many as wanted, or after the limit.
    fn settled(&self, wanted: u32) -> Result<u32, Error> {
        let begun = Instant::now();
        loop {
            let status = self.now()?;
            let active = status.workers.iter().filter(|worker| worker.role == Role::Active);
            let ready = active.filter(|worker| worker.state == State::Online).count();
            let ready = u32::try_from(ready).unwrap_or(u32::MAX);
            // Somebody else may have scaled it meanwhile.
            if ready == wanted || status.target != wanted || begun.elapsed() > SCALE_LIMIT {
                return Ok(ready);
            }
            thread::sleep(LOOK);
        }
    }
}

fn refused(refusal: Refusal) -> Error {
    let code = match refusal {
        Refusal::Stopping => ErrorCode::Stopping,
        Refusal::Env(_) => ErrorCode::Conflict,
        Refusal::TooMany => ErrorCode::InvalidValue,
    };
    Error::new(code, refusal.to_string())
}

impl Operator for Ours {
    fn ping(&self) -> api::Pong {
        api::Pong {
            pid: std::process::id(),
            app: self.app.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: api::PROTOCOL,
        }
    }

    fn status(&self) -> Result<api::Status, Error> {
        Ok(view::status(&self.app, self.begun.elapsed(), &self.now()?))
    }

    fn why(&self, request: api::WhyRequest) -> Result<api::Why, Error> {
        let cluster = self.cluster()?;
        let (exits, receipts) = (cluster.exits(), cluster.receipts());
        drop(cluster);
        let limit = request.limit.unwrap_or(EXITS);
        if limit == 0 {
            let hint = "leave it out for the last few, or give 1 or more";
            return Err(Error::new(ErrorCode::InvalidValue, "`limit` cannot be 0").with_hint(hint));
        }
        Ok(view::why(&self.app, &exits, &receipts, request.worker, limit))
    }

    fn reload(
        &self,
        _request: api::ReloadRequest,
        progress: &mut dyn FnMut(api::Progress),
    ) -> Result<api::Receipt, Error> {
        self.replace(Cause::Reload, None, progress)
    }

    fn abort(&self) -> Result<api::Aborted, Error> {
        let under_way = |reload: everup::ReloadStatus| reload.phase != everup::Phase::Draining;
        let aborted = self.now()?.reload.is_some_and(under_way);
        self.cluster()?.abort_reload();
        Ok(api::Aborted { aborted })
    }

    fn scale(&self, request: api::ScaleRequest) -> Result<api::Scaled, Error> {
        let from = self.now()?.target;
        if let api::Amount::Fewer(fewer) = request.workers
            && fewer > from
        {
            let what = format!("there are only {from} workers, and not {fewer} to take away");
            return Err(
                Error::new(ErrorCode::InvalidValue, what).with_hint("write 0 to take all of them away")
            );
        }
        let scaled = self.operator.scale(|from| Some(request.workers.of(from)));
        let (from, to) = scaled.map_err(refused)?;
        let ready = self.settled(to)?;
        Ok(api::Scaled { from, to, ready })
    }

    fn restart(
        &self,
        _request: api::RestartRequest,
        progress: &mut dyn FnMut(api::Progress),
    ) -> Result<api::Receipt, Error> {
        self.replace(Cause::Restart, Some(Rollout::restart()), progress)
    }

    fn stop(&self, request: api::StopRequest) -> Result<api::Stopping, Error> {
        let cluster = self.cluster()?;
        if request.now {
            cluster.stop_now();
        } else {
            cluster.stop();
        }
        Ok(api::Stopping { stopping: true })
    }

    fn reopen(&self) -> Result<api::Reopened, Error> {
        let message = operate::Operator::reopen().into();
        Ok(api::Reopened { reopened: 0, message })
    }

    fn signal(&self, signal: i32, worker: Option<u32>) -> Result<api::Signalled, Error> {
        let cluster = self.cluster()?;
        let mut chosen = cluster.workers();
        chosen.retain(|info| worker.is_none_or(|worker| info.id.0 == worker));
        if let (Some(worker), []) = (worker, chosen.as_slice()) {
            let error = Error::new(ErrorCode::UnknownWorker, format!("there is no worker {worker}"));
            return Err(error.with_hint("`everup status` shows who is there"));
        }
        chosen.iter().for_each(|info| cluster.kill(info.id, signal));
        Ok(api::Signalled {
            sent: u32::try_from(chosen.len()).unwrap_or(u32::MAX),
        })
    }

    fn launch(&self) -> Result<api::Launched, Error> {
        if !self.job {
            let error = Error::new(ErrorCode::Unsupported, "this app is no scheduled job");
            return Err(error.with_hint("run it with --schedule"));
        }
        let running = self.now()?.workers.len();
        let launched = running == 0;
        if launched {
            self.cluster()?.launch();
        }
        let message = match launched {
            true => "the job is started".into(),
            false => "the job still runs: it is not started again".into(),
        };
        Ok(api::Launched { launched, message })
    }
}
