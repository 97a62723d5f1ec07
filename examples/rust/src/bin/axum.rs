//! An axum server in a cluster of itself: the program is the primary, and each of its workers.
//!
//! ```text
//! cargo run -p everup-examples --bin axum          the primary; PORT, WORKERS, POLICY
//! cargo run -p everup-examples --bin axum alone    one process, no primary: the same `serve`
//! curl http://127.0.0.1:3000/
//! kill -HUP PID                                    reload: new workers, no failed request
//! ```
//!
//! The listener works for every policy, `axum::serve` takes it as it is, and `on_drain` ends it gracefully.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::{env, process};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use everup::{Cluster, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};

fn main() -> Result<()> {
    match Worker::from_env()? {
        Some(worker) => serve(worker),
        None if env::args().nth(1).is_some_and(|mode| mode == "alone") => serve(Worker::alone()),
        None => primary(),
    }
}

fn primary() -> Result<()> {
    let cluster = Cluster::builder()
        .workers(workers()?)
        .policy(policy(Policy::LeastConnections)?);
    // SIGTERM and SIGINT stop it, SIGHUP reloads it.
    check(&cluster.run_with(|_, event| tell(&event))?)
}

// One thread is enough where there is a process for every CPU.
#[tokio::main(flavor = "current_thread")]
async fn serve(worker: Worker) -> Result<()> {
    let listener = worker.listen(address()?).await?;
    if worker.is_alone() {
        println!("listening on {}", listener.local_addr());
    }
    let app = Router::new().route("/", get(hello)).with_state(worker.clone());
    axum::serve(listener, app)
        .with_graceful_shutdown(worker.on_drain())
        .await?;
    Ok(())
}

async fn hello(State(worker): State<Worker>) -> impl IntoResponse {
    let name = name(&worker);
    let text = format!("hello from worker {name}, process {}\n", process::id());
    ([("x-worker", name)], text)
}
