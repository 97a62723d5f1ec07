//! What happens by itself: jobs at times, reloads at times and when files change.

use anyhow::{Context, Result, ensure};
use e2e::load::{Background, Plan};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Seen, fixture};
use std::fs;
use std::path::Path;
use std::time::Duration;

const EVERY_SECOND: &str = "* * * * * *";

fn script(folder: &Path, text: &str) -> Result<std::path::PathBuf> {
    let path = folder.join("job.sh");
    fs::write(&path, format!("cd {}\n{text}\n", folder.display()))?;
    Ok(path)
}

/// The most workers that lived at a time.
fn most_at_a_time(seen: &Seen) -> i32 {
    let (mut now, mut most) = (0, 0);
    for event in &seen.events {
        match event.name() {
            "fork" => now += 1,
            "exit" => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[test]
fn a_job_runs_at_its_times_and_not_before() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let job = script(folder.path(), "echo run >> runs; exit 3")?;
    let never = Everup::run()?
        .args(["--schedule", "0 0 1 1 *"])
        .arg(&job)
        .start()?;
    let often = Everup::run()?
        .args(["--schedule", EVERY_SECOND])
        .arg(&job)
        .start()?;
    // Its end, whatever its code, is no failure of the app.
    often.event("exit", 3)?;
    ensure!(often.event("finished", 3)?.number("slot") == Some(0));
    let forks: Vec<_> = often.seen().named("fork").take(3).map(|event| event.at).collect();
    for pair in forks.windows(2) {
        let apart = pair[1] - pair[0];
        ensure!(apart > Duration::from_millis(500), "{apart:?}");
    }
    ensure!(
        never.seen().count("fork") == 0,
        "a job was started although its time has not come"
    );
    for run in [&never, &often] {
        let ended = run.stop()?;
        ensure!(ended.code() == Some(0), "{}", ended.all());
        ensure!(
            ended.events.iter().all(|event| event.name() != "respawn"),
            "{}",
            ended.all()
        );
    }
    Ok(())
}

#[test]
fn a_job_that_still_runs_is_not_started_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let job = script(folder.path(), "while [ ! -e done ]; do sleep 0.02; done")?;
    let run = Everup::run()?
        .args(["--schedule", EVERY_SECOND])
        .arg(&job)
        .start()?;
    run.event("overlap", 2)?;
    ensure!(run.seen().count("fork") == 1, "{:?}", run.seen().events);
    fs::write(folder.path().join("done"), "")?;
    run.event("fork", 2)?;
    ensure!(most_at_a_time(&run.seen()) == 1);
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    Ok(())
}

#[test]
fn reloads_at_times_lose_nothing() -> Result<()> {
    let run = Everup::run()?
        .args(["-i", "2", "--canary", "0", "--cron-restart", EVERY_SECOND])
        .arg(fixture("supervised.js"))
        .start()?;
    run.event("all_ready", 1)?;
    let load = Background::start(Plan::open(run.address()?, 100.0, u64::MAX));
    run.event("reloaded", 2)?;
    let report = load.finish()?;
    ensure!(report.failures.is_empty() && report.ok > 0, "{}", report.json());
    // One that came before everybody was ready would be refused or queued; those after it are whole.
    let seen = run.seen();
    for receipt in seen.named("reloaded").take(2) {
        ensure!(
            receipt.text("cause") == "cron" && receipt.text("outcome") == "done",
            "{}",
            receipt.json
        );
    }
    drop(seen);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// A server in a folder of its own, which writes a file there when it starts.
fn watched(folder: &Path, writes: &str) -> Result<Everup> {
    let app = format!(
        "require('fs').writeFileSync({writes:?}, String(process.pid));
         require('http').createServer((req, res) => res.end('hello')).listen(0);"
    );
    fs::write(folder.join("app.js"), app)?;
    let run = Everup::run()?.args(["--watch", "--watch-delay", "100ms", "--canary", "0"]);
    Ok(run.arg("app.js").cwd(folder))
}

#[test]
fn a_changed_file_is_one_reload() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = watched(folder.path(), "app.log")?.start()?;
    run.event("all_ready", 1)?;
    let first = run.ready(1)?;
    fs::write(folder.path().join("routes.js"), "1")?;
    fs::write(folder.path().join("routes.js"), "2")?;
    let receipt = run.event("reloaded", 1)?;
    ensure!(
        receipt.text("cause") == "watch" && receipt.text("outcome") == "done",
        "{}",
        receipt.json
    );
    let notice = "changed: routes.js";
    run.until(notice, LIMIT, |seen| {
        let mut notices = seen.named("notice");
        notices
            .any(|event| event.text("message").contains(notice))
            .then_some(())
    })?;
    // wait: nothing more may happen for longer than the delay
    std::thread::sleep(Duration::from_millis(700));
    ensure!(run.ready(1)? != first);
    let seen = run.seen();
    ensure!(
        seen.count("reloaded") == 1 && seen.count("fork") == 2,
        "{:?}",
        seen.events
    );
    drop(seen);
    fs::write(folder.path().join("app.log"), "not seen")?;
    fs::write(folder.path().join("routes.js"), "3")?;
    let receipt = run.event("reloaded", 2)?;
    ensure!(receipt.number("generation") == Some(3), "{}", receipt.json);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn what_the_app_writes_itself_is_no_storm() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = watched(folder.path(), "state.json")?.start()?;
    run.event("all_ready", 1)?;
    fs::write(folder.path().join("routes.js"), "1")?;
    run.event("reloaded", 3)?;
    let seen = run.seen();
    let ends: Vec<_> = seen.named("reloaded").map(|event| event.at).collect();
    drop(seen);
    // The delay doubles each time: 100, 200, 400, 800 ms, …
    run.event("reloaded", 5)?;
    let seen = run.seen();
    let last: Vec<_> = seen.named("reloaded").map(|event| event.at).collect();
    let slowest = last[4] - last[3];
    ensure!(
        slowest > Duration::from_millis(700),
        "{slowest:?} between the last two, {ends:?}"
    );
    drop(seen);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_restart_at_a_time_finds_what_has_changed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let env = folder.path().join("app.env");
    fs::write(&env, "WORD=old\n")?;
    let job = script(folder.path(), "echo $WORD >> words; while :; do sleep 1; done")?;
    let run = Everup::run()?
        .args([
            "--cron-restart",
            EVERY_SECOND,
            "--canary",
            "0",
            "--ready",
            "uptime=10ms",
            "--drain-timeout",
            "0",
        ])
        .args(["--env-file".as_ref(), env.as_os_str()])
        .arg(&job)
        .start()?;
    let words = || fs::read_to_string(folder.path().join("words")).unwrap_or_default();
    wait_until("the first word", LIMIT, || {
        words().contains("old").then_some(()).ok_or_else(words)
    })?;
    fs::write(&env, "WORD=new\n")?;
    wait_until("the new word", LIMIT, || {
        words().contains("new").then_some(()).ok_or_else(words)
    })?;
    let receipt = run.event("reloaded", 1).context("a reload")?;
    ensure!(receipt.text("cause") == "cron", "{}", receipt.json);
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    Ok(())
}
