//! Must show 2 of the daemon: power cuts, full disks, and the deaths of everybody at once. What was written before is used,
//! and it is said.
//!
//! Here every 97th byte; every byte is a test beside the code.

use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Daemon, LIMIT, Said, process};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn start(daemon: &Daemon, name: &str) -> Result<()> {
    daemon.ok([
        "start",
        "--name",
        name,
        "--interpreter",
        "none",
        "sleep",
        "--",
        "1000",
    ])?;
    Ok(())
}

/// Starts the daemon, by starting `a`. What was said.
fn begin(daemon: &Daemon) -> Result<Said> {
    let said = daemon.say(["start", "a"])?;
    ensure!(said.code == Some(0), "{said:?}");
    Ok(said)
}

fn names(daemon: &Daemon) -> Result<Vec<String>> {
    let list = daemon.json(["list", "--json"])?;
    let apps = list["apps"].as_array().context("apps")?;
    let name = |app: &serde_json::Value| app["spec"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(apps.iter().map(name).collect())
}

/// A daemon that does not run, its state with `a` alone, and the one after it, with `a` and `b`. Nothing of them runs.
fn states() -> Result<(Daemon, Vec<u8>, Vec<u8>)> {
    let daemon = Daemon::new()?;
    let state = daemon.home().join("state.json");
    start(&daemon, "a")?;
    daemon.ok(["stop", "a"])?;
    let before = fs::read(&state)?;
    start(&daemon, "b")?;
    daemon.ok(["stop", "b"])?;
    let after = fs::read(&state)?;
    end(&daemon)?;
    Ok((daemon, before, after))
}

/// Without a word: nothing is written any more.
fn end(daemon: &Daemon) -> Result<()> {
    let pong = daemon.pong()?;
    // The keeper first stands still, so that it starts no other one.
    process::signal(pong.keeper, Signal::STOP)?;
    for pid in [pong.pid, pong.keeper] {
        process::signal(pid, Signal::KILL)?;
    }
    wait_until("both are dead", LIMIT, || {
        if process::alive(pong.pid) || process::alive(pong.keeper) {
            Err("alive".to_owned())
        } else {
            Ok(())
        }
    })
}

/// A daemon that finds this state uses the one before, and says so.
fn previous_is_used(daemon: &Daemon, what: &str, state: &[u8], before: &[u8]) -> Result<()> {
    fs::write(daemon.home().join("state.json"), state)?;
    fs::write(daemon.home().join("state.json.old"), before)?;
    let said = begin(daemon).context(what.to_owned())?;
    let told = format!("{}{}", said.out, said.err);
    ensure!(
        told.contains("state.json: ") && told.contains("the state before that is used"),
        "{what}: {said:?}"
    );
    let found = names(daemon)?;
    ensure!(found == ["a"], "{what}: {found:?}");
    daemon.ok(["stop", "a"])?;
    end(daemon)
}

#[test]
fn a_torn_state_is_not_used_and_the_one_before_is() -> Result<()> {
    let (daemon, before, after) = states()?;
    ensure!(before.len() < after.len(), "{}", String::from_utf8_lossy(&after));
    for length in (0..after.len() - 1).step_by(97) {
        previous_is_used(&daemon, &format!("cut at {length}"), &after[..length], &before)?;
    }
    for place in (40..after.len() - 2).step_by(97 * 3) {
        let mut zeros = after.clone();
        zeros[place..].fill(0);
        previous_is_used(&daemon, &format!("zeros from {place}"), &zeros, &before)?;
    }
    // Whole, it is used; what a power cut has left beside it, before it was put in place, is nobody's.
    let beside = daemon.home().join("state.json.new");
    fs::write(daemon.home().join("state.json"), &after)?;
    fs::write(&beside, &after[..after.len() / 2])?;
    let said = begin(&daemon)?;
    ensure!(
        !said.err.contains("state.json") && !said.out.contains("state.json"),
        "{said:?}"
    );
    let found = names(&daemon)?;
    ensure!(found == ["a", "b"], "{found:?}");
    daemon.ok(["kill"])?;
    ensure!(!beside.exists());
    Ok(())
}

#[test]
fn a_changed_byte_is_seen() -> Result<()> {
    let (daemon, before, after) = states()?;
    // Somewhere in a value: the same JSON, but not what was written.
    let text = String::from_utf8(after)?;
    let changed = text.replacen("\"sleep\"", "\"sleeq\"", 1);
    ensure!(changed != text);
    previous_is_used(&daemon, "a letter", changed.as_bytes(), &before)
}

#[test]
fn without_any_state_nothing_is_lost_silently() -> Result<()> {
    let (daemon, _, after) = states()?;
    let torn = &after[..after.len() / 2];
    fs::write(daemon.home().join("state.json"), torn)?;
    fs::write(daemon.home().join("state.json.old"), b"")?;
    let said = daemon.say([
        "start",
        "--name",
        "c",
        "--interpreter",
        "none",
        "sleep",
        "--",
        "1000",
    ])?;
    ensure!(said.code == Some(0), "{said:?}");
    let told = format!("{}{}", said.out, said.err);
    ensure!(
        told.contains("it is kept as") && told.contains("state.json.bad"),
        "{said:?}"
    );
    ensure!(fs::read(daemon.home().join("state.json.bad"))? == torn);
    ensure!(names(&daemon)? == ["c"]);
    Ok(())
}

/// Without a daemon it is said what it would have.
#[test]
fn a_daemon_that_does_not_run_has_apps() -> Result<()> {
    const SLEEPS: &str = "the daemon is not running; 2 apps are in its state";
    let (daemon, ..) = states()?;
    for (words, code, out) in [
        (&["list"][..], 0, None),
        (&["list", "--json"], 0, Some(r#"{"apps":[]}"#)),
        (&["jlist"], 0, Some("[]")),
        (&["describe", "a"], 9, Some("")),
        (&["stop", "a"], 9, Some("")),
    ] {
        let said = daemon.say(words)?;
        ensure!(said.code == Some(code), "{words:?}: {said:?}");
        let told = if out.is_some() { &said.err } else { &said.out };
        ensure!(told.contains(SLEEPS), "{words:?}: {said:?}");
        ensure!(
            out.is_none_or(|out| out == said.out.trim()),
            "{words:?}: {said:?}"
        );
    }
    ensure!(daemon.processes().is_empty(), "nobody was started");
    let said = daemon.say(["resurrect"])?;
    ensure!(
        said.code == Some(0) && said.out.contains("with what was in its state: a, b"),
        "{said:?}"
    );
    ensure!(names(&daemon)? == ["a", "b"]);
    let said = daemon.say(["resurrect"])?;
    ensure!(
        said.code == Some(0) && said.err.contains("nothing was saved; what was there runs"),
        "{said:?}"
    );
    daemon.ok(["kill"])?;
    let said = daemon.say(["list"])?;
    ensure!(said.out.contains("`everup kill` has put 2 apps away"), "{said:?}");
    Ok(())
}

/// As pm2, `list` starts a daemon, and with it what ran.
#[test]
fn as_pm2_list_starts_the_daemon() -> Result<()> {
    let daemon = Daemon::pm2()?;
    daemon.ok(["start", "sleep", "-n", "a", "--interpreter", "none", "--", "1000"])?;
    for pid in daemon.processes() {
        process::signal(pid, Signal::STOP)?;
    }
    for pid in daemon.processes() {
        process::signal(pid, Signal::KILL)?;
    }
    wait_until("all are dead", LIMIT, || match daemon.processes() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })?;
    let list = daemon.ok(["jlist"])?;
    ensure!(list.contains("\"name\":\"a\""), "{list}");
    Ok(())
}

/// A new program that is gone when it is to take over: the old one comes back, and that is no success.
#[test]
fn an_upgrade_that_is_taken_back_is_an_error() -> Result<()> {
    let daemon = Daemon::new()?;
    start(&daemon, "a")?;
    let before = daemon.ready("a", 1)?;
    let new = daemon.folder().join("new");
    let text = format!(
        "#!/bin/sh\nrm \"$0\"\nexec {} \"$@\"\n",
        daemon.program().display()
    );
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    let new = new.to_str().context("a path")?;
    let said = daemon.say(["upgrade", new])?;
    ensure!(
        said.code == Some(10)
            && said
                .err
                .contains("the new program did not become ready: the new program could not be started")
            && said.err.contains("the old one is back"),
        "{said:?}"
    );
    ensure!(daemon.pids("a")? == before, "the worker goes on");
    let pong = daemon.json(["ping", "--json"])?;
    ensure!(pong["fell_back"].is_string(), "{pong}");
    daemon.ok(["upgrade"])?;
    let pong = daemon.json(["ping", "--json"])?;
    ensure!(pong["fell_back"].is_null(), "{pong}");
    Ok(())
}

/// Daemon and keeper dead at once: what they left is ended, and started anew.
#[test]
fn what_ran_runs_once_after_everybody_was_killed() -> Result<()> {
    let daemon = Daemon::new()?;
    start(&daemon, "a")?;
    daemon.ok(["scale", "a", "3"])?;
    let before = daemon.ready("a", 3)?;
    end(&daemon)?;
    ensure!(
        before.iter().all(|pid| process::alive(*pid)),
        "workers go on without us"
    );
    start(&daemon, "b")?;
    let after = daemon.ready("a", 3)?;
    ensure!(
        after.iter().all(|pid| !before.contains(pid)),
        "{before:?} {after:?}"
    );
    wait_until("the old workers are gone", LIMIT, || {
        let left: Vec<&u32> = before.iter().filter(|pid| process::alive(**pid)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
}

#[test]
fn the_end_leaves_a_whole_state_and_nothing_beside_it() -> Result<()> {
    let daemon = Daemon::new()?;
    for _ in 0..5 {
        daemon.ok([
            "start",
            "--name",
            "a",
            "-i",
            "3",
            "-f",
            "--interpreter",
            "none",
            "sleep",
            "--",
            "1000",
        ])?;
        daemon.ok(["kill"])?;
        let state: serde_json::Value = serde_json::from_slice(&fs::read(daemon.home().join("state.json"))?)?;
        ensure!(state["everup_state"] == 1, "{state}");
        ensure!(!daemon.home().join("state.json.new").exists());
    }
    Ok(())
}

/// A small file system of our own; `None` where that is not allowed.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Result<Option<Self>> {
        fs::create_dir_all(path)?;
        let options = ["-t", "tmpfs", "-o", "size=256k,mode=0700", "none"];
        let mounted = Command::new("mount").args(options).arg(path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Ok(Some(Self(path.to_owned())));
        }
        e2e::say("skipped: no file system can be mounted");
        Ok(None)
    }

    /// Takes all the room that there is.
    fn fill(&self) -> Result<PathBuf> {
        use std::io::Write;
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path)?;
        let full = loop {
            if let Err(error) = file.write_all(&[b'x'; 512]) {
                break error;
            }
        };
        ensure!(full.kind() == std::io::ErrorKind::StorageFull, "{full}");
        Ok(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).output().ok();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_the_state_before() -> Result<()> {
    let daemon = Daemon::at("small")?;
    let Some(small) = Small::mount(daemon.home())? else {
        return Ok(());
    };
    let state = daemon.home().join("state.json");
    start(&daemon, "a")?;
    let filler = small.fill()?;
    let before = fs::read(&state)?;
    let said = daemon.say([
        "start",
        "--name",
        "b",
        "--interpreter",
        "none",
        "sleep",
        "--",
        "1000",
    ])?;
    // It runs; that it would be forgotten is said.
    ensure!(said.code == Some(0), "{said:?}");
    let told = format!("{}{}", said.out, said.err);
    ensure!(
        told.contains("the state could not be saved to") && told.to_lowercase().contains("no space left"),
        "{said:?}"
    );
    ensure!(names(&daemon)? == ["a", "b"]);
    ensure!(fs::read(&state)? == before, "the state before is still there");
    fs::remove_file(filler)?;
    // By itself, when there is room again.
    wait_until("the state is saved", LIMIT, || {
        let text = fs::read_to_string(&state).unwrap_or_default();
        if text.contains("\"b\"") { Ok(()) } else { Err(text) }
    })?;
    daemon.ok(["kill"])?;
    drop(small);
    Ok(())
}

/// The first start on a full disk: it works with a word about it, or it does not and nothing is left.
#[test]
fn a_first_start_on_a_full_disk_is_not_half_done() -> Result<()> {
    let daemon = Daemon::at("small")?;
    let Some(small) = Small::mount(daemon.home())? else {
        return Ok(());
    };
    let filler = small.fill()?;
    let said = daemon.say([
        "start",
        "--name",
        "b",
        "--interpreter",
        "none",
        "sleep",
        "--",
        "1000",
    ])?;
    let told = format!("{}{}", said.out, said.err).to_lowercase();
    ensure!(told.contains("no space left"), "{said:?}");
    if said.code != Some(0) {
        let left = daemon.processes();
        ensure!(left.is_empty(), "{left:?} {said:?}");
    }
    fs::remove_file(filler)?;
    daemon.say(["kill"])?;
    drop(small);
    Ok(())
}
