//! What one worker has that it has not answered, and how much more it can take.

use super::pause::Pause;
use super::probation::Probation;
use super::{Placement, Visit};
use crate::id::{EndpointId, Token, WorkerId};
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// The largest window.
pub const MAX_WINDOW: usize = 8;
/// How long a client that belongs to a worker waits while that does not answer, until it goes to another.
pub const LOYALTY: Duration = Duration::from_secs(1);
/// An answer within this lets the window grow.
const QUICK: Duration = Duration::from_millis(3);
/// An answer slower than this halves it.
const SLOW: Duration = Duration::from_millis(10);
/// How long a worker that is full may keep a connection waiting whose turn it is.
const PATIENCE: Duration = Duration::from_millis(20);

/// One worker's unanswered connections, oldest first.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Load {
    pub(super) in_flight: VecDeque<Sent>,
    pub(super) window: usize,
    pub(super) accepted: u64,
    /// How many of ours it has ended, if it tells.
    pub(super) closed: Option<u64>,
    /// Whether it accepts at some endpoint by itself only.
    pub(super) direct: bool,
    /// Probes among those that it may tell of.
    pub(super) probes: u64,
    /// After it had no descriptor for a connection.
    pub(super) starved: Pause,
    pub(super) probation: Option<Probation>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Sent {
    pub(super) visit: Visit,
    pub(super) endpoint: EndpointId,
    pub(super) at: Time,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            in_flight: VecDeque::new(),
            window: 1,
            accepted: 0,
            closed: None,
            direct: false,
            probes: 0,
            starved: Pause::default(),
            probation: None,
        }
    }

    pub(super) fn room(&self, now: Time) -> usize {
        if self.starved.over(now) {
            self.window.saturating_sub(self.in_flight.len())
        } else {
            0
        }
    }

    /// How many connections it has open, if it tells.
    pub(super) fn open(&self) -> Option<u64> {
        let had = self.accepted.saturating_add(self.probes);
        Some(had.saturating_sub(self.closed?))
    }

    /// Whether it is only short of room because it was given so much just now.
    pub(super) fn prompt(&self, now: Time) -> bool {
        self.starved.over(now) && self.tardy_at().is_some_and(|at| now < at)
    }

    /// From when on the others do not wait for it any more.
    pub(super) fn tardy_at(&self) -> Option<Time> {
        self.in_flight.front().map(|oldest| oldest.at + PATIENCE)
    }

    /// From when on the clients that belong to it do not wait for it any more.
    pub(super) fn forsaken_at(&self) -> Option<Time> {
        self.in_flight.front().map(|oldest| oldest.at + LOYALTY)
    }

    /// Whether a client that belongs to it is to wait for room.
    pub(super) fn deserves_loyalty(&self, now: Time) -> bool {
        self.starved.over(now) && self.forsaken_at().is_some_and(|at| now < at)
    }

    /// An answer took so long.
    pub(super) fn adapt(&mut self, took: Duration) {
        if took <= QUICK {
            self.window = (self.window + 1).min(MAX_WINDOW);
        } else if took > SLOW {
            self.window = (self.window / 2).max(1);
        }
    }

    /// Puts a connection in flight to this one.
    pub(super) fn give(
        &mut self,
        now: Time,
        worker: WorkerId,
        visit: Visit,
        endpoint: EndpointId,
    ) -> Placement {
        let connection = visit.connection;
        self.in_flight.push_back(Sent {
            visit,
            endpoint,
            at: now,
        });
        Placement::HandOver {
            worker,
            connection,
            endpoint,
        }
    }

    pub(super) fn take(&mut self, connection: Token) -> Option<Sent> {
        let position = self
            .in_flight
            .iter()
            .position(|sent| sent.visit.connection == connection)?;
        self.in_flight.remove(position)
    }
}
