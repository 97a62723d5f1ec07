//! Which connection goes to which worker, and what becomes of it when the worker does not take it.
//!
//! Job: own every connection from its acceptance until a worker has said `accepted`. Owner: [`crate::app::App`].
//!
//! A connection is *parked* at its endpoint (nobody can take it now) or *in flight* to one worker:
//!
//! ```text
//! accepted by us ──▶ parked ──▶ in flight ──accepted──▶ on probation ──▶ released (the worker has it)
//!                      ▲            │                        │
//!                      ├────────────┘ refused · not          │
//!                      │              delivered · gone       │
//!                      └─────────────────────────────────────┘ gone, and it is untouched
//! ```
//!
//! Probation: a Node worker writes `accepted` a moment *before* the app sees the connection. A worker killed in
//! between has said yes to something that its app never knew of. So we keep our copy of the last connection that
//! each worker accepted, until it says anything else (JavaScript runs to completion: the app has seen the connection
//! by then), or until somebody has read from it or written to it, or the worker was seen asleep twice, at the latest
//! for [`PROBATION`]. If the worker's *process* is gone before that and the connection is untouched, another gets
//! it. TCP only: UNIX sockets do not tell.
//!
//! Invariants: a connection is in exactly one place; it is never in flight to two workers; one that comes back
//! goes to the front; as many are accepted as can be handed over ([`Dispatcher::demand`]), the rest stays in the
//! kernel's queue; a worker that refuses or is out of descriptors is asked again after a growing pause, so that
//! nobody spins and nobody is starved for ever.
//!
//! Turns: under strict rotation the others do not get far ahead of a worker that is full, for at most `PATIENCE`.
//!
//! Sticky clients: a connection waits for its client's own worker while that answers ([`LOYALTY`]); those of others pass
//! it by. So many are accepted that somebody's own worker may be found, at most [`MOST_WAITING`].
//!
//! Pipelining: a worker may hold several unanswered connections while its answers come quickly. Its *window*
//! grows by one with each answer within `QUICK` and halves with each one slower than `SLOW`.

mod lane;
mod load;
mod pause;
mod probation;

pub use lane::MOST_WAITING;
pub use load::{LOYALTY, MAX_WINDOW};
pub use probation::{Look, PROBATION};

use crate::id::{EndpointId, Slot, Token, WorkerId};
use crate::schedule::Policy;
use crate::schedule::sticky::Client;
use crate::time::Time;
use lane::{Lane, Member};
use load::Load;
use pause::Pause;
use probation::Probation;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest pause after refusals: the place that becomes free does not wait for long.
const LONGEST_REFUSAL: Duration = Duration::from_millis(160);
/// The longest pause of a worker that is out of descriptors.
const LONGEST_STARVATION: Duration = Duration::from_secs(1);
/// How long nothing is accepted after the system ran out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Hand it to this worker, under this endpoint's key.
    HandOver {
        /// To whom.
        worker: WorkerId,
        /// Which connection.
        connection: Token,
        /// Of which endpoint.
        endpoint: EndpointId,
    },
    /// Close our copy: the worker has it, or its endpoint is gone.
    Release {
        /// Which connection.
        connection: Token,
    },
    /// Look whether anybody has read from it or written to it, and whether the worker sleeps, and tell
    /// [`Dispatcher::looked`].
    Look {
        /// Who accepted it.
        worker: WorkerId,
        /// Which connection.
        connection: Token,
    },
}

/// See the module's documentation.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Dispatcher {
    policy: Policy,
    endpoints: BTreeMap<EndpointId, Lane>,
    workers: BTreeMap<WorkerId, Load>,
    /// On probation when their worker went.
    orphans: BTreeMap<Token, (EndpointId, Option<Client>)>,
}

/// A connection, and whose it is.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Visit {
    connection: Token,
    /// `None` where there is no address.
    client: Option<Client>,
}

impl Dispatcher {
    /// A dispatcher with no endpoint.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            endpoints: BTreeMap::new(),
            workers: BTreeMap::new(),
            orphans: BTreeMap::new(),
        }
    }

    /// A new endpoint; nobody serves it yet. `probation` says whether its connections tell if they were touched.
    pub fn open(&mut self, endpoint: EndpointId, probation: bool) {
        self.endpoints.insert(endpoint, Lane::new(self.policy, probation));
    }

    /// The endpoint is gone, and with it the connections parked there.
    pub fn close(&mut self, endpoint: EndpointId, out: &mut Vec<Placement>) {
        if let Some(lane) = self.endpoints.remove(&endpoint) {
            out.extend(
                lane.parked
                    .into_iter()
                    .map(|Visit { connection, .. }| Placement::Release { connection }),
            );
        }
    }

    /// A worker serves an endpoint from now on, in this slot.
    pub fn join(
        &mut self,
        now: Time,
        endpoint: EndpointId,
        worker: WorkerId,
        slot: Slot,
        out: &mut Vec<Placement>,
    ) {
        let Some(lane) = self.endpoints.get_mut(&endpoint) else {
            return;
        };
        lane.members.insert(worker, Member::new(slot));
        self.workers.entry(worker).or_insert_with(Load::new);
        self.place(now, endpoint, out);
    }

    /// A worker serves an endpoint no longer. What is in flight to it may still be answered.
    pub fn leave(&mut self, endpoint: EndpointId, worker: WorkerId) {
        if let Some(lane) = self.endpoints.get_mut(&endpoint) {
            lane.members.remove(&worker);
            lane.direct.remove(&worker);
            lane.scheduler.forget(worker);
        }
    }

    /// A worker accepts at an endpoint by itself, and takes nothing that is handed over.
    pub fn direct(&mut self, endpoint: EndpointId, worker: WorkerId) {
        if let Some(lane) = self.endpoints.get_mut(&endpoint) {
            lane.direct.insert(worker);
            self.workers.entry(worker).or_insert_with(Load::new).direct = true;
        }
    }

    /// Whether a worker takes nothing that is handed over, because it accepts by itself.
    #[must_use]
    pub fn is_direct(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|load| load.direct)
    }

    /// Whether a worker stops to accept when it is told: one of our own library's that has its sockets itself.
    #[must_use]
    pub fn obeys(&self, worker: WorkerId) -> bool {
        let load = self.workers.get(&worker);
        load.is_some_and(|load| load.closed.is_some() && !load.direct)
    }

    /// A worker is out of rotation everywhere. What is in flight to it may still be answered.
    pub fn retire(&mut self, worker: WorkerId) {
        let served: Vec<EndpointId> = self.endpoints.keys().copied().collect();
        for endpoint in served {
            self.leave(endpoint, worker);
        }
    }

    /// A worker's channel is closed and everything it said has been read: what it did not answer it did not
    /// get, and goes to others. What it accepted is its own, as long as its process lives.
    pub fn silent(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Placement>) {
        self.retire(worker);
        let Some(load) = self.workers.get_mut(&worker) else {
            return;
        };
        let mut touched = Vec::new();
        for sent in std::mem::take(&mut load.in_flight).into_iter().rev() {
            self.park_first(sent.endpoint, sent.visit, out);
            touched.push(sent.endpoint);
        }
        touched.dedup();
        for endpoint in touched {
            self.place(now, endpoint, out);
        }
    }

    /// A worker's process is gone.
    pub fn lost(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Placement>) {
        self.silent(now, worker, out);
        if let Some(kept) = self.workers.remove(&worker).and_then(|load| load.probation) {
            let Visit { connection, client } = kept.visit;
            self.orphans.insert(connection, (kept.endpoint, client));
            out.push(Placement::Look { worker, connection });
        }
    }

    /// We accepted a connection from this client, if it has an address.
    pub fn arrived(
        &mut self,
        now: Time,
        endpoint: EndpointId,
        connection: Token,
        client: Option<Client>,
        out: &mut Vec<Placement>,
    ) {
        match self.endpoints.get_mut(&endpoint) {
            Some(lane) => lane.parked.push_back(Visit { connection, client }),
            None => return out.push(Placement::Release { connection }),
        }
        self.place(now, endpoint, out);
    }

    /// Accepting failed for want of descriptors or memory: leave the queue alone for a moment.
    pub fn accept_failed(&mut self, now: Time, endpoint: EndpointId) {
        if let Some(lane) = self.endpoints.get_mut(&endpoint) {
            lane.accept_again = Some(now + ACCEPT_PAUSE);
        }
    }

    /// A worker answered.
    pub fn answered(
        &mut self,
        now: Time,
        worker: WorkerId,
        connection: Token,
        accepted: bool,
        out: &mut Vec<Placement>,
    ) {
        self.heard(worker, out);
        let Some(load) = self.workers.get_mut(&worker) else {
            return;
        };
        let Some(sent) = load.take(connection) else { return };
        load.starved = Pause::default();
        load.adapt(now.since(sent.at));
        load.accepted += u64::from(accepted);
        if accepted {
            let tells = self
                .endpoints
                .get(&sent.endpoint)
                .is_some_and(|lane| lane.probation);
            match tells {
                true => load.probation = Some(Probation::new(now, sent.visit, sent.endpoint)),
                false => out.push(Placement::Release { connection }),
            }
        }
        if let Some(pause) = self.pause_of(sent.endpoint, worker) {
            if accepted {
                *pause = Pause::default()
            } else {
                pause.extend(now, LONGEST_REFUSAL)
            }
        }
        if !accepted {
            self.park_first(sent.endpoint, sent.visit, out);
        }
        self.place_where_it_serves(now, worker, sent.endpoint, out);
    }

    /// A worker said something else: whatever it accepted before, its app has seen.
    pub fn heard(&mut self, worker: WorkerId, out: &mut Vec<Placement>) {
        let kept = self
            .workers
            .get_mut(&worker)
            .and_then(|load| load.probation.take());
        if let Some(Probation { visit, .. }) = kept {
            let connection = visit.connection;
            out.push(Placement::Release { connection });
        }
    }

    /// A connection's descriptor did not arrive: the worker has none free.
    pub fn undelivered(&mut self, now: Time, worker: WorkerId, connection: Token, out: &mut Vec<Placement>) {
        let Some(load) = self.workers.get_mut(&worker) else {
            return;
        };
        let Some(sent) = load.take(connection) else { return };
        load.starved.extend(now, LONGEST_STARVATION);
        load.window = 1;
        self.park_first(sent.endpoint, sent.visit, out);
        self.place(now, sent.endpoint, out);
    }

    /// What came of [`Placement::Look`].
    pub fn looked(
        &mut self,
        now: Time,
        worker: WorkerId,
        connection: Token,
        look: Look,
        out: &mut Vec<Placement>,
    ) {
        if let Some((endpoint, client)) = self.orphans.remove(&connection) {
            if !look.untouched {
                return out.push(Placement::Release { connection });
            }
            self.park_first(endpoint, Visit { connection, client }, out);
            return self.place(now, endpoint, out);
        }
        let Some(load) = self.workers.get_mut(&worker) else {
            return;
        };
        let Some(kept) = load.probation.take_if(|kept| kept.visit.connection == connection) else {
            return;
        };
        load.probation = kept.after(now, look);
        if load.probation.is_none() {
            out.push(Placement::Release { connection });
        }
    }

    /// Workers with a connection that they have not acknowledged for so long.
    pub fn stuck(&self, now: Time, limit: Duration) -> impl Iterator<Item = WorkerId> {
        self.workers.iter().filter_map(move |(&worker, load)| {
            let oldest = load.in_flight.front()?;
            (now.since(oldest.at) >= limit).then_some(worker)
        })
    }

    /// Whether anybody takes what is handed over at an endpoint.
    #[must_use]
    pub fn has_takers(&self, endpoint: EndpointId) -> bool {
        self.endpoints.get(&endpoint).is_some_and(Lane::has_takers)
    }

    /// Who serves an endpoint.
    pub fn members(&self, endpoint: EndpointId) -> impl Iterator<Item = WorkerId> {
        let lane = self.endpoints.get(&endpoint).into_iter();
        lane.flat_map(|lane| lane.members.keys().copied())
    }

    /// How many connections a worker has not acknowledged.
    #[must_use]
    pub fn unanswered(&self, worker: WorkerId) -> usize {
        self.workers.get(&worker).map_or(0, |load| load.in_flight.len())
    }

    /// Since when the oldest connection of a worker has not been acknowledged.
    #[must_use]
    pub fn oldest(&self, worker: WorkerId) -> Option<Time> {
        Some(self.workers.get(&worker)?.in_flight.front()?.at)
    }

    /// Pauses may be over, probations due.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Placement>) {
        out.extend(self.workers.iter().filter_map(|(&worker, load)| {
            let due = load.probation.as_ref().filter(|kept| kept.look_at <= now)?;
            Some(Placement::Look {
                worker,
                connection: due.visit.connection,
            })
        }));
        let waiting: Vec<EndpointId> = self
            .endpoints
            .iter()
            .filter(|(_, lane)| !lane.parked.is_empty())
            .map(|(&id, _)| id)
            .collect();
        for endpoint in waiting {
            self.place(now, endpoint, out);
        }
    }

    /// The cluster stops: everything parked is handed over now, whatever the windows say. What workers read after
    /// it on their channels (the request to leave) finds it already theirs.
    pub fn flush(&mut self, now: Time, out: &mut Vec<Placement>) {
        for (&endpoint, lane) in &mut self.endpoints {
            lane.flush(now, endpoint, &mut self.workers, out);
        }
    }

    /// How many connections may be accepted now: as many as can be handed over at once.
    #[must_use]
    pub fn demand(&self, now: Time, endpoint: EndpointId) -> usize {
        let Some(lane) = self.endpoints.get(&endpoint) else {
            return 0;
        };
        lane.demand(now, &self.workers)
    }

    /// When [`tick`](Self::tick) and [`demand`](Self::demand) may find something that they do not find now.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let lanes = self.endpoints.values();
        let changes = lanes.flat_map(|lane| lane.changes(&self.workers));
        let looks = self
            .workers
            .values()
            .filter_map(|load| load.probation.as_ref())
            .map(|kept| kept.look_at);
        // A look that is due is done by the next tick; a pause that is over needs none.
        changes.filter(|&at| at > now).chain(looks).min()
    }

    /// Connections that a worker said it took.
    #[must_use]
    pub fn accepted(&self, worker: WorkerId) -> u64 {
        self.workers.get(&worker).map_or(0, |load| load.accepted)
    }

    /// A worker will tell how many of its connections have ended.
    pub fn counts(&mut self, worker: WorkerId) {
        let load = self.workers.entry(worker).or_insert_with(Load::new);
        load.closed.get_or_insert(0);
    }

    /// A worker says that so many of its connections have ended in all: never fewer than before, nor more than it had.
    pub fn closed(&mut self, worker: WorkerId, total: u64) {
        let Some(load) = self.workers.get_mut(&worker) else {
            return;
        };
        let had = load.accepted.saturating_add(load.probes);
        load.closed = Some(total.min(had).max(load.closed.unwrap_or(0)));
    }

    /// A worker took a probe of ours: it will be among those that it says have ended.
    pub fn probe_taken(&mut self, worker: WorkerId) {
        if let Some(load) = self.workers.get_mut(&worker) {
            load.probes += 1;
        }
    }

    /// Connections handed over to a worker that it has open, if it tells.
    #[must_use]
    pub fn open_connections(&self, worker: WorkerId) -> Option<u64> {
        self.workers.get(&worker)?.open()
    }

    /// Connections that a worker has not answered.
    #[must_use]
    pub fn in_flight(&self, worker: WorkerId) -> usize {
        self.workers.get(&worker).map_or(0, |load| load.in_flight.len())
    }

    /// Connections that nobody has taken yet: parked, in flight, or about to be parked again.
    #[must_use]
    pub fn held(&self) -> usize {
        self.endpoints
            .values()
            .map(|lane| lane.parked.len())
            .sum::<usize>()
            + self
                .workers
                .values()
                .map(|load| load.in_flight.len())
                .sum::<usize>()
            + self.orphans.len()
    }

    fn pause_of(&mut self, endpoint: EndpointId, worker: WorkerId) -> Option<&mut Pause> {
        let member = self.endpoints.get_mut(&endpoint)?.members.get_mut(&worker)?;
        Some(&mut member.pause)
    }

    fn park_first(&mut self, endpoint: EndpointId, visit: Visit, out: &mut Vec<Placement>) {
        let connection = visit.connection;
        match self.endpoints.get_mut(&endpoint) {
            Some(lane) => lane.parked.push_front(visit),
            None => out.push(Placement::Release { connection }),
        }
    }

    /// An answer makes room in a worker, for every endpoint that it serves.
    fn place_where_it_serves(
        &mut self,
        now: Time,
        worker: WorkerId,
        first: EndpointId,
        out: &mut Vec<Placement>,
    ) {
        self.place(now, first, out);
        let waiting: Vec<EndpointId> = self
            .endpoints
            .iter()
            .filter(|(id, lane)| {
                **id != first && !lane.parked.is_empty() && lane.members.contains_key(&worker)
            })
            .map(|(&id, _)| id)
            .collect();
        for endpoint in waiting {
            self.place(now, endpoint, out);
        }
    }

    /// Hands over parked connections while somebody can take one.
    fn place(&mut self, now: Time, endpoint: EndpointId, out: &mut Vec<Placement>) {
        if let Some(lane) = self.endpoints.get_mut(&endpoint) {
            lane.place(now, endpoint, &mut self.workers, out);
        }
    }
}
