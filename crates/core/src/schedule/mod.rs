//! Scheduling policies: who gets the next connection.
//!
//! A policy is a pure choice among the workers that can take a connection now; [`crate::dispatch`] says who
//! can. Invariants, held by tests: a choice is always one of the candidates; nobody who stays a candidate is
//! passed over for ever; rotation is exact to one connection while all can take one.

mod least_connections;
mod round_robin;
pub mod sticky;

pub use least_connections::LeastConnections;
pub use round_robin::RoundRobin;

use crate::id::WorkerId;

/// Who gets the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Policy {
    /// The worker with the fewest open connections, as far as all of them tell, which workers of our own library do;
    /// else with the fewest hand-overs that it has not answered yet. Then the one whose turn is longest ago.
    #[default]
    LeastConnections,
    /// Strict rotation over the workers that can take one.
    RoundRobin,
    /// The same client to the same slot, by its address: see [`sticky`]. Where there is no address (UNIX sockets), as
    /// with [`LeastConnections`](Self::LeastConnections).
    Sticky,
    /// All workers accept from one listening socket; the kernel chooses. Node's `SCHED_NONE`.
    Shared,
    /// Each slot has a listening TCP socket of its own, which the primary keeps (`SO_REUSEPORT`): see
    /// [`crate::steer`]. Other sockets are as with [`Shared`](Self::Shared).
    ReusePort,
}

impl Policy {
    /// Whether the primary accepts connections and hands them over. Otherwise workers accept by themselves, and the
    /// primary hands over only what nobody else can take.
    #[must_use]
    pub const fn hands_over(self) -> bool {
        match self {
            Self::LeastConnections | Self::RoundRobin | Self::Sticky => true,
            Self::Shared | Self::ReusePort => false,
        }
    }
}

/// A worker that can take a connection now, or in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub worker: WorkerId,
    /// Connections handed to it that it has not answered.
    pub in_flight: usize,
    /// Connections that it has open, besides those; `None` if it does not tell.
    pub open: Option<u64>,
    /// Whether it can take one now. One that cannot has not been kept waiting for long.
    pub room: bool,
}

/// One endpoint's policy with what it remembers.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum Scheduler {
    /// See [`RoundRobin`].
    RoundRobin(RoundRobin),
    /// See [`LeastConnections`].
    LeastConnections(LeastConnections),
    /// See [`sticky`]; this is for those who have no address.
    Sticky(LeastConnections),
}

impl Scheduler {
    /// The scheduler of a policy; a shared endpoint needs none, and gets the default one should a connection
    /// come to it all the same.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        match policy {
            Policy::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            Policy::Sticky => Self::Sticky(LeastConnections::default()),
            Policy::LeastConnections | Policy::Shared | Policy::ReusePort => {
                Self::LeastConnections(LeastConnections::default())
            }
        }
    }

    /// Chooses a candidate that has room, and counts the connection as given to it. `None` if there is none, or if
    /// one without room is to be waited for.
    pub fn pick(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<WorkerId> {
        match self {
            Self::RoundRobin(policy) => policy.pick(candidates),
            Self::LeastConnections(policy) | Self::Sticky(policy) => policy.pick(candidates),
        }
    }

    /// Forgets a worker that left.
    pub fn forget(&mut self, worker: WorkerId) {
        match self {
            Self::RoundRobin(policy) => policy.forget(worker),
            Self::LeastConnections(policy) | Self::Sticky(policy) => policy.forget(worker),
        }
    }
}
