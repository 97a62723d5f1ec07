//! The daemon's control API, version 1: HTTP/JSON on a UNIX socket.
//!
//! `$EVERUP_HOME/everup.sock` ([`SOCKET`]). Reading calls are `GET`, all others `POST /v1/VERB` with a JSON object as
//! body. An answer that takes its time is a stream of JSON lines (`application/x-ndjson`), each a
//! [`Reply`](crate::Reply): progress first, then exactly one `ok` or `error`; every other answer is one such object
//! (`{"ok":…}` or `{"error":…}`), with the HTTP status of its [`ErrorCode`](crate::ErrorCode). Events are server-sent
//! events, with their sequence number as `id`; `Last-Event-ID` resumes.
//!
//! | call | request | answer |
//! |---|---|---|
//! | `GET /v1/ping` | | [`Pong`] |
//! | `GET /v1/list?target=…` | | [`List`] |
//! | `GET /v1/why?target=…&limit=…` | | `Vec<`[`Why`](crate::Why)`>` |
//! | `GET /v1/env?target=…&reveal=1` | | [`Environment`] |
//! | `GET /v1/events?after=…` | | stream of [`Event`] |
//! | `GET /v1/audit?limit=…` | | `Vec<`[`AuditEntry`]`>` |
//! | `POST /v1/start` | [`Start`] | stream, [`Done`] |
//! | `POST /v1/plan` | [`Apply`] | [`Plan`] |
//! | `POST /v1/apply` | [`Apply`] | stream, [`Done`] |
//! | `POST /v1/restart`, `reload`, `stop`, `delete`, `reset`, `abort`, `launch` | [`On`] | stream, [`Done`] |
//! | `POST /v1/scale` | [`Scale`] | stream, [`Done`] |
//! | `POST /v1/signal` | [`Signal`] | [`Done`] |
//! | `POST /v1/send` | [`Send`] | [`Done`] |
//! | `POST /v1/trigger` | [`Trigger`] | stream, [`Done`] |
//! | `POST /v1/reopen`, `flush` | [`On`] | [`Done`] |
//! | `POST /v1/save`, `resurrect` | [`Save`] | [`Done`] |
//! | `POST /v1/kill` | | stream, [`Done`]; the daemon ends after it |
//! | `POST /v1/upgrade` | [`Upgrade`] | [`Done`]; the daemon is replaced after it |

mod body;

pub use body::{explain, from_body, from_value};
mod client;

pub use client::{CallError, Client, Events};

use crate::{AppSpec, Error, Receipt, ReloadStatus, Role, WorkerState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The socket's name in `$EVERUP_HOME`.
pub const SOCKET: &str = "everup.sock";

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pong {
    /// The daemon.
    pub pid: u32,
    /// Its keeper.
    pub keeper_pid: u32,
    /// Its version.
    pub version: String,
    /// The version of the API: 1.
    pub protocol: u32,
    /// `$EVERUP_HOME`.
    pub home: PathBuf,
    /// Of this daemon process.
    pub uptime_ms: u64,
    /// How many daemons this keeper, and those before it that handed over to it, have had: 1 is the first.
    pub incarnation: u64,
    /// Why the last upgrade was taken back, if it was.
    #[serde(default)]
    pub fell_back: Option<String>,
}

/// All apps that were asked for, by the lowest id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct List {
    /// Them.
    pub apps: Vec<App>,
}

/// An app as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct App {
    /// As its owner describes it; secrets are redacted.
    pub spec: AppSpec,
    /// What it does.
    pub state: AppState,
    /// Its generation in service.
    pub generation: u64,
    /// How many workers it is to have.
    pub target: u32,
    /// Whether its `instances` were counted in CPUs, or named at all: pm2's `exec_mode` follows from it.
    pub clustered: bool,
    /// When it was first started: milliseconds since 1970.
    pub created_at: u64,
    /// The user whom its workers run as.
    pub user: String,
    /// The version in the nearest `package.json`.
    #[serde(default)]
    pub version: Option<String>,
    /// The program that runs it (`/usr/bin/node`), if it is an interpreter.
    #[serde(default)]
    pub interpreter: Option<String>,
    /// The absolute path of its script.
    #[serde(default)]
    pub script_path: Option<PathBuf>,
    /// Reload that is going on.
    #[serde(default)]
    pub reload: Option<ReloadStatus>,
    /// What came of the last one.
    #[serde(default)]
    pub last_reload: Option<Receipt>,
    /// Why it is in this state, in a sentence, if there is something to say: `exit code 1, 5 times within 3 s`.
    #[serde(default)]
    pub because: Option<String>,
    /// Its instances, by id: one for each slot, also while nobody runs there.
    pub instances: Vec<Instance>,
    /// Workers that are on their way out, or in: with the id of their slot.
    #[serde(default)]
    pub others: Vec<Instance>,
}

/// What an app does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AppState {
    /// Its workers are there, or on their way.
    Running,
    /// It waits until it starts its workers again.
    Backoff,
    /// It is being stopped.
    Stopping,
    /// It was stopped, or has ended as it should.
    Stopped,
    /// Its restart budget is spent, or it could not be started.
    Failed,
    /// A job that waits for its time.
    Scheduled,
    /// It waits for an app that it depends on.
    Waiting,
    /// A state of a later version.
    #[serde(other)]
    Other,
}

/// One place of an app, and who is there. What pm2 calls a process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Instance {
    /// pm2's `pm_id`: never given again until the list is empty.
    pub id: u32,
    /// The slot: `NODE_APP_INSTANCE`.
    pub slot: u32,
    /// The worker's process; `None` if nobody is there.
    pub pid: Option<u32>,
    /// The worker's number in its app.
    pub worker: Option<u32>,
    /// Its generation.
    pub generation: u64,
    /// What it is there for.
    pub role: Option<Role>,
    /// What it does.
    pub state: Option<WorkerState>,
    /// When it was started: milliseconds since 1970.
    pub started_at: Option<u64>,
    /// Since then.
    pub uptime_ms: u64,
    /// How often a worker was started here again, for whatever reason (pm2's `restart_time`).
    pub restarts: u64,
    /// How many of them after an early death.
    pub unstable_restarts: u64,
    /// Open connections, if they can be known.
    pub connections: Option<u64>,
    /// Connections that it got in its life.
    pub accepted: u64,
    /// Resident memory of the worker's process, in bytes.
    pub memory: Option<u64>,
    /// CPU time between the last two samples, in percent of one CPU.
    pub cpu: Option<f64>,
    /// How the last worker here ended.
    pub last_exit: Option<LastExit>,
    /// What it says of itself (`STATUS=`).
    pub status_text: Option<String>,
    /// `process.version`, if it told.
    pub node_version: Option<String>,
    /// pm2's `axm_*`: what it told by pm2's protocol.
    pub axm: BTreeMap<String, serde_json::Value>,
    /// Files of its output, as far as there are any.
    pub out_file: Option<PathBuf>,
    /// The same for standard error.
    pub error_file: Option<PathBuf>,
    /// The same for both together.
    pub log_file: Option<PathBuf>,
    /// Its pid file.
    pub pid_file: Option<PathBuf>,
}

/// How a worker ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct LastExit {
    /// Its exit code, if it had one.
    pub code: Option<i32>,
    /// The signal that ended it: `SIGKILL`.
    pub signal: Option<String>,
    /// When: milliseconds since 1970.
    pub at: u64,
    /// In a sentence.
    pub cause: String,
}

/// `start`: starts apps, or changes and restarts those that are there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Start {
    /// Apps by their description. One whose name is there already is stopped, changed and started.
    pub apps: Vec<AppSpec>,
    /// Apps that are there, by target: those that do not run are started, those that do are restarted.
    pub targets: Vec<String>,
    /// The caller's environment (docs/environment.md): passed on, kept in memory only.
    pub inherited: BTreeMap<String, String>,
    /// For `targets`: take `inherited` instead of what they have.
    pub update_env: bool,
    /// An error if the name is there already, instead of a restart.
    pub fresh: bool,
    /// pm2's `--force`: start it once more, under a name with a number, though it is there.
    pub force: bool,
    /// Answer when they are ready, and not when they are started.
    pub wait: bool,
    /// At the latest after so many milliseconds (an error) [default: 60 000].
    pub timeout_ms: Option<u64>,
}

/// Something is done to apps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct On {
    /// Which: names, ids, namespaces, `all`, `/regex/`, in pm2's order of meaning.
    pub targets: Vec<String>,
    /// New settings, laid over what they have (`restart`, `reload`): only the keys that are there.
    pub change: serde_json::Map<String, serde_json::Value>,
    /// The caller's environment, if `update_env`.
    pub inherited: BTreeMap<String, String>,
    /// Take `inherited`, and not what was inherited at the start.
    pub update_env: bool,
    /// `stop`: kill them.
    pub now: bool,
    /// How many at a time [default: all].
    pub parallel: Option<u32>,
    /// At the latest after so many milliseconds (an error) [default: 60 000].
    pub timeout_ms: Option<u64>,
}

/// `scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Which.
    pub target: String,
    /// `4`, `"+1"`, `"-1"`, `"max"`.
    pub workers: String,
    /// At the latest after so many milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// `signal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Which.
    pub targets: Vec<String>,
    /// `USR2`, `SIGUSR2`, `12`.
    pub signal: String,
}

/// `send`: a line to standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Which.
    pub target: String,
    /// What; a newline is added by the caller.
    pub text: String,
}

/// `trigger`: pm2's actions of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Which.
    pub targets: Vec<String>,
    /// The action's name.
    pub action: String,
    /// Its parameter.
    #[serde(default)]
    pub param: Option<String>,
    /// How long answers are waited for.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// `save`, `resurrect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Save {
    /// Save an empty list.
    pub force: bool,
}

/// `upgrade`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upgrade {
    /// The new binary [default: the caller's].
    pub program: Option<PathBuf>,
}

/// `plan`, `apply`: these apps, as they are described, and nothing else of the same origin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Apply {
    /// The file that they are from, absolute: apps that came from it before, and are not in it any more, go.
    pub origin: Option<PathBuf>,
    /// Them.
    pub apps: Vec<AppSpec>,
    /// As for [`Start`].
    pub inherited: BTreeMap<String, String>,
    /// Take `inherited` for apps that are there.
    pub update_env: bool,
    /// At the latest after so many milliseconds.
    pub timeout_ms: Option<u64>,
}

/// What `apply` would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
}

/// One app of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Step {
    /// Its name.
    pub app: String,
    /// What is done.
    pub action: StepAction,
    /// Which settings differ, values redacted.
    pub changes: Vec<Change>,
}

/// What is done to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepAction {
    /// It is new.
    Start,
    /// Its workers are replaced.
    Reload,
    /// It gets more or fewer workers.
    Scale,
    /// It changes without its workers.
    Update,
    /// It is stopped, and started with what it cannot change while it runs.
    Restart,
    /// It goes.
    Delete,
    /// It is as described.
    Nothing,
    /// An action of a later version.
    #[serde(other)]
    Other,
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// Its key: `env.PORT`, `instances`.
    pub key: String,
    /// What is there; `None` if nothing.
    pub from: Option<serde_json::Value>,
    /// What will be; `None` if nothing.
    pub to: Option<serde_json::Value>,
}

/// Something was done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Done {
    /// To each app. An app that failed does not keep the others from being tried.
    pub apps: Vec<DoneTo>,
    /// For people.
    pub notices: Vec<String>,
}

/// What came of it for one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DoneTo {
    /// Its name.
    pub app: String,
    /// The ids of its instances that were concerned.
    pub ids: Vec<u32>,
    /// What was done: `started`, `restarted`, `reloaded`, `stopped`, `deleted`, `nothing`, …
    pub done: String,
    /// What was not done.
    #[serde(default)]
    pub error: Option<Error>,
    /// Of a reload.
    #[serde(default)]
    pub receipt: Option<Receipt>,
}

/// Variables of an app's workers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Environment {
    /// Its app.
    pub app: String,
    /// From `env` and `env_file`: stored.
    pub stored: BTreeMap<String, String>,
    /// From whoever started it: in memory only, unless saved.
    pub inherited: BTreeMap<String, String>,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// Its number; each is one more than the one before, also over the daemon's death.
    pub seq: u64,
    /// When: milliseconds since 1970.
    pub at: u64,
    /// What: `start`, `online`, `ready`, `exit`, `restart`, `reload`, `stop`, `delete`, `scale`, `message`, `skipped`, …
    pub event: String,
    /// To which app.
    #[serde(default)]
    pub app: Option<String>,
    /// To which instance.
    #[serde(default)]
    pub id: Option<u32>,
    /// The rest, by kind.
    #[serde(default)]
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// A call that changed something, or wanted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuditEntry {
    /// When: RFC 3339, UTC.
    pub at: String,
    /// Who: uid, gid and pid of the caller.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process.
    pub pid: u32,
    /// The call: `stop`.
    pub call: String,
    /// On which targets or apps.
    pub targets: Vec<String>,
    /// `ok`, or the error's code.
    pub outcome: String,
}

/// What a caller may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Look.
    View,
    /// Start, stop and reload what is there.
    Operate,
    /// Everything: new apps run whatever they like as the daemon's user.
    Own,
}
