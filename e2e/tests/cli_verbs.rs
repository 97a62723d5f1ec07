//! The verbs that talk to the daemon, with real daemons: what they say, and how they end.

use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Daemon, LIMIT, Said, fixture, process};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::process::Stdio;

/// It ended so, and said this somewhere.
fn ended(said: &Said, code: i32, part: &str) -> Result<()> {
    let all = format!("{}{}", said.out, said.err);
    ensure!(
        said.code == Some(code) && all.contains(part),
        "not {code} and `{part}`, but {:?}:\n{all}",
        said.code
    );
    Ok(())
}

#[test]
fn from_start_to_kill() -> Result<()> {
    let daemon = Daemon::new()?;
    ended(
        &daemon.say(["list"])?,
        0,
        "no apps yet; `everup start app.js` starts one",
    )?;
    ended(&daemon.say(["ping"])?, 9, "no daemon answers")?;
    ended(
        &daemon.say(["start", "sleep 1000", "-n", "one"])?,
        0,
        "one started (id 0)",
    )?;
    ended(
        &daemon.say([
            "start",
            "sleep 1000",
            "-n",
            "two",
            "-i",
            "2",
            "--namespace",
            "pair",
        ])?,
        0,
        "two started (ids 1,2)",
    )?;
    daemon.ready("two", 2)?;
    let list = daemon.ok(["list"])?;
    for part in ["NAMESPACE", "one", "fork ×2", "2 ready", "├ slot 0", "└ slot 1"] {
        ensure!(list.contains(part), "no `{part}` in\n{list}");
    }
    let before = daemon.pids("two")?;
    ended(&daemon.say(["restart", "pair"])?, 0, "two restarted (ids 1,2)")?;
    let after = daemon.pids("two")?;
    ensure!(
        before.iter().all(|pid| !after.contains(pid)),
        "{before:?} {after:?}"
    );
    ended(&daemon.say(["stop", "/^o/"])?, 0, "one stopped (id 0)")?;
    ended(&daemon.say(["start", "one"])?, 0, "one started (id 0)")?;
    ended(&daemon.say(["scale", "two", "+1"])?, 0, "two scaled")?;
    ended(&daemon.say(["delete", "all"])?, 0, "two deleted (ids 1-3)")?;
    ended(&daemon.say(["kill"])?, 0, "the daemon has ended")?;
    ended(&daemon.say(["kill"])?, 0, "no daemon runs")
}

#[test]
fn what_cannot_be_done_is_said() -> Result<()> {
    let daemon = Daemon::new()?;
    ended(
        &daemon.say(["start", "sleep 1000", "-n", "web"])?,
        0,
        "web started",
    )?;
    ended(&daemon.say(["stop", "wbe"])?, 10, "did you mean `web`?")?;
    ended(&daemon.say(["start", "77"])?, 10, "no app, namespace or id `77`")?;
    ended(
        &daemon.say(["start", "a.js", "--stop-exit-codes", "x"])?,
        2,
        "not an exit code",
    )?;
    ended(
        &daemon.say(["start", "a.js", "--env", "production"])?,
        2,
        "write --env NODE_ENV=production",
    )?;
    ended(
        &daemon.say(["scale", "web", "many"])?,
        2,
        "not a number of workers",
    )?;
    ended(&daemon.say(["start"])?, 3, "there is no everup.toml")?;
    ended(&daemon.say(["stop"])?, 2, "required")?;
    let json = daemon.say(["stop", "nobody", "--json"])?;
    let answer: serde_json::Value = serde_json::from_str(&json.out)?;
    ensure!(
        answer["error"]["code"] == "unknown_app" && json.code == Some(10),
        "{answer}"
    );
    // One of two: the other one runs, and the worst decides.
    let said = daemon.say(["start", "sleep 1000", "missing.js", "-i", "1"])?;
    ended(&said, 3, "missing.js not found")?;
    ensure!(said.out.contains("sleep started"), "{}", said.out);
    daemon.app("sleep").map(drop)
}

#[test]
fn scripts_of_pm2_find_their_words() -> Result<()> {
    let daemon = Daemon::pm2()?;
    ended(&daemon.say(["ping"])?, 0, "{ msg: 'pong' }")?;
    ended(&daemon.say(["jlist"])?, 0, "[]")?;
    let app = fixture("app.js");
    let app = app.to_str().context("a path")?;
    ended(
        &daemon.say(["start", app, "-i", "2", "--name", "web"])?,
        0,
        "in cluster_mode (2 instances)\n[PM2] Done.\n┌────┬",
    )?;
    let list = daemon.json(["jlist"])?;
    let first = &list[0];
    for (pointer, expected) in [
        ("/name", "web"),
        ("/pm2_env/status", "online"),
        ("/pm2_env/exec_mode", "cluster_mode"),
        ("/pm2_env/pm_exec_path", app),
    ] {
        let found = first.pointer(pointer).and_then(|value| value.as_str());
        ensure!(found == Some(expected), "{pointer}: {found:?}");
    }
    let pids = daemon.pids("web")?;
    ended(
        &daemon.say(["pid", "web"])?,
        0,
        &format!("{}\n{}\n", pids[0], pids[1]),
    )?;
    ended(&daemon.say(["id", "web"])?, 0, "[ 0, 1 ]\n")?;
    ended(&daemon.say(["id", "nope"])?, 0, "[]\n")?;
    ended(&daemon.say(["prettylist"])?, 0, "    name: 'web',\n")?;
    ended(
        &daemon.say(["restart", "nope"])?,
        1,
        "[PM2][ERROR] Process or Namespace nope not found",
    )?;
    ended(
        &daemon.say(["describe", "nope"])?,
        1,
        "[PM2][WARN] nope doesn't exist",
    )?;
    ended(
        &daemon.say(["start", app, "--name", "web"])?,
        1,
        "Script already launched",
    )?;
    let stopped = daemon.say(["stop", "web"])?;
    ended(
        &stopped,
        0,
        "[PM2] Applying action stopProcessId on app [web](ids: [ 0, 1 ])\n[PM2] [web](0) ✓\n[PM2] [web](1) ✓\n",
    )?;
    ensure!(stopped.out.contains("│ stopped   │"), "{}", stopped.out);
    // Options of other verbs, and before the verb, are taken.
    ended(
        &daemon.say(["-s", "restart", "web", "--watch-delay", "3"])?,
        0,
        "",
    )?;
    ended(&daemon.say(["delete", "web", "-i", "4"])?, 0, "deleteProcessId")?;
    ended(&daemon.say(["delete", "all"])?, 1, "[PM2][WARN] No process found")?;
    ended(
        &daemon.say(["nonsense"])?,
        1,
        "[PM2][ERROR] Command not found: nonsense",
    )?;
    ended(
        &daemon.say(Vec::<&str>::new())?,
        1,
        "usage: pm2 [options] <command>",
    )?;
    ended(&daemon.say(["kill"])?, 0, "[PM2] [v] PM2 Daemon Stopped")
}

#[test]
fn looking_goes_on_over_the_daemons_death() -> Result<()> {
    let daemon = Daemon::new()?;
    daemon.ok(["start", "sleep 1000", "-n", "web"])?;
    let before = daemon.pong()?;
    for round in 0..3 {
        process::signal(daemon.pong()?.pid, Signal::KILL)?;
        let said = daemon.say(["list"])?;
        ended(&said, 0, "web").with_context(|| format!("round {round}"))?;
    }
    let after = daemon.until_pong("another daemon", |pong| pong.incarnation > before.incarnation)?;
    ensure!(after.pid != before.pid);
    Ok(())
}

#[test]
fn an_interruption_leaves_the_daemon_at_its_work() -> Result<()> {
    let daemon = Daemon::new()?;
    let deaf = "trap '' TERM INT; echo; while :; do sleep 1000; done";
    daemon.ok(["start", deaf, "-n", "deaf", "-k", "1h"])?;
    let mut command = daemon.command(["stop", "deaf"]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    daemon_stops(&daemon)?;
    kill_process(Pid::from_child(&child), Signal::INT)?;
    let mut said = String::new();
    child
        .stderr
        .take()
        .context("its words")?
        .read_to_string(&mut said)?;
    let code = child.wait()?.code();
    ensure!(
        code == Some(130) && said.contains("the daemon goes on with it"),
        "{code:?} {said}"
    );
    ensure!(daemon.app("deaf")?["state"] == "stopping");
    ended(&daemon.say(["stop", "deaf", "--now"])?, 0, "deaf")?;
    ensure!(daemon.app("deaf")?["state"] == "stopped");
    Ok(())
}

/// Waits until the call has reached the daemon.
fn daemon_stops(daemon: &Daemon) -> Result<()> {
    wait_until("the stop begins", LIMIT, || match daemon.app("deaf") {
        Ok(app) if app["state"] == "stopping" => Ok(()),
        Ok(app) => Err(app.to_string()),
        Err(error) => Err(format!("{error:#}")),
    })
}

#[test]
fn variables_and_secrets() -> Result<()> {
    let daemon = Daemon::new()?;
    let start = |words: &[&str], value: &str| -> Result<Said> {
        let mut command = daemon.command(words);
        command
            .env("FROM_SHELL", value)
            .env("SHELL_TOKEN", "s1")
            .env("TERM", "xterm");
        Ok(command.output()?.into())
    };
    let words = [
        "start",
        "sleep 1000",
        "-n",
        "web",
        "--env",
        "A=1",
        "--env",
        "API_KEY=s2",
    ];
    ended(&start(&words, "one")?, 0, "web started")?;
    let env = daemon.ok(["env", "web"])?;
    for part in [
        "A=1\n",
        "API_KEY=[redacted]\n",
        "SHELL_TOKEN=[redacted]\n",
        "FROM_SHELL=one\n",
    ] {
        ensure!(env.contains(part), "no {part:?} in\n{env}");
    }
    ensure!(!env.contains("TERM=") && !env.contains("s1\n"), "{env}");
    ensure!(daemon.ok(["env", "web", "--reveal"])?.contains("API_KEY=s2\n"));
    ensure!(!daemon.ok(["jlist"])?.contains("s2"));
    ended(&start(&["restart", "web"], "two")?, 0, "web restarted")?;
    ensure!(daemon.ok(["env", "web"])?.contains("FROM_SHELL=one\n"));
    ended(
        &start(&["restart", "web", "--update-env"], "two")?,
        0,
        "web restarted",
    )?;
    ensure!(daemon.ok(["env", "web"])?.contains("FROM_SHELL=two\n"));
    Ok(())
}

#[test]
fn files_are_started_reloaded_and_stopped() -> Result<()> {
    let daemon = Daemon::new()?;
    let file = daemon.home().join("ecosystem.config.js");
    let write = |level: u32| {
        let app = |name: &str| {
            format!("{{name: '{name}', script: 'sleep 1000', env: {{LEVEL: {level}}}, env_hot: {{HOT: 1}}}}")
        };
        std::fs::write(
            &file,
            format!("module.exports = {{apps: [{}, {}]}}", app("a"), app("b")),
        )
    };
    write(1)?;
    // Without a word, it is the file of the directory.
    ended(&daemon.say(["start", "--only", "a"])?, 0, "a started")?;
    ensure!(daemon.app("b").is_err());
    ended(
        &daemon.say(["restart", "ecosystem.config.js", "--env", "hot"])?,
        0,
        "b started",
    )?;
    ensure!(daemon.ok(["env", "a"])?.contains("HOT=1\n"));
    write(2)?;
    ended(
        &daemon.say(["reload", "ecosystem.config.js"])?,
        0,
        "generation 2 serves",
    )?;
    let env = daemon.ok(["env", "a"])?;
    ensure!(env.contains("LEVEL=2\n") && !env.contains("HOT"), "{env}");
    ended(
        &daemon.say(["delete", "ecosystem.config.js", "--only", "b"])?,
        0,
        "b deleted",
    )?;
    std::fs::write(&file, "module.exports = {apps: [{name: 'a', script: }]}")?;
    ended(
        &daemon.say(["start", "ecosystem.config.js"])?,
        3,
        "ecosystem.config.js:1:",
    )?;
    let mut child = daemon
        .command(["start", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("its input")?;
    input.write_all(br#"{"apps": [{"name": "piped", "script": "sleep 1000"}]}"#)?;
    drop(input);
    ensure!(child.wait()?.success());
    daemon.app("piped").map(drop)
}

#[test]
fn without_a_daemon_it_stays_in_the_foreground() -> Result<()> {
    let daemon = Daemon::new()?;
    let mut command = daemon.command(["start", "echo hello; sleep 1000", "-n", "web", "--no-daemon"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait_until("the app runs", LIMIT, || {
        daemon.app("web").map(drop).map_err(|error| format!("{error:#}"))
    })?;
    let pids = daemon.pids("web")?;
    kill_process(Pid::from_child(&child), Signal::TERM)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.code() == Some(0), "{output:?}");
    ensure!(pids.iter().all(|pid| !process::alive(*pid)), "{pids:?}");
    ended(&daemon.say(["ping"])?, 9, "no daemon answers")
}
