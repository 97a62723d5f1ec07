//! The only place with `unsafe`: system calls that `rustix` does not offer safely.
//!
//! - [`confine`]: a worker's limits and identity, between fork and exec.
//! - [`spawn`]: fork and exec with a chosen descriptor table.
//! - [`peer`]: who is at the other end of a UNIX socket.
//! - [`pidfd`]: any signal to a process by its descriptor.
//! - `readiness`: a descriptor that tokio watches.
//! - [`signals`]: blocking signals, and reading them as descriptors.
//! - [`inherited`]: descriptors and variables that this process was started with.
//! - [`heap`]: the C library's heap.
//! - [`datagram`]: a datagram with its sender's pid.
//! - [`tcp`]: what the kernel knows of a connection.
//! - [`users`]: the system's users and groups.
//!
//! Miri knows none of these system calls. What it can run, it does: the reading of control messages ([`datagram`]'s tests,
//! part of `./test soak`). There is no lock-free code in this crate to be explored by loom: shared state is behind a
//! mutex ([`crate::worker`]'s link, [`crate::roster`]), waiting is tokio's `Notify` and `watch`.
//!
//! Must not know: clusters, workers, policies.
#![expect(
    unsafe_code,
    reason = "fork, exec, signal masks, a sender's credentials, TCP_INFO, the C library's heap, the user database and inherited descriptors have no safe interface"
)]

pub(crate) mod confine;

pub(crate) mod datagram;
pub mod heap;
pub(crate) mod inherited;
pub mod peer;
pub(crate) mod pidfd;
#[cfg(feature = "tokio")]
pub(crate) mod readiness;
pub mod signals;
pub(crate) mod spawn;
pub(crate) mod tcp;
pub(crate) mod users;
