//! How often a draining worker's descriptors are looked at.
//!
//! Job: often while things change, seldom when nothing does, and never so often that looking costs more than a small
//! part of a processor. Owner: [`super::Drain`].

use crate::time::Time;
use std::time::Duration;

/// The first and shortest pause between two looks: the longest that a client waits for an end it is to see.
pub const FIRST_LOOK: Duration = Duration::from_millis(5);
/// The same where nothing can be moved: until we say the end, requests come that nobody can take.
pub const KEEN_LOOK: Duration = Duration::from_millis(1);
/// The longest pause, unless looking is expensive.
pub const LAST_LOOK: Duration = Duration::from_millis(50);
/// How long after the last change looks stay frequent.
const LIVELY: Duration = Duration::from_secs(1);
/// Looking takes at most one part in so many of the time.
const SHARE: u32 = 20;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pace {
    first: Duration,
    pause: Duration,
    last_look: Time,
    last_change: Time,
}

impl Pace {
    /// The first look is due at once.
    pub(super) fn new(now: Time, movable: bool) -> Self {
        Self {
            first: if movable { FIRST_LOOK } else { KEEN_LOOK },
            pause: Duration::ZERO,
            last_look: now,
            last_change: now,
        }
    }

    /// Something changed, or will.
    pub(super) fn changed(&mut self, now: Time) {
        self.last_change = now;
        self.pause = self.pause.min(self.first);
    }

    /// A look took so long.
    pub(super) fn looked(&mut self, now: Time, took: Duration) {
        let quiet = now.since(self.last_change) > LIVELY;
        let pause = if quiet { self.pause * 2 } else { self.first };
        self.pause = pause.min(LAST_LOOK).max(took * SHARE);
        self.last_look = now;
    }

    pub(super) fn next_look(&self) -> Time {
        self.last_look + self.pause
    }
}
