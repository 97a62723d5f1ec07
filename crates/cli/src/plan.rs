//! From raw arguments to a checked plan: everything that can be known to fail is found here, before anything is
//! started. Parse, don't validate: a [`Plan`] holds no text that still has to be understood.

use crate::args::{PolicyArg, RunArgs, SerializationArg};
use crate::cpus::{self, Cpus};
use crate::error::{CliError, ValueError};
use crate::pid_file::PidFile;
use crate::resolve::{self, Interpreter, Program, Request, Search};
use crate::{duration, env_file, listen, words};
use everup::{Ask, Channel, Listen, Policy, Serialization, Spec, StopPlan, signal_number};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Variables = Vec<(OsString, OsString)>;

/// What is to be done, all of it possible as far as can be known.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    pub(crate) cpus: Cpus,
    pub(crate) pid_file: Option<PidFile>,
    /// What the user should know before it starts.
    pub(crate) notices: Vec<String>,
}

impl Plan {
    /// Checks the arguments of `everup run`.
    pub(crate) fn parse(args: RunArgs) -> Result<Self, CliError> {
        let cpus = Cpus::detect();
        let values = Values::parse(&args, cpus)?;
        let here = std::env::current_dir().map_err(|source| CliError::Cwd {
            path: ".".into(),
            source,
        })?;
        let cwd = args
            .cwd
            .as_deref()
            .map(|path| directory(&here, path))
            .transpose()?;
        let variables = variables(&args.env_file, &args.env)?;
        let program = resolve::resolve(Request {
            script: args.script,
            args: args.args,
            interpreter: args.interpreter.map(interpreter),
            node_args: values.node_args,
            listens: !values.listen.is_empty(),
            search: search(cwd.clone().unwrap_or_else(|| here.clone()), &variables),
            here,
        })?;
        let ask = ask(values.signal, args.shutdown_with_message, &program)?;
        let pid_file = args.pid_file.as_deref().map(PidFile::check).transpose()?;
        let mut notices = program.notices.clone();
        let limited = args.listen_timeout.is_some();
        notices.extend(doubts(
            &program,
            values.workers,
            &values.listen,
            args.policy,
            limited,
        ));

        let mut spec = Spec::new(program.program);
        spec.name = values.name.unwrap_or(program.name);
        spec.args = program.args;
        spec.cwd = program.cwd.or(cwd);
        spec.env = environment(program.env_defaults, variables, program.env);
        spec.workers = values.workers;
        spec.policy = policy(args.policy);
        spec.channel = if program.channel {
            Channel::Node(serialization(args.serialization))
        } else {
            Channel::None
        };
        spec.listen = values.listen;
        spec.stop = StopPlan {
            ask,
            kill_timeout: values.kill_timeout,
        };
        spec.listen_timeout = values.listen_timeout.filter(|limit| !limit.is_zero());
        spec.instance_var = args.instance_var.into();
        spec.init = true;
        Ok(Self {
            spec,
            cpus,
            pid_file,
            notices,
        })
    }
}

/// The options that mean something without a look at the system.
struct Values {
    workers: u32,
    kill_timeout: Duration,
    listen_timeout: Option<Duration>,
    signal: Option<i32>,
    listen: Vec<Listen>,
    name: Option<String>,
    node_args: Vec<String>,
}

impl Values {
    fn parse(args: &RunArgs, cpus: Cpus) -> Result<Self, CliError> {
        value("--instance-var", &args.instance_var, variable_name)?;
        let signal = |text: &str| signal_number(text).ok_or(ValueError::Signal);
        Ok(Self {
            workers: value("--instances", &args.instances, |text| cpus::instances(text, cpus))?,
            kill_timeout: value("--kill-timeout", &args.kill_timeout, duration::parse)?,
            listen_timeout: optional(
                "--listen-timeout",
                args.listen_timeout.as_deref(),
                duration::parse,
            )?,
            signal: optional("--kill-signal", args.kill_signal.as_deref(), signal)?,
            listen: addresses(&args.listen)?,
            name: optional("--name", args.name.as_deref(), app_name)?,
            node_args: node_args(&args.node_args)?,
        })
    }
}

/// Parses the value of an option; the error names both.
fn value<T, E: Into<ValueError>>(
    option: &'static str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, CliError> {
    parse(text).map_err(|source| CliError::Value {
        option,
        value: text.into(),
        source: source.into(),
    })
}

fn optional<T, E: Into<ValueError>>(
    option: &'static str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, CliError> {
    text.map(|text| value(option, text, parse)).transpose()
}

fn addresses(texts: &[String]) -> Result<Vec<Listen>, CliError> {
    let mut listens: Vec<Listen> = Vec::new();
    for text in texts {
        let listen = value("--listen", text, listen::parse)?;
        let free_port = text.ends_with(":0") || text == "0";
        if !free_port && listens.iter().any(|other| other.address == listen.address) {
            return value("--listen", text, |_| Err(listen::ListenError::Twice));
        }
        listens.push(listen);
    }
    Ok(listens)
}

fn app_name(text: &str) -> Result<String, ValueError> {
    let good = !text.trim().is_empty() && !text.chars().any(char::is_control);
    if good {
        Ok(text.into())
    } else {
        Err(ValueError::Name)
    }
}

fn variable_name(text: &str) -> Result<(), ValueError> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let good = starts_well && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if good {
        Ok(())
    } else {
        Err(ValueError::VariableName)
    }
}

fn node_args(texts: &[String]) -> Result<Vec<String>, CliError> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(value("--node-args", text, words::split)?);
    }
    Ok(all)
}

fn directory(here: &Path, path: &Path) -> Result<PathBuf, CliError> {
    let failed = |source| CliError::Cwd {
        path: path.into(),
        source,
    };
    let full = std::path::absolute(here.join(path)).map_err(failed)?;
    if !std::fs::metadata(&full).map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    if !resolve::executable(&full) {
        return Err(failed(io::ErrorKind::PermissionDenied.into()));
    }
    Ok(full)
}

/// From the files, in their order, then from `--env`: the later one wins.
fn variables(files: &[PathBuf], pairs: &[OsString]) -> Result<Variables, CliError> {
    let mut all = Vec::new();
    for file in files {
        all.extend(env_file::read(file)?);
    }
    for pair in pairs {
        all.push(env_pair(pair)?);
    }
    Ok(all)
}

fn env_pair(pair: &OsStr) -> Result<(OsString, OsString), CliError> {
    let text = pair.to_string_lossy().into_owned();
    let wrong = |source| CliError::Value {
        option: "--env",
        value: text.clone(),
        source,
    };
    let bytes = pair.as_bytes();
    let Some(at) = bytes.iter().position(|byte| *byte == b'=') else {
        return Err(wrong(ValueError::EnvWithoutEquals { value: text.clone() }));
    };
    if at == 0 {
        return Err(wrong(ValueError::VariableName));
    }
    Ok((
        OsStr::from_bytes(&bytes[..at]).into(),
        OsStr::from_bytes(&bytes[at + 1..]).into(),
    ))
}

fn interpreter(text: OsString) -> Interpreter {
    if text == "none" {
        Interpreter::Direct
    } else {
        Interpreter::Program(text)
    }
}

/// Where the workers will look, with the variables that they will have.
fn search(cwd: PathBuf, variables: &Variables) -> Search {
    let variable = |name: &str| {
        let own = variables
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone());
        own.or_else(|| std::env::var_os(name))
    };
    // What execvp takes when there is none.
    let path = variable("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    Search {
        cwd,
        path,
        node_options: variable("NODE_OPTIONS"),
    }
}

/// Defaults only where nothing else sets them; then the user's; then the command's own. One value per name.
fn environment(defaults: Variables, variables: Variables, own: Variables) -> Variables {
    let defaults = defaults
        .into_iter()
        .filter(|(name, _)| std::env::var_os(name).is_none());
    let mut all: Variables = Vec::new();
    for (name, value) in defaults.chain(variables).chain(own) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

fn ask(signal: Option<i32>, message: bool, program: &Program) -> Result<Ask, CliError> {
    match signal {
        Some(signal) => Ok(Ask::Signal(signal)),
        None if message && program.channel => Ok(Ask::Message),
        None if message => Err(CliError::NeedsChannel {
            program: shown(program),
        }),
        None => Ok(Ask::Disconnect),
    }
}

fn policy(arg: Option<PolicyArg>) -> Policy {
    match arg {
        None | Some(PolicyArg::LeastConnections) => Policy::LeastConnections,
        Some(PolicyArg::RoundRobin) => Policy::RoundRobin,
        Some(PolicyArg::Shared) => Policy::Shared,
    }
}

fn serialization(arg: SerializationArg) -> Serialization {
    match arg {
        SerializationArg::Json => Serialization::Json,
        SerializationArg::Advanced => Serialization::Advanced,
    }
}

fn shown(program: &Program) -> String {
    let args = program.args.iter().map(|arg| arg.to_string_lossy());
    let all = std::iter::once(program.program.to_string_lossy()).chain(args);
    format!("`{}`", all.collect::<Vec<_>>().join(" "))
}

/// What will work, but perhaps not as expected.
fn doubts(
    program: &Program,
    workers: u32,
    listen: &[Listen],
    policy: Option<PolicyArg>,
    listen_limit: bool,
) -> Vec<String> {
    let mut doubts = Vec::new();
    if program.channel {
        if workers > 1 && matches!(policy, None | Some(PolicyArg::LeastConnections)) {
            doubts.push(
                "least-connections counts the hand-overs that a worker has not answered yet; exact counts of open \
                 connections come in a later version"
                    .into(),
            );
        }
        return doubts;
    }
    if workers > 1 && listen.is_empty() {
        doubts.push(format!(
            "{workers} workers of a program without Node's channel share no port; pass them one with --listen ADDR"
        ));
    }
    if policy.is_some_and(|policy| policy != PolicyArg::Shared) {
        doubts.push(
            "--policy has no effect: all workers accept from the sockets of --listen themselves".into(),
        );
    }
    if listen_limit {
        doubts.push("--listen-timeout has no effect: nobody can tell when this program listens".into());
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use crate::exit::Exit;
    use clap::Parser;

    fn parse(words: &[&str]) -> Result<Plan, CliError> {
        let words = ["everup", "run"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().verb {
            Verb::Run(args) => Plan::parse(*args),
            Verb::Completion { .. } => unreachable!(),
        }
    }

    fn refused(words: &[&str]) -> (String, String, Exit) {
        let error = parse(words).unwrap_err();
        (error.message(), error.hint().unwrap_or_default(), error.exit())
    }

    #[test]
    fn exact_messages_for_bad_values() {
        for (words, message, hint) in [
            (
                &["-i", "abc", "x.js"][..],
                "invalid value `abc` for --instances: not a number",
                "give a count such as 4, `max` (one per CPU) or -1 (one fewer than CPUs)",
            ),
            (
                &["-i", "2000", "x.js"],
                "invalid value `2000` for --instances: more than 1024 workers",
                "`max` starts one per CPU; more rarely helps",
            ),
            (
                &["--kill-timeout", "soon", "x.js"],
                "invalid value `soon` for --kill-timeout: not a duration",
                "write milliseconds (1500) or a number with a unit: 500ms, 5s, 1m, 1h",
            ),
            (
                &["--kill-signal", "SIGNOPE", "x.js"],
                "invalid value `SIGNOPE` for --kill-signal: not a signal",
                "write a name or a number: TERM, SIGINT, 10",
            ),
            (
                &["--listen", "localhost:http", "x.js"],
                "invalid value `localhost:http` for --listen: `http` is not a port (0 to 65535)",
                "write [name=]tcp://HOST:PORT, HOST:PORT, :PORT, udp://HOST:PORT or unix:/PATH",
            ),
            (
                &["--listen", ":80", "--listen", "a=0.0.0.0:80", "x.js"],
                "invalid value `a=0.0.0.0:80` for --listen: it is given twice",
                "give each address once; all workers share it",
            ),
            (
                &["--env", "production", "x.js"],
                "invalid value `production` for --env: no `=` in it",
                "write --env NODE_ENV=production",
            ),
            (
                &["--env", "=x", "x.js"],
                "invalid value `=x` for --env: not the name of a variable",
                "a name has letters, digits and `_`, and no digit first",
            ),
            (
                &["--instance-var", "A B", "x.js"],
                "invalid value `A B` for --instance-var: not the name of a variable",
                "a name has letters, digits and `_`, and no digit first",
            ),
            (
                &["--node-args", "-r 'x", "x.js"],
                "invalid value `-r 'x` for --node-args: a ' quote is not closed",
                "quotes and backslashes work as in a shell",
            ),
            (
                &["--name", " ", "x.js"],
                "invalid value ` ` for --name: a name has visible characters only, at least one",
                "",
            ),
        ] {
            assert_eq!(
                refused(words),
                (message.into(), hint.into(), Exit::Usage),
                "{words:?}"
            );
        }
    }

    #[test]
    fn exact_messages_for_missing_things() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let file = format!("{path}/server.js");
        std::fs::write(&file, "").unwrap();
        let cwd = format!("{path}/no");
        assert_eq!(
            refused(&["--cwd", &cwd, "x.js"]).0,
            format!("could not use {path}/no as the working directory: no such file or directory")
        );
        assert_eq!(
            refused(&["--cwd", &file, "x.js"]).0,
            format!("could not use {file} as the working directory: not a directory")
        );
        assert_eq!(
            refused(&["--env-file", &cwd, &file]),
            (
                format!("could not read env file {path}/no: no such file or directory"),
                String::new(),
                Exit::Input
            )
        );
        assert_eq!(
            refused(&[&format!("{path}/sever.js")]),
            (
                format!("script {path}/sever.js not found"),
                format!("did you mean {file}?"),
                Exit::Input
            )
        );
        assert_eq!(
            refused(&["--pid-file", &format!("{path}/no/x.pid"), "sleep", "--", "1"]).2,
            Exit::Input
        );
    }

    #[test]
    fn a_plan_for_a_program() {
        let plan = parse(&[
            "sleep",
            "-i",
            "3",
            "--listen",
            "web=:0",
            "--kill-timeout",
            "1500",
            "--kill-signal",
            "int",
            "--env",
            "A=1",
            "--env",
            "A=2=3",
            "--name",
            "web",
            "--listen-timeout",
            "0",
            "--",
            "60",
        ])
        .unwrap();
        let spec = plan.spec;
        assert_eq!((spec.name.as_str(), spec.workers, spec.init), ("web", 3, true));
        assert_eq!(spec.channel, Channel::None);
        assert_eq!(
            (spec.stop.ask, spec.stop.kill_timeout),
            (Ask::Signal(2), Duration::from_millis(1500))
        );
        assert_eq!(spec.listen_timeout, None);
        assert_eq!(spec.env, [("A".into(), "2=3".into())]);
        assert_eq!(
            (spec.program.file_name().unwrap(), &spec.args),
            (OsStr::new("sleep"), &vec!["60".into()])
        );
        assert!(spec.program.is_absolute());
    }

    #[test]
    fn doubts_are_told() {
        let plan = parse(&[
            "sleep",
            "-i",
            "2",
            "--policy",
            "round-robin",
            "--listen-timeout",
            "1",
            "--",
            "60",
        ])
        .unwrap();
        assert_eq!(
            plan.notices,
            [
                "2 workers of a program without Node's channel share no port; pass them one with --listen ADDR",
                "--policy has no effect: all workers accept from the sockets of --listen themselves",
                "--listen-timeout has no effect: nobody can tell when this program listens",
            ]
        );
        assert_eq!(
            refused(&["--shutdown-with-message", "sleep", "--", "1"]).1,
            "use --kill-signal"
        );
    }

    #[test]
    fn the_later_variable_wins_and_defaults_lose() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let merged = environment(
            vec![
                pair("PATH", "default"),
                pair("EVERUP_NOT_SET", "default"),
                pair("EVERUP_OURS", "default"),
            ],
            vec![pair("EVERUP_OURS", "1"), pair("X", "1"), pair("X", "2")],
            vec![pair("X", "3")],
        );
        assert_eq!(
            merged,
            [
                pair("EVERUP_NOT_SET", "default"),
                pair("EVERUP_OURS", "1"),
                pair("X", "3")
            ]
        );
    }

    #[test]
    fn the_workers_path_is_searched() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.js"), "").unwrap();
        let script = directory.path().join("a.js").display().to_string();
        let empty = format!("PATH={}", directory.path().display());
        let (message, hint, exit) = refused(&["--env", &empty, &script]);
        assert_eq!(message, "interpreter `node` not found in PATH");
        assert_eq!(
            (hint.as_str(), exit),
            (
                "install node, or name another one with --interpreter PATH",
                Exit::Input
            )
        );
    }
}
