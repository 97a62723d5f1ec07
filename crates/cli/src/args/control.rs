//! The control socket on the command line: the option of `run`, and the verbs that talk to a running everup.

use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

const LIFE: &str = "Start and stop";
const CONNECTION: &str = "Control socket";

/// The option of `everup run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControlArgs {
    /// Answer `everup status`, `reload`, `why`, … at this UNIX socket
    #[arg(long, value_name = "PATH", help_heading = LIFE, value_hint = ValueHint::FilePath)]
    pub(crate) control: Option<PathBuf>,
}

/// Verbs that talk to a running everup.
#[derive(Debug, Subcommand)]
pub(crate) enum ControlVerb {
    /// Show a running app and its workers
    Status(PlainArgs),
    /// Say why workers ended and what reloads came to
    Why(WhyArgs),
    /// Replace all workers of a running app without losing a request
    ///
    /// New workers start beside the old ones and take their place when they are ready. If they do not get that far,
    /// the old ones stay, and the exit code is 8. Interrupting this command does not end the reload: `everup abort`
    /// does.
    Reload(PlainArgs),
    /// Give up the reload that is going on; the old workers stay
    Abort(PlainArgs),
    /// Have more or fewer workers
    Scale(ScaleArgs),
    /// Stop all workers of a running app, then start new ones
    Restart(PlainArgs),
    /// End a running app and its everup
    Stop(StopArgs),
    /// Have the log files opened anew, after they were moved
    #[command(alias = "reloadLogs")]
    Reopen(PlainArgs),
    /// Send a signal to the workers
    #[command(alias = "sendSignal")]
    Signal(SignalArgs),
    /// Start the scheduled job now
    Launch(PlainArgs),
    /// Say whether an everup answers
    Ping(PlainArgs),
}

impl ControlVerb {
    /// Where it asks, and how it tells.
    pub(crate) fn ask(&self) -> &AskArgs {
        match self {
            Self::Status(args)
            | Self::Reload(args)
            | Self::Abort(args)
            | Self::Restart(args)
            | Self::Reopen(args)
            | Self::Launch(args)
            | Self::Ping(args) => &args.ask,
            Self::Why(args) => &args.ask,
            Self::Scale(args) => &args.ask,
            Self::Stop(args) => &args.ask,
            Self::Signal(args) => &args.ask,
        }
    }
}

/// Where to ask, and how to tell.
#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Control socket of the running everup [env: EVERUP_CONTROL]
    #[arg(long, value_name = "PATH", help_heading = CONNECTION, value_hint = ValueHint::FilePath)]
    pub(crate) control: Option<PathBuf>,

    /// Print the answer as JSON, as it came
    #[arg(long, help_heading = CONNECTION)]
    pub(crate) json: bool,

    /// How long to wait for the answer, 0 for ever [default: 10s; reload, restart, scale: for ever]
    #[arg(long, value_name = "TIME", help_heading = CONNECTION, allow_negative_numbers = true)]
    pub(crate) timeout: Option<String>,
}

/// A verb without arguments of its own.
#[derive(Debug, Args)]
pub(crate) struct PlainArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// `everup why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Of this worker only
    #[arg(value_name = "WORKER", allow_negative_numbers = true)]
    pub(crate) worker: Option<u32>,

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
    pub(crate) ask: AskArgs,
}

/// `everup scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// How many workers, or how many more or fewer
    #[arg(value_name = "N|+N|-N", allow_negative_numbers = true)]
    pub(crate) workers: String,

    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// `everup stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Kill the workers, and all that they have started, instead of asking them
    #[arg(long)]
    pub(crate) now: bool,

    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// `everup signal`.
#[derive(Debug, Args)]
pub(crate) struct SignalArgs {
    /// Its name or number: USR2, SIGHUP, 12
    #[arg(value_name = "SIGNAL", allow_negative_numbers = true)]
    pub(crate) signal: String,

    /// To this worker only
    #[arg(long, short, value_name = "WORKER", allow_negative_numbers = true)]
    pub(crate) worker: Option<u32>,

    #[command(flatten)]
    pub(crate) ask: AskArgs,
}
