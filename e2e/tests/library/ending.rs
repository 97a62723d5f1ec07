//! Ways to the end.

use crate::Stage;
use anyhow::{Context, Result, bail, ensure};
use e2e::LIMIT;
use everup::{Address, Cluster, Event, ExitStatus, Line, LineSink, Outcome, Output, RestartPolicy, StopPlan};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const ECHO: &str = "require('net').createServer(socket => socket.pipe(socket)).listen(0, '127.0.0.1');";

/// Node's `cluster.disconnect()`: a worker stays until its last connection ends; nobody is killed, and nobody is started
/// in its place.
#[test]
fn all_disconnect_and_nobody_is_killed() -> Result<()> {
    let plan = StopPlan::default().kill_timeout(Duration::ZERO);
    let change = |builder: everup::Builder| builder.workers(2).restart(RestartPolicy::default()).stop(plan);
    let mut stage = Stage::start_with(ECHO, change)?;
    let mut address = None;
    stage.until("all are ready", |event| match event {
        Event::Listening {
            address: Address::Tcp(at),
            ..
        } => {
            address = Some(*at);
            None
        }
        Event::AllReady { .. } => Some(()),
        _ => None,
    })?;
    let mut client = TcpStream::connect(address.context("it listens")?)?;
    echo(&mut client)?;
    stage.cluster.disconnect_all();
    let is_exit = |event: &Event| match event {
        Event::Exit {
            status, voluntary, ..
        } => Some((*status, *voluntary)),
        _ => None,
    };
    let idle = stage.until("the idle one ends", is_exit)?;
    echo(&mut client)?;
    drop(client);
    let busy = stage.until("the other one ends", |event| match event {
        Event::Fork { .. } => Some(None),
        event => is_exit(event).map(Some),
    })?;
    let well = (ExitStatus::Code(0), true);
    ensure!((idle, busy) == (well, Some(well)), "{idle:?} {busy:?}");
    let outcome = stage.cluster.join();
    ensure!(outcome == Outcome::Stopped, "{outcome:?}");
    Ok(())
}

fn echo(client: &mut TcpStream) -> Result<()> {
    client.write_all(b"x")?;
    let mut answer = [0];
    client.read_exact(&mut answer)?;
    ensure!(answer == *b"x");
    Ok(())
}

/// Workers that stay are killed at the deadline, and not before.
#[test]
fn a_shutdown_has_a_deadline() -> Result<()> {
    let stubborn = "process.on('SIGTERM', () => {}); process.on('disconnect', () => {});
                    setInterval(() => {}, 1000); process.send('up');";
    let plan = StopPlan::default().kill_timeout(Duration::from_secs(3600));
    let mut stage = Stage::start_with(stubborn, |builder| builder.stop(plan))?;
    let _worker = stage.fork()?;
    ensure!(stage.message()? == "up");
    match stage.cluster.shutdown(Duration::from_millis(50)) {
        Outcome::Killed { workers: 1 } => {}
        other => bail!("{other:?}"),
    }
    let mut stage = Stage::start(ECHO)?;
    let _worker = stage.fork()?;
    stage.until("it is ready", |event| {
        matches!(event, Event::Ready { .. }).then_some(())
    })?;
    let outcome = stage.cluster.shutdown(Duration::MAX);
    ensure!(outcome == Outcome::Stopped, "{outcome:?}");
    Ok(())
}

/// The last lines may wait for their sink for long. Who asks in the meantime hears at once that there is no engine.
#[test]
fn nobody_who_asks_after_the_end_waits_for_the_sink() -> Result<()> {
    let workers = 16;
    let (hurry, hurried) = channel();
    let (cluster, mut events) = Cluster::builder()
        .program("echo")
        .workers(workers)
        .restart(RestartPolicy::never())
        .output(Output::Lines(Box::new(Slow(hurried))))
        .start()?;
    let mut exits = 0;
    while exits < workers {
        exits += u32::from(matches!(events.recv_timeout(LIMIT)?, Some(Event::Exit { .. })));
    }
    cluster.stop();
    while !matches!(events.recv_timeout(LIMIT)?, Some(Event::Stopped { .. })) {}
    let (tell, told) = channel();
    let asking = std::thread::spawn(move || tell.send(cluster.status().is_none()));
    ensure!(told.recv_timeout(LIMIT)?);
    drop(hurry);
    asking.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    ensure!(events.recv_timeout(Duration::MAX)?.is_none());
    Ok(())
}

/// Takes a line now and then, so that it is never given up; all of them take longer than a test waits. Until it is told
/// to hurry.
#[derive(Debug)]
struct Slow(Receiver<()>);

impl LineSink for Slow {
    fn line(&mut self, _: Line<'_>) {
        self.0.recv_timeout(Duration::from_secs(2)).unwrap_or(());
    }

    fn flush(&mut self) {}
}
