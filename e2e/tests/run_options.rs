//! What the options do to workers, output and files.

use anyhow::{Context, Result, ensure};
use e2e::http::get;
use e2e::{Everup, LIMIT, Run, fixture};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn app(args: &[&str]) -> Result<Everup> {
    Ok(Everup::run()?.args(args).arg(fixture("app.js")))
}

fn ask(run: &Run, path: &str) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(&get(run.address()?, path, LIMIT)?.body)?)
}

#[test]
fn lines_have_a_prefix_unless_not_wanted() -> Result<()> {
    let run = app(&["-i", "2", "--name", "shop"])?.start()?;
    for line in [
        "shop:0 | starting 0",
        "shop:1 | starting 1",
        "shop:0 | listening 0",
        "shop:1 | listening 1",
    ] {
        run.out_line(line)?;
    }
    run.ready(2)?;
    ensure!(run.stop()?.code() == Some(0));
    let run = app(&["--no-prefix"])?.start()?;
    run.ready(1)?;
    ensure!(run.out_line("listening")? == "listening 0");
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn environment_arguments_and_folder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().canonicalize()?;
    let file = folder.join("my.env");
    fs::write(&file, "# of the file\nFROM_FILE=\"two words\"\nBOTH=file\n")?;
    let run = Everup::run()?
        .args([
            "--env",
            "BOTH=option",
            "--env",
            "EMPTY=",
            "--node-args",
            "--max-old-space-size=200 --no-warnings",
        ])
        .arg("--env-file")
        .arg(&file)
        .arg("--cwd")
        .arg(&folder)
        .arg(fixture("app.js"))
        .args(["--", "--port", "x y", ""])
        .env("INHERITED", "yes")
        .start()?;
    run.ready(1)?;
    for (name, value) in [
        ("FROM_FILE", "two words"),
        ("BOTH", "option"),
        ("EMPTY", ""),
        ("INHERITED", "yes"),
    ] {
        ensure!(ask(&run, &format!("/env?name={name}"))? == value, "{name}");
    }
    let facts = ask(&run, "/facts")?;
    ensure!(
        facts["argv"] == serde_json::json!(["--port", "x y", ""]),
        "{facts}"
    );
    ensure!(facts["cwd"] == folder.to_string_lossy().as_ref(), "{facts}");
    ensure!(
        facts["execArgv"] == serde_json::json!(["--max-old-space-size=200", "--no-warnings"]),
        "{facts}"
    );
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn paths_with_spaces_and_other_alphabets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().join("mit Leerzeichen – 中文 'quoted' $HOME");
    fs::create_dir(&folder)?;
    let script = folder.join("приложение \"один\".js");
    fs::copy(fixture("app.js"), &script)?;
    let pid_file = folder.join("тест pid");
    let run = Everup::run()?
        .arg("--pid-file")
        .arg(&pid_file)
        .arg(&script)
        .start()?;
    run.ready(1)?;
    let facts = ask(&run, "/facts")?;
    ensure!(
        facts["script"] == script.canonicalize()?.to_string_lossy().as_ref(),
        "{facts}"
    );
    run.event("all_ready", 1)?;
    e2e::run::wait_until("the pid file", LIMIT, || {
        pid_in(&pid_file).ok_or_else(|| "nothing".to_owned())
    })?;
    ensure!(run.stop()?.code() == Some(0));
    ensure!(!pid_file.exists());
    // The same from within the folder, by its bare name.
    let run = Everup::run()?
        .cwd(&folder)
        .arg("приложение \"один\".js")
        .start()?;
    run.ready(1)?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

fn pid_in(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[test]
fn pid_file_says_that_all_are_ready() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("app.pid");
    let run = Everup::run()?
        .arg("--pid-file")
        .arg(&path)
        .args(["-i", "2"])
        .arg(fixture("app.js"));
    let run = run.env("DELAY_MS", "700").start()?;
    run.event("online", 2)?;
    ensure!(!path.exists(), "there before the workers are ready");
    run.ready(2)?;
    let pid = e2e::run::wait_until("the pid file", LIMIT, || {
        pid_in(&path).ok_or_else(|| "nothing".to_owned())
    })?;
    ensure!(pid == run.pid, "{pid} is not {}", run.pid);
    ensure!(
        fs::read_dir(folder.path())?.count() == 1,
        "a temporary file is left"
    );

    let second = Everup::run()?
        .arg("--pid-file")
        .arg(&path)
        .arg(fixture("app.js"))
        .finish()?;
    ensure!(second.code() == Some(7), "{}", second.all());
    ensure!(
        second.all().contains(&format!("held by process {}", run.pid)),
        "{}",
        second.all()
    );
    ensure!(pid_in(&path) == Some(run.pid), "the file was touched");

    ensure!(run.stop()?.code() == Some(0));
    ensure!(fs::read_dir(folder.path())?.count() == 0, "the pid file is left");
    Ok(())
}

#[test]
fn stale_pid_file_is_replaced_and_others_are_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("app.pid");
    let mut dead = Command::new("true").spawn()?;
    dead.wait()?;
    fs::write(&path, dead.id().to_string())?;
    let start = || Ok::<_, anyhow::Error>(Everup::run()?.arg("--pid-file").arg(&path).arg(fixture("app.js")));
    let run = start()?.start()?;
    run.ready(1)?;
    e2e::run::wait_until("our pid in the file", LIMIT, || match pid_in(&path) {
        Some(pid) if pid == run.pid => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    // Killed without a chance to tidy up: the next one does.
    run.signal(Signal::KILL)?;
    run.ended(LIMIT)?;
    ensure!(pid_in(&path) == Some(run.pid));
    let run = start()?.start()?;
    run.ready(1)?;
    ensure!(run.stop()?.code() == Some(0));

    fs::write(&path, "these are my notes")?;
    let ended = start()?.finish()?;
    ensure!(ended.code() == Some(3), "{}", ended.all());
    ensure!(fs::read_to_string(&path)? == "these are my notes");
    Ok(())
}

#[test]
fn pid_file_that_cannot_be_written() -> Result<()> {
    let missing = Everup::run()?
        .args(["--pid-file", "/nonexistent/folder/x.pid"])
        .arg(fixture("app.js"))
        .finish()?;
    ensure!(missing.code() == Some(3), "{}", missing.all());
    ensure!(
        missing.events.iter().all(|event| event.name() != "fork"),
        "{}",
        missing.all()
    );
    // No user may create a file there: seen only when it is written. The app serves; that is worth more.
    let run = Everup::run()?
        .args(["--pid-file", "/proc/x.pid"])
        .arg(fixture("app.js"))
        .start()?;
    told_and_serving(&run, "/proc/x.pid")
}

fn told_and_serving(run: &Run, path: &str) -> Result<()> {
    let error = run.event("error", 1)?;
    ensure!(
        error
            .text("message")
            .starts_with(&format!("could not use pid file {path}: ")),
        "{}",
        error.json
    );
    ensure!(get(run.address()?, "/", LIMIT)?.status == 200);
    ensure!(run.stop()?.code() == Some(0));
    run.gone(Duration::from_secs(1))
}

/// A disk without room when the pid file is to be written.
#[test]
fn pid_file_on_a_full_disk() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        e2e::say("skipped: needs root to mount a small disk");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    // In a mount namespace of its own, so that nothing stays mounted.
    let script = format!(
        "mount -t tmpfs -o size=4k none {0} && cat /dev/zero > {0}/filler 2>/dev/null; exec \"$@\"",
        folder.path().display()
    );
    let run = Everup::program("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(e2e::binary::everup()?)
        .args(["run", "--events", "json", "--pid-file"])
        .arg(folder.path().join("app.pid"))
        .arg(fixture("app.js"))
        .start()?;
    told_and_serving(&run, &folder.path().join("app.pid").to_string_lossy())
}

#[test]
fn full_or_closed_output_stops_nobody() -> Result<()> {
    let full = || {
        fs::File::options()
            .write(true)
            .open("/dev/full")
            .context("/dev/full")
    };
    let run = app(&[])?.stdout(full()?).start()?;
    run.ready(1)?;
    ensure!(get(run.address()?, "/", LIMIT)?.status == 200);
    ensure!(run.stop()?.code() == Some(0));

    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("app.sock");
    let run = app(&[])?
        .stdout(full()?)
        .stderr(full()?)
        .env("LISTEN", &socket)
        .start()?;
    let answer = e2e::run::wait_until("an answer", LIMIT, || {
        let asked = e2e::http::Connection::open_unix(&socket, LIMIT).and_then(|mut client| client.get("/"));
        asked.map_err(|error| format!("{error:#}"))
    })?;
    ensure!(answer.status == 200);
    ensure!(run.stop()?.code() == Some(0));

    // A reader that goes away (`everup run app.js | head -1`).
    let (reader, writer) = std::io::pipe()?;
    let run = app(&[])?.stdout(writer).start()?;
    run.ready(1)?;
    drop(reader);
    let address = run.address()?;
    ensure!(get(address, "/exit?code=1", LIMIT).is_err());
    run.event("fork", 2)?;
    run.ready(1)?;
    ensure!(get(address, "/", LIMIT)?.status == 200);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn script_behind_a_link() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let link = folder.path().join("link.js");
    symlink(fixture("app.js"), &link)?;
    let run = Everup::run()?.arg(&link).start()?;
    run.ready(1)?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn unix_socket_of_the_app() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("app.sock");
    let run = app(&["-i", "2"])?.env("LISTEN", &socket).start()?;
    run.ready(2)?;
    let mut client = e2e::http::Connection::open_unix(&socket, LIMIT)?;
    ensure!(client.get("/")?.status == 200);
    drop(client);
    ensure!(run.stop()?.code() == Some(0));
    ensure!(!socket.exists(), "the socket's file is left");
    Ok(())
}
