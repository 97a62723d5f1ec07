//! What a worker may use, and who it is: plain values, already valid.
//!
//! Job: say it. [`Limits::default`] changes nothing. Whether the system lets us do it is found out by
//! [`Cluster::start`](crate::Cluster::start) before anything is started, by a rehearsal (the module `confine`); how it
//! is done is the module `sys`'s.
//!
//! Must not know: options, workers that run, control groups' files.

mod capability;
pub mod descriptors;
mod identity;
mod resource;

pub use capability::Capability;
pub use identity::{Identity, IdentityError};
pub use resource::{Resource, Rlimit};

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

/// What every worker may use, and who it is. The default leaves all as it is for us.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// As whom it runs.
    pub identity: Option<Identity>,
    /// Files that it must be able to read, such as its script: looked at before the start if it has an identity of its
    /// own.
    pub readable: Vec<PathBuf>,
    /// Its file mode creation mask, 0 to 0o777.
    pub umask: Option<u32>,
    /// Its nice value, -20 to 19.
    pub nice: Option<i32>,
    /// Its resource limits.
    pub rlimits: BTreeMap<Resource, Rlimit>,
    /// The CPUs that it may use.
    pub affinity: Option<Affinity>,
    /// How gladly the kernel kills it when memory is short, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Neither it nor what it starts ever gains a privilege by executing a file.
    pub no_new_privs: bool,
    /// What it keeps of root's power without being root, as ambient capabilities.
    pub keep_caps: BTreeSet<Capability>,
    /// Limits of a control group (version 2) of its own.
    pub cgroup: CgroupLimits,
}

/// Which CPUs a worker may use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Affinity {
    /// One each: the slot's turn among the CPUs that we may use ourselves.
    OneEach,
    /// These, all workers alike. Not empty; numbers below 1024.
    Cpus(BTreeSet<u32>),
}

/// Limits that need a control group of version 2. Nothing is asked for by default, and no group is made then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct CgroupLimits {
    /// Bytes of memory at which the kernel kills (`memory.max`).
    pub memory_max: Option<u64>,
    /// Bytes of memory from which on it is slowed down (`memory.high`).
    pub memory_high: Option<u64>,
    /// Thousandths of a CPU's time (`cpu.max`), at least 10.
    pub milli_cpus: Option<u32>,
    /// How many processes and threads (`pids.max`).
    pub pids_max: Option<u64>,
}

impl CgroupLimits {
    /// Whether anything is asked for.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Why a worker cannot be given its limits. Nothing has been started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// The system refuses it.
    #[error("{what}")]
    Refused {
        /// What was tried.
        what: String,
        /// What it takes, if that is known.
        needs: Option<String>,
        /// Why not.
        source: io::Error,
    },
    /// The worker would not get at its directory or program.
    #[error("let {user} {what}")]
    OutOfReach {
        /// The worker's user.
        user: String,
        /// What it cannot do.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The worker would run, and we could not end it.
    #[error("end workers that run as {user}: CAP_KILL is missing")]
    NoKill {
        /// The worker's user.
        user: String,
    },
    /// Root has all capabilities: keeping some means nothing.
    #[error("keep capabilities for a worker that is root: it has them all")]
    RootKeepsAll,
    /// A controller is not there in version 2.
    #[error("limit a worker's {controller}: {why}")]
    NoController {
        /// `memory`, `cpu` or `pids`.
        controller: &'static str,
        /// Where it is instead.
        why: &'static str,
    },
    /// Our own control group is not ours to divide.
    #[error("divide the control group {}", group.display())]
    NotDelegated {
        /// Its directory.
        group: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Other processes live in our control group.
    #[error("divide the control group {}: other processes are in it", group.display())]
    Occupied {
        /// Its directory.
        group: PathBuf,
    },
}

impl LimitsError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let delegate = "start everup where control groups are delegated: a systemd unit with Delegate=yes, \
                        `systemd-run --scope -p Delegate=yes everup run ...`, or a container of its own";
        Some(match self {
            Self::Refused { needs, .. } => return needs.clone(),
            Self::OutOfReach { .. } => {
                "put it where that user may read and execute it; every folder on the way counts".into()
            }
            Self::NoKill { .. } => "run everup as root, or give it CAP_KILL too".into(),
            Self::RootKeepsAll => "choose another user for the workers, or leave the capabilities out".into(),
            Self::NoController { .. } => {
                "this needs control groups of version 2 (the unified hierarchy of systemd, or the kernel option \
                 cgroup_no_v1=all) with this controller"
                    .into()
            }
            Self::NotDelegated { .. } | Self::Occupied { .. } => delegate.into(),
        })
    }
}
