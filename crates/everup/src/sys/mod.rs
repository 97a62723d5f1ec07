//! The only place with `unsafe`: system calls that `rustix` does not offer safely.
//!
//! - [`spawn`]: fork and exec with a chosen descriptor table.
//! - [`pidfd`]: any signal to a process by its descriptor.
//! - [`signals`]: blocking signals, and reading them as descriptors.
//! - [`datagram`]: a datagram with its sender's pid.
//! - [`tcp`]: what the kernel knows of a connection.
//!
//! Must not know: clusters, workers, policies.
#![expect(
    unsafe_code,
    reason = "fork, exec, signal masks, a sender's credentials and TCP_INFO have no safe interface"
)]

pub(crate) mod datagram;
pub(crate) mod pidfd;
pub mod signals;
pub(crate) mod spawn;
pub(crate) mod tcp;
