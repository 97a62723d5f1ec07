//! Reloads: a new generation beside the old one; every way in which that can go wrong.

use super::sim::{Sim, config};
use everup_core::app::{Accepted, Config, Input, Notice, Role};
use everup_core::cause::Cause;
use everup_core::exit::ExitStatus;
use everup_core::id::WorkerId;
use everup_core::reload::{Drained, Rollout, Verdict};
use everup_core::worker::ExitReason;
use std::time::Duration;

const CRASH: ExitStatus = ExitStatus::Code(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ids(ids: &[u32]) -> Vec<WorkerId> {
    ids.iter().copied().map(WorkerId).collect()
}

fn started(workers: u32) -> Sim {
    let mut sim = Sim::new(config(workers));
    sim.boot_all();
    sim
}

#[test]
fn every_worker_is_replaced_and_capacity_is_kept() {
    let mut sim = started(3);
    assert_eq!(sim.reload(None), Accepted::Begun { generation: 2 });
    assert_eq!(sim.ids(), ids(&[1, 2, 3, 4]), "the canary beside the old ones");
    sim.boot(WorkerId(4));
    assert_eq!(sim.serving().len(), 4);
    sim.wait(Duration::from_millis(900));
    assert_eq!(
        sim.said(1),
        ["hand-over"],
        "nothing is taken away while the canary is watched"
    );
    sim.wait(Duration::from_millis(200));
    assert_eq!(sim.said(1).last(), Some(&"disconnect"));
    assert_eq!(sim.ids().len(), 5, "the next one is on its way");
    for _ in 0..100 {
        assert!(sim.serving().len() >= 3);
        sim.settle(Duration::from_millis(100));
    }
    let receipts = sim.receipts();
    assert_eq!((receipts.len(), receipts[0].verdict), (1, Verdict::Done));
    assert_eq!(receipts[0].changes.len(), 3);
    assert!(receipts[0].changes.iter().all(|change| change.drain.is_some()));
    assert_eq!((receipts[0].lost, receipts[0].still_draining), (Some(0), 0));
    assert_eq!(sim.app.status(sim.now).generation, 2);
    assert!(sim.app.status(sim.now).workers.iter().all(|w| w.generation == 2));
}

#[test]
fn one_worker_is_reloaded_too() {
    let mut sim = started(1);
    sim.reload(None);
    sim.settle(seconds(5));
    assert_eq!(sim.receipts()[0].verdict, Verdict::Done);
    assert_eq!(sim.ids(), ids(&[2]));
}

#[test]
fn a_canary_that_dies_before_it_is_ready_changes_nothing() {
    let mut sim = started(2);
    sim.reload(None);
    sim.die(WorkerId(3), CRASH);
    let receipt = sim.receipts()[0];
    assert_eq!(receipt.verdict, Verdict::Aborted);
    let reason = receipt.reason.as_deref().unwrap();
    assert!(
        reason.contains("ended before it was ready, with code 1"),
        "{reason}"
    );
    assert_eq!(sim.ids(), ids(&[1, 2]));
    assert_eq!(sim.said(1), ["hand-over"]);
    assert_eq!(sim.app.status(sim.now).generation, 1);
    sim.settle(seconds(30));
    assert_eq!(sim.ids(), ids(&[1, 2]), "and nothing is tried again");
}

#[test]
fn a_canary_that_dies_while_it_is_watched_changes_nothing() {
    let mut sim = started(2);
    sim.reload(None);
    sim.boot(WorkerId(3));
    sim.wait(Duration::from_millis(500));
    sim.die(WorkerId(3), CRASH);
    assert_eq!(sim.receipts()[0].verdict, Verdict::Aborted);
    assert_eq!(sim.ids(), ids(&[1, 2]));
}

#[test]
fn a_canary_that_never_listens_is_killed_at_the_limit() {
    let mut sim = started(2);
    sim.reload(None);
    sim.say(WorkerId(3), everup_core::wire::Event::Online);
    sim.wait(seconds(29));
    assert!(
        sim.receipts().is_empty(),
        "uptime is not enough where the old ones listened"
    );
    sim.wait(seconds(2));
    assert_eq!(sim.said(3), ["SIGKILL"]);
    sim.die(
        WorkerId(3),
        ExitStatus::Signal {
            signal: 9,
            core: false,
        },
    );
    let reason = sim.receipts()[0].reason.clone().unwrap();
    assert_eq!(reason, "worker 3 was not ready within 30s");
    assert_eq!(sim.ids(), ids(&[1, 2]));
}

#[test]
fn an_unhealthy_canary_changes_nothing() {
    let mut sim = started(2);
    sim.reload(None);
    sim.boot(WorkerId(3));
    sim.feed(Input::Unhealthy {
        worker: WorkerId(3),
        cause: Cause::Probe,
    });
    sim.settle(seconds(1));
    let receipt = sim.receipts()[0];
    assert_eq!(receipt.verdict, Verdict::Aborted);
    assert_eq!(receipt.reason.as_deref(), Some("worker 3: failed liveness probe"));
    assert_eq!(sim.ids(), ids(&[1, 2]));
}

#[test]
fn failing_in_the_roll_brings_the_old_generation_back() {
    let mut sim = started(3);
    sim.reload(None);
    sim.boot(WorkerId(4));
    sim.wait(seconds(1));
    sim.die(WorkerId(5), CRASH);
    sim.settle(seconds(10));
    let receipt = sim.receipts()[0];
    assert_eq!(receipt.verdict, Verdict::RolledBack);
    assert!(receipt.changes.iter().all(|change| change.reverted));
    let status = sim.app.status(sim.now);
    assert_eq!(status.generation, 1);
    assert_eq!(status.workers.len(), 3);
    assert!(status.workers.iter().all(|w| w.generation == 1), "{status:?}");
    let exits = sim.notices.iter().filter_map(|notice| match notice {
        Notice::Exit { worker, reason, .. } => Some((worker.0, *reason)),
        _ => None,
    });
    let exits: Vec<_> = exits.collect();
    assert!(
        exits.contains(&(4, ExitReason::Replaced(Cause::Rollback))),
        "{exits:?}"
    );
}

#[test]
fn what_serves_is_kept_when_the_way_back_fails_too() {
    let mut sim = started(2);
    sim.reload(None);
    sim.boot(WorkerId(3));
    sim.wait(seconds(1));
    sim.die(WorkerId(1), ExitStatus::Code(0));
    sim.die(WorkerId(4), CRASH);
    assert_eq!(sim.ids(), ids(&[2, 3, 5]), "one of the old generation for slot 0");
    sim.die(WorkerId(5), CRASH);
    sim.settle(seconds(5));
    assert_eq!(sim.receipts()[0].verdict, Verdict::RolledBack);
    assert_eq!(sim.ids(), ids(&[2, 3]));
}

#[test]
fn calling_it_off_before_the_swap_is_as_if_nothing_had_been() {
    let mut sim = started(2);
    sim.reload(None);
    sim.boot(WorkerId(3));
    sim.feed(Input::AbortReload);
    sim.settle(seconds(1));
    let receipt = sim.receipts()[0];
    assert_eq!(receipt.verdict, Verdict::Aborted);
    assert_eq!(receipt.reason.as_deref(), Some("called off by an operator"));
    assert_eq!(sim.ids(), ids(&[1, 2]));
    sim.feed(Input::AbortReload);
    assert_eq!(sim.receipts().len(), 1, "there is none to call off");
}

#[test]
fn reloads_during_a_reload_are_one_afterwards() {
    let mut sim = started(2);
    assert_eq!(sim.reload(None), Accepted::Begun { generation: 2 });
    assert_eq!(sim.reload(None), Accepted::Queued { generation: 3 });
    assert_eq!(sim.reload(None), Accepted::Queued { generation: 3 });
    sim.settle(seconds(20));
    let verdicts: Vec<_> = sim.receipts().iter().map(|r| (r.generation, r.verdict)).collect();
    assert_eq!(verdicts, [(2, Verdict::Done), (3, Verdict::Done)]);
    assert!(sim.app.status(sim.now).workers.iter().all(|w| w.generation == 3));
}

#[test]
fn a_waiting_reload_does_not_wait_for_long_connections() {
    let mut sim = started(1);
    sim.reload(None);
    sim.boot(WorkerId(2));
    sim.wait(seconds(2));
    assert_eq!(sim.said(1).last(), Some(&"disconnect"));
    sim.reload(None);
    let receipt = sim.receipts()[0];
    assert_eq!(
        (receipt.verdict, receipt.still_draining, receipt.lost),
        (Verdict::Done, 1, None)
    );
    assert_eq!(sim.ids(), ids(&[1, 2, 3]));
}

#[test]
fn old_generations_are_capped() {
    let mut sim = Sim::new(Config {
        max_draining: 2,
        drain_timeout: seconds(3600),
        ..config(1)
    });
    sim.boot_all();
    for n in 0..3 {
        sim.reload(None);
        sim.boot(WorkerId(2 + n));
        sim.wait(seconds(2));
    }
    assert_eq!(sim.said(1).last(), Some(&"SIGTERM"), "the oldest has to hurry");
    assert_eq!(sim.said(2).last(), Some(&"disconnect"));
    sim.wait(seconds(5));
    assert_eq!(sim.said(1).last(), Some(&"SIGKILL"));
}

#[test]
fn a_stop_ends_the_reload_and_everything() {
    let mut sim = started(2);
    sim.reload(None);
    sim.reload(None);
    sim.feed(Input::Stop);
    assert_eq!(sim.receipts()[0].verdict, Verdict::Stopped);
    sim.settle(seconds(1));
    assert!(sim.outcome.is_some());
    assert_eq!(sim.reload(None), Accepted::Refused);
}

#[test]
fn scaling_up_during_a_reload_ends_with_all_of_the_new_generation() {
    for when in [0, 1500] {
        let mut sim = started(2);
        sim.reload(None);
        sim.boot(WorkerId(3));
        sim.wait(Duration::from_millis(when));
        sim.feed(Input::Scale { workers: 4 });
        sim.settle(seconds(20));
        assert_eq!(sim.receipts()[0].verdict, Verdict::Done);
        let status = sim.app.status(sim.now);
        assert_eq!(status.workers.len(), 4);
        assert!(
            status
                .workers
                .iter()
                .all(|w| w.generation == 2 && w.role == Role::Active)
        );
    }
}

#[test]
fn scaling_down_during_a_reload_ends_it_with_fewer() {
    for (to, when) in [(1, 0), (1, 1500), (0, 0), (0, 1500)] {
        let mut sim = started(3);
        sim.reload(None);
        sim.boot(WorkerId(4));
        sim.wait(Duration::from_millis(when));
        sim.feed(Input::Scale { workers: to });
        sim.settle(seconds(20));
        assert_eq!(sim.receipts().len(), 1, "to {to} after {when}");
        assert_eq!(sim.app.status(sim.now).workers.len(), to as usize);
    }
}

#[test]
fn an_old_worker_that_dies_meanwhile_makes_way() {
    let mut sim = started(2);
    sim.reload(None);
    sim.die(WorkerId(1), CRASH);
    assert_eq!(sim.ids(), ids(&[2, 3]), "its successor is on its way already");
    sim.settle(seconds(10));
    assert_eq!(sim.receipts()[0].verdict, Verdict::Done);
    assert!(sim.app.status(sim.now).workers.iter().all(|w| w.generation == 2));
    assert_eq!(sim.ids().len(), 2);
}

#[test]
fn stop_first_keeps_its_bound_and_needs_no_surge() {
    let mut sim = started(4);
    let rollout = Rollout::default().surge(0).max_unavailable(2);
    sim.reload(Some(rollout.canary(Duration::ZERO)));
    assert_eq!(sim.said(1).last(), Some(&"disconnect"));
    assert_eq!(sim.said(2).last(), Some(&"disconnect"));
    assert_eq!(sim.said(3), ["hand-over"]);
    for _ in 0..200 {
        assert!(sim.serving().len() >= 2 && sim.alive.len() <= 4);
        sim.settle(Duration::from_millis(50));
    }
    let receipt = sim.receipts()[0];
    assert_eq!((receipt.verdict, receipt.changes.len()), (Verdict::Done, 4));
    assert!(receipt.changes.iter().all(|change| change.old.is_some()));
}

#[test]
fn a_full_surge_swaps_slot_by_slot_as_they_become_ready() {
    let mut sim = started(3);
    sim.reload(Some(Rollout::default().surge(3).canary(Duration::ZERO)));
    assert_eq!(sim.ids().len(), 6);
    sim.boot(WorkerId(5));
    assert_eq!(sim.said(2).last(), Some(&"disconnect"));
    assert_eq!(sim.said(1), ["hand-over"]);
    sim.settle(seconds(2));
    assert_eq!(sim.receipts()[0].verdict, Verdict::Done);
}

#[test]
fn a_restart_stops_all_and_starts_all() {
    let mut sim = started(2);
    sim.reload(Some(Rollout::restart()));
    assert!(sim.alive.values().all(super::sim::Process::leaving));
    sim.settle(seconds(2));
    assert_eq!(sim.receipts()[0].verdict, Verdict::Done);
    assert_eq!(sim.serving().len(), 2);
}

#[test]
fn the_receipt_counts_connections_and_says_when_it_cannot() {
    let told = |lost, unknown: Option<&str>| Drained {
        moved: 3,
        lost,
        cut: 1,
        unknown: unknown.map(Into::into),
    };
    for (second, expected) in [(told(4, None), Some(6)), (told(0, Some("not permitted")), None)] {
        let mut sim = started(2);
        sim.uncounted = true;
        sim.reload(None);
        sim.settle(seconds(5));
        assert!(sim.receipts().is_empty(), "the counts are awaited");
        for (worker, drained) in [(WorkerId(1), told(2, None)), (WorkerId(2), second)] {
            sim.feed(Input::Drained { worker, drained });
        }
        let receipt = sim.receipts()[0];
        assert_eq!((receipt.moved, receipt.lost, receipt.cut), (6, expected, 2));
    }
}

#[test]
fn a_restart_that_is_called_off_fills_the_slot_at_once_and_says_so() {
    let mut sim = started(1);
    sim.reload(Some(Rollout::restart()));
    assert_eq!((sim.ids(), sim.said(1).last()), (ids(&[1]), Some(&"disconnect")));
    sim.feed(Input::AbortReload);
    assert_eq!(sim.ids(), ids(&[1, 2]), "nobody waits for the old one's end");
    sim.settle(seconds(5));
    assert_eq!(sim.receipts()[0].verdict, Verdict::RolledBack);
    assert_eq!((sim.serving().len(), sim.app.status(sim.now).generation), (1, 1));
}

#[test]
fn a_new_worker_that_leaves_before_it_was_ready_fails_the_reload() {
    let mut sim = started(1);
    sim.reload(None);
    sim.say(WorkerId(2), everup_core::wire::Event::Online);
    sim.say(WorkerId(2), everup_core::wire::Event::Leaving);
    sim.wait(seconds(31));
    assert_eq!(sim.said(2), ["SIGKILL"]);
    sim.die(
        WorkerId(2),
        ExitStatus::Signal {
            signal: 9,
            core: false,
        },
    );
    assert_eq!(sim.receipts()[0].verdict, Verdict::Aborted);
    assert_eq!(sim.ids(), ids(&[1]));
}
