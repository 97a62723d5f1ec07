//! Verbs around the daemon: boot, diagnosis, settings, samples, a static server. Raw values only.

use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

/// Verbs that need no running daemon, or only look at it.
#[derive(Debug, Subcommand)]
pub(crate) enum BootVerb {
    /// Have everup started when the machine boots
    ///
    /// Writes a unit of systemd or a script of OpenRC, checks it, and enables it. As an ordinary user it prints the
    /// line to be run with sudo; `--user-unit` needs no root.
    #[command(
        after_help = "Examples:\n  sudo everup startup\n  everup startup --user-unit\n  everup startup systemd -u alice --hp /home/alice --dry-run"
    )]
    Startup(StartupArgs),
    /// Undo `startup`
    Unstartup(StartupArgs),
    /// Check everything that everup needs here: unit, limits, kernel, ports, leftovers
    ///
    /// Exit code 1 if something is broken; warnings alone are 0.
    Doctor(DoctorArgs),
    /// Serve the files of a directory, as an app of the daemon
    #[command(
        visible_alias = "expose",
        after_help = "Examples:\n  everup serve ./dist 8080 --spa\n  everup serve . 9000 --ftp -i 2"
    )]
    Serve(ServeArgs),
    /// Serve the files of a directory in this process
    #[command(hide = true)]
    ServeFiles(ServeFilesArgs),
    /// Write a sample configuration file
    #[command(
        visible_alias = "ecosystem",
        after_help = "Examples:\n  everup init\n  everup init simple\n  everup init --toml"
    )]
    Init(InitArgs),
    /// Print what a bug report needs
    Report(ReportArgs),
    /// Change a setting
    Set(SetArgs),
    /// Change several settings: "KEY VALUE KEY VALUE"
    Multiset(MultisetArgs),
    /// Print one setting, or all of them
    Get(GetArgs),
    /// Print or change settings
    #[command(visible_alias = "config")]
    Conf(SetArgs),
    /// Remove a setting
    Unset(UnsetArgs),
    /// Forget what `save` has saved
    Cleardump,
    /// Print figures of this machine
    #[command(visible_alias = "sysinfos")]
    Slist(SlistArgs),
    /// Show what can be typed
    Examples,
    #[command(flatten)]
    Not(Box<NotVerb>),
}

/// Commands of pm2 that everup has not, so that it can say why.
#[derive(Debug, Subcommand)]
pub(crate) enum NotVerb {
    #[command(hide = true)]
    Link(Rest),
    #[command(hide = true)]
    Unlink(Rest),
    #[command(hide = true, alias = "register")]
    Plus(Rest),
    #[command(hide = true)]
    Login(Rest),
    #[command(hide = true)]
    Logout(Rest),
    #[command(hide = true)]
    Open(Rest),
    #[command(hide = true)]
    Monitor(Rest),
    #[command(hide = true)]
    Unmonitor(Rest),
    #[command(hide = true, alias = "module:install")]
    Install(Rest),
    #[command(hide = true, alias = "module:uninstall")]
    Uninstall(Rest),
    #[command(hide = true, name = "module:update")]
    ModuleUpdate(Rest),
    #[command(hide = true, name = "module:generate")]
    ModuleGenerate(Rest),
    #[command(hide = true)]
    Package(Rest),
    #[command(hide = true, alias = "module:publish")]
    Publish(Rest),
    #[command(hide = true)]
    Deploy(Rest),
    #[command(hide = true)]
    Pull(Rest),
    #[command(hide = true)]
    Forward(Rest),
    #[command(hide = true)]
    Backward(Rest),
    #[command(hide = true)]
    Logrotate(Rest),
    #[command(hide = true, name = "profile:cpu")]
    ProfileCpu(Rest),
    #[command(hide = true, name = "profile:mem")]
    ProfileMem(Rest),
    #[command(hide = true)]
    Inspect(Rest),
    #[command(hide = true)]
    Create(Rest),
    #[command(hide = true)]
    Autoinstall(Rest),
    #[command(hide = true, name = "deepUpdate")]
    DeepUpdate(Rest),
    #[command(hide = true, name = "install-otel")]
    InstallOtel(Rest),
    #[command(hide = true, name = "uninstall-otel")]
    UninstallOtel(Rest),
}

/// Whatever is behind the name of a command that does not exist.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) rest: Vec<std::ffi::OsString>,
}

/// `everup startup`, `everup unstartup`.
#[derive(Debug, Args)]
pub(crate) struct StartupArgs {
    /// systemd or openrc; also pm2's names of distributions [default: found out]
    #[arg(value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,

    /// Whose apps [default: yours]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// The user's home directory; the daemon's is .everup in it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) hp: Option<PathBuf>,

    /// Name of the service [default: everup-USER; everup for --user-unit]
    #[arg(long, value_name = "NAME", alias = "service_name")]
    pub(crate) service_name: Option<String>,

    /// Wait for the network to be up
    #[arg(long, alias = "wait_ip")]
    pub(crate) wait_ip: bool,

    /// A unit of the user's own systemd, which goes on when the user is not logged in: needs no root
    #[arg(long, conflicts_with_all = ["user", "hp"])]
    pub(crate) user_unit: bool,

    /// Take rights away that few apps need: setuid programs, kernel settings, /usr and /etc for writing
    #[arg(long)]
    pub(crate) harden: bool,

    /// Print what would be written and run, and do nothing
    #[arg(long, visible_alias = "print")]
    pub(crate) dry_run: bool,

    /// Write below this directory, and run nothing: for images
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) root: Option<PathBuf>,
}

/// `everup doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is served, and how.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeFilesArgs {
    /// The directory [env: PM2_SERVE_PATH] [default: .]
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    /// The port [env: PM2_SERVE_PORT] [default: 8080]
    #[arg(value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// The same as an option
    #[arg(long = "port", value_name = "PORT", conflicts_with = "port")]
    pub(crate) port_option: Option<u16>,

    /// The address to listen at [env: PM2_SERVE_HOST] [default: 0.0.0.0]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,

    /// Answer unknown paths with the homepage: for apps that run in the browser
    #[arg(long)]
    pub(crate) spa: bool,

    /// List directories that have no index.html
    #[arg(long)]
    pub(crate) ftp: bool,

    /// What / is [env: PM2_SERVE_HOMEPAGE] [default: /index.html]
    #[arg(long, value_name = "PATH")]
    pub(crate) homepage: Option<String>,

    /// Ask for this user name [env: PM2_SERVE_BASIC_AUTH_USERNAME]
    #[arg(long, value_name = "NAME", requires = "basic_auth_password")]
    pub(crate) basic_auth_username: Option<String>,

    /// And this password; better in PM2_SERVE_BASIC_AUTH_PASSWORD, which no process list shows
    #[arg(long, value_name = "PASSWORD")]
    pub(crate) basic_auth_password: Option<String>,
}

/// `everup serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) files: ServeFilesArgs,

    /// Name of the app [default: static-page-server-PORT]
    #[arg(short, long)]
    pub(crate) name: Option<String>,

    /// How many workers share the port
    #[arg(short, long, value_name = "N|max", allow_negative_numbers = true)]
    pub(crate) instances: Option<String>,

    /// The namespace of the app
    #[arg(long)]
    pub(crate) namespace: Option<String>,

    /// pm2's: no script of others is put into your pages
    #[arg(long, value_name = "APP", num_args = 0..=1, hide = true)]
    pub(crate) monitor: Option<Option<String>>,

    #[command(flatten)]
    pub(crate) answer: super::manage::AnswerArgs,
}

/// `everup init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// `simple` for a short one
    #[arg(value_name = "simple", value_parser = ["simple"])]
    pub(crate) mode: Option<String>,

    /// everup.toml instead of ecosystem.config.js
    #[arg(long, conflicts_with = "mode")]
    pub(crate) toml: bool,

    /// Replace a file that is there
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `everup report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `everup set`, `everup conf`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Its name: app:key, app.key, key
    pub(crate) key: Option<String>,
    /// Its value
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: Option<String>,
}

/// `everup multiset`.
#[derive(Debug, Args)]
pub(crate) struct MultisetArgs {
    /// Names and values in turn; quotes hold words together
    pub(crate) pairs: String,
}

/// `everup get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Its name; all of them without one
    pub(crate) key: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `everup unset`.
#[derive(Debug, Args)]
pub(crate) struct UnsetArgs {
    /// Its name, or `all`
    pub(crate) key: String,
}

/// `everup slist`.
#[derive(Debug, Args)]
pub(crate) struct SlistArgs {
    /// As a tree instead of JSON
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) tree: bool,
    /// As JSON: it is that in any case
    #[arg(long)]
    pub(crate) json: bool,
}
