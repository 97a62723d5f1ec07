//! The last connection that a worker accepted, until its app has certainly seen it: see the module above.

use super::Visit;
use crate::id::EndpointId;
use crate::time::Time;
use std::time::Duration;

/// The longest that our copy of an accepted connection is kept.
pub const PROBATION: Duration = Duration::from_millis(250);
/// When it is first looked at whether it was touched; the pauses between looks double.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// A worker that was seen asleep so often has come to the end of what it was doing when it accepted. (Once may be a
/// garbage collection in between.)
const ASLEEP: u8 = 2;

/// What a look at a connection on probation showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Look {
    /// Nobody has read from it, written to it or shut it down.
    pub untouched: bool,
    /// The worker lives, and its main thread waits for something.
    pub asleep: bool,
}

/// The last connection that a worker accepted.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Probation {
    pub(super) visit: Visit,
    pub(super) endpoint: EndpointId,
    until: Time,
    pub(super) look_at: Time,
    next_look: Duration,
    asleep: u8,
}

impl Probation {
    pub(super) fn new(now: Time, visit: Visit, endpoint: EndpointId) -> Self {
        let next_look = FIRST_LOOK * 2;
        Self {
            visit,
            endpoint,
            until: now + PROBATION,
            look_at: now + FIRST_LOOK,
            next_look,
            asleep: 0,
        }
    }

    /// What is left of it after a look.
    pub(super) fn after(mut self, now: Time, look: Look) -> Option<Self> {
        self.asleep += u8::from(look.asleep);
        self.look_at = (now + self.next_look).min(self.until);
        self.next_look *= 2;
        (look.untouched && self.asleep < ASLEEP && now < self.until).then_some(self)
    }
}
