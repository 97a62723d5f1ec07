//! A WebSocket chat over all workers: one room, whoever serves you.
//!
//! ```text
//! cargo run -p everup-examples --bin ws-chat    PORT, WORKERS, POLICY
//! websocat ws://127.0.0.1:3000/                 or any other WebSocket client, more than once
//! ```
//!
//! - The policy is `sticky`: a client address always comes to the same worker, for as long as that worker's place exists.
//!   A chat does not need it; what a server keeps in memory for a client does.
//! - What a client says goes to the primary as a message, and from there to all workers, so that everyone hears it in
//!   the same order.
//! - A worker that drains says 1012 (service restart) to its clients. They come again and say again what they have not
//!   heard come back: at least once, not exactly once.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use everup::worker::{AcceptError, Connection};
use everup::{Cluster, Event, Events, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes, protocol::CloseFrame};

/// A client that is behind by more lines has lost some.
const BACKLOG: usize = 1024;
/// How long a client may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    match Worker::from_env()? {
        Some(worker) => serve(worker),
        None => primary(),
    }
}

fn primary() -> Result<()> {
    let (cluster, events) = Cluster::builder()
        .workers(workers()?)
        .policy(policy(Policy::Sticky)?)
        .start()?;
    let cluster = Arc::new(cluster);
    let room = Arc::clone(&cluster);
    thread::spawn(move || relay(&room, events));
    check(&cluster.run_until_signal()?)
}

/// The room: what one worker says is told to all, itself included.
fn relay(cluster: &Cluster, mut events: Events) {
    while let Some(event) = events.recv_blocking() {
        tell(&event);
        if let Event::Message { message, .. } = event {
            for worker in cluster.handles() {
                // One that is gone has no clients any more.
                worker.send_json(&message).ok();
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(worker: Worker) -> Result<()> {
    let (room, _) = channel(BACKLOG);
    let lines = room.clone();
    let mut messages = worker.messages().context("nobody else has them")?;
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            if let Ok(line) = message.parse::<String>() {
                // Nobody may be there to hear it.
                lines.send(line.into()).ok();
            }
        }
    });
    let listener = worker.listen(address()?).await?;
    let mut clients = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(clients.spawn(member(worker.clone(), stream, room.clone()))),
            Err(AcceptError::Drained) => break,
            Err(error) => {
                eprintln!("worker {}: {error}", name(&worker));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        while clients.try_join_next().is_some() {}
    }
    while clients.join_next().await.is_some() {}
    Ok(())
}

async fn member(worker: Worker, stream: Connection<TcpStream>, room: Sender<Utf8Bytes>) {
    let hears = room.subscribe();
    if let Err(error) = talk(&worker, stream, hears).await {
        eprintln!("worker {}: a client: {error}", name(&worker));
    }
}

/// One client, until it goes or has to go.
async fn talk(worker: &Worker, stream: Connection<TcpStream>, mut hears: Receiver<Utf8Bytes>) -> Result<()> {
    let mut client = accept_async(stream).await?;
    client.send(format!("* worker {}", name(worker)).into()).await?;
    let mut drain = pin!(worker.on_drain());
    loop {
        tokio::select! {
            said = client.next() => match said {
                Some(Ok(Message::Text(line))) => worker.send(&line.as_str())?,
                Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) | None => return Ok(()),
                // The library answers pings.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            },
            line = hears.recv() => match line {
                Ok(line) => client.send(Message::Text(line)).await?,
                Err(RecvError::Lagged(lines)) => client.send(format!("* {lines} lines lost").into()).await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            () = &mut drain => break,
        }
    }
    let again = CloseFrame {
        code: CloseCode::Restart,
        reason: "come again".into(),
    };
    client.close(Some(again)).await?;
    // What comes now has not been heard by anyone: the client says it again.
    let goodbye = async { while let Some(Ok(_)) = client.next().await {} };
    tokio::time::timeout(GOODBYE, goodbye).await.ok();
    Ok(())
}
