//! What scripts do with pm2, done under its name: start, list, restart, reload, stop, delete, scale, files, variables,
//! targets, lives of apps, save and resurrect, exit codes.

use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Daemon, LIMIT};
use serde_json::Value;
use std::fs;

const SERVER: &str = "
    const http = require('http');
    http.createServer((request, response) => response.end(JSON.stringify(process.env))).listen(0, '127.0.0.1');
";
const IDLE: &str = "setInterval(() => {}, 1000);";

/// A home with scripts, under the name `pm2`.
fn pm2() -> Result<Daemon> {
    let daemon = Daemon::pm2()?;
    for (name, text) in [
        ("server.js", SERVER),
        ("idle.js", IDLE),
        ("fails.js", "process.exit(3)"),
    ] {
        fs::write(daemon.home().join(name), text)?;
    }
    Ok(daemon)
}

fn jlist(daemon: &Daemon) -> Result<Vec<Value>> {
    let list = daemon.json(["jlist"])?;
    list.as_array().cloned().context("a list")
}

/// Processes of a name.
fn of(daemon: &Daemon, name: &str) -> Result<Vec<Value>> {
    Ok(jlist(daemon)?
        .into_iter()
        .filter(|process| process["name"] == name)
        .collect())
}

fn statuses(daemon: &Daemon, name: &str) -> Result<Vec<String>> {
    let status = |process: &Value| process["pm2_env"]["status"].as_str().unwrap_or("?").to_owned();
    Ok(of(daemon, name)?.iter().map(status).collect())
}

/// Waits until the processes of a name have this status.
fn until(daemon: &Daemon, name: &str, status: &str, count: usize) -> Result<Vec<Value>> {
    wait_until(
        &format!("{count} processes of {name} are {status}"),
        LIMIT,
        || {
            let found = statuses(daemon, name).map_err(|error| format!("{error:#}"))?;
            match found.len() == count && found.iter().all(|found| found == status) {
                true => Ok(()),
                false => Err(format!("{found:?}")),
            }
        },
    )?;
    of(daemon, name)
}

fn names(daemon: &Daemon) -> Result<Vec<String>> {
    let mut names: Vec<String> = jlist(daemon)?
        .iter()
        .filter_map(|process| Some(process["name"].as_str()?.to_owned()))
        .collect();
    names.dedup();
    Ok(names)
}

fn fails(daemon: &Daemon, args: &[&str]) -> Result<String> {
    let said = daemon.say(args)?;
    ensure!(said.code == Some(1), "{args:?}: {said:?}");
    Ok(said.out + &said.err)
}

#[test]
fn from_start_to_delete() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "server.js", "--name", "web", "-i", "2"])?;
    let first = until(&daemon, "web", "online", 2)?;
    ensure!(first[0]["pm2_env"]["exec_mode"] == "cluster_mode", "{first:?}");
    ensure!(
        first.iter().map(|process| &process["pm_id"]).eq([0, 1].iter()),
        "{first:?}"
    );
    daemon.ok(["restart", "web"])?;
    let second = until(&daemon, "web", "online", 2)?;
    ensure!(
        second[0]["pid"] != first[0]["pid"] && second[0]["pm2_env"]["restart_time"] == 1,
        "{second:?}"
    );
    daemon.ok(["reload", "web"])?;
    let third = until(&daemon, "web", "online", 2)?;
    ensure!(
        third[1]["pid"] != second[1]["pid"] && third[1]["pm2_env"]["restart_time"] == 2,
        "{third:?}"
    );
    daemon.ok(["reset", "web"])?;
    ensure!(of(&daemon, "web")?[0]["pm2_env"]["restart_time"] == 0);
    daemon.ok(["stop", "web"])?;
    let stopped = until(&daemon, "web", "stopped", 2)?;
    ensure!(stopped[0]["pid"] == 0, "{stopped:?}");
    daemon.ok(["start", "web"])?;
    until(&daemon, "web", "online", 2)?;
    daemon.ok(["delete", "web"])?;
    ensure!(jlist(&daemon)?.is_empty());
    Ok(())
}

#[test]
fn ids_are_not_given_again_until_the_list_is_empty() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "idle.js", "-n", "a"])?;
    daemon.ok(["start", "idle.js", "-n", "b"])?;
    daemon.ok(["delete", "a"])?;
    daemon.ok(["start", "idle.js", "-n", "c"])?;
    ensure!(of(&daemon, "c")?[0]["pm_id"] == 2);
    daemon.ok(["delete", "all"])?;
    daemon.ok(["start", "idle.js", "-n", "d"])?;
    ensure!(of(&daemon, "d")?[0]["pm_id"] == 0);
    Ok(())
}

#[test]
fn targets_in_pm2s_order() -> Result<()> {
    let daemon = pm2()?;
    for (name, namespace) in [
        ("api-a", "front"),
        ("api-b", "front"),
        ("job", "back"),
        ("1", "back"),
    ] {
        daemon.ok(["start", "idle.js", "-n", name, "--namespace", namespace])?;
    }
    let stopped = |daemon: &Daemon| -> Result<Vec<String>> {
        let all = jlist(daemon)?;
        let stopped = all
            .iter()
            .filter(|process| process["pm2_env"]["status"] == "stopped");
        Ok(stopped
            .filter_map(|process| Some(process["name"].as_str()?.to_owned()))
            .collect())
    };
    for (target, expected) in [
        ("/^api-/", &["api-a", "api-b"][..]),
        ("front", &["api-a", "api-b"]),
        // A name before an id.
        ("1", &["1"]),
        ("2", &["job"]),
        ("job", &["job"]),
        ("all", &["api-a", "api-b", "job", "1"]),
    ] {
        daemon.ok(["stop", target])?;
        let mut found = stopped(&daemon)?;
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        ensure!(found == expected, "{target}: {found:?}");
        daemon.ok(["restart", "all"])?;
    }
    daemon.ok(["stop", "api-a", "job"])?;
    ensure!(stopped(&daemon)?.len() == 2);
    Ok(())
}

#[test]
fn exit_codes() -> Result<()> {
    let daemon = pm2()?;
    for args in [
        &["start", "no-such.js"][..],
        &["restart", "nobody"],
        &["stop", "nobody"],
        &["delete", "nobody"],
        &["reload", "nobody"],
        &["describe", "nobody"],
        &["restart", "all"],
        &["start", "no-such.config.js"],
        &["no-such-command"],
        &["link", "a", "b"],
    ] {
        fails(&daemon, args)?;
    }
    for args in [
        &["list"][..],
        &["jlist"],
        &["ping"],
        &["save", "--force"],
        &["flush", "nobody"],
        &["kill"],
    ] {
        daemon.ok(args)?;
    }
    Ok(())
}

#[test]
fn those_that_are_there_are_done() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "idle.js", "-n", "web", "-i", "2"])?;
    for name in ["web-out-0.log", "web-error-1.log"] {
        let path = daemon.home().join("logs").join(name);
        ensure!(path.exists(), "{}", path.display());
    }
    let said = daemon.say(["stop", "nobody", "web"])?;
    let error = "[PM2][ERROR] Process or Namespace nobody not found";
    ensure!(said.code == Some(1) && said.err.contains(error), "{}", said.err);
    until(&daemon, "web", "stopped", 2)?;
    Ok(())
}

#[test]
fn scale_up_and_down() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "server.js", "-n", "web", "-i", "1"])?;
    for (amount, workers) in [("3", 3), ("+1", 4), ("-2", 2)] {
        daemon.ok(["scale", "web", amount])?;
        until(&daemon, "web", "online", workers)?;
    }
    Ok(())
}

const ECOSYSTEM: &str = "
module.exports = { apps: [
    { name: 'web', script: './server.js', instances: 2, env: { COLOUR: 'red', GONE: '1' }, env_production: { COLOUR: 'blue' } },
    { name: 'job', script: './idle.js', autorestart: false, namespace: 'jobs' },
] };
";

fn env(daemon: &Daemon, name: &str, variable: &str) -> Result<Value> {
    Ok(of(daemon, name)?.first().context("a process")?["pm2_env"]["env"][variable].clone())
}

#[test]
fn an_ecosystem_file() -> Result<()> {
    let daemon = pm2()?;
    let file = daemon.home().join("ecosystem.config.js");
    fs::write(&file, ECOSYSTEM)?;
    daemon.ok(["start", "ecosystem.config.js"])?;
    until(&daemon, "web", "online", 2)?;
    until(&daemon, "job", "online", 1)?;
    ensure!(env(&daemon, "web", "COLOUR")? == "red");
    daemon.ok([
        "restart",
        "ecosystem.config.js",
        "--env",
        "production",
        "--only",
        "web",
    ])?;
    ensure!(env(&daemon, "web", "COLOUR")? == "blue");
    // What is taken out of the file is taken from the app.
    fs::write(&file, ECOSYSTEM.replace(", GONE: '1'", ""))?;
    daemon.ok(["reload", "ecosystem.config.js"])?;
    ensure!(env(&daemon, "web", "GONE")?.is_null());
    daemon.ok(["stop", "ecosystem.config.js"])?;
    until(&daemon, "job", "stopped", 1)?;
    daemon.ok(["startOrRestart", "ecosystem.config.js"])?;
    until(&daemon, "web", "online", 2)?;
    daemon.ok(["delete", "ecosystem.config.js"])?;
    ensure!(jlist(&daemon)?.is_empty());
    Ok(())
}

#[test]
fn a_file_that_is_json_and_standard_input() -> Result<()> {
    let daemon = pm2()?;
    let json = r#"{"apps": [{"name": "a", "script": "./idle.js"}, {"name": "b", "script": "./idle.js"}]}"#;
    fs::write(daemon.home().join("process.json"), json)?;
    daemon.ok(["start", "process.json"])?;
    ensure!(names(&daemon)? == ["a", "b"]);
    daemon.ok(["delete", "all"])?;
    let mut command = daemon.command(["start", "-"]);
    fs::write(daemon.home().join("in"), json)?;
    command.stdin(fs::File::open(daemon.home().join("in"))?);
    ensure!(command.output()?.status.success());
    ensure!(names(&daemon)? == ["a", "b"]);
    Ok(())
}

/// The whole environment of the first process of a name, from `/proc`.
fn inside(daemon: &Daemon, name: &str, variable: &str) -> Result<Option<String>> {
    let pid = of(daemon, name)?.first().context("a process")?["pid"]
        .as_u64()
        .context("a pid")?;
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let prefix = format!("{variable}=");
    let text = String::from_utf8_lossy(&environment).into_owned();
    Ok(text
        .split('\0')
        .find_map(|line| line.strip_prefix(&prefix))
        .map(str::to_owned))
}

#[test]
fn variables_are_taken_anew_only_when_asked() -> Result<()> {
    let daemon = pm2()?;
    let with = |args: &[&str], value: &str| -> Result<()> {
        let output = daemon.command(args).env("COLOUR", value).output()?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        Ok(())
    };
    with(&["start", "idle.js", "-n", "a"], "red")?;
    ensure!(inside(&daemon, "a", "COLOUR")?.as_deref() == Some("red"));
    with(&["restart", "a"], "green")?;
    ensure!(inside(&daemon, "a", "COLOUR")?.as_deref() == Some("red"));
    with(&["restart", "a", "--update-env"], "blue")?;
    ensure!(inside(&daemon, "a", "COLOUR")?.as_deref() == Some("blue"));
    ensure!(inside(&daemon, "a", "NODE_APP_INSTANCE")?.as_deref() == Some("0"));
    Ok(())
}

#[test]
fn lives_of_apps() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "fails.js", "-n", "once", "--no-autorestart"])?;
    let once = until(&daemon, "once", "stopped", 1)?;
    ensure!(once[0]["pm2_env"]["restart_time"] == 0, "{once:?}");
    daemon.ok(["start", "fails.js", "-n", "meant", "--stop-exit-codes", "3"])?;
    until(&daemon, "meant", "stopped", 1)?;
    daemon.ok(["start", "fails.js", "-n", "broken", "--max-restarts", "2"])?;
    let broken = until(&daemon, "broken", "errored", 1)?;
    ensure!(broken[0]["pm2_env"]["exit_code"] == 3, "{broken:?}");
    Ok(())
}

#[test]
fn a_killed_process_comes_back() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "idle.js", "-n", "a"])?;
    let pid = of(&daemon, "a")?[0]["pid"].clone();
    daemon.ok(["sendSignal", "SIGKILL", "a"])?;
    wait_until("another process", LIMIT, || {
        let now = of(&daemon, "a").map_err(|error| format!("{error:#}"))?;
        let back = now[0]["pid"] != pid && now[0]["pid"] != 0 && now[0]["pm2_env"]["restart_time"] == 1;
        if back {
            Ok(())
        } else {
            Err(format!("{:?}", now[0]))
        }
    })
}

#[test]
fn wait_ready_waits_for_the_message() -> Result<()> {
    let daemon = pm2()?;
    let go = daemon.home().join("go");
    let script = format!(
        "setInterval(() => {{ if (require('fs').existsSync({:?})) process.send('ready'); }}, 10);",
        go.display().to_string()
    );
    fs::write(daemon.home().join("slow.js"), script)?;
    fs::write(&go, "")?;
    daemon.ok([
        "start",
        "slow.js",
        "-n",
        "slow",
        "--wait-ready",
        "--listen-timeout",
        "60000",
    ])?;
    let first = until(&daemon, "slow", "online", 1)?;
    fs::remove_file(&go)?;
    let mut reload = daemon
        .command(["reload", "slow"])
        .stdout(std::process::Stdio::null())
        .spawn()?;
    // The old one serves as long as the new one is not ready.
    wait_until("a new process", LIMIT, || {
        let app = daemon.app("slow").map_err(|error| format!("{error:#}"))?;
        match app["others"].as_array().is_some_and(|others| !others.is_empty()) {
            true => Ok(()),
            false => Err(app.to_string()),
        }
    })?;
    ensure!(reload.try_wait()?.is_none());
    fs::write(&go, "")?;
    ensure!(reload.wait()?.success());
    ensure!(until(&daemon, "slow", "online", 1)?[0]["pid"] != first[0]["pid"]);
    Ok(())
}

#[test]
fn a_reload_that_cannot_be_keeps_the_old_one() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "server.js", "-n", "web", "-i", "1"])?;
    // It has read its script.
    daemon.ready("web", 1)?;
    let first = until(&daemon, "web", "online", 1)?;
    fs::write(daemon.home().join("server.js"), "throw new Error('broken')")?;
    fails(&daemon, &["reload", "web"])?;
    let second = until(&daemon, "web", "online", 1)?;
    ensure!(first[0]["pid"] == second[0]["pid"], "{second:?}");
    Ok(())
}

#[test]
fn a_cron_restart_restarts() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "idle.js", "-n", "a", "--cron-restart", "* * * * * *"])?;
    wait_until("a restart", LIMIT, || {
        let now = of(&daemon, "a").map_err(|error| format!("{error:#}"))?;
        match now[0]["pm2_env"]["restart_time"].as_u64() {
            Some(1..) => Ok(()),
            _ => Err(format!("{:?}", now[0])),
        }
    })
}

#[test]
fn saved_and_resurrected() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "idle.js", "-n", "a"])?;
    daemon.ok(["start", "idle.js", "-n", "b"])?;
    daemon.ok(["stop", "b"])?;
    daemon.ok(["save"])?;
    daemon.ok(["delete", "all"])?;
    daemon.ok(["resurrect"])?;
    until(&daemon, "a", "online", 1)?;
    until(&daemon, "b", "stopped", 1)?;
    daemon.ok(["kill"])?;
    daemon.ok(["resurrect"])?;
    until(&daemon, "a", "online", 1)?;
    // What is there is left alone.
    let pid = of(&daemon, "a")?[0]["pid"].clone();
    daemon.ok(["resurrect"])?;
    ensure!(of(&daemon, "a")?.len() == 1 && of(&daemon, "a")?[0]["pid"] == pid);
    Ok(())
}

#[test]
fn an_empty_list_is_saved_only_by_force() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "idle.js", "-n", "a"])?;
    daemon.ok(["save"])?;
    daemon.ok(["delete", "all"])?;
    daemon.say(["save"])?;
    daemon.ok(["resurrect"])?;
    until(&daemon, "a", "online", 1)?;
    daemon.ok(["delete", "all"])?;
    daemon.ok(["save", "--force"])?;
    daemon.say(["resurrect"])?;
    ensure!(jlist(&daemon)?.is_empty());
    Ok(())
}

#[test]
fn small_commands() -> Result<()> {
    let daemon = pm2()?;
    daemon.ok(["start", "idle.js", "-n", "a", "--", "--port", "1"])?;
    let process = of(&daemon, "a")?.remove(0);
    ensure!(daemon.ok(["id", "a"])?.trim() == "[ 0 ]");
    ensure!(daemon.ok(["pid", "a"])?.trim() == process["pid"].to_string());
    ensure!(
        process["pm2_env"]["args"] == serde_json::json!(["--port", "1"]),
        "{process}"
    );
    ensure!(daemon.ok(["ping"])?.contains("{ msg: 'pong' }"));
    ensure!(daemon.ok(["prettylist"])?.contains("name: 'a'"));
    let shown = daemon.ok(["describe", "a"])?;
    for row in [
        "status",
        "online",
        "script path",
        "exec mode",
        "fork_mode",
        "restarts",
    ] {
        ensure!(shown.contains(row), "{row}\n{shown}");
    }
    ensure!(daemon.ok(["list"])?.contains("online"));
    ensure!(daemon.ok(["-m", "list"])?.contains("+--- a"));
    Ok(())
}

#[test]
fn a_folder_is_served() -> Result<()> {
    let daemon = pm2()?;
    fs::create_dir(daemon.home().join("site"))?;
    fs::write(daemon.home().join("site/index.html"), "home")?;
    daemon.ok(["serve", "site", "0", "--host", "127.0.0.1", "-n", "files"])?;
    until(&daemon, "files", "online", 1)?;
    fs::write(
        daemon.home().join("ecosystem.config.js"),
        "module.exports = { apps: [{ name: 'more', script: 'serve', env: { PM2_SERVE_PATH: './site', PM2_SERVE_PORT: 0 } }] }",
    )?;
    daemon.ok(["start", "ecosystem.config.js"])?;
    until(&daemon, "more", "online", 1)?;
    Ok(())
}
