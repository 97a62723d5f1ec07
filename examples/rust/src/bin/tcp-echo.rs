//! A raw TCP server: says back, line by line, what it hears, behind the number of the worker.
//!
//! ```text
//! cargo run -p everup-examples --bin tcp-echo    PORT, WORKERS, POLICY
//! nc 127.0.0.1 3000
//! ```
//!
//! Nothing in this protocol can tell a client to come again. So a draining worker takes no new connections and stays
//! until its clients have gone, for as long as the stop plan lets it (30 s at a reload, 5 s at a stop).

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::io;
use std::time::Duration;

use anyhow::Result;
use everup::worker::{AcceptError, Connection};
use everup::{Cluster, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, split};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A line that is longer comes back in pieces.
const LINE_LIMIT: u64 = 64 * 1024;

fn main() -> Result<()> {
    match Worker::from_env()? {
        Some(worker) => serve(worker),
        None => primary(),
    }
}

fn primary() -> Result<()> {
    let cluster = Cluster::builder()
        .workers(workers()?)
        .policy(policy(Policy::LeastConnections)?);
    check(&cluster.run_with(|_, event| tell(&event))?)
}

#[tokio::main(flavor = "current_thread")]
async fn serve(worker: Worker) -> Result<()> {
    let listener = worker.listen(address()?).await?;
    let name = name(&worker);
    let mut clients = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(clients.spawn(echo(name.clone(), stream))),
            Err(AcceptError::Drained) => break,
            Err(error) => {
                eprintln!("worker {name}: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        // Forget those that have ended.
        while clients.try_join_next().is_some() {}
    }
    while clients.join_next().await.is_some() {}
    Ok(())
}

async fn echo(name: String, stream: Connection<TcpStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = split(stream);
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(format!("{name} ").as_bytes());
        if (&mut read).take(LINE_LIMIT).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        write.write_all(&line).await?;
    }
}
