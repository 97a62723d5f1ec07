//! What the engine knows, as the control socket tells it.

use crate::duration::{millis, show};
use crate::events::{reason_name, rfc3339};
use everup::{
    Cause, Change, ExitReason, ExitRecord, ExitStatus, Phase, Receipt, Role, Sequel, State, Status, Verdict,
    WorkerId, WorkerStatus, signal_name,
};
use everup_api as api;
use std::time::Duration;

/// `everup status`.
pub(super) fn status(app: &str, uptime: Duration, status: &Status) -> api::Status {
    api::Status {
        app: app.into(),
        pid: std::process::id(),
        generation: status.generation.into(),
        target: status.target,
        spares: status.spares,
        uptime_ms: millis(uptime),
        reload: status.reload.map(|reload| api::ReloadStatus {
            generation: reload.generation.into(),
            phase: phase(reload.phase),
            done: reload.done,
            total: reload.total,
            since_ms: millis(reload.since),
        }),
        workers: status.workers.iter().map(worker).collect(),
        storm: status.storm.map(|alike| api::Storm {
            since_ms: None,
            deaths: None,
            alike: alike.to_string(),
            probing: None,
        }),
    }
}

fn worker(worker: &WorkerStatus) -> api::WorkerStatus {
    let role = match (worker.role, worker.state) {
        (_, State::Stopping) => api::Role::Stopping,
        (Role::Active, _) => api::Role::Active,
        (Role::Spare, _) => api::Role::Spare,
        (Role::Incoming, _) => api::Role::Incoming,
        (Role::Draining, _) => api::Role::Draining,
        _ => api::Role::Other,
    };
    api::WorkerStatus {
        worker: worker.id.0,
        slot: worker.slot.0,
        pid: worker.pid,
        generation: worker.generation.into(),
        role,
        state: match worker.state {
            State::Starting => api::WorkerState::Starting,
            State::Online => api::WorkerState::Ready,
            State::Draining => api::WorkerState::Draining,
            State::Stopping => api::WorkerState::Stopping,
            _ => api::WorkerState::Other,
        },
        uptime_ms: millis(worker.uptime),
        connections: worker.connections,
        accepted: worker.accepted,
        memory: worker.memory,
        restarts: worker.restarts.into(),
        status_text: worker.text.clone(),
        draining_ms: worker.leaving.map(millis),
    }
}

fn phase(phase: Phase) -> api::Phase {
    match phase {
        Phase::Canary => api::Phase::Canary,
        Phase::Rolling => api::Phase::Rolling,
        Phase::RollingBack => api::Phase::RollingBack,
        Phase::Draining => api::Phase::Draining,
        _ => api::Phase::Other,
    }
}

/// How far the reload to this generation is.
pub(super) fn progress(generation: u32, status: &Status) -> api::Progress {
    let under_way = status.reload.filter(|reload| reload.generation == generation);
    let Some(reload) = under_way else {
        return api::Progress {
            phase: api::Phase::Waiting,
            done: 0,
            total: status.target,
            message: "waiting for the reload before".into(),
        };
    };
    let message = match reload.phase {
        Phase::Canary => "the first new worker is tried".into(),
        Phase::Rolling => format!("{} of {} replaced", reload.done, reload.total),
        Phase::RollingBack => "the old generation comes back".into(),
        Phase::Draining => "all replaced; old workers finish what they have".into(),
        _ => "it goes on".into(),
    };
    api::Progress {
        phase: phase(reload.phase),
        done: reload.done,
        total: reload.total,
        message,
    }
}

/// What came of a reload.
pub(super) fn receipt(receipt: &Receipt) -> api::Receipt {
    api::Receipt {
        outcome: match receipt.verdict {
            Verdict::Done => api::Outcome::Done,
            Verdict::Aborted => api::Outcome::Aborted,
            Verdict::RolledBack => api::Outcome::RolledBack,
            Verdict::Stopped => api::Outcome::Stopped,
            _ => api::Outcome::Other,
        },
        reason: receipt.reason.clone(),
        generation: receipt.generation.into(),
        cause: receipt.cause.name().into(),
        workers: receipt.changes.iter().map(change).collect(),
        duration_ms: millis(receipt.duration),
        connections_moved: receipt.moved,
        requests_lost: receipt.lost,
        connections_cut: receipt.cut,
        lost_unknown_because: receipt.unknown.clone(),
        queue_overflows: None,
        still_draining: receipt.still_draining,
    }
}

fn change(change: &Change) -> api::Replaced {
    let (new_worker, new_pid) = change.new;
    api::Replaced {
        slot: change.slot.0,
        old_worker: change.old.map(|(worker, _)| worker.0),
        old_pid: change.old.map(|(_, pid)| pid),
        new_worker: Some(new_worker.0),
        new_pid: Some(new_pid),
        boot_ms: Some(millis(change.boot)),
        drain_ms: change.drain.map(millis),
        forced: change.forced,
        reverted: change.reverted,
    }
}

/// `everup why`. The records come oldest first.
pub(super) fn why(
    app: &str,
    exits: &[ExitRecord],
    receipts: &[Receipt],
    worker: Option<u32>,
    limit: u32,
) -> api::Why {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let meant = |record: &&ExitRecord| worker.is_none_or(|worker| record.worker.0 == worker);
    let chosen: Vec<&ExitRecord> = exits.iter().rev().filter(meant).take(limit).collect();
    let touches = |receipt: &&Receipt| worker.is_none_or(|worker| concerns(receipt, WorkerId(worker)));
    api::Why {
        app: app.into(),
        summary: summary(chosen.first().copied(), worker),
        exits: chosen.into_iter().map(exit).collect(),
        reloads: receipts
            .iter()
            .rev()
            .filter(touches)
            .take(limit)
            .map(receipt)
            .collect(),
        omitted: 0,
    }
}

fn concerns(receipt: &Receipt, worker: WorkerId) -> bool {
    let mut changes = receipt.changes.iter();
    changes.any(|change| change.new.0 == worker || change.old.is_some_and(|(old, _)| old == worker))
}

fn summary(last: Option<&ExitRecord>, worker: Option<u32>) -> String {
    match (last, worker) {
        (Some(record), _) => {
            let ago = show(record.at.elapsed().unwrap_or_default());
            format!("worker {} ended {ago} ago: {}", record.worker, cause(record))
        }
        (None, Some(worker)) => format!("no end of worker {worker} is remembered"),
        (None, None) => "no worker has ended".into(),
    }
}

fn exit(record: &ExitRecord) -> api::Exit {
    let lines = record.last_lines.as_deref().unwrap_or_default();
    api::Exit {
        worker: record.worker.0,
        slot: record.slot.0,
        pid: record.pid,
        generation: record.generation.into(),
        at: rfc3339(record.at),
        uptime_ms: millis(record.uptime),
        status: match record.status {
            ExitStatus::Code(code) => api::ExitStatus::Code { code },
            ExitStatus::Signal { signal, core } => api::ExitStatus::Signal {
                signal: signal_name(signal),
                core,
            },
            _ => api::ExitStatus::Unknown { unknown: true },
        },
        reason: reason_name(record.reason).into(),
        cause: cause(record),
        oom: record.oom,
        forced: record.forced,
        last_lines: lines
            .iter()
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect(),
        lines_known: record.last_lines.is_some(),
        then: sequel(record.sequel),
    }
}

fn cause(record: &ExitRecord) -> String {
    let status = record.status;
    match record.reason {
        ExitReason::Own if record.oom => "the kernel killed it: memory was used up".into(),
        ExitReason::Own => own(status),
        ExitReason::Stopped => format!("it was asked to stop, and did, with {status}"),
        ExitReason::KillTimeout => {
            "it was asked to stop, did not within the kill timeout, and was killed".into()
        }
        ExitReason::ListenTimeout => "it was not ready within its limit, and was killed".into(),
        ExitReason::Protocol => "it broke the channel's protocol, and was killed".into(),
        ExitReason::Killed => format!("an operator killed it: {status}"),
        ExitReason::Replaced(cause) => {
            let killed = if record.forced {
                "; it did not stop in time, and was killed"
            } else {
                ""
            };
            format!("it was let go: {}{killed}", let_go(cause))
        }
        _ => format!("it ended with {status}"),
    }
}

/// Nobody of us did it.
fn own(status: ExitStatus) -> String {
    const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
    match status {
        ExitStatus::Code(code) => format!("it exited by itself with code {code}"),
        ExitStatus::Signal { signal, core } => {
            let dumped = if core { ", core dumped" } else { "" };
            let name = signal_name(signal);
            match FAULTS.contains(&signal) {
                true => format!("it crashed with {name}{dumped}"),
                false => format!("somebody else ended it with {name}{dumped}"),
            }
        }
        _ => "how it ended is not known".into(),
    }
}

fn let_go(cause: Cause) -> String {
    match cause {
        Cause::Reload => "a reload".into(),
        Cause::Restart => "a restart".into(),
        other => other.to_string(),
    }
}

fn sequel(sequel: Sequel) -> String {
    match sequel {
        Sequel::None => "not replaced".into(),
        Sequel::TakenOver => "another one has its place".into(),
        Sequel::Restarted { delay } if delay.is_zero() => "replaced at once".into(),
        Sequel::Restarted { delay } => format!("replaced after {}", show(delay)),
        Sequel::Failed => "not replaced: the app had failed".into(),
        _ => "not known".into(),
    }
}
