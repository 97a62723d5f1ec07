//! The verbs that talk to the daemon. With `--control` (or `EVERUP_CONTROL`) some of them talk to an `everup run`
//! instead: [`super::control`].

use super::app::AppArgs;
use clap::{Args, Subcommand, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

const ANSWER: &str = "Answer";

/// See the module's documentation.
#[derive(Debug, Subcommand)]
pub(crate) enum ManageVerb {
    /// Start apps: scripts, programs, shell lines, configuration files, or apps of the list
    #[command(after_help = START)]
    Start(Box<StartArgs>),
    /// Stop workers and start them again; options given are changed
    #[command(after_help = RESTART, aliases = ["startOrRestart"])]
    Restart(Box<RestartArgs>),
    /// Replace workers without losing a request; options given are changed
    #[command(after_help = RELOAD, aliases = ["startOrReload", "startOrGracefulReload", "gracefulReload", "softReload"])]
    Reload(Box<RestartArgs>),
    /// Stop apps; they stay in the list
    #[command(after_help = "Examples:\n  everup stop web\n  everup stop all\n  everup stop /^api-/ 3")]
    Stop(StopArgs),
    /// Stop apps and take them from the list
    #[command(
        alias = "del",
        after_help = "Examples:\n  everup delete web\n  everup delete all"
    )]
    Delete(StopArgs),
    /// Have more or fewer workers
    #[command(
        after_help = "Examples:\n  everup scale web 4\n  everup scale web +1\n  everup scale web -1\n  everup scale web max"
    )]
    Scale(ScaleArgs),
    /// Show all apps and their workers
    #[command(visible_aliases = ["ls", "ps", "status"], alias = "l", after_help = LIST)]
    List(ListArgs),
    /// Print all that is known as JSON, in pm2's form
    #[command(after_help = "Example:\n  everup jlist | jq '.[].pm2_env.status'")]
    Jlist(PlainArgs),
    /// The same as a JavaScript literal, as pm2 does
    #[command(after_help = "Example:\n  everup prettylist")]
    Prettylist(PlainArgs),
    /// Show everything about an app
    #[command(visible_aliases = ["show", "info"], alias = "desc", after_help = "Examples:\n  everup describe web\n  everup show 0 --json")]
    Describe(TargetArgs),
    /// Empty the log files
    #[command(after_help = "Examples:\n  everup flush\n  everup flush web")]
    Flush(TargetsArgs),
    /// Have the log files opened anew, after they were moved
    #[command(
        name = "reloadLogs",
        visible_alias = "reopen",
        after_help = "Example:\n  mv web-out.log web-out.log.1 && everup reloadLogs"
    )]
    ReloadLogs(TargetsArgs),
    /// Watch the list, until interrupted
    #[command(visible_alias = "top", aliases = ["dashboard", "dash", "imonit"], after_help = "Examples:\n  everup monit\n  everup top --sort cpu:desc")]
    Monit(ListArgs),
    /// Print the variables of an app's workers
    #[command(after_help = "Examples:\n  everup env web\n  everup env 0 --reveal")]
    Env(EnvArgs),
    /// Print the ids of an app's workers
    #[command(after_help = "Example:\n  everup id web")]
    Id(NameArgs),
    /// Print the pids of an app's workers
    #[command(after_help = "Examples:\n  everup pid web\n  everup pid")]
    Pid(NameArgs),
    /// Say whether the daemon answers
    #[command(after_help = "Example:\n  everup ping")]
    Ping(PlainArgs),
    /// Stop all apps and the daemon
    #[command(after_help = "Example:\n  everup kill")]
    Kill(PlainArgs),
    /// Write the list, with the variables that were inherited, for `resurrect`
    #[command(
        alias = "dump",
        after_help = "Examples:\n  everup save\n  everup save --force"
    )]
    Save(ForceArgs),
    /// Start what was saved
    #[command(after_help = "Example:\n  everup resurrect")]
    Resurrect(PlainArgs),
    /// Send a signal to workers
    #[command(
        name = "sendSignal",
        visible_alias = "signal",
        after_help = "Examples:\n  everup sendSignal SIGUSR2 web\n  everup signal HUP all"
    )]
    SendSignal(SignalArgs),
    /// Have an app do an action that it offers (pm2's `axm` protocol)
    #[command(after_help = "Example:\n  everup trigger web km:heapdump")]
    Trigger(TriggerArgs),
    /// Write a line to the standard input of a worker
    #[command(after_help = "Example:\n  everup send 0 \"hello\"")]
    Send(SendArgs),
    /// Follow what an app writes, and send lines to it
    #[command(after_help = "Example:\n  everup attach 0")]
    Attach(AttachArgs),
    /// Set the counters of restarts to 0
    #[command(after_help = "Example:\n  everup reset all")]
    Reset(TargetsArgs),
    /// Replace the daemon by this version of everup; apps go on
    #[command(
        visible_alias = "update",
        alias = "updatePM2",
        after_help = "Example:\n  everup upgrade"
    )]
    Upgrade(UpgradeArgs),
    /// Follow what happens
    #[command(
        after_help = "Examples:\n  everup events\n  everup events --json --after 0\n  everup events web"
    )]
    Events(EventsArgs),
    /// Say why workers ended and what reloads came to
    #[command(after_help = "Examples:\n  everup why web\n  everup why web -n 1")]
    Why(WhyArgs),
    /// Give up the reload that is going on; the old workers stay
    #[command(after_help = "Example:\n  everup abort web")]
    Abort(TargetsArgs),
    /// Start a scheduled job now
    #[command(after_help = "Example:\n  everup launch nightly")]
    Launch(TargetsArgs),
    /// Show what `apply` would do: which settings differ, and which apps it touches
    #[command(visible_alias = "diff", after_help = PLAN)]
    Plan(ApplyArgs),
    /// Make apps what a file says: by reload, without losing a request; what is gone from the file goes
    #[command(after_help = APPLY)]
    Apply(ApplyArgs),
}

const PLAN: &str = "Examples:
  everup plan
  everup plan ecosystem.config.js --env production
  everup plan --json | jq '.steps[] | select(.action != \"nothing\")'";
const APPLY: &str = "Examples:
  everup apply
  everup apply ecosystem.config.js --env production
  everup apply --only api --update-env";
const START: &str = "Examples:
  everup start app.js -i max                 a Node app on every core
  everup start server.js -n api -- --port 1  with a name and arguments of its own
  everup start \"python3 -m http.server\"      a command line
  everup start ecosystem.config.js --only api --env production
  everup start api                           an app of the list";
const RESTART: &str = "Examples:
  everup restart web
  everup restart all --update-env            with the variables of this shell
  everup restart web --max-memory-restart 300M
  everup restart ecosystem.config.js";
const RELOAD: &str = "Examples:
  everup reload web
  everup reload web -i 8                     and with 8 workers from now on
  everup reload ecosystem.config.js --env production";
const LIST: &str = "Examples:
  everup list
  everup ls --app web                        all workers of one app
  everup ls --sort memory:desc
  everup ls --json | jq '.apps[].state'";

/// How to tell.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AnswerArgs {
    /// Print the answer as JSON
    #[arg(long, help_heading = ANSWER)]
    pub(crate) json: bool,

    /// Print nothing but errors
    #[arg(short, long, help_heading = ANSWER)]
    pub(crate) silent: bool,

    /// No colours
    #[arg(long, help_heading = ANSWER)]
    pub(crate) no_color: bool,

    /// How long to wait for the answer; 0 is for ever
    #[arg(long, value_name = "TIME", help_heading = ANSWER, allow_negative_numbers = true)]
    pub(crate) timeout: Option<String>,

    /// Ask an `everup run` at this control socket instead of the daemon [env: EVERUP_CONTROL]
    #[arg(long, value_name = "PATH", help_heading = ANSWER, value_hint = ValueHint::FilePath)]
    pub(crate) control: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

/// How the list is shown.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TableArgs {
    /// By id, name, state, uptime, cpu, memory, restarts, connections or pid, and `:desc` [default: name]
    #[arg(long, value_name = "FIELD[:desc]", help_heading = ANSWER)]
    pub(crate) sort: Option<String>,

    /// The list without a table
    #[arg(short, long, alias = "mini", help_heading = ANSWER)]
    pub(crate) mini_list: bool,
}

/// `everup start`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StartArgs {
    /// A script, a program, a command line in quotes, a file (`-`: JSON from standard input), or apps of the list
    #[arg(value_name = "SCRIPT|FILE|NAME", value_hint = ValueHint::AnyPath)]
    pub(crate) what: Vec<OsString>,

    /// Arguments of the app, after `--`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,

    /// Start it once more, though it is there
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Answer when it is ready, and not when it is started
    #[arg(long)]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) app: AppArgs,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// How a file is read.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FileArgs {
    /// Only these apps of the file: a,b
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Evaluate the file with the `node` of this machine
    #[arg(long)]
    pub(crate) node: bool,

    /// Take the variables of this shell, and not those of the start
    #[arg(short = 'a', long, alias = "update_env")]
    pub(crate) update_env: bool,

    /// How many apps at a time
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<u32>,

    /// Follow the logs after it
    #[arg(long)]
    pub(crate) attach: bool,

    /// Run the daemon here, in the foreground, and end with it
    #[arg(long)]
    pub(crate) no_daemon: bool,
}

/// `everup restart`, `everup reload`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RestartArgs {
    /// Names, namespaces, ids, /regex/, `all`, or a file (`-`: JSON from standard input)
    #[arg(value_name = "TARGET|FILE")]
    pub(crate) targets: Vec<OsString>,

    /// New arguments of the app, after `--`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,

    /// Taken for pm2's sake: two reloads never get in each other's way
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) app: AppArgs,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup stop`, `everup delete`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StopArgs {
    /// Names, namespaces, ids, /regex/, `all`, or a file (`-`: JSON from standard input)
    #[arg(value_name = "TARGET|FILE", required = true)]
    pub(crate) targets: Vec<OsString>,

    /// Kill the workers instead of asking them
    #[arg(long)]
    pub(crate) now: bool,

    /// Only these apps of the file: a,b
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Taken for pm2's sake: a stopped app is not watched
    #[arg(long, hide = true)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup scale`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScaleArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub(crate) target: String,

    /// How many workers, or how many more or fewer
    #[arg(value_name = "N|+N|-N|max", allow_negative_numbers = true)]
    pub(crate) workers: String,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup list`, `everup monit`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListArgs {
    /// Only these: names, namespaces, ids, /regex/
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,

    /// All workers of this app, however many
    #[arg(long, value_name = "APP")]
    pub(crate) app: Option<String>,

    /// Refresh until interrupted
    #[arg(long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// A verb without arguments of its own.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PlainArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// One target.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// Name or id
    #[arg(value_name = "APP")]
    pub(crate) target: String,

    /// Show values that look secret
    #[arg(long)]
    pub(crate) reveal: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// Any targets, or all.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TargetsArgs {
    /// Names, namespaces, ids, /regex/, `all`
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup id`, `everup pid`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NameArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup env`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnvArgs {
    /// Name or id
    #[arg(value_name = "APP")]
    pub(crate) target: String,

    /// Show values that look secret
    #[arg(long)]
    pub(crate) reveal: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup save`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ForceArgs {
    /// Save an empty list
    #[arg(short, long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup sendSignal`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SignalArgs {
    /// Its name or number: USR2, SIGHUP, 12
    #[arg(value_name = "SIGNAL", allow_negative_numbers = true)]
    pub(crate) signal: String,

    /// Names, namespaces, ids, /regex/, `all`
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<String>,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup trigger`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TriggerArgs {
    /// Name, namespace, id or `all`
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    /// The action's name
    #[arg(value_name = "ACTION")]
    pub(crate) action: String,

    /// Its parameter
    #[arg(value_name = "PARAM")]
    pub(crate) param: Option<String>,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup send`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SendArgs {
    /// Its id
    #[arg(value_name = "ID")]
    pub(crate) target: String,

    /// What it shall read
    #[arg(value_name = "LINE")]
    pub(crate) line: String,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup attach`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AttachArgs {
    /// Its id
    #[arg(value_name = "ID")]
    pub(crate) target: String,

    /// What is put between lines
    #[arg(value_name = "SEPARATOR", hide = true)]
    pub(crate) separator: Option<String>,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup upgrade`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct UpgradeArgs {
    /// The new binary [default: this one]
    #[arg(value_name = "PROGRAM", value_hint = ValueHint::FilePath)]
    pub(crate) program: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup events`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EventsArgs {
    /// Of these apps only
    #[arg(value_name = "APP")]
    pub(crate) apps: Vec<String>,

    /// Those after this number first, as far as they are still known
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<u64>,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup plan`, `everup apply`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ApplyArgs {
    /// The file (`-`: JSON from standard input) [default: everup.toml or ecosystem.config.js of this folder]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<String>,

    /// Lay `env_NAME` of the file over `env`
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,

    /// Only these apps of the file: a,b; no other is touched
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Evaluate the file with the `node` of this machine
    #[arg(long)]
    pub(crate) node: bool,

    /// Take the variables of this shell, and not those of the start
    #[arg(short = 'a', long, alias = "update_env")]
    pub(crate) update_env: bool,

    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// `everup why`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhyArgs {
    /// Names, namespaces, ids, /regex/ [default: all]
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,

    /// How many exits at most, the newest first
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        default_value = "5",
        allow_negative_numbers = true
    )]
    pub(crate) limit: u32,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

impl ManageVerb {
    /// How to tell.
    pub(crate) fn answer(&self) -> &AnswerArgs {
        match self {
            Self::Start(args) => &args.answer,
            Self::Restart(args) | Self::Reload(args) => &args.answer,
            Self::Stop(args) | Self::Delete(args) => &args.answer,
            Self::Scale(args) => &args.answer,
            Self::List(args) | Self::Monit(args) => &args.answer,
            Self::Jlist(args)
            | Self::Prettylist(args)
            | Self::Ping(args)
            | Self::Kill(args)
            | Self::Resurrect(args) => &args.answer,
            Self::Describe(args) => &args.answer,
            Self::Flush(args)
            | Self::ReloadLogs(args)
            | Self::Reset(args)
            | Self::Abort(args)
            | Self::Launch(args) => &args.answer,
            Self::Env(args) => &args.answer,
            Self::Id(args) | Self::Pid(args) => &args.answer,
            Self::Save(args) => &args.answer,
            Self::SendSignal(args) => &args.answer,
            Self::Trigger(args) => &args.answer,
            Self::Send(args) => &args.answer,
            Self::Attach(args) => &args.answer,
            Self::Upgrade(args) => &args.answer,
            Self::Events(args) => &args.answer,
            Self::Why(args) => &args.answer,
            Self::Plan(args) | Self::Apply(args) => &args.answer,
        }
    }
}
