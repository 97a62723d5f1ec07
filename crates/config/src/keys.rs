//! Every key that an app may have: one table for reading files, for the JSON Schema, and for `docs/pm2-compat.md`.
//!
//! Invariant: each field of `AppSpec` but `pm2` has a row, under its own name.
//!
//! Must not know: formats, files.

/// A key, and how it compares to pm2's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// Its name here: the field of `AppSpec`, if there is one.
    pub name: &'static str,
    /// Other names that pm2 has for it. Every name may also be written in camelCase.
    pub aliases: &'static [&'static str],
    /// What its value is.
    pub kind: Kind,
    /// Beside pm2.
    pub standing: Standing,
    /// In what it differs, or why it means nothing here.
    pub why: &'static str,
}

/// What a value is, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A text; a number is taken as it is written.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A number.
    Number,
    /// A number of workers: `4`, `max`, `0`, `-1`.
    Count,
    /// Milliseconds, or a number with a unit: `500ms`, `5s`, `1m`, `2h`.
    Time,
    /// Bytes, or a number with a unit: `200M`, `1G`.
    Size,
    /// `true` or `false`.
    Bool,
    /// A list of texts, or one text that is split into words.
    Words,
    /// A list of texts, or one text.
    List,
    /// A path, relative to `cwd`.
    Path,
    /// A list of paths, or one.
    Paths,
    /// A path, or `true` for the usual place.
    LogFile,
    /// A folder, relative to the file's.
    Folder,
    /// `true` for all of `cwd`, or paths in it.
    Watch,
    /// Patterns as in a `.gitignore`.
    Patterns,
    /// Exit codes.
    Codes,
    /// `fork` or `cluster`.
    Mode,
    /// `true`, or parts of names.
    Filter,
    /// Variables.
    Env,
    /// Variables whose values are paths.
    EnvPaths,
    /// Names of apps, or a table of names with conditions.
    Depends,
    /// A cron expression; 0 is never.
    Cron,
    /// Known to the reader of files alone; something else comes of it.
    Own,
    /// Kept as it is and shown, without effect.
    Kept,
}

/// How a key compares to pm2's of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It means the same.
    Same,
    /// It means at least the same.
    Better,
    /// It means nothing here.
    NotSupported,
    /// pm2 has no such key.
    Ours,
}

use Kind::{
    Bool, Choice, Codes, Count, Cron, Depends, Env, EnvPaths, Filter, Folder, Kept, List, LogFile, Mode,
    Number, Own, Path, Paths, Patterns, Size, Text, Time, Watch, Words,
};
use Standing::{Better, NotSupported, Ours, Same};

const fn key(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    standing: Standing,
    why: &'static str,
) -> Key {
    Key {
        name,
        aliases,
        kind,
        standing,
        why,
    }
}

const fn ours(name: &'static str, kind: Kind, why: &'static str) -> Key {
    key(name, &[], kind, Ours, why)
}

const POLICIES: &[&str] = &[
    "least-connections",
    "round-robin",
    "sticky",
    "shared",
    "reuseport",
];
const APM: &str = "nothing is injected into apps, and no SaaS is reported to";

/// The table.
pub const KEYS: &[Key] = &[
    // --- what it is
    key(
        "name",
        &[],
        Text,
        Better,
        "unique: a second app of the same name in a file is renamed, with a warning",
    ),
    key("name_prefix", &[], Own, Same, ""),
    key("namespace", &[], Text, Same, ""),
    key(
        "script",
        &["exec", "cmd", "command"],
        Text,
        Better,
        "a shell line needs no bash; a missing script is an error before anything is started",
    ),
    key(
        "args",
        &[],
        Words,
        Better,
        "quotes inside a word are taken away: `--a=\"b c\"` is one argument `--a=b c`",
    ),
    key(
        "cwd",
        &[],
        Folder,
        Better,
        "relative to the file's folder, not to the caller's; the default is the file's folder (the caller's, if the script is only there)",
    ),
    key(
        "interpreter",
        &["exec_interpreter"],
        Text,
        Better,
        "`node@18` finds an installed version and never installs one",
    ),
    key("node_args", &["interpreter_args"], Words, Same, ""),
    key(
        "exec_mode",
        &[],
        Mode,
        Better,
        "a Node app without it shares its port also with one instance, so that a reload loses nothing",
    ),
    key(
        "instances",
        &[],
        Count,
        Better,
        "`max` counts the CPUs that the process may use; any program may have several",
    ),
    ours(
        "depends_on",
        Depends,
        "apps that have to be `started`, `ready` or `completed` before",
    ),
    // --- its environment
    key(
        "env",
        &[],
        Env,
        Better,
        "numbers keep their text (1.10); a value of null is no variable; what is removed from the file is removed from the app",
    ),
    ours(
        "env_file",
        Paths,
        "files of KEY=value lines, read at each start and reload",
    ),
    ours(
        "secret_files",
        EnvPaths,
        "files whose content the app gets by descriptor",
    ),
    key(
        "filter_env",
        &[],
        Filter,
        Better,
        "`true` passes nothing on, as pm2's documentation says",
    ),
    key("instance_var", &[], Text, Same, ""),
    key("increment_var", &[], Text, Same, ""),
    key("append_env_to_name", &[], Own, Same, ""),
    key("port", &[], Own, Same, "sets PORT in `env`"),
    // --- connections
    ours("policy", Choice(POLICIES), "who gets the next connection"),
    ours("listen", List, "sockets passed by LISTEN_FDS"),
    ours(
        "channel",
        Choice(&["auto", "node", "none"]),
        "whether workers get Node's cluster channel",
    ),
    // --- start and stop
    key("autostart", &[], Bool, Same, ""),
    key(
        "kill_timeout",
        &[],
        Time,
        Better,
        "the default is 5 s; units may be written; all of the process tree is killed",
    ),
    ours("kill_signal", Text, "the signal that asks a worker to stop"),
    key("shutdown_with_message", &[], Bool, Same, ""),
    key("wait_ready", &[], Bool, Same, ""),
    key(
        "listen_timeout",
        &[],
        Time,
        Better,
        "a worker that is not ready in time has failed, and the old one stays",
    ),
    key("pid_file", &["pid"], Path, Same, ""),
    // --- restarts
    key("autorestart", &[], Bool, Same, ""),
    ours(
        "restart",
        Choice(&["always", "on-failure", "never"]),
        "which workers are started again",
    ),
    key("stop_exit_codes", &[], Codes, Same, ""),
    key("restart_delay", &[], Time, Same, ""),
    key(
        "exp_backoff_restart_delay",
        &[],
        Time,
        Better,
        "early deaths are always backed off, with or without it",
    ),
    key(
        "max_restarts",
        &[],
        Number,
        Better,
        "the default is 5 early deaths of every worker in a row; deaths that are no early ones do not count",
    ),
    key("min_uptime", &[], Time, Same, ""),
    key(
        "max_memory_restart",
        &[],
        Size,
        Better,
        "the whole process tree counts; replaced without a gap; looked at every second",
    ),
    ours(
        "max_age",
        Time,
        "a worker that is older is replaced, without a gap",
    ),
    key(
        "cron_restart",
        &["cron"],
        Cron,
        Better,
        "a reload, without a gap; `timezone`",
    ),
    ours("schedule", Text, "the app is a job: when it is started"),
    ours("timezone", Text, "of `cron_restart` and `schedule`"),
    key(
        "watch",
        &[],
        Watch,
        Better,
        "a reload, without a gap; .gitignore is obeyed",
    ),
    key(
        "ignore_watch",
        &[],
        Patterns,
        Better,
        "patterns as in a .gitignore; a regular expression is taken if it is a plain text",
    ),
    key("watch_delay", &[], Time, Same, ""),
    key(
        "watch_options",
        &[],
        Kept,
        NotSupported,
        "options of chokidar, which is not used; see `watch`, `ignore_watch`, `watch_delay`",
    ),
    // --- reload, health
    ours("spare", Number, "workers kept ready beside those that serve"),
    ours("surge", Text, "new workers beside the old ones in a reload"),
    ours("max_unavailable", Text, "workers that may be missing in a reload"),
    ours("canary", Time, "how long the first new worker is watched"),
    ours(
        "drain_timeout",
        Time,
        "how long an old worker may go on with its connections",
    ),
    ours("max_draining", Number, "old generations that may drain at once"),
    ours("ready", List, "what makes a worker ready"),
    ours("health", Text, "the probe of a worker"),
    ours("health_interval", Time, "between probes"),
    ours("health_timeout", Time, "of one probe"),
    ours("health_failures", Number, "failed probes in a row"),
    ours("watchdog", Time, "WATCHDOG=1 at least this often"),
    ours("stuck_timeout", Time, "no answer to a connection for so long"),
    // --- limits
    key("uid", &["user"], Text, Better, "with all groups of the user"),
    key("gid", &[], Text, Same, ""),
    ours("umask", Text, "in octal"),
    ours("nice", Number, "nice value"),
    ours("rlimit", List, "resource limits: nofile=65536"),
    ours("cpu_affinity", Text, "`auto` or a list of CPUs"),
    ours("oom_score_adj", Number, "whom the kernel kills first"),
    ours("no_new_privs", Bool, "never gain privileges"),
    ours("keep_cap", List, "capabilities that are kept"),
    ours("memory_max", Size, "memory of the control group"),
    ours(
        "memory_high",
        Size,
        "memory of the control group above which it is slowed",
    ),
    ours("cpus", Number, "CPUs of the control group"),
    ours("pids_max", Number, "processes of the control group"),
    // --- logs
    key("out_file", &["out", "output", "out_log"], Path, Same, ""),
    key(
        "error_file",
        &["error", "err", "err_file", "err_log"],
        Path,
        Same,
        "",
    ),
    key("log_file", &["log"], LogFile, Same, ""),
    key(
        "merge_logs",
        &["combine_logs"],
        Bool,
        Better,
        "one file per instance (`NAME-out-ID.log`) where `instances` is given and this is not, as in pm2; in one file, lines of several workers never mix",
    ),
    key(
        "log_date_format",
        &[],
        Text,
        Better,
        "a date before each line, in every mode",
    ),
    key("time", &[], Own, Same, "`log_date_format` YYYY-MM-DDTHH:mm:ss"),
    key(
        "log_type",
        &[],
        Choice(&["raw", "json"]),
        Better,
        "one JSON object per line, not per chunk",
    ),
    key("disable_logs", &[], Bool, Same, ""),
    // --- of pm2 alone
    key("execute_command", &[], Own, Same, "`exec_mode: fork`"),
    key(
        "kill_retry_time",
        &[],
        Kept,
        NotSupported,
        "the end of a process is an event; nothing is polled",
    ),
    key(
        "treekill",
        &[],
        Kept,
        NotSupported,
        "the process tree of a worker always ends with it",
    ),
    key(
        "source_map_support",
        &[],
        Kept,
        NotSupported,
        "nothing is injected into apps; `node_args: --enable-source-maps`",
    ),
    key(
        "disable_source_map_support",
        &[],
        Kept,
        NotSupported,
        "nothing is injected into apps",
    ),
    key(
        "vizion",
        &[],
        Kept,
        NotSupported,
        "no version control is looked at",
    ),
    key(
        "post_update",
        &[],
        Kept,
        NotSupported,
        "there is no `pull`; `apply` after your own deployment",
    ),
    key("force", &[], Kept, NotSupported, "`--force` on the command line"),
    key(
        "write",
        &[],
        Kept,
        NotSupported,
        "files are not written by `start`",
    ),
    key("username", &[], Kept, NotSupported, "found out, not said"),
    key("windowsHide", &[], Kept, NotSupported, "Linux only"),
    key("install_url", &[], Kept, NotSupported, "there are no modules"),
    key("pmx", &[], Kept, NotSupported, APM),
    key("automation", &[], Kept, NotSupported, APM),
    key("io", &[], Kept, NotSupported, APM),
    key("trace", &[], Kept, NotSupported, APM),
    key("disable_trace", &[], Kept, NotSupported, APM),
    key("v8", &[], Kept, NotSupported, APM),
    key("event_loop_inspector", &[], Kept, NotSupported, APM),
    key("deep_monitoring", &[], Kept, NotSupported, APM),
];

/// What a key of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A row of the table.
    Key(&'static Key),
    /// `env_<name>`: variables of an environment.
    EnvNamed(&'a str),
}

/// The key of this name, alias or camelCase spelling.
pub(crate) fn find(name: &str) -> Option<Found<'_>> {
    let is_it = |written: &&str| *written == name || camel(written) == name;
    let row = KEYS
        .iter()
        .find(|key| is_it(&key.name) || key.aliases.iter().any(is_it));
    let named = || name.strip_prefix("env_").filter(|name| !name.is_empty());
    row.map(Found::Key).or_else(|| named().map(Found::EnvNamed))
}

/// The name that was meant, most likely.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let all = KEYS.iter().filter(|key| key.kind != Kept);
    let names: Vec<&str> = all
        .flat_map(|key| [key.name].into_iter().chain(key.aliases.iter().copied()))
        .collect();
    everup_api::names::nearest(&snake(name), &names)
}

/// pm2's rule: words of one letter stay as they are.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        match letters.next() {
            Some(first) if part.len() > 1 => {
                camel.extend(first.to_uppercase());
                camel.push_str(letters.as_str());
            }
            Some(_) | None => camel.push_str(part),
        }
    }
    camel
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_uppercase() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase().filter(|c| *c != '-'));
        if character == '-' {
            snake.push('_');
        }
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use everup_api::AppSpec;

    #[test]
    fn every_field_has_a_row() {
        let schema = serde_json::to_value(schemars::schema_for!(AppSpec)).unwrap();
        for field in schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .filter(|field| *field != "pm2")
        {
            assert!(KEYS.iter().any(|key| key.name == field), "{field}");
        }
        for key in KEYS.iter().filter(|key| !matches!(key.kind, Own | Kept)) {
            assert!(schema["properties"].get(key.name).is_some(), "{}", key.name);
        }
    }

    #[test]
    fn no_name_is_there_twice() {
        let mut names: Vec<String> = KEYS
            .iter()
            .flat_map(|key| [key.name].into_iter().chain(key.aliases.iter().copied()))
            .flat_map(|name| [name.to_owned(), camel(name)])
            .collect();
        names.sort();
        names.dedup();
        let all = KEYS
            .iter()
            .flat_map(|key| [key.name].into_iter().chain(key.aliases.iter().copied()));
        let spellings: usize = all.map(|name| 1 + usize::from(camel(name) != name)).sum();
        assert_eq!(names.len(), spellings);
    }

    #[test]
    fn what_does_not_mean_the_same_says_why() {
        for key in KEYS {
            assert!(key.standing == Same || !key.why.is_empty(), "{}", key.name);
        }
    }

    #[test]
    fn names_aliases_and_camel_case() {
        let name = |written: &str| match find(written) {
            Some(Found::Key(key)) => key.name.to_owned(),
            Some(Found::EnvNamed(name)) => format!("env {name}"),
            None => "?".to_owned(),
        };
        for (written, wanted) in [
            ("script", "script"),
            ("cmd", "script"),
            ("maxMemoryRestart", "max_memory_restart"),
            ("execInterpreter", "interpreter"),
            ("interpreterArgs", "node_args"),
            ("envFile", "env_file"),
            ("env_file", "env_file"),
            ("env_production", "env production"),
            ("env_", "?"),
            ("instancse", "?"),
        ] {
            assert_eq!(name(written), wanted, "{written}");
        }
        assert_eq!(nearest("instancse"), Some("instances"));
        assert_eq!(nearest("max-memory-restart"), Some("max_memory_restart"));
        assert_eq!(nearest("quux"), None);
    }
}
