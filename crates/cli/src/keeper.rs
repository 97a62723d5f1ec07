//! This program as the keeper, and seeing to it that there is one.

use crate::launch::Planner;
use everup_keeper::{Command, Config, EnsureError, Handoff, Place, Started};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// A daemon that does not answer within this time is not waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// If this program was started to be the keeper, it is that until it ends. To be asked before anything else, while there is
/// one thread.
pub(crate) fn host() -> Option<ExitCode> {
    let command = Command::parse(std::env::args_os().skip(1))?;
    Some(everup_keeper::run(command, Config::new(daemon)))
}

fn daemon(handoff: Handoff) -> i32 {
    let home = handoff.home.clone();
    everup_daemon::kept(handoff, Arc::new(Planner { home }))
}

/// Starts keeper and daemon of this home, unless they are there.
pub(crate) fn ensure(place: &Place) -> Result<Started, EnsureError> {
    let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    everup_keeper::ensure(place, &program, LIMIT)
}
