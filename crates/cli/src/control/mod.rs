//! The control socket of `everup run --control PATH`: the server's side. `docs/control.md` says what goes over it.
//!
//! [`ControlSocket`] is bound before anything starts. [`Server`] accepts, and gives each connection a thread, which
//! asks the [`Operator`]: the cluster, behind a trait. The threads own nothing but their connection.
//!
//! Invariants: nothing here can hold up the cluster: a client that is slow, silent, hostile or gone costs a thread of
//! at most 16, for a limited time. What a client asked for goes on when the client goes.

mod cluster;
mod connection;
mod operator;
mod server;
mod socket;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use cluster::Ours;
pub(crate) use operator::Operator;
pub(crate) use server::Server;
pub(crate) use socket::{ControlError, ControlSocket};
