//! The whole machine: examples of each rule, and random histories in virtual time.

mod ending;
mod random;
mod reload;
mod reuseport;
mod sim;
mod storms;
mod supervision;

use everup_core::app::{Input, Notice, Outcome};
use everup_core::exit::ExitStatus;
use everup_core::id::{Token, WorkerId};
use everup_core::restart::RestartPolicy;
use everup_core::schedule::Policy;
use everup_core::wire::Event;
use everup_core::worker::{Ask, ExitReason, ReadyBasis};
use sim::{Sim, config, listening, query};
use std::time::Duration;

const ONE: WorkerId = WorkerId(1);
const CRASH: ExitStatus = ExitStatus::Code(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn exit_of(sim: &Sim, worker: u32) -> (ExitReason, bool) {
    let exit = sim.notices.iter().find_map(|notice| match notice {
        Notice::Exit {
            worker: who,
            reason,
            voluntary,
            ..
        } if who.0 == worker => Some((*reason, *voluntary)),
        _ => None,
    });
    exit.expect("it has not exited")
}

#[test]
fn a_ready_worker_that_dies_is_replaced_at_once_in_its_slot() {
    let mut sim = Sim::new(config(2));
    sim.boot_all();
    assert_eq!(sim.count(|n| matches!(n, Notice::AllReady { workers: 2 })), 1);
    sim.die(ONE, CRASH);
    assert_eq!(sim.ids(), [WorkerId(2), WorkerId(3)]);
    assert_eq!(sim.alive[&WorkerId(3)].slot.0, 0);
    assert_eq!(exit_of(&sim, 1), (ExitReason::Own, false));
    sim.boot(WorkerId(3));
    assert_eq!(sim.count(|n| matches!(n, Notice::AllReady { .. })), 2);
}

#[test]
fn the_socket_stays_while_nobody_is_up() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.die(ONE, CRASH);
    sim.wait(seconds(2));
    assert_eq!(sim.sockets.len(), 1);
    sim.boot_all();
    sim.connect(1);
    sim.answer(WorkerId(2), true);
    assert_eq!(sim.served.len(), 1);
}

#[test]
fn what_a_dead_worker_did_not_answer_goes_to_another() {
    let mut sim = Sim::new(config(2));
    sim.boot_all();
    sim.connect(2);
    assert_eq!(sim.alive[&ONE].in_flight.len(), 1);
    sim.die(
        ONE,
        ExitStatus::Signal {
            signal: 9,
            core: false,
        },
    );
    sim.answer(WorkerId(2), true);
    sim.answer(WorkerId(2), true);
    sim.wait(seconds(1));
    assert_eq!((sim.served.len(), sim.held.len()), (2, 0));
}

#[test]
fn workers_that_die_before_they_are_ready_spend_the_budget() {
    let mut sim = Sim::new(config(2));
    for _ in 0..100 {
        for worker in sim.ids() {
            sim.die(worker, CRASH);
        }
        if sim.outcome.is_some() {
            break;
        }
        sim.wait(seconds(1));
    }
    assert_eq!(sim.outcome, Some(Outcome::Failed { status: Some(CRASH) }));
    assert_eq!(
        sim.count(|n| matches!(n, Notice::Exit { .. })),
        7,
        "five of one slot, which probes while the others wait for it"
    );
}

#[test]
fn a_spent_slot_goes_on_trying_while_another_serves() {
    let mut sim = Sim::new(config(2));
    sim.boot(ONE);
    for _ in 0..20 {
        for worker in sim.ids().into_iter().skip(1) {
            sim.die(worker, CRASH);
        }
        sim.wait(seconds(20));
    }
    assert_eq!(sim.outcome, None);
    assert_eq!(sim.ids().len(), 2);
}

#[test]
fn a_program_that_cannot_be_started_fails_in_the_end() {
    let mut sim = Sim::new(config(1));
    while let (Some(worker), None) = (sim.ids().first().copied(), sim.outcome) {
        sim.alive.clear();
        sim.feed(Input::SpawnFailed {
            worker,
            why: "no such file".into(),
        });
        sim.wait(seconds(1));
    }
    assert!(matches!(sim.outcome, Some(Outcome::Failed { .. })));
}

#[test]
fn stop_asks_then_signals_then_kills() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.feed(Input::Stop);
    assert_eq!(sim.said(1), ["hand-over", "disconnect"]);
    sim.wait(Duration::from_millis(4500));
    assert_eq!(sim.said(1).last(), Some(&"SIGTERM"));
    sim.wait(seconds(1));
    assert_eq!(sim.said(1).last(), Some(&"SIGKILL"));
    sim.die(
        ONE,
        ExitStatus::Signal {
            signal: 9,
            core: false,
        },
    );
    assert_eq!(exit_of(&sim, 1), (ExitReason::KillTimeout, true));
    assert_eq!(sim.outcome, Some(Outcome::Killed { workers: 1 }));
}

#[test]
fn a_worker_that_has_drained_but_stays_is_signalled_soon() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.feed(Input::Stop);
    if let Some(process) = sim.alive.get_mut(&ONE) {
        process.channel = false;
    }
    sim.feed(Input::ChannelClosed { worker: ONE });
    sim.wait(Duration::from_millis(300));
    assert_eq!(sim.said(1).last(), Some(&"SIGTERM"));
    sim.die(
        ONE,
        ExitStatus::Signal {
            signal: 15,
            core: false,
        },
    );
    assert_eq!(exit_of(&sim, 1).0, ExitReason::Stopped);
    assert_eq!(sim.outcome, Some(Outcome::Stopped));
}

#[test]
fn the_asked_way_of_stopping_is_used() {
    for (ask, expected) in [(Ask::Message, "shutdown"), (Ask::Signal(2), "signal")] {
        let mut sim = Sim::new(everup_core::app::Config { ask, ..config(1) });
        sim.boot_all();
        sim.feed(Input::Stop);
        assert_eq!(sim.said(1).last(), Some(&expected));
    }
    let mut sim = Sim::new(everup_core::app::Config {
        channel: false,
        ..config(1)
    });
    sim.feed(Input::Stop);
    assert_eq!(sim.said(1), ["SIGTERM"]);
}

#[test]
fn a_second_stop_kills() {
    let mut sim = Sim::new(config(2));
    sim.boot_all();
    sim.feed(Input::Stop);
    sim.feed(Input::StopNow);
    assert_eq!(
        (sim.said(1).last(), sim.said(2).last()),
        (Some(&"SIGKILL"), Some(&"SIGKILL"))
    );
}

#[test]
fn stop_while_waiting_to_respawn_ends_at_once() {
    let mut sim = Sim::new(config(1));
    sim.die(ONE, CRASH);
    sim.die(WorkerId(2), CRASH);
    assert!(sim.alive.is_empty());
    sim.feed(Input::Stop);
    assert_eq!(sim.outcome, Some(Outcome::Stopped));
}

#[test]
fn stop_hands_over_what_waits_before_it_asks() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    let (&endpoint, _) = sim.sockets.first_key_value().expect("it listens");
    for n in 0..20 {
        sim.held.insert(Token(n));
        sim.feed(Input::Connection {
            endpoint,
            connection: Token(n),
            client: None,
        });
    }
    sim.feed(Input::Stop);
    assert_eq!(sim.alive[&ONE].in_flight.len(), 20);
    assert!(
        sim.sockets.is_empty(),
        "later clients are refused, not left hanging"
    );
    for _ in 0..20 {
        sim.answer(ONE, true);
    }
    assert_eq!(sim.served.len(), 20);
}

#[test]
fn a_worker_that_does_not_listen_in_time_has_failed() {
    let mut sim = Sim::new(everup_core::app::Config {
        ready_limit: Some(seconds(3)),
        ..config(1)
    });
    sim.say(ONE, Event::Online);
    sim.wait(Duration::from_millis(2900));
    assert!(sim.said(1).is_empty());
    sim.wait(Duration::from_millis(200));
    assert_eq!(sim.said(1), ["SIGKILL"]);
    sim.die(
        ONE,
        ExitStatus::Signal {
            signal: 9,
            core: false,
        },
    );
    assert_eq!(exit_of(&sim, 1).0, ExitReason::ListenTimeout);
    assert_eq!(sim.ids(), [WorkerId(2)], "and is replaced");
}

#[test]
fn readiness_says_what_it_is_based_on() {
    let basis = |sim: &Sim| {
        sim.notices.iter().find_map(|notice| match notice {
            Notice::Ready { basis, .. } => Some(*basis),
            _ => None,
        })
    };
    let mut sim = Sim::new(config(1));
    sim.say(ONE, Event::Online);
    sim.wait(Duration::from_millis(900));
    assert_eq!(basis(&sim), None);
    sim.wait(Duration::from_millis(200));
    assert_eq!(basis(&sim), Some(ReadyBasis::Uptime));

    let mut sim = Sim::new(config(1));
    sim.say(ONE, Event::Online);
    sim.say(ONE, Event::Query(query(1)));
    sim.wait(seconds(10));
    assert_eq!(basis(&sim), None, "it wants to listen, so uptime is no sign");
    sim.say(ONE, Event::Listening(listening()));
    assert_eq!(basis(&sim), Some(ReadyBasis::Listening));

    let mut sim = Sim::new(config(1));
    sim.say(
        ONE,
        Event::Message(serde_json::value::to_raw_value("ready").expect("plain text")),
    );
    assert_eq!(basis(&sim), Some(ReadyBasis::Message));
}

#[test]
fn operators_disconnect_is_not_replaced_but_leaving_is() {
    let mut sim = Sim::new(config(2));
    sim.boot_all();
    sim.feed(Input::Disconnect { worker: ONE });
    assert_eq!(sim.said(1).last(), Some(&"disconnect"));
    sim.connect(8);
    assert!(sim.alive[&ONE].in_flight.is_empty(), "it is out of rotation");
    sim.wait(seconds(60));
    assert_eq!(sim.said(1).last(), Some(&"disconnect"), "and may take its time");
    sim.die(ONE, ExitStatus::Code(0));
    assert_eq!(sim.ids(), [WorkerId(2)]);
    sim.say(WorkerId(2), Event::Leaving);
    sim.die(WorkerId(2), ExitStatus::Code(0));
    assert_eq!(exit_of(&sim, 2), (ExitReason::Own, true));
    assert_eq!(sim.ids(), [WorkerId(3)]);
}

#[test]
fn the_status_tells_open_connections_where_they_are_known() {
    let open = |sim: &Sim| -> Vec<Option<u64>> {
        let status = sim.app.status(sim.now);
        status.workers.iter().map(|worker| worker.connections).collect()
    };
    for (policy, known) in [(Policy::LeastConnections, Some(2)), (Policy::ReusePort, None)] {
        let mut sim = Sim::new(everup_core::app::Config { policy, ..config(1) });
        sim.boot_all();
        assert_eq!(open(&sim), [None]);
        for _ in 0..3 {
            sim.connect(1);
            sim.answer(ONE, true);
        }
        sim.say(ONE, Event::Counts);
        sim.say(ONE, Event::Closed { total: 1 });
        assert_eq!(open(&sim), [known], "{policy:?}");
    }
}

#[test]
fn a_count_does_not_end_the_probation_of_the_last_connection() {
    let mut sim = Sim::new(config(1));
    sim.untouched = true;
    sim.boot_all();
    sim.connect(1);
    sim.answer(ONE, true);
    sim.say(ONE, Event::Closed { total: 0 });
    assert_eq!(sim.held.len(), 1, "another thread said it");
    sim.say(ONE, Event::Message(serde_json::value::RawValue::NULL.to_owned()));
    assert_eq!(sim.held.len(), 0);
}

#[test]
fn closing_by_the_living_closes_the_socket_but_leaving_does_not() {
    let close = |sim: &mut Sim| {
        let key =
            everup_core::endpoint::Endpoints::key(*sim.sockets.first_key_value().expect("it listens").0);
        sim.say(ONE, Event::Close { key });
    };
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    close(&mut sim);
    sim.wait(seconds(29));
    assert_eq!(sim.sockets.len(), 1, "it may be about to leave");
    sim.wait(seconds(2));
    assert!(sim.sockets.is_empty());

    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.say(
        ONE,
        Event::Query(everup_core::wire::Query {
            port: Some(4000),
            ..query(2)
        }),
    );
    close(&mut sim);
    sim.wait(seconds(1));
    assert_eq!(sim.sockets.len(), 1, "it goes on with the other");

    let mut sim = Sim::new(config(1));
    sim.boot_all();
    close(&mut sim);
    sim.say(ONE, Event::Leaving);
    sim.wait(seconds(1));
    assert_eq!(sim.sockets.len(), 1, "its successor will want it");
}

#[test]
fn a_socket_that_no_successor_wants_is_closed_in_the_end() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.die(ONE, CRASH);
    sim.wait(seconds(30));
    assert_eq!(sim.sockets.len(), 1, "its successor is on its way");
    sim.say(WorkerId(2), Event::Listening(listening()));
    sim.wait(seconds(9));
    assert_eq!(sim.sockets.len(), 1);
    sim.wait(seconds(2));
    assert!(sim.sockets.is_empty());
}

#[test]
fn a_second_socket_for_the_same_address_goes_with_its_worker() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.say(ONE, Event::Query(query(2)));
    assert_eq!(sim.sockets.len(), 2);
    sim.die(ONE, CRASH);
    assert_eq!(sim.sockets.len(), 1);
}

#[test]
fn what_a_living_worker_has_accepted_stays_its_own_without_a_channel() {
    let mut sim = Sim::new(config(2));
    sim.untouched = true;
    sim.boot_all();
    sim.connect(1);
    sim.answer(ONE, true);
    if let Some(process) = sim.alive.get_mut(&ONE) {
        process.channel = false;
    }
    sim.feed(Input::ChannelClosed { worker: ONE });
    sim.wait(seconds(1));
    assert_eq!((sim.served.len(), sim.held.len()), (1, 0));
    assert!(sim.alive[&WorkerId(2)].in_flight.is_empty());
}

#[test]
fn dying_soon_after_listening_without_having_served_is_early() {
    let mut sim = Sim::new(config(1));
    for _ in 0..10 {
        sim.boot_all();
        sim.wait(Duration::from_millis(20));
        for worker in sim.ids() {
            sim.die(worker, CRASH);
        }
        sim.wait(seconds(1));
    }
    assert_eq!(sim.outcome, Some(Outcome::Failed { status: Some(CRASH) }));

    let mut sim = Sim::new(config(1));
    for _ in 0..30 {
        sim.boot_all();
        sim.connect(1);
        for worker in sim.ids() {
            sim.answer(worker, true);
            sim.die(worker, ExitStatus::Code(0));
        }
        sim.wait(seconds(20));
    }
    assert_eq!(sim.outcome, None, "one that exits after each response goes on");
}

#[test]
fn a_taken_port_is_told_to_the_worker_and_to_the_owner() {
    let mut sim = Sim::new(config(1));
    sim.ports_taken = true;
    sim.boot_all();
    assert_eq!(sim.said(1), ["failed"]);
    assert_eq!(
        sim.count(|n| matches!(n, Notice::BindFailed { errno: 98, .. })),
        1
    );
}

#[test]
fn a_shared_socket_that_did_not_arrive_is_sent_again() {
    let mut sim = Sim::new(everup_core::app::Config {
        policy: Policy::Shared,
        ..config(1)
    });
    sim.say(ONE, Event::Online);
    sim.say(ONE, Event::Query(query(1)));
    let socket = *sim.sockets.first_key_value().expect("it is bound").1;
    sim.say(ONE, Event::Undelivered(socket));
    sim.wait(seconds(1));
    assert_eq!(sim.said(1), ["shared", "shared"]);
    sim.say(ONE, Event::Delivered(socket));
    sim.wait(seconds(5));
    assert_eq!(sim.said(1).len(), 2);
}

#[test]
fn a_worker_that_gave_a_socket_up_is_not_sent_it_again() {
    let mut sim = Sim::new(everup_core::app::Config {
        policy: Policy::Shared,
        ..config(1)
    });
    sim.say(ONE, Event::Online);
    sim.say(ONE, Event::Query(query(1)));
    let socket = *sim.sockets.first_key_value().expect("it is bound").1;
    sim.say(ONE, Event::Undelivered(socket));
    sim.say(ONE, Event::Close { key: "e1".into() });
    sim.wait(seconds(5));
    assert_eq!(sim.said(1), ["shared"]);
}

#[test]
fn a_worker_that_breaks_the_protocol_is_killed_and_replaced() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.feed(Input::Garbled {
        worker: ONE,
        what: "nonsense".into(),
    });
    assert_eq!(sim.said(1).last(), Some(&"SIGKILL"));
    sim.die(
        ONE,
        ExitStatus::Signal {
            signal: 9,
            core: false,
        },
    );
    assert_eq!(exit_of(&sim, 1).0, ExitReason::Protocol);
    assert_eq!(sim.ids(), [WorkerId(2)]);
}

#[test]
fn a_process_that_closed_its_channel_but_stays_is_ended_and_replaced() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    if let Some(process) = sim.alive.get_mut(&ONE) {
        process.channel = false;
    }
    sim.feed(Input::ChannelClosed { worker: ONE });
    sim.wait(seconds(6));
    assert_eq!(sim.said(1).last(), Some(&"SIGTERM"));
    sim.wait(seconds(5));
    assert_eq!(sim.said(1).last(), Some(&"SIGKILL"));
    sim.die(
        ONE,
        ExitStatus::Signal {
            signal: 9,
            core: false,
        },
    );
    assert_eq!(sim.ids(), [WorkerId(2)]);
}

#[test]
fn without_restarts_a_forked_worker_goes_for_good() {
    let mut sim = Sim::new(everup_core::app::Config {
        restart: RestartPolicy::never(),
        ..config(0)
    });
    let mut actions = Vec::new();
    let worker = sim.app.fork(sim.now, &mut actions).expect("it runs");
    assert_eq!((worker, actions.len()), (ONE, 1));
}
