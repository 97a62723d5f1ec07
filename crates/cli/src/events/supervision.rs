//! Replacements, storms, scaling and reloads: as lines for people, and as JSON.

use super::Who;
use super::json::{Object, object, of_worker, status_fields};
use crate::duration::{millis, show};
use everup::{Cause, Change, Event, Phase, Receipt, Verdict};
use serde_json::{Value, json};

/// The line of an event; `None` if it is none of these.
pub(super) fn human(event: &Event, named: impl Fn(Who) -> String) -> Option<String> {
    Some(match event {
        Event::Replacing {
            worker,
            slot,
            pid,
            cause,
        } => {
            let name = || named(Who::of(*worker, *slot, *pid));
            match cause {
                Cause::Reload | Cause::Restart | Cause::Cron | Cause::Watch => return None,
                Cause::Scale => format!("{} leaves: {cause}", name()),
                cause => format!("{} is being replaced: {cause}", name()),
            }
        }
        Event::Promoted { worker, slot, pid } => {
            let name = named(Who::of(*worker, *slot, *pid));
            format!("{name} takes an empty place: it stood by")
        }
        Event::Storm { status, probe } => format!(
            "most workers died with {status} within seconds: only slot {probe} is tried until it stays up"
        ),
        Event::Calm => "workers stay up again: all slots are filled".into(),
        Event::Scaled { from, to } => format!("scaling from {from} to {to}"),
        Event::Reloading {
            generation,
            cause,
            phase,
            done,
            total,
        } => progress(*generation, *cause, *phase, *done, *total),
        Event::Reloaded(it) => receipt(it),
        Event::Overlap => "the job still runs: this start is left out".into(),
        Event::Finished { slot } => format!("slot {slot} is done: it is not started again"),
        _ => return None,
    })
}

fn progress(generation: u32, cause: Cause, phase: Phase, done: u32, total: u32) -> String {
    let what = match phase {
        Phase::Canary => "trying the first new worker".into(),
        Phase::Rolling => format!("{done} of {total} replaced"),
        Phase::RollingBack => "taking it back".into(),
        Phase::Draining => "all replaced; old workers finish their connections".into(),
        _ => String::new(),
    };
    format!("reload to generation {generation} ({cause}): {what}")
}

/// A receipt in one line.
pub(crate) fn receipt(receipt: &Receipt) -> String {
    let reason = receipt
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(": {reason}"));
    let took = show(receipt.duration);
    let generation = receipt.generation;
    let how = match receipt.verdict {
        Verdict::Done => {
            let workers = receipt.changes.len();
            let plural = if workers == 1 { "" } else { "s" };
            format!("reload to generation {generation} done: {workers} worker{plural} replaced in {took}")
        }
        Verdict::Aborted => {
            return format!(
                "reload to generation {generation} aborted after {took}{reason}; the old generation is as it was"
            );
        }
        Verdict::RolledBack => format!("reload to generation {generation} rolled back after {took}{reason}"),
        Verdict::Stopped => return format!("reload to generation {generation} ended by the stop{reason}"),
        _ => format!("reload to generation {generation} ended after {took}{reason}"),
    };
    let mut lost = match (receipt.lost, &receipt.unknown) {
        (Some(lost), _) => format!("{lost} requests lost"),
        (None, Some(why)) => format!("lost requests not known ({why})"),
        (None, None) => "lost requests not known".into(),
    };
    if receipt.cut > 0 {
        lost.push_str(&format!(", {} connections cut", receipt.cut));
    }
    let draining = match receipt.still_draining {
        0 => String::new(),
        n => format!(", {n} still draining"),
    };
    format!("{how}, {} connections moved, {lost}{draining}", receipt.moved)
}

/// The object of an event; `None` if it is none of these.
pub(super) fn json(event: &Event) -> Option<Object> {
    Some(match event {
        Event::Replacing {
            worker,
            slot,
            pid,
            cause,
        } => of_worker("replacing", Who::of(*worker, *slot, *pid), &cause_fields(*cause)),
        Event::Promoted { worker, slot, pid } => of_worker("promoted", Who::of(*worker, *slot, *pid), &[]),
        Event::Storm { status, probe } => {
            let mut fields = vec![("probe", probe.0.into())];
            fields.extend(status_fields(*status));
            object("storm", &fields)
        }
        Event::Calm => object("calm", &[]),
        Event::Scaled { from, to } => object("scaled", &[("from", (*from).into()), ("to", (*to).into())]),
        Event::Reloading {
            generation,
            cause,
            phase,
            done,
            total,
        } => object(
            "reloading",
            &[
                ("generation", (*generation).into()),
                ("cause", cause.name().into()),
                ("phase", phase.name().into()),
                ("done", (*done).into()),
                ("total", (*total).into()),
            ],
        ),
        Event::Reloaded(receipt) => object("reloaded", &receipt_fields(receipt)),
        Event::Overlap => object("overlap", &[]),
        Event::Finished { slot } => object("finished", &[("slot", slot.0.into())]),
        _ => return None,
    })
}

/// A cause, with its numbers.
pub(super) fn cause_fields(cause: Cause) -> Vec<(&'static str, Value)> {
    let mut fields = vec![("cause", cause.name().into())];
    if let Cause::Memory { bytes, limit } = cause {
        fields.push(("memory", bytes.into()));
        fields.push(("limit", limit.into()));
    }
    fields
}

fn receipt_fields(receipt: &Receipt) -> Vec<(&'static str, Value)> {
    let workers: Vec<Value> = receipt.changes.iter().map(change).collect();
    vec![
        ("outcome", receipt.verdict.name().into()),
        ("reason", json!(receipt.reason)),
        ("generation", receipt.generation.into()),
        ("cause", receipt.cause.name().into()),
        ("workers", workers.into()),
        ("duration_ms", millis(receipt.duration).into()),
        ("connections_moved", receipt.moved.into()),
        ("requests_lost", json!(receipt.lost)),
        ("connections_cut", receipt.cut.into()),
        ("lost_unknown_because", json!(receipt.unknown)),
        ("still_draining", receipt.still_draining.into()),
    ]
}

fn change(change: &Change) -> Value {
    json!({
        "slot": change.slot.0,
        "old_worker": change.old.map(|(worker, _)| worker.0),
        "old_pid": change.old.map(|(_, pid)| pid),
        "new_worker": change.new.0.0,
        "new_pid": change.new.1,
        "boot_ms": millis(change.boot),
        "drain_ms": change.drain.map(millis),
        "forced": change.forced,
        "reverted": change.reverted,
    })
}
