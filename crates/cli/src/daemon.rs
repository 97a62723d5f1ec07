//! `everup daemon`: the daemon in the foreground, without a keeper; as PID 1 with one.

use crate::exit::Exit;
use crate::launch::Planner;
use anyhow::Context;
use everup::signals::Signals;
use everup_daemon::{Config, DaemonError};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// `everup daemon`.
#[derive(Debug, clap::Args)]
pub(crate) struct DaemonArgs {
    /// Where it keeps its socket, state and logs [env: EVERUP_HOME] [default: ~/.everup]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) home: Option<PathBuf>,
}

/// `$EVERUP_HOME`, or `.everup` in the user's directory.
pub(crate) fn home(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let named = || {
        std::env::var_os("EVERUP_HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
    };
    let default = || std::env::home_dir().map(|home| home.join(".everup"));
    let home = given.or_else(named).or_else(default);
    let home = home.context("there is no home directory: set EVERUP_HOME, or HOME")?;
    std::path::absolute(&home).context("could not find out the current directory")
}

/// Runs until it is told to end.
pub(crate) fn run(args: DaemonArgs) -> anyhow::Result<Exit> {
    const SIGINT: i32 = 2;
    const SIGTERM: i32 = 15;
    let home = home(args.home)?;
    if std::process::id() == 1 {
        return Err(keep(&home));
    }
    let signals = Signals::block(&[SIGINT, SIGTERM]).context("could not take over the signals")?;
    let config = Config {
        home: home.clone(),
        launcher: Arc::new(Planner { home: home.clone() }),
    };
    match everup_daemon::main(config, signals) {
        Ok(()) => Ok(Exit::Ok),
        Err(error @ DaemonError::Running { .. }) => Err(error).context("`everup kill` ends it"),
        Err(error) => Err(error.into()),
    }
}

/// As PID 1 of a container we are the keeper, and the daemon is our child: somebody has to bury those whose parents are dead,
/// whoever they are. Comes back only with an error.
fn keep(home: &Path) -> anyhow::Error {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(home);
    if let Err(error) = made {
        return anyhow::Error::new(error).context(format!("could not make {}", home.display()));
    }
    let error = Command::new("/proc/self/exe")
        .args([everup_keeper::KEEPER, "--home"])
        .arg(home)
        .exec();
    anyhow::Error::new(error).context("could not become the keeper")
}
