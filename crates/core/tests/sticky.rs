//! The same client to the same slot, whatever the others do.

use everup_core::dispatch::{Dispatcher, LOYALTY, MOST_WAITING, Placement};
use everup_core::id::{EndpointId, Slot, Token, WorkerId};
use everup_core::schedule::Policy;
use everup_core::schedule::sticky::Client;
use everup_core::time::Time;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const ENDPOINT: EndpointId = EndpointId(1);

struct World {
    dispatcher: Dispatcher,
    now: Time,
    next: u64,
    workers: BTreeMap<WorkerId, Slot>,
}

impl World {
    fn new(slots: impl IntoIterator<Item = u32>) -> Self {
        let mut dispatcher = Dispatcher::new(Policy::Sticky);
        dispatcher.open(ENDPOINT, false);
        let mut world = Self {
            dispatcher,
            now: Time::ZERO,
            next: 1,
            workers: BTreeMap::new(),
        };
        for slot in slots {
            world.join(slot + 1, slot);
        }
        world
    }

    fn join(&mut self, worker: u32, slot: u32) {
        let (worker, slot) = (WorkerId(worker), Slot(slot));
        self.workers.insert(worker, slot);
        self.dispatcher
            .join(self.now, ENDPOINT, worker, slot, &mut Vec::new());
    }

    fn lose(&mut self, worker: u32) -> Vec<Placement> {
        let mut out = Vec::new();
        self.workers.remove(&WorkerId(worker));
        self.dispatcher.lost(self.now, WorkerId(worker), &mut out);
        out
    }

    fn arrive(&mut self, client: IpAddr) -> (Token, Option<WorkerId>) {
        let connection = Token(self.next);
        self.next += 1;
        let mut out = Vec::new();
        let client = Some(Client::from(client));
        self.dispatcher
            .arrived(self.now, ENDPOINT, connection, client, &mut out);
        (connection, receiver(&out))
    }

    /// A connection comes and is taken at once; the slot that has it.
    fn visit(&mut self, client: IpAddr) -> Slot {
        let (connection, worker) = self.arrive(client);
        let worker = worker.expect("there is room");
        self.dispatcher
            .answered(self.now, worker, connection, true, &mut Vec::new());
        self.workers[&worker]
    }

    fn wait(&mut self, how_long: Duration) -> Vec<Placement> {
        let mut out = Vec::new();
        self.now = self.now + how_long;
        self.dispatcher.tick(self.now, &mut out);
        out
    }
}

fn receiver(out: &[Placement]) -> Option<WorkerId> {
    out.iter().find_map(|placement| match placement {
        Placement::HandOver { worker, .. } => Some(*worker),
        Placement::Release { .. } | Placement::Look { .. } => None,
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(IpAddr::V6),
    ]
}

fn clients(count: u32) -> Vec<IpAddr> {
    let address = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    (0..count).map(address).collect()
}

proptest! {
    #[test]
    fn a_client_stays_with_its_slot_while_that_lives(
        slots in 1..8u32,
        clients in prop::collection::vec(address(), 1..30),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..100),
    ) {
        let mut world = World::new(0..slots);
        let first: Vec<Slot> = clients.iter().map(|client| world.visit(*client)).collect();
        let mut id = slots;
        for index in order {
            let which = index.index(clients.len());
            prop_assert_eq!(world.visit(clients[which]), first[which]);
            // A worker dies, and its successor takes its slot.
            let victim = world.workers.keys().nth(index.index(world.workers.len())).map(|id| id.0);
            let slot = victim.map(|victim| world.workers[&WorkerId(victim)].0);
            if let (Some(victim), Some(slot)) = (victim, slot) {
                world.lose(victim);
                id += 1;
                world.join(id, slot);
            }
        }
    }

    #[test]
    fn only_the_clients_of_a_slot_that_goes_move(slots in 2..9u32, gone in any::<prop::sample::Index>()) {
        let clients = clients(2000);
        let mut world = World::new(0..slots);
        let before: Vec<Slot> = clients.iter().map(|client| world.visit(*client)).collect();
        let gone = u32::try_from(gone.index(slots as usize)).unwrap_or(0);
        world.lose(gone + 1);
        let after: Vec<Slot> = clients.iter().map(|client| world.visit(*client)).collect();
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(before == after || before.0 == gone);
        }
        // About 1/N of them, and to everybody who is left.
        prop_assert!(moved * slots as usize <= clients.len() * 3 / 2, "{moved} of {slots}");
        let receivers: BTreeSet<Slot> = before.iter().zip(&after).filter(|(b, a)| b != a).map(|(_, a)| *a).collect();
        prop_assert_eq!(receivers.len(), slots as usize - 1);
        // When it comes back, so do its clients.
        world.join(100, gone);
        let back: Vec<Slot> = clients.iter().map(|client| world.visit(*client)).collect();
        prop_assert_eq!(back, before);
    }
}

/// Two clients that belong to the first and to the second slot.
fn one_of_each(world: &mut World) -> [IpAddr; 2] {
    [0, 1].map(|slot| {
        let mut all = clients(100).into_iter();
        all.find(|client| world.visit(*client) == Slot(slot))
            .expect("both have some")
    })
}

/// Fills a worker until a connection of its client has to wait.
fn fill(world: &mut World, client: IpAddr) -> Token {
    for _ in 0..100 {
        let (connection, worker) = world.arrive(client);
        if worker.is_none() {
            return connection;
        }
    }
    panic!("a worker takes everything");
}

#[test]
fn one_that_is_full_keeps_its_clients_and_no_others_waiting() {
    let mut world = World::new(0..2);
    let [first, second] = one_of_each(&mut world);
    let waiting = fill(&mut world, first);
    assert!(
        world.dispatcher.demand(world.now, ENDPOINT) > 100,
        "others may come"
    );
    for _ in 0..20 {
        assert_eq!(world.visit(second), Slot(1), "passed by");
    }
    assert_eq!(receiver(&world.wait(LOYALTY / 2)), None);
    let due = world.dispatcher.next_deadline(world.now);
    assert_eq!(due, Some(Time::ZERO + LOYALTY), "not sooner, so nobody spins");
    let moved = world.wait(LOYALTY / 2);
    let other = [Placement::HandOver {
        worker: WorkerId(2),
        connection: waiting,
        endpoint: ENDPOINT,
    }];
    assert_eq!(moved, other, "it is stuck");
    // As long as it is, nobody waits for it any more.
    assert_eq!(world.visit(first), Slot(1));
}

#[test]
fn as_soon_as_there_is_room_the_next_in_line_goes() {
    let mut world = World::new(0..2);
    let [first, _] = one_of_each(&mut world);
    let waiting = fill(&mut world, first);
    let mut out = Vec::new();
    let oldest = (1..waiting.0).rev().map(Token).find(|&connection| {
        world
            .dispatcher
            .answered(world.now, WorkerId(1), connection, true, &mut out);
        !out.is_empty()
    });
    assert!(oldest.is_some());
    let placed = |placement: &Placement| matches!(placement, Placement::HandOver { worker: WorkerId(1), connection, .. } if *connection == waiting);
    assert!(out.iter().any(placed), "{out:?}");
}

#[test]
fn the_dead_and_the_refusing_are_not_waited_for() {
    let mut world = World::new(0..2);
    let [first, _] = one_of_each(&mut world);
    fill(&mut world, first);
    let moved = world.lose(1);
    let to_other = |placement: &&Placement| {
        matches!(
            placement,
            Placement::HandOver {
                worker: WorkerId(2),
                ..
            }
        )
    };
    assert!(moved.iter().filter(to_other).count() > 1, "{moved:?}");

    let mut world = World::new(0..2);
    let [first, _] = one_of_each(&mut world);
    let (connection, _) = world.arrive(first);
    let mut out = Vec::new();
    world
        .dispatcher
        .answered(world.now, WorkerId(1), connection, false, &mut out);
    assert_eq!(receiver(&out), Some(WorkerId(2)), "{out:?}");
}

#[test]
fn so_many_may_wait_and_no_more() {
    let mut world = World::new(0..2);
    let [first, _] = one_of_each(&mut world);
    fill(&mut world, first);
    for waiting in 2..MOST_WAITING {
        assert_eq!(world.arrive(first).1, None, "{waiting}");
    }
    assert_eq!(world.dispatcher.demand(world.now, ENDPOINT), 1);
    assert_eq!(world.arrive(first).1, Some(WorkerId(2)), "the oldest goes on");
}

#[test]
fn the_last_sweep_keeps_to_the_slots() {
    let mut world = World::new(0..2);
    let [first, second] = one_of_each(&mut world);
    fill(&mut world, first);
    world.arrive(second);
    let mut out = Vec::new();
    world.dispatcher.flush(world.now, &mut out);
    assert_eq!(receiver(&out), Some(WorkerId(1)));
    assert_eq!(world.dispatcher.demand(world.now, ENDPOINT).min(1), 1);
}

#[test]
fn nobody_is_there() {
    let mut world = World::new([]);
    assert_eq!(world.dispatcher.demand(world.now, ENDPOINT), 0);
    assert_eq!(world.arrive(clients(1)[0]).1, None);
    assert_eq!(world.dispatcher.held(), 1);
}
