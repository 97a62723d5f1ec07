//! Whether one worker is well: when it is probed, when its watchdog is late, and when enough is enough.
//!
//! ```text
//!            initial delay, then every interval
//! Resting ──────────── Verdict::Probe ───────────▶ Probing
//!    ▲                                                │ answered, or no answer in time
//!    └────────────────────────────────────────────────┤
//!                                                     └─ N failures in a row ──▶ Over  (Verdict::Unhealthy, once)
//! watchdog late, or triggered by the worker itself ────────────────────────────▶ Over
//! ```
//!
//! Job: turn answers of probes and pings of `sd_notify` into one verdict. Owner: [`crate::app::App`], one for each
//! worker, from the moment when it is ready (for readiness: when it was forked) until it leaves the rotation.
//! Must not know: how a probe is made, what becomes of an unhealthy worker.
//!
//! Invariants: at most one probe is under way; two probes begin at least an interval apart; an answer counts only for
//! the probe that it was given for; a probe that could not be made says nothing about the worker; `Unhealthy` is said
//! once, and nothing after it.
//!
//! The engine feeds what it has read (answers, pings) before it says [`Input::Tick`]: after a pause of the whole
//! machine the pings that wait in the socket count first.

use crate::notify::Watchdog;
use crate::time::{Time, short};
use std::fmt;
use std::time::Duration;

/// A probe may be late by this much before it is given up: it keeps the limit itself, and knows the reason better.
pub const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// How a worker is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct HealthPlan {
    /// Probes, if any are made.
    pub checks: Option<Checks>,
    /// It has to ping at least this often. `WATCHDOG_USEC=` changes it.
    pub watchdog: Option<Duration>,
}

/// How often a worker is probed, and what the answers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checks {
    /// From the beginning of a probe to that of the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy. 0: it never is, as while it starts.
    pub failures: u32,
    /// So many good answers in a row make it healthy. 0 is 1.
    pub successes: u32,
    /// Until the first probe.
    pub initial_delay: Duration,
}

impl Checks {
    /// Asks until the first good answer, for a worker that starts. Who gives up, and when, is not decided here.
    #[must_use]
    pub fn readiness(interval: Duration, timeout: Duration) -> Self {
        Self {
            interval,
            timeout,
            failures: 0,
            successes: 1,
            initial_delay: Duration::ZERO,
        }
    }
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            failures: 3,
            successes: 1,
            initial_delay: Duration::ZERO,
        }
    }
}

/// The number of a probe of one worker, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ProbeId(pub u64);

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Probed {
    /// It answered well.
    Ok,
    /// It did not, for this reason.
    Failed(String),
    /// The probe could not be made, for this reason: nothing is known.
    Unknown(String),
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A probe was answered.
    Probed(ProbeId, Probed),
    /// `WATCHDOG=`.
    Watchdog(Watchdog),
    /// `WATCHDOG_USEC=`: zero and a length that no clock reaches switch it off.
    WatchdogEvery(Duration),
}

/// What is to be done, or known.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[must_use]
pub enum Verdict {
    /// Nothing.
    Nothing,
    /// Probe it now, with this limit.
    Probe(ProbeId, Duration),
    /// It is well: for the first time, or again after a failure.
    Healthy,
    /// It is not, and will not be asked again.
    Unhealthy(Why),
}

/// Why a worker is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Why {
    /// Its probes failed.
    Probes {
        /// So many in a row.
        failures: u32,
        /// What was wrong with the last one.
        last: String,
    },
    /// It did not ping for this long.
    Silent(Duration),
    /// It said so itself (`WATCHDOG=trigger`).
    Triggered,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probes { failures: 1, last } => write!(f, "its probe failed: {last}"),
            Self::Probes { failures, last } => {
                write!(f, "{failures} probes in a row failed, the last one: {last}")
            }
            Self::Silent(limit) => write!(f, "no watchdog ping within {}", short(*limit)),
            Self::Triggered => f.write_str("it said that it is not well (WATCHDOG=trigger)"),
        }
    }
}

/// See the module's documentation.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Health {
    checks: Option<Checks>,
    state: State,
    watchdog: Option<Dog>,
    /// Of the next probe.
    next: u64,
    failed: u32,
    well: u32,
    healthy: bool,
    last: Option<String>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum State {
    /// The next probe is due then; `None` where there are no probes.
    Resting { due: Option<Time> },
    /// One is under way.
    Probing { id: ProbeId, begun: Time },
    /// It is unhealthy.
    Over,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Dog {
    limit: Duration,
    heard: Time,
}

impl Dog {
    fn new(limit: Duration, heard: Time) -> Option<Self> {
        // systemd's words for "none".
        let none = limit.is_zero() || limit == Duration::from_micros(u64::MAX);
        (!none).then_some(Self { limit, heard })
    }

    fn deadline(&self) -> Time {
        self.heard + self.limit
    }
}

impl Health {
    /// The probe that is under way.
    #[must_use]
    pub fn under_way(&self) -> Option<ProbeId> {
        match self.state {
            State::Probing { id, .. } => Some(id),
            State::Resting { .. } | State::Over => None,
        }
    }

    /// Watches from now on.
    #[must_use]
    pub fn new(now: Time, plan: HealthPlan) -> Self {
        Self {
            checks: plan.checks,
            state: State::Resting {
                due: plan.checks.map(|checks| now + checks.initial_delay),
            },
            watchdog: plan.watchdog.and_then(|limit| Dog::new(limit, now)),
            next: 1,
            failed: 0,
            well: 0,
            healthy: false,
            last: None,
        }
    }

    /// The same worker is watched in another way from now on: a late answer to a probe of before is not taken for one of
    /// the new ones'.
    #[must_use]
    pub fn after(self, before: Option<&Self>) -> Self {
        Self {
            next: before.map_or(self.next, |before| before.next),
            ..self
        }
    }

    /// Whether the last word about it was good.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.healthy
    }

    /// Failures in a row until now.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failed
    }

    /// What was wrong with it at the last probe, if something was.
    #[must_use]
    pub fn last_failure(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Takes what has happened. If more is due, [`next_deadline`](Self::next_deadline) is not later than now.
    pub fn handle(&mut self, now: Time, input: Input) -> Verdict {
        if matches!(self.state, State::Over) {
            return Verdict::Nothing;
        }
        match input {
            Input::Tick => self.tick(now),
            Input::Probed(id, found) => self.probed(now, id, found),
            Input::Watchdog(Watchdog::Ping) => {
                if let Some(dog) = &mut self.watchdog {
                    dog.heard = now;
                }
                Verdict::Nothing
            }
            Input::Watchdog(Watchdog::Trigger) => self.unhealthy(Why::Triggered),
            Input::WatchdogEvery(limit) => {
                self.watchdog = Dog::new(limit, now);
                Verdict::Nothing
            }
        }
    }

    /// When [`Input::Tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let probe = match self.state {
            State::Over => return None,
            State::Resting { due } => due,
            State::Probing { begun, .. } => self.checks.map(|checks| give_up(begun, checks)),
        };
        let watchdog = self.watchdog.as_ref().map(Dog::deadline);
        probe.into_iter().chain(watchdog).min()
    }

    fn tick(&mut self, now: Time) -> Verdict {
        if let Some(dog) = self.watchdog.as_ref().filter(|dog| dog.deadline() <= now) {
            return self.unhealthy(Why::Silent(dog.limit));
        }
        let Some(checks) = self.checks else {
            return Verdict::Nothing;
        };
        match self.state {
            State::Resting { due: Some(due) } if due <= now => {
                let id = ProbeId(self.next);
                self.next += 1;
                self.state = State::Probing { id, begun: now };
                Verdict::Probe(id, checks.timeout)
            }
            State::Probing { id, begun } if give_up(begun, checks) <= now => {
                let why = format!("no answer within {}", short(checks.timeout));
                self.probed(now, id, Probed::Failed(why))
            }
            State::Resting { .. } | State::Probing { .. } | State::Over => Verdict::Nothing,
        }
    }

    fn probed(&mut self, now: Time, answered: ProbeId, found: Probed) -> Verdict {
        let (Some(checks), State::Probing { id, begun }) = (self.checks, &self.state) else {
            return Verdict::Nothing;
        };
        if *id != answered {
            return Verdict::Nothing; // Of one that was given up.
        }
        let due = (*begun + checks.interval).max(now);
        self.state = State::Resting { due: Some(due) };
        match found {
            Probed::Ok => self.good(checks),
            Probed::Failed(last) => self.bad(checks, last),
            Probed::Unknown(_) => Verdict::Nothing,
        }
    }

    fn good(&mut self, checks: Checks) -> Verdict {
        self.failed = 0;
        self.last = None;
        self.well = self.well.saturating_add(1);
        let news = !self.healthy && self.well >= checks.successes;
        if !news {
            return Verdict::Nothing;
        }
        self.healthy = true;
        Verdict::Healthy
    }

    fn bad(&mut self, checks: Checks, last: String) -> Verdict {
        self.well = 0;
        self.healthy = false;
        self.failed = self.failed.saturating_add(1);
        self.last = Some(last.clone());
        if checks.failures == 0 || self.failed < checks.failures {
            return Verdict::Nothing;
        }
        let failures = self.failed;
        self.unhealthy(Why::Probes { failures, last })
    }

    fn unhealthy(&mut self, why: Why) -> Verdict {
        self.state = State::Over;
        self.healthy = false;
        Verdict::Unhealthy(why)
    }
}

fn give_up(begun: Time, checks: Checks) -> Time {
    begun + checks.timeout + ANSWER_GRACE
}
