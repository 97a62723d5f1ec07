//! A cluster in your own server: what `require('cluster')` is to Node, for Rust. One program is the primary, which owns
//! the sockets, and the workers, which serve: one process per CPU behind one port. A worker that dies is replaced, a
//! reload loses no request.
//!
//! ```no_run
//! use everup::{Cluster, Worker, Workers};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // First, while there is one thread: takes the channel, and its variables out of the environment.
//!     if let Some(worker) = Worker::from_env()? {
//!         return serve(&worker);
//!     }
//!     // The workers are this same program. SIGHUP reloads, SIGTERM and SIGINT stop gracefully.
//!     Cluster::builder().workers(Workers::PerCpu).run()?;
//!     Ok(())
//! }
//!
//! fn serve(worker: &Worker) -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = worker.listen_blocking("127.0.0.1:3000")?;
//!     while let Ok((stream, client)) = listener.accept_blocking() {
//!         // ... answer on `stream`
//!         drop((stream, client));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! With axum (feature `axum`) a worker is two lines:
//!
//! ```no_run
//! # #[cfg(feature = "axum")]
//! # async fn serve(worker: everup::Worker, app: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = worker.listen("127.0.0.1:3000").await?;
//! axum::serve(listener, app).with_graceful_shutdown(worker.on_drain()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Complete programs (axum, hyper, actix-web, gRPC, raw TCP, UDP, WebSocket, a server that replaces itself) are in the
//! repository's `examples/rust`. How each part of Node's module is spelled here: `docs/node-parity.md`.
//!
//! # What runs as what
//!
//! | primary | workers | how |
//! |---|---|---|
//! | this crate | the same program | [`Cluster::builder`] |
//! | this crate | another program, a Node script, or both at once | [`Builder::program`], [`Builder::node`], [`Fork`] |
//! | `everup run --channel node PROGRAM` | a program with [`Worker::from_env`] | the same engine, from a command line |
//! | Node's own `cluster` | a program with [`Worker::from_env`] | `process.execPath = PROGRAM` before `cluster.fork()` |
//! | none | the same program alone | [`Worker::alone`] |
//!
//! Rust and Node workers may share a port (`listen(3000_u16)` here is `listen(3000)` there), and exchange messages and
//! sockets with the primary.
//!
//! # Theory of operation
//!
//! **Primary.** One thread, the *engine*, owns everything of a cluster: listeners, channels, processes. It waits on one
//! epoll instance, turns what the kernel says into inputs of a pure state machine (the crate `everup-core`) and does what
//! that machine decides. [`Cluster`] is a cheap handle that sends commands to it, [`Events`] is what it reports. Nothing
//! that is slow (a blocked terminal, a slow reader of events) runs in that thread. No async runtime is needed; what can
//! be waited for asynchronously works in any.
//!
//! **Worker.** One thread reads the channel, so that the primary is heard at once, however busy the app is; everybody
//! writes to it directly. [`Worker::listen`] asks the primary, and the [`Policy`] decides what a [`Listener`] is:
//!
//! | policy | the listener is | `into_std` |
//! |---|---|---|
//! | `LeastConnections` (default), `RoundRobin` | a queue that the primary fills with connections | no |
//! | `Shared` | the one socket of all workers | yes |
//! | `ReusePort` | the socket of this worker's slot, and a queue for what the primary rescues from others | yes |
//!
//! **Who owns a connection.** The primary, until the worker's app takes it from [`Listener::accept`]: that is when
//! `accepted` is said. If a worker dies before, or drains, another worker gets the connection. What the app has taken dies
//! with it. When a [`Connection`] is dropped the primary hears of it, so that `least-connections` counts what is open.
//!
//! **Leaving.** A reload, a stop or SIGTERM: the worker leaves the rotation first. What was handed over an instant before
//! is still taken, and read from once, for at most 250 ms. Then [`Worker::on_drain`] is done, listeners give nothing more
//! ([`AcceptError::Drained`]), what still waits in them goes to other workers, the app finishes what it has begun and
//! returns from `main`. A worker that takes too long is killed ([`StopPlan`]). When the primary dies,
//! its workers are killed with it by the kernel; under Node's primary they drain ([`DrainReason::PrimaryGone`]).
//!
//! # Errors and limits
//!
//! One error type for each kind of operation: [`EnvError`], [`ListenError`], [`AcceptError`], [`SendError`],
//! [`StartError`], [`RunError`]. A message has at most [`message::MESSAGE_LIMIT`] bytes; at most 256 MiB wait for somebody who does not
//! read, in either direction, then sending fails; a worker's inbox keeps [`worker::INBOX_LIMIT`] bytes and counts what it
//! did not keep.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `tokio` (default) | [`Listener::accept`], UDP sockets and [`Connection`] for tokio |
//! | `axum` | [`Listener`] and [`UnixListener`] for `axum::serve` |
//! | `hyper` | [`Connection`] as hyper's `Read` and `Write` |
//!
//! Without features there are the blocking calls, and futures that any executor can run.
//!
//! # What there is once per process
//!
//! There may be any number of clusters in a process, and nothing in the crate is global but what the process itself has
//! once: the environment's channel ([`Worker::from_env`] gives it once), signal handlers (installed by
//! [`Worker::on_drain`], [`Builder::run`] and [`Cluster::run_until_signal`] when they are called), and the reaping of orphans
//! ([`Spec::init`], for one cluster at a time).
//!
//! Linux only, from kernel 5.11 on.

mod bind;
mod builder;
mod cgroup;
mod channel;
pub mod cluster;
mod confine;
mod conflict;
pub mod cpus;
mod drain;
mod driver;
pub mod estate;
pub mod event;
mod handle;
pub mod health;
pub mod history;
pub mod limits;
pub mod message;
mod meter;
mod notify;
mod oom;
pub mod output;
mod poller;
mod probe;
mod process;
mod program;
mod roster;
pub mod spec;
mod sys;
mod wait;
pub mod worker;

pub use builder::{Builder, Workers};
pub use cluster::{
    AskedStatus, Cluster, Events, Fork, Reload, Reloading, RunError, StartError, Stdio, TimedOut, WorkerInfo,
};
pub use conflict::{Conflict, MAX_WORKERS};
pub use event::{Address, Death, Event, ExitReason, Outcome, ReadyBasis};
pub use everup_core::app::{ReloadStatus, Role, Status, WorkerStatus};
pub use everup_core::cause::Cause;
pub use everup_core::exit::{ExitStatus, signal_name, signal_number};
pub use everup_core::id::{Slot, WorkerId};
pub use everup_core::reload::{Change, Phase, Receipt, Rollout, Verdict};
pub use everup_core::restart::{Budget, RestartPolicy, When};
pub use everup_core::schedule::Policy;
pub use everup_core::wire::{HandleKind, Serialization};
pub use everup_core::worker::State;
pub use handle::WorkerHandle;
pub use health::{HealthSpec, ProbePlan, ReadySign};
pub use history::{ExitRecord, Sequel};
pub use limits::Limits;
pub use message::{Handle, InputError, SendError};
pub use output::{Line, LineSink, Stream};
pub use spec::{Ask, Channel, Listen, ListenAddress, OpenOutput, Output, Spec, StopPlan};
pub use sys::inherited::possess;
pub use sys::{heap, peer, signals};
pub use worker::{
    AcceptError, Connection, DrainReason, EnvError, ListenError, Listener, Parent, UnixListener, Worker,
};
