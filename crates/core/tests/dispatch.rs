//! The dispatcher against a model that knows where every connection is.

use everup_core::dispatch::{Dispatcher, Look, MAX_WINDOW, Placement};
use everup_core::id::{EndpointId, Slot, Token, WorkerId};
use everup_core::schedule::Policy;
use everup_core::schedule::sticky::Client;
use everup_core::time::Time;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

const ENDPOINT: EndpointId = EndpointId(1);

#[derive(Debug, Clone)]
enum Step {
    Join(u32),
    Leave(u32),
    Lost(u32),
    Accept(usize),
    Answer { worker: u32, nth: usize, accepted: bool },
    Nack { worker: u32, nth: usize },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 1..5u32;
    prop_oneof![
        2 => worker.clone().prop_map(Step::Join),
        1 => worker.clone().prop_map(Step::Leave),
        1 => worker.clone().prop_map(Step::Lost),
        6 => (1..12usize).prop_map(Step::Accept),
        10 => (worker.clone(), 0..8usize, prop::bool::weighted(0.8))
            .prop_map(|(worker, nth, accepted)| Step::Answer { worker, nth, accepted }),
        1 => (worker, 0..8usize).prop_map(|(worker, nth)| Step::Nack { worker, nth }),
        3 => (0..50u64).prop_map(Step::Wait),
    ]
}

/// Some clients come again and again; some have no address.
fn client(connection: Token) -> Option<Client> {
    let number = u8::try_from(connection.0 % 8).ok().filter(|number| *number > 0)?;
    Some(IpAddr::from([192, 0, 2, number]).into())
}

#[derive(Debug)]
struct World {
    policy: Policy,
    dispatcher: Dispatcher,
    now: Time,
    next: u64,
    members: BTreeSet<u32>,
    dead: BTreeSet<u32>,
    in_flight: BTreeMap<u32, Vec<Token>>,
    parked: BTreeSet<Token>,
    /// Accepted, and our copy kept.
    probation: BTreeMap<u32, Token>,
    /// Whether connections that are looked at are untouched.
    untouched: bool,
    asleep: bool,
    /// Whether workers tell how many connections have ended; none does here.
    counts: bool,
    taken: BTreeSet<Token>,
}

impl World {
    fn new(policy: Policy) -> Self {
        let mut dispatcher = Dispatcher::new(policy);
        dispatcher.open(ENDPOINT, true);
        Self {
            policy,
            dispatcher,
            now: Time::ZERO,
            next: 1,
            members: BTreeSet::new(),
            dead: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            parked: BTreeSet::new(),
            probation: BTreeMap::new(),
            untouched: false,
            asleep: false,
            counts: false,
            taken: BTreeSet::new(),
        }
    }

    fn apply(&mut self, out: Vec<Placement>) {
        let mut out = VecDeque::from(out);
        while let Some(placement) = out.pop_front() {
            match placement {
                Placement::Look { worker, connection } => {
                    let mut more = Vec::new();
                    if self.untouched && self.dead.contains(&worker.0) {
                        self.taken.remove(&connection);
                        self.parked.insert(connection);
                    }
                    let look = self.look();
                    self.dispatcher
                        .looked(self.now, worker, connection, look, &mut more);
                    out.extend(more);
                }
                Placement::HandOver {
                    worker,
                    connection,
                    endpoint,
                } => {
                    assert_eq!(endpoint, ENDPOINT);
                    assert!(
                        self.members.contains(&worker.0),
                        "handed to one that does not serve"
                    );
                    assert!(
                        self.parked.remove(&connection),
                        "handed over twice, or from nowhere"
                    );
                    let queue = self.in_flight.entry(worker.0).or_default();
                    queue.push(connection);
                    assert!(queue.len() <= MAX_WINDOW, "window passed");
                }
                Placement::Release { connection } => {
                    assert!(
                        self.taken.contains(&connection),
                        "released without being accepted"
                    );
                    self.probation.retain(|_, kept| *kept != connection);
                }
            }
        }
        let flying: usize = self.in_flight.values().map(Vec::len).sum();
        assert_eq!(
            self.dispatcher.held(),
            self.parked.len() + flying,
            "a connection is lost track of"
        );
    }

    fn step(&mut self, step: Step) {
        let mut out = Vec::new();
        match step {
            Step::Join(worker) => {
                self.members.insert(worker);
                self.dead.remove(&worker);
                if self.counts {
                    self.dispatcher.counts(WorkerId(worker));
                }
                self.dispatcher
                    .join(self.now, ENDPOINT, WorkerId(worker), Slot(worker), &mut out);
                self.apply(out);
            }
            Step::Leave(worker) => {
                self.members.remove(&worker);
                self.dispatcher.leave(ENDPOINT, WorkerId(worker));
            }
            Step::Lost(worker) => {
                self.members.remove(&worker);
                self.dead.insert(worker);
                self.parked
                    .extend(self.in_flight.remove(&worker).unwrap_or_default());
                self.dispatcher.lost(self.now, WorkerId(worker), &mut out);
                self.apply(out);
            }
            Step::Accept(most) => {
                for _ in 0..self.dispatcher.demand(self.now, ENDPOINT).min(most) {
                    let connection = Token(self.next);
                    self.next += 1;
                    self.parked.insert(connection);
                    let mut out = Vec::new();
                    self.dispatcher
                        .arrived(self.now, ENDPOINT, connection, client(connection), &mut out);
                    self.apply(out);
                    assert!(
                        !self.parked.contains(&connection)
                            || self.policy != Policy::LeastConnections
                            || self.counts,
                        "accepted more than can be handed over"
                    );
                }
            }
            Step::Answer {
                worker,
                nth,
                accepted,
            } => {
                let Some(connection) = self.remove(worker, nth) else {
                    return;
                };
                match accepted {
                    true => assert!(self.taken.insert(connection), "accepted twice"),
                    false => assert!(self.parked.insert(connection)),
                }
                self.dispatcher
                    .answered(self.now, WorkerId(worker), connection, accepted, &mut out);
                self.apply(out);
            }
            Step::Nack { worker, nth } => {
                let Some(connection) = self.remove(worker, nth) else {
                    return;
                };
                self.parked.insert(connection);
                self.dispatcher
                    .undelivered(self.now, WorkerId(worker), connection, &mut out);
                self.apply(out);
            }
            Step::Wait(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                self.dispatcher.tick(self.now, &mut out);
                self.apply(out);
            }
        }
    }

    fn look(&self) -> Look {
        Look {
            untouched: self.untouched,
            asleep: self.asleep,
        }
    }

    fn remove(&mut self, worker: u32, nth: usize) -> Option<Token> {
        let queue = self.in_flight.get_mut(&worker)?;
        (nth < queue.len()).then(|| queue.remove(nth))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_connection_is_in_one_place_until_a_worker_has_it(
        steps in prop::collection::vec(step(), 1..200),
        untouched: bool,
        counts: bool,
        policy in prop_oneof![Just(Policy::RoundRobin), Just(Policy::LeastConnections), Just(Policy::Sticky)],
    ) {
        let mut world = World::new(policy);
        world.untouched = untouched;
        world.counts = counts;
        for step in steps {
            world.step(step);
        }
        // In the end everybody can serve and answers: nothing may be left.
        world.step(Step::Join(9));
        for _ in 0..1000 {
            world.step(Step::Wait(2000));
            for worker in [1, 2, 3, 4, 9] {
                world.step(Step::Answer { worker, nth: 0, accepted: true });
            }
        }
        prop_assert_eq!(world.dispatcher.held(), 0);
        prop_assert_eq!(world.taken.len() as u64, world.next - 1);
    }
}

fn world_with(policy: Policy, workers: u32) -> World {
    let mut world = World::new(policy);
    for worker in 1..=workers {
        world.step(Step::Join(worker));
    }
    world
}

#[test]
fn rotation_is_exact_over_three_thousand_connections_whoever_answers_first() {
    let mut world = world_with(Policy::RoundRobin, 3);
    let mut had = BTreeMap::<u32, usize>::new();
    for round in 0.. {
        world.step(Step::Accept(3));
        // Worker 2 answers in bursts: nothing for two rounds, then all.
        for worker in if round % 3 == 2 {
            vec![3, 1, 2, 2, 2]
        } else {
            vec![3, 1]
        } {
            let before = world.taken.len();
            world.step(Step::Answer {
                worker,
                nth: 0,
                accepted: true,
            });
            *had.entry(worker).or_default() += world.taken.len() - before;
        }
        world.step(Step::Wait(1));
        if world.taken.len() >= 3000 {
            break;
        }
    }
    let (least, most) = (had.values().min().unwrap(), had.values().max().unwrap());
    assert!(most - least <= 3, "{had:?}");
}

#[test]
fn a_worker_that_hangs_holds_rotation_up_for_a_moment_only() {
    let mut world = world_with(Policy::RoundRobin, 2);
    let answer_two = |world: &mut World| {
        while world.in_flight.get(&2).is_some_and(|queue| !queue.is_empty()) {
            world.step(Step::Answer {
                worker: 2,
                nth: 0,
                accepted: true,
            });
        }
    };
    // Worker 1 hangs with what it has.
    for _ in 0..5 {
        world.step(Step::Accept(8));
        answer_two(&mut world);
    }
    assert!(!world.parked.is_empty(), "its turn is waited for");
    let due = world.dispatcher.next_deadline(world.now).unwrap();
    assert!(due <= world.now + Duration::from_millis(20));
    let before = world.taken.len();
    for _ in 0..10 {
        world.step(Step::Wait(20));
        world.step(Step::Accept(8));
        answer_two(&mut world);
    }
    assert!(world.taken.len() >= before + 10, "the others go on");
    assert!(world.parked.is_empty());
}

#[test]
fn all_refusing_is_no_spin_and_no_loss() {
    let mut world = world_with(Policy::LeastConnections, 2);
    world.step(Step::Accept(1));
    for _ in 0..2 {
        for worker in [1, 2] {
            world.step(Step::Answer {
                worker,
                nth: 0,
                accepted: false,
            });
        }
    }
    assert_eq!(world.parked.len(), 1, "it waits with us");
    assert_eq!(
        world.dispatcher.demand(world.now, ENDPOINT),
        0,
        "and no other is accepted meanwhile"
    );
    let mut asked = 0;
    for _ in 0..1000 {
        world.step(Step::Wait(10));
        for worker in [1, 2] {
            if world
                .in_flight
                .get(&worker)
                .is_some_and(|queue| !queue.is_empty())
            {
                asked += 1;
                world.step(Step::Answer {
                    worker,
                    nth: 0,
                    accepted: false,
                });
            }
        }
    }
    assert!((80..140).contains(&asked), "asked {asked} times in 10 s");
    while world.parked.len() == 1 {
        world.step(Step::Wait(10));
    }
    for worker in [1, 2] {
        world.step(Step::Answer {
            worker,
            nth: 0,
            accepted: true,
        });
    }
    assert_eq!(world.taken.len(), 1);
}

#[test]
fn a_starved_worker_is_left_alone_for_a_moment_and_used_again() {
    let mut world = world_with(Policy::LeastConnections, 1);
    world.step(Step::Accept(1));
    world.step(Step::Nack { worker: 1, nth: 0 });
    assert_eq!(world.parked.len(), 1);
    world.step(Step::Wait(25));
    assert_eq!(world.parked.len(), 0, "sent again");
    world.step(Step::Answer {
        worker: 1,
        nth: 0,
        accepted: true,
    });
    assert!(world.dispatcher.demand(world.now, ENDPOINT) > 0);
}

#[test]
fn nobody_there_means_nothing_is_accepted() {
    let mut world = World::new(Policy::RoundRobin);
    assert_eq!(world.dispatcher.demand(world.now, ENDPOINT), 0);
    world.step(Step::Join(1));
    assert_eq!(
        world.dispatcher.demand(world.now, ENDPOINT),
        1,
        "the window starts with one"
    );
}

#[test]
fn what_a_worker_accepted_and_never_touched_goes_to_another() {
    let mut world = world_with(Policy::RoundRobin, 1);
    world.untouched = true;
    world.step(Step::Accept(1));
    world.step(Step::Answer {
        worker: 1,
        nth: 0,
        accepted: true,
    });
    world.step(Step::Lost(1));
    assert_eq!((world.parked.len(), world.taken.len()), (1, 0));
    world.step(Step::Join(2));
    world.step(Step::Answer {
        worker: 2,
        nth: 0,
        accepted: true,
    });
    assert_eq!(world.taken.len(), 1);
}

#[test]
fn our_copy_goes_with_the_next_answer_or_when_it_was_touched_or_in_time() {
    let released = |world: &mut World, ms: u64| {
        let mut out = Vec::new();
        world.now = world.now + Duration::from_millis(ms);
        world.dispatcher.tick(world.now, &mut out);
        for look in std::mem::take(&mut out) {
            if let Placement::Look { worker, connection } = look {
                let look = world.look();
                world
                    .dispatcher
                    .looked(world.now, worker, connection, look, &mut out);
            }
        }
        out.iter()
            .filter(|placement| matches!(placement, Placement::Release { .. }))
            .count()
    };
    let accepted = |untouched| {
        let mut world = world_with(Policy::RoundRobin, 1);
        world.untouched = untouched;
        world.step(Step::Accept(1));
        world.step(Step::Answer {
            worker: 1,
            nth: 0,
            accepted: true,
        });
        world
    };
    assert_eq!(released(&mut accepted(false), 1), 0, "it is not looked at yet");
    assert_eq!(released(&mut accepted(false), 2), 1, "it was touched");
    let mut world = accepted(true);
    world.asleep = true;
    assert_eq!(
        (released(&mut world, 2), released(&mut world, 4)),
        (0, 1),
        "its worker sleeps"
    );
    let mut world = accepted(true);
    assert_eq!(
        (
            released(&mut world, 10),
            released(&mut world, 100),
            released(&mut world, 200)
        ),
        (0, 0, 1)
    );
    assert_eq!(world.dispatcher.next_deadline(world.now), None);

    let mut world = accepted(true);
    let mut out = Vec::new();
    world.dispatcher.heard(WorkerId(1), &mut out);
    assert!(
        matches!(out[..], [Placement::Release { connection: Token(1) }]),
        "it said something: {out:?}"
    );

    let mut world = accepted(true);
    world.step(Step::Accept(1));
    let second = world.remove(1, 0).unwrap();
    let mut out = Vec::new();
    world
        .dispatcher
        .answered(world.now, WorkerId(1), second, true, &mut out);
    assert!(
        matches!(out[..], [Placement::Release { connection: Token(1) }]),
        "{out:?}"
    );
}

#[test]
fn a_failed_accept_pauses_the_listener() {
    let mut world = world_with(Policy::RoundRobin, 1);
    world.dispatcher.accept_failed(world.now, ENDPOINT);
    assert_eq!(world.dispatcher.demand(world.now, ENDPOINT), 0);
    let again = world.dispatcher.next_deadline(world.now).unwrap();
    assert!(world.dispatcher.demand(again, ENDPOINT) > 0);
}

#[test]
fn the_last_sweep_hands_over_whatever_the_windows_say() {
    let mut world = world_with(Policy::RoundRobin, 2);
    let mut out = Vec::new();
    for n in 100..200 {
        world
            .dispatcher
            .arrived(world.now, ENDPOINT, Token(n), None, &mut out);
    }
    world.dispatcher.flush(world.now, &mut out);
    let handed = out
        .iter()
        .filter(|p| matches!(p, Placement::HandOver { .. }))
        .count();
    assert_eq!((handed, out.len()), (100, 100));
    assert_eq!(world.dispatcher.in_flight(WorkerId(1)), 50);
}
