//! The events of a cluster: folded into what is known of the app, and told to those who listen.

use crate::app::App;
use crate::daemon::Daemon;
use crate::view;
use everup::{Event, Events, ExitStatus, Outcome, signal_name};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Follows a cluster to its end.
pub(crate) async fn follow(daemon: Arc<Daemon>, app: Arc<App>, mut events: Events) {
    while let Some((at, event)) = events.recv_at().await {
        let now = view::at(at);
        let ended = note(&daemon, &app, &event, now);
        tell(&daemon, &app, &event);
        app.changed();
        written_down(&daemon, &app, &event);
        if let Some(run) = ended {
            // Its triggers may be in the middle of a call to us.
            tokio::task::spawn_blocking(move || drop(run));
        }
    }
}

/// What the disk must know of it.
fn written_down(daemon: &Daemon, app: &App, event: &Event) {
    match event {
        Event::Exit { .. } | Event::Fork { .. } => daemon.worker_changed(),
        Event::Stopped { .. } => daemon.changed(app),
        _ => {}
    }
}

fn note(daemon: &Daemon, app: &App, event: &Event, now: u64) -> Option<crate::app::Run> {
    let mut kept = app.kept();
    kept.record.note(event, now);
    pid_file(daemon, &kept, event);
    if let Event::Fork { worker, pid, .. } = event
        && let Some(life) = kept.record.lives.get_mut(&worker.0)
    {
        life.born = crate::proc::born(*pid);
    }
    match event {
        Event::Stopped { outcome } => {
            if matches!(outcome, Outcome::Failed { .. }) {
                kept.because = Some(because(&kept, *outcome));
            }
            return kept.ended(*outcome);
        }
        Event::Exit { .. } => kept.note_exits(),
        Event::Reloaded(receipt) => kept.reloaded(view::receipt(receipt)),
        Event::Scaled { to, .. } => kept.target = *to,
        Event::Reloading { phase, .. } => hold(&kept, *phase != everup::Phase::Draining),
        _ => {}
    }
    if matches!(event, Event::Reloaded(_)) {
        hold(&kept, false);
    }
    None
}

/// Nobody waits for them: what cannot be written is not there.
fn pid_file(daemon: &Daemon, kept: &crate::app::Kept, event: &Event) {
    let (Event::Fork { slot, pid, .. } | Event::Exit { slot, pid, .. }) = event else {
        return;
    };
    let Some(place) = kept.record.places.get(&slot.0) else {
        return;
    };
    let alone = kept.record.places.len() == 1;
    let path = crate::pids::path(&daemon.home.pids(), &kept.spec, place.id, alone);
    if matches!(event, Event::Fork { .. }) {
        crate::pids::write(&path, *pid).ok();
    } else {
        crate::pids::remove(&path, *pid);
    }
}

fn hold(kept: &crate::app::Kept, held: bool) {
    let firing = kept.run.as_ref().and_then(|run| run.firing.as_ref());
    if let Some(firing) = firing {
        firing.hold(held);
    }
}

fn because(kept: &crate::app::Kept, outcome: Outcome) -> String {
    if let (Some(why), true) = (
        &kept.record.not_started,
        matches!(outcome, Outcome::Failed { status: None }),
    ) {
        return format!("it could not be started: {why}");
    }
    match outcome {
        Outcome::Failed { status: Some(status) } => {
            format!("its workers kept dying; the last one ended with {status}")
        }
        _ => "its workers kept dying".into(),
    }
}

fn tell(daemon: &Daemon, app: &App, event: &Event) {
    let Some((name, slot, data)) = told(event) else {
        return;
    };
    let id = slot.and_then(|slot| Some(app.kept().record.places.get(&slot)?.id));
    daemon.journal.tell(name, Some(&app.name), id, data);
}

/// The event's name, its slot, and the rest.
fn told(event: &Event) -> Option<(&'static str, Option<u32>, Map<String, Value>)> {
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
