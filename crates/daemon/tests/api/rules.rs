//! The rules of the API itself.

use crate::harness::{Daemon, LIMIT, sleeper, until};
use everup_api::ErrorCode;
use everup_api::v1::{AuditEntry, Done, SOCKET};
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

fn raw(daemon: &Daemon, request: &str) -> String {
    let mut stream = UnixStream::connect(daemon.home.join(SOCKET)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_is_wrong_has_a_status_and_a_hint() {
    let daemon = Daemon::start();
    for (request, status, text) in [
        (
            "GET /v1/lisst HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            "404",
            "did you mean /v1/list?",
        ),
        (
            "GET /v1/stop HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            "404",
            "POST /v1/stop",
        ),
        (
            "POST /v1/stop HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 13\r\n\r\n{\"target\":[]}",
            "400",
            "did you mean `targets`?",
        ),
        (
            "POST /v1/stop HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9999999\r\n\r\n",
            "413",
            "too_long",
        ),
        ("nonsense\r\n\r\n", "400", ""),
    ] {
        let answer = raw(&daemon, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert!(answer.contains(text), "{request}: {answer}");
    }
    let error = daemon
        .post::<Done>("stop", &json!({"targets": ["nobody"]}))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownApp);
}

/// A call that has nothing to say before its error.
#[test]
fn an_error_of_a_call_that_takes_its_time_has_its_status() {
    let daemon = Daemon::start();
    for (call, body, status, code) in [
        ("stop", "{}", "400", "missing_field"),
        ("stop", r#"{"targets": ["nobody"]}"#, "404", "unknown_app"),
        ("reload", r#"{"targets": ["nobody"]}"#, "404", "unknown_app"),
        ("resurrect", "{}", "422", "unsupported"),
    ] {
        let length = body.len();
        let answer = raw(
            &daemon,
            &format!(
                "POST /v1/{call} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        );
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{call}: {answer}"
        );
        assert!(
            answer.contains("content-type: application/json\r\n"),
            "{call}: {answer}"
        );
        assert!(answer.contains(code), "{call}: {answer}");
    }
}

fn begun(daemon: &Daemon, request: &str) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.home.join(SOCKET)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

const HALF: &str = "POST /v1/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";

#[test]
fn one_too_many_is_told_so_at_once() {
    let daemon = Daemon::start();
    let many: Vec<UnixStream> = (0..256).map(|_| begun(&daemon, HALF)).collect();
    let mut last = UnixStream::connect(daemon.home.join(SOCKET)).unwrap();
    last.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains(r#""code":"busy""#), "{answer}");
    let mut client = daemon.client();
    let error = crate::harness::refused(client.ping()).unwrap_err();
    assert_eq!(error.code, ErrorCode::Busy);
    drop(many);
    until("there is room again", || daemon.client().ping().is_ok());
}

#[test]
fn many_who_follow_the_events_keep_nobody_out() {
    let daemon = Daemon::start();
    let follow = "GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n";
    let status = |stream: &mut UnixStream| {
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };
    let mut many: Vec<UnixStream> = (0..64).map(|_| begun(&daemon, follow)).collect();
    for stream in &mut many {
        assert_eq!(status(stream), "HTTP/1.1 200");
    }
    assert_eq!(status(&mut begun(&daemon, follow)), "HTTP/1.1 503");
    daemon.client().ping().unwrap();
    drop(many);
    until("there is room again", || {
        status(&mut begun(&daemon, follow)) == "HTTP/1.1 200"
    });
}

#[test]
fn the_head_of_a_request_may_not_take_as_long_as_its_body() {
    let daemon = Daemon::start();
    let body = begun(&daemon, HALF);
    let ends = [
        begun(&daemon, ""),
        begun(&daemon, "GET /v1/ping HTTP/1.1\r\nhost: x"),
        begun(&daemon, "GET /v1/ping HTTP/1.1\r\nhost: x\r\n\r\n"),
    ];
    for mut stream in ends {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
    }
    body.set_nonblocking(true).unwrap();
    let error = (&body).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it may still come");
}

#[test]
fn only_its_owner_can_open_the_socket() {
    let daemon = Daemon::start();
    let mode = |name: &str| {
        std::fs::metadata(daemon.home.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(SOCKET), 0o600);
    daemon.start_app(sleeper("a", 1)).unwrap();
    assert_eq!(mode("state.json"), 0o600);
    assert_eq!(mode("logs/a-out-0.log"), 0o600);
}

#[test]
fn events_are_numbered_and_go_on_where_one_was() {
    let daemon = Daemon::start();
    daemon.start_app(sleeper("a", 1)).unwrap();
    let after = |seq: u64, count: usize| {
        let mut seen = Vec::new();
        let mut events = daemon.client().events(Some(seq)).unwrap();
        let read = events.each(|event| {
            seen.push(event);
            seen.len() < count
        });
        read.unwrap();
        seen
    };
    let seen = after(0, 3);
    let seqs: Vec<u64> = seen.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [1, 2, 3], "{seen:?}");
    assert!(
        seen.iter()
            .any(|event| event.event == "start" && event.app.as_deref() == Some("a") && event.id == Some(0))
    );
    assert_eq!(after(2, 1)[0].seq, 3);
}

#[test]
fn an_operation_goes_on_although_its_caller_goes_away() {
    let daemon = Daemon::start();
    let body = json!({"apps": [sleeper("a", 3)], "wait": true}).to_string();
    let mut stream = UnixStream::connect(daemon.home.join(SOCKET)).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /v1/start HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    until("it has begun", || !daemon.list().is_empty());
    drop(stream);
    until("it is done", || {
        daemon
            .app("a")
            .is_some_and(|app| app.instances.iter().filter(|one| one.pid.is_some()).count() == 3)
    });
}

#[test]
fn who_asked_for_what_is_written_down() {
    let daemon = Daemon::start();
    daemon.start_app(sleeper("a", 1)).unwrap();
    assert!(
        daemon
            .post::<Done>("stop", &json!({"targets": ["nobody"]}))
            .is_err()
    );
    daemon.list();
    let audit: Vec<AuditEntry> = daemon.client().get("audit", &[("limit", "5")]).unwrap();
    let told: Vec<_> = audit
        .iter()
        .map(|entry| {
            (
                entry.call.as_str(),
                entry.targets.join(","),
                entry.outcome.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("stop", "nobody".into(), "unknown_app"),
            ("start", "a".into(), "ok")
        ]
    );
    assert!(audit.iter().all(|entry| entry.pid == std::process::id()));
}

#[test]
fn what_workers_use_is_told() {
    let daemon = Daemon::start();
    daemon
        .start_app(crate::harness::shell("busy", "while :; do :; done"))
        .unwrap();
    until("it uses a CPU", || {
        let app = daemon.app("busy").unwrap();
        let one = &app.instances[0];
        one.memory.is_some_and(|bytes| bytes > 100_000) && one.cpu.is_some_and(|percent| percent > 5.0)
    });
}
