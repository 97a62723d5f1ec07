//! Descriptors with messages, both ways.

use crate::engine::Seen;
use crate::net::{HERE, connect, greet, http, read_all};
use crate::support::{At, order_to};
use everup::HandleKind;
use serde_json::{Value, json};
use std::io::Read;
use std::net::{TcpListener, TcpStream};

/// A connection as a client and a server see it.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((HERE, 0)).expect("listen");
    let client = connect(listener.local_addr().expect("an address").port());
    (client, listener.accept().expect("accept").0)
}

/// A socket of the primary's serves HTTP in the worker; it is non-blocking there although it was not with us.
pub(crate) fn send_socket_to_worker_http_server(at: &At) {
    if at.reference() {
        return;
    }
    let mut primary = at.primary("handles.js", "http");
    let worker = primary.fork();
    primary.says(worker, "up");
    let (client, server) = pair();
    primary.send_handle(worker, &json!("socket"), HandleKind::Socket, server);
    let said = primary.says(worker, "socket");
    assert_eq!(
        (&said["message"], &said["is"], &said["nonBlocking"]),
        (&json!("socket"), &json!(true), &json!(true))
    );
    let answer = http(client);
    assert!(answer.contains(&format!("worker {worker}")), "{answer}");
    primary.leave(&[worker]);
    primary.end();
}

/// A listening socket of the primary's is a server in the worker.
pub(crate) fn net_listen_handle_in_cluster_1(at: &At) {
    if at.reference() {
        return;
    }
    let mut primary = at.primary("handles.js", "server");
    let worker = primary.fork();
    primary.says(worker, "up");
    let listener = TcpListener::bind((HERE, 0)).expect("listen");
    let port = listener.local_addr().expect("an address").port();
    primary.send_handle(worker, &Value::Null, HandleKind::Server, listener);
    let said = primary.says(worker, "server");
    assert_eq!((&said["message"], &said["is"]), (&Value::Null, &json!(true)));
    assert_eq!(greet(port), worker);
    primary.end();
}

/// Handles in both directions at the same time do not wait for each other.
pub(crate) fn send_deadlock(at: &At) {
    const HANDLES: usize = 20;
    if at.reference() {
        return;
    }
    let mut primary = at.primary("handles.js", "reply");
    let worker = primary.fork();
    primary.says(worker, "up");
    let mut clients = Vec::new();
    for number in 0..HANDLES {
        let (client, server) = pair();
        primary.send_handle(worker, &json!(number), HandleKind::Socket, server);
        clients.push(client);
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        let Seen::Handle {
            json: message,
            kind,
            descriptor,
            ..
        } = primary.handle(worker)
        else {
            unreachable!()
        };
        assert_eq!(message, json!({ "say": "reply", "message": number }));
        assert_eq!(kind, Some(HandleKind::Socket));
        // Ours was the last copy.
        drop(descriptor);
        assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    }
    primary.leave(&[worker]);
    primary.end();
}

/// One socket sent twice arrives once; the worker's disconnect waits until we have closed it.
pub(crate) fn send_handle_twice(at: &At) {
    let mut primary = at.primary("handles.js", "twice");
    let worker = primary.fork();
    let client = connect(primary.port(worker));
    let Seen::Handle {
        json: message,
        descriptor,
        ..
    } = primary.handle(worker)
    else {
        unreachable!()
    };
    assert_eq!(message["say"], "first");
    primary.says(worker, "second");
    primary.tell(worker, &order_to("leave"));
    primary.line(worker, "leaving");
    if !at.reference() {
        primary.quiet(std::time::Duration::from_millis(200), "it did not wait", |seen| {
            matches!(seen, Seen::Disconnect { .. })
        });
    }
    drop(descriptor);
    assert_eq!(read_all(client), "");
    primary.disconnected(worker);
    primary.exits(worker, 0, true);
    primary.end();
}

/// A large message with a socket, each way.
pub(crate) fn send_handle_large_payload(at: &At) {
    if at.reference() {
        return;
    }
    let mut primary = at.primary("handles.js", "large");
    let worker = primary.fork();
    primary.says(worker, "up");
    let payload = "a".repeat(800_004);
    let (mut client, server) = pair();
    primary.send_handle(worker, &json!({ "payload": payload }), HandleKind::Socket, server);
    let Seen::Handle {
        json: message,
        descriptor,
        ..
    } = primary.handle(worker)
    else {
        unreachable!()
    };
    assert_eq!(
        (&message["same"], &message["socket"]),
        (&json!(true), &json!(true))
    );
    assert!(message["payload"] == payload.as_str());
    drop(descriptor);
    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    primary.leave(&[worker]);
    primary.end();
}

/// The worker dies with a queue of handles: the primary lives, and the descriptors are closed.
pub(crate) fn child_process_fork_closed_channel_segfault(at: &At) {
    if at.reference() {
        return;
    }
    let mut primary = at.primary("handles.js", "dies");
    let worker = primary.fork();
    primary.says(worker, "up");
    let mut clients = Vec::new();
    for number in 0..8 {
        let (client, server) = pair();
        primary.send_handle(worker, &json!(number), HandleKind::Socket, server);
        clients.push(client);
    }
    primary.disconnected(worker);
    primary.exits(worker, 1, false);
    let (client, server) = pair();
    primary.send_handle(worker, &json!("too late"), HandleKind::Socket, server);
    for mut client in clients.into_iter().chain([client]) {
        // The end, or a reset; not a time-out.
        let end = client.read(&mut [0]);
        assert!(
            matches!(end, Ok(0)) || is_reset(&end),
            "our copy is still open: {end:?}"
        );
    }
    let next = primary.fork();
    primary.says(next, "up");
    primary.end();
}

fn is_reset(end: &std::io::Result<usize>) -> bool {
    end.as_ref()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// Found here: a handle of the worker's is acknowledged although nobody cares for it, and nothing waits behind it.
pub(crate) fn found_ack_unheard(at: &At) {
    let mut primary = at.primary("handles.js", "unheard");
    let worker = primary.fork();
    let port = primary.port(worker);
    for _ in 0..3 {
        let client = connect(port);
        primary.says(worker, "after");
        // It is only in the backlog of this test; taking it out of there drops it.
        drop(primary.handle(worker));
        assert_eq!(read_all(client), "");
    }
    primary.leave(&[worker]);
    primary.end();
}

/// Found here: no descriptor that a worker gets is blocking.
pub(crate) fn found_non_blocking(at: &At) {
    let mut primary = at.primary("handles.js", "flags");
    let worker = primary.fork();
    let port = primary.port(worker);
    let flags: Value = serde_json::from_str(&read_all(connect(port))).expect("JSON");
    assert_eq!(flags["connection"], true);
    match at.mode {
        crate::support::Mode::RoundRobin => assert_eq!(flags["listener"], Value::Null),
        crate::support::Mode::Shared => assert_eq!(flags["listener"], true),
    }
    primary.end();
}
