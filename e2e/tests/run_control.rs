//! `--control`, and the verbs that talk to it, with the real binary on both ends.

use anyhow::{Result, bail, ensure};
use e2e::{Ended, Everup, LIMIT, Run, binary, fixture};
use everup_api::{
    Amount, Client, ExitStatus, Outcome, PingRequest, ReloadRequest, RestartRequest, ScaleRequest,
    StatusRequest, StopRequest, WhyRequest,
};
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
        ping.code() == Some(9) && ping.all().contains("nobody listens there"),
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

/// An app whose next start fails while the file `bad` lies beside it.
const APP: &str = r"
if (require('fs').existsSync(__dirname + '/bad')) throw new Error('a bad build');
require('http').createServer((req, res) => {
  if (req.url === '/exit') { console.log('bye'); process.exit(3); }
  res.end('ok');
}).listen(0, '127.0.0.1');
";

fn pids(client: &mut Client) -> Result<Vec<u32>> {
    let Ok(status) = client.call(StatusRequest {}, &mut |_| {}) else {
        bail!("no status")
    };
    Ok(status.workers.iter().map(|worker| worker.pid).collect())
}

#[test]
fn reloads_good_and_bad() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (script, socket) = (folder.path().join("shop.js"), folder.path().join("s"));
    fs::write(&script, APP)?;
    let run = Everup::run()?
        .args(["-i", "2", "--control"])
        .arg(&socket)
        .arg(&script)
        .start()?;
    run.ready(2)?;
    let Ok(mut client) = Client::connect(&socket, Some(LIMIT)) else {
        bail!("nobody answers")
    };
    let first = pids(&mut client)?;

    let mut steps = 0;
    let Ok(receipt) = client.call(ReloadRequest {}, &mut |_| steps += 1) else {
        bail!("no receipt")
    };
    ensure!(
        receipt.outcome == Outcome::Done && receipt.workers.len() == 2 && steps > 0,
        "{receipt:?}"
    );
    let second = pids(&mut client)?;
    ensure!(
        second.len() == 2 && second.iter().all(|pid| !first.contains(pid)),
        "{first:?} {second:?}"
    );

    fs::write(folder.path().join("bad"), "")?;
    let bad = verb(&socket, &["reload"])?;
    ensure!(
        bad.code() == Some(8) && bad.all().contains("reload aborted after"),
        "{}",
        bad.all()
    );
    ensure!(
        pids(&mut client)? == second,
        "the old workers are not as they were"
    );

    fs::remove_file(folder.path().join("bad"))?;
    let Ok(receipt) = client.call(RestartRequest {}, &mut |_| {}) else {
        bail!("no receipt")
    };
    ensure!(
        receipt.outcome == Outcome::Done && receipt.cause == "restart",
        "{receipt:?}"
    );

    run.signal(Signal::TERM)?;
    ensure!(run.ended(LIMIT)?.code() == Some(0));
    Ok(())
}

#[test]
fn scaled_and_asked_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (script, socket) = (folder.path().join("shop.js"), folder.path().join("s"));
    fs::write(&script, APP)?;
    let run = Everup::run()?
        .arg("--control")
        .arg(&socket)
        .arg(&script)
        .start()?;
    run.ready(1)?;
    let Ok(mut client) = Client::connect(&socket, Some(LIMIT)) else {
        bail!("nobody answers")
    };
    let mut scale = |workers| match client.call(ScaleRequest { workers }, &mut |_| {}) {
        Ok(scaled) => Ok((scaled.from, scaled.to, scaled.ready)),
        Err(error) => bail!("{error}"),
    };
    ensure!(scale(Amount::More(2))? == (1, 3, 3));
    ensure!(scale(Amount::To(0))? == (3, 0, 0));
    ensure!(scale(Amount::To(1))? == (0, 1, 1));

    drop(e2e::http::get(run.address()?, "/exit", LIMIT));
    let exit = e2e::run::wait_until("the exit", LIMIT, || {
        let Ok(why) = client.call(WhyRequest::default(), &mut |_| {}) else {
            return Err("no answer".into());
        };
        let exit = why
            .exits
            .into_iter()
            .find(|exit| exit.reason == "own" && exit.then == "replaced at once");
        exit.ok_or(why.summary)
    })?;
    ensure!(
        exit.status == ExitStatus::Code { code: 3 } && exit.last_lines == ["bye"],
        "{exit:?}"
    );
    ensure!(exit.cause == "it exited by itself with code 3", "{exit:?}");
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}
