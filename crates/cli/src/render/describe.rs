//! `everup describe`: everything about an app.

use super::amounts::{bytes, millis};
use super::list::{Choice, text as list};
use crate::events::rfc3339;
use crate::terminal::{Screen, harmless};
use everup_api::v1::{App, Instance};
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// The app, its settings, its workers.
pub(crate) fn text(app: &App, screen: &Screen) -> String {
    let choice = Choice {
        app: Some(app.spec.name.clone()),
        sort: None,
    };
    let mut text = block(&facts(app), screen);
    text.push('\n');
    text.push_str(&screen.paint(1, "settings"));
    text.push('\n');
    text.push_str(&block(&settings(app), screen));
    text.push('\n');
    text.push_str(&list(std::slice::from_ref(app), &choice, screen));
    for instance in &app.instances {
        let rows = worker(instance);
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&screen.paint(1, &format!("worker {} (slot {})", instance.id, instance.slot)));
            text.push('\n');
            text.push_str(&block(&rows, screen));
        }
    }
    text
}

/// `key  value` lines, aligned.
fn block(rows: &[(String, String)], screen: &Screen) -> String {
    let widest = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let line = |(key, value): &(String, String)| {
        let blanks = " ".repeat(widest - key.chars().count());
        format!("  {}{blanks}  {}\n", screen.paint(36, key), harmless(value))
    };
    rows.iter().map(line).collect()
}

fn facts(app: &App) -> Vec<(String, String)> {
    let created = rfc3339(UNIX_EPOCH + Duration::from_millis(app.created_at));
    let script = app
        .script_path
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned());
    let rows = [
        ("name", Some(app.spec.name.clone())),
        ("namespace", Some(app.spec.namespace().to_owned())),
        ("state", Some(format!("{:?}", app.state).to_lowercase())),
        ("because", app.because.clone()),
        ("generation", Some(app.generation.to_string())),
        ("workers", Some(app.target.to_string())),
        ("script", script.or_else(|| Some(app.spec.script.clone()))),
        ("interpreter", app.interpreter.clone()),
        ("version", app.version.clone()),
        ("user", Some(app.user.clone())),
        ("first started", Some(created)),
        ("last reload", app.last_reload.as_ref().map(last_reload)),
    ];
    rows.into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

fn last_reload(receipt: &everup_api::Receipt) -> String {
    let took = millis(receipt.duration_ms);
    let why = receipt
        .reason
        .as_deref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    format!(
        "{:?} after {took}, generation {}{why}",
        receipt.outcome, receipt.generation
    )
    .to_lowercase()
}

/// What was asked for, key by key.
fn settings(app: &App) -> Vec<(String, String)> {
    let Ok(Value::Object(all)) = serde_json::to_value(&app.spec) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for (key, value) in all {
        match value {
            Value::Object(map) => rows.extend(
                map.into_iter()
                    .map(|(name, value)| (format!("{key}.{name}"), plain(&value))),
            ),
            value if key == "name" || value.is_null() => {}
            value => rows.push((key, plain(&value))),
        }
    }
    rows
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn worker(instance: &Instance) -> Vec<(String, String)> {
    let path =
        |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let exit = instance.last_exit.as_ref().map(|exit| {
        let at = rfc3339(UNIX_EPOCH + Duration::from_millis(exit.at));
        format!("{at}: {}", exit.cause)
    });
    let rows = [
        ("says", instance.status_text.clone()),
        ("node.js", instance.node_version.clone()),
        ("memory", instance.memory.map(bytes)),
        (
            "connections taken",
            (instance.accepted > 0).then(|| instance.accepted.to_string()),
        ),
        ("last exit", exit),
        ("output", path(&instance.out_file)),
        ("errors", path(&instance.error_file)),
        ("both", path(&instance.log_file)),
        ("pid file", path(&instance.pid_file)),
    ];
    let mut rows: Vec<(String, String)> = rows
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect();
    rows.extend(
        instance
            .axm
            .get("monitor")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                let amount = value.get("value").map_or_else(|| plain(value), plain);
                let unit = value.get("unit").and_then(Value::as_str).unwrap_or_default();
                (name.clone(), format!("{amount} {unit}").trim_end().to_owned())
            }),
    );
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::app;

    #[test]
    fn everything_is_there() {
        let screen = Screen {
            width: None,
            colour: false,
        };
        let mut web = app("web");
        web.spec.env.insert("PORT".into(), "3000".into());
        let text = text(&web, &screen);
        for line in [
            "  state          running",
            "  script         /srv/web.js",
            "  first started  2020-09-13T12:26:40.000Z",
            "  env.PORT   3000",
            "  instances  2",
            "worker 0 (slot 0)",
            "  last exit  2020-09-13T12:26:40.000Z: it exited with code 1",
            "  errors     /home/.everup/logs/web-error-0.log",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
