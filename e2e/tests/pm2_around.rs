//! The verbs around the daemon, through the binary: what they write, print and end with.

use anyhow::{Result, ensure};
use e2e::{Daemon, Everup, LIMIT, binary, http::get};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

fn home() -> Result<TempDir> {
    let home = TempDir::with_prefix("everup-e2e-")?;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700))?;
    Ok(home)
}

fn everup(home: &Path, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary::everup()?);
    command
        .args(args)
        .env("EVERUP_HOME", home)
        .env("HOME", home)
        .current_dir(home);
    Ok(command.output()?)
}

fn said(home: &Path, args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = everup(home, args)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

fn site() -> Result<TempDir> {
    let site = TempDir::with_prefix("everup-site-")?;
    fs::write(site.path().join("index.html"), "home")?;
    fs::write(site.path().join("large"), "0123456789".repeat(100_000))?;
    Ok(site)
}

/// `Exposing DIR directory on ADDRESS`
fn address(line: &str) -> Result<SocketAddr> {
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}

#[test]
fn files_are_served_by_a_process_alone() -> Result<()> {
    let site = site()?;
    let run = Everup::program(binary::everup()?)
        .args(["serve-files", ".", "0", "--host", "127.0.0.1"])
        .cwd(site.path())
        .start()?;
    let address = address(&run.out_line("Exposing")?)?;
    let answer = get(address, "/", LIMIT)?;
    ensure!(answer.status == 200 && answer.body == "home", "{answer:?}");
    ensure!(answer.header("content-type") == "text/html; charset=utf-8");
    ensure!(get(address, "/large", LIMIT)?.body.len() == 1_000_000);
    ensure!(get(address, "/../etc/passwd", LIMIT)?.status == 403);
    run.signal(Signal::TERM)?;
    ensure!(run.ended(LIMIT)?.code() == Some(0));
    Ok(())
}

#[test]
fn workers_that_serve_files_share_a_port() -> Result<()> {
    let site = site()?;
    let run = Everup::run()?
        .args(["-i", "2", "--interpreter", "none", "--channel", "node"])
        .arg(binary::everup()?)
        .args(["--", "serve-files", "--host", "127.0.0.1"])
        .env("PM2_SERVE_PORT", "0")
        .env("PM2_SERVE_PATH", site.path())
        .start()?;
    run.ready(2)?;
    let address = run.address()?;
    for _ in 0..10 {
        ensure!(get(address, "/", LIMIT)?.body == "home");
    }
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_told() -> Result<()> {
    let site = site()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let (code, _, err) = said(site.path(), &["serve-files", ".", &port, "--host", "127.0.0.1"])?;
    ensure!(code == Some(4) && err.contains("in use"), "{code:?} {err}");
    ensure!(
        err.contains(&format!("held by process {}", std::process::id())),
        "{err}"
    );
    Ok(())
}

#[test]
fn a_unit_is_written_below_another_root_and_removed() -> Result<()> {
    let home = home()?;
    let root = home.path().join("image");
    let root = root.to_str().unwrap_or_default();
    let (code, out, err) = said(
        home.path(),
        &["startup", "systemd", "--root", root, "--service-name", "apps"],
    )?;
    ensure!(code == Some(0), "{out}{err}");
    let unit = Path::new(root).join("etc/systemd/system/apps.service");
    let text = fs::read_to_string(&unit)?;
    ensure!(
        text.contains(&format!("EVERUP_HOME={}", home.path().display())),
        "{text}"
    );
    let (code, out, err) = said(
        home.path(),
        &["unstartup", "systemd", "--root", root, "--service-name", "apps"],
    )?;
    ensure!(code == Some(0) && !unit.exists(), "{out}{err}");
    let (code, _, err) = said(
        home.path(),
        &["unstartup", "systemd", "--root", root, "--service-name", "apps"],
    )?;
    ensure!(code == Some(3) && err.contains("hint:"), "{err}");
    let (code, out, _) = said(home.path(), &["startup", "openrc", "--dry-run"])?;
    ensure!(
        code == Some(0) && out.contains("#!/sbin/openrc-run") && out.contains("rc-update add"),
        "{out}"
    );
    let (code, _, err) = said(home.path(), &["startup", "launchd"])?;
    ensure!(code == Some(10) && err.contains("launchd"), "{err}");
    Ok(())
}

#[test]
fn an_ordinary_user_is_told_what_root_has_to_type() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let home = home()?;
    let program = home.path().join("everup");
    // The folder of the build may be closed to others.
    fs::copy(binary::everup()?, &program)?;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
    let run = Everup::program(&program)
        .args(["startup", "systemd"])
        .env("EVERUP_HOME", "/home/nobody/.everup")
        .cwd("/")
        .user(65534, 65534)
        .start()?;
    let line = run.out_line("sudo env PATH=")?;
    ensure!(
        line.ends_with("startup systemd -u nobody --hp /home/nobody"),
        "{line}"
    );
    ensure!(run.ended(LIMIT)?.code() == Some(1));
    Ok(())
}

#[test]
fn the_doctor_finds_a_broken_home() -> Result<()> {
    let home = home()?;
    let (_, out, err) = said(home.path(), &["doctor", "--json"])?;
    let told: Value = serde_json::from_str(&out)?;
    let about = |told: &Value, about: &str| {
        let all = told["findings"].as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|finding| finding["about"] == about)
            .unwrap_or_default()
    };
    ensure!(about(&told, "home")["level"] == "good", "{out}{err}");
    ensure!(about(&told, "daemon")["text"] == "no daemon runs", "{out}");
    let file = home.path().join("file");
    fs::write(&file, "")?;
    let output = Command::new(binary::everup()?)
        .args(["doctor", "--json"])
        .env("EVERUP_HOME", &file)
        .output()?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(1) && told["ok"] == false, "{told}");
    ensure!(about(&told, "home")["level"] == "bad", "{told}");
    Ok(())
}

#[test]
fn settings_are_kept() -> Result<()> {
    let home = home()?;
    ensure!(said(home.path(), &["set", "pm2-logrotate:max_size", "10M"])?.0 == Some(0));
    ensure!(said(home.path(), &["multiset", "a 1 b.c \"2 3\""])?.0 == Some(0));
    let (_, out, _) = said(home.path(), &["get", "--json"])?;
    let all: Value = serde_json::from_str(&out)?;
    ensure!(
        all == serde_json::json!({"pm2-logrotate": {"max_size": "10M"}, "a": "1", "b": {"c": "2 3"}}),
        "{all}"
    );
    ensure!(said(home.path(), &["get", "b.c"])?.1 == "2 3\n");
    ensure!(said(home.path(), &["unset", "a"])?.0 == Some(0));
    ensure!(said(home.path(), &["get", "a"])?.0 == Some(3));
    let mode = fs::metadata(home.path().join("settings.json"))?
        .permissions()
        .mode()
        & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    Ok(())
}

#[test]
fn settings_of_commands_at_once_are_all_kept() -> Result<()> {
    let home = home()?;
    let program = binary::everup()?;
    let set = |number: usize| {
        let mut command = Command::new(&program);
        command
            .args(["set", &format!("key{number}"), "v"])
            .env("EVERUP_HOME", home.path());
        command.stdout(std::process::Stdio::null());
        command.spawn()
    };
    let children: Vec<_> = (0..10).map(set).collect::<std::io::Result<_>>()?;
    for mut child in children {
        ensure!(child.wait()?.success());
    }
    let all: Value = serde_json::from_str(&said(home.path(), &["get", "--json"])?.1)?;
    ensure!(all.as_object().map(serde_json::Map::len) == Some(10), "{all}");
    Ok(())
}

#[test]
fn samples_are_written_and_not_over_others() -> Result<()> {
    let home = home()?;
    for (args, file) in [
        (&["init"][..], "ecosystem.config.js"),
        (&["init", "--toml"][..], "everup.toml"),
    ] {
        ensure!(said(home.path(), args)?.0 == Some(0));
        ensure!(!fs::read_to_string(home.path().join(file))?.is_empty());
        let (code, _, err) = said(home.path(), args)?;
        ensure!(code == Some(3) && err.contains("--force"), "{err}");
    }
    ensure!(said(home.path(), &["ecosystem", "simple", "--force"])?.0 == Some(0));
    Ok(())
}

#[test]
fn what_is_not_there_says_what_to_do_instead() -> Result<()> {
    let home = home()?;
    for args in [
        &["link", "secret", "public"][..],
        &["install", "pm2-logrotate"][..],
        &["deploy", "production", "setup", "--force"][..],
        &["pull", "web"][..],
    ] {
        let (code, _, err) = said(home.path(), args)?;
        ensure!(
            code == Some(2) && err.contains("not supported") && err.contains("hint:"),
            "{err}"
        );
    }
    Ok(())
}

#[test]
fn a_report_has_no_variables() -> Result<()> {
    let home = home()?;
    fs::write(home.path().join("daemon.log"), "hello from the log\n")?;
    let mut command = Command::new(binary::everup()?);
    let output = command
        .arg("report")
        .env("EVERUP_HOME", home.path())
        .env("MY_SECRET_TOKEN", "do-not-tell")
        .output()?;
    let out = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && out.contains("hello from the log") && out.contains("kernel: "),
        "{out}"
    );
    ensure!(!out.contains("do-not-tell"), "{out}");
    Ok(())
}

#[test]
fn systemd_is_told_who_the_keeper_is_also_after_its_death() -> Result<()> {
    let daemon = Daemon::new()?;
    let socket = UnixDatagram::bind(daemon.home().join("notify"))?;
    socket.set_read_timeout(Some(LIMIT))?;
    let keeper_told = || -> Result<u32> {
        let mut buffer = [0; 500];
        let length = socket.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        ensure!(text.starts_with("READY=1\n"), "{text}");
        let pid = text.lines().find_map(|line| line.strip_prefix("MAINPID="));
        Ok(pid.unwrap_or_default().parse()?)
    };
    // As the unit does it.
    let mut first = daemon.command(["--keeper", "--home"]);
    let mut first = first
        .arg(daemon.home())
        .env("NOTIFY_SOCKET", daemon.home().join("notify"))
        .stderr(std::process::Stdio::null())
        .spawn()?;
    ensure!(keeper_told()? == first.id());
    first.kill()?;
    first.wait()?;
    let second = keeper_told()?;
    ensure!(second != first.id() && second == daemon.pong()?.keeper);
    daemon.ok(["kill"])?;
    Ok(())
}
