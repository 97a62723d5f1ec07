//! The verbs against a server that says what the document says, and the texts that people read.

use super::*;
use crate::args::ControlCli;
use clap::Parser;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

const PLAIN: Screen = Screen {
    width: None,
    colour: false,
};

fn verb(words: &[&str]) -> ControlVerb {
    ControlCli::try_parse_from(["everup"].iter().chain(words))
        .unwrap()
        .verb
}

/// The request that a command line makes, as it goes out.
fn line(words: &[&str]) -> String {
    serde_json::to_string(&request(&verb(words)).unwrap()).unwrap()
}

fn refused(words: &[&str]) -> (String, String) {
    let verb = verb(words);
    let error = exchange(&verb, None).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    (
        error.json()["error"]["message"].as_str().unwrap().into(),
        error.json()["error"]["hint"].as_str().unwrap().into(),
    )
}

/// What is told when the server gives these lines.
fn asked(words: &[&str], lines: &str, screen: &Screen) -> Result<(String, Exit), AskError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let lines = lines.to_owned();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut String::new())
            .unwrap();
        stream.write_all(lines.as_bytes()).unwrap();
    });
    let told = told(&verb(words), Some(path.into()), screen);
    server.join().unwrap();
    told
}

/// The nth reply of the document that contains this text.
fn example(part: &str) -> String {
    let document = include_str!("../../../../../docs/control.md");
    let mut lines = document
        .lines()
        .filter(|line| line.starts_with("{\"") && !line.starts_with("{\"verb"));
    format!("{}\n", lines.find(|line| line.contains(part)).unwrap())
}

fn text(words: &[&str], part: &str) -> String {
    asked(words, &example(part), &PLAIN).unwrap().0
}

#[test]
fn command_lines() {
    for (words, expected) in [
        (&["ping"][..], r#"{"verb":"ping"}"#),
        (&["status"], r#"{"verb":"status"}"#),
        (&["why"], r#"{"verb":"why","limit":5}"#),
        (&["why", "7", "-n", "1"], r#"{"verb":"why","worker":7,"limit":1}"#),
        (&["reload"], r#"{"verb":"reload"}"#),
        (&["abort"], r#"{"verb":"abort"}"#),
        (&["scale", "4"], r#"{"verb":"scale","workers":"4"}"#),
        (&["scale", "+1"], r#"{"verb":"scale","workers":"+1"}"#),
        (&["scale", "-2"], r#"{"verb":"scale","workers":"-2"}"#),
        (&["restart"], r#"{"verb":"restart"}"#),
        (&["stop"], r#"{"verb":"stop"}"#),
        (&["stop", "--now"], r#"{"verb":"stop","now":true}"#),
        (&["reopen"], r#"{"verb":"reopen"}"#),
        (&["reloadLogs"], r#"{"verb":"reopen"}"#),
        (&["signal", "USR2"], r#"{"verb":"signal","signal":"USR2"}"#),
        (
            &["sendSignal", "12", "--worker", "3"],
            r#"{"verb":"signal","signal":"12","worker":3}"#,
        ),
        (&["launch"], r#"{"verb":"launch"}"#),
    ] {
        assert_eq!(line(words), expected);
    }
}

#[test]
fn wrong_usage() {
    let (message, hint) = refused(&["status"]);
    assert_eq!(message, "no control socket is named");
    assert!(
        hint.starts_with("give --control PATH or set EVERUP_CONTROL"),
        "{hint}"
    );
    let (message, hint) = refused(&["scale", "many"]);
    assert_eq!(
        message,
        "invalid value `many` for the number of workers: not a number of workers"
    );
    assert_eq!(hint, "give a number, +N or -N");
    assert_eq!(
        refused(&["signal", "USR7"]).0,
        "invalid value `USR7` for the signal: not a signal"
    );
    let (message, _) = refused(&["status", "--timeout", "-1"]);
    assert_eq!(message, "invalid value `-1` for --timeout: not a duration");
}

#[test]
fn how_long_it_waits() {
    let waits = |words: &[&str]| {
        let verb = verb(words);
        limit(verb.ask(), &request(&verb).unwrap()).unwrap()
    };
    assert_eq!(waits(&["status"]), Some(SOON));
    assert_eq!(waits(&["reload"]), None);
    assert_eq!(
        waits(&["scale", "1", "--timeout", "1.5s"]),
        Some(Duration::from_millis(1500))
    );
    assert_eq!(waits(&["stop", "--timeout", "0"]), None);
}

#[test]
fn which_socket() {
    let at =
        |words: &[&str], variable: Option<&str>| socket(verb(words).ask(), variable.map(OsString::from)).ok();
    assert_eq!(
        at(&["ping", "--control", "a"], Some("b")),
        Some(PathBuf::from("a"))
    );
    assert_eq!(at(&["ping"], Some("b")), Some(PathBuf::from("b")));
    assert_eq!(at(&["ping"], Some("")), None);
}

#[test]
fn nobody_answers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let told = |path: &Path| {
        let error = told(&verb(&["ping"]), Some(path.into()), &PLAIN).unwrap_err();
        assert_eq!(error.exit(), Exit::NoAnswer);
        error.text()
    };
    let shown = path.display();
    assert_eq!(
        told(&path),
        format!(
            "error: no everup answers at {shown}: no such file or directory\n  \
             hint: is the app running, with `everup run --control` and this path?"
        )
    );
    drop(UnixListener::bind(&path).unwrap());
    assert!(told(&path).contains("connection refused\n  hint: nobody listens there: it is no socket"));
    assert!(told(&directory.path().join("x".repeat(200))).contains("at most 107 bytes"));
    let error = asked(&["ping"], "", &PLAIN).unwrap_err();
    assert_eq!(
        (error.exit(), &error.json()["error"]["code"]),
        (Exit::NoAnswer, &Value::from("no_answer"))
    );
    let error = asked(&["ping"], "hello\n", &PLAIN).unwrap_err();
    assert!(
        error
            .text()
            .contains("this is no everup, or a very different version"),
        "{}",
        error.text()
    );
    let error = asked(&["ping"], "{\"ok\":{}}\n", &PLAIN).unwrap_err();
    assert!(error.text().contains("missing field `pid`"), "{}", error.text());
}

#[test]
fn what_everup_refuses() {
    let refusal = "{\"error\":{\"code\":\"unknown_worker\",\"message\":\"there is no \\u001b[2Jworker\",\"hint\":\"h\"}}\n";
    let error = asked(&["signal", "1"], refusal, &PLAIN).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(error.text(), "error: there is no \\u{1b}[2Jworker\n  hint: h");
    let json = error.json().to_string();
    assert_eq!(json, refusal.trim_end());
}

#[test]
fn json_is_the_answer_as_it_came() {
    let answer = r#"{"pid":1,"app":"a","version":"1","later":[1.50,null]}"#;
    let told = asked(&["ping", "--json"], &format!("{{\"ok\":{answer}}}\n"), &PLAIN).unwrap();
    assert_eq!(told.0, answer.replace("1.50", "1.5"));
    // The exit code counts as well.
    let (_, exit) = asked(&["reload", "--json"], &example("\"outcome\":\"aborted\""), &PLAIN).unwrap();
    assert_eq!(exit, Exit::Reload);
}

#[test]
fn short_answers() {
    assert_eq!(
        text(&["ping"], "protocol"),
        "shop answers: everup 0.1.0, pid 4711"
    );
    assert_eq!(text(&["abort"], "aborted\":true"), "the reload is given up");
    assert_eq!(
        text(&["scale", "+1"], "\"from\":2"),
        "3 workers instead of 2, 3 ready"
    );
    assert_eq!(text(&["stop"], "stopping\":true"), "stopping");
    assert_eq!(text(&["reopen"], "reopened"), "2 log files opened anew");
    assert_eq!(text(&["signal", "USR2"], "sent"), "sent to 2 workers");
    assert_eq!(text(&["launch"], "launched"), "worker 11 started");
    let runs = "{\"ok\":{\"launched\":false,\"message\":\"it runs already\"}}\n";
    assert_eq!(
        asked(&["launch"], runs, &PLAIN).unwrap(),
        ("it runs already".into(), Exit::Refused)
    );
}

#[test]
fn status_of_an_app() {
    assert_eq!(
        text(&["status"], "\"spares\":1"),
        "\
shop (pid 4711), up for 24 h 0 min: 2 of 2 workers ready, 1 spare wanted, generation 2

WORKER  SLOT   PID  GEN  ROLE    STATE          UPTIME  OPEN  ACCEPTED    MEMORY  RESTARTS  SAYS
     5     0  4800    2  active  ready       1 h 0 min    12      5210  70.0 MiB         0
     6     1  4801    2  active  ready     59 min 59 s     -      5198         -         1  warming up
     7     2  4802    2  spare   starting        90 ms     0         0  40.0 MiB         0"
    );
}

#[test]
fn status_in_trouble() {
    let screen = Screen {
        width: Some(60),
        colour: true,
    };
    let told = asked(&["status"], &example("\"storm\":{"), &screen).unwrap().0;
    let expected = [
        "shop (pid 4711), up for 24 h 0 min: 0 of 1 worker ready, generation 2",
        "\x1b[33ma reload to generation 3 is rolling for 800 ms: 0 of 1 done\x1b[0m",
        "\x1b[31m7 workers died the same way (exit code 1) in a storm that began 4.0 s ago: worker 8 is tried, the others wait\x1b[0m",
    ];
    assert_eq!(told.lines().take(3).collect::<Vec<_>>(), expected);
    assert!(told.contains("\x1b[33mdraining for 210 ms\x1b[0m"), "{told}");
}

#[test]
fn receipts() {
    assert_eq!(
        text(
            &["reload"],
            "\"generation\":3,\"cause\":\"reload\",\"workers\":[{"
        ),
        "\
reload done in 702 ms: generation 3 serves
  slot 0: worker 5 (pid 4800) → worker 8 (pid 4900), ready after 310 ms, the old one gone after 42 ms
  slot 1: worker 6 (pid 4801) → worker 9 (pid 4901), ready after 305 ms, the old one still finishes
  4 connections moved, 0 requests lost
  1 old worker still to finish: see `everup status`"
    );
    let (told, exit) = asked(&["reload"], &example("\"outcome\":\"aborted\""), &PLAIN).unwrap();
    assert_eq!(
        told,
        "reload aborted after 290 ms: worker 8 died while it started: code 1; the old workers are as they were"
    );
    assert_eq!(exit, Exit::Reload);
}

#[test]
fn why_it_ended() {
    assert_eq!(
        text(&["why"], "\"worker\":5,\"slot\":0,\"pid\":4800,\"generation\":2,\"at\""),
        "\
shop: worker 5 exited with code 3, 4 s ago

worker 5 (pid 4800, slot 0, generation 2), 2026-08-05T12:34:56.789Z, after 1 min 1 s: it exited by itself with code 3
  exit code 3; replaced at once
  its last 2 lines:
  | Error: no database
  |     at connect (db.js:7:9)"
    );
    let told = text(&["why"], "rolled_back");
    assert!(
        told.contains("  SIGKILL; replaced after 200 ms\n  what it wrote is not known"),
        "{told}"
    );
    assert!(
        told.contains("  status unknown; not replaced\n  it wrote nothing"),
        "{told}"
    );
    assert!(
        told.ends_with(
            "generation 3 (reload): reload rolled back after 9.0 s: worker 9 died 3 s after it was ready: \
             code 1; the old generation serves again"
        ),
        "{told}"
    );
    let evil = example("\"worker\":5,\"slot\":0,\"pid\":4800,\"generation\":2,\"at\"")
        .replace("Error: no database", "\\u001b]0;owned\\u0007");
    let told = asked(&["why"], &evil, &PLAIN).unwrap().0;
    assert!(
        told.contains("  | \\u{1b}]0;owned\\u{7}\n") && !told.contains('\x1b'),
        "{told}"
    );
}
