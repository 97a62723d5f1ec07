//! TLS: the primary carries `data`, and nothing else.

use crate::support::{At, script};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Sessions are resumed across workers, because the first one's ticket keys come to the others.
pub(crate) fn ticket_cluster(at: &At) {
    const CONNECTIONS: usize = 8;
    let mut primary = at.primary("tls.js", "ticket");
    let workers = [primary.fork(), primary.fork()];
    let ports = workers.map(|worker| {
        primary.says(worker, "listening")["port"]
            .as_u64()
            .expect("a port")
    });
    assert_eq!(ports[0], ports[1]);
    let answered = client(at, "tickets", ports[0], CONNECTIONS);
    let resumed = answered
        .iter()
        .filter(|worker| primary.says(**worker, "connection")["reused"] == true)
        .count();
    assert_eq!(resumed, CONNECTIONS - 1);
    if at.mode == crate::support::Mode::RoundRobin {
        assert_eq!(answered.iter().copied().collect::<BTreeSet<_>>(), workers.into());
    }
    primary.leave(&workers);
    primary.end();
}

/// Found here: an HTTPS worker gets its `data` back, else it would crash at `listen`.
pub(crate) fn found_https(at: &At) {
    let mut primary = at.primary("tls.js", "https");
    let worker = primary.fork();
    let port = primary.says(worker, "listening")["port"]
        .as_u64()
        .expect("a port");
    assert_eq!(client(at, "https", port, 2), [worker, worker]);
    primary.leave(&[worker]);
    primary.end();
}

/// Connects one time after another, with Node; says which workers answered.
fn client(at: &At, what: &str, port: u64, count: usize) -> Vec<u32> {
    let output = Command::new(&at.node)
        .arg(script("tls-client.js"))
        .args([what, &port.to_string(), &count.to_string()])
        .output()
        .expect("run a client");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let workers: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    workers
        .iter()
        .map(|worker| {
            worker
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .expect("an id")
        })
        .collect()
}
