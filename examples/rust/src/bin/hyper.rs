//! hyper without a framework: its own accept loop, and its own graceful end.
//!
//! ```text
//! cargo run -p everup-examples --bin hyper    PORT, WORKERS, POLICY
//! curl http://127.0.0.1:3000/
//! ```
//!
//! `Stream` is what hyper reads and writes; no adapter is needed (feature `hyper`). The accept loop ends by itself when
//! the worker drains and every connection that was given to it has been taken.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::process;
use std::time::Duration;

use anyhow::Result;
use everup::worker::AcceptError;
use everup::{Cluster, Policy, Worker};
use everup_examples::{address, check, name, policy, tell, workers};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, http};
use hyper_util::rt::TokioTimer;
use hyper_util::server::graceful::GracefulShutdown;

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
    let connections = GracefulShutdown::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(AcceptError::Drained) => break,
            Err(error) => {
                // Out of descriptors, say: others have them, and may give some back.
                eprintln!("worker {name}: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let service = {
            let worker = worker.clone();
            move |request| hello(worker.clone(), request)
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(stream, service_fn(service));
        let connection = connections.watch(connection);
        let name = name.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("worker {name}: {error}");
            }
        });
    }
    // Requests that have begun are answered; idle connections are closed.
    connections.shutdown().await;
    Ok(())
}

async fn hello(worker: Worker, request: Request<Incoming>) -> http::Result<Response<String>> {
    let path = request.uri().path();
    let name = name(&worker);
    let text = format!("{path} from worker {name}, process {}\n", process::id());
    Response::builder().header("x-worker", name).body(text)
}
