//! What is remembered, event by event.

use super::*;
use everup::{ExitStatus, Slot, WorkerId};
use std::time::Duration;

fn fork(worker: u32, slot: u32, generation: u32) -> Event {
    Event::Fork {
        worker: WorkerId(worker),
        slot: Slot(slot),
        pid: 1000 + worker,
        generation,
    }
}

fn exit(worker: u32, slot: u32) -> Event {
    Event::Exit {
        worker: WorkerId(worker),
        slot: Slot(slot),
        pid: 1000 + worker,
        status: ExitStatus::Code(3),
        generation: 1,
        reason: ExitReason::Own,
        forced: false,
        oom: false,
        voluntary: false,
        uptime: Duration::from_millis(40),
    }
}

fn record(places: u32) -> Record {
    let mut record = Record::default();
    for slot in 0..places {
        record.places.insert(
            slot,
            Place {
                id: 10 + slot,
                ..Place::default()
            },
        );
    }
    record.begin();
    record
}

#[test]
fn started_when_each_place_had_a_worker() {
    let mut record = record(2);
    record.note(&fork(1, 0, 1), 5);
    assert!(!record.started(2));
    record.note(&exit(1, 0), 6);
    record.note(&fork(2, 1, 1), 7);
    assert!(
        record.started(2),
        "the first one has died again, but it was started"
    );
    assert!(record.settled(2));
    assert_eq!(record.worker_of(11), Some(2));
    assert_eq!(record.worker_of(10), None);
}

#[test]
fn restarts_are_counted_over_deaths_and_reloads_and_not_over_starts() {
    let mut record = record(1);
    record.note(&fork(1, 0, 1), 5);
    record.note(&exit(1, 0), 6);
    let early = Death::Early { in_a_row: 2 };
    record.note(
        &Event::Respawn {
            slot: Slot(0),
            delay: Duration::from_secs(1),
            death: early,
        },
        6,
    );
    assert!(record.waiting.contains(&0));
    record.note(&fork(2, 0, 1), 7);
    assert!(record.waiting.is_empty());
    record.note(&fork(3, 0, 2), 8);
    assert!(record.renewed(1, 2) && !record.renewed(1, 3));
    let place = &record.places[&0];
    assert_eq!((place.restarts, place.unstable), (2, 1));
    assert_eq!(place.last_exit.as_ref().unwrap().code, Some(3));
    record.begin();
    record.note(&fork(1, 0, 1), 9);
    assert_eq!(record.places[&0].restarts, 2);
    record.reset();
    assert_eq!((record.places[&0].restarts, record.places[&0].unstable), (0, 0));
}

#[test]
fn surplus_workers_are_waited_for() {
    let mut record = record(2);
    record.note(&fork(1, 0, 1), 5);
    record.note(&fork(2, 1, 1), 5);
    assert!(record.settled(2) && !record.settled(1));
    record.note(&exit(2, 1), 6);
    assert!(record.settled(1));
}

fn reloading(generation: u32) -> Event {
    Event::Reloading {
        generation,
        cause: everup::Cause::Reload,
        phase: Phase::Canary,
        done: 0,
        total: 1,
    }
}

fn reloaded(verdict: Verdict) -> Event {
    let receipt = serde_json::json!({
        "verdict": verdict, "reason": null, "generation": 2, "cause": everup::Cause::Reload, "changes": [],
        "duration": Duration::ZERO, "moved": 0, "lost": null, "cut": 0, "unknown": null, "still_draining": 0
    });
    Event::Reloaded(Box::new(serde_json::from_value(receipt).unwrap()))
}

#[test]
fn a_reload_counts_when_it_is_done() {
    for (verdict, restarts) in [
        (Verdict::Done, 2),
        (Verdict::Aborted, 1),
        (Verdict::RolledBack, 1),
    ] {
        let mut record = record(1);
        record.note(&fork(1, 0, 1), 5);
        record.note(&reloading(2), 6);
        record.note(&fork(2, 0, 2), 7);
        record.note(&reloading(2), 8);
        // Meanwhile an old one has died.
        record.note(&fork(3, 0, 1), 9);
        record.note(&reloaded(verdict), 10);
        assert_eq!(record.places[&0].restarts, restarts, "{verdict:?}");
        record.note(&reloaded(verdict), 11);
        assert_eq!(record.places[&0].restarts, restarts, "{verdict:?}");
    }
}
