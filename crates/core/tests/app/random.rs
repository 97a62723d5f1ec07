//! Random histories: workers boot, die, refuse and hang at random while clients connect and operators act.
//!
//! The invariants are asserted by the simulation as it acts: one living worker per slot, a connection in one
//! place, nothing given to the dead, nothing after the end, no spinning.

use super::sim::{Sim, config};
use everup_core::app::{Config, Input, Notice};
use everup_core::exit::ExitStatus;
use everup_core::id::WorkerId;
use everup_core::schedule::Policy;
use everup_core::wire::Event;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    Boot(usize),
    Connect(usize),
    Answer(usize, bool),
    Nack(usize),
    Die(usize),
    Hang(usize),
    Disconnect(usize),
    Leave(usize),
    Obey(usize),
    Garble(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..6usize;
    prop_oneof![
        6 => who().prop_map(Step::Boot),
        8 => (1..10usize).prop_map(Step::Connect),
        12 => (who(), prop::bool::weighted(0.85)).prop_map(|(who, ok)| Step::Answer(who, ok)),
        1 => who().prop_map(Step::Nack),
        3 => who().prop_map(Step::Die),
        1 => who().prop_map(Step::Hang),
        1 => who().prop_map(Step::Disconnect),
        1 => who().prop_map(Step::Leave),
        4 => who().prop_map(Step::Obey),
        1 => who().prop_map(Step::Garble),
        6 => prop_oneof![0..20u64, 100..3000u64].prop_map(Step::Wait),
    ]
}

fn pick(sim: &Sim, nth: usize) -> Option<WorkerId> {
    let ids = sim.ids();
    (!ids.is_empty()).then(|| ids[nth % ids.len()])
}

fn take(sim: &mut Sim, step: &Step) {
    let who = match *step {
        Step::Boot(n) | Step::Answer(n, _) | Step::Nack(n) | Step::Die(n) | Step::Hang(n) => pick(sim, n),
        Step::Disconnect(n) | Step::Leave(n) | Step::Obey(n) | Step::Garble(n) => pick(sim, n),
        Step::Connect(most) => return sim.connect(most),
        Step::Wait(ms) => return sim.wait(Duration::from_millis(ms)),
    };
    let Some(worker) = who else { return };
    match *step {
        Step::Boot(_) => sim.boot(worker),
        Step::Answer(_, accepted) => sim.answer(worker, accepted),
        Step::Nack(_) => {
            let lost = sim
                .alive
                .get_mut(&worker)
                .and_then(|process| process.in_flight.pop_front());
            if let Some(connection) = lost {
                sim.say(worker, Event::Undelivered(connection));
            }
        }
        Step::Die(_) => sim.die(
            worker,
            ExitStatus::Signal {
                signal: 9,
                core: false,
            },
        ),
        Step::Hang(_) => {
            sim.alive
                .get_mut(&worker)
                .expect("picked from the living")
                .stubborn = true
        }
        Step::Disconnect(_) => sim.feed(Input::Disconnect { worker }),
        Step::Leave(_) => sim.say(worker, Event::Leaving),
        Step::Obey(_) => obey(sim, worker),
        Step::Garble(_) => sim.feed(Input::Garbled {
            worker,
            what: "nonsense".into(),
        }),
        Step::Connect(_) | Step::Wait(_) => {}
    }
}

/// Does what it was told to: a stubborn one only dies of SIGKILL.
fn obey(sim: &mut Sim, worker: WorkerId) {
    let process = &sim.alive[&worker];
    let told = |what| process.said.contains(&what);
    if told("SIGKILL") || !process.stubborn && (told("SIGTERM") || told("disconnect")) {
        while !sim.alive[&worker].in_flight.is_empty() {
            sim.answer(worker, true);
        }
        sim.die(worker, ExitStatus::Code(0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_doubled_or_forgotten(
        steps in prop::collection::vec(step(), 1..150),
        workers in 1..5u32,
        policy in prop_oneof![
            Just(Policy::RoundRobin),
            Just(Policy::LeastConnections),
            Just(Policy::Sticky),
            Just(Policy::ReusePort),
        ],
        listen_timeout: bool,
        untouched: bool,
    ) {
        let listen_timeout = listen_timeout.then_some(Duration::from_secs(3));
        let mut sim = Sim::new(Config { policy, ready_limit: listen_timeout, ..config(workers) });
        sim.untouched = untouched;
        for step in &steps {
            take(&mut sim, step);
            if sim.outcome.is_some() {
                break;
            }
            prop_assert!(sim.alive.len() <= workers as usize, "more workers than slots");
            prop_assert!(sim.reset.is_empty() || sim.sockets.is_empty(), "a client was sent away");
        }
        sim.feed(Input::Stop);
        for _ in 0..20 {
            sim.wait(Duration::from_secs(2));
            for worker in sim.ids() {
                obey(&mut sim, worker);
            }
        }
        prop_assert!(sim.outcome.is_some(), "it does not end: {:?}", sim.alive);
        let forks = sim.count(|notice| matches!(notice, Notice::Fork { .. }));
        let exits = sim.count(|notice| matches!(notice, Notice::Exit { .. }));
        prop_assert_eq!(forks, exits, "each worker's end is told once");
    }
}
