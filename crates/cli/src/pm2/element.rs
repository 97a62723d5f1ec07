//! An element of `jlist`.
//!
//! Where pm2 repeats every variable of the environment beside its own keys, we repeat those that the app declares, are not
//! secret and hide no key of pm2's. What an app inherited is not shown at all.

use super::{mode, processes, status};
use crate::size;
use everup_api::v1::{App, Instance};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Keys of ours that pm2 has by other names, or not at all.
const OTHERS: [&str; 15] = [
    "name",
    "namespace",
    "script",
    "args",
    "cwd",
    "interpreter",
    "node_args",
    "exec_mode",
    "instances",
    "env",
    "out_file",
    "error_file",
    "log_file",
    "pid_file",
    "pm2",
];
/// In place of a value that is not shown.
const REDACTED: &str = "[redacted]";

/// The whole list.
pub(crate) fn list(apps: &[App]) -> Value {
    processes(apps)
        .into_iter()
        .map(|(app, instance)| element(app, instance))
        .collect()
}

/// One process.
pub(crate) fn element(app: &App, instance: &Instance) -> Value {
    json!({
        "pid": instance.pid.unwrap_or(0),
        "name": app.spec.name,
        "pm2_env": env(app, instance),
        "pm_id": instance.id,
        "monit": {
            "memory": instance.memory.unwrap_or(0),
            "cpu": cpu(instance),
        },
    })
}

/// With one decimal, and without one if it is 0.
fn cpu(instance: &Instance) -> Value {
    serde_json::from_str(&super::percent(instance.cpu)).unwrap_or(json!(0))
}

/// pm2's `pm2_env`.
pub(crate) fn env(app: &App, instance: &Instance) -> Value {
    let mut env = Map::new();
    let mut put = |key: &str, value: Value| {
        env.insert(key.to_owned(), value);
    };
    let spec = &app.spec;
    put("name", json!(spec.name));
    put("namespace", json!(spec.namespace()));
    if !spec.args.is_empty() {
        put("args", json!(spec.args));
    }
    put("env", json!(spec.env));
    put("instances", json!(app.instances.len()));
    for (key, value) in [
        ("vizion", json!(false)),
        ("autostart", json!(true)),
        ("autorestart", json!(true)),
        ("watch", json!(false)),
        ("instance_var", json!("NODE_APP_INSTANCE")),
        ("filter_env", json!([])),
        ("pmx", json!(false)),
        ("automation", json!(false)),
        ("treekill", json!(true)),
        ("windowsHide", json!(true)),
        ("kill_retry_time", json!(100)),
        ("km_link", json!(false)),
        ("vizion_running", json!(false)),
    ] {
        put(key, value);
    }
    for (key, value) in settings(app) {
        put(&key, value);
    }
    put("username", json!(app.user));
    put("node_args", json!(spec.node_args));
    let script = app
        .script_path
        .as_ref()
        .map_or(json!(spec.script), |path| json!(path));
    put("pm_exec_path", script);
    put("pm_cwd", json!(spec.cwd));
    put("exec_interpreter", json!(interpreter(app)));
    put("exec_mode", json!(mode(app)));
    put("pm_out_log_path", json!(instance.out_file));
    put("pm_err_log_path", json!(instance.error_file));
    if instance.log_file.is_some() {
        put("pm_log_path", json!(instance.log_file));
    }
    put("pm_pid_path", json!(instance.pid_file));
    state(app, instance, &mut put);
    for (name, value) in &spec.env {
        if value != REDACTED && !env.contains_key(name) {
            env.insert(name.clone(), json!(value));
        }
    }
    Value::Object(env)
}

fn state(app: &App, instance: &Instance, put: &mut impl FnMut(&str, Value)) {
    put("NODE_APP_INSTANCE", json!(instance.slot));
    put("status", json!(status(app, instance)));
    put("pm_uptime", json!(instance.started_at));
    for (key, empty) in [
        ("axm_actions", json!([])),
        ("axm_monitor", json!({})),
        ("axm_options", json!({})),
        ("axm_dynamic", json!({})),
    ] {
        let told = instance
            .axm
            .get(key)
            .or_else(|| instance.axm.get(key.trim_start_matches("axm_")));
        put(key, told.cloned().unwrap_or(empty));
    }
    put("created_at", json!(app.created_at));
    put("pm_id", json!(instance.id));
    put("restart_time", json!(instance.restarts));
    put("unstable_restarts", json!(instance.unstable_restarts));
    put("version", json!(app.version.as_deref().unwrap_or("N/A")));
    if let Some(version) = &instance.node_version {
        put("node_version", json!(version.trim_start_matches('v')));
    }
    if let Some(code) = instance.last_exit.as_ref().and_then(|exit| exit.code) {
        put("exit_code", json!(code));
    }
}

/// `node`, `python3`, `none`.
pub(super) fn interpreter(app: &App) -> String {
    let found = app
        .interpreter
        .as_deref()
        .map(Path::new)
        .and_then(Path::file_name);
    let found = found.map(|name| name.to_string_lossy().into_owned());
    app.spec
        .interpreter
        .clone()
        .or(found)
        .unwrap_or_else(|| "none".into())
}

/// The other settings that were given: numbers as numbers, sizes in bytes.
fn settings(app: &App) -> Vec<(String, Value)> {
    let Ok(Value::Object(all)) = serde_json::to_value(&app.spec) else {
        return Vec::new();
    };
    let given = all.into_iter().filter(|(key, _)| !OTHERS.contains(&key.as_str()));
    let mut settings: Vec<(String, Value)> = given
        .map(|(key, value)| (key.clone(), as_pm2(&key, value)))
        .collect();
    settings.extend(app.spec.pm2.clone());
    settings
}

fn as_pm2(key: &str, value: Value) -> Value {
    let Value::String(text) = &value else {
        return match (key, &value) {
            // pm2's word for the whole directory.
            ("watch", Value::Array(paths)) if paths.as_slice() == [json!(".")] => json!(true),
            _ => value,
        };
    };
    let number = match key {
        "max_memory_restart" => size::parse(text).ok(),
        "uid" | "gid" | "cron_restart" | "schedule" => None,
        _ => text.parse().ok(),
    };
    number.map_or(value, |number| json!(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::{app, stopped};

    #[test]
    fn what_scripts_read() {
        let mut web = app("web");
        web.spec.env.insert("PORT".into(), "3000".into());
        web.spec.env.insert("API_KEY".into(), REDACTED.into());
        web.spec.env.insert("status".into(), "mine".into());
        web.spec.max_memory_restart = Some("200M".into());
        web.spec.kill_timeout = Some("3000".into());
        web.spec.watch = vec![".".into()];
        let one = element(&web, &web.instances[0]);
        for (pointer, expected) in [
            ("/pid", json!(7637)),
            ("/name", json!("web")),
            ("/pm_id", json!(0)),
            ("/monit/memory", json!(55_160_832)),
            ("/monit/cpu", json!(7.7)),
            ("/pm2_env/status", json!("online")),
            ("/pm2_env/exec_mode", json!("cluster_mode")),
            ("/pm2_env/restart_time", json!(1)),
            ("/pm2_env/unstable_restarts", json!(0)),
            ("/pm2_env/pm_uptime", json!(1_700_000_000_000_u64)),
            ("/pm2_env/created_at", json!(1_600_000_000_000_u64)),
            ("/pm2_env/pm_id", json!(0)),
            ("/pm2_env/pm_exec_path", json!("/srv/web.js")),
            ("/pm2_env/pm_cwd", json!("/srv")),
            (
                "/pm2_env/pm_out_log_path",
                json!("/home/.everup/logs/web-out-0.log"),
            ),
            ("/pm2_env/exec_interpreter", json!("node")),
            ("/pm2_env/instances", json!(2)),
            ("/pm2_env/node_version", json!("20.20.2")),
            ("/pm2_env/version", json!("1.2.3")),
            ("/pm2_env/exit_code", json!(1)),
            ("/pm2_env/max_memory_restart", json!(209_715_200)),
            ("/pm2_env/kill_timeout", json!(3000)),
            ("/pm2_env/watch", json!(true)),
            ("/pm2_env/env/PORT", json!("3000")),
            ("/pm2_env/env/API_KEY", json!(REDACTED)),
            ("/pm2_env/PORT", json!("3000")),
            ("/pm2_env/NODE_APP_INSTANCE", json!(0)),
            ("/pm2_env/axm_monitor", json!({})),
        ] {
            assert_eq!(one.pointer(pointer), Some(&expected), "{pointer}");
        }
        assert_eq!(one.pointer("/pm2_env/API_KEY"), None);
        let job = stopped("job", 2);
        let two = element(&job, &job.instances[0]);
        assert_eq!(two.pointer("/pid"), Some(&json!(0)));
        assert_eq!(two.pointer("/pm2_env/status"), Some(&json!("stopped")));
        assert_eq!(two.pointer("/monit/cpu"), Some(&json!(0)));
        let ids: Vec<u64> = list(&[job, web])
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["pm_id"].as_u64().unwrap())
            .collect();
        assert_eq!(ids, [0, 1, 2]);
    }
}
