//! One axum hello server, run in every way that `bench/run --only crate` compares.
//!
//! Job: the same routes and the same graceful shutdown each time; only where connections come from differs, and the
//! number of processes and threads.
//!
//! - `bench-axum everup POLICY PORT N`: a primary of the library and N workers of one thread each.
//! - `bench-axum reuseport PORT`: one process of one thread, to be started several times. Without everup.
//! - `bench-axum one PORT N`: one process with N threads. Without everup.

use axum::Router;
use axum::routing::get;
use everup::{Cluster, Policy, Worker};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: bench-axum everup POLICY PORT N | reuseport PORT | one PORT N";
const BACKLOG: u32 = 511;

fn main() -> Result<()> {
    if let Some(worker) = Worker::from_env()? {
        let port = std::env::args().nth(3).ok_or(USAGE)?.parse()?;
        return one_thread()?.block_on(work(&worker, port));
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["everup", policy, _, count] => everup(policy_named(policy)?, count.parse()?),
        ["reuseport", port] => one_thread()?.block_on(alone(port.parse()?, true)),
        ["one", port, count] => threads(count.parse()?)?.block_on(alone(port.parse()?, false)),
        _ => Err(USAGE.into()),
    }
}

/// The primary.
fn everup(policy: Policy, workers: u32) -> Result<()> {
    let (cluster, events) = Cluster::builder().workers(workers).policy(policy).start()?;
    drop(events);
    cluster.run_until_signal()?;
    Ok(())
}

/// A worker of it.
async fn work(worker: &Worker, port: u16) -> Result<()> {
    let listener = worker.listen(everywhere(port)).await?;
    axum::serve(listener, app())
        .with_graceful_shutdown(worker.on_drain())
        .await?;
    Ok(())
}

/// A server that knows nothing of everup.
async fn alone(port: u16, shares: bool) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shares)?;
    socket.bind(everywhere(port))?;
    let listener: TcpListener = socket.listen(BACKLOG)?;
    let mut asked = signal(SignalKind::terminate())?;
    let asked = async move {
        asked.recv().await;
    };
    axum::serve(listener, app()).with_graceful_shutdown(asked).await?;
    Ok(())
}

fn app() -> Router {
    let me = std::process::id().to_string();
    Router::new().route(
        "/",
        get(move || async move { ([("x-worker", me)], "Hello world\n") }),
    )
}

fn one_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn threads(count: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(count)
        .enable_all()
        .build()
}

fn everywhere(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

fn policy_named(name: &str) -> Result<Policy> {
    match name {
        "least-connections" => Ok(Policy::LeastConnections),
        "round-robin" => Ok(Policy::RoundRobin),
        "shared" => Ok(Policy::Shared),
        "reuseport" => Ok(Policy::ReusePort),
        _ => Err(USAGE.into()),
    }
}
