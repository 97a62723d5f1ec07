//! Must show 5: how connections spread over the workers.

use anyhow::{Context, Result, ensure};
use e2e::http::Connection;
use e2e::load::{self, Plan};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, binary, fixture, process};
use everup_api::{Client, StatusRequest};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

fn three(policy: &str) -> Result<Run> {
    let run = Everup::run()?
        .args(["-i", "3", "--policy", policy])
        .arg(fixture("hello.js"))
        .start()?;
    run.ready(3)?;
    Ok(run)
}

fn spread(run: &Run, concurrency: usize) -> Result<BTreeMap<String, u64>> {
    let report = load::run(&Plan::fresh(run.address()?, concurrency, 3000))?;
    ensure!(report.ok == 3000, "{}", report.json());
    Ok(report.workers)
}

#[test]
fn round_robin_gives_everybody_the_same() -> Result<()> {
    let run = three("round-robin")?;
    let equal = ["0", "1", "2"].map(|worker| (worker.to_owned(), 1000)).into();
    let found = spread(&run, 1)?;
    ensure!(found == equal, "one after the other: {found:?}");
    // With many at a time a worker that keeps its turn waiting for 20 ms is passed over, and catches up: on a machine
    // that is not overloaded it is 1,000 each, too.
    let found = spread(&run, 12)?;
    ensure!(
        found.len() == 3 && found.values().all(|&count| count >= 900),
        "twelve at a time: {found:?}"
    );
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn least_connections_leaves_nobody_out() -> Result<()> {
    let run = three("least-connections")?;
    for concurrency in [1, 12] {
        let found = spread(&run, concurrency)?;
        ensure!(
            found.len() == 3 && found.values().all(|&count| count >= 500),
            "{concurrency} at a time: {found:?}"
        );
    }
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn shared_serves_by_all() -> Result<()> {
    let run = three("shared")?;
    let found = spread(&run, 24)?;
    ensure!(found.len() == 3, "{found:?}");
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// Open connections, by the worker that has them.
type Open = BTreeMap<String, Vec<Connection<TcpStream>>>;

fn open_more(address: SocketAddr, connections: usize, open: &mut Open) -> Result<()> {
    for _ in 0..connections {
        let mut client = Connection::open(address, LIMIT)?;
        let worker = client.get("/")?.header("x-worker").to_owned();
        open.entry(worker).or_default().push(client);
    }
    Ok(())
}

/// Open connections of each slot, as the status has them.
fn told(socket: &Path) -> Result<BTreeMap<u32, Option<u64>>> {
    let status = Client::connect(socket, Some(LIMIT))?.call(StatusRequest {}, &mut |_| {})?;
    let workers = status.workers.iter();
    Ok(workers.map(|worker| (worker.slot, worker.connections)).collect())
}

/// Three workers get 30 connections that stay; then the clients of the one in slot 1, which calls itself `middle`, leave.
fn even(run: &Run, socket: &Path, middle: &str) -> Result<()> {
    run.ready(3)?;
    let address = run.address()?;
    let mut open = Open::new();
    open_more(address, 30, &mut open)?;
    let counts = |open: &Open| -> Vec<usize> { open.values().map(Vec::len).collect() };
    ensure!(counts(&open) == [10, 10, 10], "{:?}", counts(&open));
    // It gets all who come, until it has as many as the others.
    open.remove(middle).context("the one in the middle")?;
    let known = [(0, Some(10)), (1, Some(0)), (2, Some(10))].into();
    wait_until("the primary knows", LIMIT, || match told(socket) {
        Ok(told) if told == known => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    open_more(address, 10, &mut open)?;
    ensure!(counts(&open) == [10, 10, 10], "{:?}", counts(&open));
    Ok(())
}

#[test]
fn connections_that_stay_are_even_where_workers_tell() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("app.sock");
    let run = Everup::run()?
        .args(["-i", "3", "--control"])
        .arg(&socket)
        .arg(fixture("counts.js"))
        .start()?;
    even(&run, &socket, "1")?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// A program that is built with the crate is a worker of `everup run`, too, and tells by itself.
#[test]
fn workers_of_the_crate_tell() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("app.sock");
    let run = Everup::run()?
        .args(["-i", "3", "--channel", "node", "--env", "PORT=0", "--control"])
        .arg(&socket)
        .arg(binary::example("axum")?)
        .start()?;
    // It calls itself by its number, not by its slot.
    even(&run, &socket, "2")?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// A client of its own address.
fn visit(from: Ipv4Addr, address: SocketAddr) -> Result<String> {
    let mut client = Connection::open_from(from, address, LIMIT)?;
    let answer = client.get("/")?;
    ensure!(answer.status == 200);
    Ok(answer.header("x-worker").to_owned())
}

#[test]
fn sticky_clients_stay_with_their_slot() -> Result<()> {
    let run = three("sticky")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, run.address()?.port()));
    let clients: Vec<Ipv4Addr> = (1..=30).map(|host| Ipv4Addr::new(127, 0, 0, host)).collect();
    let look = || -> Result<Vec<String>> { clients.iter().map(|&from| visit(from, address)).collect() };
    let first = look()?;
    let slots: BTreeSet<&String> = first.iter().collect();
    ensure!(slots.len() == 3, "{first:?}");
    ensure!(look()? == first, "the second time");
    // The successor of a worker that died has its clients; meanwhile they go elsewhere.
    let victim = run.ready(3)?[0].clone();
    process::signal(victim.pid, Signal::KILL)?;
    run.event("exit", 1)?;
    look()?;
    run.ready(3)?;
    ensure!(look()? == first, "after a death");
    run.reload()?.all_replaced(3)?;
    ensure!(look()? == first, "after a reload");
    // One slot fewer moves its own clients only.
    run.signal(Signal::TTOU)?;
    run.ready(2)?;
    let fewer = look()?;
    let moved = first.iter().zip(&fewer).filter(|(before, after)| before != after);
    ensure!(
        moved.clone().all(|(before, _)| before == "2"),
        "{first:?} {fewer:?}"
    );
    ensure!(moved.count() > 0);
    run.signal(Signal::TTIN)?;
    run.ready(3)?;
    ensure!(look()? == first, "after it came back");
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// A worker that does not answer keeps its own clients waiting for a while, and nobody else.
#[test]
fn sticky_clients_of_others_do_not_wait_for_one_that_is_stuck() -> Result<()> {
    let run = three("sticky")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, run.address()?.port()));
    let clients: Vec<Ipv4Addr> = (1..=30).map(|host| Ipv4Addr::new(127, 0, 0, host)).collect();
    let mut by_slot: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
    for &from in &clients {
        by_slot.entry(visit(from, address)?).or_default().push(from);
    }
    let stuck = run.ready(3)?.into_iter().find(|worker| worker.slot == 0);
    let stuck = stuck.context("slot 0")?;
    process::signal(stuck.pid, Signal::STOP)?;
    let mut waiting = Vec::new();
    for &from in by_slot.get("0").into_iter().flatten().cycle().take(40) {
        let mut client = Connection::open_from(from, address, LIMIT)?;
        client.send("/")?;
        waiting.push(client);
    }
    for slot in ["1", "2"] {
        for &from in by_slot.get(slot).into_iter().flatten() {
            ensure!(visit(from, address)? == slot);
        }
    }
    // Those that were not handed to it yet go elsewhere in the end, and the others when it goes on.
    let elsewhere = waiting.split_off(20);
    for mut client in elsewhere {
        ensure!(client.answer()?.header("x-worker") != "0");
    }
    process::signal(stuck.pid, Signal::CONT)?;
    for mut client in waiting {
        ensure!(client.answer()?.status == 200);
    }
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}
