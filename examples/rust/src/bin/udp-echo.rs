//! A UDP server: sends each datagram back, behind the number of the worker.
//!
//! ```text
//! cargo run -p everup-examples --bin udp-echo    PORT, WORKERS
//! echo hello | nc -u -w1 127.0.0.1 3000
//! ```
//!
//! All workers read from one socket, which the primary keeps: whoever is free takes the next datagram, and what waits
//! while one worker dies or is replaced is read by another. Only a datagram that was read and not yet answered goes with
//! a worker that is killed.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::pin::pin;

use anyhow::Result;
use everup::{Cluster, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};

/// No UDP datagram is longer.
const MOST: usize = 65_535;

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
    let socket = worker.bind_udp(address()?).await?;
    let mut datagram = format!("{} ", name(&worker)).into_bytes();
    let start = datagram.len();
    datagram.resize(start + MOST, 0);
    let mut drain = pin!(worker.on_drain());
    loop {
        let (length, client) = tokio::select! {
            received = socket.recv_from(&mut datagram[start..]) => received?,
            // Whatever has not been read is for the others.
            () = &mut drain => return Ok(()),
        };
        if let Err(error) = socket.send_to(&datagram[..start + length], client).await {
            eprintln!("worker {}: to {client}: {error}", name(&worker));
        }
    }
}
