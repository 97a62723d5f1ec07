//! Apps of the daemon, understood with the code of `everup run`: an [`AppSpec`] becomes [`RunArgs`], and these a plan.
//!
//! What an app says of pm2 that `run` has no option for is done here too: `filter_env`, `exec_mode` and
//! `increment_var`; `append_env_to_name`, `port` and the like are done before, where files are read.

mod facts;

use crate::args::{ChannelArg, Cli, PolicyArg, RunArgs, Verb, supervision::RestartArg};
use crate::commands::run::start_error;
use crate::error::{BindFailure, CliError, ValueError};
use crate::exit::Exit;
use crate::plan::doubts::COUNTS;
use crate::plan::{Around, Outer, Plan};
use crate::port_owner;
use crate::triggers::{self, Running, Sources, Trigger};
use clap::{Parser, ValueEnum};
use everup::{Ask, Channel, Serialization, Spec, StartError};
use everup_api::{AppSpec, Error, ErrorCode, ExecMode, FilterEnv};
use everup_daemon::{Calls, Fired, Firing, Launcher, Prepared, Purpose, Triggers};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Planner {
    /// `$EVERUP_HOME`: what changes there is no change of an app.
    pub(crate) home: PathBuf,
}

impl Launcher for Planner {
    fn prepare(&self, app: &AppSpec, inherited: &Arc<BTreeMap<String, String>>) -> Result<Prepared, Error> {
        let inherited = filtered(app.filter_env.as_ref(), inherited);
        let mut args = run_args(app)?;
        if let Ok(ours) = self.home.strip_prefix(&app.cwd) {
            args.triggers.ignore_watch.push(format!("/{}/", ours.display()));
        }
        let around = Around {
            here: Ok(app.cwd.clone()),
            pwd: inherited.get("PWD").map(OsString::from),
            outer: Outer::Given(Arc::clone(&inherited)),
        };
        let plan = Plan::parse_in(args, around).map_err(|error| told(&error))?;
        let sources = Sources::open(plan.triggers).map_err(|error| told(&error.into()))?;
        // Nobody who did not choose it wants to read this at every start.
        let chosen = app.policy.is_some();
        let facts = facts::find(app, &plan.spec);
        Ok(Prepared {
            spec: hosted(plan.spec, app, &inherited),
            triggers: (!sources.is_empty()).then(|| Box::new(Waiting(sources)) as Box<dyn Triggers>),
            notices: plan
                .notices
                .into_iter()
                .filter(|notice| chosen || notice != COUNTS)
                .collect(),
            facts,
        })
    }

    fn explain(&self, error: StartError) -> Error {
        told(&start_error(error))
    }

    fn explain_bind(&self, address: &str, errno: i32) -> String {
        let taken = io::Error::from_raw_os_error(errno).kind() == io::ErrorKind::AddrInUse;
        let owner = taken.then(|| port_owner::find(address)).flatten();
        // The keeper has each socket of the daemon, too.
        let keeper = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        if owner.as_ref().is_some_and(|owner| Some(owner.pid) == keeper) {
            return format!("it could not listen on {address}: another app of this daemon does");
        }
        let failure = BindFailure {
            address: address.into(),
            errno,
            owner,
        };
        failure.last_hint()
    }
}

/// In the daemon: with an environment of its own, beside other clusters, and with an end.
fn hosted(mut spec: Spec, app: &AppSpec, inherited: &BTreeMap<String, String>) -> Spec {
    spec.clear_env = true;
    spec.init = false;
    spec.ends_when_done = !spec.job;
    spec.stdin = true;
    spec.increments = app.increment_var.iter().map(OsString::from).collect();
    let secrets = app.secret_files.iter();
    spec.secrets = secrets
        .map(|(name, path)| (name.into(), app.cwd.join(path)))
        .collect();
    let mut env: BTreeMap<OsString, OsString> = inherited
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    env.extend(spec.env);
    spec.env = env.into_iter().collect();
    if app.exec_mode == Some(ExecMode::Fork) && matches!(spec.channel, Channel::Node(_)) {
        spec.channel = Channel::Ipc(Serialization::Json);
    }
    ask_as_pm2_does(&mut spec, app);
    spec
}

/// A Node app that is stopped or restarted gets pm2's SIGINT, so that its handler runs, and its channel stays open until it ends. In
/// a reload its server is closed first, as in Node's cluster: that loses no request. So does one that shares nothing.
fn ask_as_pm2_does(spec: &mut Spec, app: &AppSpec) {
    const SIGINT: i32 = 2;
    if app.kill_signal.is_some() || app.shutdown_with_message == Some(true) || app.channel.is_some() {
        return;
    }
    match spec.channel {
        Channel::Node(_) => spec.stop.at_stop = Some(Ask::Signal(SIGINT)),
        Channel::Ipc(_) => spec.stop.ask = Ask::Signal(SIGINT),
        _ => {}
    }
}

/// What is left of the starter's variables.
fn filtered(
    filter: Option<&FilterEnv>,
    inherited: &Arc<BTreeMap<String, String>>,
) -> Arc<BTreeMap<String, String>> {
    let parts = match filter {
        None | Some(FilterEnv::All(false)) => return Arc::clone(inherited),
        // A program that is found by its name needs this one.
        Some(FilterEnv::All(true)) => {
            let path = inherited.get_key_value("PATH");
            return Arc::new(
                path.into_iter()
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            );
        }
        Some(FilterEnv::Containing(parts)) => parts,
    };
    let kept = |name: &String| !parts.iter().any(|part| name.contains(part.as_str()));
    let left = inherited.iter().filter(|(name, _)| kept(name));
    Arc::new(left.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The options of `everup run` that nobody has given.
fn defaults() -> Result<RunArgs, Error> {
    static DEFAULTS: OnceLock<Option<RunArgs>> = OnceLock::new();
    let parsed = DEFAULTS.get_or_init(
        || match Cli::try_parse_from(["everup", "run", "app"]).ok()?.verb {
            Verb::Run(args) => Some(*args),
            _ => None,
        },
    );
    parsed.clone().ok_or_else(|| {
        Error::new(
            ErrorCode::Internal,
            "the options of `everup run` have no defaults",
        )
    })
}

/// As on a command line.
#[expect(clippy::too_many_lines, reason = "one line per option")]
fn run_args(app: &AppSpec) -> Result<RunArgs, Error> {
    together(app)?;
    let mut args = defaults()?;
    let set = |place: &mut String, value: &Option<String>| {
        if let Some(value) = value {
            place.clone_from(value);
        }
    };
    args.script = app.script.clone().into();
    args.args = app.args.iter().map(OsString::from).collect();
    args.name = Some(app.name.clone());
    set(&mut args.instances, &app.instances);
    set(&mut args.instance_var, &app.instance_var);
    args.policy = word("policy", app.policy.as_deref(), PolicyArg::from_str)?;
    args.listen.clone_from(&app.listen);
    if let Some(channel) = word("channel", app.channel.as_deref(), ChannelArg::from_str)? {
        args.channel = channel;
    }
    args.interpreter = app.interpreter.clone().map(OsString::from);
    args.node_args = app.node_args.iter().map(|arg| quoted(arg)).collect();
    args.cwd = Some(app.cwd.clone());
    args.env = app
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}").into())
        .collect();
    args.env_file.clone_from(&app.env_file);
    set(&mut args.kill_timeout, &app.kill_timeout);
    args.kill_signal.clone_from(&app.kill_signal);
    args.shutdown_with_message = app.shutdown_with_message == Some(true);
    args.listen_timeout.clone_from(&app.listen_timeout);

    let supervision = &mut args.supervision;
    if let Some(restart) = word("restart", app.restart.as_deref(), RestartArg::from_str)? {
        supervision.restart = restart;
    } else {
        supervision.no_autorestart = app.autorestart == Some(false);
    }
    supervision.stop_exit_codes = app.stop_exit_codes.iter().map(ToString::to_string).collect();
    supervision.restart_delay.clone_from(&app.restart_delay);
    supervision
        .exp_backoff_restart_delay
        .clone_from(&app.exp_backoff_restart_delay);
    set(&mut supervision.max_restarts, &app.max_restarts);
    set(&mut supervision.min_uptime, &app.min_uptime);
    supervision.max_memory_restart.clone_from(&app.max_memory_restart);
    supervision.max_age.clone_from(&app.max_age);
    set(&mut supervision.spare, &app.spare);
    set(&mut supervision.surge, &app.surge);
    set(&mut supervision.max_unavailable, &app.max_unavailable);
    set(&mut supervision.canary, &app.canary);
    set(&mut supervision.drain_timeout, &app.drain_timeout);
    set(&mut supervision.max_draining, &app.max_draining);

    let triggers = &mut args.triggers;
    triggers.cron_restart.clone_from(&app.cron_restart);
    triggers.schedule.clone_from(&app.schedule);
    triggers.timezone.clone_from(&app.timezone);
    triggers.watch.clone_from(&app.watch);
    triggers.ignore_watch.clone_from(&app.ignore_watch);
    set(&mut triggers.watch_delay, &app.watch_delay);

    let limits = &mut args.limits;
    limits.uid.clone_from(&app.uid);
    limits.gid.clone_from(&app.gid);
    limits.umask.clone_from(&app.umask);
    limits.nice.clone_from(&app.nice);
    limits.rlimit.clone_from(&app.rlimit);
    limits.cpu_affinity.clone_from(&app.cpu_affinity);
    limits.oom_score_adj.clone_from(&app.oom_score_adj);
    limits.no_new_privs = app.no_new_privs == Some(true);
    limits.keep_cap.clone_from(&app.keep_cap);
    limits.memory_max.clone_from(&app.memory_max);
    limits.memory_high.clone_from(&app.memory_high);
    limits.cpus.clone_from(&app.cpus);
    limits.pids_max.clone_from(&app.pids_max);

    let health = &mut args.health;
    health.ready.clone_from(&app.ready);
    health.wait_ready = app.wait_ready == Some(true);
    health.health.clone_from(&app.health);
    health.health_interval.clone_from(&app.health_interval);
    health.health_timeout.clone_from(&app.health_timeout);
    health.health_failures.clone_from(&app.health_failures);
    health.watchdog.clone_from(&app.watchdog);
    set(&mut health.stuck_timeout, &app.stuck_timeout);
    Ok(args)
}

/// What clap would say of options that do not go together.
fn together(app: &AppSpec) -> Result<(), Error> {
    let wrong = |what: &str| Err(Error::new(ErrorCode::InvalidValue, what));
    let probed = [&app.health_interval, &app.health_timeout, &app.health_failures];
    if app.schedule.is_some() && (app.cron_restart.is_some() || !app.watch.is_empty()) {
        return wrong(
            "`schedule` does not go with `cron_restart` or `watch`: a job is started, not reloaded",
        );
    }
    if app.kill_signal.is_some() && app.shutdown_with_message == Some(true) {
        return wrong("`kill_signal` and `shutdown_with_message` are two ways to ask: take one of them");
    }
    if app.health.is_none() && probed.iter().any(|value| value.is_some()) {
        return wrong("`health_interval`, `health_timeout` and `health_failures` need `health`");
    }
    if !app.cwd.is_absolute() {
        return wrong("`cwd` is no absolute path");
    }
    Ok(())
}

/// One of a few words.
fn word<T>(
    key: &str,
    text: Option<&str>,
    parse: fn(&str, bool) -> Result<T, String>,
) -> Result<Option<T>, Error>
where
    T: ValueEnum,
{
    let Some(text) = text else { return Ok(None) };
    let words = || {
        let all = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = all.map(|value| value.get_name().to_owned()).collect();
        names.join(", ")
    };
    parse(text, true).map(Some).map_err(|_| {
        let what = format!("invalid value `{text}` for `{key}`");
        Error::new(ErrorCode::InvalidValue, what).with_hint(format!("one of: {}", words()))
    })
}

/// One word for whoever splits words by quotes.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// As the control API tells it.
fn told(error: &CliError) -> Error {
    let code = match error {
        CliError::Value {
            source: ValueError::Cron(_) | ValueError::Zone(_),
            ..
        } => ErrorCode::InvalidValue,
        error => match error.exit() {
            Exit::Usage => ErrorCode::InvalidValue,
            Exit::Input => ErrorCode::BadInput,
            Exit::Bind => ErrorCode::Bind,
            _ => ErrorCode::Internal,
        },
    };
    let told = Error::new(code, error.message());
    match error.hint() {
        Some(hint) => told.with_hint(hint),
        None => told,
    }
}

/// Sources that call nobody yet.
#[derive(Debug)]
struct Waiting(Sources);

impl Triggers for Waiting {
    fn start(self: Box<Self>, calls: Calls) -> io::Result<Box<dyn Firing>> {
        let Calls { fire, notice } = calls;
        let running = self.0.start(triggers::Calls {
            fire: move |trigger: Trigger| fire(fired(&trigger)),
            notice: move |text: String| notice(text),
        })?;
        Ok(Box::new(Working(running)))
    }
}

fn fired(trigger: &Trigger) -> Fired {
    Fired {
        purpose: match trigger {
            Trigger::Cron { .. } => Purpose::Cron,
            Trigger::Watch { .. } => Purpose::Watch,
            Trigger::Schedule => Purpose::Launch,
        },
        text: trigger.to_string(),
    }
}

#[derive(Debug)]
struct Working(Running);

impl Firing for Working {
    fn hold(&self, held: bool) {
        if held {
            self.0.pause();
        } else {
            self.0.resume();
        }
    }
}

#[cfg(test)]
mod tests;
