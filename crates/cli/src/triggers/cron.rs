//! Times: `--cron-restart` and `--schedule`.
//!
//! Job: find the next time of an [`Expression`] (by croner, whose sister of the same name pm2 uses), sleep, and call.
//! [`Clock`] decides, without a clock of its own; the thread reads the system's.
//!
//! ```text
//! Waiting(next) ─ next has come ─▶ fire once ─▶ Waiting(the next after now)
//!       │ ├─ it is more than [`LATE`] ago ─▶ told, not fired
//!       │ └─ the clock went back by more than [`BACK`] ─▶ Waiting(the next after now)
//!       └─ there is none ─▶ Over
//! ```
//!
//! Invariants: no time fires twice, also when the clock goes back a little; times that were slept through (suspend) fire
//! once together, or are told; a jump of the clock is seen within [`LONGEST`]. Must not know: what is done at the time.

use super::{Calls, Handle, Trigger};
use croner::Cron;
use croner::parser::CronParser;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use std::io;
use std::time::Duration;

/// Nobody tells us of a jump of the clock, so we look again at least so often.
const LONGEST: Duration = Duration::from_secs(60);
/// A time that is longer ago has been missed: the machine slept, or its clock was wrong.
const LATE: SignedDuration = SignedDuration::from_hours(3);
/// A clock that goes back further has been wrong; less is an adjustment.
const BACK: SignedDuration = SignedDuration::from_mins(5);

/// Why a text is no cron expression.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CronError {
    #[error("it is empty")]
    Empty,
    #[error("it has {found} of the 5 to 7 fields")]
    Fields { found: usize },
    #[error("`{text}` is no {field} (field {number})")]
    Field {
        number: usize,
        field: &'static str,
        text: String,
    },
    #[error("`{name}` is not known")]
    Nickname { name: String },
    #[error("there is no such time")]
    Never,
    #[error("{reason}")]
    Other { reason: String },
}

/// Why a text is no time zone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZoneError {
    #[error("no time zone has this name")]
    Unknown,
    #[error("the time zones of this system are not installed")]
    NotInstalled,
}

impl CronError {
    pub(crate) const HINT: &'static str = "write [second] minute hour day-of-month month day-of-week: `0 3 * * *` is daily at 3:00, `*/30 * * * * *` \
         twice a minute; or @hourly, @daily, @weekly, @monthly, @yearly";
}

impl ZoneError {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Unknown => "write a name such as Europe/Berlin, America/New_York or UTC",
            Self::NotInstalled => "install the package tzdata, or write UTC",
        }
    }
}

/// Finds a time zone by its name.
pub(crate) fn zone(name: &str) -> Result<TimeZone, ZoneError> {
    TimeZone::get(name).map_err(|_| match jiff::tz::db().available().next() {
        Some(_) => ZoneError::Unknown,
        None => ZoneError::NotInstalled,
    })
}

/// The time zone of this system, else UTC.
pub(crate) fn local() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// A cron expression that has a next time, in its time zone.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    text: String,
    cron: Cron,
    zone: TimeZone,
}

impl Expression {
    /// Reads an expression in the dialect of pm2.
    pub(crate) fn parse(text: &str, zone: TimeZone, now: Timestamp) -> Result<Self, CronError> {
        let text = text.trim();
        let cron = parser().parse(text).map_err(|error| refusal(text, &error))?;
        let text = text.to_owned();
        let expression = Self { text, cron, zone };
        match expression.next(now) {
            Some(_) => Ok(expression),
            None => Err(CronError::Never),
        }
    }

    /// The first time after this one.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Zoned> {
        let after = after.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&after, false).ok()
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

fn parser() -> CronParser {
    // pm2's croner takes `0/10` and `/10` too.
    CronParser::builder().sloppy_ranges(true).build()
}

const FIELDS: [&str; 7] = [
    "second",
    "minute",
    "hour",
    "day of the month",
    "month",
    "day of the week",
    "year",
];

/// Finds the field that is wrong: croner does not name it.
fn refusal(text: &str, error: &croner::errors::CronError) -> CronError {
    let fields: Vec<&str> = text.split_whitespace().collect();
    // The second is left out of five fields.
    let names = match fields.len() {
        0 => return CronError::Empty,
        1 if text.starts_with('@') => return CronError::Nickname { name: text.into() },
        5 => &FIELDS[1..],
        6 | 7 => &FIELDS[..],
        found => return CronError::Fields { found },
    };
    let wrong = |(index, (text, field)): (usize, (&&str, &&'static str))| {
        let mut alone = vec!["*"; fields.len()];
        alone[index] = text;
        let refused = parser().parse(&alone.join(" ")).is_err();
        refused.then(|| CronError::Field {
            number: index + 1,
            field,
            text: (*text).into(),
        })
    };
    let mut all = fields.iter().zip(names).enumerate();
    all.find_map(wrong).unwrap_or_else(|| CronError::Other {
        reason: error.to_string(),
    })
}

/// When next, and has it passed.
#[derive(Debug)]
struct Clock {
    expression: Expression,
    next: Option<Zoned>,
    /// When we looked last.
    seen: Timestamp,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Look again after this.
    Wait(Duration),
    Fire,
    /// The time that has passed is too long ago.
    Missed(Zoned),
    /// There is no next time.
    Over,
}

impl Clock {
    fn new(expression: Expression, now: Timestamp) -> Self {
        let next = expression.next(now);
        Self {
            expression,
            next,
            seen: now,
        }
    }

    fn step(&mut self, now: Timestamp) -> Step {
        if now.duration_since(self.seen) < -BACK {
            self.next = self.expression.next(now);
        }
        self.seen = now;
        let Some(next) = &self.next else { return Step::Over };
        let late = now.duration_since(next.timestamp());
        if late.is_negative() {
            return Step::Wait(late.unsigned_abs().min(LONGEST));
        }
        let passed = next.clone();
        self.next = self.expression.next(now);
        if late > LATE {
            Step::Missed(passed)
        } else {
            Step::Fire
        }
    }
}

/// What the times are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `--cron-restart`.
    Restart,
    /// `--schedule`.
    Start,
}

impl Purpose {
    fn trigger(self, expression: &Expression) -> Trigger {
        match self {
            Self::Restart => Trigger::Cron {
                expression: expression.text().into(),
            },
            Self::Start => Trigger::Schedule,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Restart => "reload",
            Self::Start => "start",
        }
    }
}

/// Calls at the times, in a thread of its own.
pub(super) fn start<F, N>(expression: Expression, purpose: Purpose, calls: Calls<F, N>) -> io::Result<Handle>
where
    F: Fn(Trigger) + Send + 'static,
    N: Fn(String) + Send + 'static,
{
    Handle::spawn("cron", move |bell| {
        let mut clock = Clock::new(expression, Timestamp::now());
        (calls.notice)(told(&clock, purpose));
        while !bell.ended() {
            match clock.step(Timestamp::now()) {
                Step::Wait(time) => {
                    if let Err(error) = bell.wait(None, Some(time)) {
                        let why = crate::error::reason(&error);
                        return (calls.notice)(format!(
                            "could not wait for the next {}: {why}",
                            purpose.noun()
                        ));
                    }
                    continue;
                }
                Step::Fire => (calls.fire)(purpose.trigger(&clock.expression)),
                Step::Missed(time) => (calls.notice)(format!(
                    "missed the {} of {}: the clock went on by more than {} hours",
                    purpose.noun(),
                    shown(&time),
                    LATE.as_hours()
                )),
                Step::Over => return,
            }
            (calls.notice)(told(&clock, purpose));
        }
    })
}

fn told(clock: &Clock, purpose: Purpose) -> String {
    let (noun, text) = (purpose.noun(), clock.expression.text());
    match &clock.next {
        Some(next) => format!("next {noun} by `{text}`: {}", shown(next)),
        None => format!("no further {noun}: `{text}` has no next time"),
    }
}

fn shown(time: &Zoned) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S %:z (%a)").to_string()
}

#[cfg(test)]
mod tests;
