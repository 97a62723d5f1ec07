//! The control socket with real sockets and a cluster that is none.

mod fake;

use super::connection::Limits;
use super::server::{MOST, is_permitted};
use super::{ControlSocket, Server};
use everup_api::{self as api, Client, ClientError, ErrorCode, Outcome};
use fake::Fake;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

struct Site {
    server: Option<Server>,
    fake: Arc<Fake>,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self::with_limits(Limits::USUAL)
    }

    fn with_limits(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let fake = Arc::new(Fake::default());
        let socket = ControlSocket::bind(&path).unwrap();
        let server = Server::with_limits(socket, fake.clone(), limits).unwrap();
        Self {
            server: Some(server),
            fake,
            path,
            _directory: directory,
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path, Some(LIMIT)).unwrap()
    }

    fn raw(&self) -> Raw {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Raw(BufReader::new(stream))
    }
}

/// A client that may say anything.
struct Raw(BufReader<UnixStream>);

impl Raw {
    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The next line as JSON; `Null` at the end.
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            // It was left with something unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Value::Null,
            Ok(0) => Value::Null,
            Err(error) => panic!("{error}"),
            Ok(_) => serde_json::from_str(&line).unwrap(),
        }
    }

    fn error(&mut self) -> String {
        self.hear()["error"]["code"].as_str().unwrap().to_owned()
    }

    fn ask(&mut self, request: &str) -> Value {
        self.say(format!("{request}\n"));
        self.hear()
    }
}

const PING: &str = r#"{"verb":"ping"}"#;
const RELOAD: &str = "{\"verb\":\"reload\"}\n";

fn is_pong(answer: &Value) -> bool {
    answer["ok"]["app"] == "fake"
}

fn code<T>(result: Result<T, ClientError>) -> ErrorCode {
    match result {
        Err(ClientError::Refused(error)) => error.code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was done"),
    }
}

#[test]
fn every_verb() {
    let site = Site::new();
    let mut client = site.client();
    let mut nothing = |_| {};
    assert_eq!(
        client.call(api::PingRequest {}, &mut nothing).unwrap().app,
        "fake"
    );
    let status = client.call(api::StatusRequest {}, &mut nothing).unwrap();
    assert_eq!((status.target, status.workers.len()), (2, 2));
    let why = api::WhyRequest {
        worker: Some(7),
        limit: None,
    };
    assert_eq!(
        client.call(why, &mut nothing).unwrap().summary,
        "asked for Some(7) and None"
    );
    let workers = api::Amount::More(3);
    let scaled = client.call(api::ScaleRequest { workers }, &mut nothing).unwrap();
    assert_eq!((scaled.from, scaled.to), (2, 5));
    assert!(
        client
            .call(api::StopRequest { now: true }, &mut nothing)
            .unwrap()
            .stopping
    );
    assert_eq!(
        client.call(api::ReopenRequest {}, &mut nothing).unwrap().reopened,
        2
    );
    assert!(!client.call(api::AbortRequest {}, &mut nothing).unwrap().aborted);
    let signal = |signal: &str, worker| api::SignalRequest {
        signal: signal.into(),
        worker,
    };
    assert_eq!(
        client.call(signal("SIGUSR2", None), &mut nothing).unwrap().sent,
        12
    );
    assert_eq!(
        code(client.call(signal("1", Some(9)), &mut nothing)),
        ErrorCode::UnknownWorker
    );
    assert_eq!(
        code(client.call(signal("USR7", None), &mut nothing)),
        ErrorCode::InvalidValue
    );
    assert_eq!(
        code(client.call(api::LaunchRequest {}, &mut nothing)),
        ErrorCode::Unsupported
    );
    site.fake.gate.open();
    let mut steps = Vec::new();
    let receipt = client
        .call(api::ReloadRequest {}, &mut |step| steps.push(step.done))
        .unwrap();
    assert_eq!(
        (receipt.outcome, receipt.cause.as_str(), steps.as_slice()),
        (Outcome::Done, "reload", [0, 1, 2].as_slice())
    );
    let receipt = client.call(api::RestartRequest {}, &mut nothing).unwrap();
    assert_eq!(receipt.cause, "restart");
}

#[test]
fn garbage_is_answered_and_the_connection_goes_on() {
    let site = Site::new();
    let mut raw = site.raw();
    for (line, code) in [
        ("hello", "not_a_request"),
        ("\u{0}\u{1}\u{2}", "not_a_request"),
        ("[[[[", "not_a_request"),
        (&"[".repeat(10_000), "not_a_request"),
        ("GET / HTTP/1.1\r", "not_a_request"),
        (r#"{"verb":"relod"}"#, "unknown_verb"),
        (r#"{"verb":"reload","fast":true}"#, "unknown_field"),
    ] {
        raw.say(format!("{line}\n"));
        assert_eq!(raw.error(), code, "{line:.40}");
    }
    raw.say(b"\xff\xfe\n");
    assert_eq!(raw.error(), "not_a_request");
    // Blank lines are nothing, and requests may come all at once.
    raw.say(format!("\n \r\n{PING}\n{PING}\r\n{{\"verb\":\"status\"}}\n"));
    assert!(is_pong(&raw.hear()) && is_pong(&raw.hear()));
    assert_eq!(raw.hear()["ok"]["target"], 2);
}

#[test]
fn a_line_without_end() {
    let site = Site::new();
    let mut raw = site.raw();
    raw.say(format!(
        "{{\"verb\":\"ping\"{}}}\n",
        " ".repeat(api::REQUEST_LIMIT - 17)
    ));
    assert!(is_pong(&raw.hear()));
    raw.say(vec![b'x'; api::REQUEST_LIMIT]);
    assert_eq!(raw.error(), "too_long");
    assert_eq!(raw.hear(), Value::Null);
    assert!(is_pong(&site.raw().ask(PING)));
}

/// Impatient in one thing, and patient in the others: the machine may be slow.
const SOON: Duration = Duration::from_millis(300);

#[test]
fn half_a_line() {
    let site = Site::with_limits(Limits {
        request: SOON,
        ..Limits::USUAL
    });
    let mut raw = site.raw();
    raw.say("{\"verb\":");
    assert_eq!(raw.error(), "too_slow");
    assert_eq!(raw.hear(), Value::Null);
    // Neither does it help to go on slowly.
    let mut raw = site.raw();
    let mut writer = raw.0.get_ref().try_clone().unwrap();
    let dripping = thread::spawn(move || {
        while writer.write_all(b" ").is_ok() {
            // wait: slowness is the point here.
            thread::sleep(Duration::from_millis(10));
        }
    });
    let begun = Instant::now();
    assert_eq!(raw.error(), "too_slow");
    assert!(begun.elapsed() < LIMIT);
    dripping.join().unwrap();
    // What was begun and never ended is no request.
    let mut raw = site.raw();
    raw.say(PING);
    raw.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(raw.hear(), Value::Null);
}

#[test]
fn silence_is_not_waited_for() {
    let site = Site::with_limits(Limits {
        silent: SOON,
        ..Limits::USUAL
    });
    assert_eq!(site.raw().hear(), Value::Null);
}

#[test]
fn one_too_many() {
    let site = Site::new();
    let mut all: Vec<Raw> = (0..MOST).map(|_| site.raw()).collect();
    assert!(all.iter_mut().all(|raw| is_pong(&raw.ask(PING))));
    for _ in 0..100 {
        let mut more = site.raw();
        assert_eq!(more.error(), "busy");
        assert_eq!(more.hear(), Value::Null);
    }
    assert!(all.iter_mut().all(|raw| is_pong(&raw.ask(PING))));
    drop(all.pop());
    // Its thread ends in its own time.
    let begun = Instant::now();
    while !is_pong(&site.raw().ask_if_heard(PING)) {
        assert!(begun.elapsed() < LIMIT);
    }
}

impl Raw {
    /// It may have been refused before it could ask.
    fn ask_if_heard(&mut self, request: &str) -> Value {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).ok();
        self.hear()
    }
}

#[test]
fn many_clients() {
    let site = Site::new();
    thread::scope(|scope| {
        for _ in 0..MOST {
            scope.spawn(|| {
                let mut client = site.client();
                for _ in 0..100 {
                    client.call(api::StatusRequest {}, &mut |_| {}).unwrap();
                }
            });
        }
    });
}

#[test]
fn who_may() {
    assert!(is_permitted(0, 1000) && is_permitted(1000, 1000) && is_permitted(0, 0));
    assert!(!is_permitted(1000, 0) && !is_permitted(1001, 1000));
}

#[test]
fn another_user_is_refused() {
    let nobody = rustix::process::Uid::from_raw(65534);
    if !rustix::process::geteuid().is_root() {
        return; // Only root can be somebody else; `who_may` has the decision.
    }
    let site = Site::new();
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(site.path.parent().unwrap(), 0o755);
    let connect = || {
        thread::scope(|scope| {
            let as_nobody = || {
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                UnixStream::connect(&site.path)
            };
            scope.spawn(as_nobody).join().unwrap()
        })
    };
    // The mode keeps it out already.
    assert_eq!(
        connect().unwrap_err().kind(),
        std::io::ErrorKind::PermissionDenied
    );
    open(&site.path, 0o666);
    let mut raw = Raw(BufReader::new(connect().unwrap()));
    let answer = raw.hear();
    assert_eq!(answer["error"]["code"], "permission_denied");
    assert_eq!(
        answer["error"]["message"],
        "user 65534 may not control this everup"
    );
    assert_eq!(raw.hear(), Value::Null);
}

#[test]
fn a_reload_goes_on_without_its_client() {
    let site = Site::new();
    let mut raw = site.raw();
    raw.say(RELOAD);
    assert_eq!(raw.hear()["progress"]["done"], 0);
    drop(raw);
    assert!(is_pong(&site.raw().ask(PING)));
    site.fake.gate.open();
    site.fake.reloads.wait_for(1);
}

#[test]
fn who_does_not_read_holds_up_nobody() {
    let site = Site::with_limits(Limits {
        reply: SOON,
        ..Limits::USUAL
    });
    site.fake.gate.open();
    let mut deaf = site.raw();
    deaf.say("{\"verb\":\"restart\"}\n");
    // It told more than any queue holds.
    site.fake.restarts.wait_for(1);
    assert!(is_pong(&site.raw().ask(PING)));
    // What it did get are whole lines, and then the receipt or, if that found no place in time, the end.
    let (mut heard, mut last) = (0, Value::Null);
    loop {
        match deaf.hear() {
            Value::Null => break,
            line => last = line,
        }
        heard += 1;
        if last["ok"].is_object() {
            break;
        }
    }
    assert!(heard > 10 && heard < fake::FLOOD, "{heard}");
    assert!(
        last["progress"]["done"].is_u64() || last["ok"]["outcome"].is_string(),
        "{last}"
    );
}

#[test]
fn answers_that_are_too_long() {
    let site = Site::new();
    site.fake.set_workers(20_000);
    let mut raw = site.raw();
    raw.say("{\"verb\":\"status\"}\n");
    assert_eq!(raw.error(), "reply_too_long");
    // Of `why`, the newest that fit.
    let why = raw.ask(r#"{"verb":"why","limit":4000000}"#);
    assert!(why["ok"]["omitted"].as_u64().unwrap() > 0);
    assert_eq!(why["ok"]["exits"][0]["worker"], 20_000);
    assert!(why.to_string().len() > 900_000);
    site.fake.set_workers(1000);
    assert_eq!(
        raw.ask("{\"verb\":\"status\"}")["ok"]["workers"]
            .as_array()
            .unwrap()
            .len(),
        1000
    );
}

#[test]
fn the_end() {
    let mut site = Site::new();
    let (mut silent, mut reloading) = (site.raw(), site.raw());
    assert!(is_pong(&silent.ask(PING)));
    reloading.say(RELOAD);
    assert_eq!(reloading.hear()["progress"]["done"], 0);
    let server = site.server.take().unwrap();
    let finishing = thread::spawn(move || server.finish());
    assert_eq!(silent.hear(), Value::Null);
    site.fake.gate.open();
    finishing.join().unwrap();
    assert!(!site.path.exists());
    // The answer that was due.
    let lines: Vec<Value> =
        std::iter::from_fn(|| Some(reloading.hear()).filter(|line| !line.is_null())).collect();
    assert_eq!(lines.last().unwrap()["ok"]["outcome"], json!("done"));
    let mut rest = Vec::new();
    reloading.0.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty() && UnixStream::connect(&site.path).is_err());
}
