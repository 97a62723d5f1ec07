//! One endpoint: who serves it, and who waits there.

use super::load::Load;
use super::pause::Pause;
use super::{Placement, Visit};
use crate::id::{EndpointId, Slot, WorkerId};
use crate::schedule::sticky::{Choice, Client, Place, Standing, choose};
use crate::schedule::{Candidate, Policy, Scheduler};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many connections may wait at an endpoint for the workers that their clients belong to. One more, and the clients
/// that have waited longest go to others.
pub const MOST_WAITING: usize = 256;

type Loads = BTreeMap<WorkerId, Load>;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Lane {
    pub(super) scheduler: Scheduler,
    pub(super) members: BTreeMap<WorkerId, Member>,
    /// Workers that accept by themselves only.
    pub(super) direct: BTreeSet<WorkerId>,
    pub(super) parked: VecDeque<Visit>,
    pub(super) accept_again: Option<Time>,
    /// Whether its connections tell if they were touched.
    pub(super) probation: bool,
}

/// A worker that serves an endpoint.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Member {
    slot: Slot,
    /// After it refused.
    pub(super) pause: Pause,
}

impl Member {
    pub(super) fn new(slot: Slot) -> Self {
        let pause = Pause::default();
        Self { slot, pause }
    }
}

impl Lane {
    pub(super) fn new(policy: Policy, probation: bool) -> Self {
        Self {
            scheduler: Scheduler::new(policy),
            members: BTreeMap::new(),
            direct: BTreeSet::new(),
            parked: VecDeque::new(),
            accept_again: None,
            probation,
        }
    }

    /// How many connections may be accepted now.
    pub(super) fn demand(&self, now: Time, loads: &Loads) -> usize {
        if self.accept_again.is_some_and(|again| now < again) {
            return 0;
        }
        let eligible = self.takers().filter(|(_, member)| member.pause.over(now));
        let loads = eligible.filter_map(|(id, _)| loads.get(id));
        let room: usize = loads.map(|load| load.room(now)).sum();
        match self.sticky() {
            // Whose a connection is, is known only when it is accepted.
            true if room > 0 => MOST_WAITING.saturating_sub(self.parked.len()),
            true => 0,
            false => room.saturating_sub(self.parked.len()),
        }
    }

    /// When more may be possible than now.
    pub(super) fn changes<'a>(&'a self, loads: &'a Loads) -> impl Iterator<Item = Time> + 'a {
        let (waits, sticky) = (!self.parked.is_empty(), self.sticky());
        let of_member = move |(id, member): (&WorkerId, &Member)| {
            let load = loads.get(id);
            let starved = load.and_then(|load| load.starved.until);
            let waiting = load.filter(|_| waits);
            let tardy = waiting.and_then(Load::tardy_at);
            let forsaken = waiting.filter(|_| sticky).and_then(Load::forsaken_at);
            [member.pause.until, starved, tardy, forsaken]
        };
        let members = self.members.iter().flat_map(of_member);
        members.chain([self.accept_again]).flatten()
    }

    /// Hands over parked connections while somebody can take one.
    pub(super) fn place(
        &mut self,
        now: Time,
        endpoint: EndpointId,
        loads: &mut Loads,
        out: &mut Vec<Placement>,
    ) {
        let mut at = 0;
        while let Some(&visit) = self.parked.get(at) {
            let chosen = match self.belonging(visit) {
                Some(client) => self.own(now, loads, client),
                None => self.next(now, loads),
            };
            let load = chosen.and_then(|worker| Some((worker, loads.get_mut(&worker)?)));
            match load {
                Some((worker, load)) => {
                    self.parked.remove(at);
                    out.push(load.give(now, worker, visit, endpoint));
                }
                // Those of other clients pass it by.
                None if self.sticky() => at += 1,
                None => return,
            }
        }
    }

    /// Everything goes, whatever the windows say.
    pub(super) fn flush(
        &mut self,
        now: Time,
        endpoint: EndpointId,
        loads: &mut Loads,
        out: &mut Vec<Placement>,
    ) {
        while let Some(visit) = self.parked.pop_front() {
            let chosen = match self.belonging(visit) {
                Some(client) => self.own_at_last(client),
                None => self.next_at_last(loads),
            };
            let load = chosen.and_then(|worker| Some((worker, loads.get_mut(&worker)?)));
            out.push(match load {
                Some((worker, load)) => load.give(now, worker, visit, endpoint),
                None => Placement::Release {
                    connection: visit.connection,
                },
            });
        }
    }

    fn sticky(&self) -> bool {
        matches!(self.scheduler, Scheduler::Sticky(_))
    }

    /// The client, if it belongs to one of the workers.
    fn belonging(&self, visit: Visit) -> Option<Client> {
        visit.client.filter(|_| self.sticky())
    }

    pub(super) fn has_takers(&self) -> bool {
        self.takers().next().is_some()
    }

    /// Those who take what is handed over.
    fn takers(&self) -> impl Iterator<Item = (&WorkerId, &Member)> {
        let direct = &self.direct;
        self.members.iter().filter(|(id, _)| !direct.contains(id))
    }

    /// Whose turn it is, if it has room.
    fn next(&mut self, now: Time, loads: &Loads) -> Option<WorkerId> {
        let (members, direct) = (self.members.iter(), &self.direct);
        let eligible = members.filter(|(id, member)| !direct.contains(id) && member.pause.over(now));
        let candidates = eligible.filter_map(|(&worker, _)| {
            let load = loads.get(&worker)?;
            let room = load.room(now) > 0;
            (room || load.prompt(now)).then(|| candidate(worker, load, room))
        });
        self.scheduler.pick(candidates)
    }

    fn next_at_last(&mut self, loads: &Loads) -> Option<WorkerId> {
        let (members, direct) = (self.members.keys(), &self.direct);
        let members = members.filter(|id| !direct.contains(id));
        let candidates = members.filter_map(|&worker| Some(candidate(worker, loads.get(&worker)?, true)));
        self.scheduler.pick(candidates)
    }

    /// The worker that a client belongs to now, if it has room.
    fn own(&self, now: Time, loads: &Loads, client: Client) -> Option<WorkerId> {
        let full = self.parked.len() >= MOST_WAITING;
        let places = self.takers().filter_map(|(&worker, member)| {
            let load = loads.get(&worker)?;
            let standing = match member.pause.over(now) {
                true if load.room(now) > 0 => Standing::Room,
                true if load.deserves_loyalty(now) && !full => Standing::Busy,
                true | false => Standing::Away,
            };
            Some(member.place(worker, standing))
        });
        went(choose(client, places))
    }

    fn own_at_last(&self, client: Client) -> Option<WorkerId> {
        let places = self
            .takers()
            .map(|(&worker, member)| member.place(worker, Standing::Room));
        went(choose(client, places))
    }
}

impl Member {
    fn place(&self, worker: WorkerId, standing: Standing) -> Place {
        Place {
            worker,
            slot: self.slot,
            standing,
        }
    }
}

fn went(choice: Choice) -> Option<WorkerId> {
    match choice {
        Choice::Go(worker) => Some(worker),
        Choice::Wait => None,
    }
}

fn candidate(worker: WorkerId, load: &Load, room: bool) -> Candidate {
    Candidate {
        worker,
        in_flight: load.in_flight.len(),
        open: load.open(),
        room,
    }
}
