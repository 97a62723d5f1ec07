//! The conversation with a worker, from outside: what is said, in which order, and what is understood.

#![expect(clippy::unwrap_used, reason = "a failed test says enough")]

mod advanced;
mod bun;
mod child;
mod child_garbage;
mod child_handles;
mod child_servers;
mod child_simulation;
mod flight;
mod handles;
mod node_model;
mod properties;
mod queries;
mod said;
mod simulation;
mod support;
