//! The programs that everyone meets first, each as it is: with plain node and under everup.

use anyhow::{Context, Result, bail, ensure};
use e2e::http::get;
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, repository};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

/// Runs an example both ways on any free port and asks it for `path` until `good` likes the answer.
fn both_ways(script: &str, path: &str, good: impl Fn(&str) -> bool) -> Result<()> {
    let script = repository("examples/node").join(script);
    ensure!(script.exists(), "{} is missing", script.display());
    let node = Everup::program("node").arg(&script);
    let everup = Everup::run()?.args(["-i", "2"]).arg(&script);
    for (who, program) in [("node", node), ("everup", everup)] {
        let run = program.env("PORT", "0").env("WORKERS", "2").start()?;
        answers(&run, path, &good).with_context(|| format!("{} with {who}", script.display()))?;
        let ended = run.stop()?;
        if who == "everup" {
            ensure!(ended.code() == Some(0), "{}", ended.all());
        }
        run.gone(Duration::from_secs(2))
            .with_context(|| format!("{} with {who}", script.display()))?;
    }
    Ok(())
}

fn answers(run: &Run, path: &str, good: impl Fn(&str) -> bool) -> Result<()> {
    wait_until("a good answer", LIMIT, || {
        // The address that was printed last: some examples bring forth several processes.
        let address = address(run).map_err(|error| format!("{error:#}"))?;
        let answer = get(address, path, LIMIT).map_err(|error| format!("{error:#}"))?;
        if answer.status == 200 && good(&answer.body) {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
}

fn address(run: &Run) -> Result<SocketAddr> {
    run.until("a line with the address", LIMIT, |seen| {
        let line = seen
            .out
            .iter()
            .rev()
            .find_map(|line| line.split_once("http://localhost:"))?
            .1;
        let port = line.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

/// The examples' npm packages.
fn packages() -> Result<()> {
    static ONCE: Once = Once::new();
    let folder = repository("examples/node");
    ONCE.call_once(|| {
        if !folder.join("node_modules").is_dir() {
            let npm = Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund"])
                .current_dir(&folder)
                .output();
            drop(npm);
        }
    });
    if folder.join("node_modules").is_dir() {
        Ok(())
    } else {
        bail!("npm ci failed in {}", folder.display())
    }
}

#[test]
fn express() -> Result<()> {
    packages()?;
    both_ways("01-express/app.js", "/", |body| body.contains("pid"))?;
    both_ways("01-express/cluster.js", "/", |body| body.contains("pid"))
}

#[test]
fn http_on_all_cpus() -> Result<()> {
    both_ways("02-http-all-cpus.js", "/", |body| {
        body.starts_with("Hello from worker")
    })
}

#[test]
fn server_handle_sent_to_a_child() -> Result<()> {
    both_ways("03-fork-handle/parent.js", "/", |body| {
        body.contains("handled by child")
    })?;
    both_ways("03-fork-handle/parent.js", "/", |body| {
        body.contains("handled by parent")
    })
}

#[test]
fn throws_on_half_of_its_requests() -> Result<()> {
    both_ways("04-throws.js", "/", |body| body.starts_with("answer from pid"))
}

#[test]
fn cpu_heavy() -> Result<()> {
    both_ways("05-cpu-heavy.js", "/primes/1000", |body| {
        body.starts_with("168 primes")
    })
}

#[test]
fn exits_after_each_response() -> Result<()> {
    both_ways("06-exit-after-response.js", "/", |body| {
        body.starts_with("the only answer of pid")
    })
}

#[test]
fn managed_server() -> Result<()> {
    both_ways("07-managed/server.js", "/", |_| true)
}

#[test]
fn node_env() -> Result<()> {
    both_ways("08-node-env.js", "/", |body| body == "NODE_ENV is not set\n")?;
    let run = Everup::run()?
        .args(["--env", "NODE_ENV=production"])
        .arg(repository("examples/node/08-node-env.js"))
        .env("PORT", "0")
        .start()?;
    answers(&run, "/", |body| body == "NODE_ENV is production\n")?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// The Python and Rust servers without us; `run_listen_fds` has them with us.
#[test]
fn other_languages_alone() -> Result<()> {
    let python = Everup::program("python3")
        .arg(repository("examples/python/server.py"))
        .env("PORT", "0")
        .start()?;
    answers(&python, "/", |body| body.starts_with("Hello from Python"))?;
    python.stop()?;
    let rust = Everup::program(e2e::binary::rust_hello()?)
        .env("PORT", "0")
        .start()?;
    answers(&rust, "/", |body| body.starts_with("Hello from Rust"))?;
    rust.stop()?;
    Ok(())
}
