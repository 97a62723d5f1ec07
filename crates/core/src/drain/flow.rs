//! Whether a worker owes an answer on a connection, told from what the kernel counts.
//!
//! Job: judge [`Owes`] from two looks at a connection's [`Flow`]. The bytes that a worker has read are no longer to be
//! seen, so it is told from the order of things: an answer is owed if something was read and nothing was sent since.
//! That an answer has begun is taken for the answer; whether it was whole cannot be known from outside.
//!
//! The kernel's clock for this ticks every 1 to 10 ms, so one look alone often cannot tell the order of two things;
//! two looks can, if only one of the counters moved between them. And acknowledgements tell: a client that waits for
//! its answers acknowledges one at the latest with its next request. If our last bytes are not acknowledged, no
//! request came after them; if they are, and no acknowledgement came alone, a request did.

use std::cmp::Ordering;
use std::time::Duration;

/// What the kernel counts of one connection, all at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Bytes that came from the client.
    pub received: u64,
    /// Those of them that nobody has read.
    pub unread: u64,
    /// Bytes that the worker wrote.
    pub written: u64,
    /// Whether all that was written is acknowledged, where that is known.
    pub acknowledged: Option<bool>,
    /// How many acknowledgements came without data.
    pub bare_acknowledgements: u64,
    /// How long ago something came.
    pub received_ago: Duration,
    /// How long ago something was sent.
    pub sent_ago: Duration,
}

impl Flow {
    /// Bytes that the worker has read.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.received.saturating_sub(self.unread)
    }
}

/// What the worker owes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owes {
    /// Nothing was read that has no answer.
    Nothing,
    /// Something was read, and nothing sent since.
    Answer,
    /// The order of the two is not known.
    Unknown,
}

/// What is remembered of a look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) flow: Flow,
    pub(super) owes: Owes,
}

impl Seen {
    pub(super) fn new(flow: Flow, before: Option<&Self>) -> Self {
        let owes = owes(&flow, before);
        Self { flow, owes }
    }

    /// Whether more came in although an answer was owed all the time: a body, or a client that does not wait.
    pub(super) fn overlaps(&self, before: &Self) -> bool {
        before.owes == Owes::Answer
            && before.flow.written == self.flow.written
            && before.flow.received < self.flow.received
    }
}

fn owes(flow: &Flow, before: Option<&Seen>) -> Owes {
    match (flow.written, flow.consumed()) {
        (_, 0) => return Owes::Nothing,
        (0, _) => return Owes::Answer,
        (_, _) => {}
    }
    let alone = by_one_look(flow);
    let Some(before) = before else {
        return alone;
    };
    let read = before.flow.consumed() != flow.consumed();
    let wrote = before.flow.written != flow.written;
    let same_acks = before.flow.bare_acknowledgements == flow.bare_acknowledgements;
    match (read, wrote, alone) {
        (false, true, _) => Owes::Nothing,
        (true, false, _) => Owes::Answer,
        (false, false, _) if before.owes != Owes::Unknown => before.owes,
        (true, true, Owes::Unknown) if same_acks && flow.unread == 0 && flow.acknowledged == Some(true) => {
            Owes::Answer
        }
        (false, false, alone) | (true, true, alone) => alone,
    }
}

fn by_one_look(flow: &Flow) -> Owes {
    // Both signs are those of the last bytes that came: they say nothing of those that were read if some are unread.
    if flow.unread > 0 {
        return Owes::Unknown;
    }
    match (flow.received_ago.cmp(&flow.sent_ago), flow.acknowledged) {
        (Ordering::Greater, _) | (Ordering::Equal, Some(false)) => Owes::Nothing,
        (Ordering::Less, Some(true) | None) => Owes::Answer,
        // A client that says more before it has the answer.
        (Ordering::Less, Some(false)) | (Ordering::Equal, Some(true) | None) => Owes::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(received: u64, unread: u64, written: u64, received_ago: u64, sent_ago: u64) -> Flow {
        Flow {
            received,
            unread,
            written,
            acknowledged: Some(true),
            bare_acknowledgements: received,
            received_ago: Duration::from_millis(received_ago),
            sent_ago: Duration::from_millis(sent_ago),
        }
    }

    fn alone(flow: Flow) -> Owes {
        Seen::new(flow, None).owes
    }

    #[test]
    fn one_look() {
        assert_eq!(alone(flow(0, 0, 0, 9, 9)), Owes::Nothing);
        assert_eq!(alone(flow(50, 50, 0, 9, 9)), Owes::Nothing, "not read");
        assert_eq!(
            alone(flow(50, 0, 0, 9, 9)),
            Owes::Answer,
            "read, and never a word"
        );
        assert_eq!(alone(flow(50, 0, 70, 8, 4)), Owes::Nothing);
        assert_eq!(alone(flow(50, 0, 70, 4, 8)), Owes::Answer);
        assert_eq!(alone(flow(50, 0, 70, 4, 4)), Owes::Unknown);
        assert_eq!(
            alone(flow(99, 49, 70, 4, 8)),
            Owes::Unknown,
            "the time is that of the unread"
        );
        assert_eq!(
            alone(flow(0, 0, 70, 8, 4)),
            Owes::Nothing,
            "the server speaks first"
        );
    }

    #[test]
    fn two_looks() {
        let answered = Seen::new(flow(50, 0, 70, 8, 4), None);
        assert_eq!(
            Seen::new(flow(99, 49, 70, 0, 12), Some(&answered)).owes,
            Owes::Nothing
        );
        assert_eq!(
            Seen::new(flow(99, 0, 70, 4, 4), Some(&answered)).owes,
            Owes::Answer
        );
        assert_eq!(
            Seen::new(flow(99, 0, 140, 4, 4), Some(&answered)).owes,
            Owes::Unknown
        );
        let unknown = Seen::new(flow(50, 0, 70, 4, 4), None);
        assert_eq!(
            Seen::new(flow(50, 0, 80, 8, 8), Some(&unknown)).owes,
            Owes::Nothing
        );
        assert_eq!(
            Seen::new(flow(50, 0, 70, 8, 8), Some(&unknown)).owes,
            Owes::Unknown
        );
    }

    #[test]
    fn acknowledgements_tell_where_the_clock_does_not() {
        let mut answered = flow(50, 0, 70, 4, 4);
        answered.acknowledged = Some(false);
        assert_eq!(alone(answered), Owes::Nothing);
        let mut asked = flow(99, 0, 140, 4, 4);
        asked.bare_acknowledgements = answered.bare_acknowledgements;
        let before = Seen::new(answered, None);
        assert_eq!(
            Seen::new(asked, Some(&before)).owes,
            Owes::Answer,
            "the acknowledgement came with a request"
        );
        asked.acknowledged = None;
        assert_eq!(Seen::new(asked, Some(&before)).owes, Owes::Unknown);
        asked.acknowledged = Some(true);
        asked.bare_acknowledgements += 1;
        assert_eq!(Seen::new(asked, Some(&before)).owes, Owes::Unknown);
    }

    #[test]
    fn a_client_that_does_not_wait_is_noticed() {
        let asked = Seen::new(flow(50, 0, 0, 4, 4), None);
        assert!(Seen::new(flow(99, 49, 0, 0, 4), Some(&asked)).overlaps(&asked));
        assert!(!Seen::new(flow(99, 49, 70, 0, 4), Some(&asked)).overlaps(&asked));
    }
}
