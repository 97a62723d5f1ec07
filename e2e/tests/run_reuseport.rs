//! `--policy reuseport`: the primary keeps a listening socket for each slot, and nobody waits in the queue of a worker
//! that is gone.

use anyhow::{Result, ensure};
use e2e::http::Connection;
use e2e::load::{self, Background, Length, Plan};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, fixture, process, repository};
use rustix::io::Errno;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// One after the other: each of them keeps the machine busy.
static LOAD: Mutex<()> = Mutex::new(());

fn everup(workers: usize) -> Result<Everup> {
    let workers = workers.to_string();
    Ok(Everup::run()?.args(["-i", &workers, "--policy", "reuseport"]))
}

fn started(workers: usize) -> Result<Run> {
    let run = everup(workers)?.arg(fixture("hello.js")).start()?;
    run.ready(workers)?;
    Ok(run)
}

/// Fresh connections, so many per second, until it is enough.
fn steady(run: &Run) -> Result<Plan> {
    Ok(Plan {
        length: Length::For(LIMIT * 100),
        ..Plan::open(run.address()?, 300.0, 0)
    })
}

/// How many connections wait in the queues of the sockets that listen there.
fn queued(address: SocketAddr) -> Result<u64, String> {
    const LISTEN: &str = "0A";
    let port = format!(":{:04X}", address.port());
    let mut all = 0;
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        for line in table.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, LISTEN, queues, ..] = fields[..] else {
                continue;
            };
            let waiting = queues.split_once(':').filter(|_| local.ends_with(&port));
            all += waiting.map_or(0, |(_, hex)| u64::from_str_radix(hex, 16).unwrap_or(0));
        }
    }
    Ok(all)
}

/// Sends so many requests without waiting for the answers.
fn ask(address: SocketAddr, requests: usize) -> Result<Vec<Connection<std::net::TcpStream>>> {
    let mut clients = Vec::new();
    for _ in 0..requests {
        let mut client = Connection::open(address, LIMIT)?;
        client.send("/")?;
        clients.push(client);
    }
    Ok(clients)
}

#[test]
fn connections_spread_over_all_workers() -> Result<()> {
    let node24: PathBuf = repository("e2e/node-versions/node_modules/node24/bin/node");
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    for (workers, node) in [(2, None), (4, None), (2, Some(&node24)), (4, Some(&node24))] {
        let mut everup = everup(workers)?;
        if let Some(node) = node {
            everup = everup.arg("--interpreter").arg(node);
        }
        let run = everup.arg(fixture("hello.js")).start()?;
        run.ready(workers)?;
        let report = load::run(&Plan::fresh(run.address()?, 8, 2000))?;
        ensure!(report.ok == 2000, "{}", report.json());
        let everybody = report.workers.len() == workers && report.workers.values().all(|&n| n > 200);
        ensure!(everybody, "{workers} workers, {node:?}: {:?}", report.workers);
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

/// What waits for a worker that dies is served by the others, long before its successor is there.
#[test]
fn the_queue_of_a_dead_worker_is_served_by_others() -> Result<()> {
    let node24: PathBuf = repository("e2e/node-versions/node_modules/node24/bin/node");
    for node in [PathBuf::from("node"), node24] {
        let folder = tempfile::tempdir()?;
        let run = everup(2)?
            .arg("--interpreter")
            .arg(&node)
            .arg(fixture("late-successor.js"))
            .env("FIRST", folder.path().join("first"))
            .start()?;
        let workers = run.ready(2)?;
        let address = run.address()?;
        process::signal(workers[0].pid, Signal::STOP)?;
        let mut clients = ask(address, 200)?;
        // The other one has answered its part by then.
        let waiting = wait_until("some wait for the stopped one", LIMIT, || {
            match queued(address)? {
                waiting @ 60..=140 => Ok(waiting),
                waiting => Err(format!("{waiting} wait")),
            }
        })?;
        process::signal(workers[0].pid, Signal::KILL)?;
        for client in &mut clients {
            ensure!(client.answer()?.status == 200);
        }
        ensure!(
            run.seen().count("listening") == 2,
            "{waiting} waited for the successor"
        );
        run.ready(2)?;
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

/// With nobody else there, the successor gets the queue.
#[test]
fn the_queue_of_the_only_worker_waits_for_its_successor() -> Result<()> {
    let run = started(1)?;
    let workers = run.ready(1)?;
    let address = run.address()?;
    process::signal(workers[0].pid, Signal::STOP)?;
    let mut clients = ask(address, 50)?;
    wait_until("all wait", LIMIT, || match queued(address)? {
        50 => Ok(()),
        waiting => Err(format!("{waiting} wait")),
    })?;
    process::signal(workers[0].pid, Signal::KILL)?;
    for client in &mut clients {
        ensure!(client.answer()?.status == 200);
    }
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn scaling_under_load_loses_nothing() -> Result<()> {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let run = started(4)?;
    let load = Background::start(steady(&run)?);
    for _ in 0..2 {
        for workers in [3, 2, 1] {
            run.signal(Signal::TTOU)?;
            run.ready(workers)?;
        }
        // Nobody waits for the places that are gone.
        let report = load::run(&Plan::fresh(run.address()?, 8, 200))?;
        ensure!(report.ok == 200, "{}", report.json());
        for workers in [2, 3, 4] {
            run.signal(Signal::TTIN)?;
            run.ready(workers)?;
        }
    }
    let report = load.finish()?;
    ensure!(report.failures.is_empty(), "{}", report.json());
    let report = load::run(&Plan::fresh(run.address()?, 8, 1000))?;
    let everybody = report.workers.len() == 4 && report.workers.values().all(|&n| n > 100);
    ensure!(everybody, "the places that came back: {:?}", report.workers);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// A slot that is empty for long is nobody's: its socket gets no new connections.
#[test]
fn nobody_waits_for_an_empty_slot() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = everup(2)?
        .arg(fixture("late-successor.js"))
        .env("FIRST", folder.path().join("first"))
        .start()?;
    let workers = run.ready(2)?;
    let address = run.address()?;
    process::signal(workers[1].pid, Signal::KILL)?;
    run.event("exit", 1)?;
    for mut client in ask(address, 200)? {
        ensure!(client.answer()?.status == 200);
    }
    ensure!(
        run.seen().count("listening") == 2,
        "they waited for the successor"
    );
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// A second cluster at the same port would take half of the connections of the first.
#[test]
fn another_cluster_cannot_join() -> Result<()> {
    let run = started(2)?;
    let port = run.address()?.port().to_string();
    let second = everup(2)?.arg(fixture("hello.js")).env("PORT", &port).start()?;
    let failed = second.event("bind_failed", 1)?;
    ensure!(
        failed.number("errno") == Some(Errno::ADDRINUSE.raw_os_error().into()),
        "{}",
        failed.json
    );
    drop(second);
    let report = load::run(&Plan::fresh(run.address()?, 8, 500))?;
    ensure!(report.ok == 500, "{}", report.json());
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}
