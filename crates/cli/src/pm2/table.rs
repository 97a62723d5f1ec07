//! `pm2 list`, and `pm2 list -m`.

use super::grid::{Field, grid};
use super::{mode, percent, processes, since, size, status};
use crate::terminal::{Screen, harmless, width};
use everup_api::v1::{App, Instance};

/// Columns as pm2 has them: title and width; `None` is the name's.
type Columns = &'static [(&'static str, Option<usize>)];

const FULL: Columns = &[
    ("id", Some(4)),
    ("name", None),
    ("namespace", Some(13)),
    ("version", Some(9)),
    ("mode", Some(9)),
    ("pid", Some(10)),
    ("uptime", Some(8)),
    ("↺", Some(6)),
    ("status", Some(11)),
    ("cpu", Some(10)),
    ("mem", Some(10)),
    ("user", Some(10)),
    ("watching", Some(10)),
];
const CONDENSED: Columns = &[
    ("id", Some(4)),
    ("name", None),
    ("mode", Some(10)),
    ("↺", Some(6)),
    ("status", Some(11)),
    ("cpu", Some(10)),
    ("memory", Some(10)),
];
const MINI: Columns = &[
    ("id", Some(4)),
    ("name", None),
    ("status", Some(11)),
    ("cpu", Some(8)),
    ("mem", Some(10)),
];

/// The table. `sort` is pm2's `FIELD[:desc]`.
pub(crate) fn table(apps: &[App], sort: Option<&str>, screen: &Screen) -> String {
    let mut all = processes(apps);
    order(&mut all, sort);
    let longest = all.iter().map(|(app, _)| width(&harmless(&app.spec.name))).max();
    let name = longest.map_or(11, |longest| (longest + 5).min(40));
    let id = all
        .iter()
        .map(|(_, instance)| instance.id.to_string().len() + 2)
        .max()
        .unwrap_or(4)
        .max(4);
    let room = screen.width.unwrap_or(300);
    let widths = |columns: Columns, most: usize| -> Vec<usize> {
        let of = |(title, fixed): &(&str, Option<usize>)| match *title {
            "id" => id,
            _ => fixed.unwrap_or_else(|| name.min(most)),
        };
        columns.iter().map(of).collect()
    };
    let fits = |widths: &[usize]| widths.iter().sum::<usize>() + widths.len() < room;
    let chosen = [(FULL, 40), (CONDENSED, 20)]
        .into_iter()
        .find(|(columns, most)| fits(&widths(columns, *most)));
    let (columns, most) = chosen.unwrap_or((MINI, 16));
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let rows: Vec<Vec<Field>> = all
        .iter()
        .map(|(app, instance)| row(app, instance, &titles))
        .collect();
    grid(Some(&titles), &widths(columns, most), &rows, screen)
}

fn row(app: &App, instance: &Instance, titles: &[&str]) -> Vec<Field> {
    titles.iter().map(|title| field(app, instance, title)).collect()
}

fn field(app: &App, instance: &Instance, title: &str) -> Field {
    let status = status(app, instance);
    match title {
        "id" => Field::new(instance.id.to_string(), &[1, 36]),
        "name" => harmless(&app.spec.name).into(),
        "namespace" => harmless(app.spec.namespace()).into(),
        "version" => harmless(app.version.as_deref().unwrap_or("N/A")).into(),
        "mode" if app.clustered => Field::new("cluster", &[34, 1]),
        "mode" => Field::new("fork", &[7, 1]),
        "pid" => instance.pid.unwrap_or(0).to_string().into(),
        "uptime" if status == "online" => since(instance.uptime_ms).into(),
        "uptime" => "0".into(),
        "↺" => instance.restarts.to_string().into(),
        "status" => Field::new(status, status_style(status)),
        "cpu" => format!("{}%", percent(instance.cpu)).into(),
        "mem" | "memory" => size(instance.memory.unwrap_or(0)).into(),
        "user" => Field::new(harmless(&app.user), &[1]),
        _ if app.spec.watch.is_empty() => Field::new("disabled", &[90]),
        _ => Field::new("enabled", &[32, 1]),
    }
}

/// ANSI styles of a state.
pub(super) fn status_style(status: &str) -> &'static [u8] {
    match status {
        "online" => &[32, 1],
        "launching" => &[34, 1],
        _ => &[31, 1],
    }
}

fn order(all: &mut [(&App, &Instance)], sort: Option<&str>) {
    let (field, descending) = match sort.and_then(|sort| sort.split_once(':')) {
        Some((field, order)) => (field, order == "desc"),
        None => (sort.unwrap_or("name"), false),
    };
    let number = |value: f64| format!("{value:020.3}");
    let whole = |value: u64| format!("{value:020}");
    let key = |(app, instance): &(&App, &Instance)| match field.to_lowercase().as_str() {
        "namespace" => app.spec.namespace().to_owned(),
        "pid" => whole(u64::from(instance.pid.unwrap_or(0))),
        "id" => whole(u64::from(instance.id)),
        "cpu" => number(instance.cpu.unwrap_or(0.0)),
        "memory" => whole(instance.memory.unwrap_or(0)),
        "uptime" => whole(instance.started_at.unwrap_or(0)),
        "status" => status(app, instance).to_owned(),
        _ => app.spec.name.clone(),
    };
    all.sort_by_cached_key(&key);
    if descending {
        all.sort_by_cached_key(|process| std::cmp::Reverse(key(process)));
    }
}

/// Blocks of `key : value`.
pub(crate) fn mini(apps: &[App]) -> String {
    let block = |(app, instance): &(&App, &Instance)| {
        let status = status(app, instance);
        let path = |path: &Option<std::path::PathBuf>| {
            path.as_ref()
                .map_or_else(|| "undefined".into(), |path| harmless(&path.to_string_lossy()))
        };
        format!(
            "+--- {}\nnamespace : {}\nversion : {}\npid : {}\npm2 id : {}\nstatus : {status}\nmode : {}\nrestarted : {}\n\
             uptime : {}\nmemory usage : {} \nerror log : {}\nwatching : {}\nPID file : {}\n",
            harmless(&app.spec.name),
            harmless(app.spec.namespace()),
            harmless(app.version.as_deref().unwrap_or("N/A")),
            instance.pid.unwrap_or(0),
            instance.id,
            mode(app).trim_end_matches("_mode"),
            instance.restarts,
            if status == "online" {
                since(instance.uptime_ms)
            } else {
                "0".into()
            },
            size(instance.memory.unwrap_or(0)),
            path(&instance.error_file),
            if app.spec.watch.is_empty() { "no" } else { "yes" },
            path(&instance.pid_file),
        )
    };
    let blocks: Vec<String> = processes(apps).iter().map(block).collect();
    blocks.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::{app, stopped};

    const PLAIN: Screen = Screen {
        width: None,
        colour: false,
    };

    #[test]
    fn the_full_table() {
        let expected = "\
┌────┬────────┬─────────────┬─────────┬─────────┬──────────┬────────┬──────┬───────────┬──────────┬──────────┬──────────┬──────────┐
│ id │ name   │ namespace   │ version │ mode    │ pid      │ uptime │ ↺    │ status    │ cpu      │ mem      │ user     │ watching │
├────┼────────┼─────────────┼─────────┼─────────┼──────────┼────────┼──────┼───────────┼──────────┼──────────┼──────────┼──────────┤
│ 2  │ job    │ default     │ N/A     │ fork    │ 0        │ 0      │ 0    │ stopped   │ 0%       │ 0b       │ root     │ disabled │
│ 0  │ web    │ default     │ 1.2.3   │ cluster │ 7637     │ 2h     │ 1    │ online    │ 7.7%     │ 52.6mb   │ root     │ disabled │
│ 1  │ web    │ default     │ 1.2.3   │ cluster │ 7638     │ 2h     │ 0    │ online    │ 0%       │ 52.6mb   │ root     │ disabled │
└────┴────────┴─────────────┴─────────┴─────────┴──────────┴────────┴──────┴───────────┴──────────┴──────────┴──────────┴──────────┘
";
        assert_eq!(table(&[app("web"), stopped("job", 2)], None, &PLAIN), expected);
    }

    #[test]
    fn an_empty_one() {
        let text = table(&[], None, &PLAIN);
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with("│ id │ name      │ namespace   │"),
            "{text}"
        );
    }

    #[test]
    fn narrow_screens() {
        let screen = |width| Screen {
            width: Some(width),
            colour: false,
        };
        let line = |width| {
            let text = table(&[app("web")], None, &screen(width));
            text.lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(
            line(100),
            "│ id │ name   │ mode     │ ↺    │ status    │ cpu      │ memory   │"
        );
        assert_eq!(line(50), "│ id │ name   │ status    │ cpu    │ mem      │");
    }

    #[test]
    fn wide_names_keep_the_lines_straight() {
        let text = table(&[app("日本語"), stopped(&"n".repeat(99), 2)], None, &PLAIN);
        let widths: std::collections::BTreeSet<usize> = text.lines().map(width).collect();
        assert_eq!(widths.len(), 1, "{text}");
    }

    #[test]
    fn sorted() {
        let ids = |sort: &str| {
            let text = table(&[app("web"), stopped("job", 2)], Some(sort), &PLAIN);
            let ids = text
                .lines()
                .filter_map(|line| line.strip_prefix("│ ")?.chars().next());
            ids.skip(1).collect::<String>()
        };
        assert_eq!(ids("id"), "012");
        assert_eq!(ids("id:desc"), "210");
        assert_eq!(ids("cpu:desc"), "012");
        assert_eq!(ids("nonsense"), "201");
    }

    #[test]
    fn the_mini_list() {
        let text = mini(&[stopped("job", 2)]);
        let expected = "+--- job\nnamespace : default\nversion : N/A\npid : 0\npm2 id : 2\nstatus : stopped\nmode : fork\n\
                        restarted : 0\nuptime : 0\nmemory usage : 0b \nerror log : undefined\nwatching : no\nPID file : undefined\n";
        assert_eq!(text, expected);
    }
}
