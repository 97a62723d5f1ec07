//! pm2's `--no-daemon`: the daemon as a child of ours, its apps' output on ours, and an end with it.
//!
//! Signals that ask us to end go to the daemon, which stops its apps first. If a daemon is there already, it is used as
//! always.

use super::context::Context;
use super::failure::VerbError;
use super::{home, logs};
use crate::args::logs::LogsArgs;
use crate::exit::Exit;
use everup::signals::Signals;
use everup_api::v1::CallError;
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const ENDING: [i32; 4] = [1, 2, 3, 15];
/// How long it may take until it answers.
const START: Duration = Duration::from_secs(20);

/// Does `then` with a daemon of our own, and stays until that ends.
pub(crate) fn stay(
    context: &Context,
    then: impl FnOnce() -> Result<Exit, VerbError>,
) -> Result<Exit, VerbError> {
    if context.home.connect(context.soon()).is_ok() {
        return then();
    }
    let signals = Signals::block(&ENDING).map_err(|error| failed(&error))?;
    context.leave_signals();
    let mut daemon = launch(context).map_err(|error| failed(&error))?;
    let pid = Pid::from_child(&daemon);
    let forward = move || {
        while signals.wait().is_ok() {
            kill_process(pid, Signal::TERM).ok();
        }
    };
    std::thread::spawn(forward);
    wait(context, &mut daemon)?;
    match then() {
        Ok(Exit::Ok) => {}
        other => {
            kill_process(pid, Signal::TERM).ok();
            daemon.wait().ok();
            return other;
        }
    }
    follow(context);
    daemon.wait().map_err(|error| failed(&error))?;
    Ok(Exit::Ok)
}

/// What the apps write, for as long as we live.
fn follow(context: &Context) {
    let (pm2, answer) = (context.pm2, context.answer.clone());
    std::thread::spawn(move || {
        let args = LogsArgs {
            target: "all".into(),
            ..LogsArgs::default()
        };
        Context::new(pm2, &answer)
            .and_then(|context| logs::run(&context, &args))
            .ok();
    });
}

fn launch(context: &Context) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg("daemon")
        .arg("--home")
        .arg(&context.home.path)
        .stdin(Stdio::null())
        .spawn()
}

fn wait(context: &Context, daemon: &mut Child) -> Result<(), VerbError> {
    let end = Instant::now() + START;
    loop {
        match context.home.connect(context.soon()) {
            Err(CallError::NotRunning { .. }) if Instant::now() < end => {}
            result => return Ok(result.map(drop)?),
        }
        if let Ok(Some(status)) = daemon.try_wait() {
            return Err(VerbError::NotStarted {
                why: format!("it ended with {status}"),
                home: false,
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn failed(error: &io::Error) -> VerbError {
    VerbError::NotStarted {
        why: home::chain(error),
        home: false,
    }
}
