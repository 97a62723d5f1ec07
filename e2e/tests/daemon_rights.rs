//! Must show 4 of the daemon: who may do what. Other users can do nothing, unless `access.json` says so; and it is known who
//! wanted what. Takes root, which can be anybody.

use anyhow::{Context, Result, ensure};
use e2e::{Daemon, Said};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

const OWNER: u32 = 12_345;
const OTHER: u32 = 12_346;
const VIEWERS: u32 = 54_001;
const OPERATORS: u32 = 54_002;

/// A daemon of somebody who is not root, with an app that runs; `None` if we cannot be somebody else.
fn daemon() -> Result<Option<Daemon>> {
    if !rustix::process::geteuid().is_root() {
        e2e::say("skipped: needs root to be several users");
        return Ok(None);
    }
    let daemon = Daemon::at("home")?.behind(&user(OWNER, &[]).each_ref().map(String::as_str));
    fs::create_dir(daemon.home())?;
    std::os::unix::fs::chown(daemon.home(), Some(OWNER), Some(OWNER))?;
    daemon.ok([
        "start",
        "--name",
        "web",
        "--interpreter",
        "none",
        "sleep",
        "--",
        "1000",
    ])?;
    daemon.ready("web", 1)?;
    Ok(Some(daemon))
}

/// The words that make somebody of us: a user, with its own group and these.
fn user(uid: u32, groups: &[u32]) -> [String; 6] {
    let groups = match groups {
        [] => "--clear-groups".to_owned(),
        some => {
            let some: Vec<String> = some.iter().map(u32::to_string).collect();
            format!("--groups={}", some.join(","))
        }
    };
    [
        "setpriv".into(),
        "--reuid".into(),
        uid.to_string(),
        "--regid".into(),
        uid.to_string(),
        groups,
    ]
}

/// What somebody gets to hear.
fn say(daemon: &Daemon, uid: u32, groups: &[u32], args: &[&str]) -> Result<Said> {
    let words = user(uid, groups);
    let said = std::process::Command::new(&words[0])
        .args(&words[1..])
        .arg(daemon.program())
        .args(args)
        .env("EVERUP_HOME", daemon.home())
        .current_dir("/")
        .output()
        .context("setpriv")?;
    Ok(said.into())
}

fn refused(said: &Said, words: &[&str]) -> Result<()> {
    ensure!(said.code == Some(9), "{said:?}");
    for word in words {
        ensure!(said.err.contains(word), "no {word:?} in {said:?}");
    }
    Ok(())
}

/// What is written down of calls, the newest last: user, call, outcome.
fn audit(daemon: &Daemon) -> Result<Vec<(u64, String, String)>> {
    let text = fs::read_to_string(daemon.home().join("audit.log"))?;
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(line)?;
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        Ok((
            entry["uid"].as_u64().unwrap_or_default(),
            text("call"),
            text("outcome"),
        ))
    };
    text.lines().map(entry).collect()
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

#[test]
fn another_user_can_do_nothing() -> Result<()> {
    let Some(daemon) = daemon()? else { return Ok(()) };
    let before = daemon.pids("web")?;
    ensure!(mode(daemon.home())? == 0o700 || mode(daemon.home())? == 0o755);
    ensure!(mode(&daemon.home().join("everup.sock"))? == 0o600);
    for args in [
        &["list"][..],
        &["stop", "web"],
        &["start", "/bin/true"],
        &["kill"],
        &["logs", "web", "--nostream"],
    ] {
        let said = say(&daemon, OTHER, &[], args)?;
        refused(&said, &["permission denied", "another user"])?;
    }
    // With the home closed there is nothing to be seen either.
    fs::set_permissions(daemon.home(), Permissions::from_mode(0o700))?;
    refused(
        &say(&daemon, OTHER, &[], &["stop", "all"])?,
        &["permission denied", "another user"],
    )?;
    ensure!(daemon.pids("web")? == before);
    // Root may.
    let said = say(&daemon, 0, &[], &["stop", "web"])?;
    ensure!(said.code == Some(0), "{said:?}");
    let last = audit(&daemon)?.pop().context("an entry")?;
    ensure!(last == (0, "stop".into(), "ok".into()), "{last:?}");
    Ok(())
}

/// The rights of groups, also of those that are not somebody's first one; they hold from the owner's next command on.
#[test]
fn a_group_may_look_and_another_one_may_stop() -> Result<()> {
    let Some(daemon) = daemon()? else { return Ok(()) };
    let access = format!(r#"{{"view": {{"gids": [{VIEWERS}]}}, "operate": {{"gids": [{OPERATORS}]}}}}"#);
    fs::write(daemon.home().join("access.json"), access)?;
    let before = daemon.pids("web")?;
    ensure!(mode(&daemon.home().join("everup.sock"))? == 0o666);

    let list = say(&daemon, OTHER, &[7, VIEWERS], &["list", "--json"])?;
    ensure!(list.code == Some(0) && list.out.contains("\"web\""), "{list:?}");
    for (args, call) in [
        (&["stop", "web"], "stop"),
        (&["reload", "web"], "reload"),
        (&["delete", "web"], "delete"),
    ] {
        let said = say(&daemon, OTHER, &[7, VIEWERS], args)?;
        refused(
            &said,
            &[&format!("user {OTHER} may not say `{call}`"), "access.json"],
        )?;
        let last = audit(&daemon)?.pop().context("an entry")?;
        ensure!(
            last == (u64::from(OTHER), call.into(), "permission_denied".into()),
            "{last:?}"
        );
    }
    refused(
        &say(&daemon, OTHER, &[7], &["list"])?,
        &[&format!("user {OTHER} may not say")],
    )?;
    let secrets = say(&daemon, OTHER, &[VIEWERS], &["env", "web", "--reveal"])?;
    ensure!(secrets.code == Some(9), "{secrets:?}");
    ensure!(daemon.pids("web")? == before);

    let said = say(&daemon, OTHER, &[OPERATORS], &["start", "/bin/true"])?;
    refused(&said, &["may not say `start`"])?;
    let said = say(&daemon, OTHER, &[OPERATORS], &["stop", "web"])?;
    ensure!(said.code == Some(0), "{said:?}");
    let last = audit(&daemon)?.pop().context("an entry")?;
    ensure!(last == (u64::from(OTHER), "stop".into(), "ok".into()), "{last:?}");
    ensure!(daemon.app("web")?["state"] == "stopped");

    // Taken away again.
    fs::remove_file(daemon.home().join("access.json"))?;
    daemon.ok(["list"])?;
    refused(
        &say(&daemon, OTHER, &[OPERATORS], &["list"])?,
        &["permission denied"],
    )?;
    Ok(())
}

/// A file that cannot be understood gives nobody anything, and its owner is told.
#[test]
fn a_wrong_file_is_told() -> Result<()> {
    let Some(daemon) = daemon()? else { return Ok(()) };
    fs::write(
        daemon.home().join("access.json"),
        format!(r#"{{"veiw": {{"uids": [{OTHER}]}}}}"#),
    )?;
    let said = daemon.say(["restart", "web"])?;
    let told = format!("{}{}", said.out, said.err);
    ensure!(told.contains("access.json") && told.contains("veiw"), "{said:?}");
    refused(&say(&daemon, OTHER, &[], &["list"])?, &["may not say"])
}

/// People who may do nothing, and do not even ask, keep nobody out.
#[test]
fn strangers_take_nobodys_place() -> Result<()> {
    let Some(daemon) = daemon()? else { return Ok(()) };
    fs::write(
        daemon.home().join("access.json"),
        format!(r#"{{"view": {{"uids": [{OTHER}]}}}}"#),
    )?;
    daemon.ok(["list"])?;
    let socket = daemon.home().join("everup.sock");
    let crowd = std::thread::spawn(move || {
        // This thread alone is somebody else.
        let stranger = rustix::process::Uid::from_raw(OTHER + 1);
        rustix::thread::set_thread_res_uid(stranger, stranger, stranger)?;
        let crowd: Vec<_> = (0..100).map(|_| UnixStream::connect(&socket)).collect();
        anyhow::Ok(crowd)
    });
    let crowd = crowd.join().map_err(|_| anyhow::anyhow!("the crowd"))??;
    ensure!(crowd.iter().all(std::io::Result::is_ok), "{crowd:?}");
    let list = say(&daemon, OTHER, &[], &["list", "--timeout", "10s"])?;
    ensure!(list.code == Some(0), "{list:?}");
    daemon.ok(["restart", "web"])?;
    drop(crowd);
    Ok(())
}
