//! What is sent, and what is said when it cannot be.

use crate::Stage;
use anyhow::{Result, bail, ensure};
use e2e::{LIMIT, process};
use everup::message::MESSAGE_LIMIT;
use everup::{Channel, Event, Handle, SendError, Serialization, WorkerId};
use serde_json::json;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

const ECHO: &str = "process.on('message', m => process.send({echo: m})); process.send('up');";

#[test]
fn messages_go_both_ways() -> Result<()> {
    let mut stage = Stage::start(ECHO)?;
    let worker = stage.fork()?;
    ensure!(stage.message()? == "up");
    worker.send("text")?;
    worker.send(&vec![Some(1), None])?;
    stage.cluster.send(worker.id(), &json!({"a": "é\n"}))?;
    stage.cluster.send_json(worker.id(), "{\"b\":\n 2}")?;
    for expected in [
        json!("text"),
        json!([1, null]),
        json!({"a": "é\n"}),
        json!({"b": 2}),
    ] {
        let message = stage.message()?;
        ensure!(message == json!({ "echo": expected }), "{message}");
    }
    stage.stop()
}

#[test]
fn what_cannot_be_sent_is_said() -> Result<()> {
    let mut stage = Stage::start(ECHO)?;
    let worker = stage.fork()?;
    ensure!(stage.message()? == "up");
    let sent = worker.send_json("nope");
    ensure!(matches!(sent, Err(SendError::NotJson(_))), "{sent:?}");
    let sent = worker.send_json(&" ".repeat(MESSAGE_LIMIT + 1));
    let size = MESSAGE_LIMIT + 1;
    ensure!(
        matches!(sent, Err(SendError::FrameTooLarge { size: is, limit: MESSAGE_LIMIT }) if is == size),
        "{sent:?}"
    );
    let sent = worker.send_opaque(vec![0xff, 0x0f, b'0']);
    ensure!(matches!(sent, Err(SendError::WrongFormat)), "{sent:?}");
    let sent = stage.cluster.send(WorkerId(99), "nobody");
    ensure!(matches!(sent, Err(SendError::Gone)), "{sent:?}");
    worker.kill(9);
    stage.exit(worker.id())?;
    for sent in [worker.send("dead"), stage.cluster.send(worker.id(), "dead")] {
        ensure!(matches!(sent, Err(SendError::Gone)), "{sent:?}");
    }
    stage.stop()
}

/// A worker that has closed its channel is gone for messages, even though it lives: one of a cluster would end.
#[test]
fn a_closed_channel_takes_no_message() -> Result<()> {
    let ipc = |builder: everup::Builder| builder.channel(Channel::Ipc(Serialization::Json));
    let mut stage = Stage::start_with("process.disconnect(); setInterval(() => {}, 1000);", ipc)?;
    let worker = stage.fork()?;
    stage.until("its channel closes", |event| {
        matches!(event, Event::Disconnect { .. }).then_some(())
    })?;
    let sent = worker.send("?");
    ensure!(matches!(sent, Err(SendError::Gone)), "{sent:?}");
    ensure!(!worker.is_dead() && !worker.is_connected());
    stage.stop()
}

#[test]
fn a_worker_that_does_not_read_fills_its_queue() -> Result<()> {
    let stage = Stage::start("process.kill(process.pid, 'SIGSTOP'); setInterval(() => {}, 1000);")?;
    let worker = stage.fork()?;
    let pid = worker.pid().unwrap_or(0);
    e2e::run::wait_until("the worker stops itself", LIMIT, || match process::state(pid) {
        Some('T') => Ok(()),
        state => Err(format!("{state:?}")),
    })?;
    let large = format!("\"{}\"", "x".repeat(60 << 20));
    for _ in 0..4 {
        worker.send_json(&large)?;
    }
    match worker.send_json(&large) {
        Err(SendError::QueueFull { queued, limit }) => ensure!(queued > 200 << 20 && limit == 256 << 20),
        other => bail!("{other:?}"),
    }
    worker.send("a small one")?;
    worker.kill(9);
    stage.stop()
}

const SOCKETS: &str = "
    process.on('message', (kind, handle) => {
        if (kind === 'listener') handle.on('connection', socket => socket.end('listener'));
        if (kind === 'stream') handle.end('stream');
        process.send([kind, handle.constructor.name, kind === 'datagram' ? handle.address().port : 0]);
    });
    process.send('up');";

#[test]
fn sockets_are_typed() -> Result<()> {
    let mut stage = Stage::start(SOCKETS)?;
    let worker = stage.fork()?;
    ensure!(stage.message()? == "up");

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    worker.send_handle("listener", listener)?;
    ensure!(stage.message()? == json!(["listener", "Server", 0]));
    ensure!(all(TcpStream::connect(address)?)? == "listener");

    let (ours, theirs) = UnixStream::pair()?;
    worker.send_handle("stream", theirs)?;
    ensure!(stage.message()? == json!(["stream", "Socket", 0]));
    ensure!(all(ours)? == "stream");

    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    worker.send_handle("datagram", socket)?;
    ensure!(stage.message()? == json!(["datagram", "Socket", port]));
    stage.stop()
}

fn all(mut stream: impl Read) -> Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn received_sockets_are_typed() -> Result<()> {
    let mut stage = Stage::start(
        "const server = require('net').createServer();
         server.listen({port: 0, host: '127.0.0.1', exclusive: true}, () =>
             process.send(server.address().port, server, {keepOpen: true}));",
    )?;
    let _worker = stage.fork()?;
    let (port, handle) = loop {
        match stage.events.recv_timeout(LIMIT)? {
            Some(Event::Handle {
                message, descriptor, ..
            }) => break (message.parse::<u16>()?, descriptor),
            Some(_) => {}
            None => bail!("the cluster ended"),
        }
    };
    let listener = |handle: Handle| match handle {
        Handle::Listener(listener) => Ok(listener),
        other => bail!("{other:?}"),
    };
    let copy = listener(handle.open()?)?;
    ensure!(copy.local_addr()?.port() == port);
    let own = listener(handle.into_handle())?;
    ensure!(own.local_addr()?.port() == port);
    stage.stop()
}
