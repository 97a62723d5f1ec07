//! Time as core knows it: how long the primary has been running.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, as the time since the primary started. The driver reads the monotonic clock and passes it in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Time(pub Duration);

impl Time {
    /// The start of the primary.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A limit, for people: `2s`, `250ms`, `1.5s`.
#[must_use]
pub fn short(duration: Duration) -> String {
    let millis = duration.as_millis();
    match (millis / 1000, millis % 1000) {
        (0, millis) => format!("{millis}ms"),
        (seconds, 0) => format!("{seconds}s"),
        (seconds, millis) => format!("{seconds}.{}s", format!("{millis:03}").trim_end_matches('0')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_short() {
        for (millis, text) in [
            (0, "0ms"),
            (250, "250ms"),
            (2000, "2s"),
            (1500, "1.5s"),
            (61_050, "61.05s"),
        ] {
            assert_eq!(short(Duration::from_millis(millis)), text);
        }
    }
}
