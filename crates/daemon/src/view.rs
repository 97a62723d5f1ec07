//! What the engine says, as the control API tells it.

use everup::{
    Cause, Change, ExitReason, ExitRecord, ExitStatus, Phase, Receipt, Role, Sequel, State, Verdict,
    signal_name,
};
use everup_api as api;
use everup_api::v1::LastExit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    at(SystemTime::now())
}

/// The same of another time.
pub(crate) fn at(time: SystemTime) -> u64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-08-05T12:34:56.789Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or_default();
    format!("{time:.3}")
}

/// What a worker is there for.
pub(crate) fn role(role: Role, state: State) -> api::Role {
    match (role, state) {
        (_, State::Stopping) => api::Role::Stopping,
        (Role::Active, _) => api::Role::Active,
        (Role::Spare, _) => api::Role::Spare,
        (Role::Incoming, _) => api::Role::Incoming,
        (Role::Draining, _) => api::Role::Draining,
        _ => api::Role::Other,
    }
}

/// What a worker does.
pub(crate) fn state(state: State) -> api::WorkerState {
    match state {
        State::Starting => api::WorkerState::Starting,
        State::Online => api::WorkerState::Ready,
        State::Draining => api::WorkerState::Draining,
        State::Stopping => api::WorkerState::Stopping,
        _ => api::WorkerState::Other,
    }
}

/// How far a reload is.
pub(crate) fn phase(phase: Phase) -> api::Phase {
    match phase {
        Phase::Canary => api::Phase::Canary,
        Phase::Rolling => api::Phase::Rolling,
        Phase::RollingBack => api::Phase::RollingBack,
        Phase::Draining => api::Phase::Draining,
        _ => api::Phase::Other,
    }
}

/// What came of a reload.
pub(crate) fn receipt(receipt: &Receipt) -> api::Receipt {
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

/// How a worker ended, with all that is known.
pub(crate) fn exit(record: &ExitRecord) -> api::Exit {
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
        reason: reason(record.reason).into(),
        cause: cause(record.status, record.reason, record.oom, record.forced),
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

/// How a worker ended, in short.
pub(crate) fn last_exit(status: ExitStatus, reason: ExitReason, uptime: Duration, now: u64) -> LastExit {
    let after = show(uptime);
    let (code, signal) = match status {
        ExitStatus::Code(code) => (Some(code), None),
        ExitStatus::Signal { signal, .. } => (None, Some(signal_name(signal))),
        _ => (None, None),
    };
    LastExit {
        code,
        signal,
        at: now,
        cause: format!("{}, after {after}", cause(status, reason, false, false)),
    }
}

/// The stable word of a reason.
pub(crate) fn reason(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Own => "own",
        ExitReason::Stopped => "stopped",
        ExitReason::KillTimeout => "kill_timeout",
        ExitReason::ListenTimeout => "listen_timeout",
        ExitReason::Protocol => "protocol",
        ExitReason::Killed => "killed",
        ExitReason::Replaced(cause) => cause.name(),
        _ => "other",
    }
}

fn cause(status: ExitStatus, reason: ExitReason, oom: bool, forced: bool) -> String {
    match reason {
        ExitReason::Own if oom => "the kernel killed it: memory was used up".into(),
        ExitReason::Own => own(status),
        ExitReason::Stopped => format!("it was asked to stop, and did, with {status}"),
        ExitReason::KillTimeout => {
            "it was asked to stop, did not within the kill timeout, and was killed".into()
        }
        ExitReason::ListenTimeout => "it was not ready within its limit, and was killed".into(),
        ExitReason::Protocol => "it broke the channel's protocol, and was killed".into(),
        ExitReason::Killed => format!("an operator killed it: {status}"),
        ExitReason::Replaced(cause) => {
            let killed = if forced {
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

/// For people: `340 ms`, `3.2 s`, `4 min 5 s`, `2 h 3 min`.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}
