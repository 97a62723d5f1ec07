//! Why a worker is asked to go although it would have stayed.

use std::fmt;

/// Why the supervisor replaces or removes a worker. Recorded with its exit, so that `why` can name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// A reload that an operator asked for.
    Reload,
    /// A restart (stop, then start) that an operator asked for.
    Restart,
    /// A reload at a time (cron).
    Cron,
    /// A reload because files changed.
    Watch,
    /// The cluster was scaled down.
    Scale,
    /// Its process tree uses more memory than it may.
    Memory {
        /// What it used, in bytes.
        bytes: u64,
        /// What it may use, in bytes.
        limit: u64,
    },
    /// It has lived for as long as it may.
    MaxAge,
    /// It failed its liveness probe.
    Probe,
    /// It did not send `WATCHDOG=1` in time, or asked for the watchdog's action itself.
    Watchdog,
    /// It did not acknowledge a connection in time.
    Stuck,
    /// A reload failed: the new worker goes again.
    Rollback,
}

impl Cause {
    /// Its stable name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Cron => "cron",
            Self::Watch => "watch",
            Self::Scale => "scale",
            Self::Memory { .. } => "memory",
            Self::MaxAge => "max_age",
            Self::Probe => "probe",
            Self::Watchdog => "watchdog",
            Self::Stuck => "stuck",
            Self::Rollback => "rollback",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload => f.write_str("reload"),
            Self::Restart => f.write_str("restart"),
            Self::Cron => f.write_str("cron"),
            Self::Watch => f.write_str("files changed"),
            Self::Scale => f.write_str("scaled down"),
            Self::Memory { bytes, limit } => {
                let mib = |bytes: &u64| bytes / (1024 * 1024);
                write!(f, "memory: {} MiB of {} MiB", mib(bytes), mib(limit))
            }
            Self::MaxAge => f.write_str("its maximum age"),
            Self::Probe => f.write_str("failed liveness probe"),
            Self::Watchdog => f.write_str("watchdog"),
            Self::Stuck => f.write_str("stuck: it did not acknowledge a connection"),
            Self::Rollback => f.write_str("rollback of a reload"),
        }
    }
}
