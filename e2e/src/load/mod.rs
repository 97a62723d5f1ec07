//! The load client: many requests from one thread, every failure classified.
//!
//! It shares the machine with what it measures, so it does as little as it can: one epoll instance, sockets that
//! do not block, the request in the same breath as the connect, no allocation per request.

mod background;
mod client;
mod crowd;
mod keep_alive;
mod response;

pub use background::Background;
pub use client::run;
pub use crowd::{Answer, Crowd, Failed, Session, Tally};
pub use keep_alive::KeepAlive;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to; taken in turns. Several addresses of one server give more pairs of ports.
    pub targets: Vec<SocketAddr>,
    /// The request's path.
    pub path: String,
    /// Whether a connection is used more than once.
    pub keep_alive: bool,
    /// When the next request is sent.
    pub pace: Pace,
    /// When it is enough.
    pub length: Length,
    /// After this a request has failed.
    pub timeout: Duration,
}

/// When the next request is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many are always under way.
    Closed {
        /// How many.
        concurrency: usize,
    },
    /// So many per second, evenly, on fresh connections; later ones wait while too many are under way, so that a
    /// machine that cannot do it is not flooded.
    Open {
        /// How many.
        per_second: f64,
        /// How many may be under way.
        at_most: usize,
    },
}

/// When it is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// After so many requests.
    Requests(u64),
    /// After so long.
    For(Duration),
}

impl Plan {
    /// Fresh connections to `target`, as many at a time as given, until so many requests are done.
    #[must_use]
    pub fn fresh(target: SocketAddr, concurrency: usize, requests: u64) -> Self {
        Self {
            targets: vec![target],
            path: "/".into(),
            keep_alive: false,
            pace: Pace::Closed { concurrency },
            length: Length::Requests(requests),
            timeout: Duration::from_secs(10),
        }
    }

    /// The same, so many per second.
    #[must_use]
    pub fn open(target: SocketAddr, per_second: f64, requests: u64) -> Self {
        Self {
            pace: Pace::Open {
                per_second,
                at_most: 100,
            },
            ..Self::fresh(target, 1, requests)
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests begun.
    pub sent: u64,
    /// Whole answers with status 200.
    pub ok: u64,
    /// All others.
    pub failures: Vec<Failure>,
    /// Answers by their `X-Worker` header.
    pub workers: BTreeMap<String, u64>,
    /// From the beginning of a request to the end of its answer, in microseconds, sorted.
    pub latencies: Vec<u32>,
    /// How long it took in all.
    pub elapsed: Duration,
    /// The CPU time of this thread meanwhile.
    pub cpu: Duration,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub kind: Kind,
    /// The client's port.
    pub port: u16,
    /// When the request began, on the monotonic clock.
    pub began: Duration,
    /// When it had failed.
    pub ended: Duration,
}

/// What happened to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody listened.
    Refused,
    /// The connection was reset before a byte of the answer.
    Reset,
    /// The connection was reset in the answer.
    ResetMid,
    /// The connection was closed before the end of the answer.
    Eof,
    /// No whole answer in time.
    Timeout,
    /// A whole answer, but its status was not 200.
    Status(u16),
    /// An error of the client's own system (no free port, say).
    Client(i32),
}

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Refused => "refused".into(),
            Self::Reset => "reset".into(),
            Self::ResetMid => "reset_mid".into(),
            Self::Eof => "eof".into(),
            Self::Timeout => "timeout".into(),
            Self::Status(status) => format!("status_{status}"),
            Self::Client(errno) => format!("client_errno_{errno}"),
        }
    }
}

impl Report {
    /// The latency that this share of the answers was below.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to the length of a Vec"
        )]
        #[expect(clippy::cast_precision_loss, reason = "a rank among far fewer than 2^52")]
        let rank = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
        Duration::from_micros(self.latencies.get(rank).copied().unwrap_or_default().into())
    }

    /// Failures by kind.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for failure in &self.failures {
            *kinds.entry(failure.kind.name()).or_default() += 1;
        }
        kinds
    }

    /// Whole answers per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.ok as f64 / self.elapsed.as_secs_f64()
    }

    /// Everything as JSON; times in milliseconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let ms = |share| self.percentile(share).as_secs_f64() * 1e3;
        json!({
            "sent": self.sent,
            "ok": self.ok,
            "failed": self.failures.len(),
            "failures": self.kinds(),
            "workers": self.workers,
            "rate": self.rate(),
            "p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "p999": ms(0.999), "max": ms(1.0),
            "elapsed": self.elapsed.as_secs_f64(),
            "cpu": self.cpu.as_secs_f64(),
        })
    }
}
