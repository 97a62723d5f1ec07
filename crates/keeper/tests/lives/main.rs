//! Keepers and daemons that are killed and replaced. This program is all three: keeper, daemon and the tests, so it has a
//! `main` of its own.

mod cases;
mod harness;
mod host;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use everup_keeper::{Command, Config, run};

fn main() -> ExitCode {
    if let Some(command) = Command::parse(env::args_os().skip(1)) {
        if let Some(code) = host::fails_as_keeper(&command) {
            return ExitCode::from(code);
        }
        let mut config = Config::new(host::daemon);
        config.trial = Duration::from_secs(2);
        config.grace = Duration::from_secs(1);
        return run(command, config);
    }
    harness::run(cases::ALL, env::args().skip(1))
}
