//! Probes against real sockets and processes.

mod node;

use super::pair::{loopback_pair, private_listener};
use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// Long enough that nothing that works passes it.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

struct Bench {
    prober: Prober,
    answers: Receiver<Answer>,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        let (sender, answers) = channel();
        let prober = Prober::new("test", move |answer| sender.send(answer).unwrap_or_default());
        Self {
            prober,
            answers,
            next: 0,
        }
    }

    fn start(&mut self, worker: u32, limit: Duration, task: Task) -> ProbeId {
        self.next += 1;
        let id = ProbeId(self.next);
        let worker = WorkerId(worker);
        self.prober.start(Probe {
            worker,
            id,
            limit,
            task,
        });
        id
    }

    fn answer(&self) -> Answer {
        self.answers.recv_timeout(LONG * 2).expect("an answer")
    }

    fn found(&mut self, limit: Duration, task: Task) -> Probed {
        let id = self.start(1, limit, task);
        let answer = self.answer();
        assert_eq!((answer.worker, answer.id), (WorkerId(1), id));
        answer.found
    }
}

fn failed(why: &str) -> Probed {
    Probed::Failed(why.into())
}

fn get(way: Way) -> Task {
    Task::Http {
        way,
        path: "/health?full=1".into(),
        host: "app.test".into(),
    }
}

fn sh(script: &str) -> Task {
    Task::Exec(Exec {
        argv: ["sh", "-c", script].map(OsString::from).to_vec(),
        env: vec![
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("EVERUP_SLOT".into(), "not this".into()),
            ("NODE_CHANNEL_FD".into(), "3".into()),
            ("NOTIFY_SOCKET".into(), "@x".into()),
        ],
        cwd: Some("/".into()),
        pid: 4321,
        slot: Slot(2),
    })
}

/// A worker that reads a request, writes this, and closes. It returns the request, and whether its answer was read
/// to the end.
fn server(stream: OwnedFd, answer: Vec<u8>) -> JoinHandle<(String, bool)> {
    let mut stream = TcpStream::from(stream);
    stream.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            request.push(byte[0]);
        }
        let written = stream.write_all(&answer).is_ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let read = written && stream.read(&mut byte).is_ok_and(|read| read == 0);
        (String::from_utf8(request).unwrap(), read)
    })
}

fn asked(bench: &mut Bench, answer: &[u8]) -> (Probed, String, bool) {
    let (client, theirs) = loopback_pair().unwrap();
    let server = server(theirs, answer.to_vec());
    let found = bench.found(LONG, get(Way::Connected(client)));
    let (request, read) = server.join().unwrap();
    (found, request, read)
}

#[test]
fn a_request_is_polite() {
    let mut bench = Bench::new();
    let body = "x".repeat(50_000);
    let (found, request, read) = asked(&mut bench, format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes());
    assert_eq!(found, Probed::Ok);
    assert!(read, "the body is read too");
    assert_eq!(
        request,
        "GET /health?full=1 HTTP/1.1\r\nHost: app.test\r\nUser-Agent: everup-probe\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
}

#[test]
fn what_is_answered_counts() {
    let mut bench = Bench::new();
    let long = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'x'; 70_000]].concat();
    for (answer, found) in [
        (&b"HTTP/1.1 399 x\r\n\r\n"[..], Probed::Ok),
        (b"HTTP/1.0 204\r\n\r\n", Probed::Ok),
        (b"HTTP/1.1 500 Oh\r\nA: b\r\n\r\nno", failed("status 500")),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", failed("status 404")),
        (b"", failed("closed without an answer")),
        (
            b"HTTP/1.1 200 OK\r\nA",
            failed("closed in the middle of its answer"),
        ),
        (
            b"220 smtp\r\n",
            failed("not an HTTP answer: it begins with `220 smtp`"),
        ),
        (&long, failed("no end of its answer's head within 64 KiB")),
    ] {
        assert_eq!(
            asked(&mut bench, answer).0,
            found,
            "{}",
            answer[..answer.len().min(30)].escape_ascii()
        );
    }
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let mut bench = Bench::new();
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 50_000_000]].concat();
    let (found, _, read) = asked(&mut bench, &endless);
    assert_eq!((found, read), (Probed::Ok, false));
}

#[test]
fn a_reset_is_called_a_reset() {
    let mut bench = Bench::new();
    let (client, theirs) = loopback_pair().unwrap();
    let id = bench.start(1, LONG, get(Way::Connected(client)));
    let mut theirs = TcpStream::from(theirs);
    theirs.set_nonblocking(false).unwrap();
    theirs.read_exact(&mut [0]).unwrap();
    // Closed with something unread.
    drop(theirs);
    let answer = bench.answer();
    assert_eq!((answer.id, answer.found), (id, failed("connection reset")));
}

#[test]
fn silence_has_a_limit_and_delays_nobody() {
    let mut bench = Bench::new();
    let (listener, address) = private_listener().unwrap();
    let pairs: Vec<_> = (0..200).map(|_| loopback_pair().unwrap()).collect();
    let mut silent = Vec::new();
    for (client, theirs) in pairs {
        bench.start(7, LONG, get(Way::Connected(client)));
        silent.push(theirs);
    }
    let begun = Instant::now();
    assert_eq!(
        bench.found(SHORT, get(Way::Address(address))),
        failed("no answer within 200ms")
    );
    assert!(begun.elapsed() >= SHORT);
    drop(listener);
    let (found, _, _) = asked(&mut bench, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(found, Probed::Ok);
    drop(bench);
}

#[test]
fn a_head_that_never_ends_has_the_same_limit() {
    let mut bench = Bench::new();
    let (client, theirs) = loopback_pair().unwrap();
    let mut theirs = TcpStream::from(theirs);
    theirs.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
    let found = bench.found(SHORT, get(Way::Connected(client)));
    assert_eq!(found, failed("no end of its answer's head within 200ms"));
}

#[test]
fn nobody_at_the_address_is_a_failure() {
    let mut bench = Bench::new();
    let (listener, address) = private_listener().unwrap();
    drop(listener);
    assert_eq!(
        bench.found(LONG, get(Way::Address(address))),
        failed("connection refused")
    );
    let task = Task::Tcp {
        address,
        listener: None,
    };
    assert_eq!(bench.found(LONG, task), failed("connection refused"));
}

#[test]
fn a_connection_that_nobody_accepts_is_no_success() {
    let mut bench = Bench::new();
    let (listener, address) = private_listener().unwrap();
    let task = |watched: bool| Task::Tcp {
        address,
        listener: watched.then(|| listener.try_clone().unwrap()),
    };
    assert_eq!(bench.found(LONG, task(false)), Probed::Ok, "the kernel's word");
    let theirs = TcpListener::from(listener.try_clone().unwrap());
    drop(theirs.accept().unwrap());
    assert_eq!(
        bench.found(SHORT, task(true)),
        failed("not accepted within 200ms")
    );
    drop(theirs.accept().unwrap());
    bench.start(1, LONG, task(true));
    drop(theirs.accept().unwrap());
    assert_eq!(bench.answer().found, Probed::Ok);
}

#[test]
fn a_command_knows_who_is_meant() {
    let mut bench = Bench::new();
    let found = bench.found(
        LONG,
        sh("echo \"$EVERUP_WORKER_ID $EVERUP_WORKER_PID $EVERUP_SLOT $EVERUP_WORKER $PWD$NODE_CHANNEL_FD$NOTIFY_SOCKET\"; exit 1"),
    );
    assert_eq!(
        found,
        failed("its command ended with code 1: 1 4321 2 test.probe.1 /")
    );
}

#[test]
fn commands_end_in_many_ways() {
    let mut bench = Bench::new();
    for (script, found) in [
        ("true", Probed::Ok),
        ("echo all is well", Probed::Ok),
        ("exit 3", failed("its command ended with code 3")),
        ("kill -9 $$", failed("its command ended with signal SIGKILL")),
        (
            "echo one; echo two >&2; printf '\\n \\n'; exit 2",
            failed("its command ended with code 2: two"),
        ),
        (
            "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end; exit 1",
            failed("its command ended with code 1: end"),
        ),
    ] {
        assert_eq!(bench.found(LONG, sh(script)), found, "{script}");
    }
}

#[test]
fn a_command_that_cannot_run_says_nothing_about_the_worker() {
    let mut bench = Bench::new();
    let task = Task::Exec(Exec {
        argv: vec!["no-such-command".into()],
        env: Vec::new(),
        cwd: None,
        pid: 1,
        slot: Slot(0),
    });
    let why = "could not run `no-such-command`: no such file or directory";
    assert_eq!(bench.found(LONG, task), Probed::Unknown(why.into()));
    assert_eq!(bench.prober.children().settled(), Some([].into()));
}

/// Readable to its end when everybody who holds the other end is gone.
fn lifeline() -> (std::fs::File, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lifeline");
    let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    // Both ways, so that opening does not wait for the other end.
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    (file, path, directory)
}

fn wait_for_end(holder: std::fs::File, path: &std::path::Path) {
    let mut reader = std::fs::File::open(path).unwrap();
    drop(holder);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
}

#[test]
fn a_command_over_its_limit_is_killed_with_all_that_it_started() {
    let mut bench = Bench::new();
    let (holder, path, _directory) = lifeline();
    let script = format!(
        "exec 9>{}; echo waiting; trap '' TERM; setsid sleep 1000 & sleep 1000 & wait",
        path.display()
    );
    // On a busy machine the shell may be over a limit before it has said a word.
    let limits = [200, 1000, 5000, 25_000];
    let said = limits.iter().any(|limit| {
        let why = format!(
            "its command did not end within {}",
            everup_core::time::short(Duration::from_millis(*limit))
        );
        let found = bench.found(Duration::from_millis(*limit), sh(&script));
        assert!(
            found == failed(&why) || found == failed(&format!("{why}: waiting")),
            "{found:?}"
        );
        while bench.prober.children().settled() != Some([].into()) {
            std::thread::yield_now();
        }
        found != failed(&why)
    });
    assert!(said);
    wait_for_end(holder, &path);
    assert_eq!(
        bench.found(LONG, sh("true")),
        Probed::Ok,
        "there is room for the next one"
    );
}

#[test]
fn what_a_command_leaves_in_its_group_goes_with_it() {
    let mut bench = Bench::new();
    let (holder, path, _directory) = lifeline();
    let script = format!("exec 9>{}; sleep 1000 & exit 0", path.display());
    assert_eq!(bench.found(LONG, sh(&script)), Probed::Ok);
    wait_for_end(holder, &path);
}

#[test]
fn the_prober_takes_running_commands_with_it() {
    let mut bench = Bench::new();
    let (mut holder, path, _directory) = lifeline();
    bench.start(
        1,
        LONG,
        sh(&format!("exec 9>{}; echo up >&9; sleep 1000", path.display())),
    );
    holder.read_exact(&mut [0; 3]).unwrap();
    let children = bench.prober.children();
    while children.settled().is_none_or(|pids| pids.len() != 1) {
        std::thread::yield_now();
    }
    let begun = Instant::now();
    drop(bench);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(children.settled(), Some([].into()));
    wait_for_end(holder, &path);
}

#[test]
fn one_command_at_a_time_for_each_worker() {
    let mut bench = Bench::new();
    let (mut holder, path, _directory) = lifeline();
    let script = format!("exec 9>{}; echo up >&9; sleep 1000", path.display());
    bench.start(1, LONG, sh(&script));
    holder.read_exact(&mut [0; 3]).unwrap();
    let why = "the command of the probe before has not ended yet";
    assert_eq!(bench.found(LONG, sh("true")), Probed::Unknown(why.into()));
    bench.start(2, LONG, sh("true"));
    assert_eq!(bench.answer().found, Probed::Ok);
}

/// Runs in a process of its own: the children of other tests would be reaped as well.
#[test]
fn the_engine_does_not_reap_commands() {
    const ALONE: &str = "EVERUP_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return reap_meanwhile();
    }
    let name = "probe::tests::the_engine_does_not_reap_commands";
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(ALONE, "1")
        .status();
    assert!(status.unwrap().success());
}

fn reap_meanwhile() {
    let mut bench = Bench::new();
    let children = bench.prober.children();
    let mut stranger = std::process::Command::new("true").spawn().unwrap();
    for nth in 0..200 {
        let id = bench.start(nth, LONG, sh("exit 7"));
        let answer = loop {
            crate::process::reap_strangers_but(|| children.settled());
            if let Ok(answer) = bench.answers.try_recv() {
                break answer;
            }
        };
        assert_eq!(
            (answer.id, answer.found),
            (id, failed("its command ended with code 7"))
        );
    }
    // Somebody else's child was reaped.
    assert_eq!(stranger.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
}
