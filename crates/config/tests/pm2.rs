//! Files as people have them, against what pm2 7 itself makes of them (`files/pm2/expected.json`, written by `pm2.cjs`).

#![cfg_attr(
    feature = "js",
    expect(clippy::unwrap_used, reason = "a failed test is the answer to each of them")
)]
#![cfg(feature = "js")]

use everup_api::AppSpec;
use everup_config::{Options, load};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/pm2")
}

fn options(env_name: Option<&str>) -> Options {
    Options {
        env_name: env_name.map(str::to_owned),
        cwd: folder(),
        program: Some("/usr/bin/everup".into()),
        ..Options::default()
    }
}

#[test]
fn every_file_is_read_as_pm2_reads_it() {
    let expected = std::fs::read(folder().join("expected.json")).unwrap();
    let expected: Map<String, Value> = serde_json::from_slice(&expected).unwrap();
    assert!(expected.len() >= 30);
    for (reading, theirs) in &expected {
        let (file, env) = reading
            .split_once('@')
            .map_or((reading.as_str(), None), |(file, env)| (file, Some(env)));
        let ours = load(Path::new(file), &options(env)).unwrap_or_else(|error| panic!("{reading}: {error}"));
        let theirs = theirs.as_array().unwrap();
        let served = usize::from(file.starts_with("serve")) * 2;
        assert_eq!(ours.apps.len(), theirs.len() + served, "{reading}");
        for (ours, theirs) in ours.apps.iter().zip(theirs) {
            compare(reading, ours, theirs.as_object().unwrap());
        }
    }
}

/// Keys that pm2 fills in by itself, or that have no effect here.
const FILLED_IN: [&str; 14] = [
    "vizion",
    "autostart",
    "autorestart",
    "instance_var",
    "pmx",
    "automation",
    "treekill",
    "username",
    "windowsHide",
    "kill_retry_time",
    "merge_logs",
    "append_env_to_name",
    "time",
    "port",
];

fn compare(reading: &str, ours: &AppSpec, theirs: &Map<String, Value>) {
    let fields = serde_json::to_value(ours).unwrap();
    for (key, wanted) in theirs {
        let is_default = FILLED_IN.contains(&key.as_str());
        let name = if key == "exec_interpreter" {
            "interpreter"
        } else {
            key
        };
        let field = fields.get(name).or_else(|| ours.pm2.get(name));
        match (field, key.as_str()) {
            (None, _) if is_default || *wanted == serde_json::json!({}) || *wanted == Value::Bool(false) => {}
            (None, _) => panic!("{reading}: {}: {key} is lost", ours.name),
            (Some(field), _) => assert_eq!(
                as_pm2(key, field, ours),
                stringified(key, wanted),
                "{reading}: {}: {key}",
                ours.name
            ),
        }
    }
}

/// Our value as pm2 would have it.
fn as_pm2(key: &str, field: &Value, app: &AppSpec) -> Value {
    let text = || field.as_str().unwrap_or_default();
    let relative = |path: &str| {
        let path = Path::new(path);
        path.strip_prefix(&app.cwd)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned()
    };
    match key {
        "exec_mode" => format!("{}_mode", text()).into(),
        "instances" if text() == "max" => "0".into(),
        "out_file" if text() == "/dev/null" => "NULL".into(),
        "out_file" | "error_file" | "log_file" | "pid_file" => relative(text()).into(),
        "max_memory_restart" => (number(text(), &[("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)])).into(),
        "min_uptime" => (number(text(), &[("h", 3_600_000), ("m", 60_000), ("s", 1_000)])).into(),
        "watch" if *field == serde_json::json!(["."]) => "true".into(),
        _ => stringified(key, field),
    }
}

fn number(text: &str, units: &[(&str, u64)]) -> String {
    let unit = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, factor) = unit.unwrap_or((text, 1));
    (digits.parse::<u64>().unwrap() * factor).to_string()
}

/// pm2's value, numbers and booleans as text; each variable, too.
fn stringified(key: &str, value: &Value) -> Value {
    match value {
        Value::Number(number) => number.to_string().into(),
        Value::Bool(value) if key == "watch" || key == "env" => value.to_string().into(),
        Value::Object(map) if key == "env" => {
            let pairs = map
                .iter()
                .map(|(name, value)| (name.clone(), stringified(key, value)));
            let mut pairs: Vec<_> = pairs.collect();
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(items) if key != "stop_exit_codes" => {
            items.iter().map(|item| stringified(key, item)).collect()
        }
        Value::String(path) if key.ends_with("_file") => path.trim_start_matches("./").into(),
        // pm2 keeps a slash at the end.
        Value::String(path) if key == "cwd" => path.trim_end_matches('/').into(),
        _ => value.clone(),
    }
}

#[test]
fn served_folders_are_apps_of_our_own_binary() {
    let loaded = load(Path::new("serve.config.js"), &options(None)).unwrap();
    let served: Vec<&AppSpec> = loaded
        .apps
        .iter()
        .filter(|app| app.script == "/usr/bin/everup")
        .collect();
    let names: Vec<&str> = served.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["public", "static-page-server-8082"]);
    assert_eq!(served[0].args, ["serve-files"]);
    assert_eq!(served[0].channel.as_deref(), Some("node"));
    let env: Vec<(&str, &str)> = served[0]
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let wanted = [
        ("PM2_SERVE_PATH", "./public"),
        ("PM2_SERVE_PORT", "8081"),
        ("PM2_SERVE_SPA", "true"),
    ];
    assert_eq!(env, wanted);
}

#[test]
fn the_deploy_section_is_kept() {
    let loaded = load(Path::new("deploy.config.js"), &options(Some("production"))).unwrap();
    assert_eq!(loaded.deploy.unwrap()["production"]["user"], "node");
    let env = &loaded.apps[0].env;
    assert_eq!(
        (env["FROM_DEPLOY"].as_str(), env["NODE_ENV"].as_str()),
        ("yes", "production")
    );
}

#[test]
fn an_environment_that_no_app_has_is_a_warning() {
    let loaded = load(Path::new("docs.config.js"), &options(Some("prodction"))).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("no `env_prodction` in `app`, `worker`"),
        "{warnings:?}"
    );
    assert_eq!(
        loaded.warnings[0].hint.as_deref(),
        Some("did you mean --env production?")
    );
}

#[test]
fn only_some_apps() {
    let only = |names: &str| Options {
        only: vec![names.to_owned()],
        ..options(None)
    };
    let loaded = load(Path::new("process.json"), &only("WEB")).unwrap();
    assert_eq!(loaded.apps.len(), 1);
    assert_eq!(
        load(Path::new("process.json"), &only("WEB,API"))
            .unwrap()
            .apps
            .len(),
        2
    );
    let error = load(Path::new("process.json"), &only("API,WEBB")).unwrap_err();
    assert!(error.to_string().contains("there is no app `WEBB`"), "{error}");
    assert_eq!(error.hint(), Some("did you mean `WEB`?"));
}
