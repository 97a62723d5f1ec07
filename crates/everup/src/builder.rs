//! Describing a cluster step by step.
//!
//! A [`Builder`] is a [`Spec`] with short ways to what most programs set; [`Builder::spec_mut`] is the way to the rest.

use crate::cluster::{Cluster, Events, StartError};
use crate::conflict::MAX_WORKERS;
use crate::cpus::Cpus;
use crate::health::{HealthSpec, ReadySign};
use crate::limits::Limits;
use crate::program;
use crate::spec::{Channel, Listen, Output, Spec, StopPlan};
use everup_core::reload::Rollout;
use everup_core::restart::RestartPolicy;
use everup_core::schedule::Policy;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How many workers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// One for each CPU that this process may use: its affinity mask and the quotas of its control groups count, a
    /// quota rounded up ([`Cpus::usable`]). At most [`MAX_WORKERS`].
    PerCpu,
    /// So many. 0 starts none: [`Cluster::fork`] does.
    Exactly(u32),
}

impl Workers {
    fn count(self) -> u32 {
        match self {
            Self::PerCpu => Cpus::detect().usable.min(MAX_WORKERS),
            Self::Exactly(count) => count,
        }
    }
}

impl From<u32> for Workers {
    fn from(count: u32) -> Self {
        Self::Exactly(count)
    }
}

/// Describes a cluster, and starts it. From [`Cluster::builder`].
///
/// Without more, the workers are this same program with this process's own arguments, one for each CPU: its `main`
/// asks first whether it is a worker. The policy, the restarts and so on are [`Spec::new`]'s.
///
/// ```no_run
/// use everup::{Cluster, Policy, RestartPolicy, Workers};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// Cluster::builder()
///     .workers(Workers::PerCpu)
///     .policy(Policy::LeastConnections)
///     .restart(RestartPolicy::default().stop_code(64))
///     .env("LOG", "info")
///     .run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing runs before `start` or `run`"]
pub struct Builder {
    spec: Spec,
    /// Why we do not know our own program, while the workers would be that.
    unknown: Option<io::Error>,
    /// Whether the workers are this same program.
    own: bool,
}

impl Cluster {
    /// Describes a cluster whose workers are this same program.
    ///
    /// Where that is is found out now, once: when the file at its path is replaced, [`reload`](Self::reload) starts the
    /// new one. If this process was started through a symbolic link, the link is kept, and where it leads to is looked
    /// up at each start of a worker.
    pub fn builder() -> Builder {
        let (program, unknown) = match program::own() {
            Ok(program) => (program, None),
            Err(error) => (PathBuf::new(), Some(error)),
        };
        let mut spec = Spec::new(program);
        spec.args = std::env::args_os().skip(1).collect();
        spec.workers = Workers::PerCpu.count();
        Builder {
            spec,
            unknown,
            own: true,
        }
    }
}

impl Builder {
    /// The workers are this program, without arguments; [`args`](Self::args) gives some. Looked up in `PATH` when it
    /// has no slash. Its name becomes the cluster's.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        self.spec.name = Spec::new(&program).name;
        self.spec.program = program;
        self.spec.args = Vec::new();
        (self.own, self.unknown) = (false, None);
        self
    }

    /// The workers are this Node script: the program is `node`, its argument the script, whose name becomes the
    /// cluster's. More arguments for the script: [`arg`](Self::arg) after this.
    pub fn node(self, script: impl Into<PathBuf>) -> Self {
        let script = script.into();
        let name = Spec::new(&script).name;
        self.program("node").name(name).arg(script)
    }

    /// Shown in events and errors.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.spec.name = name.into();
        self
    }

    /// One argument more.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.spec.args.push(arg.into());
        self
    }

    /// These arguments, instead of those before; without the program's own name.
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.spec.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// A variable of the workers' environment, added to (and winning over) our own.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.spec.env.push((name.into(), value.into()));
        self
    }

    /// The workers' working directory; without it, ours.
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spec.cwd = Some(folder.into());
        self
    }

    /// How many workers are kept: `Workers::PerCpu`, or a number.
    pub fn workers(mut self, workers: impl Into<Workers>) -> Self {
        self.spec.workers = workers.into().count();
        self
    }

    /// Who gets the next connection.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.spec.policy = policy;
        self
    }

    /// What kind of channel the workers get.
    pub fn channel(mut self, channel: Channel) -> Self {
        self.spec.channel = channel;
        self
    }

    /// One more socket that is bound here, and passed to the workers by `LISTEN_FDS`.
    pub fn listen(mut self, listen: Listen) -> Self {
        self.spec.listen.push(listen);
        self
    }

    /// What becomes of the workers' standard output and error.
    pub fn output(mut self, output: Output) -> Self {
        self.spec.output = output;
        self
    }

    /// What happens when a worker dies.
    pub fn restart(mut self, restart: RestartPolicy) -> Self {
        self.spec.restart = restart;
        self
    }

    /// One more sign that makes a worker ready; the first that comes counts. Without any: see [`Spec::ready`].
    pub fn ready(mut self, sign: ReadySign) -> Self {
        self.spec.ready.push(sign);
        self
    }

    /// How long a worker may take until it is ready.
    pub fn listen_timeout(mut self, limit: Duration) -> Self {
        self.spec.listen_timeout = Some(limit);
        self
    }

    /// How a ready worker is watched.
    pub fn health(mut self, health: HealthSpec) -> Self {
        self.spec.health = Some(health);
        self
    }

    /// How a worker is stopped.
    pub fn stop(mut self, plan: StopPlan) -> Self {
        self.spec.stop = plan;
        self
    }

    /// How reloads go.
    pub fn rollout(mut self, rollout: Rollout) -> Self {
        self.spec.rollout = rollout;
        self
    }

    /// How many workers more stand by.
    pub fn spares(mut self, spares: u32) -> Self {
        self.spec.spares = spares;
        self
    }

    /// What every worker may use, and as whom it runs.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.spec.limits = limits;
        self
    }

    /// Everything about the cluster, to be changed.
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Everything about the cluster, for [`Cluster::start`].
    ///
    /// # Errors
    /// [`StartError::OwnProgram`], [`StartError::IsWorker`]: see there.
    pub fn into_spec(self) -> Result<Spec, StartError> {
        match self.unknown {
            Some(error) if self.own && self.spec.program.as_os_str().is_empty() => {
                Err(StartError::OwnProgram(error))
            }
            _ if self.own && is_worker() => Err(StartError::IsWorker),
            _ => Ok(self.spec),
        }
    }

    /// Starts the engine and the first workers.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind then.
    pub fn start(self) -> Result<(Cluster, Events), StartError> {
        Cluster::start(self.into_spec()?)
    }
}

/// Whether a primary has given us a place in its cluster, and `Worker::from_env` has not taken it: that removes these
/// variables.
fn is_worker() -> bool {
    ["NODE_CHANNEL_FD", "NODE_UNIQUE_ID"]
        .iter()
        .all(|name| std::env::var_os(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_the_workers_are_this_program() {
        let builder = Cluster::builder();
        let own = std::fs::canonicalize("/proc/self/exe").unwrap();
        assert_eq!(std::fs::canonicalize(&builder.spec.program).unwrap(), own);
        assert!(builder.spec.program.is_absolute());
        assert_eq!(builder.spec.args, std::env::args_os().skip(1).collect::<Vec<_>>());
        assert_eq!(builder.spec.workers, Cpus::detect().usable.min(MAX_WORKERS));
    }

    #[test]
    fn another_program_has_its_own_arguments_and_name() {
        let spec = Cluster::builder()
            .node("app/web.js")
            .arg("--port=0")
            .workers(3)
            .into_spec()
            .unwrap();
        assert_eq!((spec.name.as_str(), spec.workers), ("web", 3));
        assert_eq!(spec.program, PathBuf::from("node"));
        assert_eq!(spec.args, ["app/web.js", "--port=0"]);
        let spec = Cluster::builder().program("/bin/true").into_spec().unwrap();
        assert_eq!((spec.name.as_str(), spec.args.len()), ("true", 0));
    }

    #[test]
    fn what_has_no_method_is_in_the_spec() {
        let mut builder = Cluster::builder()
            .program("true")
            .args(["a"])
            .env("K", "V")
            .cwd("/");
        builder.spec_mut().memory_limit = Some(1 << 30);
        let spec = builder.into_spec().unwrap();
        assert_eq!(spec.memory_limit, Some(1 << 30));
        assert_eq!(spec.env, [(OsString::from("K"), OsString::from("V"))]);
        assert_eq!(spec.cwd, Some(PathBuf::from("/")));
    }
}
