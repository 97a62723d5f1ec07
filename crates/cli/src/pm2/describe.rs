//! `pm2 describe`.

use super::element::interpreter;
use super::grid::{Field, grid, natural, styled};
use super::table::status_style;
use super::{mode, since, status};
use crate::events::rfc3339;
use crate::terminal::{Screen, harmless};
use everup_api::v1::{App, Instance};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

/// One process.
pub(crate) fn describe(app: &App, instance: &Instance, screen: &Screen) -> String {
    let name = harmless(&app.spec.name);
    let title = format!(" Describing process with id {} - name {name} ", instance.id);
    let mut text = format!(
        "{}\n{}",
        styled(&title, &[1, 7], screen),
        table(&rows(app, instance), screen)
    );
    let actions: Vec<Vec<Field>> = told(instance, "actions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|action| Some(vec![harmless(action.get("action_name")?.as_str()?).into()]))
        .collect();
    if !actions.is_empty() {
        text.push_str(&format!(
            "{}\n{}",
            styled(" Actions available ", &[7, 1], screen),
            table(&actions, screen)
        ));
        text.push_str(&format!(" Trigger via: pm2 trigger {name} <action_name>\n\n"));
    }
    let metrics: Vec<Vec<Field>> = told(instance, "monitor")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(metric)
        .collect();
    if !metrics.is_empty() {
        text.push_str(&format!(
            "{}\n{}",
            styled(" Code metrics value ", &[7, 1], screen),
            table(&metrics, screen)
        ));
    }
    text.push_str(&format!(
        "\n Use `pm2 logs {name} [--lines 1000]` to display logs\n Use `pm2 env {}` to display environment variables\n \
         Use `pm2 monit` to monitor CPU and Memory usage {name}\n",
        instance.id
    ));
    text
}

fn table(rows: &[Vec<Field>], screen: &Screen) -> String {
    grid(None, &natural(rows), rows, screen)
}

fn told<'a>(instance: &'a Instance, what: &str) -> Option<&'a Value> {
    instance
        .axm
        .get(what)
        .or_else(|| instance.axm.get(&format!("axm_{what}")))
}

fn metric((name, value): (&String, &Value)) -> Vec<Field> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let amount = value.get("value").map_or_else(|| plain(value), plain);
    let unit = value.get("unit").and_then(Value::as_str).unwrap_or_default();
    vec![
        harmless(name).into(),
        harmless(&format!("{amount} {unit}")).into(),
    ]
}

const MISSING: &str = "N/A";

fn rows(app: &App, instance: &Instance) -> Vec<Vec<Field>> {
    let status = status(app, instance);
    let head = vec![
        Field::new("status", &[1, 36]),
        Field::new(status, status_style(status)),
    ];
    let all = [
        what(app, instance, status),
        files(app, instance),
        rest(app, instance),
    ]
    .concat();
    let body = all
        .into_iter()
        .map(|(key, value)| vec![Field::new(key, &[1, 36]), harmless(&value).into()]);
    std::iter::once(head).chain(body).collect()
}

type Row = (&'static str, String);

fn or_missing(text: Option<String>) -> String {
    text.unwrap_or_else(|| MISSING.into())
}

fn joined(words: &[String]) -> String {
    if words.is_empty() {
        MISSING.into()
    } else {
        words.join(" ")
    }
}

fn path(path: Option<&PathBuf>) -> String {
    or_missing(path.map(|path| path.to_string_lossy().into_owned()))
}

fn what(app: &App, instance: &Instance, status: &str) -> Vec<Row> {
    let spec = &app.spec;
    let mut rows = vec![
        ("name", spec.name.clone()),
        ("namespace", spec.namespace().to_owned()),
        ("version", or_missing(app.version.clone())),
        ("restarts", instance.restarts.to_string()),
    ];
    rows.extend(
        spec.max_memory_restart
            .clone()
            .map(|limit| ("max memory restart", limit)),
    );
    rows.extend(spec.cron_restart.clone().map(|times| ("cron restart", times)));
    let uptime = if status == "online" {
        since(instance.uptime_ms)
    } else {
        "0".into()
    };
    rows.push(("uptime", uptime));
    rows
}

fn files(app: &App, instance: &Instance) -> Vec<Row> {
    let both = instance
        .log_file
        .as_ref()
        .map(|file| ("entire log path", path(Some(file))));
    let script = app
        .script_path
        .as_ref()
        .map_or_else(|| app.spec.script.clone(), |script| path(Some(script)));
    let rows = [
        ("script path", script),
        ("script args", joined(&app.spec.args)),
        ("error log path", path(instance.error_file.as_ref())),
        ("out log path", path(instance.out_file.as_ref())),
        ("pid path", path(instance.pid_file.as_ref())),
    ];
    both.into_iter().chain(rows).collect()
}

fn rest(app: &App, instance: &Instance) -> Vec<Row> {
    let spec = &app.spec;
    let node = instance
        .node_version
        .as_deref()
        .map(|version| version.trim_start_matches('v').to_owned());
    let watched = if spec.watch.is_empty() { "✘" } else { "✔" };
    let created = UNIX_EPOCH + Duration::from_millis(app.created_at);
    vec![
        ("interpreter", interpreter(app)),
        ("interpreter args", joined(&spec.node_args)),
        ("script id", instance.id.to_string()),
        ("exec cwd", path(Some(&spec.cwd))),
        ("exec mode", mode(app).to_owned()),
        ("node.js version", or_missing(node)),
        ("node env", or_missing(spec.env.get("NODE_ENV").cloned())),
        ("watch & reload", watched.into()),
        ("unstable restarts", instance.unstable_restarts.to_string()),
        ("created at", rfc3339(created)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::app;
    use serde_json::json;

    #[test]
    fn rows_of_pm2() {
        let screen = Screen {
            width: None,
            colour: false,
        };
        let mut web = app("web");
        web.spec.max_memory_restart = Some("200M".into());
        web.instances[0]
            .axm
            .insert("actions".into(), json!([{"action_name": "km:heapdump"}]));
        web.instances[0].axm.insert(
            "monitor".into(),
            json!({"Heap Size": {"value": "9.48", "unit": "MiB"}}),
        );
        let text = describe(&web, &web.instances[0], &screen);
        for line in [
            " Describing process with id 0 - name web ",
            "│ status             │ online                             │",
            "│ version            │ 1.2.3                              │",
            "│ max memory restart │ 200M                               │",
            "│ uptime             │ 2h                                 │",
            "│ script path        │ /srv/web.js                        │",
            "│ script args        │ N/A                                │",
            "│ exec mode          │ cluster_mode                       │",
            "│ watch & reload     │ ✘                                  │",
            "│ created at         │ 2020-09-13T12:26:40.000Z           │",
            "│ km:heapdump │",
            "│ Heap Size │ 9.48 MiB │",
        ] {
            assert!(
                text.lines().any(|found| found.starts_with(line)),
                "{line}\n{text}"
            );
        }
    }
}
