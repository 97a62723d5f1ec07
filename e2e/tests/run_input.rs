//! Must show 9: bad input. Each with its exact message and exit code, and nothing left behind.

use anyhow::{Result, ensure};
use e2e::{Ended, Everup, binary, fixture};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

/// Runs `everup run` with these arguments in an empty folder, for people, to its end. Nothing is left of it.
fn run(args: &[&str], environment: &[(&str, &str)]) -> Result<Ended> {
    let folder = tempfile::tempdir()?;
    let mut everup = Everup::program(binary::everup()?)
        .arg("run")
        .args(args)
        .cwd(folder.path());
    for (name, value) in environment {
        everup = everup.env(name, value);
    }
    let run = everup.start()?;
    let ended = run.ended(Duration::from_secs(60))?;
    run.gone(Duration::from_secs(1))?;
    ensure!(fs::read_dir(folder.path())?.count() == 0, "a file is left");
    Ok(ended)
}

/// It ends with this code and says exactly this.
fn refused(args: &[&str], code: i32, said: &str) -> Result<()> {
    let ended = run(args, &[])?;
    let heard = ended.err.join("\n");
    ensure!(
        heard == said,
        "{args:?} says\n{heard}\n--- and should say\n{said}"
    );
    ensure!(
        ended.code() == Some(code) && ended.out.is_empty(),
        "{args:?}: {}",
        ended.all()
    );
    Ok(())
}

fn app() -> String {
    fixture("app.js").to_string_lossy().into_owned()
}

#[test]
fn missing_script() -> Result<()> {
    refused(
        &["/nonexistent/app.js"],
        3,
        "error: script /nonexistent/app.js not found",
    )
}

#[test]
fn script_with_a_typing_error() -> Result<()> {
    let right = app();
    let typed = right.replace("app.js", "ap.js");
    let said = format!("error: script {typed} not found\n  hint: did you mean {right}?");
    refused(&[&typed], 3, &said)
}

#[test]
fn instances() -> Result<()> {
    let hint = "give a count such as 4, `max` (one per CPU) or -1 (one fewer than CPUs)";
    for text in ["abc", "1.5", "", "4x"] {
        let said = format!("error: invalid value `{text}` for --instances: not a number\n  hint: {hint}");
        refused(&["-i", text, &app()], 2, &said)?;
    }
    refused(
        &["-i", "5000", &app()],
        2,
        "error: invalid value `5000` for --instances: more than 1024 workers\n  \
         hint: `max` starts one per CPU; more rarely helps",
    )
}

#[test]
fn env_file() -> Result<()> {
    let said = "error: could not read env file /nonexistent/.env: no such file or directory";
    refused(&["--env-file", "/nonexistent/.env", &app()], 3, said)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_string_lossy();
    refused(
        &["--env-file", &path, &app()],
        3,
        &format!("error: could not read env file {path}: is a directory"),
    )?;
    let file = folder.path().join("my.env");
    fs::write(&file, "GOOD=1\nwhat is this\n")?;
    let path = file.to_string_lossy();
    let said = format!(
        "error: {path}:2: no `=` in `what is this`\n  \
         hint: write lines such as KEY=value, KEY=\"two words\" or # a comment"
    );
    refused(&["--env-file", &path, &app()], 3, &said)
}

#[test]
fn unknown_option() -> Result<()> {
    refused(
        &["--instancess", "3", &app()],
        2,
        "error: unexpected argument '--instancess' found\n\n  \
         tip: a similar argument exists: '--instances'\n  \
         tip: to pass '--instancess' as a value, use '-- --instancess'\n\n\
         Usage: everup run --instances <N|max> <SCRIPT|PROGRAM|\"SHELL LINE\"> [-- <ARGS>...]\n\n\
         For more information, try '--help'.",
    )
}

#[test]
fn values_of_other_options() -> Result<()> {
    for (args, code, said) in [
        (
            ["--policy", "random"],
            2,
            "error: invalid value 'random' for '--policy <POLICY>'\n  [possible values: least-connections, round-robin, sticky, shared, reuseport]\n\nFor more information, try '--help'.",
        ),
        (
            ["--kill-timeout", "soon"],
            2,
            "error: invalid value `soon` for --kill-timeout: not a duration\n  hint: write milliseconds (1500) or a number with a unit: 500ms, 5s, 1m, 1h",
        ),
        (
            ["--kill-signal", "NOPE"],
            2,
            "error: invalid value `NOPE` for --kill-signal: not a signal\n  hint: write a name or a number: TERM, SIGINT, 10",
        ),
        (
            ["--env", "NOEQ"],
            2,
            "error: invalid value `NOEQ` for --env: no `=` in it\n  hint: write --env NAME=value",
        ),
        (
            ["--listen", "tcp://127.0.0.1"],
            2,
            "error: invalid value `tcp://127.0.0.1` for --listen: no port\n  hint: write [name=]tcp://HOST:PORT, HOST:PORT, :PORT, udp://HOST:PORT or unix:/PATH",
        ),
        (
            ["--interpreter", "no-such-program"],
            3,
            "error: interpreter `no-such-program` not found in PATH\n  hint: give its path: --interpreter /opt/node/bin/node",
        ),
        (
            ["--cwd", "/nonexistent"],
            3,
            "error: could not use /nonexistent as the working directory: no such file or directory",
        ),
    ] {
        refused(&[args[0], args[1], &app()], code, said)?;
    }
    Ok(())
}

#[test]
fn script_that_throws_at_load() -> Result<()> {
    let ended = run(&[&fixture("throws-at-load.js").to_string_lossy()], &[])?;
    ensure!(ended.code() == Some(5), "{}", ended.all());
    let said = |line: &str| ended.err.iter().filter(|heard| *heard == line).count();
    ensure!(
        said("throws-at-load:0 | Error: thrown at load") == 5,
        "{}",
        ended.all()
    );
    ensure!(
        said("everup  slot 0 gets a new worker now") == 1,
        "{}",
        ended.all()
    );
    // Up to a fifth less than 400 ms, by chance.
    let fourth = |line: &&String| {
        line.starts_with("everup  slot 0 gets a new worker in ")
            && line.ends_with(" ms: 4 early deaths in a row")
    };
    ensure!(ended.err.iter().filter(fourth).count() == 1, "{}", ended.all());
    let last = &ended.err[ended.err.len() - 2..];
    let expected = [
        "error: throws-at-load failed: its workers kept dying; the last one ended with code 1",
        "  hint: what the workers wrote before they died is above",
    ];
    ensure!(last == expected, "{}", ended.all());
    Ok(())
}

#[test]
fn port_taken() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let ended = run(&[&app()], &[("PORT", &port)])?;
    ensure!(ended.code() == Some(5), "{}", ended.all());
    let said = |part: &str| ended.err.iter().any(|line| line.contains(part));
    ensure!(
        said("app:0 | server error EADDRINUSE"),
        "the app did not see it: {}",
        ended.all()
    );
    ensure!(
        said(&format!(" could not listen on *:{port}: address already in use")),
        "{}",
        ended.all()
    );
    let owner = format!(
        "everup  hint: port {port} is held by process {}: ",
        std::process::id()
    );
    ensure!(said(&owner), "{}", ended.all());
    Ok(())
}

#[test]
fn listen_address_taken() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let server = fixture("sockets.py");
    let ended = run(
        &["--listen", &format!("tcp://{address}"), &server.to_string_lossy()],
        &[],
    )?;
    ensure!(ended.code() == Some(4), "{}", ended.all());
    let said = |start: String| ended.err.iter().any(|line| line.starts_with(&start));
    ensure!(
        said(format!(
            "error: could not listen on tcp://{address}: address already in use"
        )),
        "{}",
        ended.all()
    );
    let owner = format!(
        "  hint: port {} is held by process {}: ",
        address.port(),
        std::process::id()
    );
    ensure!(said(owner), "{}", ended.all());
    Ok(())
}

/// The same as an object, for programs.
#[test]
fn told_to_programs() -> Result<()> {
    let ended = run(&["--events", "json", "-i", "abc", &app()], &[])?;
    ensure!(
        ended.code() == Some(2) && ended.err.is_empty() && ended.events.len() == 1,
        "{}",
        ended.all()
    );
    let fatal = &ended.events[0];
    ensure!(
        fatal.name() == "fatal" && fatal.number("code") == Some(2),
        "{}",
        fatal.json
    );
    ensure!(
        fatal.text("message") == "invalid value `abc` for --instances: not a number",
        "{}",
        fatal.json
    );
    Ok(())
}

#[test]
fn npm_start_is_resolved_or_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |scripts: &str| {
        let json = format!(r#"{{"name": "x", "scripts": {{{scripts}}}}}"#);
        fs::write(folder.path().join("package.json"), json)
    };
    let start = |folder: &Path| Ok::<_, anyhow::Error>(Everup::run()?.cwd(folder).arg("npm start"));
    fs::copy(fixture("app.js"), folder.path().join("app.js"))?;
    write(r#""start": "node app.js""#)?;
    let run = start(folder.path())?.args(["-i", "2"]).start()?;
    run.ready(2)?;
    ensure!(run.stop()?.code() == Some(0));
    write(r#""start": "webpack && nodemon app.js""#)?;
    let ended = start(folder.path())?.finish()?;
    ensure!(ended.code() == Some(2), "{}", ended.all());
    ensure!(
        ended
            .events
            .last()
            .is_some_and(|fatal| !fatal.text("hint").is_empty()),
        "{}",
        ended.all()
    );
    Ok(())
}
