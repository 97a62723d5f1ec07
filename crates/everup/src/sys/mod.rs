//! The only place with `unsafe`: system calls that `rustix` does not offer safely.
//!
//! - [`spawn`]: fork and exec with a chosen descriptor table.
//! - [`signals`]: blocking signals, and reading them as descriptors.
//!
//! Must not know: clusters, workers, policies.
#![expect(unsafe_code, reason = "fork, exec and signal masks have no safe interface")]

pub mod signals;
pub(crate) mod spawn;
