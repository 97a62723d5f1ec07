//! The `everup` binary: reads the command line, calls a verb, and turns its outcome into an exit code, here and
//! nowhere else.

mod args;
mod commands;
mod control;
mod daemon;
mod duration;
mod env_file;
mod error;
mod events;
mod exit;
mod instances;
mod keeper;
mod launch;
mod limits;
mod listen;
mod notes;
mod operate;
mod output;
mod pid_file;
mod plan;
mod port_owner;
mod resolve;
mod signals;
mod size;
mod terminal;
mod triggers;
mod verbs;
mod words;

use anyhow::Context;
use args::{Cli, Verb};
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use exit::Exit;
use output::Console;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(ended) = keeper::host() {
        return ended;
    }
    let exit = match Cli::try_parse() {
        Ok(cli) => perform(cli.verb).unwrap_or_else(|error| {
            let told = |cause: &(dyn std::error::Error + 'static)| {
                cause
                    .downcast_ref()
                    .map_or_else(|| cause.to_string(), error::reason)
            };
            let chain: Vec<String> = error.chain().map(told).collect();
            writeln!(io::stderr(), "error: {}", chain.join(": ")).ok();
            Exit::Unexpected
        }),
        Err(answer) => refuse(answer),
    };
    exit.into()
}

fn perform(verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Run(args) => {
            let console = Console::stdio().context("could not use standard output and error")?;
            commands::run::run(*args, &console)
        }
        Verb::Daemon(args) => daemon::run(args),
        Verb::Logs(args) => verbs::logs::run(&args, false),
        Verb::Control(verb) => Ok(commands::ask::ask(&verb)),
        Verb::Completion { shell } => match commands::completion::completion(shell) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("could not write the completion script")
            }
            _ => Ok(Exit::Ok),
        },
    }
}

/// Prints what clap has to say: help, the version, or an error. A closed output is no reason to fail.
fn refuse(mut answer: clap::Error) -> Exit {
    advise(&mut answer);
    answer.print().ok();
    if answer.use_stderr() {
        Exit::Usage
    } else {
        Exit::Ok
    }
}

/// `everup run node app.js`: clap cannot know that the rest was meant for the app.
fn advise(answer: &mut clap::Error) {
    let Some(ContextValue::String(word)) = answer.get(ContextKind::InvalidArg) else {
        return;
    };
    if answer.kind() == ErrorKind::UnknownArgument && !word.starts_with('-') {
        let watched = std::env::args_os().any(|arg| arg == "--watch");
        let tip = match watched {
            true => {
                format!("paths to watch go behind `=`: --watch={word}; arguments of the app go after `--`")
            }
            false => format!("arguments of the app go after `--`, or into one string: \"SCRIPT {word}\""),
        };
        answer.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}
