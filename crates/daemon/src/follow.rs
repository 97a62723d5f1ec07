//! The events of a cluster: folded into what is known of the app, and told to those who listen.

use crate::app::{App, REPLIES, Reply};
use crate::axm::{self, Said};
use crate::daemon::{Daemon, blocking};
use crate::record::NotBound;
use crate::view;
use everup::{Event, Events, Outcome};
use serde_json::Map;
use std::sync::Arc;

/// Follows a cluster to its end.
pub(crate) async fn follow(daemon: Arc<Daemon>, app: Arc<App>, mut events: Events) {
    while let Some((at, event)) = events.recv_at().await {
        let now = view::at(at);
        daemon.thrift.used();
        not_bound(&daemon, &app, &event).await;
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

/// Who holds an address is looked up once: each worker has the same trouble.
async fn not_bound(daemon: &Daemon, app: &App, event: &Event) {
    let Event::BindFailed { address, errno, .. } = event else {
        return;
    };
    let same = |known: &NotBound| known.address == *address && known.errno == *errno;
    if app.kept().record.not_bound.as_ref().is_some_and(same) {
        return;
    }
    let (launcher, asked, errno) = (Arc::clone(&daemon.launcher), address.clone(), *errno);
    let why = blocking(move || launcher.explain_bind(&asked, errno)).await;
    app.kept().record.not_bound = why.ok().map(|why| NotBound {
        address: address.clone(),
        errno,
        why,
    });
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
        Event::Message {
            worker,
            slot,
            message,
            ..
        } => heard(daemon, app, &mut kept, (worker.0, slot.0), message),
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

/// A message of pm2's protocol.
fn heard(daemon: &Daemon, app: &App, kept: &mut crate::app::Kept, (worker, slot): (u32, u32), message: &str) {
    let Some(place) = kept.record.places.get_mut(&slot) else {
        return;
    };
    match axm::hear(&mut place.axm, message) {
        Some(Said::NodeVersion(version)) => place.node_version = Some(version),
        Some(Said::Reply { action, value }) => {
            if kept.replies.len() == REPLIES {
                kept.replies.pop_front();
            }
            kept.replies.push_back(Reply {
                worker,
                action,
                value,
            });
        }
        Some(Said::Event { kind, data }) => {
            let mut fields = Map::new();
            fields.insert("type".into(), kind.into());
            fields.insert("data".into(), data);
            daemon
                .journal
                .tell("message", Some(&app.name), Some(place.id), fields);
        }
        Some(Said::Kept) | None => {}
    }
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
    let died = match outcome {
        Outcome::Failed { status: Some(status) } => {
            format!("its workers kept dying; the last one ended with {status}")
        }
        _ => "its workers kept dying".into(),
    };
    match &kept.record.not_bound {
        Some(not_bound) => format!("{died}; {}", not_bound.why),
        None => died,
    }
}

fn tell(daemon: &Daemon, app: &App, event: &Event) {
    let Some((name, slot, mut data)) = crate::told::told(event) else {
        return;
    };
    if matches!(event, Event::BindFailed { .. })
        && let Some(not_bound) = &app.kept().record.not_bound
    {
        data.insert("why".into(), not_bound.why.clone().into());
    }
    let id = slot.and_then(|slot| Some(app.kept().record.places.get(&slot)?.id));
    daemon.journal.tell(name, Some(&app.name), id, data);
}
