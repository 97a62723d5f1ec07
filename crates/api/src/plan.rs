//! What differs between two descriptions of an app, and what has to be done for it.
//!
//! Job: `plan` and `apply` in one place, without doing anything. Values are redacted ([`redact`]): a
//! difference of two secrets is shown as a difference, and not as values.
//!
//! Invariants: every field of [`AppSpec`] has a row in [`KEYS`]; two descriptions without a difference are equal,
//! but for the name.
//!
//! Must not know: which apps there are, and what they do.

use crate::v1::{Change, StepAction};
use crate::{AppSpec, redact};
use serde_json::{Map, Value};

/// What a setting is about: what has to be touched for a change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// The daemon alone: nobody is touched.
    Daemon,
    /// How many workers there are.
    Count,
    /// How workers are watched, restarted, reloaded and stopped: the engine takes it over together with new workers.
    Supervision,
    /// What a worker is given when it starts.
    Workers,
    /// What all generations of an app share: the way that connections take.
    Connections,
}

/// Every field of [`AppSpec`] but its name, in order.
pub const KEYS: &[(&str, Concern)] = &[
    ("namespace", Concern::Daemon),
    ("script", Concern::Workers),
    ("args", Concern::Workers),
    ("cwd", Concern::Workers),
    ("interpreter", Concern::Workers),
    ("node_args", Concern::Workers),
    ("exec_mode", Concern::Connections),
    ("instances", Concern::Count),
    ("depends_on", Concern::Daemon),
    ("env", Concern::Workers),
    ("env_file", Concern::Workers),
    ("secret_files", Concern::Workers),
    ("filter_env", Concern::Workers),
    ("instance_var", Concern::Workers),
    ("increment_var", Concern::Workers),
    ("policy", Concern::Connections),
    ("listen", Concern::Connections),
    ("channel", Concern::Connections),
    ("autostart", Concern::Daemon),
    ("kill_timeout", Concern::Supervision),
    ("kill_signal", Concern::Supervision),
    ("shutdown_with_message", Concern::Supervision),
    ("wait_ready", Concern::Supervision),
    ("listen_timeout", Concern::Supervision),
    ("pid_file", Concern::Daemon),
    ("autorestart", Concern::Supervision),
    ("restart", Concern::Supervision),
    ("stop_exit_codes", Concern::Supervision),
    ("restart_delay", Concern::Supervision),
    ("exp_backoff_restart_delay", Concern::Supervision),
    ("max_restarts", Concern::Supervision),
    ("min_uptime", Concern::Supervision),
    ("max_memory_restart", Concern::Supervision),
    ("max_age", Concern::Supervision),
    ("cron_restart", Concern::Daemon),
    ("schedule", Concern::Daemon),
    ("timezone", Concern::Daemon),
    ("watch", Concern::Daemon),
    ("ignore_watch", Concern::Daemon),
    ("watch_delay", Concern::Daemon),
    ("spare", Concern::Connections),
    ("surge", Concern::Supervision),
    ("max_unavailable", Concern::Supervision),
    ("canary", Concern::Supervision),
    ("drain_timeout", Concern::Supervision),
    ("max_draining", Concern::Supervision),
    ("ready", Concern::Supervision),
    ("health", Concern::Supervision),
    ("health_interval", Concern::Supervision),
    ("health_timeout", Concern::Supervision),
    ("health_failures", Concern::Supervision),
    ("watchdog", Concern::Workers),
    ("stuck_timeout", Concern::Supervision),
    ("uid", Concern::Workers),
    ("gid", Concern::Workers),
    ("umask", Concern::Workers),
    ("nice", Concern::Workers),
    ("rlimit", Concern::Workers),
    ("cpu_affinity", Concern::Workers),
    ("oom_score_adj", Concern::Workers),
    ("no_new_privs", Concern::Workers),
    ("keep_cap", Concern::Workers),
    ("memory_max", Concern::Workers),
    ("memory_high", Concern::Workers),
    ("cpus", Concern::Workers),
    ("pids_max", Concern::Workers),
    ("out_file", Concern::Workers),
    ("error_file", Concern::Workers),
    ("log_file", Concern::Workers),
    ("merge_logs", Concern::Workers),
    ("log_date_format", Concern::Workers),
    ("log_type", Concern::Workers),
    ("disable_logs", Concern::Workers),
    ("pm2", Concern::Daemon),
];

/// What the setting of this key (also `env.PORT`) is about; `None` if there is no such setting.
#[must_use]
pub fn concern(key: &str) -> Option<Concern> {
    let field = key.split_once('.').map_or(key, |(field, _)| field);
    KEYS.iter()
        .find(|(name, _)| *name == field)
        .map(|(_, about)| *about)
}

/// Which settings differ, in the order of [`KEYS`], values redacted. The name does not count.
#[must_use]
pub fn diff(old: &AppSpec, new: &AppSpec) -> Vec<Change> {
    if old == new {
        return Vec::new();
    }
    let (old, new) = (fields(old), fields(new));
    let mut changes = Vec::new();
    for (key, _) in KEYS {
        match (old.get(*key), new.get(*key)) {
            (from, to) if from == to => {}
            (from, to) if is_map(from) || is_map(to) => compare_maps(key, from, to, &mut changes),
            (from, to) => changes.push(change((*key).to_owned(), key, from, to)),
        }
    }
    changes
}

/// What has to be done for an app that is there: the least that is enough for all of these changes.
///
/// A job that becomes an app, or an app a job, is started anew.
#[must_use]
pub fn action(changes: &[Change]) -> StepAction {
    let most = changes.iter().map(concern_of).max();
    match most {
        None => StepAction::Nothing,
        Some(Concern::Daemon) => StepAction::Update,
        Some(Concern::Count) => StepAction::Scale,
        Some(Concern::Supervision | Concern::Workers) => StepAction::Reload,
        Some(Concern::Connections) => StepAction::Restart,
    }
}

/// As [`concern`]; what this version does not know is the most it can be.
fn concern_of(change: &Change) -> Concern {
    let becomes_job = change.key == "schedule" && change.from.is_some() != change.to.is_some();
    if becomes_job {
        return Concern::Connections;
    }
    // Log files have the numbers of instances as soon as a number of them is given.
    let becomes_many = change.key == "instances" && change.from.is_some() != change.to.is_some();
    if becomes_many {
        return Concern::Workers;
    }
    concern(&change.key).unwrap_or(Concern::Connections)
}

/// The new description's changes, laid over the old one: only the keys that are there count, and `null` takes one away.
/// `env` is laid over `env`, variable by variable; every other key is replaced.
///
/// # Errors
/// A key that no app has, or a value of the wrong kind.
pub fn overlay(old: &AppSpec, change: &Map<String, Value>) -> Result<AppSpec, serde_json::Error> {
    let mut fields = fields(old);
    for (key, value) in change {
        match (key.as_str(), value) {
            ("env", Value::Object(variables)) => lay_over(&mut fields, variables),
            (_, Value::Null) => drop(fields.shift_remove(key)),
            _ => drop(fields.insert(key.clone(), value.clone())),
        }
    }
    serde_json::from_value(Value::Object(fields))
}

fn lay_over(fields: &mut Map<String, Value>, variables: &Map<String, Value>) {
    let env = fields.entry("env").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(env) = env else { return };
    for (name, value) in variables {
        if value.is_null() {
            env.shift_remove(name);
        } else {
            env.insert(name.clone(), value.clone());
        }
    }
}

fn fields(spec: &AppSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        // Not reached: an AppSpec is an object with text as keys, but for paths that are no UTF-8.
        Ok(_) | Err(_) => Map::new(),
    }
}

fn is_map(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_object)
}

/// `env`, `secret_files`, `depends_on`, `pm2`: a change for each of their keys.
fn compare_maps(field: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    let empty = Map::new();
    let map = |value: Option<&Value>| value.and_then(Value::as_object).unwrap_or(&empty).clone();
    let (from, to) = (map(from), map(to));
    let mut keys: Vec<&String> = from.keys().chain(to.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (from, to) = (from.get(key), to.get(key));
        if from != to {
            changes.push(change(format!("{field}.{key}"), key, from, to));
        }
    }
}

fn change(key: String, name: &str, from: Option<&Value>, to: Option<&Value>) -> Change {
    let shown = |value: Option<&Value>| value.map(|value| show(&key, name, value));
    let (from, to) = (shown(from), shown(to));
    Change { key, from, to }
}

fn show(key: &str, name: &str, value: &Value) -> Value {
    if key.starts_with("secret_files.") {
        return value.clone();
    }
    let texts: Option<Vec<String>> = value.as_array().map(|items| {
        let text = |item: &Value| item.as_str().map(str::to_owned);
        items.iter().filter_map(text).collect()
    });
    match (key, texts) {
        ("args" | "node_args", Some(arguments)) => redact::arguments(&arguments).into(),
        _ => redact::json(name, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app(value: &Value) -> AppSpec {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn changed(old: &Value, new: &Value) -> (Vec<String>, StepAction) {
        let changes = diff(&app(old), &app(new));
        let shown = changes.iter().map(|change| {
            let show = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
            format!("{} {} {}", change.key, show(&change.from), show(&change.to))
        });
        (shown.collect(), action(&changes))
    }

    #[test]
    fn every_field_has_a_row_in_order() {
        let schema = serde_json::to_value(schemars::schema_for!(AppSpec)).unwrap();
        let fields = schema["properties"].as_object().unwrap().keys();
        let fields: Vec<&str> = fields.map(String::as_str).filter(|key| *key != "name").collect();
        let rows: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
        assert_eq!(rows, fields);
    }

    #[test]
    fn equal_descriptions_need_nothing() {
        let one = json!({"name": "a", "script": "a.js", "env": {"A": "1"}});
        assert_eq!(changed(&one, &one), (vec![], StepAction::Nothing));
    }

    #[test]
    fn the_least_that_is_enough_is_done() {
        let old = json!({"script": "a.js", "instances": "1"});
        let cases = [
            (
                json!({"script": "a.js", "instances": "1", "namespace": "x"}),
                StepAction::Update,
            ),
            (
                json!({"script": "a.js", "instances": "1", "cron_restart": "@daily"}),
                StepAction::Update,
            ),
            (json!({"script": "a.js", "instances": "4"}), StepAction::Scale),
            (json!({"script": "a.js"}), StepAction::Reload),
            (
                json!({"script": "a.js", "instances": "4", "namespace": "x"}),
                StepAction::Scale,
            ),
            (
                json!({"script": "a.js", "instances": "4", "args": ["x"]}),
                StepAction::Reload,
            ),
            (json!({"script": "b.js", "instances": "1"}), StepAction::Reload),
            (
                json!({"script": "a.js", "instances": "1", "kill_timeout": "9s"}),
                StepAction::Reload,
            ),
            (
                json!({"script": "b.js", "instances": "1", "policy": "shared"}),
                StepAction::Restart,
            ),
            (
                json!({"script": "a.js", "instances": "1", "schedule": "@daily"}),
                StepAction::Restart,
            ),
        ];
        for (new, wanted) in cases {
            assert_eq!(changed(&old, &new).1, wanted, "{new}");
        }
        let (job, other) = (json!({"schedule": "@daily"}), json!({"schedule": "@hourly"}));
        assert_eq!(changed(&job, &other).1, StepAction::Update);
    }

    #[test]
    fn variables_are_compared_one_by_one_also_those_that_are_gone() {
        let old = json!({"env": {"A": "1", "B": "1", "C": "1"}, "cwd": "/a"});
        let new = json!({"env": {"A": "1", "B": "2", "D": "1"}, "cwd": "/b"});
        let (changes, _) = changed(&old, &new);
        let wanted = [
            r#"cwd "/a" "/b""#,
            r#"env.B "1" "2""#,
            r#"env.C "1" -"#,
            r#"env.D - "1""#,
        ];
        assert_eq!(changes, wanted);
    }

    #[test]
    fn secrets_differ_without_being_shown() {
        let old = json!({"env": {"TOKEN": "s3cr3t"}, "args": ["--password", "s3cr3t"]});
        let new = json!({"env": {"TOKEN": "s3cr3t2"}, "args": ["--password", "s3cr3t2"]});
        let (changes, _) = changed(&old, &new);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert!(!changes.concat().contains("s3cr3t"), "{changes:?}");
    }

    #[test]
    fn an_overlay_changes_what_it_names() {
        let old = app(&json!({"name": "a", "script": "a.js", "env": {"A": "1", "B": "1"}, "umask": "022"}));
        let change = json!({"env": {"A": null, "C": "3"}, "umask": null, "instances": "2"});
        let new = overlay(&old, change.as_object().unwrap()).unwrap();
        let wanted = json!({"name": "a", "script": "a.js", "env": {"B": "1", "C": "3"}, "instances": "2"});
        assert_eq!(new, app(&wanted));
        let unknown = json!({"instancse": 1});
        assert!(overlay(&old, unknown.as_object().unwrap()).is_err());
    }
}
