//! Must show 1 of the crate: each program of `examples/rust` runs under load, survives the kill of a worker with nothing
//! lost that had not reached the app, reloads with no failed request, and ends with nothing left.

mod chat;
mod grpc;
mod http;
mod mixed;
mod raw;
mod upgrade;

use anyhow::{Context, Result, ensure};
use e2e::Example;
use e2e::load::{Crowd, Session, Tally};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Clients at a time.
const CLIENTS: u64 = 8;
/// Workers killed under load.
const KILLS: u64 = 3;
/// After this a request has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One after the other: each of them keeps the machine busy, and is to do so in its own time.
static LOAD: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    LOAD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every server has to stand, under load by clients that keep their connections. Gives what came of the last part,
/// where some requests may fail: the kill of workers under load.
fn stands<S: Session>(
    example: &Example,
    open: impl Fn(u64) -> Result<S> + Clone + Send + 'static,
) -> Result<Tally> {
    reload(example, open.clone()).context("reload under load")?;
    survives(example, open)
}

/// The part of it that has to do with the death of workers.
fn survives<S: Session>(
    example: &Example,
    open: impl Fn(u64) -> Result<S> + Clone + Send + 'static,
) -> Result<Tally> {
    kill_frozen(example, open.clone()).context("kill of a worker that takes nothing")?;
    kill(example, open).context("kill of workers under load")
}

/// No request fails while all workers are replaced.
fn reload<S: Session>(
    example: &Example,
    open: impl Fn(u64) -> Result<S> + Clone + Send + 'static,
) -> Result<()> {
    let crowd = Crowd::start(CLIENTS, open);
    crowd.answered(100)?;
    example.reload()?;
    crowd.answered(100)?;
    nothing_failed(&crowd.finish()?)
}

/// What was given to a worker that never looked at it has not reached the app: none of it is lost with the worker.
fn kill_frozen<S: Session>(
    example: &Example,
    open: impl Fn(u64) -> Result<S> + Clone + Send + 'static,
) -> Result<()> {
    for worker in example.ready()? {
        example.freeze(&worker)?;
        let crowd = Crowd::start(CLIENTS, open.clone());
        // Some come to the other worker, the rest waits.
        crowd.connecting(CLIENTS)?;
        example.kill(&worker)?;
        example.ready()?;
        crowd.answered(100)?;
        nothing_failed(&crowd.finish()?)?;
    }
    Ok(())
}

/// What a killed worker was working on is lost, and nothing else: at most one request of each client for each kill, on
/// connections of that worker.
fn kill<S: Session>(
    example: &Example,
    open: impl Fn(u64) -> Result<S> + Clone + Send + 'static,
) -> Result<Tally> {
    let crowd = Crowd::start(CLIENTS, open);
    let mut killed = Vec::new();
    for _ in 0..KILLS {
        crowd.answered(50)?;
        let victim = example.ready()?.swap_remove(0);
        example.kill(&victim)?;
        example.ready()?;
        killed.push(victim.id.to_string());
    }
    crowd.answered(50)?;
    let tally = crowd.finish()?;
    ensure!(tally.failed() <= KILLS * CLIENTS, "{tally:?}");
    for failure in &tally.failures {
        let of_the_killed = failure
            .worker
            .as_ref()
            .is_none_or(|worker| killed.contains(worker));
        ensure!(of_the_killed, "killed were {killed:?}: {failure:?}");
        // Nobody listened, or nobody answered: that must not be, whoever is killed.
        let lost = failure.reason.starts_with("connect to ") || failure.reason.contains("os error 11");
        ensure!(!lost, "{failure:?}");
    }
    Ok(tally)
}

fn nothing_failed(tally: &Tally) -> Result<()> {
    ensure!(tally.failures.is_empty(), "{tally:?}");
    Ok(())
}
