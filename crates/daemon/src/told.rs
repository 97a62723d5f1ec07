//! Events of clusters, as the control API tells them.

use crate::view;
use everup::{Event, ExitStatus, Outcome, signal_name};
use serde_json::{Map, Value, json};

/// The event's name, its slot, and the rest.
#[expect(clippy::too_many_lines, reason = "one arm per event")]
pub(crate) fn told(event: &Event) -> Option<(&'static str, Option<u32>, Map<String, Value>)> {
    let (name, slot, data) = match event {
        Event::Fork {
            worker,
            slot,
            pid,
            generation,
        } => (
            "start",
            Some(slot),
            json!({"worker": worker.0, "pid": pid, "generation": generation}),
        ),
        Event::SpawnFailed { worker, slot, why } => (
            "start_failed",
            Some(slot),
            json!({"worker": worker.0, "why": why}),
        ),
        Event::Online { worker, slot, pid } => {
            ("online", Some(slot), json!({"worker": worker.0, "pid": pid}))
        }
        Event::Listening {
            worker,
            slot,
            pid,
            address,
        } => (
            "listening",
            Some(slot),
            json!({"worker": worker.0, "pid": pid, "address": format!("{address:?}")}),
        ),
        Event::Ready {
            worker,
            slot,
            pid,
            after,
            ..
        } => (
            "ready",
            Some(slot),
            json!({"worker": worker.0, "pid": pid, "after_ms": view::millis(*after)}),
        ),
        Event::AllReady { workers } => ("all_ready", None, json!({"workers": workers})),
        Event::Exit {
            worker,
            slot,
            pid,
            status,
            reason,
            uptime,
            forced,
            oom,
            ..
        } => {
            let (code, signal) = match status {
                ExitStatus::Code(code) => (Some(*code), None),
                ExitStatus::Signal { signal, .. } => (None, Some(signal_name(*signal))),
                _ => (None, None),
            };
            let data = json!({
                "worker": worker.0, "pid": pid, "code": code, "signal": signal, "reason": view::reason(*reason),
                "uptime_ms": view::millis(*uptime), "forced": forced, "oom": oom,
            });
            ("exit", Some(slot), data)
        }
        Event::Respawn { slot, delay, .. } => {
            ("restart", Some(slot), json!({"delay_ms": view::millis(*delay)}))
        }
        Event::Replacing {
            worker,
            slot,
            pid,
            cause,
        } => (
            "replacing",
            Some(slot),
            json!({"worker": worker.0, "pid": pid, "cause": cause.name()}),
        ),
        Event::Scaled { from, to } => ("scale", None, json!({"from": from, "to": to})),
        Event::Reloading {
            generation,
            cause,
            phase,
            done,
            total,
        } => (
            "reloading",
            None,
            json!({"generation": generation, "cause": cause.name(), "phase": phase.name(), "done": done, "total": total}),
        ),
        Event::Reloaded(receipt) => (
            "reload",
            None,
            serde_json::to_value(view::receipt(receipt)).unwrap_or_default(),
        ),
        Event::Error { what, .. } => ("error", None, json!({"what": what})),
        Event::BindFailed {
            slot, address, errno, ..
        } => (
            "bind_failed",
            Some(slot),
            json!({"address": address, "errno": errno}),
        ),
        Event::Stopping => ("stopping", None, json!({})),
        Event::Stopped { outcome } => ("stop", None, json!({"outcome": outcome_name(*outcome)})),
        Event::Skipped { events } => ("skipped", None, json!({"events": events})),
        _ => return None,
    };
    let Value::Object(data) = data else { return None };
    Some((name, slot.map(|slot| slot.0), data))
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Stopped => "stopped",
        Outcome::Killed { .. } => "killed",
        Outcome::Done { .. } => "done",
        Outcome::Failed { .. } => "failed",
        _ => "other",
    }
}
