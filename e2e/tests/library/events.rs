//! What every event says.

use crate::Stage;
use anyhow::{Result, ensure};
use e2e::LIMIT;
use everup::{Event, Fork};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

/// Every event of a worker's life has its id, place and process id; and every event has a time.
#[test]
fn events_say_who_and_when() -> Result<()> {
    let before = SystemTime::now();
    let mut stage = Stage::start(
        "process.send('up');
         require('net').createServer().listen(0, '127.0.0.1');",
    )?;
    let worker = stage.fork()?;
    let expected = (worker.id(), worker.slot(), worker.pid().unwrap_or(0));
    let (mut names, mut last) = (Vec::new(), before);
    loop {
        let Some(event) = stage.events.recv_timeout(LIMIT)? else {
            break;
        };
        let at = stage.events.at();
        ensure!(
            at >= last && at <= SystemTime::now(),
            "{event:?} at {at:?}, after {last:?}"
        );
        last = at;
        let (name, who) = match event {
            Event::Fork {
                worker, slot, pid, ..
            } => ("fork", (worker, slot, pid)),
            Event::Online { worker, slot, pid } => ("online", (worker, slot, pid)),
            Event::Listening {
                worker, slot, pid, ..
            } => ("listening", (worker, slot, pid)),
            Event::Ready {
                worker, slot, pid, ..
            } => {
                stage.cluster.stop();
                ("ready", (worker, slot, pid))
            }
            Event::Message {
                worker, slot, pid, ..
            } => ("message", (worker, slot, pid)),
            Event::Disconnect { worker, slot, pid } => ("disconnect", (worker, slot, pid)),
            Event::Exit {
                worker, slot, pid, ..
            } => ("exit", (worker, slot, pid)),
            _ => continue,
        };
        ensure!(who == expected, "{name}: {who:?}, not {expected:?}");
        names.push(name);
    }
    let life = [
        "fork",
        "online",
        "message",
        "listening",
        "ready",
        "disconnect",
        "exit",
    ];
    ensure!(names == life, "{names:?}");
    Ok(())
}

/// An event and its time together, in async code.
#[test]
fn the_time_comes_with_the_event() -> Result<()> {
    let mut stage = Stage::start("setInterval(() => {}, 1000);")?;
    let before = SystemTime::now();
    // It is a process, and has been reported, when this returns.
    let _worker = stage.cluster.fork(Fork::default());
    let mut next = pin!(stage.events.recv_at());
    let Poll::Ready(Some((at, Event::Fork { .. }))) =
        next.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    else {
        anyhow::bail!("no event is there");
    };
    ensure!(at >= before && at <= SystemTime::now());
    Ok(())
}
