//! Options about readiness and health: raw values only. Their meaning is `plan::health`'s.

use clap::Args;

const HEALTH: &str = "Readiness and health";

/// How it is known that a worker serves.
#[derive(Debug, Clone, Args)]
pub(crate) struct HealthArgs {
    /// A worker is ready when: listening, message, notify, tcp, http=/PATH or uptime=TIME (repeatable: any of
    /// them) [default: what can be known of the app]
    #[arg(long, value_name = "SIGN", help_heading = HEALTH)]
    pub(crate) ready: Vec<String>,

    /// A worker is ready when it sends the message 'ready': --ready message
    #[arg(long, alias = "wait_ready", help_heading = HEALTH)]
    pub(crate) wait_ready: bool,

    /// Probe each worker, and replace it gracefully when it fails: http=/PATH, tcp or exec="COMMAND"
    #[arg(long, value_name = "PROBE", help_heading = HEALTH)]
    pub(crate) health: Option<String>,

    /// From one probe of a worker to the next [default: 10s]
    #[arg(long, value_name = "TIME", requires = "health", help_heading = HEALTH)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) health_interval: Option<String>,

    /// A probe that is not answered within this time has failed [default: 2s]
    #[arg(long, value_name = "TIME", requires = "health", help_heading = HEALTH)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) health_timeout: Option<String>,

    /// So many failed probes in a row are too many [default: 3]
    #[arg(long, value_name = "N", requires = "health", help_heading = HEALTH)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) health_failures: Option<String>,

    /// Replace a worker that does not send WATCHDOG=1 to NOTIFY_SOCKET this often; 0 is off [default: off]
    #[arg(long, value_name = "TIME", help_heading = HEALTH, allow_negative_numbers = true)]
    pub(crate) watchdog: Option<String>,

    /// Replace a Node worker that does not answer to a connection for this long; 0 is off
    #[arg(long, value_name = "TIME", default_value = "30s", help_heading = HEALTH)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) stuck_timeout: String,
}
