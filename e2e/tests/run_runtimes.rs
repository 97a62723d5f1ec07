//! Deno and Bun as workers: they speak Node's cluster protocol, each in its own way.
//!
//! The runtimes are npm packages; `e2e/setup` installs them.

use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, fixture, repository};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

fn runtime(path: &str) -> Result<PathBuf> {
    let program = repository("e2e/runtimes/node_modules").join(path);
    ensure!(
        program.exists(),
        "{} is missing: run e2e/setup",
        program.display()
    );
    Ok(program)
}

fn deno() -> Result<Everup> {
    let run = Everup::run()?
        .arg("--interpreter")
        .arg(runtime("@deno/linux-x64-glibc/deno")?)
        .args(["--node-args", "run --quiet --allow-all"])
        .env("DENO_NO_UPDATE_CHECK", "1");
    Ok(run)
}

fn bun() -> Result<Everup> {
    let program = runtime("@oven/bun-linux-x64-baseline/bin/bun")?;
    Ok(Everup::run()?.arg("--interpreter").arg(program))
}

/// What the server says to whoever connects: its pid.
fn ask(address: SocketAddr) -> Result<u32> {
    let mut client = TcpStream::connect_timeout(&address, LIMIT)?;
    client.set_read_timeout(Some(LIMIT))?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    answer
        .trim()
        .parse()
        .with_context(|| format!("{answer:?} is no pid"))
}

/// Both workers answer behind one port; one that dies is replaced; the stop leaves nothing behind.
fn serves(everup: Everup, policy: &str) -> Result<()> {
    let run = everup
        .args(["-i", "2", "--policy", policy, "--kill-timeout", "2s"])
        .arg(fixture("net-pid.cjs"))
        .start()?;
    let workers = run.ready(2)?;
    let address = run.address()?;
    both_answer(&run, address)?;
    e2e::process::signal(workers[0].pid, rustix::process::Signal::KILL)?;
    run.event("exit", 1)?;
    run.ready(2)?;
    both_answer(&run, address)?;
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

fn both_answer(run: &Run, address: SocketAddr) -> Result<()> {
    let pids: BTreeSet<u32> = run.ready(2)?.iter().map(|worker| worker.pid).collect();
    let mut answered = BTreeSet::new();
    wait_until("both have answered", LIMIT, || {
        answered.insert(ask(address).map_err(|error| format!("{error:#}"))?);
        if answered == pids {
            Ok(())
        } else {
            Err(format!("{answered:?} of {pids:?}"))
        }
    })
}

#[test]
fn deno_by_hand_over() -> Result<()> {
    serves(deno()?, "round-robin")
}

#[test]
fn deno_by_shared_socket() -> Result<()> {
    serves(deno()?, "shared")
}

#[test]
fn bun_by_hand_over() -> Result<()> {
    serves(bun()?, "round-robin")
}

#[test]
fn bun_by_shared_socket() -> Result<()> {
    serves(bun()?, "shared")
}
