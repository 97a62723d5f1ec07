//! Must show 9 of issue 3: `everup why` names the right cause.

use anyhow::{Context, Result, ensure};
use e2e::http::{Connection, get};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, binary, fixture, process};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Case {
    run: Run,
    socket: PathBuf,
    _folder: TempDir,
}

fn start(args: &[&str]) -> Result<Case> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("control");
    let run = Everup::run()?.arg("--control").arg(&socket).args(args);
    let run = run.arg(fixture("why.js")).start()?;
    run.ready(2)?;
    Ok(Case {
        run,
        socket,
        _folder: folder,
    })
}

fn why(socket: &Path, worker: u32) -> Result<Value> {
    let asked = Everup::program(binary::everup()?)
        .args(["why", "--json", &worker.to_string(), "--control"])
        .arg(socket)
        .finish()?;
    ensure!(asked.code() == Some(0), "{}", asked.all());
    let told: Value = serde_json::from_str(&asked.out.join("\n"))?;
    Ok(told["exits"][0].clone())
}

impl Case {
    /// What is said of the worker that ends next.
    fn next(&self, end: impl FnOnce(&Self) -> Result<()>) -> Result<Value> {
        let before = self.run.seen().count("exit");
        end(self)?;
        let exit = self.run.event("exit", before + 1)?;
        let worker = exit.worker().context("no worker in the event")?;
        let told = wait_until("its last lines", LIMIT, || {
            let told = why(&self.socket, worker).map_err(|error| error.to_string())?;
            match told["last_lines"].as_array().map(Vec::len) {
                Some(1..) => Ok(told),
                _ => Err(told.to_string()),
            }
        });
        self.run.ready(2)?;
        told.or_else(|_| why(&self.socket, worker))
    }

    fn ask(&self, path: &str) -> Result<()> {
        // Some of these are never answered.
        drop(get(self.run.address()?, path, LIMIT));
        Ok(())
    }
}

fn check(told: &Value, reason: &str, cause: &str, last: Option<&str>) -> Result<()> {
    ensure!(told["reason"] == reason, "{told}");
    ensure!(
        told["cause"].as_str().is_some_and(|text| text.contains(cause)),
        "{told}"
    );
    let lines = told["last_lines"].as_array().context("last lines")?;
    let said = |line: &str| lines.iter().any(|told| told == line);
    ensure!(last.is_none_or(said), "{told}");
    Ok(())
}

#[test]
fn each_end_has_its_cause() -> Result<()> {
    let case = start(&["-i", "2", "--max-memory-restart", "250M", "--canary", "100ms"])?;
    let told = case.next(|case| case.ask("/exit"))?;
    check(&told, "own", "exited by itself with code 3", Some("now /exit"))?;
    ensure!(
        told["status"]["code"] == 3 && told["then"] == "replaced at once",
        "{told}"
    );

    let told = case.next(|case| case.ask("/crash"))?;
    check(&told, "own", "SIGSEGV", Some("now /crash"))?;
    ensure!(told["status"]["signal"] == "SIGSEGV", "{told}");

    let told = case.next(|case| case.ask("/leak"))?;
    check(&told, "memory", "memory", Some("now /leak"))?;
    ensure!(
        told["forced"] == false && told["then"] == "another one has its place",
        "{told}"
    );
    ensure!(case.run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_strangers_and_an_operators_kill_differ() -> Result<()> {
    let case = start(&["-i", "2"])?;
    let victim = |case: &Case| {
        case.run
            .seen()
            .ready()
            .first()
            .map(|worker| (worker.id, worker.pid))
    };
    let (id, pid) = victim(&case).context("no worker")?;
    process::signal(pid, Signal::KILL)?;
    case.run.event("exit", 1)?;
    check(
        &why(&case.socket, id)?,
        "own",
        "somebody else ended it with SIGKILL",
        None,
    )?;

    case.run.ready(2)?;
    let (id, _) = victim(&case).context("no worker")?;
    let asked = Everup::program(binary::everup()?)
        .args(["signal", "KILL", "--worker", &id.to_string(), "--control"])
        .arg(&case.socket)
        .finish()?;
    ensure!(asked.code() == Some(0), "{}", asked.all());
    case.run.event("exit", 2)?;
    check(&why(&case.socket, id)?, "killed", "an operator killed it", None)
}

#[test]
fn probe_reload_and_stop_are_named() -> Result<()> {
    let health = [
        "--health",
        "http=/health",
        "--health-interval",
        "200ms",
        "--health-failures",
        "2",
    ];
    let case = start(&[&["-i", "2", "--canary", "100ms"], &health[..]].concat())?;
    let told = case.next(|case| case.ask("/sick"))?;
    check(&told, "probe", "failed liveness probe", Some("now /sick"))?;

    let old = case
        .run
        .seen()
        .ready()
        .first()
        .map(|worker| worker.id)
        .context("no worker")?;
    case.run.signal(Signal::HUP)?;
    case.run.event("reloaded", 1)?;
    check(&why(&case.socket, old)?, "reload", "a reload", None)?;

    // One has something to finish, so that there is somebody to ask after the other one's end.
    let mut slow = Connection::open(case.run.address()?, LIMIT)?;
    slow.send("/slow")?;
    let before = case.run.seen().count("exit");
    case.run.out_line("now /slow")?;
    case.run.signal(Signal::TERM)?;
    let exit = case.run.event("exit", before + 1)?;
    let first = exit.worker().context("no worker")?;
    check(&why(&case.socket, first)?, "stopped", "asked to stop", None)?;
    drop(slow);
    case.run.ended(LIMIT)?;
    Ok(())
}
