//! Describing a cluster, and one worker of it.

use crate::Stage;
use anyhow::{Context, Result, bail, ensure};
use everup::{Channel, Cluster, Conflict, Event, Fork, Outcome, Policy, RestartPolicy, StartError, Workers};
use serde_json::json;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// Arguments, variables and folder come through, for all workers and for one.
#[test]
fn workers_get_what_was_described() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let other = tempfile::tempdir()?;
    let script = "process.send([process.argv.slice(2), process.env.K, process.env.L, process.cwd()]);";
    let mut stage = Stage::start_with(script, |builder| {
        builder
            .arg("a")
            .arg("b")
            .env("K", "all")
            .env("L", "all")
            .cwd(folder.path())
    })?;
    let _worker = stage.fork()?;
    let here = |folder: &tempfile::TempDir| folder.path().canonicalize();
    ensure!(stage.message()? == json!([["a", "b"], "all", "all", here(&folder)?]));
    let script = stage.script();
    let fork = Fork::new()
        .env("K", "one")
        .args([script, "c".into()])
        .cwd(other.path());
    let _worker = stage.cluster.fork(fork).context("it runs")?;
    ensure!(stage.message()? == json!([["c"], "one", "all", here(&other)?]));
    stage.stop()
}

/// Another program, with streams of its own.
#[test]
fn one_worker_has_its_own_program_and_streams() -> Result<()> {
    let (cluster, mut events) = Cluster::builder()
        .program("true")
        .workers(0)
        .channel(Channel::None)
        .restart(RestartPolicy::never())
        .start()?;
    let (from_us, mut to_worker) = std::io::pipe()?;
    let (mut from_worker, out) = std::io::pipe()?;
    let (mut from_error, error) = std::io::pipe()?;
    let fork = Fork::new()
        .program("sh")
        .args(["-c", "read line; echo out $line; echo err $line >&2"])
        .stdin(OwnedFd::from(from_us))
        .stdout(OwnedFd::from(out))
        .stderr(OwnedFd::from(error));
    let _worker = cluster.fork(fork).context("it runs")?;
    writeln!(to_worker, "line")?;
    let (mut out, mut error) = (String::new(), String::new());
    // They end because nobody but the worker had the other ends.
    from_worker.read_to_string(&mut out)?;
    from_error.read_to_string(&mut error)?;
    ensure!(
        (out.as_str(), error.as_str()) == ("out line\n", "err line\n"),
        "{out:?} {error:?}"
    );
    while !matches!(events.recv_timeout(e2e::LIMIT)?, Some(Event::Exit { .. })) {}
    cluster.stop();
    ensure!(cluster.join() == Outcome::Stopped);
    Ok(())
}

#[test]
fn what_contradicts_itself_is_not_started() -> Result<()> {
    let started = Cluster::builder()
        .program("true")
        .policy(Policy::Shared)
        .spares(1)
        .start();
    match started {
        Err(StartError::Conflict(Conflict::SparesNeedHandOver)) => {}
        other => bail!("{other:?}"),
    }
    match Cluster::builder()
        .program("true")
        .workers(everup::MAX_WORKERS + 1)
        .start()
    {
        Err(StartError::Conflict(Conflict::TooManyWorkers { .. })) => Ok(()),
        other => bail!("{other:?}"),
    }
}

#[test]
fn a_worker_per_cpu() -> Result<()> {
    let count = |workers: Workers| -> Result<u32> {
        Ok(Cluster::builder()
            .program("true")
            .workers(workers)
            .into_spec()?
            .workers)
    };
    ensure!(count(Workers::PerCpu)? == everup::cpus::Cpus::detect().usable);
    ensure!(count(3.into())? == 3);
    Ok(())
}
