//! The client against servers that answer, and die, as the tests want.

use super::*;
use crate::v1::{Done, Event, List, On};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

const LIMIT: Option<Duration> = Some(Duration::from_secs(20));

/// What is done on the next connection.
enum Act {
    /// Reads a whole request, and says this; then reads the next one.
    Answer(Vec<u8>),
    /// Reads a whole request, says this, and closes.
    SayAndClose(Vec<u8>),
    /// Closes without reading.
    Close,
}

struct Server {
    directory: tempfile::TempDir,
    thread: JoinHandle<Vec<String>>,
}

impl Server {
    /// A list of acts for each connection.
    fn start(connections: Vec<Vec<Act>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let serve = move || {
            let mut requests = Vec::new();
            for acts in connections {
                let (mut stream, _) = listener.accept().unwrap();
                for act in acts {
                    match act {
                        Act::Answer(bytes) => {
                            requests.extend(request(&mut stream));
                            stream.write_all(&bytes).unwrap();
                        }
                        Act::SayAndClose(bytes) => {
                            requests.extend(request(&mut stream));
                            stream.write_all(&bytes).unwrap();
                            break;
                        }
                        Act::Close => {
                            // The request is there, and stays unread.
                            let mut fds = [rustix::event::PollFd::new(&stream, rustix::event::PollFlags::IN)];
                            rustix::event::poll(&mut fds, None).unwrap();
                            break;
                        }
                    }
                }
            }
            requests
        };
        Self {
            directory,
            thread: thread::spawn(serve),
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.directory.path().join("s"), LIMIT).unwrap()
    }

    /// First lines and bodies.
    fn requests(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

/// The first line, the line about resuming and the body.
fn request(stream: &mut UnixStream) -> Option<String> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap() == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let value = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name).map(str::to_owned))
    };
    let length: usize = value("Content-Length: ").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let mut told = head.lines().next().unwrap().to_owned();
    for more in [value("Last-Event-ID: "), Some(String::from_utf8(body).unwrap())] {
        told.extend(
            more.filter(|more| !more.is_empty())
                .map(|more| format!(" {more}")),
        );
    }
    Some(told)
}

fn plain(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn chunked(chunks: &[&str]) -> Vec<u8> {
    let mut text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for chunk in chunks {
        text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    text.push_str("0\r\n\r\n");
    text.into_bytes()
}

const EMPTY: &str = r#"{"ok":{"apps":[]}}"#;
const DONE: &str = r#"{"ok":{"apps":[{"app":"a","ids":[0],"done":"stopped"}],"notices":[]}}"#;

#[test]
fn calls_follow_each_other_on_one_connection() {
    let server = Server::start(vec![vec![
        Act::Answer(plain("200 OK", EMPTY)),
        Act::Answer(chunked(&[
            "{\"progress\":{\"phase\":\"starting\",\"done\":1,\"total\":2,\"message\":\"m\"}}\n{\"prog",
            "ress\":{\"phase\":\"starting\",\"done\":2,\"total\":2,\"message\":\"n\"}}\n",
            DONE,
        ])),
        Act::Answer(plain(
            "404 Not Found",
            r#"{"error":{"code":"new_code","message":"no"}}"#,
        )),
        Act::Answer(plain("200 OK", EMPTY)),
    ]]);
    let mut client = server.client();
    let list: List = client.get("list", &[("target", "/a b&c=/")]).unwrap();
    assert!(list.apps.is_empty());
    let mut steps = Vec::new();
    let done: Done = client
        .post("stop", &On::default(), &mut |step| steps.push(step.done))
        .unwrap();
    assert_eq!((done.apps[0].done.as_str(), steps), ("stopped", vec![1, 2]));
    let error = client.get::<List>("list", &[]).unwrap_err();
    assert!(matches!(error, CallError::Refused(error) if error.message == "no"));
    client.get::<List>("list", &[]).unwrap();
    drop(client);
    let requests = server.requests();
    assert_eq!(requests[0], "GET /v1/list?target=%2Fa%20b%26c%3D%2F HTTP/1.1");
    assert!(
        requests[1].starts_with("POST /v1/stop HTTP/1.1 {"),
        "{}",
        requests[1]
    );
    assert_eq!(requests.len(), 4);
}

#[test]
fn looking_is_repeated_when_the_daemon_dies() {
    let half = || plain("200 OK", EMPTY)[..50].to_vec();
    let server = Server::start(vec![
        vec![Act::SayAndClose(Vec::new())],
        vec![Act::Close],
        vec![Act::SayAndClose(half())],
        vec![Act::SayAndClose(chunked(&[]))],
        vec![Act::SayAndClose(plain("200 OK", EMPTY))],
    ]);
    let list: List = server.client().get("list", &[]).unwrap();
    assert!(list.apps.is_empty());
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn changing_is_repeated_only_if_nobody_has_read_it() {
    let server = Server::start(vec![vec![Act::Close], vec![Act::Answer(plain("200 OK", DONE))]]);
    let done: Done = server.client().post("stop", &On::default(), &mut |_| {}).unwrap();
    assert_eq!(done.apps.len(), 1);
    assert_eq!(server.requests().len(), 1);
    for said in [
        Vec::new(),
        chunked(&["{\"progress\":{\"phase\":\"starting\",\"done\":1,\"total\":2,\"message\":\"m\"}}\n"]),
    ] {
        let server = Server::start(vec![vec![Act::SayAndClose(said)]]);
        let error = server
            .client()
            .post::<Done>("stop", &On::default(), &mut |_| {})
            .unwrap_err();
        assert!(matches!(error, CallError::Lost), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn an_idle_connection_that_has_ended_costs_nothing() {
    let server = Server::start(vec![
        vec![Act::SayAndClose(plain("200 OK", EMPTY))],
        vec![Act::Answer(plain("200 OK", DONE))],
    ]);
    let mut client = server.client();
    client.get::<List>("list", &[]).unwrap();
    // Until the other side has closed.
    let stream = client.stream.as_ref().unwrap().get_ref().try_clone().unwrap();
    assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
    client.post::<Done>("stop", &On::default(), &mut |_| {}).unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn what_is_no_answer() {
    for (bytes, expected) in [
        (
            b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(),
            "this is no everup, or a very different version: no HTTP",
        ),
        (
            plain("200 OK", "{\"ok\":[]}"),
            "this is no everup, or a very different version",
        ),
        (
            plain("500 Oops", "oops"),
            "this is no everup, or a very different version",
        ),
        (
            plain("404 Not Found", ""),
            "the running daemon does not know `list`: it is of another version",
        ),
    ] {
        let server = Server::start(vec![vec![Act::SayAndClose(bytes)]]);
        let error = server.client().get::<List>("list", &[]).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        server.requests();
    }
}

#[test]
fn nobody_there_and_nobody_answering() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let error = Client::connect(&path, LIMIT).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no daemon answers at {}", path.display())
    );
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path, Some(Duration::from_millis(20))).unwrap();
    let error = client.get::<List>("list", &[]).unwrap_err();
    assert!(
        matches!(error, CallError::TimedOut(limit) if limit.as_millis() == 20),
        "{error}"
    );
    // The daemon is gone, and no other one comes.
    let mut client = Client::connect(&path, LIMIT).unwrap();
    client.recovery = Duration::from_millis(30);
    drop(listener);
    let error = client.get::<List>("list", &[]).unwrap_err();
    assert!(matches!(error, CallError::NotRunning { .. }), "{error}");
}

#[test]
fn events_go_on_after_the_last_one() {
    let event =
        |seq: u64| format!("id: {seq}\nevent: exit\ndata: {{\"seq\":{seq},\"at\":1,\"event\":\"exit\"}}\n\n");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let part = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let server = Server::start(vec![
        vec![Act::SayAndClose(
            format!("{head}{}{}", part(": hi\n\n"), part(&event(8))).into_bytes(),
        )],
        vec![Act::SayAndClose(
            format!("{head}{}", part(&event(9))).into_bytes(),
        )],
    ]);
    let mut events = server.client().events(Some(7)).unwrap();
    let mut seen = Vec::new();
    events
        .each(|event: Event| {
            seen.push(event.seq);
            event.seq < 9
        })
        .unwrap();
    assert_eq!(seen, [8, 9]);
    assert_eq!(
        server.requests(),
        ["GET /v1/events HTTP/1.1 7", "GET /v1/events HTTP/1.1 8"]
    );
}
