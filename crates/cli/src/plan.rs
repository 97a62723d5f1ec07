//! From raw arguments to a checked plan: everything that can be known to fail is found here, before anything is
//! started. Parse, don't validate: a [`Plan`] holds no text that still has to be understood.

pub(crate) mod doubts;
pub(crate) mod health;
mod supervision;
pub(crate) mod triggers;

use crate::args::control::ControlArgs;
use crate::args::{ChannelArg, PolicyArg, RunArgs, SerializationArg};
use crate::control::ControlSocket;
use crate::error::{CliError, ValueError};
use crate::instances;
use crate::pid_file::PidFile;
use crate::resolve::{self, Interpreter, Program, Request, Search};
use crate::{duration, env_file, limits, listen, words};
use doubts::{doubts, overruled};
use everup::cpus::Cpus;
use everup::spec::{FEEDBACK, MARK};
use everup::{Ask, Channel, Limits, Listen, Policy, Serialization, Spec, StopPlan, signal_number};
use health::Health;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervision::Supervision;
use triggers::{TriggerValues, Triggers};

type Variables = Vec<(OsString, OsString)>;

/// What is to be done, all of it possible as far as can be known.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    pub(crate) cpus: Cpus,
    pub(crate) pid_file: Option<PidFile>,
    /// It listens already; nobody answers yet.
    pub(crate) control: Option<ControlSocket>,
    /// Where the variables come from, for a reload.
    pub(crate) env: EnvSource,
    /// What reloads the app, or runs it, beside operators.
    pub(crate) triggers: Triggers,
    /// What the user should know before it starts.
    pub(crate) notices: Vec<String>,
}

impl Plan {
    /// Checks the arguments of `everup run`.
    pub(crate) fn parse(args: RunArgs) -> Result<Self, CliError> {
        Self::parse_in(args, Around::own())
    }

    /// The same, seen from elsewhere: a daemon has neither the directory nor the variables of whoever starts an app.
    #[expect(clippy::too_many_lines, reason = "one line per field of the spec")]
    pub(crate) fn parse_in(args: RunArgs, around: Around) -> Result<Self, CliError> {
        let cpus = Cpus::detect();
        let values = Values::parse(&args, cpus)?;
        let supervision = Supervision::parse(&args.supervision, values.workers)?;
        let health = Health::parse(&args.health)?;
        let outer = around.outer;
        let here = here(around.here, args.cwd.as_deref())?;
        let by_name = as_it_was_entered(&here, around.pwd);
        let cwd = args
            .cwd
            .as_deref()
            .map(|path| directory(&here, path))
            .transpose()?
            .or_else(|| by_name.clone());
        let here = by_name.unwrap_or(here);
        let variables = variables(&args.env_file, &args.env)?;
        let script = cwd.as_ref().unwrap_or(&here).join(&args.script);
        let mut program = resolve::resolve(Request {
            script: args.script,
            args: args.args,
            interpreter: args.interpreter.map(interpreter),
            node_args: values.node_args,
            listens: !values.listen.is_empty(),
            search: search(cwd.clone().unwrap_or_else(|| here.clone()), &variables, &outer),
            here: here.clone(),
        })?;
        match args.channel {
            ChannelArg::Auto => {}
            ChannelArg::Node => program.channel = true,
            ChannelArg::None => program.channel = false,
        }
        health.check(&program, !values.listen.is_empty())?;
        let ask = ask(values.signal, args.shutdown_with_message, &program)?;
        let pid_file = args.pid_file.as_deref().map(PidFile::check).transpose()?;
        let files = [&args.pid_file, &args.control.control];
        let own: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
        let control = control(args.control)?;
        let mut notices = program.notices.clone();
        let limited = args.listen_timeout.is_some() && !health.has_sign();
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
        let env = EnvSource {
            files: absolute(&args.env_file)?,
            pairs: args.env,
            cwd: spec.cwd.clone(),
            defaults: program.env_defaults,
            own: program.env,
            outer,
        };
        spec.env = env.with(variables.clone());
        spec.workers = values.workers;
        spec.policy = policy(args.policy);
        spec.channel = channel(program.channel, args.serialization);
        spec.listen = values.listen;
        spec.stop = StopPlan::default().ask(ask).kill_timeout(values.kill_timeout);
        spec.listen_timeout = values.listen_timeout.filter(|limit| !limit.is_zero());
        spec.instance_var = args.instance_var.into();
        spec.init = true;
        supervision.apply(&mut spec)?;
        health.apply(&mut spec);
        notices.extend(overruled(&variables, &spec));
        let triggers = values.triggers.plan(
            &args.triggers,
            spec.cwd.as_deref().unwrap_or(&here),
            &spec.args,
            &own,
        )?;
        if triggers.schedule.is_some() {
            spec.job = true;
            spec.ends_when_done = false;
            // With Node's cluster channel a script that is done would stay until it is told to go.
            spec.channel = Channel::None;
        }
        limit(&mut spec, values.limits, script);
        Ok(Self {
            spec,
            cpus,
            pid_file,
            control,
            env,
            triggers,
            notices,
        })
    }
}

/// Where the workers' variables come from.
#[derive(Debug)]
pub(crate) struct EnvSource {
    files: Vec<PathBuf>,
    pairs: Vec<OsString>,
    cwd: Option<PathBuf>,
    defaults: Variables,
    own: Variables,
    outer: Outer,
}

impl EnvSource {
    /// The variables as the files and options say now.
    pub(crate) fn read(&self) -> Result<Variables, CliError> {
        Ok(self.with(variables(&self.files, &self.pairs)?))
    }

    fn with(&self, variables: Variables) -> Variables {
        let variables = with_directory(variables, self.cwd.as_deref());
        environment(self.defaults.clone(), variables, self.own.clone(), &self.outer)
    }
}

/// From where a command line is seen.
#[derive(Debug)]
pub(crate) struct Around {
    /// What relative paths are relative to, if nothing else is said.
    pub(crate) here: io::Result<PathBuf>,
    /// The name by which a shell entered it.
    pub(crate) pwd: Option<OsString>,
    /// What the workers inherit.
    pub(crate) outer: Outer,
}

impl Around {
    /// From this process.
    fn own() -> Self {
        Self {
            here: std::env::current_dir(),
            pwd: std::env::var_os("PWD"),
            outer: Outer::Own,
        }
    }
}

/// The variables that workers inherit.
#[derive(Debug, Clone)]
pub(crate) enum Outer {
    /// Those of this process.
    Own,
    /// These, and no others.
    Given(Arc<BTreeMap<String, String>>),
}

impl Outer {
    fn get(&self, name: &OsStr) -> Option<OsString> {
        match self {
            Self::Own => std::env::var_os(name),
            Self::Given(variables) => variables.get(name.to_str()?).map(OsString::from),
        }
    }
}

/// As they are meant now: for later, when we may be elsewhere.
fn absolute(files: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let absolute = |file: &PathBuf| std::path::absolute(file).map_err(|source| CliError::Here { source });
    files.iter().map(absolute).collect()
}

fn channel(node: bool, serialization_arg: SerializationArg) -> Channel {
    if node {
        Channel::Node(serialization(serialization_arg))
    } else {
        Channel::None
    }
}

/// A worker that is somebody else must be able to read its script.
fn limit(spec: &mut Spec, limits: Limits, script: PathBuf) {
    spec.limits = limits;
    if spec.limits.identity.is_some() && spec.args.iter().any(|arg| *arg == script) {
        spec.limits.readable.push(script);
    }
}

fn control(args: ControlArgs) -> Result<Option<ControlSocket>, CliError> {
    Ok(args.control.as_deref().map(ControlSocket::bind).transpose()?)
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
    triggers: TriggerValues,
    limits: Limits,
}

impl Values {
    fn parse(args: &RunArgs, cpus: Cpus) -> Result<Self, CliError> {
        value("--instance-var", &args.instance_var, instance_variable)?;
        if args.interpreter.as_ref().is_some_and(|text| text.is_empty()) {
            return value("--interpreter", "", |_| Err(ValueError::EmptyInterpreter));
        }
        let signal = |text: &str| signal_number(text).ok_or(ValueError::Signal);
        Ok(Self {
            workers: value("--instances", &args.instances, |text| {
                instances::instances(text, cpus)
            })?,
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
            triggers: Triggers::parse(&args.triggers)?,
            limits: limits::parse(&args.limits)?,
        })
    }
}

/// Parses the value of an option; the error names both.
pub(crate) fn value<T, E: Into<ValueError>>(
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

pub(crate) fn optional<T, E: Into<ValueError>>(
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

/// What everup sets for workers with a channel.
const CHANNEL_VARIABLES: [&str; 4] = [
    FEEDBACK,
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
];
/// What everup sets for workers with sockets of `--listen`.
const LISTEN_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

fn instance_variable(text: &str) -> Result<(), ValueError> {
    let mut ours = CHANNEL_VARIABLES.iter().chain(&LISTEN_VARIABLES).chain([&MARK]);
    if ours.any(|ours| *ours == text) {
        return Err(ValueError::OurVariable);
    }
    variable_name(text)
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

/// Our own directory, which nobody needs who has named another one.
fn here(ours: io::Result<PathBuf>, cwd: Option<&Path>) -> Result<PathBuf, CliError> {
    match (ours, cwd) {
        (Ok(here), _) => Ok(here),
        (Err(_), Some(cwd)) if cwd.is_absolute() => Ok(cwd.into()),
        (Err(source), _) => Err(CliError::Here { source }),
    }
}

/// The name by which the shell entered our directory, if it is another one: through a link (`cd current`). A reload is to
/// find what the link points to then, not what it pointed to when we were started.
fn as_it_was_entered(here: &Path, pwd: Option<OsString>) -> Option<PathBuf> {
    let name = PathBuf::from(pwd?);
    let same = |a: &Path, b: &Path| -> io::Result<bool> {
        let (a, b) = (std::fs::metadata(a)?, std::fs::metadata(b)?);
        Ok(a.dev() == b.dev() && a.ino() == b.ino())
    };
    let good = name.is_absolute() && name != here && same(&name, here).unwrap_or(false);
    good.then_some(name)
}

/// `PWD` of the workers, as `cd` sets it.
fn with_directory(variables: Variables, cwd: Option<&Path>) -> Variables {
    let pwd = cwd.map(|cwd| ("PWD".into(), cwd.into()));
    pwd.into_iter().chain(variables).collect()
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
fn search(cwd: PathBuf, variables: &Variables, outer: &Outer) -> Search {
    let variable = |name: &str| {
        let own = variables
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone());
        own.or_else(|| outer.get(OsStr::new(name)))
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
fn environment(defaults: Variables, variables: Variables, own: Variables, outer: &Outer) -> Variables {
    let defaults = defaults.into_iter().filter(|(name, _)| outer.get(name).is_none());
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
        Some(PolicyArg::Sticky) => Policy::Sticky,
        Some(PolicyArg::Shared) => Policy::Shared,
        Some(PolicyArg::ReusePort) => Policy::ReusePort,
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

#[cfg(test)]
mod tests;
