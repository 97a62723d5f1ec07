//! What operators do to a running cluster, whichever way they ask: by a signal, through the control socket, or by a
//! trigger that they have set.
//!
//! A reload reads the env files again: what a worker gets is always what they say now, with `--env` on top.

use crate::error::CliError;
use crate::plan::EnvSource;
use crate::triggers::Trigger;
use everup::{Cause, Cluster, MAX_WORKERS, Reload, Reloading, Rollout};
use std::sync::{Arc, Weak};

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    cluster: Weak<Cluster>,
    env: Arc<EnvSource>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the app is stopping")]
    Stopping,
    #[error("nothing is changed: {0}")]
    Env(String),
    #[error("not more than {MAX_WORKERS} workers")]
    TooMany,
}

impl Operator {
    pub(crate) fn new(cluster: &Arc<Cluster>, env: EnvSource) -> Self {
        Self {
            cluster: Arc::downgrade(cluster),
            env: Arc::new(env),
        }
    }

    /// The cluster, as long as it runs. Not to be kept: its owner waits for it.
    pub(crate) fn cluster(&self) -> Result<Arc<Cluster>, Refusal> {
        self.cluster.upgrade().ok_or(Refusal::Stopping)
    }

    pub(crate) fn reload(&self, cause: Cause, rollout: Option<Rollout>) -> Result<Reloading, Refusal> {
        let env = self
            .env
            .read()
            .map_err(|error: CliError| Refusal::Env(error.message()))?;
        let mut reload = Reload::new().cause(cause).replace_env(env);
        reload.rollout = rollout;
        self.cluster()?.reload(reload).ok_or(Refusal::Stopping)
    }

    /// A trigger: a reload is waited for, so that what changes meanwhile makes one more, and not many.
    pub(crate) fn fire(&self, trigger: &Trigger) -> Result<(), Refusal> {
        let cause = match trigger {
            Trigger::Cron { .. } => Cause::Cron,
            Trigger::Watch { .. } => Cause::Watch,
            Trigger::Schedule => {
                self.cluster()?.launch();
                return Ok(());
            }
        };
        self.reload(cause, None)?.wait_rolled();
        Ok(())
    }

    /// Another number of workers; gives the old one and the new one.
    pub(crate) fn scale(&self, to: impl FnOnce(u32) -> Option<u32>) -> Result<(u32, u32), Refusal> {
        let cluster = self.cluster()?;
        let from = cluster.status().ok_or(Refusal::Stopping)?.target;
        let to = to(from).filter(|to| *to <= MAX_WORKERS).ok_or(Refusal::TooMany)?;
        if from != to {
            cluster.scale(to);
        }
        Ok((from, to))
    }

    /// There are no log files of ours in the foreground.
    pub(crate) fn reopen() -> &'static str {
        "nothing to reopen: `everup run` writes to its own standard output and error"
    }
}
