//! What may be written on the command line, by clap: raw values only. Their meaning is `plan`'s.

pub(crate) mod app;
pub(crate) mod boot;
pub(crate) mod control;
pub(crate) mod health;
pub(crate) mod limits;
pub(crate) mod line;
pub(crate) mod logs;
pub(crate) mod manage;
pub(crate) mod supervision;
pub(crate) mod triggers;

use crate::exit::Exit;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

/// One port, every core, nothing lost.
///
/// everup puts an unmodified Node app on every core behind its own port, and any other program too: in the foreground
/// (`run`), or in a daemon that keeps many apps alive (`start`, `list`, `reload`, …).
#[derive(Debug, Parser)]
#[command(
    name = "everup",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    disable_version_flag = true
)]
#[command(after_help = "Exit codes and more: everup run --help")]
pub(crate) struct Cli {
    /// Print the version
    #[arg(short = 'v', long, short_alias = 'V', action = clap::ArgAction::Version)]
    version: Option<bool>,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs for an `everup run`, by `--control` or `EVERUP_CONTROL`.
#[derive(Debug, Parser)]
#[command(name = "everup", version, disable_help_subcommand = true)]
pub(crate) struct ControlCli {
    #[command(subcommand)]
    pub(crate) verb: control::ControlVerb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run an app on as many workers as you like, in the foreground
    ///
    /// everup owns the ports and hands the connections to the workers; it replaces a worker that dies, and
    /// stops all of them gracefully on SIGINT or SIGTERM (at once on the second one).
    #[command(after_help = examples(), after_long_help = examples_and_exit_codes())]
    Run(Box<RunArgs>),
    #[command(flatten)]
    Manage(manage::ManageVerb),
    /// Show what apps write, and have written
    #[command(alias = "log", after_help = logs::EXAMPLES)]
    Logs(logs::LogsArgs),
    /// Run the daemon in the foreground, without a keeper
    #[command(hide = true)]
    Daemon(crate::daemon::DaemonArgs),
    /// Print the completion script for a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
    #[command(flatten)]
    Boot(Box<boot::BootVerb>),
}

/// Shells that can complete our command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
}

const WORKERS: &str = "Workers";
const PROGRAM: &str = "Program";
const SOCKETS: &str = "Connections";
const LIFE: &str = "Start and stop";
const OUTPUT: &str = "Output";

/// The arguments of `everup run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// A script, a program, or a whole command line in quotes
    #[arg(value_name = "SCRIPT|PROGRAM|\"SHELL LINE\"", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) script: OsString,

    /// Arguments of the app, after `--`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,

    /// How many workers: a number, `max` or 0 (one per CPU that this process may use), -1 (one fewer)
    #[arg(
        short,
        long,
        value_name = "N|max",
        default_value = "1",
        allow_negative_numbers = true
    )]
    #[arg(help_heading = WORKERS)]
    pub(crate) instances: String,

    /// Name of the app in events and prefixes [default: the script's, without its extension]
    #[arg(short, long, help_heading = WORKERS)]
    pub(crate) name: Option<String>,

    /// Variable in which each worker finds its number, from 0
    #[arg(
        long,
        value_name = "NAME",
        default_value = "NODE_APP_INSTANCE",
        alias = "instance_var"
    )]
    #[arg(help_heading = WORKERS)]
    pub(crate) instance_var: String,

    /// Who gets the next connection of a Node app [default: least-connections]
    #[arg(long, value_enum, help_heading = SOCKETS)]
    pub(crate) policy: Option<PolicyArg>,

    /// Bind this and pass it to the workers by LISTEN_FDS: [name=]tcp://HOST:PORT, HOST:PORT, :PORT,
    /// udp://HOST:PORT or unix:/PATH (repeatable)
    #[arg(long, value_name = "ADDR", help_heading = SOCKETS)]
    pub(crate) listen: Vec<String>,

    /// Whether the workers get Node's cluster channel; `node` for a program built with the `everup` crate [default: auto]
    #[arg(long, value_enum, default_value = "auto", hide_default_value = true, help_heading = SOCKETS)]
    pub(crate) channel: ChannelArg,

    /// Serialization of the channel to Node
    #[arg(long, value_enum, default_value = "json", hide = true)]
    pub(crate) serialization: SerializationArg,

    /// What runs the script, or `none` to execute it as it is [default: by extension or #! line]
    #[arg(long, value_name = "PATH|none", aliases = ["exec-interpreter", "exec_interpreter"])]
    #[arg(help_heading = PROGRAM, value_hint = clap::ValueHint::CommandName)]
    pub(crate) interpreter: Option<OsString>,

    /// Options of the interpreter, as one string: "--max-old-space-size=512 -r ./x.js" (repeatable)
    #[arg(long, value_name = "ARGS", aliases = ["node_args", "interpreter-args", "interpreter_args"])]
    #[arg(help_heading = PROGRAM, allow_hyphen_values = true)]
    pub(crate) node_args: Vec<String>,

    /// Working directory of the workers; SCRIPT is relative to it
    #[arg(long, value_name = "DIR", help_heading = PROGRAM, value_hint = clap::ValueHint::DirPath)]
    pub(crate) cwd: Option<PathBuf>,

    /// Environment variable for the workers, wins over --env-file (repeatable)
    #[arg(long, value_name = "K=V", help_heading = PROGRAM)]
    pub(crate) env: Vec<OsString>,

    /// Environment variables from a file of KEY=value lines (repeatable, the last one wins)
    #[arg(long, value_name = "FILE", alias = "env_file")]
    #[arg(help_heading = PROGRAM, value_hint = clap::ValueHint::FilePath)]
    pub(crate) env_file: Vec<PathBuf>,

    /// From the request to stop until a worker is killed: 1500 (ms), 500ms, 5s, 1m
    #[arg(
        short,
        long,
        value_name = "TIME",
        default_value = "5s",
        alias = "kill_timeout",
        allow_negative_numbers = true
    )]
    #[arg(help_heading = LIFE)]
    pub(crate) kill_timeout: String,

    /// Signal that asks a worker to stop [default: Node's disconnect; SIGTERM for other programs]
    #[arg(long, value_name = "SIGNAL", alias = "kill_signal", help_heading = LIFE)]
    #[arg(allow_negative_numbers = true, conflicts_with = "shutdown_with_message")]
    pub(crate) kill_signal: Option<String>,

    /// Ask a Node worker to stop by the message 'shutdown'
    #[arg(long, alias = "shutdown_with_message", help_heading = LIFE)]
    pub(crate) shutdown_with_message: bool,

    /// A worker that does not listen within this time has failed [default: no limit]
    #[arg(long, value_name = "TIME", alias = "listen_timeout", help_heading = LIFE)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) listen_timeout: Option<String>,

    /// Write our pid here when all workers are ready; removed at the end
    #[arg(long, value_name = "FILE", aliases = ["pid_file", "pid"])]
    #[arg(help_heading = LIFE, value_hint = clap::ValueHint::FilePath)]
    pub(crate) pid_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) control: control::ControlArgs,

    #[command(flatten)]
    pub(crate) supervision: supervision::SupervisionArgs,

    #[command(flatten)]
    pub(crate) triggers: triggers::TriggerArgs,

    #[command(flatten)]
    pub(crate) limits: limits::LimitsArgs,

    #[command(flatten)]
    pub(crate) health: health::HealthArgs,

    /// How events are written to standard error
    #[arg(long, value_enum, default_value = "human", help_heading = OUTPUT)]
    pub(crate) events: EventFormat,

    /// Let workers write to our output directly, without `name:slot | ` before each line
    #[arg(long, alias = "no_prefix", help_heading = OUTPUT)]
    pub(crate) no_prefix: bool,
}

/// `--policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyArg {
    LeastConnections,
    RoundRobin,
    Sticky,
    Shared,
    #[value(name = "reuseport")]
    ReusePort,
}

/// `--events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventFormat {
    /// A line of text each
    Human,
    /// A JSON object per line
    Json,
    /// Nothing
    None,
}

/// `--channel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelArg {
    /// Node, Deno and Bun apps get it, other programs do not
    Auto,
    /// The program speaks Node's protocol: an app behind a wrapper that passes descriptors on, or one built with the
    /// `everup` crate
    Node,
    /// Nobody gets it
    None,
}

/// `--serialization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SerializationArg {
    Json,
    Advanced,
}

fn examples() -> &'static str {
    "Examples:
  everup run app.js -i max                     a Node app on every core
  everup run server.js -i 4 -- --port 8080     with arguments of its own
  everup run \"node app.js\" --env PORT=3000     a command line
  everup run server.py -i 2 --listen :8000     any program that takes LISTEN_FDS
  everup run app.ts --cwd /srv/app --env-file .env --pid-file /run/app.pid"
}

fn examples_and_exit_codes() -> String {
    let mut text = format!("{}\n\nExit codes:\n", examples());
    for exit in Exit::ALL {
        // Writing to a string cannot fail.
        writeln!(text, "  {:<2} {}", exit.code(), exit.meaning()).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(words: &[&str]) -> Result<RunArgs, clap::Error> {
        let words = ["everup", "run"].iter().chain(words);
        match Cli::try_parse_from(words)?.verb {
            Verb::Run(args) => Ok(*args),
            _ => unreachable!(),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_its_help() {
        for words in [
            &["everup", "--help"][..],
            &["everup", "-h"],
            &["everup", "list", "--help"],
            &["everup", "doctor", "-h"],
        ] {
            let answer = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(answer.exit_code(), 0, "{words:?}: {answer}");
            assert!(answer.to_string().contains("Usage: everup"), "{answer}");
        }
    }

    #[test]
    fn values_that_look_like_options() {
        let args = run(&[
            "-i",
            "-1",
            "app.js",
            "--node-args",
            "--inspect -r x",
            "--",
            "-i",
            "9",
        ])
        .unwrap();
        assert_eq!(args.instances, "-1");
        assert_eq!(args.node_args, ["--inspect -r x"]);
        assert_eq!(args.args, ["-i", "9"]);
        assert_eq!(run(&["app.js", "-i-2"]).unwrap().instances, "-2");
        assert_eq!(run(&["app.js", "--instances=-3"]).unwrap().instances, "-3");
        // Wrong, but `plan` says so better.
        let wrong = [
            "--kill-timeout",
            "-1",
            "--kill-signal",
            "-9",
            "--listen-timeout",
            "-2",
            "a.js",
        ];
        let args = run(&wrong).unwrap();
        assert_eq!(
            (
                args.kill_timeout.as_str(),
                args.kill_signal.as_deref(),
                args.listen_timeout.as_deref()
            ),
            ("-1", Some("-9"), Some("-2"))
        );
    }

    #[test]
    fn spellings_of_pm2() {
        let args = run(&[
            "a.js",
            "--kill_timeout",
            "3000",
            "--interpreter-args",
            "-x",
            "--exec_interpreter",
            "node",
        ]);
        let args = args.unwrap();
        assert_eq!(
            (args.kill_timeout.as_str(), args.node_args[0].as_str()),
            ("3000", "-x")
        );
        assert_eq!(args.interpreter.unwrap(), "node");
    }

    #[test]
    fn help_has_examples_and_exit_codes() {
        let mut command = Cli::command();
        let run = command.find_subcommand_mut("run").unwrap();
        let help = run.render_long_help().to_string();
        assert!(help.contains("everup run app.js -i max"));
        for exit in Exit::ALL {
            assert!(help.contains(&format!("  {:<2} {}", exit.code(), exit.meaning())));
        }
    }

    #[test]
    fn unknown_options_are_usage_errors() {
        let error = run(&["app.js", "--instancess", "4"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("a similar argument exists: '--instances'"),
            "{error}"
        );
        assert!(run(&["app.js", "--kill-signal", "INT", "--shutdown-with-message"]).is_err());
    }
}
