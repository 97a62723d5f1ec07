//! TCP: who gets which address, and who is told that it cannot be had.

use crate::engine::Seen;
use crate::net::{HERE, connect, free_port, greet, greet_at, try_connect};
use crate::support::{At, Mode, Primary, order_to};
use everup::{Address, Spec, signal_number};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

const EADDRINUSE: i32 = 98;
const EACCES: i32 = 13;

/// A spec of `listen.js` with these variables.
fn spec(at: &At, case: &str, env: &[(&str, u16)]) -> Spec {
    let mut spec = at.spec("listen.js", case);
    spec.env = env
        .iter()
        .map(|(name, value)| ((*name).into(), value.to_string().into()))
        .collect();
    spec
}

fn port_of(message: &Value) -> u16 {
    message["address"]["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .expect("a port")
}

/// The error of a bind reaches the app, and we tell it too.
fn fails(at: &At, primary: &mut Primary, worker: u32, code: &str, errno: i32) {
    let error = primary.says(worker, "error");
    assert_eq!(error["code"], code);
    assert_eq!(error["syscall"], "bind");
    if !at.reference() {
        primary.take(
            "bind error",
            |seen| matches!(seen, Seen::BindFailed { worker: w, errno: e } if *w == worker && *e == errno),
        );
    }
}

/// A port below 1024 is refused to a primary without the right. (Where the system gives them to everybody, as in
/// Docker's containers, there is nothing to see; `unix::directory_not_writable` is about the same error.)
pub(crate) fn bind_privileged_port(at: &At) {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let anybody = first.is_ok_and(|first| first.trim().parse().is_ok_and(|first: u16| first <= 42));
    if at.reference() || anybody {
        return;
    }
    // Rights belong to threads: the engine's is started by this one.
    let outcome = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                drop_right(CapabilitySet::NET_BIND_SERVICE);
                let mut primary = at.start(spec(at, "port", &[("PORT", 42)]));
                let worker = primary.fork();
                fails(at, &mut primary, worker, "EACCES", EACCES);
                primary.end();
            })
            .join()
    });
    outcome.expect("the row, in a thread without the right");
}

/// Takes a right from this thread. Harmless where it has none.
pub(crate) fn drop_right(right: CapabilitySet) {
    let mut sets = capabilities(None).expect("own capabilities");
    sets.effective.remove(right);
    sets.permitted.remove(right);
    sets.inheritable.remove(right);
    set_capabilities(None, sets).expect("fewer capabilities");
}

/// Two clusters on one port: the second is refused.
pub(crate) fn bind_twice(at: &At) {
    let port = free_port();
    let mut one = at.start(spec(at, "port", &[("PORT", port)]));
    let mut two = at.start(spec(at, "port", &[("PORT", port)]));
    let first = one.fork();
    one.port(first);
    let second = two.fork();
    fails(at, &mut two, second, "EADDRINUSE", EADDRINUSE);
    assert_eq!(greet(port), first);
    two.end();
    one.end();
}

/// The port is somebody else's.
pub(crate) fn shared_handle_bind_error(at: &At) {
    let taken = TcpListener::bind((HERE, 0)).expect("listen");
    let port = taken.local_addr().expect("an address").port();
    let mut primary = at.start(spec(at, "port", &[("PORT", port)]));
    for _ in 0..2 {
        let worker = primary.fork();
        fails(at, &mut primary, worker, "EADDRINUSE", EADDRINUSE);
    }
    if at.reference() && at.mode == Mode::Shared {
        // Node's primary keeps the failure as long as those workers live.
        return;
    }
    drop(taken);
    // Once it is free it can be had.
    let worker = primary.fork();
    assert_eq!(primary.port(worker), port);
    assert_eq!(greet(port), worker);
    primary.end();
}

/// Servers on port 0, opened and closed in any order: each has a port of its own, and nothing gets mixed up.
pub(crate) fn child_index_net(at: &At) {
    let mut primary = at.primary("listen.js", "index");
    let workers = [primary.fork(), primary.fork()];
    for worker in workers {
        for _ in 0..4 {
            let ports = primary.says(worker, "round")["ports"].clone();
            let ports = ports.as_array().expect("ports");
            assert_eq!(ports.len(), 3);
            assert!(
                ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2],
                "{ports:?}"
            );
        }
        primary.says(worker, "done");
    }
    primary.leave(&workers);
    primary.end();
}

/// `listening` carries the real port of `listen(0)`, the same for all.
pub(crate) fn listening_port(at: &At) {
    let mut primary = at.primary("listen.js", "zero");
    let workers = [primary.fork(), primary.fork()];
    let ports = workers.map(|worker| {
        let Address::Tcp(address) = primary.listening(worker) else {
            panic!("not TCP")
        };
        assert_eq!(address.ip(), HERE);
        assert_eq!(port_of(&primary.says(worker, "listening")), address.port());
        address.port()
    });
    assert_eq!(ports[0], ports[1]);
    assert!(workers.contains(&greet(ports[0])));
    primary.end();
}

/// `listen()` without anything works.
pub(crate) fn net_listen(at: &At) {
    let mut primary = at.primary("listen.js", "none");
    let worker = primary.fork();
    let port = primary.port(worker);
    assert_eq!(port_of(&primary.says(worker, "listening")), port);
    assert_eq!(greet(port), worker);
    primary.end();
}

/// The backlog that the app asks for is the listener's: with the worker stopped, few clients fit in.
pub(crate) fn net_listen_backlog(at: &At) {
    if at.reference() && at.mode == Mode::RoundRobin {
        // Node's primary takes all connections at once, into a queue of its own.
        return;
    }
    let mut primary = at.primary("listen.js", "backlog");
    let worker = primary.fork();
    let port = primary.port(worker);
    assert_eq!(greet(port), worker);
    primary.freeze(worker, true);
    let clients: Vec<_> = (0..16)
        .map_while(|_| try_connect(port, Duration::from_millis(300)))
        .collect();
    assert!(
        (3..12).contains(&clients.len()),
        "{} clients with a backlog of 3",
        clients.len()
    );
    primary.freeze(worker, false);
    for client in clients {
        assert_eq!(crate::net::read_all(client), worker.to_string());
    }
    primary.end();
}

/// Host `::`: all agree on one address, and IPv4 reaches it.
pub(crate) fn net_listen_ipv6only_false(at: &At) {
    let mut primary = at.primary("listen.js", "dual");
    let workers = [primary.fork(), primary.fork(), primary.fork()];
    let addresses = workers.map(|worker| {
        assert_eq!(primary.says(worker, "listening")["address"]["family"], "IPv6");
        primary.listening(worker)
    });
    assert!(
        addresses.iter().all(|address| *address == addresses[0]),
        "{addresses:?}"
    );
    let Address::Tcp(address) = addresses[0] else {
        panic!("not TCP")
    };
    assert!(workers.contains(&greet_at((Ipv4Addr::LOCALHOST, address.port()).into())));
    assert!(workers.contains(&greet_at((Ipv6Addr::LOCALHOST, address.port()).into())));
    primary.end();
}

pub(crate) fn net_listen_ipv6only_rr(at: &At) {
    ipv6_only(at);
}

pub(crate) fn net_listen_ipv6only_none(at: &At) {
    ipv6_only(at);
}

/// `ipv6Only` leaves the port free for IPv4.
fn ipv6_only(at: &At) {
    let port = free_port();
    let mut primary = at.start(spec(at, "ipv6Only", &[("PORT", port)]));
    let workers = [primary.fork(), primary.fork(), primary.fork()];
    let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    for worker in workers {
        assert_eq!(primary.listening(worker), Address::Tcp(six));
    }
    let four = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free for IPv4");
    assert!(workers.contains(&greet_at((Ipv6Addr::LOCALHOST, port).into())));
    drop(four);
    primary.leave(&workers);
    primary.end();
}

/// `reusePort` is the worker's own affair: it says nothing to the primary.
pub(crate) fn net_reuseport(at: &At) {
    let port = free_port();
    let mut primary = at.start(spec(at, "reusePort", &[("PORT", port)]));
    let workers = [primary.fork(), primary.fork()];
    for worker in workers {
        assert_eq!(port_of(&primary.says(worker, "listening")), port);
    }
    assert!(workers.contains(&greet(port)));
    primary.terminate(&workers);
    for worker in workers {
        assert!(!primary.order(worker).contains(&"listening"));
    }
    primary.end();
}

/// Exclusive servers on port 0 get two ports.
pub(crate) fn net_listen_exclusive_random_ports(at: &At) {
    let mut primary = at.primary("listen.js", "exclusive");
    let workers = [primary.fork(), primary.fork()];
    let ports = workers.map(|worker| port_of(&primary.says(worker, "listening")));
    assert_ne!(ports[0], ports[1]);
    for (worker, port) in workers.into_iter().zip(ports) {
        assert_eq!(greet(port), worker);
    }
    primary.terminate(&workers);
    primary.end();
}

/// A shared port works for both workers, an exclusive one for the first only.
pub(crate) fn net_listen_shared_ports(at: &At) {
    let (port, second) = (free_port(), free_port());
    let mut primary = at.start(spec(
        at,
        "sharedAndExclusive",
        &[("PORT", port), ("PORT2", second)],
    ));
    let workers = [primary.fork(), 0];
    for name in ["shared", "exclusive"] {
        assert_eq!(primary.says(workers[0], "listening")["server"], name);
    }
    let workers = [workers[0], primary.fork()];
    assert_eq!(primary.says(workers[1], "listening")["server"], "shared");
    let error = primary.says(workers[1], "error");
    assert_eq!(
        (&error["server"], &error["code"]),
        (&json!("exclusive"), &json!("EADDRINUSE"))
    );
    assert_eq!(greet(second), workers[0]);
    assert!(workers.contains(&greet(port)));
    primary.terminate(&workers);
    primary.end();
}

/// A throw inside the error callback does not wedge the worker.
pub(crate) fn ipc_throw(at: &At) {
    let taken = TcpListener::bind((HERE, 0)).expect("listen");
    let port = taken.local_addr().expect("an address").port();
    let mut primary = at.start(spec(at, "throws", &[("PORT", port)]));
    let worker = primary.fork();
    primary.line(worker, "caught EADDRINUSE");
    primary.disconnected(worker);
    primary.exits(worker, 0, true);
    primary.end();
}

/// After a second listen has failed, the port is shared again across workers.
pub(crate) fn port_reuse_between_workers(at: &At) {
    if at.reference() && (at.version < 22 || at.mode == Mode::Shared) {
        // Node's primary learned this late, and in the shared mode it crashes the worker.
        return;
    }
    let port = free_port();
    let mut primary = at.start(spec(at, "reuse", &[("PORT", port)]));
    let first = primary.fork_with(&[("FAIL", "y")]);
    assert_eq!(primary.says(first, "second")["code"], "EADDRINUSE");
    primary.says(first, "closed");
    let second = primary.fork();
    primary.says(second, "started");
    primary.tell(first, &order_to("again"));
    assert_eq!(primary.says(first, "again")["code"], Value::Null);
    assert_eq!(greet(port), second);
    primary.end();
}

/// `listen({fd})` means a descriptor of the primary's.
pub(crate) fn listen_fd_cluster(at: &At) {
    if at.reference() {
        return;
    }
    let listener = TcpListener::bind((HERE, 0)).expect("listen");
    let port = listener.local_addr().expect("an address").port();
    let mut spec = spec(at, "fd", &[("FD", 3)]);
    spec.descriptors.insert(3, OwnedFd::from(listener));
    let mut primary = at.start(spec);
    let workers = [primary.fork(), primary.fork()];
    for worker in workers {
        primary.says(worker, "listening");
        primary.listening(worker);
    }
    assert!(workers.contains(&greet(port)));
    // One that we did not offer.
    let wrong = primary.fork_with(&[("FD", "77")]);
    assert!(primary.says(wrong, "error")["code"].is_string());
    primary.end();
}

/// `listen(handle)`: from Node 20 on the primary is not asked; before, it is asked for nothing in particular and
/// must refuse (Node's own crashes).
pub(crate) fn net_listen_handle_in_cluster_2(at: &At) {
    if at.reference() && at.version < 20 {
        return;
    }
    let mut primary = at.primary("listen.js", "handle");
    let worker = primary.fork();
    if at.version < 20 {
        assert_eq!(primary.says(worker, "error")["code"], "EINVAL");
    } else {
        let port = port_of(&primary.says(worker, "listening"));
        assert_eq!(greet(port), worker);
        assert!(!primary.order(worker).contains(&"listening"));
    }
    // The primary is well.
    let next = primary.fork();
    primary.online(next);
    primary.terminate(&[worker, next]);
    primary.end();
}

/// A server that closes before the primary has answered sends `close` after the answer.
pub(crate) fn net_server_close_before_ipc_response(at: &At) {
    let mut primary = at.primary("listen.js", "closeAtOnce");
    let worker = primary.fork();
    assert_eq!(primary.message(worker)["say"], "close sent");
    primary.disconnected(worker);
    primary.exits(worker, 0, false);
    assert!(!primary.order(worker).contains(&"listening"));
    primary.end();
}

/// Found here: the second argument of `listen` is no number, so `backlog` is `false` on the wire.
pub(crate) fn found_backlog_false(at: &At) {
    let port = free_port();
    let mut primary = at.start(spec(at, "backlogFalse", &[("PORT", port)]));
    let worker = primary.fork();
    let Address::Tcp(address) = primary.listening(worker) else {
        panic!("not TCP")
    };
    assert_eq!(address.port(), port);
    assert_eq!(greet_at(address), worker);
    // It is not taken for 0.
    primary.freeze(worker, true);
    let clients: Vec<_> = (0..16).map(|_| crate::net::connect_to(address)).collect();
    primary.freeze(worker, false);
    for client in clients {
        assert_eq!(crate::net::read_all(client), worker.to_string());
    }
    primary.end();
}

/// Found here: a client that connects while no worker is up is served by the next one.
pub(crate) fn found_no_worker(at: &At) {
    if at.reference() {
        return;
    }
    let port = free_port();
    let mut primary = at.start(spec(at, "port", &[("PORT", port)]));
    let first = primary.fork();
    primary.port(first);
    primary.kill(first, signal_number("KILL").expect("a signal"));
    primary.exit(first);
    let client = connect(port);
    let second = primary.fork();
    assert_eq!(crate::net::read_all(client), second.to_string());
    primary.end();
}
