//! The options of `logs`: pm2's, and what they mean there.

use clap::Args;

pub(crate) const EXAMPLES: &str = "Examples:
  everup logs                       all apps, the last 15 lines of each file, then new lines
  everup logs web --lines 100 --err
  everup logs 0 --nostream --raw | grep ERROR
  everup logs web --json | jq -r .message";

/// `everup logs`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LogsArgs {
    /// A name, an id, a namespace, /regex/, or `all`; `everup` is the daemon's own log
    #[arg(value_name = "TARGET", default_value = "all", hide_default_value = true)]
    pub(crate) target: String,

    /// How many of the last lines of each file
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 15,
        allow_negative_numbers = true
    )]
    pub(crate) lines: i64,

    /// Only what is there; do not wait for more
    #[arg(long)]
    pub(crate) nostream: bool,

    /// Wait for more (it does in any case)
    #[arg(short, long, conflicts_with = "nostream")]
    pub(crate) follow: bool,

    /// The lines as they are: no prefix, no header, escape sequences included; standard error to standard error
    #[arg(long)]
    pub(crate) raw: bool,

    /// Only standard error
    #[arg(long, conflicts_with = "out")]
    pub(crate) err: bool,

    /// Only standard output
    #[arg(long)]
    pub(crate) out: bool,

    /// An object per line
    #[arg(long)]
    pub(crate) json: bool,

    /// `app=web id=0 type=out message=…`
    #[arg(long)]
    pub(crate) format: bool,

    /// The time in front of new lines, in dayjs' notation
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        default_missing_value = "YYYY-MM-DD-HH:mm:ss",
        require_equals = false
    )]
    pub(crate) timestamp: Option<String>,

    /// Show this text with a background
    #[arg(long, value_name = "TEXT")]
    pub(crate) highlight: Option<String>,
}
