//! Must show 7 of the daemon: it works where other things are hard, or says in words why not, with nothing half-done.

use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Daemon, LIMIT, Said, fixture, process};
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NOBODY: u32 = 12_345;
/// As somebody without privileges.
const AS_NOBODY: [&str; 6] = [
    "setpriv",
    "--reuid",
    "12345",
    "--regid",
    "12345",
    "--clear-groups",
];
/// Interpreters that every user may execute.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const SLEEP: [&str; 5] = ["--interpreter", "none", "sleep", "--", "1000"];

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        e2e::say("not root: this is not tested");
    }
    root
}

/// What is refused: its exit code, its words, and nobody runs.
fn refused(daemon: &Daemon, said: &Said, code: i32, words: &[&str]) -> Result<()> {
    ensure!(said.code == Some(code), "{said:?}");
    for word in words {
        ensure!(said.err.contains(word), "no {word:?} in {said:?}");
    }
    let left = daemon.processes();
    ensure!(left.is_empty(), "{left:?} after {said:?}");
    Ok(())
}

fn start_sleep(daemon: &Daemon, name: &str) -> Result<Said> {
    daemon.say(["start", "--name", name].iter().chain(&SLEEP))
}

/// The whole life of an app, with both of us killed in between.
fn whole_life(daemon: &Daemon, script: &Path, name: &str) -> Result<()> {
    let say = |args: &[&str]| -> Result<String> {
        let output = daemon.command(args).env("PATH", PATH).output()?;
        let said = Said::from(output);
        ensure!(said.code == Some(0), "{args:?}: {said:?}");
        Ok(said.out)
    };
    let script = script.to_str().context("a path")?;
    say(&["start", script, "--name", name, "-i", "2"])?;
    let before = daemon.ready(name, 2)?;
    let pong = daemon.pong()?;
    process::signal(pong.pid, Signal::KILL)?;
    let pong = daemon.until_pong("another daemon", |new| new.incarnation > pong.incarnation)?;
    process::signal(pong.keeper, Signal::KILL)?;
    daemon.until_pong("another keeper", |new| new.keeper != pong.keeper)?;
    ensure!(daemon.pids(name)? == before, "the workers went on");
    say(&["upgrade"])?;
    say(&["reload", name])?;
    let after = daemon.ready(name, 2)?;
    ensure!(
        after.iter().all(|pid| !before.contains(pid)),
        "{before:?} {after:?}"
    );
    say(&["scale", name, "3"])?;
    for reader in ["describe", "logs", "env", "why"] {
        let more: &[&str] = match reader {
            "logs" => &["logs", name, "--nostream"],
            "env" => &["env", "0"],
            reader => &[reader, name],
        };
        say(more)?;
    }
    ensure!(say(&["list"])?.contains(name), "{}", say(&["list"])?);
    say(&["save"])?;
    say(&["kill"])?;
    ensure!(daemon.processes().is_empty());
    say(&["resurrect"])?;
    daemon.ready(name, 3)?;
    say(&["stop", name])?;
    say(&["delete", name])?;
    say(&["kill"])?;
    let left = daemon.processes();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A copy of the smallest server that everybody may read.
fn script(daemon: &Daemon, path: &str) -> Result<PathBuf> {
    let script = daemon.folder().join(path);
    fs::create_dir_all(script.parent().context("a folder")?)?;
    fs::copy(fixture("hello.js"), &script)?;
    fs::set_permissions(&script, Permissions::from_mode(0o644))?;
    Ok(script)
}

#[test]
fn names_with_spaces_and_other_alphabets() -> Result<()> {
    let daemon = Daemon::at("höme with späces 日本 'quoted' $HOME")?;
    let script = script(&daemon, "dïr é/äpp \"✓\" ; x.js")?;
    whole_life(&daemon, &script, "wéb 日本 ✓ (1)")
}

/// A socket's path has at most 107 bytes, but this is nothing that anybody should have to know.
#[test]
fn a_very_long_home() -> Result<()> {
    let long = Path::new(&"l".repeat(200)).join("o".repeat(200)).join("ng");
    let daemon = Daemon::at(long)?;
    let script = script(&daemon, "hello.js")?;
    whole_life(&daemon, &script, "web")
}

#[test]
fn an_ordinary_user() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let daemon = Daemon::at("home")?.behind(&AS_NOBODY);
    fs::create_dir(daemon.home())?;
    chown(daemon.home(), Some(NOBODY), Some(NOBODY))?;
    let script = script(&daemon, "hello.js")?;
    whole_life(&daemon, &script, "web")
}

#[test]
fn without_home() -> Result<()> {
    if !root() {
        return Ok(());
    }
    // Nobody whom the user database knows.
    let daemon = Daemon::at("home")?.behind(&AS_NOBODY);
    let without = |args: &[&str]| {
        daemon
            .command(args)
            .env_remove("HOME")
            .env_remove("EVERUP_HOME")
            .output()
    };
    for args in [&["start", "/bin/true"][..], &["list"], &["save"]] {
        let said = Said::from(without(args)?);
        refused(&daemon, &said, 3, &["there is no home directory", "EVERUP_HOME"])?;
    }
    fs::create_dir(daemon.home())?;
    chown(daemon.home(), Some(NOBODY), Some(NOBODY))?;
    let said = Said::from(
        daemon
            .command(["start", "--name", "a"].iter().chain(&SLEEP))
            .env_remove("HOME")
            .output()?,
    );
    ensure!(said.code == Some(0), "{said:?}");
    daemon.ok(["kill"])?;
    Ok(())
}

#[test]
fn homes_that_are_of_no_use() -> Result<()> {
    if !root() {
        return Ok(());
    }
    // Not writable: of whatever kind.
    let daemon = Daemon::at("closed")?.behind(&AS_NOBODY);
    fs::create_dir(daemon.home())?;
    chown(daemon.home(), Some(NOBODY), Some(NOBODY))?;
    fs::set_permissions(daemon.home(), Permissions::from_mode(0o500))?;
    refused(
        &daemon,
        &start_sleep(&daemon, "a")?,
        3,
        &["nothing can be written there", "permission denied", "hint: "],
    )?;
    ensure!(fs::read_dir(daemon.home())?.count() == 0);

    let daemon = Daemon::at("closed/below")?.behind(&AS_NOBODY);
    fs::create_dir(daemon.folder().join("closed"))?;
    refused(
        &daemon,
        &start_sleep(&daemon, "a")?,
        3,
        &["cannot be made", "permission denied", "hint: "],
    )?;

    // Somebody else's.
    let daemon = Daemon::at("others")?;
    fs::create_dir(daemon.home())?;
    chown(daemon.home(), Some(NOBODY), None)?;
    refused(
        &daemon,
        &start_sleep(&daemon, "a")?,
        3,
        &["belongs to uid 12345", "this is uid 0", "hint: "],
    )?;
    ensure!(fs::read_dir(daemon.home())?.count() == 0);

    // A file system that takes nothing.
    let daemon = Daemon::at("ro")?;
    fs::create_dir(daemon.home())?;
    let mount = |options: &[&str]| Command::new("mount").args(options).arg(daemon.home()).output();
    if mount(&["-t", "tmpfs", "-o", "ro", "none"])?.status.success() {
        let said = start_sleep(&daemon, "a");
        Command::new("umount").arg("-l").arg(daemon.home()).output()?;
        refused(
            &daemon,
            &said?,
            3,
            &["nothing can be written there", "read-only file system"],
        )?;
    }
    Ok(())
}

/// `NAME=value` of a process.
fn environment(pid: u32) -> Result<Vec<Vec<u8>>> {
    let all = fs::read(format!("/proc/{pid}/environ"))?;
    Ok(all.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

#[test]
fn thousands_of_variables() -> Result<()> {
    let daemon = Daemon::new()?;
    let mut many: Vec<(String, String)> = (0..5000)
        .map(|n| (format!("MANY_{n}"), format!("value {n}")))
        .collect();
    many.extend((0..5).map(|n| (format!("LONG_{n}"), "é\n\"".repeat(25_000))));
    let start = ["start", "--name", "a"].iter().chain(&SLEEP);
    let said = Said::from(daemon.command(start).envs(many.iter().cloned()).output()?);
    ensure!(said.code == Some(0), "{said:?}");
    let there = |when: &str| {
        let pid = daemon.pids("a")?[0];
        let all = environment(pid)?;
        let missing = many
            .iter()
            .find(|(name, value)| !all.contains(&format!("{name}={value}").into_bytes()));
        ensure!(missing.is_none(), "{when}: {:?}", missing.map(|(name, _)| name));
        Ok(())
    };
    there("at the start")?;
    let pong = daemon.pong()?;
    process::signal(pong.pid, Signal::KILL)?;
    daemon.until_pong("another daemon", |new| new.incarnation > pong.incarnation)?;
    daemon.ok(["restart", "a"])?;
    there("restarted by the next daemon, by somebody who has them not")?;
    let state = fs::read_to_string(daemon.home().join("state.json"))?;
    ensure!(!state.contains("MANY_17"), "what was inherited is on the disk");
    daemon.ok(["save"])?;
    daemon.ok(["kill"])?;
    daemon.ok(["resurrect"])?;
    there("resurrected")
}

/// Soft and hard limit.
fn descriptors(pid: u32) -> Result<(u64, u64)> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.context("a limit")?.split_whitespace().map(str::parse);
    Ok((words.next().context("soft")??, words.next().context("hard")??))
}

#[test]
fn the_soft_limit_is_raised_for_us_and_not_for_workers() -> Result<()> {
    let daemon = Daemon::new()?.behind(&["prlimit", "--nofile=256:2000"]);
    let check = |when: &str| -> Result<()> {
        let pong = daemon.pong()?;
        for pid in [pong.pid, pong.keeper] {
            ensure!(
                descriptors(pid)? == (2000, 2000),
                "{when}: {:?}",
                descriptors(pid)?
            );
        }
        let worker = daemon.ready("a", 1)?[0];
        ensure!(
            descriptors(worker)? == (256, 2000),
            "{when}: {:?}",
            descriptors(worker)?
        );
        Ok(())
    };
    ensure!(start_sleep(&daemon, "a")?.code == Some(0));
    check("at the start")?;
    let pong = daemon.pong()?;
    process::signal(pong.pid, Signal::KILL)?;
    daemon.until_pong("another daemon", |new| new.incarnation > pong.incarnation)?;
    daemon.ok(["restart", "a"])?;
    check("with another daemon")?;
    let pong = daemon.pong()?;
    process::signal(pong.keeper, Signal::KILL)?;
    daemon.until_pong("another keeper", |new| new.keeper != pong.keeper)?;
    daemon.ok(["restart", "a"])?;
    check("with another keeper")?;
    daemon.ok(["upgrade"])?;
    daemon.ok(["restart", "a"])?;
    check("after an upgrade")?;
    // More than 256 in all, one table for everybody.
    daemon.ok(["scale", "a", "80"])?;
    ensure!(process::descriptors(daemon.pong()?.pid)? > 256);
    daemon.ok(["kill"])?;
    Ok(())
}

/// It is said before one is missing: what runs goes on, what does not fit is not begun.
#[test]
fn too_few_descriptors() -> Result<()> {
    let daemon = Daemon::new()?.behind(&["prlimit", "--nofile=100:100"]);
    ensure!(start_sleep(&daemon, "a")?.code == Some(0));
    let words = [
        "there are not enough descriptors",
        "of 100 that the daemon may have",
        "LimitNOFILE",
    ];
    let refuse = |args: &[&str]| -> Result<()> {
        let said = daemon.say(args)?;
        ensure!(said.code == Some(10), "{said:?}");
        for word in words {
            ensure!(said.err.contains(word), "no {word:?} in {said:?}");
        }
        Ok(())
    };
    refuse(&[
        "start",
        "--name",
        "b",
        "-i",
        "20",
        "--interpreter",
        "none",
        "sleep",
        "--",
        "1000",
    ])?;
    refuse(&["scale", "a", "20"])?;
    let before = daemon.ready("a", 1)?;
    refuse(&["restart", "a", "-i", "20"])?;
    ensure!(daemon.pids("a")? == before, "what ran goes on");
    let list = daemon.json(["list", "--json"])?;
    ensure!(
        list["apps"].as_array().is_some_and(|apps| apps.len() == 1),
        "{list}"
    );
    // As many as fit, then no more, and never a failure of another kind.
    let mut fit = 1;
    let last = loop {
        let said = daemon.say(["scale", "a", "+1"])?;
        match said.code {
            Some(0) if fit < 20 => fit += 1,
            _ => break said,
        }
    };
    ensure!(last.code == Some(10) && last.err.contains(words[0]), "{last:?}");
    ensure!(daemon.ready("a", fit)?.len() == fit);
    daemon.ok(["reload", "a"])?;
    daemon.ready("a", fit)?;
    Ok(())
}

/// Twenty commands find no daemon, all at the same time.
#[test]
fn many_begin_at_once() -> Result<()> {
    let daemon = Daemon::new()?;
    let begin = |number: u32| {
        let mut command = daemon.command(
            ["start", "--name", &format!("a{number}")]
                .iter()
                .copied()
                .chain(SLEEP),
        );
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let all: Vec<_> = (0..20).map(begin).collect();
    let mut started = 0;
    for child in all {
        let said = Said::from(child?.wait_with_output()?);
        ensure!(said.code == Some(0), "{said:?}");
        started += usize::from(said.err.contains("started the daemon"));
    }
    ensure!(started == 1, "{started} daemons");
    let pong = daemon.pong()?;
    let list = daemon.json(["list", "--json"])?;
    let pids: Vec<u64> = list["apps"]
        .as_array()
        .context("apps")?
        .iter()
        .filter_map(|app| app["instances"][0]["pid"].as_u64())
        .collect();
    ensure!(pids.len() == 20, "{list}");
    wait_until("one keeper, one daemon, twenty workers", LIMIT, || {
        let all = daemon.processes();
        let known = |pid: &u32| [pong.pid, pong.keeper].contains(pid) || pids.contains(&u64::from(*pid));
        if all.len() == 22 && all.iter().all(known) {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    })
}

#[test]
fn names_that_are_too_long() -> Result<()> {
    let daemon = Daemon::new()?;
    for name in ["x".repeat(300), "日".repeat(80)] {
        let said = start_sleep(&daemon, &name)?;
        ensure!(
            said.code == Some(2) && said.err.contains("may have 200"),
            "{said:?}"
        );
    }
    let longest = "日".repeat(66);
    ensure!(start_sleep(&daemon, &longest)?.code == Some(0));
    daemon.ready(&longest, 1)?;
    Ok(())
}

/// In a container: the commands' parent is PID 1, and nobody is outside.
#[test]
fn a_process_namespace_of_its_own() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let daemon = Daemon::new()?;
    let script = script(&daemon, "hello.js")?;
    let text = format!(
        r#"set -e
        E={everup}; S={script}
        "$E" start "$S" --name web -i 2 --wait
        "$E" pid web | sort > before
        kill -9 "$(cat daemon.pid)"
        "$E" reload web
        kill -9 "$(head -1 keeper.lock)"
        "$E" restart web
        "$E" list --json > list
        "$E" kill
        ls -d /proc/[0-9]* | wc -l > left
        "#,
        everup = daemon.program().display(),
        script = script.display()
    );
    let output = Command::new("unshare")
        .args([
            "--fork",
            "--pid",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            &text,
        ])
        .env("EVERUP_HOME", daemon.home())
        .env("PATH", PATH)
        .current_dir(daemon.home())
        .stdin(Stdio::null())
        .output()?;
    let said = Said::from(output);
    ensure!(said.code == Some(0), "{said:?}");
    let list = fs::read_to_string(daemon.home().join("list"))?;
    ensure!(list.contains("\"web\""), "{list}");
    // The shell, `ls` and `wc`: nobody was left behind.
    let left = fs::read_to_string(daemon.home().join("left"))?;
    ensure!(left.trim() == "3", "{left}");
    Ok(())
}

/// The daemon as PID 1: it buries strangers, its death is survived, and its end is everybody's.
#[test]
fn the_daemon_as_pid_1() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let daemon = Daemon::new()?;
    let mut outer = Command::new("unshare")
        .args(["--fork", "--pid", "--mount-proc", "--kill-child"])
        .arg(daemon.program())
        .arg("daemon")
        .env("EVERUP_HOME", daemon.home())
        .current_dir(daemon.home())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pong = daemon.until_pong("a daemon", |_| true)?;
    ensure!(pong.keeper == 1, "{pong:?}");
    let keeper = *process::children(outer.id()).first().context("PID 1")?;
    let child = *process::children(keeper).first().context("the daemon")?;
    // An orphan for each line of output, which nobody waits for.
    let script = daemon.home().join("orphans.sh");
    fs::write(&script, "while :; do (sleep 0.01 &) ; sleep 0.05; done\n")?;
    daemon.ok(["start", script.to_str().context("a path")?, "--name", "a"])?;
    let before = daemon.ready("a", 1)?;
    process::signal(child, Signal::KILL)?;
    daemon.until_pong("another daemon", |new| new.incarnation > pong.incarnation)?;
    ensure!(daemon.ready("a", 1)? == before);
    let zombies = || -> Vec<u32> {
        let dead = |pid: &u32| process::state(*pid) == Some('Z');
        process::children(keeper).into_iter().filter(dead).collect()
    };
    // Each that is seen is gone soon.
    for zombie in zombies() {
        wait_until("it is buried", LIMIT, || match process::state(zombie) {
            Some('Z') => Err(zombie.to_string()),
            _ => Ok(()),
        })?;
    }
    ensure!(zombies().len() < 20, "{:?}", zombies());
    process::signal(keeper, Signal::TERM)?;
    let status = outer.wait()?;
    ensure!(status.success(), "{status}");
    ensure!(daemon.processes().is_empty());
    Ok(())
}
