//! Must show 6: workers that cannot take a connection now. None is lost, nobody spins, and the worker is used again
//! when it can.

use anyhow::{Result, ensure};
use e2e::http::{Connection, get};
use e2e::load::{self, Plan};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, Worker, fixture, process};
use rustix::process::Signal;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const POLICIES: [&str; 2] = ["round-robin", "least-connections"];

fn start(policy: &str, workers: usize, max_connections: &str) -> Result<(Run, Vec<Worker>)> {
    let run = Everup::run()?
        .args(["-i", &workers.to_string(), "--policy", policy])
        .arg(fixture("app.js"))
        .env("MAX_CONNECTIONS", max_connections)
        .start()?;
    let ready = run.ready(workers)?;
    Ok((run, ready))
}

/// The primary takes under 2 % of a core over two seconds.
fn is_idle(run: &Run, what: &str) -> Result<()> {
    let (began, cpu) = (Instant::now(), process::cpu(run.pid)?);
    // wait: the span over which CPU time is measured
    thread::sleep(Duration::from_secs(2));
    let share = (process::cpu(run.pid)? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    e2e::say(&format!(
        "{what}: the primary takes {:.2} % of a core",
        share * 100.0
    ));
    ensure!(
        share < 0.02,
        "{what}: the primary takes {:.1} % of a core",
        share * 100.0
    );
    Ok(())
}

/// Asks until a worker in this slot has answered.
fn served_again_by(address: SocketAddr, slot: u32) -> Result<()> {
    wait_until(&format!("slot {slot} serves again"), LIMIT, || {
        let answer = get(address, "/", LIMIT).map_err(|error| format!("{error:#}"))?;
        let who = answer.header("x-worker");
        if who == slot.to_string() {
            Ok(())
        } else {
            Err(format!("{who} answered"))
        }
    })
}

/// A client that sent its request and has no answer yet.
fn asked(address: SocketAddr) -> Result<Connection<TcpStream>> {
    let mut client = Connection::open(address, LIMIT)?;
    client.send("/")?;
    Ok(client)
}

#[test]
fn only_worker_out_of_descriptors() -> Result<()> {
    for policy in POLICIES {
        let (run, workers) = start(policy, 1, "")?;
        let address = run.address()?;
        process::starve(workers[0].pid)?;
        let mut waiting = [asked(address)?, asked(address)?, asked(address)?];
        is_idle(
            &run,
            &format!("{policy}, three clients of a worker without descriptors"),
        )?;
        process::limit_descriptors(workers[0].pid, 1024)?;
        for client in &mut waiting {
            ensure!(client.answer()?.status == 200);
        }
        ensure!(
            run.seen().ready() == workers,
            "{policy}: another worker than before"
        );
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

#[test]
fn one_of_two_out_of_descriptors() -> Result<()> {
    for policy in POLICIES {
        let (run, workers) = start(policy, 2, "")?;
        let address = run.address()?;
        process::starve(workers[0].pid)?;
        let loader = thread::spawn(move || load::run(&Plan::open(address, 20.0, 45)));
        is_idle(
            &run,
            &format!("{policy}, 20 connections per second past a worker without descriptors"),
        )?;
        let report = loader
            .join()
            .map_err(|_| anyhow::anyhow!("the load client panicked"))??;
        ensure!(report.ok == 45, "{policy}: {}", report.json());
        let by_the_other = report.workers.get(&workers[1].slot.to_string());
        ensure!(by_the_other == Some(&45), "{policy}: {}", report.json());
        process::limit_descriptors(workers[0].pid, 1024)?;
        served_again_by(address, workers[0].slot)?;
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

#[test]
fn all_at_max_connections() -> Result<()> {
    for policy in POLICIES {
        let (run, _) = start(policy, 2, "1")?;
        let address = run.address()?;
        let mut held = [
            Connection::open(address, LIMIT)?,
            Connection::open(address, LIMIT)?,
        ];
        let mut by = Vec::new();
        for client in &mut held {
            by.push(client.get("/")?.header("x-worker").to_owned());
        }
        by.sort();
        ensure!(by == ["0", "1"], "{policy}: the two connections are with {by:?}");
        let mut waiting = asked(address)?;
        is_idle(
            &run,
            &format!("{policy}, one client with all workers at maxConnections"),
        )?;
        let [first, _second] = held;
        drop(first);
        ensure!(waiting.answer()?.status == 200);
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

#[test]
fn one_of_two_stopped() -> Result<()> {
    for policy in POLICIES {
        let (run, workers) = start(policy, 2, "")?;
        let address = run.address()?;
        process::signal(workers[0].pid, Signal::STOP)?;
        let loader = thread::spawn(move || {
            load::run(&Plan {
                timeout: LIMIT,
                ..Plan::open(address, 20.0, 45)
            })
        });
        is_idle(
            &run,
            &format!("{policy}, 20 connections per second past a stopped worker"),
        )?;
        process::signal(workers[0].pid, Signal::CONT)?;
        let report = loader
            .join()
            .map_err(|_| anyhow::anyhow!("the load client panicked"))??;
        ensure!(report.ok == 45, "{policy}: {}", report.json());
        ensure!(
            report.workers.get(&workers[1].slot.to_string()) > Some(&30),
            "{policy}: {}",
            report.json()
        );
        served_again_by(address, workers[0].slot)?;
        ensure!(
            run.seen().ready() == workers,
            "{policy}: another worker than before"
        );
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}
