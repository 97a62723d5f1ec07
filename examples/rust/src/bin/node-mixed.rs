//! A Rust worker and a Node worker behind one port, and messages both ways.
//!
//! ```text
//! cargo run -p everup-examples --bin node-mixed    PORT, WORKERS, POLICY; needs `node`
//! curl http://127.0.0.1:3000/                      again and again: from Rust, from Node
//! ```
//!
//! The primary speaks Node's own cluster protocol to all its workers, so the Node worker is a plain `node:cluster`
//! program ([`node-mixed.js`](../../node-mixed.js)). Each worker is started as this program; in every second place it
//! becomes Node (`exec` keeps the process, its environment and its channel), so that a successor after a crash or a
//! reload is what its predecessor was. (`Cluster::fork` with another program starts a single worker of another kind.)
//!
//! Once a worker is ready the primary greets it, and the worker answers.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::os::unix::process::CommandExt as _;
use std::process::{self, Command};
use std::sync::Arc;
use std::{env, thread};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use everup::{Cluster, Event, Events, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};
use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node-mixed.js");

fn main() -> Result<()> {
    if is_nodes_place() {
        return Err(Command::new("node").arg(SCRIPT).exec()).context("become node");
    }
    match Worker::from_env()? {
        Some(worker) => serve(worker),
        None => primary(),
    }
}

/// A worker in place 1, 3, 5 …
fn is_nodes_place() -> bool {
    let place = env::var("NODE_APP_INSTANCE").ok();
    let place = place.and_then(|place| place.parse::<u32>().ok());
    env::var_os("NODE_CHANNEL_FD").is_some() && place.is_some_and(|place| place % 2 == 1)
}

fn primary() -> Result<()> {
    let (cluster, events) = Cluster::builder()
        .workers(workers()?)
        .policy(policy(Policy::RoundRobin)?)
        .start()?;
    let cluster = Arc::new(cluster);
    let greeting = Arc::clone(&cluster);
    thread::spawn(move || greet(&greeting, events));
    check(&cluster.run_until_signal()?)
}

fn greet(cluster: &Cluster, mut events: Events) {
    while let Some(event) = events.recv_blocking() {
        tell(&event);
        match event {
            Event::Ready { worker, .. } => {
                // It may have died again already; then its successor is greeted.
                cluster.send(worker, &json!({ "hello": worker.0 })).ok();
            }
            Event::Message { worker, message, .. } => println!("worker {worker} says {message}"),
            _ => {}
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(worker: Worker) -> Result<()> {
    let listener = worker.listen(address()?).await?;
    let answering = worker.clone();
    worker.on_message(move |message| {
        let heard: Option<Value> = message.parse().ok();
        // Whoever asked may be gone.
        answering.send(&json!({ "from": "rust", "heard": heard })).ok();
    })?;
    let app = Router::new().route("/", get(hello)).with_state(worker.clone());
    axum::serve(listener, app)
        .with_graceful_shutdown(worker.on_drain())
        .await?;
    Ok(())
}

async fn hello(State(worker): State<Worker>) -> impl IntoResponse {
    let name = name(&worker);
    let text = format!("hello from Rust, worker {name}, process {}\n", process::id());
    ([("x-worker", format!("rust-{name}"))], text)
}
