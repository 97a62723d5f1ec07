//! An app as its owner describes it: the unit of configuration files, of `start`, of what the daemon keeps, of `plan`.
//!
//! Keys are pm2's where pm2 has one (`docs/pm2-compat.md`), else those of the options of `everup run`. Everything is
//! as it was said: sizes and times are text (`200M`, `1500`, `5s`), a count may be `max`. What it means is found out by
//! whoever starts it, with the same code as for `everup run`.
//!
//! Invariant: a default is absence. Two descriptions are the same app's settings if and only if they are equal.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The namespace of an app that names none.
pub const NAMESPACE: &str = "default";

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppSpec {
    // --- what it is
    /// Its name, unique in a daemon.
    pub name: String,
    /// The group that it belongs to [default: `default`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A script, a program, or a shell line.
    pub script: String,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Where it runs: an absolute path.
    pub cwd: PathBuf,
    /// What runs the script, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// Options of the interpreter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_args: Vec<String>,
    /// `cluster` or `fork`; `fork` gives a Node app a channel for messages, and no cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_mode: Option<ExecMode>,
    /// How many workers: a number, `max`, `0` or a negative number [default: 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<String>,
    /// Who may be started before it, and what is waited for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<String, Condition>,

    // --- its environment
    /// Variables: stored, and shown (what looks secret is redacted).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files of `KEY=value` lines, read at each start and reload; absolute paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_file: Vec<PathBuf>,
    /// Files whose content is passed by descriptor: the name is that of the variable that holds the descriptor's path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_files: BTreeMap<String, PathBuf>,
    /// Which of the starter's own variables are not passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_env: Option<FilterEnv>,
    /// The variable with the worker's number [default: `NODE_APP_INSTANCE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_var: Option<String>,
    /// A variable of `env` that is one more in each next worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub increment_var: Option<String>,

    // --- connections
    /// `least-connections`, `round-robin`, `sticky`, `shared` or `reuseport`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Sockets passed by `LISTEN_FDS`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<String>,
    /// `auto`, `node` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,

    // --- start and stop
    /// Whether it is started together with the daemon [default: true].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// Time from asking to SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_timeout: Option<String>,
    /// The signal that asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_signal: Option<String>,
    /// Whether the message `shutdown` asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_with_message: Option<bool>,
    /// Whether the message `ready` is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ready: Option<bool>,
    /// How long a worker may take until it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_timeout: Option<String>,
    /// Where the pids are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<PathBuf>,

    // --- restarts
    /// Whether dead workers are replaced [default: true].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autorestart: Option<bool>,
    /// `always`, `on-failure` or `never`; wins over `autorestart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
    /// Exit codes after which a worker is not replaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_exit_codes: Vec<i32>,
    /// Waited before each restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_delay: Option<String>,
    /// The first delay after early deaths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp_backoff_restart_delay: Option<String>,
    /// Early deaths in a row until it has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<String>,
    /// Until then a death is an early one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_uptime: Option<String>,
    /// Memory above which a worker is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory_restart: Option<String>,
    /// Age above which a worker is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// When it is reloaded: a cron expression; `0` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron_restart: Option<String>,
    /// When it is started: it is a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The time zone of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Paths whose changes reload it, relative to `cwd`; `.` is all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<PathBuf>,
    /// What does not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_watch: Vec<String>,
    /// Quiet time before the reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_delay: Option<String>,

    // --- reload, health: as the options of `everup run`
    /// Spares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare: Option<String>,
    /// New workers beside the old ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surge: Option<String>,
    /// Workers that may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<String>,
    /// How long the first new worker is watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// How long an old worker may go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<String>,
    /// Old generations that may drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_draining: Option<String>,
    /// Signs of readiness.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<String>,
    /// The probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_interval: Option<String>,
    /// Of one probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_timeout: Option<String>,
    /// Failed probes in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_failures: Option<String>,
    /// `WATCHDOG=1` at least this often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<String>,
    /// No answer to a connection for this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_timeout: Option<String>,

    // --- limits
    /// User.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    /// In octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<String>,
    /// Nice value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<String>,
    /// Resource limits: `nofile=65536`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimit: Vec<String>,
    /// `auto` or a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<String>,
    /// -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<String>,
    /// Never gain privileges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privs: Option<bool>,
    /// Capabilities kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep_cap: Vec<String>,
    /// Control group: memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<String>,
    /// Control group: memory, slowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<String>,
    /// Control group: CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Control group: processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<String>,

    // --- logs
    /// File of standard output; `/dev/null` or `NULL` for none [default: in `logs/`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_file: Option<PathBuf>,
    /// File of standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_file: Option<PathBuf>,
    /// File of both; `true` is the usual place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<PathBuf>,
    /// One file for all workers [default: only if `instances` is not given].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_logs: Option<bool>,
    /// Put before each line, in dayjs' notation (`YYYY-MM-DD HH:mm:ss`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_date_format: Option<String>,
    /// `raw` or `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_type: Option<String>,
    /// Nothing is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_logs: Option<bool>,

    // --- of pm2, kept for it to be shown
    /// Keys of pm2's that mean nothing here, as they were given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pm2: BTreeMap<String, serde_json::Value>,
}

/// pm2's `exec_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecMode {
    /// A process with a channel for messages.
    Fork,
    /// Workers of Node's `cluster`.
    Cluster,
}

/// What is waited for before an app that depends on another is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It was started.
    Started,
    /// All its workers are ready.
    Ready,
    /// It has ended, with success.
    Completed,
}

/// pm2's `filter_env`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum FilterEnv {
    /// `true`: nothing is passed on.
    All(bool),
    /// Names that contain one of these are not.
    Containing(Vec<String>),
}

impl AppSpec {
    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(NAMESPACE)
    }
}
