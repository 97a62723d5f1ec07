//! `everup run`: a cluster in the foreground, until it is stopped or fails.

use crate::args::RunArgs;
use crate::control::{ControlSocket, Ours, Server};
use crate::error::CliError;
use crate::events::{Reporter, Start};
use crate::exit::Exit;
use crate::operate::Operator;
use crate::output::{Console, Prefixed};
use crate::pid_file::{PidFile, PidFileError};
use crate::plan::Plan;
use crate::signals::{self, Alarm};
use crate::triggers::{Calls, Running, Sources, Trigger};
use crate::{notes, port_owner};
use anyhow::Context;
use everup::signals::Signals;
use everup::{Cluster, Event, Events, ExitStatus, Outcome, Output, Phase, StartError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Shared = Arc<Mutex<Reporter>>;

/// Runs it; the outcome has been told when this returns, if anybody listens.
pub(crate) fn run(args: RunArgs, console: &Console) -> anyhow::Result<Exit> {
    let (format, no_prefix) = (args.events, args.no_prefix);
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| args.script.to_string_lossy().into_owned());
    let prepared = prepare(args);
    let (notes, writer) = notes::start(console.clone()).context("could not start a thread for events")?;
    let reporter = |app| Reporter::new(format, notes.clone(), console.colour(), app);
    let exit = match prepared {
        Ok((plan, signals)) => {
            everup::limits::descriptors::raise(None);
            let reporter = Arc::new(Mutex::new(reporter(plan.spec.name.clone())));
            let output = match no_prefix {
                true => Output::Inherit,
                false => Output::Lines(Box::new(Prefixed::new(console.clone(), plan.spec.name.clone()))),
            };
            let alarm = Alarm {
                signals,
                notes: notes.clone(),
            };
            let result = supervise(plan, alarm, output, &reporter);
            result.unwrap_or_else(|error| fail(&lock(&reporter), &error))
        }
        Err(error) => fail(&reporter(name), &error),
    };
    writer.finish();
    Ok(exit)
}

/// Checks what is to be done; from then on signals are ours. Before that they end us, who have started nothing:
/// a name server that does not answer shall keep nobody waiting. PID 1 has no such default.
fn prepare(args: RunArgs) -> Result<(Plan, Signals), CliError> {
    let block = || {
        signals::block().map_err(|source| CliError::System {
            what: "take over the signals".into(),
            source,
        })
    };
    if std::process::id() == 1 {
        let signals = block()?;
        return Ok((Plan::parse(args)?, signals));
    }
    let plan = Plan::parse(args)?;
    Ok((plan, block()?))
}

fn fail(reporter: &Reporter, error: &CliError) -> Exit {
    reporter.fatal(error);
    error.exit()
}

fn lock(reporter: &Shared) -> MutexGuard<'_, Reporter> {
    reporter.lock().unwrap_or_else(PoisonError::into_inner)
}

fn supervise(plan: Plan, alarm: Alarm, output: Output, reporter: &Shared) -> Result<Exit, CliError> {
    let Plan {
        mut spec,
        cpus,
        pid_file,
        control,
        env,
        triggers,
        notices,
    } = plan;
    {
        let mut reporter = lock(reporter);
        reporter.start(&Start::of(&spec, cpus));
        notices.iter().for_each(|notice| reporter.notice(notice));
    }
    let (app, limit, job) = (spec.name.clone(), spec.listen_timeout, spec.job);
    spec.output = output;
    // Before the first worker: what changes from now on counts.
    let sources = Sources::open(triggers)?;
    let (cluster, events) = Cluster::start(spec).map_err(start_error)?;
    let cluster = Arc::new(cluster);
    let operator = Operator::new(&cluster, env);
    signals::watch(alarm, operator.clone(), Arc::clone(reporter)).map_err(|source| CliError::System {
        what: "start a thread for signals".into(),
        source,
    })?;
    let server = control
        .map(|socket| serve(socket, &app, job, &operator))
        .transpose()?;
    let running = start_triggers(sources, &operator, reporter)?;
    let ended = follow(&cluster, events, pid_file, &running, reporter);
    running.stop();
    // Before the cluster is joined: a request may hold it.
    if let Some(server) = server {
        server.finish();
    }
    // The engine and the reader of the workers' output have written everything when this returns.
    let joined = last(cluster).map(Cluster::join);
    match ended.outcome.or(joined) {
        _ if ended.lost_pid_file.is_some() => ended
            .lost_pid_file
            .map_or(Ok(Exit::Unexpected), |error| Err(error.into())),
        Some(Outcome::Stopped) => Ok(Exit::Ok),
        Some(Outcome::Killed { .. }) => Ok(Exit::Killed),
        Some(Outcome::Done { failures: 0, .. }) => Ok(Exit::Ok),
        Some(Outcome::Done { failures, status }) => Err(CliError::Done {
            app,
            failures,
            status: status.unwrap_or(ExitStatus::Unknown),
        }),
        Some(Outcome::Failed { status }) => {
            let reporter = lock(reporter);
            Err(CliError::Failed {
                app,
                end: reporter.end(status, limit),
                bind: reporter.bind_failure(),
            })
        }
        _ => Err(CliError::NoOutcome),
    }
}

fn serve(socket: ControlSocket, app: &str, job: bool, operator: &Operator) -> Result<Server, CliError> {
    let ours = Ours::new(app.to_owned(), job, operator.clone());
    Server::start(socket, Arc::new(ours)).map_err(|source| CliError::System {
        what: "serve the control socket".into(),
        source,
    })
}

/// Cron, schedule and file changes do what an operator would.
fn start_triggers(sources: Sources, operator: &Operator, reporter: &Shared) -> Result<Running, CliError> {
    let (operator, told) = (operator.clone(), Arc::clone(reporter));
    let fire = {
        let told = Arc::clone(&told);
        move |trigger: Trigger| {
            lock(&told).notice(&trigger.to_string());
            if let Err(refusal) = operator.fire(&trigger) {
                lock(&told).notice(&refusal.to_string());
            }
        }
    };
    let notice = move |text: String| lock(&told).notice(&text);
    sources
        .start(Calls { fire, notice })
        .map_err(|source| CliError::System {
            what: "start a thread for triggers".into(),
            source,
        })
}

/// Whoever else has the cluster at this moment (a signal, a control connection) is about to let go of it.
fn last(mut cluster: Arc<Cluster>) -> Option<Cluster> {
    for _ in 0..1000 {
        match Arc::try_unwrap(cluster) {
            Ok(cluster) => return Some(cluster),
            Err(shared) => cluster = shared,
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    None
}

/// How the events ended.
struct Ended {
    outcome: Option<Outcome>,
    /// Another process had taken the pid file when we were ready.
    lost_pid_file: Option<PidFileError>,
}

/// Tells all events, and keeps the pid file.
fn follow(
    cluster: &Cluster,
    mut events: Events,
    mut pid_file: Option<PidFile>,
    triggers: &Running,
    reporter: &Shared,
) -> Ended {
    let mut ended = Ended {
        outcome: None,
        lost_pid_file: None,
    };
    let mut written = false;
    while let Some(event) = events.recv_blocking() {
        if let (Event::AllReady { .. }, Some(file), false) = (&event, &mut pid_file, written) {
            written = true;
            // Before the event is told: who reads it may look into the file.
            match file.write() {
                Ok(()) => {}
                Err(error @ PidFileError::Held { .. }) => {
                    ended.lost_pid_file = Some(error);
                    cluster.stop();
                }
                // The app serves; that is worth more than the file.
                Err(error) => lock(reporter).event(&Event::Error {
                    worker: None,
                    slot: None,
                    pid: None,
                    what: CliError::from(error).message(),
                }),
            }
        }
        match event {
            Event::Stopped { outcome } => ended.outcome = Some(outcome),
            Event::Reloading { phase, .. } if phase != Phase::Draining => triggers.pause(),
            Event::Reloading { .. } | Event::Reloaded(_) => triggers.resume(),
            _ => {}
        }
        lock(reporter).event(&event);
    }
    if let Some(file) = pid_file {
        file.remove();
    }
    ended
}

/// Why nothing could be started.
pub(crate) fn start_error(error: StartError) -> CliError {
    match error {
        StartError::Bind { address, source } => {
            let taken = source.kind() == std::io::ErrorKind::AddrInUse;
            let owner = taken.then(|| port_owner::find(&address)).flatten();
            CliError::Bind {
                address,
                owner,
                source,
            }
        }
        StartError::Limits(source) => CliError::Limits { source },
        StartError::System { what, source } => CliError::System {
            what: what.into(),
            source,
        },
        other => CliError::System {
            what: other.to_string(),
            source: std::io::ErrorKind::Other.into(),
        },
    }
}
