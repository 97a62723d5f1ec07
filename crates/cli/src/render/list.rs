//! `everup list`: a row per app with its sums, and rows of its workers as far as they are few or worth a look.

use super::amounts::{bytes, millis, ranges};
use super::table::{Cell, Column, render};
use crate::terminal::{Screen, cut, harmless};
use everup_api::v1::{App, AppState, Instance};
use everup_api::{NAMESPACE, Phase, Role, WorkerState};
use std::cmp::Reverse;

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const GREY: u8 = 90;

/// So many workers of an app are shown without being asked for.
const FEW: usize = 8;
/// With more rows than this, only workers worth a look are shown.
const MANY: usize = 60;

/// What is shown of the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// All workers of this app, and no other app.
    pub(crate) app: Option<String>,
    /// `FIELD[:desc]`.
    pub(crate) sort: Option<String>,
}

/// A list without apps.
pub(crate) fn empty() -> &'static str {
    "no apps yet; `everup start app.js` starts one, `everup resurrect` those that were saved"
}

/// The list.
pub(crate) fn text(apps: &[App], choice: &Choice, screen: &Screen) -> String {
    let mut shown: Vec<&App> = apps
        .iter()
        .filter(|app| choice.app.as_ref().is_none_or(|name| app.spec.name == *name))
        .collect();
    order(&mut shown, choice.sort.as_deref());
    let rows_of_all: usize = shown.iter().map(|app| app.instances.len().min(FEW) + 1).sum();
    let most = match choice.app {
        Some(_) => usize::MAX,
        None if rows_of_all > MANY => 0,
        None => FEW,
    };
    let columns = columns(&shown);
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for app in &shown {
        rows.push(app_row(app));
        rows.extend(worker_rows(app, most));
    }
    let rows = rows
        .into_iter()
        .map(|row| keep(row, &columns))
        .collect::<Vec<_>>();
    let columns: Vec<Column> = columns.into_iter().flatten().collect();
    let mut text = render(&columns, &rows, screen);
    for app in &shown {
        for line in remarks(app, screen) {
            text.push_str(&screen.paint(line.0, &line.1));
            text.push('\n');
        }
    }
    text
}

/// Columns; those that would say nothing are left out.
fn columns(apps: &[&App]) -> Vec<Option<Column>> {
    let column = |title, right, importance| {
        Some(Column {
            title,
            right,
            importance,
        })
    };
    let spaces = apps.iter().any(|app| app.spec.namespace() != NAMESPACE);
    let open = apps
        .iter()
        .any(|app| all(app).any(|one| one.connections.is_some()));
    let exits = apps
        .iter()
        .any(|app| app.instances.iter().any(|one| one.last_exit.is_some()));
    vec![
        column("ID", true, 9),
        column("NAME", false, 9),
        column("NAMESPACE", false, 2).filter(|_| spaces),
        column("MODE", false, 3),
        column("STATE", false, 9),
        column("PID", true, 5),
        column("GEN", true, 1),
        column("↺", true, 6),
        column("UPTIME", true, 6),
        column("CPU", true, 7),
        column("MEMORY", true, 8),
        column("OPEN", true, 4).filter(|_| open),
        column("LAST EXIT", false, 2).filter(|_| exits),
    ]
}

fn keep(row: Vec<Cell>, columns: &[Option<Column>]) -> Vec<Cell> {
    let kept = row.into_iter().zip(columns);
    kept.filter_map(|(cell, column)| column.as_ref().map(|_| cell))
        .collect()
}

fn all(app: &App) -> impl Iterator<Item = &Instance> {
    app.instances.iter().chain(&app.others)
}

fn painted(text: impl Into<String>, colour: u8) -> Cell {
    Cell {
        text: text.into(),
        colour: Some(colour),
    }
}

fn app_row(app: &App) -> Vec<Cell> {
    let single = app.instances.len() == 1;
    let ids = ranges(app.instances.iter().map(|instance| instance.id));
    let pid = app
        .instances
        .first()
        .and_then(|instance| instance.pid)
        .filter(|_| single);
    let restarts: u64 = app.instances.iter().map(|instance| instance.restarts).sum();
    let uptime = app
        .instances
        .iter()
        .filter(|one| one.pid.is_some())
        .map(|one| one.uptime_ms)
        .max();
    let latest = app
        .instances
        .iter()
        .filter_map(|one| one.last_exit.as_ref())
        .max_by_key(|exit| exit.at);
    vec![
        painted(ids, 36),
        painted(harmless(&app.spec.name), 1),
        harmless(app.spec.namespace()).into(),
        mode(app).into(),
        app_state(app),
        pid.map_or_else(String::new, |pid| pid.to_string()).into(),
        app.generation.to_string().into(),
        restarts.to_string().into(),
        uptime.map_or_else(String::new, millis).into(),
        cpu(sum_of(app, |one| one.cpu)).into(),
        sum(app, |one| one.memory)
            .map_or_else(|| "-".into(), bytes)
            .into(),
        sum(app, |one| one.connections)
            .map_or_else(|| "-".into(), |open| open.to_string())
            .into(),
        latest
            .map_or_else(String::new, |exit| harmless(&exit.cause))
            .into(),
    ]
}

fn sum(app: &App, of: impl Fn(&Instance) -> Option<u64>) -> Option<u64> {
    let known: Vec<u64> = all(app).filter_map(of).collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

fn sum_of(app: &App, of: impl Fn(&Instance) -> Option<f64>) -> Option<f64> {
    let known: Vec<f64> = all(app).filter_map(of).collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

fn cpu(percent: Option<f64>) -> String {
    percent.map_or_else(|| "-".into(), |percent| format!("{percent:.1}%"))
}

fn mode(app: &App) -> String {
    let mode = if app.clustered { "cluster" } else { "fork" };
    match app.target {
        0 | 1 => mode.into(),
        workers => format!("{mode} ×{workers}"),
    }
}

/// What an app does; of several workers, how many are ready.
fn app_state(app: &App) -> Cell {
    let ready = app
        .instances
        .iter()
        .filter(|one| one.pid.is_some() && one.state == Some(WorkerState::Ready))
        .count();
    let wanted = usize::try_from(app.target).unwrap_or(usize::MAX);
    let (word, colour) = match app.state {
        AppState::Running if ready >= wanted && wanted == 1 => return painted("ready", GREEN),
        AppState::Running if ready >= wanted => return painted(format!("{ready} ready"), GREEN),
        AppState::Running if wanted == 1 => return one_state(app.instances.first()),
        AppState::Running => return painted(format!("{ready}/{wanted} ready"), YELLOW),
        AppState::Backoff => ("backoff", YELLOW),
        AppState::Stopping => ("stopping", YELLOW),
        AppState::Stopped => ("stopped", GREY),
        AppState::Failed => ("failed", RED),
        AppState::Scheduled => ("scheduled", GREEN),
        AppState::Waiting => ("waiting", YELLOW),
        _ => ("?", YELLOW),
    };
    painted(word, colour)
}

fn one_state(instance: Option<&Instance>) -> Cell {
    instance.map_or_else(|| painted("starting", YELLOW), state)
}

fn state(instance: &Instance) -> Cell {
    let word = match (instance.pid, instance.state, instance.role) {
        (None, ..) => return painted("-", GREY),
        (_, Some(WorkerState::Ready), Some(Role::Spare)) => return painted("spare", GREEN),
        (_, Some(WorkerState::Ready), _) => return painted("ready", GREEN),
        (_, Some(WorkerState::Draining), _) => "draining",
        (_, Some(WorkerState::Stopping), _) => "stopping",
        (_, Some(WorkerState::Starting) | None, _) => "starting",
        _ => "?",
    };
    painted(word, YELLOW)
}

/// Rows of workers: all if they are few, else those that are not simply ready.
fn worker_rows(app: &App, most: usize) -> Vec<Vec<Cell>> {
    if app.instances.len() <= 1 && app.others.is_empty() {
        return Vec::new();
    }
    let mut workers: Vec<&Instance> = all(app).collect();
    workers.sort_by_key(|one| (one.slot, one.worker));
    let total = workers.len();
    if total > most {
        let odd = |one: &&Instance| one.pid.is_some() && one.state != Some(WorkerState::Ready);
        workers = workers.into_iter().filter(odd).take(FEW).collect();
    }
    let hidden = total - workers.len();
    let last = workers.len();
    let mut rows: Vec<Vec<Cell>> = workers
        .into_iter()
        .enumerate()
        .map(|(index, one)| worker_row(one, index + 1 == last && hidden == 0))
        .collect();
    if hidden > 0 && most > 0 {
        let more = format!("└ {hidden} more: --app {}", harmless(&app.spec.name));
        let mut row: Vec<Cell> = vec![String::new().into(); 13];
        row[1] = painted(more, GREY);
        rows.push(row);
    }
    rows
}

fn worker_row(one: &Instance, last: bool) -> Vec<Cell> {
    let branch = if last { "└" } else { "├" };
    let what = match one.role {
        Some(Role::Incoming) => format!("{branch} slot {} (new)", one.slot),
        _ => format!("{branch} slot {}", one.slot),
    };
    let known = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    vec![
        painted(one.id.to_string(), GREY),
        painted(what, GREY),
        String::new().into(),
        String::new().into(),
        state(one),
        one.pid.map_or_else(String::new, |pid| pid.to_string()).into(),
        one.generation.to_string().into(),
        one.restarts.to_string().into(),
        one.pid.map_or_else(String::new, |_| millis(one.uptime_ms)).into(),
        cpu(one.cpu).into(),
        one.memory.map_or_else(|| "-".into(), bytes).into(),
        known(one.connections).into(),
        one.last_exit
            .as_ref()
            .map_or_else(String::new, |exit| harmless(&exit.cause))
            .into(),
    ]
}

/// What is worth a line below the table: a reload that goes on, and why an app does not run.
fn remarks(app: &App, screen: &Screen) -> Vec<(u8, String)> {
    let name = harmless(&app.spec.name);
    let name = screen
        .width
        .map_or_else(|| name.clone(), |room| cut(&name, room / 2));
    let mut lines = Vec::new();
    if let Some(reload) = &app.reload {
        let what = phase(reload.phase);
        lines.push((
            YELLOW,
            format!(
                "{name}: reload to generation {}: {what}, {} of {}",
                reload.generation, reload.done, reload.total
            ),
        ));
    }
    if let Some(because) = &app.because {
        let colour = if app.state == AppState::Failed {
            RED
        } else {
            YELLOW
        };
        lines.push((colour, format!("{name}: {}", harmless(because))));
    }
    lines
}

pub(crate) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Starting => "starting workers",
        Phase::Canary => "watching its first worker",
        Phase::Rolling => "rolling",
        Phase::RollingBack => "rolling back",
        Phase::Draining => "draining old workers",
        Phase::Stopping => "stopping workers",
        _ => "going on",
    }
}

fn order(apps: &mut [&App], sort: Option<&str>) {
    let sort = sort.unwrap_or("name");
    let (field, descending) = sort
        .split_once(':')
        .map_or((sort, false), |(field, order)| (field, order == "desc"));
    let fixed = |value: Option<f64>| format!("{:020.3}", value.unwrap_or(0.0));
    let whole = |value: u64| format!("{value:020}");
    let key = |app: &&App| {
        let lowest = app.instances.iter().map(|one| one.id).min().unwrap_or(0);
        match field.to_lowercase().as_str() {
            "id" => whole(u64::from(lowest)),
            "state" | "status" => format!("{:?}", app.state),
            "namespace" => app.spec.namespace().to_owned(),
            "uptime" => whole(app.instances.iter().map(|one| one.uptime_ms).max().unwrap_or(0)),
            "cpu" => fixed(sum_of(app, |one| one.cpu)),
            "memory" | "mem" => whole(sum(app, |one| one.memory).unwrap_or(0)),
            "restarts" => whole(app.instances.iter().map(|one| one.restarts).sum()),
            "connections" | "open" => whole(sum(app, |one| one.connections).unwrap_or(0)),
            "pid" => whole(
                app.instances
                    .iter()
                    .filter_map(|one| one.pid)
                    .map(u64::from)
                    .min()
                    .unwrap_or(0),
            ),
            _ => app.spec.name.clone(),
        }
    };
    if descending {
        apps.sort_by_cached_key(|app| Reverse(key(app)));
    } else {
        apps.sort_by_cached_key(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::{app, crowd, stopped};
    use everup_api::ReloadStatus;

    const PLAIN: Screen = Screen {
        width: None,
        colour: false,
    };

    fn shown(apps: &[App], choice: &Choice) -> String {
        text(apps, choice, &PLAIN)
    }

    #[test]
    fn apps_and_their_workers() {
        let mut web = app("web");
        web.reload = Some(ReloadStatus {
            generation: 3,
            phase: Phase::Rolling,
            done: 1,
            total: 2,
            since_ms: 10,
        });
        let mut api = stopped("api", 2);
        api.state = AppState::Failed;
        api.because = Some("exit code 1, 5 times within 3 s".into());
        let expected =
            "\x20ID  NAME      MODE        STATE     PID  GEN  ↺     UPTIME   CPU     MEMORY  OPEN  LAST EXIT
  2  api       fork        failed           2  0                -          -     -
0,1  web       cluster ×2  2 ready          2  1  2 h 3 min  7.7%  105.2 MiB     7  it exited with code 1
  0  ├ slot 0              ready    7637    2  1  2 h 3 min  7.7%   52.6 MiB     3  it exited with code 1
  1  └ slot 1              ready    7638    2  0  2 h 3 min  0.0%   52.6 MiB     4
api: exit code 1, 5 times within 3 s
web: reload to generation 3: rolling, 1 of 2
";
        assert_eq!(shown(&[web, api], &Choice::default()), expected);
    }

    #[test]
    fn a_thousand_workers_are_folded() {
        let apps = [crowd("big", 1000), stopped("job", 5)];
        let expected = "\x20    ID  NAME                   MODE           STATE             PID  GEN  ↺     UPTIME   CPU    MEMORY  OPEN
10-1009  big                    cluster ×1000  999/1000 ready           2  0  2 h 3 min  0.0%  51.3 GiB  4000
   1009  ├ slot 999                            starting        20999    2  0     340 ms  0.0%  52.6 MiB     4
         └ 999 more: --app big
      5  job                    fork           stopped                  2  0                -         -     -
";
        assert_eq!(shown(&apps, &Choice::default()), expected);
        let all = Choice {
            app: Some("big".into()),
            sort: None,
        };
        assert_eq!(shown(&apps, &all).lines().count(), 1002);
        // Many apps: no workers that are simply ready.
        let many: Vec<App> = (0..100).map(|number| app(&format!("a{number:02}"))).collect();
        assert_eq!(shown(&many, &Choice::default()).lines().count(), 101);
    }

    #[test]
    fn it_fits_the_screen() {
        let apps = [
            app("web"),
            crowd("big", 3),
            stopped("a-very-long-name-of-an-app", 9),
        ];
        for width in 60..200 {
            let screen = Screen {
                width: Some(width),
                colour: false,
            };
            let text = text(&apps, &Choice::default(), &screen);
            assert!(
                text.lines().all(|line| line.chars().count() <= width),
                "{width}\n{text}"
            );
        }
    }

    #[test]
    fn long_and_wide_names_are_cut() {
        let long = [app(&"n".repeat(99)), stopped(&"日".repeat(50), 9), app("web")];
        for width in 40..200 {
            let screen = Screen {
                width: Some(width),
                colour: false,
            };
            let text = text(&long, &Choice::default(), &screen);
            assert!(
                text.lines().all(|line| crate::terminal::width(line) <= width),
                "{width}\n{text}"
            );
            assert!(text.contains("nnnnnnnnn…") || text.contains("nnnnn"), "{text}");
        }
    }

    #[test]
    fn sorted_by_fields() {
        let names = |sort: &str| {
            let apps = [app("web"), crowd("big", 3), stopped("api", 9)];
            let choice = Choice {
                app: None,
                sort: Some(sort.into()),
            };
            let text = shown(&apps, &choice);
            let names = ["web", "big", "api"];
            let mut found: Vec<(usize, &str)> = names
                .iter()
                .map(|name| (text.find(&format!("  {name}  ")).unwrap(), *name))
                .collect();
            found.sort_unstable();
            found.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("name"), "api big web");
        assert_eq!(names("name:desc"), "web big api");
        assert_eq!(names("memory:desc"), "big web api");
        assert_eq!(names("id"), "web api big");
        assert_eq!(names("restarts:desc"), "web big api");
    }

    #[test]
    fn names_have_no_power() {
        let text = shown(&[app("\x1b[2Jx")], &Choice::default());
        assert!(!text.contains('\x1b'), "{text}");
    }
}
