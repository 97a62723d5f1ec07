//! Must show 8: programs that speak no protocol of ours, behind sockets passed by `LISTEN_FDS`.

use anyhow::{Context, Result, ensure};
use e2e::http::{Connection, get};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, binary, fixture, process, repository};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Four workers of a program behind one port, all of which answer.
fn four_serve(program: OsString) -> Result<()> {
    let run = Everup::run()?
        .args(["-i", "4", "--listen", "tcp://127.0.0.1:0"])
        .arg(program)
        .start()?;
    let workers = run.ready(4)?;
    let address = address_of(&run)?;
    // The kernel chooses: many clients at a time, until everybody has been chosen.
    let pids: BTreeSet<u32> = workers.iter().map(|worker| worker.pid).collect();
    let mut answered = BTreeSet::new();
    wait_until("all four have answered", LIMIT, || {
        let open: Vec<_> = (0..16)
            .filter_map(|_| Connection::open(address, LIMIT).ok())
            .collect();
        for mut client in open {
            let answer = client.get("/").map_err(|error| format!("{error:#}"))?;
            answered.extend(answer.header("x-worker-pid").parse::<u32>());
        }
        if answered == pids {
            Ok(())
        } else {
            Err(format!("{answered:?} of {pids:?}"))
        }
    })?;
    // One that dies is replaced; nobody is refused meanwhile.
    process::signal(workers[0].pid, Signal::KILL)?;
    for _ in 0..50 {
        // What the killed one had already taken may be lost; what comes afterwards may not.
        if run.seen().count("exit") == 0 {
            run.event("exit", 1)?;
        }
        ensure!(get(address, "/", LIMIT)?.status == 200);
    }
    run.ready(4)?;
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

fn address_of(run: &Run) -> Result<SocketAddr> {
    run.until("the address of --listen", LIMIT, |seen| {
        seen.address().or_else(|| {
            // Or in the program's own words.
            let line = seen
                .out
                .iter()
                .find_map(|line| line.split_once("http://localhost:"))?
                .1;
            let port = line.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
            Some(SocketAddr::from(([127, 0, 0, 1], port)))
        })
    })
}

#[test]
fn four_python_servers() -> Result<()> {
    four_serve(repository("examples/python/server.py").into())
}

#[test]
fn four_rust_servers() -> Result<()> {
    four_serve(binary::rust_hello()?.into())
}

#[test]
fn names_and_kinds_of_sockets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("app.sock");
    // A port that is free for UDP: held until everup binds it, which it may because of nothing but luck otherwise.
    let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let unix = format!("local=unix:{}", path.display());
    let run = Everup::run()?
        .args(["--no-prefix", "-i", "2"])
        .args([
            "--listen",
            "web=tcp://127.0.0.1:0",
            "--listen",
            &unix,
            "--listen",
            &format!("udp://{udp}"),
        ])
        .arg(fixture("sockets.py"))
        .start()?;
    let line = run.out_line("listening")?;
    ensure!(line == "listening web local unknown", "{line}");
    run.ready(2)?;
    let answer = Connection::open_unix(&path, LIMIT)?.get("/")?;
    ensure!(answer.body.starts_with("local "), "{}", answer.body);
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.set_read_timeout(Some(LIMIT))?;
    client.send_to(b"hello", udp)?;
    let mut word = [0; 100];
    let (count, _) = client.recv_from(&mut word).context("no answer to a datagram")?;
    ensure!(word[..count].starts_with(b"unknown "));
    ensure!(run.stop()?.code() == Some(0));
    ensure!(!path.exists(), "the socket's file is left");
    Ok(())
}
