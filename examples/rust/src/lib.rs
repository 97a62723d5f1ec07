//! What all the examples need and none of them is about: settings from the environment, and a line for each event.
//!
//! `PORT` (3000; 0 is a free one), `WORKERS` (as many as there are CPUs), `POLICY` (each example has its own default).

#![expect(clippy::print_stdout, reason = "programs for the terminal")]

use std::env::{self, VarError};
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use everup::{Address, Event, Outcome, Policy, Worker, Workers};

/// Where the example listens.
///
/// # Errors
/// When `PORT` is not a port.
pub fn address() -> Result<SocketAddr> {
    let port = setting("PORT")?.unwrap_or(3000);
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// How many workers there are to be.
///
/// # Errors
/// When `WORKERS` is not a number.
pub fn workers() -> Result<Workers> {
    Ok(setting("WORKERS")?.map_or(Workers::PerCpu, Workers::Exactly))
}

/// Who gets the next connection.
///
/// # Errors
/// When there is no policy of the name in `POLICY`.
pub fn policy(default: Policy) -> Result<Policy> {
    let Some(name) = setting::<String>("POLICY")? else {
        return Ok(default);
    };
    Ok(match name.as_str() {
        "least-connections" => Policy::LeastConnections,
        "round-robin" => Policy::RoundRobin,
        "shared" => Policy::Shared,
        "reuseport" => Policy::ReusePort,
        "sticky" => Policy::Sticky,
        _ => bail!("POLICY: there is no policy {name:?}"),
    })
}

fn setting<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(name: &str) -> Result<Option<T>> {
    match env::var(name) {
        Ok(text) => Ok(Some(text.parse().with_context(|| format!("{name}={text}"))?)),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(name.to_owned()),
    }
}

/// What a worker calls itself: its number.
#[must_use]
pub fn name(worker: &Worker) -> String {
    worker
        .id()
        .map_or_else(|| "alone".to_owned(), |id| id.to_string())
}

/// Prints what an operator wants to see of an event.
pub fn tell(event: &Event) {
    match event {
        Event::Fork {
            worker, slot, pid, ..
        } => println!("worker {worker}: process {pid} in slot {slot}"),
        Event::Listening { worker, address, .. } => match address {
            Address::Tcp(address) | Address::Udp(address) => {
                println!("worker {worker}: listening on {address}");
            }
            other => println!("worker {worker}: listening on {other:?}"),
        },
        Event::Ready { worker, .. } => println!("worker {worker}: ready"),
        Event::Exit {
            worker,
            status,
            reason,
            ..
        } => println!("worker {worker}: ended, {status:?}, {reason:?}"),
        Event::Reloaded(receipt) => println!(
            "reloaded: generation {}, {}",
            receipt.generation,
            receipt.verdict.name()
        ),
        Event::Error { worker, what, .. } => println!("worker {worker:?}: {what}"),
        // There are more, for those who want to know more.
        _ => {}
    }
}

/// A stop that was asked for is a good end; any other is an error.
///
/// # Errors
/// When workers had to be killed, or could not be kept running.
pub fn check(outcome: &Outcome) -> Result<()> {
    ensure!(*outcome == Outcome::Stopped, "the cluster has ended: {outcome:?}");
    Ok(())
}
