//! Where connections go when workers tell how many they have open.

use everup_core::dispatch::{Dispatcher, Placement};
use everup_core::id::{EndpointId, Slot, Token, WorkerId};
use everup_core::schedule::Policy;
use everup_core::time::Time;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ENDPOINT: EndpointId = EndpointId(1);
const NOW: Time = Time::ZERO;

/// Workers that take every connection at once, and what each of them has open.
struct World {
    dispatcher: Dispatcher,
    open: BTreeMap<WorkerId, u64>,
    closed: BTreeMap<WorkerId, u64>,
    next: u64,
}

impl World {
    fn new() -> Self {
        let mut dispatcher = Dispatcher::new(Policy::LeastConnections);
        dispatcher.open(ENDPOINT, true);
        Self {
            dispatcher,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            next: 1,
        }
    }

    fn join(&mut self, worker: u32, counts: bool) {
        let worker = WorkerId(worker);
        if counts {
            self.dispatcher.counts(worker);
        }
        self.dispatcher
            .join(NOW, ENDPOINT, worker, Slot(worker.0), &mut Vec::new());
        self.open.insert(worker, 0);
    }

    fn join_next(&mut self) {
        let last = self.open.keys().map(|worker| worker.0).max();
        self.join(last.unwrap_or(0) + 1, true);
    }

    /// A connection comes; who gets it.
    fn connect(&mut self) -> WorkerId {
        let connection = Token(self.next);
        self.next += 1;
        let mut out = Vec::new();
        self.dispatcher.arrived(NOW, ENDPOINT, connection, None, &mut out);
        let [Placement::HandOver { worker, .. }] = out[..] else {
            panic!("{out:?}");
        };
        self.dispatcher
            .answered(NOW, worker, connection, true, &mut Vec::new());
        *self.open.entry(worker).or_default() += 1;
        worker
    }

    fn end(&mut self, worker: u32, connections: u64) {
        let worker = WorkerId(worker);
        let open = self.open.entry(worker).or_default();
        let ended = connections.min(*open);
        *open -= ended;
        let closed = self.closed.entry(worker).or_default();
        *closed += ended;
        self.dispatcher.closed(worker, *closed);
    }

    fn spread(&self) -> u64 {
        let counts = || self.open.values().copied();
        counts().max().unwrap_or(0) - counts().min().unwrap_or(0)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Connect(u64),
    End { worker: u32, connections: u64 },
    Join,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20u64).prop_map(Step::Connect),
        4 => (1..6u32, 1..20u64).prop_map(|(worker, connections)| Step::End { worker, connections }),
        1 => Just(Step::Join),
    ]
}

proptest! {
    #[test]
    fn a_new_connection_goes_to_one_with_the_fewest_open(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::new();
        world.join(1, true);
        for step in steps {
            match step {
                Step::Connect(connections) => for _ in 0..connections {
                    let least = world.open.values().copied().min();
                    let before = world.open.clone();
                    let chosen = world.connect();
                    prop_assert_eq!(before.get(&chosen).copied(), least);
                },
                Step::End { worker, connections } if world.open.contains_key(&WorkerId(worker)) => {
                    world.end(worker, connections);
                }
                Step::Join if world.open.len() < 5 => world.join_next(),
                Step::End { .. } | Step::Join => {}
            }
            for (&worker, &open) in &world.open {
                prop_assert_eq!(world.dispatcher.open_connections(worker), Some(open));
            }
        }
        // Whatever was before: connections that stay make it even.
        let missing: u64 = world.open.values().map(|open| world.open.values().max().unwrap_or(&0) - open).sum();
        for _ in 0..missing {
            world.connect();
        }
        prop_assert!(world.spread() <= 1, "{:?}", world.open);
        for _ in 0..100 {
            world.connect();
            prop_assert!(world.spread() <= 1, "{:?}", world.open);
        }
    }

    #[test]
    fn what_a_worker_says_is_kept_within_bounds(totals in prop::collection::vec((any::<u64>(), 0..9u64, any::<bool>()), 1..50)) {
        let mut world = World::new();
        world.join(1, false);
        let one = WorkerId(1);
        prop_assert_eq!(world.dispatcher.open_connections(one), None);
        let (mut had, mut closed) = (0, 0);
        for (total, connections, small) in totals {
            for _ in 0..connections {
                world.connect();
                had += 1;
            }
            world.dispatcher.closed(one, if small { total % (had + 2) } else { total });
            let open = world.dispatcher.open_connections(one).unwrap_or(u64::MAX);
            prop_assert!(open <= had - closed, "it goes back: {open} of {had}, {closed} closed before");
            closed = had - open;
        }
    }
}

#[test]
fn probes_are_among_those_that_end() {
    let mut world = World::new();
    world.join(1, true);
    world.connect();
    world.connect();
    world.dispatcher.probe_taken(WorkerId(1));
    world.dispatcher.closed(WorkerId(1), 1);
    assert_eq!(world.dispatcher.open_connections(WorkerId(1)), Some(2));
}

#[test]
fn one_that_does_not_tell_is_served_like_the_others() {
    let mut world = World::new();
    world.join(1, true);
    world.join(2, false);
    for _ in 0..10 {
        world.connect();
    }
    assert_eq!(world.spread(), 0, "{:?}", world.open);
}

#[test]
fn a_worker_that_is_gone_is_forgotten() {
    let mut world = World::new();
    world.join(1, true);
    world.connect();
    world.dispatcher.lost(NOW, WorkerId(1), &mut Vec::new());
    world.dispatcher.closed(WorkerId(1), 1);
    assert_eq!(world.dispatcher.open_connections(WorkerId(1)), None);
}
