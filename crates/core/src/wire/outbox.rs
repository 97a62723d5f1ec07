//! What waits to be written to one worker, and when it may be.
//!
//! Job: keep frames in the order in which they were queued, let ACK and NACK pass them, and hold frames back
//! while a handle is under way, because the receiver has a single slot for a descriptor.
//!
//! A frame is queued → started (first byte written) → written. A handle is queued → in flight (started, its
//! descriptor sent) → settled (the worker's ACK or NACK).
//!
//! Rules:
//! - A frame without a handle starts only while no handle is in flight.
//! - A handle starts while none is in flight. Up to `window` may be in flight at once, but a further one only
//!   starts if (a) no more than [`SAFE`] bytes were written since the end of the last handle that was ACKed,
//!   so that the peer's 64 KiB read cannot end within a handle's frame, and (b) every handle in flight was
//!   written in one piece: the tail of a torn one has no descriptor, so the kernel would give it to the peer in
//!   one read with the next handle, whose descriptor would overwrite the slot.
//! - Order is kept: a held frame holds everything behind it, handles included.
//! - Urgent frames (our ACK and NACK) go first, but never into a started frame.
//!
//! Must not know: what the frames say, who reads them.

use super::session::Transmit;
use crate::id::Token;
use std::collections::VecDeque;

/// How many bytes may be unread by the peer while handles follow each other un-awaited. Half of its buffer.
pub(super) const SAFE: u64 = 32 * 1024;
/// Frames without handles are joined up to this size: fewer writes, and an ACK never waits behind more.
const JOINED: usize = 16 * 1024;
/// Room above this is given back when everything was written.
const KEEP: usize = 256 * 1024;

/// A handle on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Handle {
    pub(super) descriptor: Token,
    /// The sequence number of the `newconn` that it belongs to.
    pub(super) newconn: Option<u64>,
}

/// One frame with a handle, or some without.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Segment {
    /// Bytes not yet written.
    left: usize,
    kind: Kind,
    /// Queued while a handle was unsettled.
    held: bool,
    /// How many answers the session gave by itself are in it.
    answers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Kind {
    Plain,
    Handle(Handle),
    /// Partly written.
    Started,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct InFlight {
    handle: Handle,
    /// Position in the stream just behind the handle's frame.
    end: u64,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Outbox {
    window: usize,
    /// The queued frames, back to back; before `head` they are written.
    bytes: Vec<u8>,
    head: usize,
    segments: VecDeque<Segment>,
    urgent: Vec<u8>,
    urgent_head: usize,
    in_flight: VecDeque<InFlight>,
    queued_handles: usize,
    queued_plain: usize,
    held: usize,
    answers: usize,
    /// Bytes written so far.
    written: u64,
    /// Bytes of them that the peer has surely read.
    read: u64,
    /// A handle in flight was written in more than one piece.
    torn: bool,
    /// In flight, but perhaps never sent: until that is known no other handle goes, for it would get this one's ACK.
    doubt: Option<Token>,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Urgent,
    Front,
}

impl Outbox {
    pub(super) fn new(window: usize) -> Self {
        Self {
            window: window.max(1),
            bytes: Vec::new(),
            head: 0,
            segments: VecDeque::new(),
            urgent: Vec::new(),
            urgent_head: 0,
            in_flight: VecDeque::new(),
            queued_handles: 0,
            queued_plain: 0,
            held: 0,
            answers: 0,
            written: 0,
            read: 0,
            torn: false,
            doubt: None,
        }
    }

    /// From now on at most this many handles in flight.
    pub(super) fn set_window(&mut self, window: usize) {
        self.window = window.max(1);
    }

    /// Queues what `write` appends, as one frame.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.push_plain(0, write);
    }

    /// The same for an answer that the session gives by itself; they are counted.
    pub(super) fn push_answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.push_plain(1, write);
    }

    fn push_plain(&mut self, answers: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let length = self.append(write);
        let held = self.undelivered() > 0;
        self.queued_plain += length;
        self.answers += answers;
        if let Some(last) = self.segments.back_mut()
            && last.kind == Kind::Plain
            && last.held == held
            && last.left + length <= JOINED
        {
            last.left += length;
            last.answers += answers;
            return;
        }
        self.held += usize::from(held);
        self.segments.push_back(Segment {
            left: length,
            kind: Kind::Plain,
            held,
            answers,
        });
    }

    /// Queues a frame that carries a handle.
    pub(super) fn push_handle(&mut self, handle: Handle, write: impl FnOnce(&mut Vec<u8>)) {
        let left = self.append(write);
        self.queued_handles += 1;
        self.segments.push_back(Segment {
            left,
            kind: Kind::Handle(handle),
            held: false,
            answers: 0,
        });
    }

    /// Queues a frame ahead of everything that is not started.
    pub(super) fn push_urgent(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.urgent);
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.bytes.len() - before
    }

    pub(super) fn transmit(&self) -> Option<Transmit<'_>> {
        match self.turn()? {
            Turn::Urgent => Some(Transmit {
                bytes: &self.urgent[self.urgent_head..],
                descriptor: None,
            }),
            Turn::Front => {
                let front = self.segments.front()?;
                let descriptor = match front.kind {
                    Kind::Handle(handle) => Some(handle.descriptor),
                    Kind::Plain | Kind::Started => None,
                };
                Some(Transmit {
                    bytes: &self.bytes[self.head..self.head + front.left],
                    descriptor,
                })
            }
        }
    }

    pub(super) fn wrote(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        match self.turn() {
            Some(Turn::Urgent) => self.wrote_urgent(n),
            Some(Turn::Front) => self.wrote_front(n),
            None => debug_assert!(false, "{n} bytes written, none offered"),
        }
    }

    /// Whose bytes are next. While a frame is partly written the answer does not change.
    fn turn(&self) -> Option<Turn> {
        let front = self.segments.front();
        if front.is_some_and(|front| front.kind == Kind::Started) {
            return Some(Turn::Front);
        }
        if self.urgent_head < self.urgent.len() {
            return Some(Turn::Urgent);
        }
        let may_start = match front?.kind {
            Kind::Plain => self.in_flight.is_empty(),
            Kind::Handle(_) => self.handle_may_start(),
            Kind::Started => true,
        };
        may_start.then_some(Turn::Front)
    }

    fn handle_may_start(&self) -> bool {
        if self.doubt.is_some() {
            return false;
        }
        let in_flight = self.in_flight.len();
        in_flight == 0 || (in_flight < self.window && !self.torn && self.unread() <= SAFE)
    }

    /// Bytes that the peer may not have read yet.
    fn unread(&self) -> u64 {
        self.written.saturating_sub(self.read)
    }

    fn wrote_urgent(&mut self, n: usize) {
        debug_assert!(n <= self.urgent_backlog(), "more written than offered");
        let n = n.min(self.urgent_backlog());
        self.urgent_head += n;
        self.written += n as u64;
        if self.urgent_head == self.urgent.len() {
            self.urgent.clear();
            self.urgent_head = 0;
        }
    }

    fn wrote_front(&mut self, n: usize) {
        let Some(front) = self.segments.front_mut() else {
            return;
        };
        debug_assert!(n <= front.left, "more written than offered");
        let n = n.min(front.left);
        match front.kind {
            Kind::Handle(handle) => {
                self.torn |= n < front.left;
                self.queued_handles -= 1;
                self.in_flight.push_back(InFlight {
                    handle,
                    end: self.written + front.left as u64,
                });
            }
            Kind::Plain => {
                self.queued_plain -= front.left;
                self.held -= usize::from(front.held);
            }
            Kind::Started => {}
        }
        front.kind = Kind::Started;
        front.left -= n;
        let finished = front.left == 0;
        self.written += n as u64;
        self.head += n;
        if finished && let Some(segment) = self.segments.pop_front() {
            self.answers -= segment.answers;
            self.compact();
        }
    }

    /// Gives the room of written bytes back, at a cost that stays in proportion to what is written.
    fn compact(&mut self) {
        if self.head == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
            self.head = 0;
        } else if self.head > KEEP && self.head * 2 > self.bytes.len() {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }

    /// The worker's ACK (`delivered`) or NACK: the oldest handle in flight. `None` if it answers nothing.
    pub(super) fn settle(&mut self, delivered: bool) -> Option<Handle> {
        let end = self.in_flight.front()?.end;
        if end > self.written {
            return None; // Not yet written in full, so it cannot have been read.
        }
        let settled = self.in_flight.pop_front()?;
        self.doubt.take_if(|doubt| *doubt == settled.handle.descriptor);
        if delivered {
            self.read = end;
        }
        if self.in_flight.is_empty() {
            self.torn = false;
        }
        Some(settled.handle)
    }

    /// The connection in flight that was announced under this number; it is not found a second time.
    pub(super) fn answered(&mut self, seq: u64) -> Option<Token> {
        let entry = self
            .in_flight
            .iter_mut()
            .find(|entry| entry.handle.newconn == Some(seq))?;
        entry.handle.newconn = None;
        Some(entry.handle.descriptor)
    }

    /// Whether a handle is in flight.
    pub(super) fn awaits(&self, handle: Token) -> bool {
        self.in_flight
            .iter()
            .any(|entry| entry.handle.descriptor == handle)
    }

    /// Whether this handle was sent nobody knows.
    pub(super) fn doubt(&mut self, handle: Token) {
        self.doubt = self.awaits(handle).then_some(handle);
    }

    /// A handle was not sent after all. Whether it was in flight.
    pub(super) fn never_sent(&mut self, handle: Token) -> bool {
        let before = self.in_flight.len();
        self.in_flight.retain(|entry| entry.handle.descriptor != handle);
        self.doubt.take_if(|doubt| *doubt == handle);
        if self.in_flight.is_empty() {
            self.torn = false;
        }
        self.in_flight.len() < before
    }

    /// Handles that could be queued now and would not be held back. Whenever this is 0, a handle is unsettled.
    pub(super) fn room(&self) -> usize {
        if self.doubt.is_some() {
            return 0;
        }
        let unsettled = self.undelivered();
        if unsettled > 0 && self.held > 0 {
            return 0;
        }
        let window = if self.torn || self.unread() + self.queued_plain as u64 > SAFE {
            1
        } else {
            self.window
        };
        window.saturating_sub(unsettled)
    }

    pub(super) fn undelivered(&self) -> usize {
        self.in_flight.len() + self.queued_handles
    }

    pub(super) fn backlog(&self) -> usize {
        self.bytes.len() - self.head + self.urgent_backlog()
    }

    /// Bytes of ACKs and NACKs not yet written.
    pub(super) fn urgent_backlog(&self) -> usize {
        self.urgent.len() - self.urgent_head
    }

    /// Answers queued by [`push_answer`](Self::push_answer) and not yet written.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }
}
