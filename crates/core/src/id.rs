//! Names of things, as small copyable numbers.

use std::fmt;

/// A worker of a cluster: 1, 2, 3, … in the order of forking, never reused. Node's `cluster.worker.id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct WorkerId(pub u32);

/// The place that a worker fills: 0 to N-1. A worker that dies is replaced in its slot, so the number in
/// `NODE_APP_INSTANCE` stays within 0..N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Slot(pub u32);

/// A listening endpoint that the primary holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct EndpointId(pub u32);

/// Something with a descriptor that the driver holds: a connection, a listener, a handle of the user's.
///
/// Core never sees the descriptor itself. Tokens are never reused within one primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Token(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
