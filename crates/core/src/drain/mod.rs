//! The connections of one worker that leaves: what becomes of each when the worker lets go of it.
//!
//! Job: while the primary holds copies of a draining worker's connections, decide for each look at one what is done
//! with the copy, count how they end, and say when to look again. Owner: the holder of the copies (`everup`'s `drain`).
//!
//! ```text
//! taken ──▶ Held ──the worker closed it──▶ Limbo ──a request──▶ moved
//!            │  │                            └──time is up──▶ Lingering ──▶ closed, unsure or lost
//!            │  └──it sent its end, or cannot be moved───────────▲
//!            └──an answer is owed, or something else is unread──▶ lost
//! ```
//!
//! Invariants: each connection that was taken ends exactly once, as one of moved, lost, closed or unsure; only a
//! connection that the worker has let go, on which it owes no answer as far as can be known, and whose unread bytes
//! begin with a request of HTTP/1, is moved; every one that is let go ends within the limits of [`Rules`].
//!
//! Must not know: descriptors, `/proc`, what a worker is, who gets a moved connection.

mod flow;
mod head;
mod look;
mod pace;
mod verdict;

pub use flow::{Flow, Owes};
pub use head::{Head, PEEK};
pub use look::{Gone, Link, Observation};
pub use pace::{FIRST_LOOK, KEEN_LOOK, LAST_LOOK};
pub use verdict::{Counters, Decision, End};

use crate::id::Token;
use crate::time::Time;
use flow::Seen;
use pace::Pace;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What may be done, and how long things last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether there is somebody to hand a connection to.
    pub movable: bool,
    /// How long a connection is kept that the worker closed while nothing was under way.
    pub idle: Duration,
    /// How long one is kept where that is not so certain: its client may be waiting for the rest of an answer.
    pub orphan: Duration,
    /// How long a client's end is awaited after ours was sent.
    pub linger: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            movable: true,
            // Node's `keepAliveTimeout`.
            idle: Duration::from_secs(5),
            orphan: Duration::from_secs(1),
            linger: Duration::from_secs(1),
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Drain {
    rules: Rules,
    gone: Option<Gone>,
    connections: BTreeMap<Token, Connection>,
    /// Ports on which TLS is spoken: what comes there later can be read by nobody else.
    secret: BTreeSet<u16>,
    counters: Counters,
    pace: Pace,
}

#[derive(Debug)]
struct Connection {
    port: u16,
    phase: Phase,
    seen: Option<Seen>,
    /// See [`Seen::overlaps`].
    overlapping: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Held,
    Limbo { until: Time, end: End },
    Lingering { until: Time, end: End },
}

impl Drain {
    /// Of a worker that lives and still has all its connections.
    #[must_use]
    pub fn new(now: Time, rules: Rules) -> Self {
        Self {
            rules,
            gone: None,
            connections: BTreeMap::new(),
            secret: BTreeSet::new(),
            counters: Counters::default(),
            pace: Pace::new(now, rules.movable),
        }
    }

    /// A copy of this connection was taken. `port` is ours.
    pub fn taken(&mut self, connection: Token, port: u16) {
        self.counters.taken += 1;
        self.counters.open += 1;
        let fresh = Connection {
            port,
            phase: Phase::Held,
            seen: None,
            overlapping: false,
        };
        let before = self.connections.insert(connection, fresh);
        debug_assert!(before.is_none(), "tokens are never reused");
    }

    /// The worker's process ended. Nothing is held by it from now on.
    pub fn gone(&mut self, gone: Gone) {
        self.gone.get_or_insert(gone);
    }

    /// Nobody is there any more to hand connections to.
    pub fn immovable(&mut self, now: Time) {
        self.rules.movable = false;
        self.give_up(now, |_| true);
    }

    /// Something is about to happen to the worker: look often for a while.
    pub fn stir(&mut self, now: Time) {
        self.pace.changed(now);
    }

    /// What a look at a connection showed. After [`Decision::End`] and [`Decision::Move`] it is forgotten.
    pub fn observe(&mut self, now: Time, connection: Token, seen: Observation) -> Decision {
        let Some(mut known) = self.connections.remove(&connection) else {
            debug_assert!(false, "a connection that was never taken, or has ended");
            return Decision::Keep;
        };
        let decision = self.decide(now, &mut known, &seen);
        match decision {
            Decision::Move => self.ended(now, known.phase, |counters| &mut counters.moved),
            Decision::End(end) => self.ended(now, known.phase, |counters| match end {
                End::Closed => &mut counters.closed,
                End::Unsure => &mut counters.unsure,
                End::Unanswered | End::Unread => &mut counters.lost,
            }),
            Decision::Keep | Decision::Finish => {
                self.connections.insert(connection, known);
            }
        }
        decision
    }

    /// All that the worker has was looked at, and that took so long.
    pub fn looked(&mut self, now: Time, took: Duration) {
        self.pace.looked(now, took);
        let busy = |known: &&Connection| matches!(known.phase, Phase::Held) && known.owes() != Owes::Nothing;
        let busy = self.connections.values().filter(busy).count();
        self.counters.busy = u64::try_from(busy).unwrap_or(u64::MAX);
    }

    /// When the connections that the worker has are to be looked at again.
    #[must_use]
    pub fn next_look(&self) -> Option<Time> {
        (self.counters.open > 0).then(|| self.pace.next_look())
    }

    /// When [`due`](Self::due) has something.
    #[must_use]
    pub fn next_limit(&self) -> Option<Time> {
        self.connections.values().filter_map(Connection::until).min()
    }

    /// Connections whose time is up: each is to be looked at now.
    #[must_use]
    pub fn due(&self, now: Time) -> Vec<Token> {
        let due = |known: &Connection| known.until().is_some_and(|until| until <= now);
        let due = self.connections.iter().filter(|(_, known)| due(known));
        due.map(|(connection, _)| *connection).collect()
    }

    /// How many ended how, so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether all have ended.
    #[must_use]
    pub fn over(&self) -> bool {
        self.connections.is_empty()
    }

    fn ended(&mut self, now: Time, phase: Phase, counter: impl FnOnce(&mut Counters) -> &mut u64) {
        *counter(&mut self.counters) += 1;
        match phase {
            Phase::Held => self.no_longer_held(),
            Phase::Limbo { .. } | Phase::Lingering { .. } => self.counters.waiting -= 1,
        }
        self.pace.changed(now);
    }

    /// The time of these is up: nobody can take a request of theirs any more.
    fn give_up(&mut self, now: Time, which: impl Fn(&Connection) -> bool) {
        for known in self.connections.values_mut().filter(|known| which(known)) {
            if let Phase::Limbo { until, .. } = &mut known.phase {
                *until = now;
            }
        }
    }

    fn no_longer_held(&mut self) {
        self.counters.open -= 1;
        self.counters.busy = self.counters.busy.min(self.counters.open);
    }

    fn decide(&mut self, now: Time, known: &mut Connection, seen: &Observation) -> Decision {
        match known.phase {
            Phase::Held if seen.held && self.gone.is_none() => {
                known.sample(seen.flow);
                Decision::Keep
            }
            Phase::Held => self.let_go(now, known, seen),
            Phase::Limbo { until, end: _ } => self.in_limbo(now, known, seen, until),
            Phase::Lingering { until, end } => lingering(now, seen, until, end),
        }
    }

    /// The worker has closed it since the last look.
    fn let_go(&mut self, now: Time, known: &mut Connection, seen: &Observation) -> Decision {
        known.sample(seen.flow);
        match seen.link {
            Link::Over => Decision::End(End::Closed),
            Link::HalfClosed if seen.head == Head::Nothing => Decision::End(End::Closed),
            Link::Open | Link::Finished if known.owes() == Owes::Answer => Decision::End(End::Unanswered),
            Link::Open | Link::HalfClosed => self.unread(now, known, seen.link, seen.head),
            Link::Finished => {
                let until = now + self.rules.linger;
                self.wait(
                    now,
                    known,
                    Phase::Lingering {
                        until,
                        end: End::Closed,
                    },
                );
                lingering(now, seen, until, End::Closed)
            }
        }
    }

    /// Decides by what is unread on a connection that our side has not ended.
    fn unread(&mut self, now: Time, known: &mut Connection, link: Link, head: Head) -> Decision {
        if head == Head::Tls {
            self.secret.insert(known.port);
            let port = known.port;
            self.give_up(now, |other| other.port == port);
        }
        let movable = self.movable(known);
        let certain = known.owes() == Owes::Nothing;
        match head {
            Head::Request if movable && (certain || !known.overlapping) => Decision::Move,
            Head::Pipelined if movable && certain => Decision::Move,
            Head::Prefix if movable && link == Link::Open => self.limbo(now, known),
            Head::Nothing if movable => self.limbo(now, known),
            Head::Nothing => self.finish(now, known),
            Head::Farewell => Decision::End(End::Closed),
            Head::Request | Head::Pipelined | Head::Prefix | Head::Tls | Head::Other => {
                Decision::End(End::Unread)
            }
        }
    }

    fn movable(&self, known: &Connection) -> bool {
        self.rules.movable && !self.secret.contains(&known.port)
    }

    /// Waits for a request, in the state that it is in already, or in a new one.
    fn limbo(&mut self, now: Time, known: &mut Connection) -> Decision {
        if matches!(known.phase, Phase::Held) {
            let end = self.end_of_silence();
            let certain = end == End::Closed && known.owes() == Owes::Nothing;
            let limit = if certain {
                self.rules.idle
            } else {
                self.rules.orphan
            };
            self.wait(
                now,
                known,
                Phase::Limbo {
                    until: now + limit,
                    end,
                },
            );
        }
        Decision::Keep
    }

    /// Says the end to a client that is silent, and waits for its own.
    fn finish(&mut self, now: Time, known: &mut Connection) -> Decision {
        let end = match known.phase {
            Phase::Limbo { end, .. } | Phase::Lingering { end, .. } => end,
            Phase::Held => self.end_of_silence(),
        };
        let until = now + self.rules.linger;
        self.wait(now, known, Phase::Lingering { until, end });
        Decision::Finish
    }

    fn end_of_silence(&self) -> End {
        match self.gone {
            Some(Gone::Cut) => End::Unsure,
            Some(Gone::Left) | None => End::Closed,
        }
    }

    fn wait(&mut self, now: Time, known: &mut Connection, phase: Phase) {
        if matches!(known.phase, Phase::Held) {
            self.no_longer_held();
            self.counters.waiting += 1;
        }
        known.phase = phase;
        self.pace.changed(now);
    }

    fn in_limbo(&mut self, now: Time, known: &mut Connection, seen: &Observation, until: Time) -> Decision {
        if known.elsewhere(seen) {
            return Decision::End(End::Closed);
        }
        match (seen.link, seen.head) {
            (Link::Over | Link::Finished, _) | (Link::HalfClosed, Head::Nothing) => {
                Decision::End(End::Closed)
            }
            (Link::Open, Head::Nothing) if until <= now => self.finish(now, known),
            (Link::Open, Head::Prefix) if until <= now => Decision::End(End::Unread),
            (Link::Open | Link::HalfClosed, head) => self.unread(now, known, seen.link, head),
        }
    }
}

/// Our end is sent: nothing can be answered any more.
fn lingering(now: Time, seen: &Observation, until: Time, end: End) -> Decision {
    match seen.head {
        Head::Nothing | Head::Farewell if seen.link == Link::Over || until <= now => Decision::End(end),
        Head::Nothing | Head::Farewell => Decision::Keep,
        Head::Request | Head::Pipelined | Head::Prefix | Head::Tls | Head::Other => {
            Decision::End(End::Unread)
        }
    }
}

impl Connection {
    fn sample(&mut self, flow: Flow) {
        let seen = Seen::new(flow, self.seen.as_ref());
        self.overlapping |= self.seen.as_ref().is_some_and(|before| seen.overlaps(before));
        self.seen = Some(seen);
    }

    /// Whether somebody has it who is not the worker: a process that the worker gave it to.
    fn elsewhere(&self, now: &Observation) -> bool {
        let touched = |before: &Seen| {
            before.flow.written != now.flow.written || before.flow.consumed() != now.flow.consumed()
        };
        now.held || now.link != Link::Over && self.seen.as_ref().is_some_and(touched)
    }

    fn owes(&self) -> Owes {
        self.seen.as_ref().map_or(Owes::Unknown, |seen| seen.owes)
    }

    fn until(&self) -> Option<Time> {
        match self.phase {
            Phase::Held => None,
            Phase::Limbo { until, .. } | Phase::Lingering { until, .. } => Some(until),
        }
    }
}
