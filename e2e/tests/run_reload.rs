//! Must show 1: reloads under load. Nothing fails on fresh connections, whatever the app is; on connections that are
//! kept alive nothing fails for an app with the recipe of `docs/reload.md`, and what fails for others is counted.

use anyhow::{Result, ensure};
use e2e::load::{Background, KeepAlive, Length, Plan, Tally};
use e2e::{Everup, LIMIT, Receipt, Run, binary, fixture, repository};
use std::ffi::OsString;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const RELOADS: u64 = 20;
/// Where it is a variant that is tried.
const FEW: u64 = 5;
/// Keep-alive clients at a time.
const CLIENTS: u64 = 6;

/// One after the other: each of them keeps the machine busy, and is to do so in its own time.
static LOAD: Mutex<()> = Mutex::new(());

/// So many times; with `EVERUP_SOAK=1` ten times as often.
fn soaked(times: u64) -> u64 {
    if std::env::var_os("EVERUP_SOAK").is_some() {
        times * 10
    } else {
        times
    }
}

/// An app that is reloaded, in `workers` places.
fn app(program: impl Into<OsString>, workers: usize, args: &[&str]) -> Result<Everup> {
    let workers = workers.to_string();
    Ok(Everup::run()?
        .args(["-i", &workers, "--canary", "10ms"])
        .args(args)
        .arg(program.into()))
}

/// Reloads again and again; each has to replace everybody.
fn reload_often(run: &Run, workers: usize, times: u64) -> Result<Vec<Receipt>> {
    let mut receipts = Vec::new();
    for generation in 2..2 + soaked(times) {
        let receipt = run.reload()?;
        receipt.all_replaced(workers)?;
        ensure!(receipt.generation() == generation, "{}", receipt.json);
        receipts.push(receipt);
    }
    Ok(receipts)
}

/// Reloads under load by fresh connections; none may fail.
fn nothing_fails(everup: Everup, workers: usize, times: u64) -> Result<()> {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let run = everup.start()?;
    let first = run.ready(workers)?;
    let plan = Plan {
        length: Length::For(LIMIT * 100),
        ..Plan::open(run.address()?, 300.0, 0)
    };
    let load = Background::start(plan);
    let receipts = reload_often(&run, workers, times)?;
    let report = load.finish()?;
    ensure!(
        report.failures.is_empty(),
        "{}\n{:?}",
        report.json(),
        report.failures
    );
    ensure!(report.ok > receipts.len() as u64, "{}", report.json());
    let last = run.ready(workers)?;
    ensure!(
        last.iter()
            .all(|worker| first.iter().all(|old| old.pid != worker.pid))
    );
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

#[test]
fn two_workers_by_least_connections() -> Result<()> {
    nothing_fails(
        app(fixture("hello.js"), 2, &["--policy", "least-connections"])?,
        2,
        RELOADS,
    )
}

#[test]
fn two_workers_by_round_robin() -> Result<()> {
    nothing_fails(
        app(fixture("hello.js"), 2, &["--policy", "round-robin"])?,
        2,
        RELOADS,
    )
}

#[test]
fn two_workers_on_a_shared_socket() -> Result<()> {
    nothing_fails(app(fixture("hello.js"), 2, &["--policy", "shared"])?, 2, RELOADS)
}

#[test]
fn two_workers_with_a_socket_each() -> Result<()> {
    nothing_fails(
        app(fixture("hello.js"), 2, &["--policy", "reuseport"])?,
        2,
        RELOADS,
    )
}

#[test]
fn one_worker_by_each_policy() -> Result<()> {
    for policy in ["least-connections", "round-robin", "shared", "reuseport"] {
        nothing_fails(app(fixture("hello.js"), 1, &["--policy", policy])?, 1, RELOADS)?;
    }
    Ok(())
}

/// All at once instead of one after the other.
#[test]
fn four_workers_at_once() -> Result<()> {
    nothing_fails(app(fixture("hello.js"), 4, &["--surge", "100%"])?, 4, FEW)
}

#[test]
fn python_by_listen_fds() -> Result<()> {
    let args = ["--listen", "tcp://127.0.0.1:0", "--ready", "notify"];
    nothing_fails(
        app(repository("examples/python/server.py"), 2, &args)?,
        2,
        RELOADS,
    )
}

#[test]
fn rust_by_listen_fds() -> Result<()> {
    let args = ["--listen", "tcp://127.0.0.1:0", "--ready", "notify"];
    nothing_fails(app(binary::rust_hello()?, 2, &args)?, 2, RELOADS)
}

/// Reloads under load by keep-alive clients.
fn kept_alive(everup: Everup, workers: usize, times: u64) -> Result<(Vec<Receipt>, Tally)> {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let run = everup.start()?;
    run.ready(workers)?;
    let clients = KeepAlive::start(run.address()?, CLIENTS);
    let receipts = reload_often(&run, workers, times)?;
    let tally = clients.finish()?;
    ensure!(tally.ok > receipts.len() as u64, "{tally:?}");
    let moved = receipts.iter().map(Receipt::moved).sum::<u64>();
    ensure!(
        moved > 0 || tally.connections > CLIENTS,
        "nobody was moved, and nobody had to connect again: {tally:?}"
    );
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    Ok((receipts, tally))
}

/// An app with the recipe loses nothing; `args` may choose a version of Node.
fn recipe(script: &str, workers: usize, times: u64, args: &[&str]) -> Result<()> {
    let (_, tally) = kept_alive(app(fixture(script), workers, args)?, workers, times)?;
    ensure!(tally.failed() == 0, "{script} {args:?}: {tally:?}");
    Ok(())
}

#[test]
fn recipe_for_http() -> Result<()> {
    recipe("recipe-http.js", 2, RELOADS, &[])?;
    recipe("recipe-http.js", 1, FEW, &[])
}

#[test]
fn recipe_for_other_versions_of_node() -> Result<()> {
    for version in ["node18", "node22", "node24"] {
        let node = repository(&format!("e2e/node-versions/node_modules/{version}/bin/node"));
        ensure!(node.exists(), "{} is missing: run e2e/setup", node.display());
        recipe(
            "recipe-http.js",
            1,
            FEW,
            &["--interpreter", &node.to_string_lossy()],
        )?;
    }
    Ok(())
}

#[test]
fn recipe_for_express() -> Result<()> {
    recipe("recipe-express.js", 1, FEW, &[])
}

#[test]
fn recipe_for_fastify() -> Result<()> {
    let there = repository("e2e/frameworks/node_modules").is_dir();
    ensure!(there, "e2e/frameworks/node_modules is missing: run e2e/setup");
    recipe("recipe-fastify.js", 1, FEW, &[])
}

#[test]
fn recipe_is_the_documented_one() -> Result<()> {
    let docs = fs::read_to_string(repository("docs/reload.md"))?;
    let block = docs
        .split("```js\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let lines: Vec<&str> = block.unwrap_or_default().lines().collect();
    ensure!(lines.len() == 2, "{lines:?}");
    for script in ["recipe-http.js", "recipe-express.js", "recipe-fastify.js"] {
        let text = fs::read_to_string(fixture(script))?;
        for line in &lines {
            ensure!(text.lines().any(|own| own == *line), "{script} has no {line:?}");
        }
    }
    Ok(())
}

/// An app that knows nothing may lose requests of keep-alive clients, but each is in the receipt.
fn receipts_count(workers: usize, policy: &str) -> Result<()> {
    let args = ["--policy", policy, "--drain-timeout", "200ms"];
    let (receipts, tally) = kept_alive(app(fixture("hello.js"), workers, &args)?, workers, RELOADS)?;
    let lost: Option<u64> = receipts.iter().map(Receipt::lost).sum();
    let cut: u64 = receipts.iter().map(Receipt::cut).sum();
    let said = format!("the receipts say {lost:?} lost, {cut} cut; the clients saw {tally:?}");
    e2e::say(&said);
    // Where nothing was cut the count is exact; else it is between the two.
    ensure!(
        lost.is_some_and(|lost| (lost..=lost + cut).contains(&tally.failed())),
        said
    );
    Ok(())
}

#[test]
fn keep_alive_receipt_counts_what_two_workers_lose() -> Result<()> {
    receipts_count(2, "least-connections")
}

#[test]
fn keep_alive_receipt_counts_what_one_worker_loses() -> Result<()> {
    receipts_count(1, "round-robin")
}

#[test]
fn keep_alive_receipt_of_the_recipe_is_zero() -> Result<()> {
    let (receipts, tally) = kept_alive(app(fixture("recipe-http.js"), 2, &[])?, 2, FEW)?;
    for receipt in receipts {
        ensure!(receipt.lost() == Some(0), "{}", receipt.json);
    }
    ensure!(tally.failed() == 0, "{tally:?}");
    Ok(())
}
