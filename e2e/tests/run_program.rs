//! What may be run, and how many of it.

use anyhow::{Context, Result, ensure};
use e2e::http::get;
use e2e::{Everup, LIMIT, binary, fixture};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread::available_parallelism;

fn workers_of(program: Everup, count: usize) -> Result<()> {
    let run = program.start()?;
    run.ready(count)?;
    let start = run.event("start", 1)?;
    ensure!(
        start.number("workers") == i64::try_from(count).ok(),
        "{}",
        start.json
    );
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn as_many_as_cpus() -> Result<()> {
    let cpus = available_parallelism()?.get();
    let app = |count: &str| Ok::<_, anyhow::Error>(Everup::run()?.args(["-i", count]).arg(fixture("app.js")));
    workers_of(app("max")?, cpus)?;
    workers_of(app("0")?, cpus)?;
    workers_of(app("-1")?, (cpus - 1).max(1))?;
    // Only those that this process may use count.
    let first = (0..cpus)
        .map(|cpu| cpu.to_string())
        .find(|cpu| allowed(cpu))
        .context("no CPU")?;
    let bound = Everup::program("taskset")
        .args(["-c", &first])
        .arg(binary::everup()?);
    workers_of(
        bound
            .args(["run", "--events", "json", "-i", "max"])
            .arg(fixture("app.js")),
        1,
    )
}

fn allowed(cpu: &str) -> bool {
    std::process::Command::new("taskset")
        .args(["-c", cpu, "true"])
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn policy_is_told() -> Result<()> {
    for (args, policy) in [
        (&["-i", "2"][..], "least-connections"),
        (&["-i", "2", "--policy", "round-robin"], "round-robin"),
    ] {
        let run = Everup::run()?.args(args).arg(fixture("app.js")).start()?;
        let start = run.event("start", 1)?;
        ensure!(start.text("policy") == policy, "{}", start.json);
        run.ready(2)?;
        let fallback = run
            .seen()
            .named("notice")
            .any(|notice| notice.text("message").contains("least-connections"));
        ensure!(
            fallback == (policy == "least-connections"),
            "the fallback is told where it is used, and only there"
        );
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

#[test]
fn script_program_and_shell_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::copy(fixture("app.js"), folder.path().join("app.js"))?;
    let executable = folder.path().join("serve");
    fs::write(
        &executable,
        format!("#!/usr/bin/env node\n{}", fs::read_to_string(fixture("app.js"))?),
    )?;
    fs::set_permissions(&executable, fs::Permissions::from_mode(0o755))?;
    fs::copy(fixture("app.js"), folder.path().join("app.mjs.cjs"))?;
    for words in [
        &["app.js"][..],
        &["./serve"],
        &["node app.js"],
        &["PORT=0 exec node app.js"],
        &["app.mjs.cjs"],
        &["serve", "--interpreter", "node"],
    ] {
        let run = Everup::run()?
            .cwd(folder.path())
            .args(["-i", "2"])
            .args(words)
            .start()?;
        run.ready(2).with_context(|| format!("{words:?}"))?;
        ensure!(get(run.address()?, "/", LIMIT)?.status == 200);
        ensure!(run.stop()?.code() == Some(0), "{words:?}");
    }
    Ok(())
}

#[test]
fn events_for_people() -> Result<()> {
    let run = Everup::program(binary::everup()?)
        .args(["run", "-i", "2", "--policy", "round-robin"])
        .arg(fixture("app.js"));
    let run = run.start()?;
    let address = run.until("the line with the address", LIMIT, |seen| {
        let line = seen
            .err
            .iter()
            .find_map(|line| line.split_once(" listening on "))?;
        Some(line.1.to_owned())
    })?;
    run.until("the line that all are ready", LIMIT, |seen| {
        seen.err
            .iter()
            .any(|line| line == "everup  all 2 workers are ready")
            .then_some(())
    })?;
    let port = address.rsplit_once(':').context("no port")?.1;
    ensure!(get(format!("127.0.0.1:{port}").parse()?, "/", LIMIT)?.status == 200);
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0));
    let shape: Vec<String> = ended
        .err
        .iter()
        .map(|line| line.chars().filter(|c| !c.is_ascii_digit()).collect())
        .collect();
    for expected in [
        "everup  worker  (pid ) started in slot ",
        "everup  worker  (pid ) online",
        "everup  worker  (pid ) disconnected",
        "everup  stopping",
        "everup  stopped",
    ] {
        ensure!(
            shape.iter().any(|line| line == expected),
            "no line {expected:?}: {}",
            ended.all()
        );
    }
    Ok(())
}
