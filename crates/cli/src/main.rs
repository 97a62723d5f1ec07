//! The `everup` binary: reads the command line, calls a verb, and turns its outcome into an exit code, here and
//! nowhere else.

mod args;
mod boot;
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
mod pm2;
mod port_owner;
mod render;
mod resolve;
mod signals;
mod size;
mod terminal;
mod triggers;
mod verbs;
mod words;

use anyhow::Context;
use args::line::{self, Line};
use args::{Cli, ControlCli, Verb};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use exit::Exit;
use output::Console;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(ended) = keeper::host() {
        return ended;
    }
    let Line { words, pm2 } = line::prepare(std::env::args_os(), Cli::command);
    if let Some(asked) = for_a_run(&words, pm2) {
        return asked
            .map_or_else(refuse, |cli| commands::ask::ask(&cli.verb))
            .into();
    }
    let exit = match Cli::try_parse_from(words) {
        Ok(cli) => perform(cli.verb, pm2).unwrap_or_else(|error| {
            let told = |cause: &(dyn std::error::Error + 'static)| {
                cause
                    .downcast_ref()
                    .map_or_else(|| cause.to_string(), error::reason)
            };
            let chain: Vec<String> = error.chain().map(told).collect();
            writeln!(io::stderr(), "error: {}", chain.join(": ")).ok();
            Exit::Unexpected
        }),
        Err(answer) if pm2 => refuse_as_pm2(answer),
        Err(answer) => refuse(answer),
    };
    exit.into()
}

/// The verbs for an `everup run`: by `--control`, or by `EVERUP_CONTROL` if the words could be for it.
fn for_a_run(words: &[OsString], pm2: bool) -> Option<Result<ControlCli, clap::Error>> {
    let ours = words.iter().take_while(|word| *word != "--");
    let named = ours
        .skip(2)
        .any(|word| word == "--control" || word.as_encoded_bytes().starts_with(b"--control="));
    if pm2 || words.get(1).is_none_or(|verb| verb == "run") {
        return None;
    }
    if named {
        return Some(ControlCli::try_parse_from(words));
    }
    std::env::var_os("EVERUP_CONTROL").filter(|path| !path.is_empty())?;
    ControlCli::try_parse_from(words).ok().map(Ok)
}

fn perform(verb: Verb, pm2: bool) -> anyhow::Result<Exit> {
    match verb {
        Verb::Run(args) => {
            let console = Console::stdio().context("could not use standard output and error")?;
            commands::run::run(*args, &console)
        }
        Verb::Daemon(args) => daemon::run(args),
        Verb::Manage(verb) => Ok(verbs::perform(&verb, pm2)),
        Verb::Logs(args) => Ok(verbs::logs(&args, pm2)),
        Verb::Completion { shell } => match commands::completion::completion(shell) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("could not write the completion script")
            }
            _ => Ok(Exit::Ok),
        },
        Verb::Boot(verb) => Ok(boot::perform(&verb, pm2)),
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

const PM2_USAGE: &str = "usage: pm2 [options] <command>

pm2 -h, --help             all available commands and options
pm2 <command> -h           help on a specific command

This is everup, called as pm2.";

/// pm2 knows one exit code for all that is wrong, and one sentence for a word that is no command.
fn refuse_as_pm2(answer: clap::Error) -> Exit {
    if matches!(answer.kind(), ErrorKind::InvalidSubcommand) {
        let word = answer
            .get(ContextKind::InvalidSubcommand)
            .map(ToString::to_string);
        let word = terminal::harmless(&word.unwrap_or_default());
        writeln!(
            io::stdout(),
            "[PM2][ERROR] Command not found: {word}\n\n{PM2_USAGE}"
        )
        .ok();
        return Exit::Unexpected;
    }
    if answer.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        writeln!(io::stdout(), "{PM2_USAGE}").ok();
        return Exit::Unexpected;
    }
    match refuse(answer) {
        Exit::Ok => Exit::Ok,
        _ => Exit::Unexpected,
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
