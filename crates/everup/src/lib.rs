//! A cluster in your own server: a primary that owns the sockets, workers that serve.
//!
//! Today this crate has the primary's side: [`Cluster::start`] runs worker processes behind shared ports, with
//! Node's cluster protocol or by `LISTEN_FDS`. `everup run` is this crate and an argument parser.
//!
//! # Theory of operation
//! One thread, the *engine*, owns everything of a cluster: listeners, channels, processes. It waits on one
//! epoll instance, turns what the kernel says into inputs of [`everup_core::app::App`] and does what that
//! machine decides. [`Cluster`] is a cheap handle that sends commands to it, [`Events`] is what it reports.
//! Nothing that is slow (a blocked terminal, a slow reader of events) runs in that thread.

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
pub use cluster::{Cluster, Events, Fork, Reload, Reloading, StartError, Stdio, TimedOut, WorkerInfo};
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
pub use message::{Handle, SendError};
pub use output::{Line, LineSink, Stream};
pub use spec::{Ask, Channel, Listen, ListenAddress, Output, Spec, StopPlan};
pub use sys::{peer, signals};
pub use worker::{
    AcceptError, Connection, DrainReason, EnvError, ListenError, Listener, Parent, UnixListener, Worker,
};
