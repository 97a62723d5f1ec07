//! The options that say what a worker may use and who it is.

const LIMITS: &str = "Limits of each worker";

/// Raw values; their meaning is [`crate::limits`]'s.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LimitsArgs {
    /// User that the workers run as, a name or number, with all its groups and its HOME (everup stays who it is)
    #[arg(long, value_name = "USER", alias = "user", help_heading = LIMITS)]
    #[arg(value_hint = clap::ValueHint::Username)]
    pub(crate) uid: Option<String>,

    /// Group that the workers run as, a name or number [default: the user's]
    #[arg(long, value_name = "GROUP", help_heading = LIMITS)]
    pub(crate) gid: Option<String>,

    /// What is taken from the mode of new files, in octal: 027
    #[arg(long, value_name = "OCTAL", help_heading = LIMITS)]
    pub(crate) umask: Option<String>,

    /// Nice value: -20 (first) to 19 (last)
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = LIMITS)]
    pub(crate) nice: Option<String>,

    /// Resource limit, such as nofile=65536, core=0:unlimited, as=2G (repeatable)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = LIMITS)]
    pub(crate) rlimit: Vec<String>,

    /// CPUs: `auto` (one each, by slot) or a list for all workers: 0-3,5
    #[arg(long, value_name = "auto|LIST", alias = "cpu_affinity", help_heading = LIMITS)]
    pub(crate) cpu_affinity: Option<String>,

    /// Whom the kernel kills first when memory is short: -1000 (never) to 1000
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        alias = "oom_score_adj"
    )]
    #[arg(help_heading = LIMITS)]
    pub(crate) oom_score_adj: Option<String>,

    /// Workers and what they start never gain privileges (setuid programs run as the worker)
    #[arg(long, alias = "no_new_privs", help_heading = LIMITS)]
    pub(crate) no_new_privs: bool,

    /// Capability that the workers keep without being root: net_bind_service (repeatable, or with commas)
    #[arg(long, value_name = "NAME", value_delimiter = ',', alias = "keep_cap", help_heading = LIMITS)]
    pub(crate) keep_cap: Vec<String>,

    /// Memory above which the kernel kills in the worker's control group: 512M
    #[arg(long, value_name = "SIZE", alias = "memory_max", help_heading = LIMITS)]
    pub(crate) memory_max: Option<String>,

    /// Memory above which the worker is slowed down, in a control group: 400M
    #[arg(long, value_name = "SIZE", alias = "memory_high", help_heading = LIMITS)]
    pub(crate) memory_high: Option<String>,

    /// CPU time of each worker, in CPUs, by a control group: 1.5
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(crate) cpus: Option<String>,

    /// Processes and threads of each worker, by a control group
    #[arg(long, value_name = "N", alias = "pids_max", help_heading = LIMITS)]
    pub(crate) pids_max: Option<String>,
}
