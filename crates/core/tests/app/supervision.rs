//! Restart policy, storms, spares, replacement for memory, age and health, scaling, jobs.

use super::sim::{Sim, config};
use everup_core::app::{Config, Input, Notice, Outcome, Role};
use everup_core::cause::Cause;
use everup_core::exit::ExitStatus;
use everup_core::id::{Slot, WorkerId};
use everup_core::restart::{RestartPolicy, When};
use everup_core::wire::Event;
use everup_core::worker::{ExitReason, Readiness, ReadyBasis, State};
use std::time::Duration;

const ONE: WorkerId = WorkerId(1);
const CRASH: ExitStatus = ExitStatus::Code(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn reason_of(sim: &Sim, worker: u32) -> (ExitReason, bool) {
    let exit = sim.notices.iter().find_map(|notice| match notice {
        Notice::Exit {
            worker: who,
            reason,
            forced,
            ..
        } if who.0 == worker => Some((*reason, *forced)),
        _ => None,
    });
    exit.expect("it has not exited")
}

fn policy(when: When, stop_codes: &[i32]) -> RestartPolicy {
    let policy = RestartPolicy::default().when(when);
    stop_codes.iter().copied().fold(policy, RestartPolicy::stop_code)
}

#[test]
fn on_failure_ends_when_all_have_succeeded() {
    let mut sim = Sim::new(Config {
        restart: policy(When::OnFailure, &[]),
        ends_when_done: true,
        ..config(2)
    });
    sim.boot_all();
    sim.die(ONE, ExitStatus::Code(0));
    assert_eq!((sim.outcome, sim.ids().len()), (None, 1));
    sim.die(WorkerId(2), CRASH);
    assert_eq!(sim.ids(), [WorkerId(3)]);
    sim.die(WorkerId(3), ExitStatus::Code(0));
    let status = Some(ExitStatus::Code(0));
    assert_eq!(sim.outcome, Some(Outcome::Done { failures: 0, status }));
}

#[test]
fn stop_codes_stop() {
    let mut sim = Sim::new(Config {
        restart: policy(When::Always, &[3]),
        ends_when_done: true,
        ..config(1)
    });
    sim.boot_all();
    sim.die(ONE, ExitStatus::Code(0));
    sim.die(WorkerId(2), ExitStatus::Code(3));
    let status = Some(ExitStatus::Code(3));
    assert_eq!(sim.outcome, Some(Outcome::Done { failures: 0, status }));
}

#[test]
fn in_a_storm_one_probes_and_the_rest_wait_for_it() {
    let mut sim = Sim::new(config(4));
    sim.boot_all();
    for worker in 1..=4 {
        sim.die(WorkerId(worker), CRASH);
    }
    assert_eq!(
        sim.count(|n| matches!(n, Notice::Storm { probe: Slot(2), .. })),
        1
    );
    // Two were replaced at once before anybody could know, then the probe; the fourth waits.
    assert_eq!(sim.ids(), [5, 6, 7].map(WorkerId));
    sim.die(WorkerId(5), CRASH);
    sim.die(WorkerId(6), CRASH);
    sim.wait(seconds(10));
    assert_eq!(sim.ids(), [WorkerId(7)], "nobody else is started");
    sim.boot(WorkerId(7));
    sim.wait(Duration::from_millis(900));
    assert_eq!(sim.ids().len(), 1);
    sim.wait(Duration::from_millis(200));
    assert_eq!(sim.count(|n| matches!(n, Notice::Calm)), 1);
    assert_eq!(sim.ids().len(), 4);
}

#[test]
fn a_storm_ends_at_once_when_the_probe_has_served() {
    let mut sim = Sim::new(config(2));
    sim.boot_all();
    sim.die(ONE, CRASH);
    sim.die(WorkerId(2), CRASH);
    sim.die(WorkerId(3), CRASH);
    assert_eq!(sim.ids(), [WorkerId(4)]);
    sim.boot(WorkerId(4));
    sim.connect(1);
    sim.answer(WorkerId(4), true);
    assert_eq!(sim.count(|n| matches!(n, Notice::Calm)), 1);
    sim.wait(Duration::from_millis(100));
    assert_eq!(sim.ids().len(), 2);
}

#[test]
fn a_spare_takes_a_dead_workers_place_at_once() {
    let mut sim = Sim::new(Config {
        spares: 1,
        ..config(2)
    });
    sim.boot_all();
    let roles = |sim: &Sim| -> Vec<Role> { sim.app.status(sim.now).workers.iter().map(|w| w.role).collect() };
    assert_eq!(roles(&sim), [Role::Active, Role::Active, Role::Spare]);
    sim.connect(8);
    assert!(
        sim.alive[&WorkerId(3)].in_flight.is_empty(),
        "a spare gets nothing"
    );
    sim.die(ONE, CRASH);
    assert!(
        !sim.alive[&WorkerId(3)].in_flight.is_empty(),
        "what the dead one had not taken"
    );
    assert_eq!(
        sim.count(|n| matches!(
            n,
            Notice::Promoted {
                worker: WorkerId(3),
                ..
            }
        )),
        1
    );
    sim.boot(WorkerId(4));
    assert_eq!(roles(&sim), [Role::Active, Role::Active, Role::Spare]);
    // Two at once: one place is filled by the spare, the other by who is ready first.
    sim.die(WorkerId(2), CRASH);
    sim.die(WorkerId(3), CRASH);
    sim.settle(seconds(3));
    let mut now = roles(&sim);
    now.sort_by_key(|role| *role == Role::Spare);
    assert_eq!(now, [Role::Active, Role::Active, Role::Spare]);
}

#[test]
fn a_spare_that_is_ready_first_changes_places() {
    let mut sim = Sim::new(Config {
        spares: 1,
        ..config(1)
    });
    let roles = |sim: &Sim| -> Vec<Role> { sim.app.status(sim.now).workers.iter().map(|w| w.role).collect() };
    sim.boot(WorkerId(2));
    assert_eq!(roles(&sim)[1], Role::Active);
    sim.boot(ONE);
    assert_eq!(roles(&sim), [Role::Spare, Role::Active]);
    sim.connect(4);
    assert!(sim.alive[&ONE].in_flight.is_empty(), "a spare gets nothing");
    sim.die(WorkerId(2), CRASH);
    assert_eq!(roles(&sim)[0], Role::Active);
}

#[test]
fn too_much_memory_is_replaced_make_before_break_one_at_a_time() {
    let mut sim = Sim::new(Config {
        memory_limit: Some(100 << 20),
        ..config(3)
    });
    sim.boot_all();
    let measure = |sim: &mut Sim, worker: u32, mib: u64| {
        sim.feed(Input::Measured {
            worker: WorkerId(worker),
            bytes: mib << 20,
        });
    };
    measure(&mut sim, 1, 89);
    assert_eq!(sim.ids().len(), 3);
    for worker in 1..=3 {
        measure(&mut sim, worker, 101);
    }
    assert_eq!(sim.ids().len(), 4, "one after the other");
    assert_eq!(sim.said(1), ["hand-over"], "it serves until the new one is ready");
    sim.boot(WorkerId(4));
    assert_eq!(sim.said(1).last(), Some(&"disconnect"));
    sim.settle(seconds(5));
    assert_eq!(sim.ids(), [4, 5, 6].map(WorkerId));
    let (reason, forced) = reason_of(&sim, 1);
    assert!(matches!(reason, ExitReason::Replaced(Cause::Memory { limit, .. }) if limit == 100 << 20));
    assert!(!forced);
}

#[test]
fn a_fast_leak_does_not_wait_for_its_turn() {
    let mut sim = Sim::new(Config {
        memory_limit: Some(100 << 20),
        ..config(2)
    });
    sim.boot_all();
    for worker in [1, 2] {
        sim.feed(Input::Measured {
            worker: WorkerId(worker),
            bytes: 106 << 20,
        });
    }
    assert_eq!(sim.ids().len(), 4);
}

#[test]
fn a_replacement_that_comes_to_nothing_is_tried_again_later() {
    let mut sim = Sim::new(Config {
        memory_limit: Some(100 << 20),
        ..config(1)
    });
    sim.boot_all();
    sim.feed(Input::Measured {
        worker: ONE,
        bytes: 101 << 20,
    });
    sim.die(WorkerId(2), CRASH);
    assert_eq!((sim.ids(), sim.said(1)), (vec![ONE], &["hand-over"][..]));
    sim.wait(Duration::from_millis(900));
    assert_eq!(sim.ids().len(), 1);
    sim.wait(Duration::from_millis(200));
    assert_eq!(sim.ids().len(), 2);
}

#[test]
fn the_old_are_replaced_spread_in_time() {
    let mut sim = Sim::new(Config {
        max_age: Some(seconds(100)),
        ..config(2)
    });
    sim.boot_all();
    sim.settle(seconds(89));
    assert_eq!(sim.ids(), [ONE, WorkerId(2)]);
    sim.settle(seconds(12));
    assert_eq!(sim.ids(), [3, 4].map(WorkerId));
    assert_eq!(reason_of(&sim, 1), (ExitReason::Replaced(Cause::MaxAge), false));
}

#[test]
fn an_unhealthy_worker_leaves_at_once_if_another_serves() {
    let mut sim = Sim::new(config(2));
    sim.boot_all();
    sim.feed(Input::Unhealthy {
        worker: ONE,
        cause: Cause::Probe,
    });
    assert_eq!(sim.said(1).last(), Some(&"disconnect"));
    assert_eq!(sim.ids().len(), 3);
    sim.settle(seconds(1));
    assert_eq!(sim.ids(), [2, 3].map(WorkerId));
    assert_eq!(reason_of(&sim, 1), (ExitReason::Replaced(Cause::Probe), false));
}

#[test]
fn the_last_one_that_serves_stays_until_its_successor_does() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.feed(Input::Unhealthy {
        worker: ONE,
        cause: Cause::Probe,
    });
    assert_eq!((sim.ids().len(), sim.said(1)), (2, &["hand-over"][..]));
    sim.boot(WorkerId(2));
    assert_eq!(sim.said(1).last(), Some(&"disconnect"));
}

#[test]
fn a_stuck_worker_is_replaced_and_what_it_did_not_take_goes_to_others() {
    let mut sim = Sim::new(Config {
        stuck_timeout: Some(seconds(3)),
        ..config(1)
    });
    sim.boot_all();
    sim.connect(1);
    sim.alive.get_mut(&ONE).unwrap().stubborn = true;
    sim.wait(seconds(4));
    assert_eq!(sim.ids().len(), 2, "a successor at once");
    sim.boot(WorkerId(2));
    sim.connect(1);
    sim.answer(WorkerId(2), true);
    assert_eq!(sim.served.len(), 1, "new connections go to the successor");
    sim.wait(seconds(5));
    assert_eq!(sim.said(1).last(), Some(&"SIGKILL"));
    sim.die(
        ONE,
        ExitStatus::Signal {
            signal: 9,
            core: false,
        },
    );
    sim.answer(WorkerId(2), true);
    assert_eq!(
        sim.served.len(),
        2,
        "and so does what the stuck one had not taken"
    );
    assert_eq!(reason_of(&sim, 1), (ExitReason::Replaced(Cause::Stuck), true));
}

#[test]
fn scaling_goes_up_and_down_to_zero_and_back_with_the_socket_kept() {
    let mut sim = Sim::new(config(2));
    sim.boot_all();
    sim.feed(Input::Scale { workers: 4 });
    sim.settle(seconds(1));
    assert_eq!(sim.serving().len(), 4);
    sim.feed(Input::Scale { workers: 1 });
    sim.settle(seconds(1));
    assert_eq!(sim.ids(), [ONE]);
    sim.feed(Input::Scale { workers: 0 });
    sim.settle(seconds(60));
    assert!(sim.ids().is_empty() && sim.outcome.is_none());
    assert_eq!(sim.sockets.len(), 1);
    sim.feed(Input::Scale { workers: 2 });
    sim.settle(seconds(1));
    assert_eq!(sim.serving().len(), 2);
    assert_eq!(reason_of(&sim, 2), (ExitReason::Replaced(Cause::Scale), false));
}

#[test]
fn a_job_runs_when_it_is_launched_and_never_twice_at_once() {
    let mut sim = Sim::new(Config {
        job: true,
        ..config(1)
    });
    sim.wait(seconds(60));
    assert!(sim.ids().is_empty());
    sim.feed(Input::Launch);
    sim.feed(Input::Launch);
    assert_eq!(
        (sim.ids(), sim.count(|n| matches!(n, Notice::Overlap))),
        (vec![ONE], 1)
    );
    sim.die(ONE, CRASH);
    sim.wait(seconds(60));
    assert!(sim.ids().is_empty() && sim.outcome.is_none());
    sim.feed(Input::Launch);
    assert_eq!(sim.ids(), [WorkerId(2)]);
    // A reload is about the next run: it neither starts one nor disturbs this one.
    sim.reload(None);
    assert_eq!((sim.ids(), sim.said(2)), (vec![WorkerId(2)], &[][..]));
    assert_eq!(sim.receipts()[0].verdict, everup_core::reload::Verdict::Done);
    sim.die(WorkerId(2), ExitStatus::Code(0));
    sim.wait(seconds(60));
    assert!(sim.ids().is_empty());
    sim.feed(Input::Launch);
    assert_eq!(sim.app.status(sim.now).workers[0].generation, 2);
}

#[test]
fn with_chosen_signs_a_worker_takes_connections_only_when_it_is_ready() {
    let mut sim = Sim::new(Config {
        readiness: Readiness {
            message: true,
            listening: false,
            notify: false,
            probe: false,
            uptime: None,
            chosen: true,
        },
        ready_limit: Some(seconds(3)),
        ..config(1)
    });
    sim.boot_all();
    sim.connect(1);
    assert_eq!(
        sim.held.len(),
        0,
        "nobody can take it: it stays in the kernel's queue"
    );
    let message = serde_json::value::to_raw_value("ready").unwrap();
    sim.say(ONE, Event::Message(message));
    assert_eq!(
        sim.count(|n| matches!(
            n,
            Notice::Ready {
                basis: ReadyBasis::Message,
                ..
            }
        )),
        1
    );
    sim.connect(1);
    assert_eq!(sim.alive[&ONE].in_flight.len(), 1);
    assert_eq!(sim.app.status(sim.now).workers[0].state, State::Online);
}
