//! The running cluster as the [`Operator`] of the control socket.
//!
//! It does not own the cluster: when that is gone, every request is answered with `stopping`.

use super::Operator;
use crate::operate;
use api::{Error, ErrorCode};
use everup::Cluster;
use everup_api as api;
use std::sync::Arc;

/// Our own cluster.
#[derive(Debug)]
pub(crate) struct Ours {
    app: String,
    operator: operate::Operator,
}

impl Ours {
    pub(crate) fn new(app: String, operator: operate::Operator) -> Self {
        Self { app, operator }
    }

    fn cluster(&self) -> Result<Arc<Cluster>, Error> {
        self.operator
            .cluster()
            .map_err(|refusal| Error::new(ErrorCode::Stopping, refusal.to_string()))
    }
}

/// What the engine cannot do yet.
fn unsupported<T>(verb: &str) -> Result<T, Error> {
    let message = format!("this version of everup cannot {verb} yet");
    Err(Error::new(ErrorCode::Unsupported, message))
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
        unsupported("tell its status")
    }

    fn why(&self, _request: api::WhyRequest) -> Result<api::Why, Error> {
        unsupported("tell why")
    }

    fn reload(
        &self,
        _request: api::ReloadRequest,
        _progress: &mut dyn FnMut(api::Progress),
    ) -> Result<api::Receipt, Error> {
        unsupported("reload")
    }

    fn abort(&self) -> Result<api::Aborted, Error> {
        Ok(api::Aborted { aborted: false })
    }

    fn scale(&self, _request: api::ScaleRequest) -> Result<api::Scaled, Error> {
        unsupported("scale")
    }

    fn restart(
        &self,
        _request: api::RestartRequest,
        _progress: &mut dyn FnMut(api::Progress),
    ) -> Result<api::Receipt, Error> {
        unsupported("restart")
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
        unsupported("reopen log files")
    }

    fn signal(&self, signal: i32, worker: Option<u32>) -> Result<api::Signalled, Error> {
        let cluster = self.cluster()?;
        let workers = cluster.workers();
        let chosen: Vec<_> = workers
            .iter()
            .filter(|info| worker.is_none_or(|worker| info.id.0 == worker))
            .collect();
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
        unsupported("start a job")
    }
}
