//! A growing pause, for a worker that refuses or is out of descriptors.

use crate::time::Time;
use std::time::Duration;

/// The first pause; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// A growing pause: nothing is offered until it is over.
#[derive(Debug, Default, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) struct Pause {
    pub(super) until: Option<Time>,
    next: Option<Duration>,
}

impl Pause {
    pub(super) fn over(self, now: Time) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    pub(super) fn extend(&mut self, now: Time, longest: Duration) {
        let length = self.next.unwrap_or(FIRST_PAUSE);
        self.until = Some(now + length);
        self.next = Some((length * 2).min(longest));
    }
}
