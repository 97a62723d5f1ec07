//! Leaving in good order: who waits for what, and what the primary says of it.

use crate::engine::Seen;
use crate::net::{HERE, connect, free_port, greet, is_free, read_all, read_one};
use crate::support::{At, Exit, alive, until};
use everup::ExitStatus;
use serde_json::json;
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::time::Duration;

/// Several workers with two servers each serve, all leave, and all of it once more.
pub(crate) fn disconnect(at: &At) {
    let ports = [free_port(), free_port()];
    let mut spec = at.spec("disconnect.js", "twoServers");
    spec.env = vec![
        ("PORT".into(), ports[0].to_string().into()),
        ("PORT2".into(), ports[1].to_string().into()),
    ];
    let mut primary = at.start(spec);
    for _ in 0..2 {
        let workers: Vec<u32> = (0..3).map(|_| primary.fork()).collect();
        for &worker in &workers {
            assert_eq!(primary.says(worker, "ports")["ports"], json!(ports));
            for port in ports {
                assert!(workers.contains(&greet(port)));
            }
        }
        primary.leave(&workers);
    }
    primary.end();
    until("nothing is left behind", || ports.into_iter().all(is_free));
}

/// Disconnecting a worker that is disconnected is harmless, and so is stopping then.
pub(crate) fn disconnect_before_exit(at: &At) {
    let mut primary = at.primary("disconnect.js", "idle");
    let worker = primary.fork();
    primary.online(worker);
    primary.disconnect(worker);
    primary.disconnected(worker);
    primary.disconnect(worker);
    primary.stop();
    primary.exits(worker, 0, true);
    primary.take("end of the cluster", |seen| {
        matches!(seen, Seen::Stopped { clean: true })
    });
}

/// A worker's own disconnect waits for the primary's answer.
pub(crate) fn disconnect_exited_after_disconnect_race(at: &At) {
    let mut primary = at.primary("disconnect.js", "ack");
    let worker = primary.fork();
    assert_eq!(primary.any_line(worker), "tick");
    assert_eq!(primary.any_line(worker), "disconnect");
    primary.disconnected(worker);
    primary.exits(worker, 0, true);
    primary.end();
}

pub(crate) fn disconnect_idle_worker(at: &At) {
    let mut primary = at.primary("disconnect.js", "idle");
    let workers = [primary.fork(), primary.fork()];
    for worker in workers {
        primary.says(worker, "up");
    }
    primary.leave(&workers);
    if !at.reference() {
        assert!(workers.iter().all(|worker| primary.state(*worker).is_none()));
    }
    primary.end();
}

/// Disconnected before it has booted, let alone listens.
pub(crate) fn disconnect_leak(at: &At) {
    let mut primary = at.primary("disconnect.js", "listen");
    let worker = primary.fork();
    primary.disconnect(worker);
    primary.disconnected(worker);
    primary.exits(worker, 0, true);
    primary.end();
}

/// One leaves while another starts, which leaves as soon as it is online.
pub(crate) fn disconnect_race(at: &At) {
    let mut primary = at.primary("disconnect.js", "listen");
    let first = primary.fork();
    primary.port(first);
    let second = primary.fork();
    primary.disconnect(first);
    primary.online(second);
    primary.disconnect(second);
    primary.exits(first, 0, true);
    primary.exits(second, 0, true);
    primary.end();
}

pub(crate) fn disconnect_unshared_tcp(at: &At) {
    unshared(at, "listen");
}

pub(crate) fn disconnect_unshared_udp(at: &At) {
    unshared(at, "udp");
}

/// A worker without an endpoint leaves while another has one.
fn unshared(at: &At, case: &str) {
    // The worker without is one that listens elsewhere in Node's eyes: it asked for nothing yet.
    let mut primary = at.primary("disconnect.js", case);
    let unbound = primary.fork();
    primary.online(unbound);
    primary.disconnect(unbound);
    let bound = primary.fork();
    primary.port(bound);
    primary.exits(unbound, 0, true);
    primary.leave(&[bound]);
    primary.end();
}

/// Stopping a cluster without workers ends it.
pub(crate) fn disconnect_with_no_workers(at: &At) {
    at.primary("disconnect.js", "idle").end();
}

/// `exitedAfterDisconnect` is told by the worker's own `disconnect()` and `kill()`.
pub(crate) fn kill_disconnect(at: &At) {
    let mut primary = at.primary("disconnect.js", "self");
    for action in ["disconnect", "kill"] {
        let worker = primary.fork_with(&[("ACTION", action)]);
        primary.disconnected(worker);
        primary.exits(worker, 0, true);
    }
    primary.end();
}

/// The primary disconnects: events, states, and the code of the app's own handler.
pub(crate) fn worker_disconnect(at: &At) {
    let mut primary = at.primary("disconnect.js", "handler42");
    let worker = primary.fork();
    let port = primary.port(worker);
    assert_eq!(greet(port), worker);
    primary.disconnect(worker);
    primary.disconnected(worker);
    if !at.reference() {
        assert!(!primary.state(worker).is_some_and(|(_, connected)| connected));
    }
    primary.exits(worker, 42, true);
    if !at.reference() {
        assert_eq!(
            primary.order(worker),
            ["fork", "online", "listening", "disconnect", "exit"]
        );
    }
    primary.end();
}

/// In good order the app's handler runs (42); when the channel is cut the worker exits 0 at once.
pub(crate) fn worker_forced_exit(at: &At) {
    let mut primary = at.primary("disconnect.js", "forced");
    let (asked, cut) = (primary.fork(), primary.fork());
    primary.says(asked, "up");
    primary.says(cut, "up");
    primary.disconnect(asked);
    primary.cut(cut);
    primary.exits(asked, 42, true);
    assert_eq!(primary.exit(cut).status, ExitStatus::Code(0));
    primary.end();
}

/// A disconnected worker lives as long as it has a connection of its own.
pub(crate) fn worker_no_exit(at: &At) {
    let listener = TcpListener::bind((HERE, 0)).expect("listen");
    let port = listener.local_addr().expect("an address").port();
    let mut primary = at.primary("disconnect.js", "client");
    let worker = primary.fork();
    let pid = primary.pid(worker);
    primary.says(worker, "up");
    primary.tell(worker, &json!({ "do": "connect", "port": port }));
    let (mut connection, _) = listener.accept().expect("the worker connects");
    primary.disconnect(worker);
    primary.disconnected(worker);
    connection
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("set a limit");
    let error = connection
        .read(&mut [0])
        .expect_err("the worker holds its connection");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(alive(pid));
    drop(connection);
    primary.exits(worker, 0, true);
    primary.end();
}

/// The channel closes only after the server has, and that waits for its connections.
pub(crate) fn worker_wait_server_close(at: &At) {
    let mut primary = at.primary("disconnect.js", "waitServerClose");
    let worker = primary.fork();
    let connection = connect(primary.port(worker));
    assert_eq!(read_one(&connection), ".");
    primary.disconnect(worker);
    primary.quiet(Duration::from_millis(200), "it left its client", |seen| {
        matches!(seen, Seen::Disconnect { .. } | Seen::Line { .. })
    });
    drop(connection);
    assert_eq!(primary.any_line(worker), "server closed");
    assert_eq!(primary.any_line(worker), "disconnect");
    primary.disconnected(worker);
    primary.exits(worker, 0, true);
    primary.end();
}

/// The app leaves because it could not listen.
pub(crate) fn worker_disconnect_on_error(at: &At) {
    let taken = TcpListener::bind((HERE, 0)).expect("listen");
    let port = taken.local_addr().expect("an address").port();
    let mut primary = at.primary("disconnect.js", "onError");
    let worker = primary.fork();
    primary.says(worker, "up");
    primary.tell(worker, &json!({ "do": "listen", "port": port }));
    assert_eq!(primary.says(worker, "error")["code"], "EADDRINUSE");
    primary.disconnected(worker);
    primary.exits(worker, 0, true);
    primary.end();
}

/// Two leave while a client is connected: a clean end, and nothing is left.
pub(crate) fn shared_leak(at: &At) {
    let port = free_port();
    let mut spec = at.spec("disconnect.js", "bye");
    spec.env = vec![("PORT".into(), port.to_string().into())];
    let mut primary = at.start(spec);
    let first = primary.fork();
    primary.port(first);
    let second = primary.fork();
    primary.online(second);
    let connection = connect(port);
    assert_eq!(read_one(&connection), "b");
    primary.disconnect(first);
    primary.disconnect(second);
    assert_eq!(read_all(&connection), "ye");
    drop(connection);
    primary.exits(first, 0, true);
    primary.exits(second, 0, true);
    primary.end();
    until("nothing is left behind", || is_free(port));
}

pub(crate) fn server_restart_rr(at: &At) {
    server_restart(at);
}

pub(crate) fn server_restart_none(at: &At) {
    server_restart(at);
}

/// A worker closes its server on port 0 and listens again, twice, beside one that stays.
fn server_restart(at: &At) {
    let mut primary = at.primary("disconnect.js", "restart");
    let first = primary.fork();
    let port = primary.port(first);
    let second = primary.fork_with(&[("RESTART", "y")]);
    assert_eq!(
        primary.exit(second),
        Exit {
            status: ExitStatus::Code(0),
            voluntary: false
        }
    );
    assert_eq!(greet(port), first);
    primary.leave(&[first]);
    primary.end();
}
