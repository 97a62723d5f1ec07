//! Must show 2: a build that is no good is not rolled out. What serves stays as it is, nothing fails meanwhile, and
//! nothing of the new worker is left.

use anyhow::{Result, ensure};
use e2e::http::get;
use e2e::load::{Background, Length, Plan};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Receipt, Run, Worker, binary, fixture};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// An app in a folder of its own, whose build can be changed while it runs.
struct App {
    folder: TempDir,
}

impl App {
    fn new(build: &str) -> Result<Self> {
        let app = Self {
            folder: tempfile::tempdir()?,
        };
        app.deploy(build)?;
        Ok(app)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.js")
    }

    /// Puts another build in place, whole at any moment.
    fn deploy(&self, build: &str) -> Result<()> {
        let new = self.folder.path().join("new.js");
        fs::copy(fixture(build), &new)?;
        Ok(fs::rename(new, self.path())?)
    }
}

fn everup(app: &Path, args: &[&str]) -> Result<Everup> {
    Ok(Everup::run()?.args(["-i", "2"]).args(args).arg(app))
}

fn load(run: &Run) -> Result<Background> {
    Ok(Background::start(Plan {
        length: Length::For(LIMIT * 10),
        ..Plan::open(run.address()?, 200.0, 0)
    }))
}

/// Only everup and these workers are left.
fn nobody_else(run: &Run, workers: &[Worker]) -> Result<()> {
    let mut wanted: BTreeSet<u32> = workers.iter().map(|worker| worker.pid).collect();
    wanted.insert(run.pid);
    wait_until("nobody else is left", Duration::from_secs(1), || {
        let there: BTreeSet<u32> = run.processes().into_iter().collect();
        if there == wanted {
            Ok(())
        } else {
            Err(format!("{there:?} instead of {wanted:?}"))
        }
    })
}

/// A reload to this build, with the receipt and the workers that there are afterwards, under load without a failure.
fn reload_to(build: &str, args: &[&str]) -> Result<(Receipt, [Vec<Worker>; 2])> {
    let app = App::new("hello.js")?;
    let control = app.folder.path().join("control");
    let run = everup(&app.path(), args)?
        .arg("--control")
        .arg(&control)
        .start()?;
    let before = run.ready(2)?;
    let load = load(&run)?;
    app.deploy(build)?;
    let asked = Everup::program(binary::everup()?)
        .args(["reload", "--control"])
        .arg(&control);
    let told = asked.finish()?;
    let receipt = run.receipt(1)?;
    ensure!(
        told.code() == Some(8) && told.all().contains(receipt.reason()),
        "{}",
        told.all()
    );
    let after = run.ready(2)?;
    nobody_else(&run, &after)?;
    let report = load.finish()?;
    ensure!(
        report.failures.is_empty() && report.ok > 0,
        "{}\n{:?}\n{}",
        report.json(),
        report.failures,
        receipt.json
    );
    // The next reload, to a good build, is none the worse for it.
    app.deploy("hello.js")?;
    let next = run.reload()?;
    next.all_replaced(2)?;
    ensure!(next.generation() == receipt.generation() + 1, "{}", next.json);
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    Ok((receipt, [before, after]))
}

/// The reload is aborted for this reason; the workers are the same as before.
fn aborts(build: &str, args: &[&str], reason: &str) -> Result<Receipt> {
    let (receipt, [before, after]) = reload_to(build, args)?;
    let said = receipt.outcome() == "aborted" && receipt.reason().contains(reason);
    ensure!(said && receipt.workers().is_empty(), "{}", receipt.json);
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(receipt)
}

fn took(receipt: &Receipt) -> Duration {
    Duration::from_millis(receipt.json["duration_ms"].as_u64().unwrap_or_default())
}

#[test]
fn throws_at_load() -> Result<()> {
    aborts("throws-at-load.js", &[], "ended before it was ready").map(drop)
}

#[test]
fn never_listens() -> Result<()> {
    let receipt = aborts(
        "builds/never-listens.js",
        &["--listen-timeout", "3s"],
        "was not ready within 3s",
    )?;
    let took = took(&receipt);
    let limit = Duration::from_secs(3);
    ensure!(took >= limit && took < limit * 3, "it took {took:?}");
    Ok(())
}

#[test]
fn dies_three_seconds_after_it_was_ready() -> Result<()> {
    let receipt = aborts(
        "builds/dies-soon.js",
        &["--canary", "5s"],
        "ended soon after it was ready, with code 3",
    )?;
    let took = took(&receipt);
    ensure!(took >= Duration::from_secs(3), "it took {took:?}");
    Ok(())
}

#[test]
fn answers_500_to_its_probe() -> Result<()> {
    let health = ["--health", "http=/healthz", "--health-interval", "100ms"];
    let receipt = aborts("builds/sick.js", &health, "status 500")?;
    ensure!(took(&receipt) < Duration::from_secs(10), "{}", receipt.json);
    Ok(())
}

/// The same with readiness by the probe instead of listening.
#[test]
fn is_never_ready_by_its_probe() -> Result<()> {
    let args = ["--ready", "http=/healthz", "--listen-timeout", "3s"];
    aborts(
        "builds/sick.js",
        &args,
        "was not ready within 3s; its last probe: status 500",
    )
    .map(drop)
}

#[test]
fn what_was_swapped_is_rolled_back() -> Result<()> {
    let (receipt, [before, after]) = reload_to("builds/second-dies.js", &["--canary", "100ms"])?;
    ensure!(receipt.outcome() == "rolled_back", "{}", receipt.json);
    ensure!(
        receipt.reason().contains("ended before it was ready"),
        "{}",
        receipt.json
    );
    let [change] = receipt.workers() else {
        anyhow::bail!("{}", receipt.json);
    };
    ensure!(
        change["slot"] == 0 && change["reverted"] == true,
        "{}",
        receipt.json
    );
    let place = |workers: &[Worker], slot| workers.iter().find(|worker| worker.slot == slot).cloned();
    ensure!(place(&before, 1) == place(&after, 1) && place(&after, 1).is_some());
    let first = place(&after, 0);
    ensure!(
        first != place(&before, 0) && first.map(|worker| worker.pid.into()) != change["new_pid"].as_u64()
    );
    Ok(())
}

/// With one worker there is nobody else to serve: it stays.
#[test]
fn one_worker_stays() -> Result<()> {
    let app = App::new("hello.js")?;
    let run = Everup::run()?.arg(app.path()).start()?;
    let before = run.ready(1)?;
    let load = load(&run)?;
    for build in ["throws-at-load.js", "throws-at-load.js"] {
        app.deploy(build)?;
        let receipt = run.reload()?;
        ensure!(receipt.outcome() == "aborted", "{}", receipt.json);
        ensure!(run.ready(1)? == before, "{}", receipt.json);
    }
    let report = load.finish()?;
    ensure!(
        report.failures.is_empty(),
        "{}\n{:?}",
        report.json(),
        report.failures
    );
    ensure!(get(run.address()?, "/", LIMIT)?.status == 200);
    Ok(())
}

/// All new workers at once: those that were good go again, too.
#[test]
fn nothing_stays_of_many_at_once() -> Result<()> {
    let args = ["--surge", "100%", "--canary", "100ms"];
    let (receipt, [_, after]) = reload_to("builds/second-dies.js", &args)?;
    ensure!(receipt.outcome() == "rolled_back", "{}", receipt.json);
    ensure!(after.len() == 2);
    Ok(())
}

/// Without a canary both are started at once, and nothing is taken away before the first one is ready.
#[test]
fn without_a_canary() -> Result<()> {
    aborts(
        "throws-at-load.js",
        &["--surge", "100%", "--canary", "0"],
        "ended before it was ready",
    )
    .map(drop)
}

/// Old workers that were let go first come back.
#[test]
fn with_less_capacity_it_is_filled_again() -> Result<()> {
    let app = App::new("hello.js")?;
    let run = everup(&app.path(), &["--surge", "0", "--canary", "100ms"])?.start()?;
    let before = run.ready(2)?;
    let load = load(&run)?;
    app.deploy("builds/never-listens.js")?;
    // The limit of an app that has none of its own is 30 s; a new worker that dies ends the reload sooner.
    run.signal(rustix::process::Signal::HUP)?;
    run.until("the new worker", LIMIT, |seen| {
        seen.named("fork").nth(2).map(drop)
    })?;
    app.deploy("hello.js")?;
    let new = run
        .seen()
        .workers()
        .into_iter()
        .find(|worker| before.iter().all(|old| old.id != worker.id));
    e2e::process::signal(new.map_or(0, |worker| worker.pid), rustix::process::Signal::KILL)?;
    let receipt = run.receipt(1)?;
    ensure!(receipt.outcome() != "done", "{}", receipt.json);
    let after = run.ready(2)?;
    ensure!(after.iter().any(|worker| before.contains(worker)), "{after:?}");
    nobody_else(&run, &after)?;
    let report = load.finish()?;
    ensure!(
        report.failures.is_empty(),
        "{}\n{:?}",
        report.json(),
        report.failures
    );
    Ok(())
}
