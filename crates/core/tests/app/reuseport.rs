//! A socket for each slot: who gets which, who gets new connections, and who the rest.

use crate::sim::{Sim, config, query};
use crate::{CRASH, ONE, seconds};
use everup_core::app::{Config, Input, Notice};
use everup_core::endpoint::Endpoints;
use everup_core::exit::ExitStatus;
use everup_core::id::{EndpointId, Slot, Token, WorkerId};
use everup_core::schedule::Policy;
use everup_core::wire::{AddressType, Event, Query};
use std::collections::BTreeSet;

const TWO: WorkerId = WorkerId(2);
const THREE: WorkerId = WorkerId(3);

fn sim(workers: u32) -> Sim {
    let mut sim = Sim::new(Config {
        policy: Policy::ReusePort,
        ..config(workers)
    });
    sim.boot_all();
    sim
}

fn slots(slots: &[u32]) -> BTreeSet<Slot> {
    slots.iter().copied().map(Slot).collect()
}

/// A worker says that it accepts by itself only.
fn direct(endpoint: EndpointId, worker: WorkerId) -> Input {
    let key = Endpoints::key(endpoint);
    let event = Event::Direct { key };
    Input::Said { worker, event }
}

#[test]
fn each_slot_has_a_socket_which_its_workers_inherit() {
    let mut sim = sim(2);
    assert_eq!([sim.given[&ONE], sim.given[&TWO]], [Token(1000), Token(1001)]);
    assert_eq!(sim.steered, slots(&[0, 1]));
    sim.die(TWO, CRASH);
    assert_eq!(sim.steered, slots(&[0]), "nobody is there to take any");
    sim.boot(THREE);
    assert_eq!(sim.given[&THREE], Token(1001));
    assert_eq!(sim.steered, slots(&[0, 1]));
}

#[test]
fn a_worker_that_is_asked_to_go_gets_nothing_new() {
    let mut sim = sim(3);
    sim.feed(Input::Disconnect { worker: TWO });
    assert_eq!(sim.steered, slots(&[0, 2]));
    sim.feed(Input::Scale { workers: 1 });
    assert_eq!(sim.steered, slots(&[0]));
    sim.die(TWO, ExitStatus::Code(0));
    sim.die(THREE, ExitStatus::Code(0));
    sim.feed(Input::Scale { workers: 3 });
    sim.boot(WorkerId(4));
    sim.boot(WorkerId(5));
    assert_eq!(sim.steered, slots(&[0, 1, 2]));
    assert_eq!(sim.slot_sockets.len(), 3, "the sockets are used again");
    sim.say(ONE, Event::Leaving);
    assert_eq!(sim.steered, slots(&[1, 2]));
}

#[test]
fn in_a_reload_the_successor_has_the_same_socket_beside_the_old_one() {
    let mut sim = sim(1);
    sim.reload(None);
    sim.boot(TWO);
    assert_eq!(sim.given[&TWO], sim.given[&ONE]);
    sim.settle(seconds(30));
    assert_eq!(sim.receipts().len(), 1);
    assert_eq!(sim.steered, slots(&[0]));
}

#[test]
fn what_waits_for_a_dead_worker_is_handed_to_another() {
    let mut sim = sim(2);
    sim.die(TWO, CRASH);
    sim.connect(1);
    assert_eq!(sim.alive[&ONE].in_flight.len(), 1);
    sim.answer(ONE, true);
    sim.die(ONE, CRASH);
    assert_eq!(sim.steered, slots(&[0]), "clients wait where they are");
    let endpoint = *sim.sockets.first_key_value().expect("it is bound").0;
    assert_eq!(sim.app.demand(sim.now, endpoint), 0);
}

/// It would refuse it, again and again: the client had better wait in the queue, for the successor.
#[test]
fn one_that_accepts_by_itself_only_is_handed_nothing() {
    let mut sim = sim(3);
    let endpoint = *sim.sockets.first_key_value().expect("it is bound").0;
    sim.feed(direct(endpoint, ONE));
    sim.feed(direct(endpoint, TWO));
    assert_eq!(sim.steered, slots(&[0, 1, 2]), "it serves all the same");
    sim.connect(1);
    assert_eq!(sim.alive[&THREE].in_flight.len(), 1);
    sim.answer(THREE, true);
    sim.die(THREE, CRASH);
    assert_eq!(sim.steered, slots(&[0, 1]));
    assert_eq!(sim.app.demand(sim.now, endpoint), 0, "nobody takes any");
    sim.die(ONE, CRASH);
    sim.boot(WorkerId(4));
    sim.connect(1);
    assert_eq!(
        sim.alive[&WorkerId(4)].in_flight.len(),
        1,
        "until a successor does"
    );
}

#[test]
fn a_socket_that_cannot_be_bound_is_told() {
    let mut sim = Sim::new(Config {
        policy: Policy::ReusePort,
        ..config(2)
    });
    sim.boot(ONE);
    sim.slots_taken = true;
    sim.boot(TWO);
    assert_eq!(sim.said(2), ["failed"]);
    let told = |notice: &Notice| {
        matches!(
            notice,
            Notice::BindFailed {
                worker: TWO,
                errno: 98,
                ..
            }
        )
    };
    assert_eq!(sim.count(told), 1);
    assert_eq!(sim.steered, slots(&[0]));
    sim.slots_taken = false;
    sim.say(TWO, Event::Query(query(2)));
    assert_eq!(sim.said(2), ["failed", "shared"], "it may try again");
}

#[test]
fn other_sockets_are_shared() {
    let mut sim = sim(1);
    let path = Query {
        address: Some("/run/x".into()),
        port: None,
        address_type: AddressType::Unix,
        ..query(2)
    };
    sim.say(ONE, Event::Query(path));
    assert_eq!(sim.said(1), ["shared", "shared"]);
    assert_eq!(sim.slot_sockets.len(), 1);
    assert_eq!(sim.given[&ONE], Token(2), "the endpoint's own");
    sim.say(ONE, Event::Query(query(3)));
    assert_eq!(sim.slot_sockets.len(), 1, "a second one of its own joins nobody");
    assert_eq!(sim.given[&ONE], Token(3));
}

/// Nobody else takes them, and nobody will come who does: a client had better know.
#[test]
fn what_waits_for_a_slot_that_is_gone_is_forsaken_if_all_accept_by_themselves() {
    let mut sim = sim(2);
    let endpoint = *sim.sockets.first_key_value().expect("it is bound").0;
    let forsaken = |sim: &Sim| [0, 1].map(|slot| sim.app.forsaken(endpoint, Slot(slot)));
    sim.feed(direct(endpoint, ONE));
    sim.feed(Input::Scale { workers: 1 });
    assert_eq!(forsaken(&sim), [false, false], "its worker may yet accept");
    sim.die(TWO, ExitStatus::Code(0));
    assert_eq!(forsaken(&sim), [false, true]);
    sim.feed(Input::Scale { workers: 2 });
    assert_eq!(forsaken(&sim), [false, false], "it has a successor");
    sim.boot(THREE);
    sim.feed(Input::Scale { workers: 1 });
    sim.die(THREE, ExitStatus::Code(0));
    assert_eq!(forsaken(&sim), [false, true]);
    sim.die(ONE, CRASH);
    assert_eq!(
        forsaken(&sim),
        [false, false],
        "while nobody serves, clients wait"
    );
    sim.boot(WorkerId(4));
    assert_eq!(
        forsaken(&sim),
        [false, false],
        "this one takes what is handed over"
    );
}
