//! `--control`, and the verbs that talk to it, with the real binary on both ends.

use anyhow::{Result, bail, ensure};
use e2e::{Ended, Everup, LIMIT, Run, binary, fixture};
use everup_api::{Client, PingRequest, StopRequest};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn start(socket: &Path) -> Result<Run> {
    let run = Everup::run()?.arg("--control").arg(socket);
    let run = run.args(["-i", "2"]).arg(fixture("app.js")).start()?;
    run.ready(2)?;
    Ok(run)
}

/// A verb, at this socket by the variable.
fn verb(socket: &Path, words: &[&str]) -> Result<Ended> {
    Everup::program(binary::everup()?)
        .env("EVERUP_CONTROL", socket)
        .args(words)
        .finish()
}

#[test]
fn a_run_is_asked_and_stopped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("app.sock");
    let run = start(&socket)?;
    ensure!(fs::metadata(&socket)?.permissions().mode() & 0o777 == 0o600);

    let ping = verb(&socket, &["ping"])?;
    let expected = format!(
        "app answers: everup {}, pid {}",
        env!("CARGO_PKG_VERSION"),
        run.pid
    );
    ensure!(ping.code() == Some(0) && ping.out == [expected], "{}", ping.all());
    let wrong = verb(&socket, &["signal", "USR2", "--worker", "77"])?;
    ensure!(
        wrong.code() == Some(10) && wrong.all().contains("there is no worker 77"),
        "{}",
        wrong.all()
    );

    let second = Everup::run()?
        .arg("--control")
        .arg(&socket)
        .arg(fixture("app.js"))
        .finish()?;
    ensure!(second.code() == Some(7), "{}", second.all());
    ensure!(
        second.all().contains(&format!("process {}", run.pid)),
        "{}",
        second.all()
    );

    let stop = verb(&socket, &["stop", "--json"])?;
    ensure!(
        stop.code() == Some(0) && stop.out == ["{\"stopping\":true}"],
        "{}",
        stop.all()
    );
    ensure!(run.ended(LIMIT)?.code() == Some(0));
    ensure!(fs::read_dir(folder.path())?.count() == 0, "the socket is left");
    ensure!(verb(&socket, &["ping"])?.code() == Some(9));
    Ok(())
}

#[test]
fn a_dead_ones_socket_is_replaced() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("app.sock");
    let run = start(&socket)?;
    run.signal(Signal::KILL)?;
    run.gone(LIMIT)?;
    ensure!(socket.exists());
    let ping = verb(&socket, &["ping"])?;
    ensure!(
        ping.code() == Some(9) && ping.all().contains("nobody listens there any more"),
        "{}",
        ping.all()
    );

    let run = start(&socket)?;
    let Ok(mut client) = Client::connect(&socket, Some(LIMIT)) else {
        bail!("nobody answers")
    };
    let Ok(pong) = client.call(PingRequest {}, &mut |_| {}) else {
        bail!("no answer")
    };
    ensure!(pong.pid == run.pid);
    let Ok(stopping) = client.call(StopRequest { now: true }, &mut |_| {}) else {
        bail!("no answer")
    };
    ensure!(stopping.stopping && run.ended(LIMIT)?.code() == Some(6));
    Ok(())
}
