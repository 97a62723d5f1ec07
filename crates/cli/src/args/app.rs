//! The settings of an app on the command line of `start`, `restart` and `reload`: raw values, absent unless given.
//!
//! Names are pm2's (`docs/pm2-compat.md`) and those of `everup run`. What they mean is found out by whoever starts
//! the app; `verbs::settings` makes keys of an `AppSpec` of them.

use super::limits::LimitsArgs;
use clap::{ArgAction, Args, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

const WORKERS: &str = "Workers";
const PROGRAM: &str = "Program";
const SOCKETS: &str = "Connections";
const LIFE: &str = "Start and stop";
const RESTART: &str = "Restarts";
const TRIGGERS: &str = "Reload and start by themselves";
const RELOAD: &str = "Reload and scale";
const HEALTH: &str = "Readiness and health";
const LOGS: &str = "Logs";

/// See the module's documentation.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AppArgs {
    /// Name of the app [default: the script's, without its extension]
    #[arg(short, long, help_heading = WORKERS)]
    pub(crate) name: Option<String>,

    /// Group that it belongs to [default: default]
    #[arg(long, value_name = "GROUP", help_heading = WORKERS)]
    pub(crate) namespace: Option<String>,

    /// How many workers: a number, `max` or 0 (one per CPU), -1 (one fewer) [default: 1]
    #[arg(short, long, value_name = "N|max", allow_negative_numbers = true, help_heading = WORKERS)]
    pub(crate) instances: Option<String>,

    /// Variable in which each worker finds its number [default: NODE_APP_INSTANCE]
    #[arg(long, value_name = "NAME", alias = "instance_var", help_heading = WORKERS)]
    pub(crate) instance_var: Option<String>,

    /// Variable of --env that is one more in each next worker: PORT
    #[arg(long, value_name = "NAME", alias = "increment_var", help_heading = WORKERS)]
    pub(crate) increment_var: Option<String>,

    /// `fork` for a Node app that shall not share its port
    #[arg(long, value_enum, alias = "exec_mode", help_heading = WORKERS)]
    pub(crate) exec_mode: Option<ModeArg>,

    /// The same as --exec-mode fork
    #[arg(short = 'x', long, hide = true, conflicts_with = "exec_mode")]
    pub(crate) execute_command: bool,

    /// Working directory [default: here]; scripts are relative to it
    #[arg(long, value_name = "DIR", help_heading = PROGRAM, value_hint = ValueHint::DirPath)]
    pub(crate) cwd: Option<PathBuf>,

    /// What runs the script, or `none` [default: by extension or #! line]
    #[arg(long, value_name = "PATH|none", aliases = ["exec-interpreter", "exec_interpreter"])]
    #[arg(help_heading = PROGRAM, value_hint = ValueHint::CommandName)]
    pub(crate) interpreter: Option<String>,

    /// Options of the interpreter, as one string (repeatable)
    #[arg(long, value_name = "ARGS", aliases = ["node_args", "interpreter-args", "interpreter_args"])]
    #[arg(help_heading = PROGRAM, allow_hyphen_values = true)]
    pub(crate) node_args: Vec<String>,

    /// A variable for the workers (K=V, repeatable); without `=`, the section `env_NAME` of the file
    #[arg(long, value_name = "K=V|NAME", help_heading = PROGRAM)]
    pub(crate) env: Vec<OsString>,

    /// Variables from a file of KEY=value lines, read at each start (repeatable, the last one wins)
    #[arg(long, value_name = "FILE", alias = "env_file", help_heading = PROGRAM, value_hint = ValueHint::FilePath)]
    pub(crate) env_file: Vec<PathBuf>,

    /// Variables of this shell that are not passed on: all whose name contains TEXT (repeatable)
    #[arg(long, value_name = "TEXT", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(alias = "filter_env", help_heading = PROGRAM)]
    pub(crate) filter_env: Vec<String>,

    /// Who gets the next connection: least-connections, round-robin, sticky, shared, reuseport
    #[arg(long, value_name = "POLICY", help_heading = SOCKETS)]
    pub(crate) policy: Option<String>,

    /// Bind this and pass it to the workers by LISTEN_FDS (repeatable)
    #[arg(long, value_name = "ADDR", help_heading = SOCKETS)]
    pub(crate) listen: Vec<String>,

    /// Whether the workers get Node's channel: auto, node, none
    #[arg(long, value_name = "WHO", help_heading = SOCKETS)]
    pub(crate) channel: Option<String>,

    /// It is not started together with the daemon; `start` only adds it to the list
    #[arg(long, alias = "no_autostart", help_heading = LIFE)]
    pub(crate) no_autostart: bool,

    /// From the request to stop until a worker is killed: 1500 (ms), 5s
    #[arg(
        short,
        long,
        value_name = "TIME",
        alias = "kill_timeout",
        allow_negative_numbers = true
    )]
    #[arg(help_heading = LIFE)]
    pub(crate) kill_timeout: Option<String>,

    /// Signal that asks a worker to stop
    #[arg(long, value_name = "SIGNAL", alias = "kill_signal", allow_negative_numbers = true, help_heading = LIFE)]
    pub(crate) kill_signal: Option<String>,

    /// Ask a Node worker to stop by the message 'shutdown'
    #[arg(long, alias = "shutdown_with_message", help_heading = LIFE)]
    pub(crate) shutdown_with_message: bool,

    /// A worker is ready when it sends the message 'ready'
    #[arg(long, alias = "wait_ready", help_heading = LIFE)]
    pub(crate) wait_ready: bool,

    /// How long a worker may take until it is ready
    #[arg(long, value_name = "TIME", alias = "listen_timeout", allow_negative_numbers = true, help_heading = LIFE)]
    pub(crate) listen_timeout: Option<String>,

    /// Write the pid here
    #[arg(short, long = "pid", value_name = "FILE", aliases = ["pid-file", "pid_file"])]
    #[arg(help_heading = LIFE, value_hint = ValueHint::FilePath)]
    pub(crate) pid_file: Option<PathBuf>,

    /// Dead workers stay dead
    #[arg(long, alias = "no_autorestart", help_heading = RESTART)]
    pub(crate) no_autorestart: bool,

    /// Which workers are started again: always, on-failure, never
    #[arg(long, value_name = "WHEN", help_heading = RESTART)]
    pub(crate) restart: Option<String>,

    /// A worker that ends with one of these codes is not started again: 0,3
    #[arg(long, value_name = "CODES", alias = "stop_exit_codes", value_delimiter = ',', action = ArgAction::Append)]
    #[arg(help_heading = RESTART)]
    pub(crate) stop_exit_codes: Vec<String>,

    /// Waited before every restart
    #[arg(long, value_name = "TIME", alias = "restart_delay", allow_negative_numbers = true, help_heading = RESTART)]
    pub(crate) restart_delay: Option<String>,

    /// The first delay after repeated early deaths
    #[arg(
        long,
        value_name = "TIME",
        alias = "exp_backoff_restart_delay",
        allow_negative_numbers = true
    )]
    #[arg(help_heading = RESTART)]
    pub(crate) exp_backoff_restart_delay: Option<String>,

    /// So many early deaths in a row, and the app has failed
    #[arg(long, value_name = "N", alias = "max_restarts", allow_negative_numbers = true, help_heading = RESTART)]
    pub(crate) max_restarts: Option<String>,

    /// Until then a death is an early one
    #[arg(long, value_name = "TIME", alias = "min_uptime", allow_negative_numbers = true, help_heading = RESTART)]
    pub(crate) min_uptime: Option<String>,

    /// A worker that uses more memory is replaced, without a gap: 300M
    #[arg(
        long,
        value_name = "SIZE",
        alias = "max_memory_restart",
        allow_negative_numbers = true
    )]
    #[arg(help_heading = RESTART)]
    pub(crate) max_memory_restart: Option<String>,

    /// A worker that is older is replaced, without a gap
    #[arg(long, value_name = "TIME", alias = "max_age", allow_negative_numbers = true, help_heading = RESTART)]
    pub(crate) max_age: Option<String>,

    /// Reload at these times: "0 3 * * *"; 0 for never
    #[arg(short = 'c', long, value_name = "EXPR", aliases = ["cron_restart", "cron"], help_heading = TRIGGERS)]
    pub(crate) cron_restart: Option<String>,

    /// It is a job: started at these times
    #[arg(long, value_name = "EXPR", help_heading = TRIGGERS)]
    pub(crate) schedule: Option<String>,

    /// Time zone of both
    #[arg(long, value_name = "NAME", aliases = ["time-zone", "time_zone"], help_heading = TRIGGERS)]
    pub(crate) timezone: Option<String>,

    /// Reload when files change: --watch for the app's directory, --watch=src,config for others in it
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    #[arg(default_missing_value = ".", help_heading = TRIGGERS, value_hint = ValueHint::AnyPath)]
    pub(crate) watch: Vec<PathBuf>,

    /// Changes do not reload it
    #[arg(long, conflicts_with = "watch", help_heading = TRIGGERS)]
    pub(crate) no_watch: bool,

    /// What --watch shall not see (repeatable)
    #[arg(long, value_name = "GLOB", alias = "ignore_watch", help_heading = TRIGGERS)]
    pub(crate) ignore_watch: Vec<String>,

    /// Quiet time before the reload: 500 (ms), 2s
    #[arg(long, value_name = "TIME", alias = "watch_delay", allow_negative_numbers = true, help_heading = TRIGGERS)]
    pub(crate) watch_delay: Option<String>,

    /// Spares
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) spare: Option<String>,

    /// New workers that may be there beside the old ones: 1, 50%
    #[arg(long, value_name = "N|%", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) surge: Option<String>,

    /// Workers that may be missing in a reload
    #[arg(long, value_name = "N|%", alias = "max_unavailable", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) max_unavailable: Option<String>,

    /// How long the first new worker must stay well
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) canary: Option<String>,

    /// How long an old worker may go on with its connections
    #[arg(long, value_name = "TIME", alias = "drain_timeout", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) drain_timeout: Option<String>,

    /// Old generations that may still drain
    #[arg(long, value_name = "N", alias = "max_draining", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) max_draining: Option<String>,

    /// A worker is ready when: listening, message, notify, tcp, http=/PATH, uptime=TIME (repeatable)
    #[arg(long, value_name = "SIGN", help_heading = HEALTH)]
    pub(crate) ready: Vec<String>,

    /// Probe each worker: http=/PATH, tcp or exec="COMMAND"
    #[arg(long, value_name = "PROBE", help_heading = HEALTH)]
    pub(crate) health: Option<String>,

    /// Between probes
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, help_heading = HEALTH)]
    pub(crate) health_interval: Option<String>,

    /// Of one probe
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, help_heading = HEALTH)]
    pub(crate) health_timeout: Option<String>,

    /// Failed probes in a row
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = HEALTH)]
    pub(crate) health_failures: Option<String>,

    /// A worker sends WATCHDOG=1 this often
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, help_heading = HEALTH)]
    pub(crate) watchdog: Option<String>,

    /// A Node worker does not answer to a connection for this long
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, help_heading = HEALTH)]
    pub(crate) stuck_timeout: Option<String>,

    #[command(flatten)]
    pub(crate) limits: LimitsArgs,

    /// File of standard output; /dev/null for none [default: in $EVERUP_HOME/logs]
    #[arg(short, long = "output", value_name = "FILE", aliases = ["out-file", "out_file", "out"])]
    #[arg(help_heading = LOGS, value_hint = ValueHint::FilePath)]
    pub(crate) out_file: Option<PathBuf>,

    /// File of standard error
    #[arg(short, long = "error", value_name = "FILE", aliases = ["error-file", "error_file"])]
    #[arg(help_heading = LOGS, value_hint = ValueHint::FilePath)]
    pub(crate) error_file: Option<PathBuf>,

    /// File of both
    #[arg(short, long = "log", value_name = "FILE", aliases = ["log-file", "log_file"])]
    #[arg(help_heading = LOGS, value_hint = ValueHint::FilePath)]
    pub(crate) log_file: Option<PathBuf>,

    /// One file for all workers
    #[arg(long, alias = "merge_logs", help_heading = LOGS)]
    pub(crate) merge_logs: bool,

    /// The time before each line: the same as --log-date-format YYYY-MM-DDTHH:mm:ss
    #[arg(long, help_heading = LOGS, conflicts_with = "log_date_format")]
    pub(crate) time: bool,

    /// The time before each line: "YYYY-MM-DD HH:mm:ss Z"
    #[arg(long, value_name = "FORMAT", alias = "log_date_format", help_heading = LOGS)]
    pub(crate) log_date_format: Option<String>,

    /// raw, or json: an object per line
    #[arg(long, value_name = "TYPE", alias = "log_type", help_heading = LOGS)]
    pub(crate) log_type: Option<String>,

    /// What it writes is not kept
    #[arg(long, alias = "disable_logs", help_heading = LOGS)]
    pub(crate) disable_logs: bool,

    #[command(flatten)]
    pub(crate) unused: Pm2Args,
}

/// Flags of pm2's that are taken and mean nothing here: `docs/pm2-compat.md` says why for each.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Pm2Args {
    #[arg(long, hide = true)]
    pub(crate) no_treekill: bool,
    #[arg(long, hide = true)]
    pub(crate) no_pmx: bool,
    #[arg(long, hide = true)]
    pub(crate) no_automation: bool,
    #[arg(long, hide = true)]
    pub(crate) no_vizion: bool,
    #[arg(long, hide = true)]
    pub(crate) source_map_support: bool,
    #[arg(long, hide = true)]
    pub(crate) disable_source_map_support: bool,
    #[arg(long, hide = true)]
    pub(crate) trace: bool,
    #[arg(long, hide = true)]
    pub(crate) disable_trace: bool,
    #[arg(long, hide = true)]
    pub(crate) v8: bool,
    #[arg(long, hide = true)]
    pub(crate) event_loop_inspector: bool,
    #[arg(long, hide = true)]
    pub(crate) deep_monitoring: bool,
    #[arg(long, hide = true)]
    pub(crate) ext: Option<String>,
    #[arg(short, long, hide = true)]
    pub(crate) write: bool,
}

impl Pm2Args {
    /// The flags that were given, by their name.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        [
            (self.no_treekill, "--no-treekill"),
            (self.no_pmx, "--no-pmx"),
            (self.no_automation, "--no-automation"),
            (self.no_vizion, "--no-vizion"),
            (self.source_map_support, "--source-map-support"),
            (self.disable_source_map_support, "--disable-source-map-support"),
            (self.trace, "--trace"),
            (self.disable_trace, "--disable-trace"),
            (self.v8, "--v8"),
            (self.event_loop_inspector, "--event-loop-inspector"),
            (self.deep_monitoring, "--deep-monitoring"),
            (self.ext.is_some(), "--ext"),
            (self.write, "--write"),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect()
    }
}

/// `--exec-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Workers of Node's `cluster`
    #[value(alias = "cluster_mode")]
    Cluster,
    /// A process with a channel for messages
    #[value(alias = "fork_mode")]
    Fork,
}
