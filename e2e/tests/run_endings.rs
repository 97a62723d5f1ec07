//! Ends that once went wrong: found by reviewers who tried to break the engine, each kept as a test.

use anyhow::{Result, ensure};
use e2e::http::get;
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, process};
use rustix::process::Signal;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// A script of the test's own.
fn script(folder: &tempfile::TempDir, text: &str) -> Result<PathBuf> {
    let path = folder.path().join("app.js");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// The only worker leaves by itself and takes its time: who connects meanwhile waits for its successor.
#[test]
fn clients_wait_while_the_last_worker_leaves() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let app = script(
        &folder,
        "const http = require('http'), cluster = require('cluster');
         let held;
         http.createServer((req, res) => {
           if (req.url === '/hold') { held = res; console.log('holding'); return; }
           if (req.url === '/leave') { res.end('bye'); cluster.worker.disconnect(); setTimeout(() => held.end('held'), 1500); return; }
           res.end(String(process.pid));
         }).listen(0, '127.0.0.1');",
    )?;
    let run = Everup::run()?.arg(app).start()?;
    let worker = run.ready(1)?[0].pid;
    let address = run.address()?;
    let held = std::thread::spawn(move || get(address, "/hold", LIMIT));
    run.out_line("holding")?;
    ensure!(get(address, "/leave", LIMIT)?.status == 200);
    let clients: Vec<_> = (0..5)
        .map(|_| std::thread::spawn(move || get(address, "/", LIMIT)))
        .collect();
    for client in clients {
        let answer = client
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        ensure!(answer.body != worker.to_string(), "served by the one that leaves");
    }
    let answer = held
        .join()
        .map_err(|_| anyhow::anyhow!("the held client panicked"))??;
    ensure!(answer.body == "held", "{answer:?}");
    run.stop().map(drop)
}

/// Nobody reads our standard output, and the workers have filled it: the stop ends all the same.
#[test]
fn a_blocked_standard_output_does_not_keep_us() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let app = script(
        &folder,
        "require('http').createServer((q, r) => r.end()).listen(0, '127.0.0.1');
         setInterval(() => process.stdout.write('x'.repeat(65536) + '\\n'), 1);",
    )?;
    let (unread, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let run = Everup::run()?
        .args(["--kill-timeout", "1s"])
        .arg(app)
        .stdout(write_end)
        .start()?;
    run.ready(1)?;
    wait_until("the pipe is full", LIMIT, || {
        let waiting = rustix::io::ioctl_fionread(&unread).map_err(|error| error.to_string())?;
        if waiting >= 60_000 {
            Ok(())
        } else {
            Err(format!("{waiting} bytes"))
        }
    })?;
    run.signal(Signal::TERM)?;
    run.ended(LIMIT)?;
    drop(unread);
    run.gone(Duration::from_secs(1))
}

/// A grandchild that left the session and forgot its environment, and writes for ever.
#[test]
fn an_escaped_writer_does_not_keep_us() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let app = script(
        &folder,
        "require('http').createServer((q, r) => r.end()).listen(0, '127.0.0.1');
         require('child_process').spawn('sh', ['-c', 'env -i setsid yes everup-test-writer & exit'], { stdio: 'inherit' });",
    )?;
    let run = Everup::run()?.arg(app).start()?;
    run.ready(1)?;
    run.out_line("everup-test-writer")?;
    run.signal(Signal::TERM)?;
    let ended = run.ended(LIMIT)?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

/// A worker that has left the channel but lives keeps its connections to itself.
#[test]
fn a_connection_has_one_owner_when_the_channel_ends_first() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let app = script(
        &folder,
        "const cluster = require('cluster');
         require('net').createServer((socket) => {
           process.stderr.write(`seen by ${process.pid}\\n`);
           cluster.worker.exitedAfterDisconnect = true;
           process.disconnect();
           setTimeout(() => socket.end('done'), 500);
         }).listen(0, '127.0.0.1');",
    )?;
    let run = Everup::run()?.args(["-i", "2"]).arg(app).start()?;
    run.ready(2)?;
    let mut client = TcpStream::connect(run.address()?)?;
    client.set_read_timeout(Some(LIMIT))?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client, &mut answer)?;
    ensure!(answer == "done", "{answer:?}");
    let owners = run
        .seen()
        .err
        .iter()
        .filter(|line| line.contains("seen by"))
        .count();
    ensure!(owners == 1, "{owners} workers had the connection");
    run.stop().map(drop)
}

/// A port of a worker's own (its id or pid in it) is not kept for ever once the worker is dead.
#[test]
fn sockets_that_no_successor_wants_are_closed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let app = script(
        &folder,
        &format!(
            "require('http').createServer((q, r) => r.end()).listen('{}/' + process.pid + '.sock');",
            folder.path().display()
        ),
    )?;
    let run = Everup::run()?.arg(app).start()?;
    let first = run.ready(1)?[0].pid;
    process::signal(first, Signal::KILL)?;
    run.event("exit", 1)?;
    run.ready(1)?;
    let stale = folder.path().join(format!("{first}.sock"));
    wait_until("the dead worker's socket is gone", LIMIT, || {
        if stale.exists() {
            Err("it is still there".into())
        } else {
            Ok(())
        }
    })?;
    run.stop().map(drop)
}
