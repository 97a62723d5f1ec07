//! How it is known that a worker serves: what counts as ready, and how it is watched afterwards. Plain values, already
//! valid; the decisions are [`everup_core::health`]'s.

use everup_core::health::Checks;
use everup_core::worker::Readiness;
use std::ffi::OsString;
use std::time::Duration;

/// A sign by which a worker is known to be ready. Where several are asked for, the first that comes counts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ReadySign {
    /// It listens (Node tells).
    Listening,
    /// It sends the message `ready` on the channel.
    Message,
    /// It sends `READY=1` to `NOTIFY_SOCKET`.
    Notify,
    /// It accepts a connection.
    Tcp,
    /// It answers a request well.
    Http {
        /// What is asked for.
        path: String,
        /// The `Host` of the request.
        host: String,
    },
    /// It has lived for this long.
    Uptime(Duration),
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ProbePlan {
    /// Asks for a path; a status from 200 to 399 is good.
    Http {
        /// What is asked for, from its `/` on.
        path: String,
        /// The `Host` of the request.
        host: String,
    },
    /// Connects; an accepted connection is good.
    Tcp,
    /// Runs a command; an exit code of 0 is good.
    Exec {
        /// The program, looked up in `PATH` when it has no slash, and its arguments. Not empty.
        argv: Vec<OsString>,
    },
}

/// How a ready worker is watched.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct HealthSpec {
    /// What is done.
    pub probe: ProbePlan,
    /// From the beginning of a probe to that of the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many failures in a row, and the worker is replaced.
    pub failures: u32,
}

/// What the machine looks for.
pub(crate) fn readiness(signs: &[ReadySign]) -> Readiness {
    if signs.is_empty() {
        return Readiness::default();
    }
    let has = |sign: &ReadySign| signs.contains(sign);
    Readiness {
        listening: has(&ReadySign::Listening),
        message: has(&ReadySign::Message),
        notify: has(&ReadySign::Notify),
        probe: signs
            .iter()
            .any(|sign| matches!(sign, ReadySign::Tcp | ReadySign::Http { .. })),
        uptime: signs.iter().find_map(|sign| match sign {
            ReadySign::Uptime(time) => Some(*time),
            _ => None,
        }),
        chosen: true,
    }
}

impl HealthSpec {
    /// This probe every 10 s, with 2 s for an answer; 3 failures in a row are too many.
    #[must_use]
    pub fn new(probe: ProbePlan) -> Self {
        let checks = Checks::default();
        Self {
            probe,
            interval: checks.interval,
            timeout: checks.timeout,
            failures: checks.failures,
        }
    }

    /// From the beginning of a probe to that of the next.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long an answer may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// So many failures in a row, and the worker is replaced.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// The same for the machine that judges. The first probe comes after one interval: the worker has just said that
    /// it is ready.
    pub(crate) fn checks(&self) -> Checks {
        Checks {
            interval: self.interval,
            timeout: self.timeout,
            failures: self.failures,
            successes: 1,
            initial_delay: self.interval,
        }
    }
}
