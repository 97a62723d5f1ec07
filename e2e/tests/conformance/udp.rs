//! UDP: always one socket for all workers.

use crate::net::{HERE, free_port, udp, udp_greet, udp_receive};
use crate::support::{At, order_to};
use everup::{Address, Spec};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;

fn spec(at: &At, case: &str, env: &[(&str, u16)]) -> Spec {
    let mut spec = at.spec("udp.js", case);
    spec.env = env
        .iter()
        .map(|(name, value)| ((*name).into(), value.to_string().into()))
        .collect();
    spec
}

/// Two sockets on port 0 per worker, and more, opened and closed in any order.
pub(crate) fn child_index_dgram(at: &At) {
    let mut primary = at.primary("udp.js", "index");
    let workers = [primary.fork(), primary.fork()];
    for worker in workers {
        for _ in 0..4 {
            let ports = primary.says(worker, "round")["ports"].clone();
            let ports = ports.as_array().expect("ports");
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

/// Workers share a port, and each of them gets packets (the others being stopped).
pub(crate) fn dgram_1(at: &At) {
    let port = free_port();
    let mut primary = at.start(spec(at, "shared", &[("PORT", port)]));
    let workers = [primary.fork(), primary.fork(), primary.fork()];
    for worker in workers {
        assert_eq!(primary.listening(worker), Address::Udp((HERE, port).into()));
    }
    let socket = udp();
    for _ in 0..10 {
        assert!(workers.contains(&udp_greet(&socket, port)));
    }
    for running in workers {
        let others: Vec<u32> = workers.into_iter().filter(|worker| *worker != running).collect();
        others.iter().for_each(|worker| primary.freeze(*worker, true));
        assert_eq!(udp_greet(&socket, port), running);
        others.iter().for_each(|worker| primary.freeze(*worker, false));
    }
    primary.leave(&workers);
    primary.end();
}

/// Workers send from port 0: from one port.
pub(crate) fn dgram_2(at: &At) {
    let socket = udp();
    let port = socket.local_addr().expect("an address").port();
    let mut primary = at.start(spec(at, "sender", &[("PORT", port)]));
    let workers = [primary.fork(), primary.fork()];
    let bound = workers.map(|worker| primary.port(worker));
    assert_eq!(bound[0], bound[1]);
    let packets = [udp_receive(&socket), udp_receive(&socket)];
    assert_eq!(
        packets
            .map(|(worker, _)| worker)
            .into_iter()
            .collect::<BTreeSet<_>>(),
        workers.into()
    );
    assert!(
        packets.iter().all(|(_, from)| from.port() == bound[0]),
        "{packets:?}"
    );
    primary.leave(&workers);
    primary.end();
}

/// `bind({fd})` means a descriptor of the primary's.
pub(crate) fn dgram_bind_fd(at: &At) {
    if at.reference() {
        return;
    }
    let bound = UdpSocket::bind((HERE, 0)).expect("bind");
    let port = bound.local_addr().expect("an address").port();
    let mut spec = spec(at, "fd", &[("FD", 9)]);
    spec.descriptors.insert(9, OwnedFd::from(bound));
    let mut primary = at.start(spec);
    let workers = [primary.fork(), primary.fork()];
    for worker in workers {
        assert_eq!(primary.says(worker, "listening")["address"]["port"], port);
    }
    let socket = udp();
    for _ in 0..4 {
        assert!(workers.contains(&udp_greet(&socket, port)));
    }
    primary.leave(&workers);
    primary.end();
}

/// An IPv6-only socket and an IPv4 one share a port.
pub(crate) fn dgram_ipv6only(at: &At) {
    both(at, "ipv6Only", Some(free_port()));
}

/// `reuseAddr`: two sockets of one worker on one port.
pub(crate) fn dgram_reuse(at: &At) {
    both(at, "reuse", None);
}

fn both(at: &At, case: &str, port: Option<u16>) {
    let mut primary = at.start(spec(at, case, &[("PORT", port.unwrap_or(0))]));
    let worker = primary.fork();
    let ports = primary.says(worker, "both")["ports"].clone();
    assert_eq!(ports[0], ports[1]);
    if let Some(port) = port {
        assert_eq!(ports[0], port);
    }
    primary.tell(worker, &order_to("leave"));
    primary.disconnected(worker);
    primary.exits(worker, 0, true);
    primary.end();
}

/// `reusePort` never consults the primary.
pub(crate) fn dgram_reuseport(at: &At) {
    let port = free_port();
    let mut primary = at.start(spec(at, "reusePort", &[("PORT", port)]));
    let workers = [primary.fork(), primary.fork()];
    for worker in workers {
        assert_eq!(primary.says(worker, "bound")["port"], port);
    }
    assert!(workers.contains(&udp_greet(&udp(), port)));
    primary.terminate(&workers);
    for worker in workers {
        assert!(!primary.order(worker).contains(&"listening"));
    }
    primary.end();
}

/// The error of a bind surfaces, and the socket can be bound after it.
pub(crate) fn dgram_cluster_bind_error(at: &At) {
    let taken = udp();
    let port = taken.local_addr().expect("an address").port();
    let mut primary = at.start(spec(at, "error", &[("PORT", port)]));
    let worker = primary.fork();
    let error = primary.says(worker, "error");
    assert_eq!(
        (error["code"].as_str(), error["syscall"].as_str()),
        (Some("EADDRINUSE"), Some("bind"))
    );
    primary.says(worker, "bound");
    primary.exits(worker, 0, true);
    primary.end();
}

/// Closed inside `listening`.
pub(crate) fn dgram_cluster_close_in_listening(at: &At) {
    let mut primary = at.primary("udp.js", "closeInListening");
    let worker = primary.fork();
    primary.line(worker, "closed");
    primary.disconnected(worker);
    primary.exits(worker, 0, true);
    primary.end();
}

/// An implicit bind is per worker, an explicit one is shared: 3 ports for 4 workers.
pub(crate) fn dgram_exclusive_implicit_bind(at: &At) {
    let socket = udp();
    let port = socket.local_addr().expect("an address").port();
    let mut primary = at.start(spec(at, "implicit", &[("PORT", port)]));
    let explicit = [("BOUND", "y")];
    let workers = [
        primary.fork(),
        primary.fork(),
        primary.fork_with(&explicit),
        primary.fork_with(&explicit),
    ];
    let packets = workers.map(|_| udp_receive(&socket));
    let senders: BTreeSet<u32> = packets.iter().map(|(worker, _)| *worker).collect();
    assert_eq!(senders, workers.into());
    let ports: BTreeSet<u16> = packets.iter().map(|(_, from)| from.port()).collect();
    assert_eq!(ports.len(), 3, "{packets:?}");
    for worker in workers {
        primary.tell(worker, &order_to("leave"));
        primary.exits(worker, 0, false);
    }
    primary.end();
}

/// Shared ports for both, an exclusive one for the first only.
pub(crate) fn dgram_bind_shared_ports(at: &At) {
    let mut primary = at.start(spec(
        at,
        "ports",
        &[("PORT", free_port()), ("PORT2", free_port())],
    ));
    let first = primary.fork();
    assert_eq!(primary.says(first, "exclusive")["code"], Value::Null);
    let second = primary.fork();
    assert_eq!(primary.says(second, "exclusive")["code"], "EADDRINUSE");
    for worker in [first, second] {
        primary.tell(worker, &order_to("leave"));
        primary.exits(worker, 0, false);
    }
    primary.end();
}
