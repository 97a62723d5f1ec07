//! The decisions of everup, as pure state machines.
//!
//! Job: decide what happens next (who is started, who gets a connection, what is written on a channel) from
//! what has happened. Each machine has the shape `handle(now, input) -> actions`; the `everup` crate performs
//! the actions and reports back.
//!
//! Must not know: descriptors (they are [`id::Token`]s here), the clock (time is passed in), randomness,
//! processes, files, sockets, threads, logs.

pub mod app;
pub mod cause;
pub mod dispatch;
pub mod drain;
pub mod endpoint;
pub mod exit;
pub mod health;
pub mod id;
pub mod jitter;
pub mod notify;
pub mod reload;
pub mod restart;
pub mod schedule;
pub mod steer;
pub mod storm;
pub mod time;
pub mod wire;
pub mod worker;
