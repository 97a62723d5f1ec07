//! `everup status` for people.

use crate::render::amounts::{bytes, count, millis};
use crate::render::list::phase;
use crate::render::table::{Cell, Column, render};
use crate::terminal::{Screen, harmless};
use everup_api::{Role, Status, Storm, WorkerState, WorkerStatus};

/// A line about the app, what is going on, and the table of workers.
pub(super) fn text(status: &Status, screen: &Screen) -> String {
    let mut lines = vec![app(status)];
    lines.extend(status.reload.as_ref().map(|reload| {
        let line = format!(
            "a reload to generation {} is {} for {}: {} of {} done",
            reload.generation,
            phase(reload.phase),
            millis(reload.since_ms),
            reload.done,
            reload.total
        );
        screen.paint(YELLOW, &line)
    }));
    lines.extend(status.storm.as_ref().map(|told| screen.paint(RED, &storm(told))));
    if !status.workers.is_empty() {
        lines.push(String::new());
        lines.push(workers(status, screen).trim_end().to_owned());
    }
    lines.join("\n")
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

fn app(status: &Status) -> String {
    let serves = |worker: &&WorkerStatus| worker.role == Role::Active && worker.state == WorkerState::Ready;
    let ready = status.workers.iter().filter(serves).count();
    let spares = match status.spares {
        0 => String::new(),
        spares => format!(", {} wanted", count(u64::from(spares), "spare")),
    };
    format!(
        "{} (pid {}), up for {}: {ready} of {} ready{spares}, generation {}",
        harmless(&status.app),
        status.pid,
        millis(status.uptime_ms),
        count(u64::from(status.target), "worker"),
        status.generation
    )
}

fn storm(storm: &Storm) -> String {
    let tried = match storm.probing {
        Some(worker) => format!("worker {worker} is tried, the others wait"),
        None => "one is tried, the others wait".into(),
    };
    let deaths = storm.deaths.map_or_else(
        || "most workers".into(),
        |deaths| count(u64::from(deaths), "worker"),
    );
    let since = storm
        .since_ms
        .map(|since| format!(" that began {} ago", millis(since)))
        .unwrap_or_default();
    format!(
        "{deaths} died the same way ({}) in a storm{since}: {tried}",
        harmless(&storm.alike)
    )
}

fn workers(status: &Status, screen: &Screen) -> String {
    let column = |title, right, importance| Column {
        title,
        right,
        importance,
    };
    let mut columns = vec![
        column("WORKER", true, 9),
        column("SLOT", true, 3),
        column("PID", true, 9),
        column("GEN", true, 2),
        column("ROLE", false, 8),
        column("STATE", false, 9),
        column("UPTIME", true, 5),
        column("OPEN", true, 7),
        column("ACCEPTED", true, 1),
        column("MEMORY", true, 7),
        column("RESTARTS", true, 4),
    ];
    if status.workers.iter().any(|worker| worker.status_text.is_some()) {
        columns.push(column("SAYS", false, 6));
    }
    let mut sorted: Vec<&WorkerStatus> = status.workers.iter().collect();
    sorted.sort_by_key(|worker| (worker.slot, worker.worker));
    let rows: Vec<Vec<Cell>> = sorted.into_iter().map(row).collect();
    render(&columns, &rows, screen)
}

fn row(worker: &WorkerStatus) -> Vec<Cell> {
    let unknown = || "-".to_owned();
    vec![
        worker.worker.to_string().into(),
        worker.slot.to_string().into(),
        worker.pid.to_string().into(),
        worker.generation.to_string().into(),
        role(worker.role).to_owned().into(),
        state(worker),
        millis(worker.uptime_ms).into(),
        worker
            .connections
            .map_or_else(unknown, |open| open.to_string())
            .into(),
        worker.accepted.to_string().into(),
        worker.memory.map_or_else(unknown, bytes).into(),
        worker.restarts.to_string().into(),
        worker
            .status_text
            .as_deref()
            .map(harmless)
            .unwrap_or_default()
            .into(),
    ]
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Spare => "spare",
        Role::Incoming => "incoming",
        Role::Draining => "draining",
        Role::Stopping => "stopping",
        _ => "?",
    }
}

fn state(worker: &WorkerStatus) -> Cell {
    let (word, colour) = match worker.state {
        WorkerState::Starting => ("starting", YELLOW),
        WorkerState::Ready => ("ready", GREEN),
        WorkerState::Draining => ("draining", YELLOW),
        WorkerState::Stopping => ("stopping", YELLOW),
        _ => ("?", YELLOW),
    };
    let text = match worker.draining_ms {
        Some(since) => format!("{word} for {}", millis(since)),
        None => word.into(),
    };
    Cell {
        text,
        colour: Some(colour),
    }
}
