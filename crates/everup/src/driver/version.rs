//! What the workers of one generation run.
//!
//! Job: keep what a reload may change apart for each generation that may still be started. What all generations share
//! (policy, channel, sockets) stays in the driver's [`Spec`].

use crate::confine::Confiner;
use crate::limits::Limits;
use crate::output::Stream;
use crate::spec::{OpenOutput, Output, Spec};
use everup_core::id::{Slot, WorkerId};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Version {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) clear_env: bool,
    pub(super) increments: Vec<OsString>,
    pub(super) secrets: Vec<(OsString, PathBuf)>,
    pub(super) instance_var: OsString,
    pub(super) watchdog: Option<Duration>,
    pub(super) limits: Limits,
    /// `None` until it is found out again by a successor.
    #[serde(skip)]
    confiner: Option<Arc<Confiner>>,
    /// Instead of the driver's.
    #[serde(skip)]
    output: Option<Arc<dyn OpenOutput>>,
}

impl Version {
    pub(crate) fn of(spec: &Spec, confiner: Confiner) -> Self {
        Self {
            program: spec.program.clone(),
            args: spec.args.clone(),
            cwd: spec.cwd.clone(),
            env: spec.env.clone(),
            clear_env: spec.clear_env,
            increments: spec.increments.clone(),
            secrets: spec.secrets.clone(),
            instance_var: spec.instance_var.clone(),
            watchdog: spec.watchdog,
            limits: spec.limits.clone(),
            confiner: Some(Arc::new(confiner)),
            output: match &spec.output {
                Output::Open(output) => Some(Arc::clone(output)),
                Output::Inherit | Output::Lines(_) | Output::Null => None,
            },
        }
    }

    /// Of a generation that was started before: nothing is tried out.
    pub(super) fn confiner(&mut self) -> Result<Arc<Confiner>, String> {
        if let Some(known) = &self.confiner {
            return Ok(Arc::clone(known));
        }
        let again = Confiner::again(&self.limits, self.cwd.as_deref(), &self.program);
        let confiner = Arc::new(again.map_err(|error| error.to_string())?);
        self.confiner = Some(Arc::clone(&confiner));
        Ok(confiner)
    }

    /// Where a worker's output goes, if this generation has a place of its own for it.
    pub(super) fn open(&self, worker: WorkerId, slot: Slot, stream: Stream) -> Option<io::Result<OwnedFd>> {
        Some(self.output.as_ref()?.open(worker, slot, stream))
    }
}
