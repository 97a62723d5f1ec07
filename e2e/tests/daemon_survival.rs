//! Must show 1 of the daemon: whoever of ours is killed, and however often, nothing is lost.

use anyhow::{Context, Result, ensure};
use e2e::http::Connection;
use e2e::load::{Answer, Crowd, KeepAlive, Session, Tally};
use e2e::run::wait_until;
use e2e::{Daemon, LIMIT, binary, fixture, process};
use rustix::process::Signal;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(15);

/// A client that makes a connection for each request.
struct Fresh(SocketAddr);

impl Session for Fresh {
    fn exchange(&mut self) -> Result<Answer> {
        let mut connection = Connection::open(self.0, TIMEOUT)?;
        let answer = connection.get("/")?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(Answer {
            worker: String::new(),
            stays: true,
        })
    }
}

/// An app under load, on fresh connections and on some that are kept.
struct Loaded {
    name: &'static str,
    before: Vec<u32>,
    fresh: Crowd,
    kept: Option<KeepAlive>,
}

impl Loaded {
    fn start(daemon: &Daemon, name: &'static str, port: u16, workers: usize, keeps: bool) -> Result<Self> {
        let before = daemon.ready(name, workers)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            name,
            before,
            fresh: Crowd::start(2, move |_| Ok(Fresh(address))),
            kept: keeps.then(|| KeepAlive::start(address, 2)),
        })
    }

    fn finish(self, daemon: &Daemon) -> Result<()> {
        let fresh = self.fresh.finish()?;
        let kept = self
            .kept
            .map_or_else(|| Ok(Tally::default()), KeepAlive::finish)?;
        let name = self.name;
        e2e::say(&format!(
            "{name}: {} + {} requests, {} failed",
            fresh.ok,
            kept.ok,
            fresh.failed() + kept.failed()
        ));
        ensure!(fresh.ok > 0, "{name}: nothing was answered");
        ensure!(
            fresh.failures.is_empty() && kept.failures.is_empty(),
            "{name}: {:?} {:?}",
            fresh.failures,
            kept.failures
        );
        let after = daemon.pids(name)?;
        ensure!(
            after == self.before,
            "{name}: workers {:?} became {after:?}",
            self.before
        );
        Ok(())
    }
}

/// A port that was free a moment ago.
fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Numbered lines to standard output, as fast as that goes without filling the disk.
const WRITER: &str =
    "let n = 0; setInterval(() => { for (let i = 0; i < 20; i++) console.log(`line ${n++}`); }, 5);";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Daemon,
    Keeper,
    Upgrade,
}

fn strike(daemon: &Daemon, blow: Blow) -> Result<()> {
    let before = daemon.pong()?;
    match blow {
        Blow::Daemon => process::signal(before.pid, Signal::KILL)?,
        Blow::Keeper => process::signal(before.keeper, Signal::KILL)?,
        Blow::Upgrade => {
            daemon.ok(["upgrade"])?;
        }
    }
    daemon.until_pong(&format!("a successor after {blow:?}"), |pong| {
        pong.incarnation > before.incarnation
    })?;
    Ok(())
}

/// Each as often as said, in an order that looks random and is always the same.
fn blows(daemon: usize, keeper: usize, upgrade: usize) -> Vec<Blow> {
    let mut all = Vec::new();
    all.extend(std::iter::repeat_n(Blow::Daemon, daemon));
    all.extend(std::iter::repeat_n(Blow::Keeper, keeper));
    all.extend(std::iter::repeat_n(Blow::Upgrade, upgrade));
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for at in (1..all.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = usize::try_from(random % (at as u64 + 1)).unwrap_or(0);
        all.swap(at, other);
    }
    all
}

fn complete(log: &Path) -> Result<usize> {
    let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        ensure!(*line == format!("line {at}"), "line {at} of the log is {line:?}");
    }
    Ok(lines.len())
}

#[test]
fn killed_and_upgraded_under_load() -> Result<()> {
    let soak = std::env::var_os("EVERUP_SOAK").is_some();
    let blows = if soak { blows(20, 5, 5) } else { blows(6, 2, 2) };
    let daemon = Daemon::new()?;
    let ports = [port()?, port()?, port()?];
    let text = |port: u16| port.to_string();
    let node = fixture("hello.js");
    let axum = binary::example("axum")?;
    let python = e2e::repository("examples/python/server.py");
    let writer = daemon.home().join("writer.js");
    fs::write(&writer, WRITER)?;
    let start = |args: &[&std::ffi::OsStr], port: u16| -> Result<()> {
        let mut command = daemon.command(["start"]);
        let said = command.args(args).env("PORT", text(port)).output()?;
        ensure!(
            said.status.success(),
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(())
    };
    start(
        &[
            node.as_os_str(),
            "--name".as_ref(),
            "node".as_ref(),
            "-i".as_ref(),
            "2".as_ref(),
        ],
        ports[0],
    )?;
    start(
        &[
            axum.as_os_str(),
            "--name".as_ref(),
            "rust".as_ref(),
            "-i".as_ref(),
            "2".as_ref(),
            "--channel".as_ref(),
            "node".as_ref(),
        ],
        ports[1],
    )?;
    let listen = format!("127.0.0.1:{}", ports[2]);
    start(
        &[
            python.as_os_str(),
            "--name".as_ref(),
            "python".as_ref(),
            "-i".as_ref(),
            "2".as_ref(),
            "--listen".as_ref(),
            listen.as_ref(),
        ],
        ports[2],
    )?;
    start(&[writer.as_os_str(), "--name".as_ref(), "writer".as_ref()], 0)?;
    let loaded = [
        Loaded::start(&daemon, "node", ports[0], 2, true)?,
        Loaded::start(&daemon, "rust", ports[1], 2, true)?,
        Loaded::start(&daemon, "python", ports[2], 2, false)?,
    ];
    for blow in blows {
        strike(&daemon, blow)?;
        for app in &loaded {
            app.fresh.answered(5)?;
        }
    }
    for app in loaded {
        app.finish(&daemon)?;
    }
    daemon.ok(["stop", "writer"])?;
    let log = daemon.home().join("logs/writer-out.log");
    let lines = complete(&log)?;
    e2e::say(&format!("{lines} lines, each once"));
    ensure!(lines > 100, "only {lines} lines");
    Ok(())
}

#[test]
fn an_exit_while_nobody_looked_is_told() -> Result<()> {
    let daemon = Daemon::new()?;
    let app = daemon.home().join("app.js");
    fs::write(
        &app,
        "process.on('SIGUSR2', () => process.exit(42)); setInterval(() => {}, 1000); process.send?.('ready');",
    )?;
    daemon.ok([app.as_os_str().to_str().context("a path")?].into_iter().fold(
        vec!["start"],
        |mut all, one| {
            all.push(one);
            all
        },
    ))?;
    let pids = daemon.ready("app", 1)?;
    let before = daemon.pong()?;
    // The keeper is stopped meanwhile, so that no daemon comes until the worker is gone.
    process::signal(before.keeper, Signal::STOP)?;
    process::signal(before.pid, Signal::KILL)?;
    process::signal(pids[0], Signal::USR2)?;
    wait_until("the worker's end", LIMIT, || match process::state(pids[0]) {
        None | Some('Z' | 'X') => Ok(()),
        state => Err(format!("{state:?}")),
    })?;
    process::signal(before.keeper, Signal::CONT)?;
    daemon.until_pong("a successor", |pong| pong.incarnation > before.incarnation)?;
    wait_until("the exit code", LIMIT, || {
        let app = daemon.app("app").map_err(|error| format!("{error:#}"))?;
        let instance = &app["instances"][0];
        match instance["last_exit"]["code"].as_i64() {
            Some(42) => Ok(()),
            _ => Err(app.to_string()),
        }
    })?;
    // And it was replaced, once.
    let after = daemon.ready("app", 1)?;
    ensure!(after != pids, "nobody took its place");
    Ok(())
}

/// The daemon dies at some instant of a reload: the next one ends it, in whichever way, and nobody is turned away.
#[test]
fn killed_in_the_middle_of_a_reload() -> Result<()> {
    let rounds = if std::env::var_os("EVERUP_SOAK").is_some() {
        30
    } else {
        5
    };
    let daemon = Daemon::new()?;
    let port = port()?;
    let node = fixture("hello.js");
    let mut start = daemon.command(["start"]);
    start
        .arg(&node)
        .args(["--name", "node", "-i", "2", "--canary", "100ms"]);
    let said = start.env("PORT", port.to_string()).output()?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    daemon.ready("node", 2)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let clients = Crowd::start(3, move |_| Ok(Fresh(address)));
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..rounds {
        let before = daemon.pong()?;
        let generation = generation(&daemon)?;
        let mut reload = daemon.command(["reload", "node"]).spawn()?;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // wait: the blow falls at any instant of the reload
        thread::sleep(Duration::from_millis(random % 900));
        process::signal(before.pid, Signal::KILL)?;
        reload.wait()?;
        daemon.until_pong("a successor", |pong| pong.incarnation > before.incarnation)?;
        wait_until(&format!("the end of reload {round}"), LIMIT, || {
            let app = daemon.app("node").map_err(|error| format!("{error:#}"))?;
            let ready = |one: &serde_json::Value| one["state"] == "ready" && one["role"] == "active";
            let instances = app["instances"].as_array().cloned().unwrap_or_default();
            let settled = app["reload"].is_null() && app["others"].as_array().is_some_and(Vec::is_empty);
            match settled && instances.len() == 2 && instances.iter().all(ready) {
                true => Ok(()),
                false => Err(app.to_string()),
            }
        })?;
        ensure!(
            self::generation(&daemon)? >= generation,
            "an older generation serves"
        );
        clients.answered(10)?;
    }
    let tally = clients.finish()?;
    e2e::say(&format!(
        "{rounds} reloads: {} requests, {} failed",
        tally.ok,
        tally.failed()
    ));
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    Ok(())
}

fn generation(daemon: &Daemon) -> Result<u64> {
    daemon.app("node")?["generation"].as_u64().context("a generation")
}
