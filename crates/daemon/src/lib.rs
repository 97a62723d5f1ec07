//! The daemon: it hosts apps, each with an engine of its own, and answers the control API.
//!
//! ```text
//! http (calls) ─▶ ops (start, stop, reload, …) ─▶ app (whose turn it is) ─▶ everup::Cluster
//!                                                   ▲                          │ events
//!                      list, why ◀── record ◀────── follow ◀───────────────────┘──▶ journal ─▶ subscribers
//! ```
//!
//! One thread runs all of it (tokio, current thread); what may wait for the system goes to other threads. Invariants: one
//! operation at a time per app; an operation goes on to its end although its caller goes away; no lock is held over a
//! wait. Must not know: arguments, terminals, config files, how a script is run ([`Launcher`]).

mod adopt;
mod app;
mod audit;
mod axm;
mod begin;
mod daemon;
mod follow;
mod home;
mod http;
mod ids;
mod journal;
mod launcher;
pub mod ledger;
mod list;
pub mod logs;
mod ops;
mod order;
mod output;
mod pids;
mod proc;
mod record;
mod remembered;
mod room;
mod sample;
mod saving;
mod serve;
mod socket;
mod state;
mod systemd;
mod target;
mod thrift;
mod told;
mod view;

pub use http::openapi;
pub use launcher::{Calls, Facts, Fired, Firing, Launcher, Prepared, Purpose, Triggers};
pub use remembered::Remembered;
pub use serve::{Config, DaemonError, kept, main};
