//! Options about restarts, reloads and what is kept in reserve.

use clap::{Args, ValueEnum};

const RESTART: &str = "Restarts";
const RELOAD: &str = "Reload and scale";

/// See the module's documentation.
#[derive(Debug, Clone, Args)]
pub(crate) struct SupervisionArgs {
    /// Which workers are started again when they end by themselves
    #[arg(long, value_enum, value_name = "WHEN", default_value = "always", help_heading = RESTART)]
    pub(crate) restart: RestartArg,

    /// The same as --restart never
    #[arg(long, alias = "no_autorestart", conflicts_with = "restart", hide = true)]
    pub(crate) no_autorestart: bool,

    /// A worker that ends with one of these codes is not started again: 0,3 (repeatable)
    #[arg(long, value_name = "CODES", aliases = ["stop_exit_codes"], value_delimiter = ',', help_heading = RESTART)]
    pub(crate) stop_exit_codes: Vec<String>,

    /// Waited before every restart [default: none]
    #[arg(long, value_name = "TIME", alias = "restart_delay", help_heading = RESTART)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) restart_delay: Option<String>,

    /// The first delay after repeated early deaths; it doubles, up to 15 s [default: 100ms]
    #[arg(long, value_name = "TIME", alias = "exp_backoff_restart_delay", help_heading = RESTART)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) exp_backoff_restart_delay: Option<String>,

    /// So many early deaths in a row of every slot, with nobody left, and the app has failed
    #[arg(long, value_name = "N", default_value = "5", alias = "max_restarts", help_heading = RESTART)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) max_restarts: String,

    /// A death is an early one until a worker has served somebody or been ready for so long
    #[arg(long, value_name = "TIME", default_value = "1s", alias = "min_uptime", help_heading = RESTART)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) min_uptime: String,

    /// A worker whose processes use more memory is replaced, without a gap: 300M, 1G
    #[arg(long, value_name = "SIZE", alias = "max_memory_restart", help_heading = RESTART)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) max_memory_restart: Option<String>,

    /// A worker that is older is replaced, without a gap
    #[arg(long, value_name = "TIME", alias = "max_age", help_heading = RESTART)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) max_age: Option<String>,

    /// So many workers more, ready and out of the rotation: each takes a dead worker's place at once
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) spare: String,

    /// In a reload, so many new workers may be there beside the old ones: 1, 50%, 100%
    #[arg(long, value_name = "N|%", default_value = "1", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) surge: String,

    /// In a reload, so many workers may be missing; with --surge 0 at least one is
    #[arg(long, value_name = "N|%", default_value = "0", alias = "max_unavailable", help_heading = RELOAD)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) max_unavailable: String,

    /// In a reload, the first new worker must stay well for so long until the others follow
    #[arg(long, value_name = "TIME", default_value = "1s", allow_negative_numbers = true, help_heading = RELOAD)]
    pub(crate) canary: String,

    /// How long a worker that is replaced may go on with its connections, before the --kill-timeout
    #[arg(long, value_name = "TIME", default_value = "30s", alias = "drain_timeout", help_heading = RELOAD)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) drain_timeout: String,

    /// So many old generations may still be draining; older ones have to hurry
    #[arg(long, value_name = "N", default_value = "2", alias = "max_draining", help_heading = RELOAD)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) max_draining: String,
}

/// `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestartArg {
    /// All of them
    Always,
    /// Those that end with another code than 0
    OnFailure,
    /// None
    Never,
}
