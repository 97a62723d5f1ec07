//! Apps as they are now, for those who look.

use crate::app::{App, Kept, Listed};
use crate::daemon::Daemon;
use crate::view;
use everup::{Role, Status, WorkerStatus};
use everup_api::v1::{Instance, List, Pong};
use everup_api::{Error, ReloadStatus, Why, redact};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Daemon {
    /// Who we are.
    pub(crate) fn pong(&self) -> Pong {
        Pong {
            pid: std::process::id(),
            keeper_pid: self.keeper_pid,
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: everup_api::PROTOCOL,
            home: self.home.path().into(),
            uptime_ms: view::millis(self.begun.elapsed()),
            incarnation: self.incarnation,
            fell_back: self.fell_back.clone(),
        }
    }

    /// All apps, or some.
    pub(crate) fn look(&self, targets: &[String]) -> Result<List, Error> {
        let apps: Vec<Arc<App>> = match targets {
            [] => self.apps(),
            targets => self
                .targets(targets)?
                .into_iter()
                .map(|target| target.app)
                .collect(),
        };
        let lives = |app: &Arc<App>| {
            app.kept()
                .record
                .lives
                .values()
                .map(|life| life.pid)
                .collect::<Vec<_>>()
        };
        self.samples.look(self.apps().iter().flat_map(lives));
        // All are asked before the first is waited for.
        let asked: Vec<_> = apps
            .iter()
            .map(|app| app.kept().cluster().map(|cluster| cluster.ask_status()))
            .collect();
        let looks = apps.iter().zip(asked).map(|(app, asked)| {
            let status = asked.and_then(everup::AskedStatus::wait);
            self.shown(&app.kept(), status.as_ref())
        });
        Ok(List {
            apps: looks.collect(),
        })
    }

    fn shown(&self, kept: &Kept, status: Option<&Status>) -> Listed {
        let reload = status
            .and_then(|status| status.reload)
            .map(|reload| ReloadStatus {
                generation: reload.generation.into(),
                phase: view::phase(reload.phase),
                done: reload.done,
                total: reload.total,
                since_ms: view::millis(reload.since),
            });
        let now = view::now();
        let mut shown = BTreeSet::new();
        let mut instances = Vec::new();
        for (slot, place) in &kept.record.places {
            let worker = status.and_then(|status| at_home(status, *slot));
            shown.extend(worker.map(|worker| worker.id.0));
            instances.push(instance(self, kept, *slot, place.id, worker, now));
        }
        let others = status.into_iter().flat_map(|status| &status.workers);
        let others = others
            .filter(|worker| !shown.contains(&worker.id.0))
            .map(|worker| {
                let slot = worker.slot.0;
                let id = kept
                    .record
                    .places
                    .get(&slot)
                    .or_else(|| kept.record.places.values().next());
                let id = id.map_or(0, |place| place.id);
                instance(self, kept, slot, id, Some(worker), now)
            });
        Listed {
            spec: redact::app(&kept.spec),
            state: kept.state(),
            generation: status.map_or(0, |status| status.generation.into()),
            target: kept.target,
            clustered: kept.facts.clustered,
            created_at: kept.created_at,
            user: kept.facts.user.clone(),
            version: kept.facts.version.clone(),
            interpreter: kept.facts.interpreter.clone(),
            script_path: kept.facts.script_path.clone(),
            reload,
            last_reload: kept.receipts.back().cloned(),
            because: kept
                .because
                .clone()
                .or_else(|| {
                    kept.record
                        .not_bound
                        .as_ref()
                        .map(|not_bound| not_bound.why.clone())
                })
                .or_else(|| self.outputs.logs().trouble(&kept.spec.name)),
            others: others.collect(),
            instances,
        }
    }

    /// Why workers ended.
    pub(crate) fn why(&self, targets: &[String], limit: usize) -> Result<Vec<Why>, Error> {
        let targets = self.targets(targets)?;
        let lines = |app: &App, worker| self.outputs.logs().last_lines(&app.name, worker);
        Ok(targets
            .iter()
            .map(|target| why(&target.app, limit, lines))
            .collect())
    }
}

/// Who serves in this place; else who is on the way in.
fn at_home(status: &Status, slot: u32) -> Option<&WorkerStatus> {
    let here = || status.workers.iter().filter(|worker| worker.slot.0 == slot);
    here()
        .find(|worker| worker.role == Role::Active)
        .or_else(|| here().find(|worker| worker.role == Role::Incoming))
        .or_else(|| here().next_back())
}

fn instance(
    daemon: &Daemon,
    kept: &Kept,
    slot: u32,
    id: u32,
    worker: Option<&WorkerStatus>,
    now: u64,
) -> Instance {
    let place = kept.record.places.get(&slot);
    let paths = daemon.outputs.paths(&kept.spec, id);
    let mut shown = Instance {
        id,
        slot,
        out_file: paths.out,
        error_file: paths.err,
        log_file: paths.both,
        pid_file: Some(crate::pids::path(
            &daemon.home.pids(),
            &kept.spec,
            id,
            kept.record.places.len() == 1,
        )),
        ..Instance::default()
    };
    if let Some(place) = place {
        shown.restarts = place.restarts;
        shown.unstable_restarts = place.unstable;
        shown.last_exit = place.last_exit.clone();
        shown.node_version = place.node_version.clone();
        shown.axm = place.axm.clone();
    }
    if let Some(worker) = worker {
        let uptime = view::millis(worker.uptime);
        shown.pid = Some(worker.pid).filter(|pid| *pid > 0);
        shown.worker = Some(worker.id.0);
        shown.generation = worker.generation.into();
        shown.role = Some(view::role(worker.role, worker.state));
        shown.state = Some(view::state(worker.state));
        shown.started_at = Some(now.saturating_sub(uptime));
        shown.uptime_ms = uptime;
        shown.connections = worker.connections;
        shown.accepted = worker.accepted;
        let usage = daemon.samples.of(worker.pid);
        shown.memory = usage.memory;
        shown.cpu = usage.cpu;
        shown.status_text = worker.text.clone();
    }
    shown
}

fn why(app: &App, limit: usize, lines: impl Fn(&App, u32) -> Option<Vec<String>>) -> Why {
    let mut kept = app.kept();
    kept.note_exits();
    let mut exits: Vec<_> = kept.exits.iter().cloned().collect();
    exits.reverse();
    // Numbers of workers come again when an app is started anew: the lines are those of the last one.
    let mut seen = BTreeSet::new();
    for exit in exits.iter_mut().filter(|exit| !exit.lines_known) {
        if seen.insert(exit.worker)
            && let Some(lines) = lines(app, exit.worker)
        {
            (exit.last_lines, exit.lines_known) = (lines, true);
        }
    }
    let summary = match (&kept.because, exits.first()) {
        (Some(because), _) => format!("{} is {}: {because}", app.name, kept.state_name()),
        (None, _) if kept.record.not_bound.is_some() => format!(
            "{} is {}: {}",
            app.name,
            kept.state_name(),
            kept.record
                .not_bound
                .as_ref()
                .map_or("", |not_bound| not_bound.why.as_str())
        ),
        (None, Some(exit)) => format!(
            "{} is {}; worker {} ended at {}: {}",
            app.name,
            kept.state_name(),
            exit.worker,
            exit.at,
            exit.cause
        ),
        (None, None) => format!("{} is {}; no worker has ended", app.name, kept.state_name()),
    };
    let omitted = exits.len().saturating_sub(limit);
    exits.truncate(limit);
    Why {
        app: app.name.clone(),
        summary,
        exits,
        reloads: kept.receipts.iter().rev().take(limit).cloned().collect(),
        omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
    }
}
