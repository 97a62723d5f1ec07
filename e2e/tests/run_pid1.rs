//! `everup run` as PID 1 of a container: it reaps strangers, forwards signals, and its end is everybody's end.
//!
//! In a private process namespace (`unshare --pid`), which needs root; skipped without.

use anyhow::{Context, Result, ensure};
use e2e::http::get;
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, binary, fixture, process};
use rustix::process::Signal;
use std::time::Duration;

/// The cluster and its process id as seen from here.
fn as_pid_1(args: &[&str], script: &str) -> Result<Option<(Run, u32)>> {
    if !rustix::process::geteuid().is_root() {
        e2e::say("skipped: needs root for a process namespace");
        return Ok(None);
    }
    let run = Everup::program("unshare")
        .args(["--fork", "--pid", "--mount-proc", "--kill-child"])
        .arg(binary::everup()?)
        .args(["run", "--events", "json"])
        .args(args)
        .arg(fixture(script))
        .start()?;
    run.until("a ready worker", LIMIT, |seen| seen.ready().first().cloned())?;
    let pid = *process::children(run.pid)
        .first()
        .context("unshare has no child")?;
    Ok(Some((run, pid)))
}

#[test]
fn reaps_strangers() -> Result<()> {
    let Some((run, everup)) = as_pid_1(&[], "orphan-maker.js")? else {
        return Ok(());
    };
    for _ in 0..5 {
        get(run.address()?, "/", LIMIT)?;
    }
    // Orphans come to PID 1 and end a moment later.
    let zombie = |pid: &u32| process::state(*pid) == Some('Z');
    wait_until("only the worker is left, and no zombie", LIMIT, || {
        let children = process::children(everup);
        if children.len() == 1 && !children.iter().any(zombie) {
            Ok(())
        } else {
            Err(format!("{children:?}"))
        }
    })?;
    ensure!(
        run.seen().count("exit") == 0,
        "a stranger's end was taken for a worker's"
    );
    process::signal(everup, Signal::TERM)?;
    let ended = run.ended(LIMIT)?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

#[test]
fn its_signals_reach_the_workers() -> Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let Some((run, everup)) = as_pid_1(&["-i", "2", "--kill-signal", "SIGINT"], "signal-log.js")? else {
            return Ok(());
        };
        run.ready(2)?;
        process::signal(everup, signal)?;
        let ended = run.ended(LIMIT)?;
        ensure!(ended.code() == Some(0), "{}", ended.all());
        ensure!(
            ended
                .out
                .iter()
                .filter(|line| line.ends_with("got SIGINT"))
                .count()
                == 2,
            "{}",
            ended.all()
        );
        run.gone(Duration::from_secs(1))?;
    }
    Ok(())
}

#[test]
fn its_end_is_the_end_of_all() -> Result<()> {
    let Some((run, everup)) = as_pid_1(&[], "stubborn.js")? else {
        return Ok(());
    };
    process::signal(everup, Signal::KILL)?;
    run.ended(LIMIT)?;
    run.gone(Duration::from_secs(1))
}
