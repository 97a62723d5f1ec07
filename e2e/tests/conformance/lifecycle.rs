//! Starting, states, environment, exits and signals.

use crate::engine::Seen;
use crate::net::{free_port, greet, is_free};
use crate::support::{At, Exit, Primary, alive, order_to, until};
use everup::{Address, ExitStatus, signal_number};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn signal(name: &str) -> i32 {
    signal_number(name).expect("a signal")
}

fn killed(name: &str) -> Exit {
    Exit {
        status: ExitStatus::Signal {
            signal: signal(name),
            core: false,
        },
        voluntary: false,
    }
}

/// Order of events, states, and what the worker finds in its environment.
pub(crate) fn basic(at: &At) {
    let mut primary = at.primary("lifecycle.js", "basic");
    let worker = primary.fork();
    assert_eq!(worker, 1);
    let start = primary.says(worker, "start");
    assert_eq!(start["worker"], true);
    assert_eq!(start["id"], 1);
    assert_eq!(
        start["left"],
        json!([]),
        "the channel's variables are gone from the environment"
    );
    match primary.listening(worker) {
        Address::Tcp(address) => {
            assert!(address.ip().is_loopback());
            assert_ne!(address.port(), 0);
        }
        other => panic!("{other:?}"),
    }
    if !at.reference() {
        primary.take("ready", |seen| matches!(seen, Seen::Ready { worker: 1 }));
        assert_eq!(primary.state(worker), Some(("Online".into(), true)));
    }
    primary.kill(worker, signal("TERM"));
    assert_eq!(primary.exit(worker), killed("TERM"));
    primary.disconnected(worker);
    if !at.reference() {
        assert_eq!(primary.state(worker), None);
        assert_eq!(
            primary.order(worker),
            ["fork", "online", "listening", "disconnect", "exit"]
        );
    }
    primary.end();
}

/// An exit code is reported, once.
pub(crate) fn worker_death(at: &At) {
    let mut primary = at.primary("lifecycle.js", "exit");
    let [(worker, _), (other, port)] = primary.fork_listening(2, &[])[..] else {
        unreachable!()
    };
    primary.tell(worker, &json!({ "do": "exit", "code": 42 }));
    primary.exits(worker, 42, false);
    assert_eq!(greet(port), other);
    // `end` asserts that there was one exit of each.
    primary.end();
}

/// A worker that leaves by itself: disconnect and exit, not voluntary.
pub(crate) fn worker_exit(at: &At) {
    let mut primary = at.primary("lifecycle.js", "exit");
    let worker = primary.fork();
    primary.port(worker);
    primary.tell(worker, &json!({ "do": "exit", "code": 42 }));
    primary.disconnected(worker);
    primary.exits(worker, 42, false);
    if !at.reference() {
        assert_eq!(primary.state(worker), None);
    }
    primary.end();
}

/// A message that is sent at `online` is received.
pub(crate) fn worker_init(at: &At) {
    let mut primary = at.primary("lifecycle.js", "echo");
    let worker = primary.fork();
    primary.online(worker);
    primary.tell(worker, &json!({ "hello": ["world", 1] }));
    assert_eq!(
        primary.says(worker, "got")["message"],
        json!({ "hello": ["world", 1] })
    );
    primary.end();
}

/// Both sides know whether the channel is open.
pub(crate) fn worker_isconnected(at: &At) {
    let mut primary = at.primary("lifecycle.js", "idle");
    let worker = primary.fork();
    assert_eq!(primary.says(worker, "up")["connected"], true);
    if !at.reference() {
        assert!(primary.state(worker).expect("it is there").1);
    }
    primary.disconnect(worker);
    primary.line(worker, "connected false");
    primary.disconnected(worker);
    if !at.reference() {
        // It may be gone already.
        assert!(!primary.state(worker).is_some_and(|(_, connected)| connected));
    }
    primary.exits(worker, 0, true);
    primary.end();
}

/// Nobody is dead before the exit is reported, and everybody after.
pub(crate) fn worker_isdead(at: &At) {
    let mut primary = at.primary("lifecycle.js", "idle");
    let worker = primary.fork();
    let pid = primary.pid(worker);
    assert_eq!(primary.says(worker, "up")["dead"], false);
    if !at.reference() {
        assert!(primary.state(worker).is_some());
    }
    assert!(alive(pid));
    primary.kill(worker, signal("KILL"));
    assert_eq!(primary.exit(worker), killed("KILL"));
    assert!(!alive(pid));
    if !at.reference() {
        assert_eq!(primary.state(worker), None);
    }
    primary.end();
}

/// SIGKILL by the primary: the signal is reported, the end is not voluntary.
pub(crate) fn worker_kill_signal(at: &At) {
    let mut primary = at.primary("lifecycle.js", "exit");
    let worker = primary.fork();
    primary.port(worker);
    primary.kill(worker, signal("KILL"));
    assert_eq!(primary.exit(worker), killed("KILL"));
    primary.disconnected(worker);
    primary.end();
}

/// The same by somebody else.
pub(crate) fn worker_kill(at: &At) {
    let mut primary = at.primary("lifecycle.js", "exit");
    let worker = primary.fork();
    let pid = primary.pid(worker);
    primary.port(worker);
    send_signal(pid, Signal::KILL);
    assert_eq!(primary.exit(worker), killed("KILL"));
    primary.disconnected(worker);
    primary.end();
}

fn send_signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("send a signal");
}

/// SIGTERM ends a worker in an endless loop.
pub(crate) fn kill_infinite_loop(at: &At) {
    let mut primary = at.primary("lifecycle.js", "loop");
    let worker = primary.fork();
    primary.says(worker, "looping");
    primary.kill(worker, signal("TERM"));
    assert_eq!(primary.exit(worker), killed("TERM"));
    primary.end();
}

/// `destroy()` in the worker, after its disconnect and before it.
pub(crate) fn worker_destroy(at: &At) {
    for case in ["destroyAfterDisconnect", "destroy"] {
        let mut primary = at.primary("lifecycle.js", case);
        let worker = primary.fork();
        primary.disconnected(worker);
        primary.exits(worker, 0, true);
        primary.end();
    }
}

/// Killing a worker that is disconnected or gone is no fault, and hits nobody else.
pub(crate) fn call_and_destroy(at: &At) {
    let mut primary = at.primary("lifecycle.js", "idle");
    let (worker, other) = (primary.fork(), primary.fork());
    primary.says(worker, "up");
    primary.says(other, "up");
    primary.disconnect(worker);
    primary.disconnected(worker);
    primary.kill(worker, signal("TERM"));
    let exit = primary.exit(worker);
    // Whichever was first.
    assert!(
        exit.voluntary && exit.status == ExitStatus::Code(0) || exit.status == killed("TERM").status,
        "{exit:?}"
    );
    if !at.reference() {
        primary.kill(worker, signal("KILL"));
        primary.disconnect(worker);
        primary.cut(worker);
        assert_eq!(primary.state(other), Some(("Starting".into(), true)));
    }
    primary.end();
}

/// A send to a worker that is about to die, by many at once, is not fatal to anybody.
pub(crate) fn concurrent_disconnect(at: &At) {
    const WORKERS: u32 = 4;
    let mut primary = at.primary("lifecycle.js", "concurrent");
    let workers: Vec<u32> = (0..WORKERS).map(|_| primary.fork()).collect();
    for &worker in &workers {
        primary.says(worker, "up");
    }
    for &worker in &workers {
        primary.tell(
            worker,
            &json!(if worker % 2 == 0 { "disconnect" } else { "destroy" }),
        );
    }
    for _ in &workers {
        primary.take("disconnect", |seen| matches!(seen, Seen::Disconnect { .. }));
        for &worker in &workers {
            primary.tell(worker, &json!("disconnect"));
        }
    }
    for worker in workers {
        primary.exits(worker, 0, true);
    }
    primary.end();
}

/// The working directory.
pub(crate) fn cwd(at: &At) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().canonicalize().expect("its path");
    let mut spec = at.spec("lifecycle.js", "basic");
    spec.cwd = Some(path.clone());
    let mut primary = at.start(spec);
    let worker = primary.fork();
    assert_eq!(
        primary.says(worker, "start")["cwd"],
        path.to_str().expect("UTF-8")
    );
    primary.end();
}

/// A fork's variables are added to the spec's and win over them.
pub(crate) fn fork_env(at: &At) {
    let mut spec = at.spec("lifecycle.js", "basic");
    spec.env = vec![
        ("CONFORMANCE_BASE".into(), "base".into()),
        ("GIVEN".into(), "spec".into()),
    ];
    let mut primary = at.start(spec);
    let (plain, given) = (primary.fork(), primary.fork_with(&[("GIVEN", "fork")]));
    for (worker, value) in [(plain, "spec"), (given, "fork")] {
        let start = primary.says(worker, "start");
        assert_eq!(start["given"], value);
        assert_eq!(start["home"], "base");
    }
    primary.end();
}

/// Arguments reach the script.
pub(crate) fn setup_primary(at: &At) {
    let mut spec = at.spec("lifecycle.js", "basic");
    spec.args
        .extend(["custom argument".into(), "--flag".into(), "drei \u{1F600}".into()]);
    let mut primary = at.start(spec);
    let worker = primary.fork();
    assert_eq!(
        primary.says(worker, "start")["args"],
        json!(["custom argument", "--flag", "drei \u{1F600}"])
    );
    primary.end();
}

/// A descriptor that the worker inherits by number.
pub(crate) fn fork_stdio(at: &At) {
    if at.reference() {
        return;
    }
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let mut spec = at.spec("lifecycle.js", "stdio");
    spec.inherit.insert(4, OwnedFd::from(theirs));
    let mut primary = at.start(spec);
    let worker = primary.fork();
    primary.says(worker, "up");
    ours.write_all(b"foobar").expect("write");
    let mut answer = [0; 6];
    ours.set_read_timeout(Some(crate::support::LIMIT))
        .expect("set a limit");
    ours.read_exact(&mut answer).expect("read");
    assert_eq!(&answer, b"foobar");
    primary.leave(&[worker]);
    primary.end();
}

/// A message that is sent at once after the fork reaches listeners that the script attaches as it loads.
pub(crate) fn worker_events(at: &At) {
    let mut primary = at.primary("lifecycle.js", "events");
    let worker = primary.fork();
    primary.tell(worker, &json!("SOME MESSAGE"));
    primary.exits(worker, 2, false);
    primary.end();
}

/// The worker cuts its own channel: exit 0, but not voluntary in Node's sense.
pub(crate) fn process_disconnect(at: &At) {
    let mut primary = at.primary("lifecycle.js", "processDisconnect");
    let worker = primary.fork();
    primary.port(worker);
    primary.tell(worker, &order_to("leave"));
    primary.disconnected(worker);
    primary.exits(worker, 0, false);
    primary.end();
}

/// The primary is killed by a signal: its workers go, also one that is stuck in a loop, and its port is free.
pub(crate) fn primary_error(at: &At) {
    for signal in [Signal::KILL, Signal::ABORT] {
        primary_ends(at, Some(signal));
    }
}

/// The same when the primary just exits.
pub(crate) fn primary_kill(at: &At) {
    primary_ends(at, None);
}

fn primary_ends(at: &At, signal: Option<Signal>) {
    if at.reference() {
        return;
    }
    if at.is_alone() {
        be_ended(at);
        return;
    }
    let mut child = at
        .command(None)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run this test alone");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let found = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("WORKERS ")?.1.to_owned()));
    let found = found.expect("the other process started its workers");
    let mut numbers = found
        .split(' ')
        .map(|number| number.parse::<u32>().expect("a number"));
    let port = numbers
        .next()
        .and_then(|port| u16::try_from(port).ok())
        .expect("a port");
    let pids: Vec<u32> = numbers.collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| alive(*pid)) && !is_free(port));

    let started = Instant::now();
    if let Some(signal) = signal {
        send_signal(child.id(), signal);
    }
    drop(child.stdin.take());
    let status = child.wait().expect("reap");
    assert_eq!(status.signal(), signal.map(Signal::as_raw), "{status}");
    until("the workers are gone and the port is free", || {
        !pids.iter().any(|pid| alive(*pid)) && is_free(port)
    });
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

/// Starts an idle and a looping worker, says so, and ends without any care when its input does.
fn be_ended(at: &At) {
    let port = free_port();
    let mut primary = at.primary("lifecycle.js", "listenAndLoop");
    let looping = primary.fork();
    let first = primary.pid(looping);
    primary.says(looping, "looping");
    let mut quiet = at.start({
        let mut spec = at.spec("listen.js", "port");
        spec.env = vec![("PORT".into(), port.to_string().into())];
        spec
    });
    let idle = quiet.fork();
    let second = quiet.pid(idle);
    quiet.port(idle);
    print_line(&format!("WORKERS {port} {first} {second}"));
    std::mem::forget::<[Primary; 2]>([primary, quiet]);
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("wait for the end of input");
}

fn print_line(text: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "{text}")
        .and_then(|()| output.flush())
        .expect("write to standard output");
}
