//! A primary whose workers are itself, as a program would be that uses the library.
//!
//! Without an argument that has a meaning here it runs two workers without a channel until it is signalled. With
//! `stubborn` these ignore the request to stop. `run` does it with `Builder::run`, `run_with` tells of events, too;
//! `unstartable` runs what cannot be started, then gives itself a signal. `init` starts two clusters that would reap orphans, `bomb` a worker that
//! does not know that it is one.

use anyhow::{Context, Result};
use e2e::say;
use everup::signals::Signals;
use everup::{Channel, Cluster, Event, Fork, Outcome, Policy, RestartPolicy, RunError, Spec, StartError};

/// Set for the workers.
const WORKER: &str = "E2E_PRIMARY_WORKER";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mode = args.first().map_or("", String::as_str);
    match mode {
        "init" => return init(),
        "bomb" => return bomb(),
        "unstartable" => return unstartable(),
        _ if std::env::var_os(WORKER).is_some() => return work(&args, mode == "stubborn"),
        _ => {}
    }
    let builder = Cluster::builder().workers(2).channel(Channel::None);
    let builder = builder.env(WORKER, "1");
    let outcome = match mode {
        "run" => builder.run()?,
        "run_with" => builder.run_with(told)?,
        _ => builder.start()?.0.run_until_signal()?,
    };
    say(&format!("{outcome:?}"));
    Ok(())
}

/// Stops by itself when all workers are ready.
fn told(cluster: &Cluster, event: Event) {
    match event {
        Event::AllReady { workers } => {
            say(&format!("{workers} are ready"));
            cluster.stop();
        }
        Event::Stopped { outcome } => say(&format!("told {outcome:?}")),
        _ => {}
    }
}

/// Shows that the handlers are there before anything is started: the signal would end this process.
fn unstartable() -> Result<()> {
    let builder = Cluster::builder().program("true").channel(Channel::None);
    match builder.policy(Policy::Shared).spares(1).run() {
        Err(RunError::Start(StartError::Conflict(_))) => {}
        other => anyhow::bail!("{other:?}"),
    }
    e2e::process::signal(std::process::id(), rustix::process::Signal::TERM)?;
    say("it lives");
    Ok(())
}

fn work(args: &[String], stubborn: bool) -> Result<()> {
    let signals = stubborn.then(|| Signals::block(&[15])).transpose()?;
    say(&format!("worker {args:?}"));
    loop {
        match &signals {
            Some(signals) => {
                signals.wait()?;
                say("asked to stop");
            }
            None => std::thread::park(),
        }
    }
}

fn init() -> Result<()> {
    let start = || {
        let mut spec = Spec::new("true");
        (spec.workers, spec.init) = (0, true);
        Cluster::start(spec)
    };
    let end = |cluster: Cluster| -> Outcome {
        cluster.stop();
        cluster.join()
    };
    let (first, _events) = start()?;
    say(&format!("{:?}", start().map(|(cluster, _)| end(cluster))));
    end(first);
    say(&format!("{:?}", start().map(|(cluster, _)| end(cluster))));
    Ok(())
}

fn bomb() -> Result<()> {
    let builder = Cluster::builder().workers(0);
    let started = builder.restart(RestartPolicy::never()).start();
    if let Err(error @ StartError::IsWorker) = started {
        say(&format!("{:?}", Some(error)));
        return Ok(());
    }
    let (cluster, mut events) = started?;
    let worker = cluster.fork(Fork::default()).context("it runs")?;
    while !worker.is_dead() {
        events.recv_timeout(e2e::LIMIT)?;
    }
    cluster.stop();
    say(&format!("{:?}", cluster.join()));
    Ok(())
}
