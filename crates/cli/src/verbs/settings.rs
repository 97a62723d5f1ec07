//! Options of `start`, `restart` and `reload` as the keys of an `AppSpec`: only those that were given.
//!
//! Decides only; files and directories are not looked at.

use super::failure::VerbError;
use crate::args::app::{AppArgs, ModeArg};
use crate::error::{CliError, ValueError};
use crate::words;
use everup_api::AppSpec;
use serde_json::{Map, Value, json};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What pm2's `--time` stands for.
const TIME: &str = "YYYY-MM-DDTHH:mm:ss";

/// The keys that were given, by their name in an `AppSpec`. Relative paths are from `here`.
pub(crate) fn settings(args: &AppArgs, here: &Path) -> Result<Map<String, Value>, VerbError> {
    let mut keys = Keys::default();
    identity(args, here, &mut keys)?;
    environment(args, here, &mut keys)?;
    life(args, here, &mut keys)?;
    health(args, &mut keys);
    limits(args, &mut keys);
    logs(args, here, &mut keys);
    Ok(keys.0)
}

/// The names of sections (`env_NAME`) that `--env` asks for.
pub(crate) fn section(args: &AppArgs) -> Option<String> {
    let mut names = args.env.iter().filter_map(|text| text.to_str());
    names.rfind(|text| !text.contains('=')).map(str::to_owned)
}

/// An app of its own, out of a script and settings.
pub(crate) fn app(
    script: &OsStr,
    args: &[OsString],
    mut keys: Map<String, Value>,
    here: &Path,
) -> Result<AppSpec, VerbError> {
    let script = text(script, "the script")?;
    keys.insert("script".into(), json!(script));
    if !args.is_empty() {
        keys.insert("args".into(), json!(texts(args)?));
    }
    keys.entry("name").or_insert_with(|| json!(name_of(&script)));
    keys.entry("cwd").or_insert_with(|| json!(here));
    serde_json::from_value(Value::Object(keys)).map_err(|error| {
        VerbError::usage(
            format!("these options make no app: {error}"),
            "this is a bug of everup",
        )
    })
}

/// The script's name without its extension; of a shell line, its first word's.
pub(crate) fn name_of(script: &str) -> String {
    let first = match script.split_once(char::is_whitespace) {
        // A path may have blanks.
        Some(_) if Path::new(script).exists() => script,
        Some((first, _)) => first,
        None => script,
    };
    let path = Path::new(first.trim_end_matches('/'));
    let stem = match path.extension() {
        Some(_) => path.file_stem(),
        None => path.file_name(),
    };
    stem.map_or_else(|| first.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Words as text.
pub(crate) fn texts(words: &[OsString]) -> Result<Vec<String>, VerbError> {
    words.iter().map(|word| text(word, "an argument")).collect()
}

fn text(word: &OsStr, what: &str) -> Result<String, VerbError> {
    word.to_str().map(str::to_owned).ok_or_else(|| {
        VerbError::usage(
            format!("{what} is no UTF-8: {}", word.to_string_lossy()),
            "the daemon keeps apps as JSON: rename it, or use `everup run`",
        )
    })
}

/// Keys, as they come.
#[derive(Debug, Default)]
struct Keys(Map<String, Value>);

impl Keys {
    fn put(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.set(key, json!(value));
        }
    }

    fn all(&mut self, key: &str, values: &[String]) {
        if !values.is_empty() {
            self.set(key, json!(values));
        }
    }

    fn flag(&mut self, key: &str, given: bool, value: bool) {
        if given {
            self.set(key, json!(value));
        }
    }

    fn path(&mut self, key: &str, here: &Path, path: Option<&PathBuf>) {
        if let Some(path) = path {
            // Names that mean no file.
            let none = path.as_os_str() == "NULL";
            self.set(key, if none { json!(path) } else { json!(here.join(path)) });
        }
    }

    fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }
}

fn identity(args: &AppArgs, here: &Path, keys: &mut Keys) -> Result<(), VerbError> {
    keys.put("name", args.name.as_ref());
    keys.put("namespace", args.namespace.as_ref());
    keys.put("instances", args.instances.as_ref());
    keys.put("instance_var", args.instance_var.as_ref());
    keys.put("increment_var", args.increment_var.as_ref());
    let mode = args.exec_mode.or(args.execute_command.then_some(ModeArg::Fork));
    if let Some(mode) = mode {
        keys.set(
            "exec_mode",
            json!(if mode == ModeArg::Fork { "fork" } else { "cluster" }),
        );
    }
    keys.path("cwd", here, args.cwd.as_ref());
    keys.put("interpreter", args.interpreter.as_ref());
    let mut options = Vec::new();
    for text in &args.node_args {
        options.extend(words::split(text).map_err(|error| value("--node-args", text, error))?);
    }
    keys.all("node_args", &options);
    keys.put("policy", args.policy.as_ref());
    keys.all("listen", &args.listen);
    keys.put("channel", args.channel.as_ref());
    Ok(())
}

fn environment(args: &AppArgs, here: &Path, keys: &mut Keys) -> Result<(), VerbError> {
    let mut variables = Map::new();
    for word in &args.env {
        let word = text(word, "a variable")?;
        if let Some((name, value)) = word.split_once('=') {
            variables.insert(name.to_owned(), json!(value));
        }
    }
    if !variables.is_empty() {
        keys.set("env", Value::Object(variables));
    }
    if !args.env_file.is_empty() {
        let files: Vec<PathBuf> = args.env_file.iter().map(|path| here.join(path)).collect();
        keys.set("env_file", json!(files));
    }
    match args.filter_env.as_slice() {
        [] => {}
        names if names.iter().any(|name| name == "true") => keys.set("filter_env", json!(true)),
        names => keys.set("filter_env", json!(names)),
    }
    Ok(())
}

fn life(args: &AppArgs, here: &Path, keys: &mut Keys) -> Result<(), VerbError> {
    keys.flag("autostart", args.no_autostart, false);
    keys.put("kill_timeout", args.kill_timeout.as_ref());
    keys.put("kill_signal", args.kill_signal.as_ref());
    keys.flag("shutdown_with_message", args.shutdown_with_message, true);
    keys.flag("wait_ready", args.wait_ready, true);
    keys.put("listen_timeout", args.listen_timeout.as_ref());
    keys.path("pid_file", here, args.pid_file.as_ref());
    keys.flag("autorestart", args.no_autorestart, false);
    keys.put("restart", args.restart.as_ref());
    let mut codes: Vec<i32> = Vec::new();
    for code in &args.stop_exit_codes {
        codes.push(
            code.trim()
                .parse()
                .map_err(|_| value("--stop-exit-codes", code, ValueError::ExitCode))?,
        );
    }
    if !codes.is_empty() {
        keys.set("stop_exit_codes", json!(codes));
    }
    keys.put("restart_delay", args.restart_delay.as_ref());
    keys.put(
        "exp_backoff_restart_delay",
        args.exp_backoff_restart_delay.as_ref(),
    );
    keys.put("max_restarts", args.max_restarts.as_ref());
    keys.put("min_uptime", args.min_uptime.as_ref());
    keys.put("max_memory_restart", args.max_memory_restart.as_ref());
    keys.put("max_age", args.max_age.as_ref());
    keys.put("cron_restart", args.cron_restart.as_ref());
    keys.put("schedule", args.schedule.as_ref());
    keys.put("timezone", args.timezone.as_ref());
    if args.no_watch {
        keys.set("watch", json!([]));
    } else if !args.watch.is_empty() {
        keys.set("watch", json!(args.watch));
    }
    keys.all("ignore_watch", &args.ignore_watch);
    keys.put("watch_delay", args.watch_delay.as_ref());
    Ok(())
}

fn health(args: &AppArgs, keys: &mut Keys) {
    keys.put("spare", args.spare.as_ref());
    keys.put("surge", args.surge.as_ref());
    keys.put("max_unavailable", args.max_unavailable.as_ref());
    keys.put("canary", args.canary.as_ref());
    keys.put("drain_timeout", args.drain_timeout.as_ref());
    keys.put("max_draining", args.max_draining.as_ref());
    keys.all("ready", &args.ready);
    keys.put("health", args.health.as_ref());
    keys.put("health_interval", args.health_interval.as_ref());
    keys.put("health_timeout", args.health_timeout.as_ref());
    keys.put("health_failures", args.health_failures.as_ref());
    keys.put("watchdog", args.watchdog.as_ref());
    keys.put("stuck_timeout", args.stuck_timeout.as_ref());
}

fn limits(args: &AppArgs, keys: &mut Keys) {
    let limits = &args.limits;
    keys.put("uid", limits.uid.as_ref());
    keys.put("gid", limits.gid.as_ref());
    keys.put("umask", limits.umask.as_ref());
    keys.put("nice", limits.nice.as_ref());
    keys.all("rlimit", &limits.rlimit);
    keys.put("cpu_affinity", limits.cpu_affinity.as_ref());
    keys.put("oom_score_adj", limits.oom_score_adj.as_ref());
    keys.flag("no_new_privs", limits.no_new_privs, true);
    keys.all("keep_cap", &limits.keep_cap);
    keys.put("memory_max", limits.memory_max.as_ref());
    keys.put("memory_high", limits.memory_high.as_ref());
    keys.put("cpus", limits.cpus.as_ref());
    keys.put("pids_max", limits.pids_max.as_ref());
}

fn logs(args: &AppArgs, here: &Path, keys: &mut Keys) {
    keys.path("out_file", here, args.out_file.as_ref());
    keys.path("error_file", here, args.error_file.as_ref());
    keys.path("log_file", here, args.log_file.as_ref());
    keys.flag("merge_logs", args.merge_logs, true);
    if args.time {
        keys.set("log_date_format", json!(TIME));
    }
    keys.put("log_date_format", args.log_date_format.as_ref());
    keys.put("log_type", args.log_type.as_ref());
    keys.flag("disable_logs", args.disable_logs, true);
}

fn value(option: &'static str, value: &str, source: impl Into<ValueError>) -> VerbError {
    VerbError::Usage(CliError::Value {
        option,
        value: value.to_owned(),
        source: source.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        app: AppArgs,
    }

    fn keys(words: &[&str]) -> Value {
        let words = Words::try_parse_from(["start"].iter().chain(words)).unwrap();
        Value::Object(settings(&words.app, Path::new("/srv")).unwrap())
    }

    #[test]
    fn nothing_given_is_nothing_set() {
        assert_eq!(keys(&[]), json!({}));
    }

    #[test]
    fn flags_of_pm2() {
        let given = keys(&[
            "-n",
            "api",
            "-i",
            "-1",
            "--watch",
            "--ignore-watch",
            "logs",
            "--max-memory-restart",
            "200M",
            "-c",
            "0 3 * * *",
            "--node-args",
            "-r './a b.js'",
            "-o",
            "o.log",
            "-e",
            "NULL",
            "-l",
            "/var/log/x",
            "--time",
            "--no-autorestart",
            "--stop-exit-codes",
            "0,42",
            "-k",
            "3000",
            "--wait-ready",
            "-p",
            "x.pid",
            "--env",
            "A=b=c",
            "--env",
            "production",
            "--filter-env=SECRET",
            "--uid",
            "www",
            "-x",
            "--no-pmx",
        ]);
        let expected = json!({
            "name": "api", "instances": "-1", "exec_mode": "fork", "node_args": ["-r", "./a b.js"],
            "env": {"A": "b=c"}, "filter_env": ["SECRET"],
            "kill_timeout": "3000", "wait_ready": true, "pid_file": "/srv/x.pid", "autorestart": false,
            "stop_exit_codes": [0, 42], "max_memory_restart": "200M", "cron_restart": "0 3 * * *",
            "watch": ["."], "ignore_watch": ["logs"], "uid": "www",
            "out_file": "/srv/o.log", "error_file": "NULL", "log_file": "/var/log/x", "log_date_format": TIME,
        });
        assert_eq!(given, expected);
    }

    const ALL: [&str; 99] = [
        "--namespace",
        "n",
        "--instance-var",
        "I",
        "--increment-var",
        "P",
        "--cwd",
        "x",
        "--interpreter",
        "none",
        "--env-file",
        ".env",
        "--filter-env",
        "--policy",
        "sticky",
        "--listen",
        ":1",
        "--channel",
        "none",
        "--no-autostart",
        "--kill-signal",
        "INT",
        "--listen-timeout",
        "1",
        "--restart",
        "never",
        "--restart-delay",
        "1",
        "--exp-backoff-restart-delay",
        "1",
        "--max-restarts",
        "1",
        "--min-uptime",
        "1",
        "--max-age",
        "1",
        "--schedule",
        "@daily",
        "--timezone",
        "UTC",
        "--no-watch",
        "--watch-delay",
        "1",
        "--spare",
        "1",
        "--surge",
        "1",
        "--max-unavailable",
        "1",
        "--canary",
        "1",
        "--drain-timeout",
        "1",
        "--max-draining",
        "1",
        "--ready",
        "tcp",
        "--health",
        "tcp",
        "--health-interval",
        "1",
        "--health-timeout",
        "1",
        "--health-failures",
        "1",
        "--watchdog",
        "1",
        "--stuck-timeout",
        "1",
        "--gid",
        "g",
        "--umask",
        "0",
        "--nice",
        "1",
        "--rlimit",
        "core=0",
        "--cpu-affinity",
        "0",
        "--oom-score-adj",
        "1",
        "--no-new-privs",
        "--keep-cap",
        "c",
        "--memory-max",
        "1",
        "--memory-high",
        "1",
        "--cpus",
        "1",
        "--pids-max",
        "1",
        "--merge-logs",
        "--log-date-format",
        "x",
        "--log-type",
        "json",
        "--disable-logs",
        "--shutdown-with-message",
    ];

    #[test]
    fn every_key_is_one_of_an_app() {
        let all = keys(&ALL);
        let Value::Object(all) = all else { unreachable!() };
        let count = all.len();
        let app = app(OsStr::new("x.js"), &["a".into()], all, Path::new("/srv")).unwrap();
        let Value::Object(kept) = serde_json::to_value(&app).unwrap() else {
            unreachable!()
        };
        // Without an empty `watch`; with name, script and args.
        assert_eq!(kept.len(), count - 1 + 3);
    }

    #[test]
    fn names_of_scripts() {
        for (script, expected) in [
            ("app.js", "app"),
            ("./src/server.prod.js", "server.prod"),
            ("/usr/bin/python3", "python3"),
            ("npm start", "npm"),
            ("/opt/x/run.sh --fast", "run"),
            ("dir/", "dir"),
            (".hidden", ".hidden"),
        ] {
            assert_eq!(name_of(script), expected);
        }
    }

    #[test]
    fn wrong_values() {
        let words = Words::try_parse_from(["start", "--stop-exit-codes", "x"]).unwrap();
        let error = settings(&words.app, Path::new("/")).unwrap_err();
        assert_eq!(
            error.message(),
            "invalid value `x` for --stop-exit-codes: not an exit code: they go from 0 to 255"
        );
    }
}
