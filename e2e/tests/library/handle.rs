//! Handles of workers, while they live and after.

use crate::Stage;
use anyhow::{Result, ensure};
use everup::{Cluster, Event, ExitStatus, Fork, State, WorkerId};

const SERVER: &str = "require('net').createServer(socket => socket.pipe(socket)).listen(0, '127.0.0.1');";

fn ready(stage: &mut Stage) -> Result<(WorkerId, u32)> {
    stage.until("it is ready", |event| match event {
        Event::Ready { worker, pid, .. } => Some((*worker, *pid)),
        _ => None,
    })
}

#[test]
fn a_worker_that_is_asked_to_go() -> Result<()> {
    let mut stage = Stage::start(SERVER)?;
    let worker = stage.fork()?;
    ensure!(worker.pid().is_some_and(e2e::process::alive));
    ensure!(ready(&mut stage)? == (worker.id(), worker.pid().unwrap_or(0)));
    let same = stage.cluster.worker(worker.id()).expect("it lives");
    ensure!((same.id(), same.slot(), same.pid()) == (worker.id(), worker.slot(), worker.pid()));
    ensure!(worker.state() == Some(State::Online) && worker.is_connected() && !worker.is_dead());
    ensure!(!worker.exited_after_disconnect() && worker.exit_status().is_none());
    ensure!(stage.cluster.handles().len() == 1);

    worker.disconnect();
    // The engine does one thing after the other: who asks now finds it done.
    ensure!(worker.is_dead() || worker.exited_after_disconnect());
    stage.exit(worker.id())?;
    ensure!(worker.is_dead() && worker.exited_after_disconnect() && !worker.is_connected());
    ensure!(worker.exit_status() == Some(ExitStatus::Code(0)) && worker.state().is_none());
    ensure!(stage.cluster.worker(worker.id()).is_none() && stage.cluster.handles().is_empty());
    stage.stop()
}

#[test]
fn a_worker_that_is_killed() -> Result<()> {
    let mut stage = Stage::start(SERVER)?;
    let (killed, other) = (stage.fork()?, stage.fork()?);
    ensure!(killed.id() != other.id() && killed.slot() != other.slot());
    killed.kill(9);
    stage.exit(killed.id())?;
    ensure!(killed.is_dead() && !killed.exited_after_disconnect());
    let by_signal = matches!(killed.exit_status(), Some(ExitStatus::Signal { signal: 9, .. }));
    ensure!(by_signal, "{:?}", killed.exit_status());
    ensure!(!other.is_dead());
    stage.stop()?;
    ensure!(other.is_dead() && other.exited_after_disconnect());
    Ok(())
}

#[test]
fn a_worker_that_could_not_be_started() -> Result<()> {
    let (cluster, _events) = Cluster::builder()
        .program("/no/such/program")
        .workers(0)
        .start()?;
    let worker = cluster.fork(Fork::default()).expect("a handle all the same");
    ensure!(worker.pid().is_none() && worker.is_dead() && worker.state().is_none());
    cluster.stop_now();
    Ok(())
}
