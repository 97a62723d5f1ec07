//! Connections that a worker does not take, or cannot.

use crate::engine::Seen;
use crate::net::{connect, connect_unix, free_port, greet, parse, read_all, read_one};
use crate::support::{At, order_to, until};
use everup::{Spec, signal_number};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// An accept that fails for want of descriptors is survived, and made up for.
pub(crate) fn accept_fail(at: &At) {
    // The limit is the whole process's.
    if at.reference() || !at.alone(None) {
        return;
    }
    let mut primary = at.primary("refuse.js", "greet");
    let worker = primary.fork();
    let port = primary.port(worker);
    let open = descriptors();
    assert_eq!(greet(port), worker);
    until("the primary has let go of the connection", || {
        descriptors() == open
    });
    let limits = getrlimit(Resource::Nofile);
    let client = socket();
    // The lowest number that is free is the limit: none can be had.
    let probe = std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open("/dev/null").expect("open"));
    let mut fewer = limits;
    fewer.current = u64::try_from(probe).ok();
    setrlimit(Resource::Nofile, fewer).expect("set the limit");
    assert!(std::fs::File::open("/dev/null").is_err(), "no descriptor is left");
    let client = connect_with(client, port);
    // The primary goes on with everything else.
    for number in 0..5 {
        primary.tell(worker, &json!({ "do": "ping", "number": number }));
        assert_eq!(primary.says(worker, "pong")["number"], number);
    }
    client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("set a limit");
    let error = client.peek(&mut [0]).expect_err("nobody can serve it");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    setrlimit(Resource::Nofile, limits).expect("lift the limit");
    client
        .set_read_timeout(Some(crate::support::LIMIT))
        .expect("set a limit");
    assert_eq!(parse(&read_all(client)), worker);
    assert_eq!(greet(port), worker);
    primary.end();
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("own descriptors")
        .count()
}

/// A socket that is not connected yet: it has its descriptor already.
fn socket() -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket")
}

fn connect_with(socket: std::os::fd::OwnedFd, port: u16) -> TcpStream {
    rustix::net::connect(&socket, &std::net::SocketAddr::new(crate::net::HERE, port)).expect("connect");
    socket.into()
}

/// A connection for a server that has just closed: the worker closes its copy and says no.
pub(crate) fn worker_handle_close(at: &At) {
    let mut primary = at.primary("refuse.js", "closing");
    let worker = primary.fork();
    let client = connect(primary.port(worker));
    assert_eq!(primary.any_line(worker), "handle closed");
    if at.reference() {
        return;
    }
    // Nothing is lost: the next worker that listens on port 0 has that endpoint, or the end of all closes it.
    primary.leave(&[worker]);
    primary.end();
    drop(client);
}

/// At `maxConnections` a worker refuses, and another gets the connection: of ten, 0, 1 and 9 go where they may.
pub(crate) fn net_server_drop_connection(at: &At) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let mut spec = at.spec("refuse.js", "hold");
    spec.env = vec![("SOCKET_PATH".into(), path.clone().into())];
    let mut primary = at.start(spec);
    let workers = ["0", "1", "9"].map(|most| primary.fork_with(&[("MAX", most)]));
    for worker in workers {
        primary.listening(worker);
    }
    let clients: Vec<_> = (0..10).map(|_| connect_unix(&path)).collect();
    let mut spread = BTreeMap::new();
    for client in &clients {
        *spread.entry(parse(&read_one(client))).or_insert(0) += 1;
    }
    assert_eq!(spread, BTreeMap::from([(workers[1], 1), (workers[2], 9)]));
    drop(clients);
    primary.leave(&workers);
    primary.end();
}

/// With `dropMaxConnection` the worker takes the connection and drops it.
pub(crate) fn http_server_drop_connections_in_cluster(at: &At) {
    let mut primary = at.primary("refuse.js", "drop");
    let worker = primary.fork();
    let client = connect(primary.port(worker));
    assert_eq!(primary.message(worker), json!({ "say": "drop", "local": true }));
    let end = std::io::Read::read(&mut &client, &mut [0]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    primary.end();
}

fn on(at: &At, case: &str, port: u16, more: &[(&str, &str)]) -> Spec {
    let mut spec = at.spec("refuse.js", case);
    spec.env = vec![("PORT".into(), port.to_string().into())];
    spec.env
        .extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    spec
}

/// Found here: a connection on its way to a worker that is killed is served by another.
pub(crate) fn found_killed_in_flight(at: &At) {
    if at.reference() {
        return;
    }
    let port = free_port();
    let mut primary = at.start(on(at, "greet", port, &[]));
    let [(first, _), (second, _)] = primary.fork_listening(2, &[])[..] else {
        unreachable!()
    };
    primary.freeze(first, true);
    primary.freeze(second, true);
    let clients: Vec<_> = (0..6).map(|_| connect(port)).collect();
    primary.freeze(second, false);
    primary.kill(first, signal_number("KILL").expect("a signal"));
    for client in clients {
        assert_eq!(parse(&read_all(client)), second);
    }
    primary.end();
}

/// Found here: a worker without descriptors says NACK; another serves, and it is used again when it can.
pub(crate) fn found_nack(at: &At) {
    if at.reference() {
        return;
    }
    let port = free_port();
    let mut spec = on(at, "full", port, &[]);
    let node = std::mem::replace(&mut spec.program, "/bin/sh".into());
    let args = std::mem::take(&mut spec.args);
    spec.args = vec![
        "-c".into(),
        "ulimit -n 64 && exec \"$@\"".into(),
        "sh".into(),
        node.into(),
    ];
    spec.args.extend(args);
    let mut primary = at.start(spec);
    let [(full, _), (other, _)] = primary.fork_listening(2, &[])[..] else {
        unreachable!()
    };
    until("both serve", || greet(port) == full);
    until("only the other serves", || {
        // A connection of before may still free a descriptor: then once more.
        primary.tell(full, &order_to("fill"));
        assert_eq!(primary.says(full, "full")["code"], "EMFILE");
        (0..6).all(|_| greet(port) == other)
    });
    primary.tell(full, &order_to("free"));
    primary.says(full, "free");
    until("it is used again", || greet(port) == full);
    primary.leave(&[full, other]);
    primary.end();
}

/// Found here: when all workers are at `maxConnections`, the connection waits, and nobody burns CPU for it.
pub(crate) fn found_all_refuse(at: &At) {
    // The CPU time is the whole process's.
    if at.reference() || !at.alone(None) {
        return;
    }
    let port = free_port();
    let mut primary = at.start(on(at, "hold", port, &[("MAX", "1")]));
    let workers: Vec<u32> = primary
        .fork_listening(2, &[])
        .into_iter()
        .map(|(worker, _)| worker)
        .collect();
    let held: Vec<_> = (0..2).map(|_| connect(port)).collect();
    let mut holders: Vec<u32> = held.iter().map(|client| parse(&read_one(client))).collect();
    holders.sort_unstable();
    assert_eq!(holders, workers);
    let waiting: Vec<_> = (0..3).map(|_| connect(port)).collect();
    let before = cpu_time();
    // wait: the span over which CPU time is measured
    thread::sleep(Duration::from_secs(1));
    let spent = cpu_time() - before;
    assert!(
        spent < Duration::from_millis(50),
        "{spent:?} of CPU in a second of waiting"
    );
    waiting[0]
        .set_read_timeout(Some(Duration::from_millis(1)))
        .expect("set a limit");
    assert!(waiting[0].peek(&mut [0]).is_err(), "it waits");
    waiting[0]
        .set_read_timeout(Some(crate::support::LIMIT))
        .expect("set a limit");
    primary.tell(workers[1], &order_to("release"));
    primary.says(workers[1], "released");
    for client in &waiting {
        assert_eq!(parse(&read_one(client)), workers[1]);
    }
    drop((held, waiting));
    primary.leave(&workers);
    primary.end();
}

/// What all threads of this process have run.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("own threads");
    let nanoseconds = tasks.map(|task| {
        let stat =
            std::fs::read_to_string(task.expect("a thread").path().join("schedstat")).unwrap_or_default();
        stat.split(' ')
            .next()
            .and_then(|run| run.parse().ok())
            .unwrap_or(0)
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Found here: connections behind a message of just the size that fills a worker's read buffer: none is lost,
/// none is mistaken for another.
pub(crate) fn found_full_buffer(at: &At) {
    let mut primary = at.primary("refuse.js", "ports");
    let worker = primary.fork();
    let ports = primary.says(worker, "ports")["ports"].clone();
    let ports: Vec<u16> = ports
        .as_array()
        .expect("ports")
        .iter()
        .map(|port| {
            port.as_u64()
                .and_then(|port| u16::try_from(port).ok())
                .expect("a port")
        })
        .collect();
    for size in (65_430..65_530).step_by(10) {
        primary.freeze(worker, true);
        // With its quotes and newline.
        primary.tell(worker, &json!("x".repeat(size - 3)));
        let clients: Vec<_> = ports.iter().map(|port| (*port, connect(*port))).collect();
        primary.freeze(worker, false);
        assert_eq!(primary.says(worker, "size")["size"], size - 1);
        for (port, client) in clients {
            assert_eq!(
                read_all(client),
                port.to_string(),
                "after a message of {size} bytes"
            );
        }
    }
    primary.quiet(Duration::ZERO, "nothing went wrong", |seen| {
        matches!(seen, Seen::Exit { .. })
    });
    primary.end();
}
