//! The channel of `child_process.fork`.

use crate::Stage;
use anyhow::{Result, ensure};
use e2e::LIMIT;
use everup::{Builder, Channel, Event, ExitStatus, ReadyBasis, Serialization};
use serde_json::json;

fn ipc(builder: Builder) -> Builder {
    builder.channel(Channel::Ipc(Serialization::Json))
}

const WHO: &str = "
    const cluster = require('cluster');
    process.on('message', m => process.send({echo: m}));
    process.send([cluster.isPrimary, typeof process.env.EVERUP_CHANNEL]);
    process.send('ready');";

/// The worker has a channel, and is in no cluster.
#[test]
fn a_child_is_no_worker_of_a_cluster() -> Result<()> {
    let mut stage = Stage::start_with(WHO, ipc)?;
    let worker = stage.fork()?;
    ensure!(stage.message()? == json!([true, "undefined"]));
    let basis = stage.until("it is ready", |event| match event {
        Event::Ready { basis, .. } => Some(*basis),
        _ => None,
    })?;
    ensure!(basis == ReadyBasis::Message, "{basis:?}");
    ensure!(stage.message()? == "ready");
    worker.send(&[1, 2])?;
    ensure!(stage.message()? == json!({"echo": [1, 2]}));
    stage.stop()
}

#[test]
fn a_worker_of_a_cluster_knows_that_we_are_everup() -> Result<()> {
    let mut stage = Stage::start(WHO)?;
    let _worker = stage.fork()?;
    ensure!(stage.message()? == json!([false, "string"]));
    stage.stop()
}

/// To disconnect a child is to close its channel, after all that was sent before.
#[test]
fn a_disconnected_child_has_read_everything() -> Result<()> {
    let script = "
        let read = 0;
        process.on('message', m => read += m.length);
        process.on('disconnect', () => process.exit(read === 4 << 20 ? 0 : 1));
        process.send('up');";
    let mut stage = Stage::start_with(script, ipc)?;
    let worker = stage.fork()?;
    ensure!(stage.message()? == "up");
    for _ in 0..4 {
        worker.send(&"x".repeat(1 << 20))?;
    }
    worker.disconnect();
    let sent = worker.send("too late");
    ensure!(matches!(sent, Err(everup::SendError::Gone)), "{sent:?}");
    stage.exit(worker.id())?;
    ensure!(
        worker.exit_status() == Some(ExitStatus::Code(0)),
        "{:?}",
        worker.exit_status()
    );
    ensure!(worker.exited_after_disconnect());
    stage.stop()
}

/// `listen` in a child is its own affair, and nothing waits for it to be told.
#[test]
fn a_child_is_ready_after_a_second() -> Result<()> {
    let script = "require('net').createServer().listen(0, '127.0.0.1');";
    let mut stage = Stage::start_with(script, |builder| ipc(builder).listen_timeout(LIMIT))?;
    let _worker = stage.fork()?;
    let basis = stage.until("it is ready", |event| match event {
        Event::Ready { basis, .. } => Some(*basis),
        _ => None,
    })?;
    ensure!(basis == ReadyBasis::Uptime, "{basis:?}");
    stage.stop()
}
