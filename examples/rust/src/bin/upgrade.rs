//! A server that replaces itself by its next version, on the same port, without a failed request.
//!
//! ```text
//! cargo build -p everup-examples --bin upgrade && target/debug/upgrade    PORT, WORKERS, POLICY
//! curl http://127.0.0.1:3000/                     VERSION, as compiled in
//! # change VERSION below, then
//! cargo build -p everup-examples --bin upgrade    puts another file in the place of the running one
//! kill -HUP PID                                   the primary starts workers from the new file, then lets the old go
//! curl http://127.0.0.1:3000/                     the new VERSION
//! ```
//!
//! The primary remembers the path of its own executable, not the file: after a new one was renamed there, a reload runs
//! the new code. If that does not come up, the reload is called off and the old workers stay. The primary itself goes on
//! with its old code; it serves nobody.

use std::process;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use everup::{Cluster, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};

/// Change it, build, reload.
const VERSION: &str = "the first version of the example upgrade";

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
    let app = Router::new().route("/", get(version)).with_state(worker.clone());
    axum::serve(listener, app)
        .with_graceful_shutdown(worker.on_drain())
        .await?;
    Ok(())
}

async fn version(State(worker): State<Worker>) -> Response {
    let name = name(&worker);
    let text = format!("{VERSION}, worker {name}, process {}\n", process::id());
    ([("x-worker", name.as_str()), ("x-version", VERSION)], text).into_response()
}
