//! The app as it is now.

use crate::Phase;
use serde::{Deserialize, Serialize};

/// The app and its workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Status {
    /// Its name.
    pub app: String,
    /// The primary's process.
    pub pid: u32,
    /// The generation in service.
    pub generation: u64,
    /// How many workers are wanted.
    pub target: u32,
    /// How many spares are wanted.
    pub spares: u32,
    /// Since the start of the primary.
    pub uptime_ms: u64,
    /// The reload or restart that is going on.
    #[serde(default)]
    pub reload: Option<ReloadStatus>,
    /// All workers that there are, old and new.
    pub workers: Vec<WorkerStatus>,
    /// The storm of deaths that is going on.
    #[serde(default)]
    pub storm: Option<Storm>,
}

/// A reload or restart that is going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReloadStatus {
    /// The generation that it makes.
    pub generation: u64,
    /// What is being done.
    pub phase: Phase,
    /// How many slots are through.
    pub done: u32,
    /// How many slots there are.
    pub total: u32,
    /// Since it began.
    pub since_ms: u64,
}

/// Most workers died the same way within seconds: one of them is tried, the others wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Storm {
    /// Since it began; `None` if not known.
    #[serde(default)]
    pub since_ms: Option<u64>,
    /// How many died; `None` if not known.
    #[serde(default)]
    pub deaths: Option<u32>,
    /// How they died, for people: `exit code 1`.
    pub alike: String,
    /// The worker that is tried.
    #[serde(default)]
    pub probing: Option<u32>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WorkerStatus {
    /// Its number; never used again.
    pub worker: u32,
    /// Its place.
    pub slot: u32,
    /// Its process.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
    /// What it is there for.
    pub role: Role,
    /// What it does.
    pub state: WorkerState,
    /// Since its start.
    pub uptime_ms: u64,
    /// Open connections; `None` if they cannot be known: it tells of those handed over to it (workers of the crate do), or it
    /// drains and they are watched.
    #[serde(default)]
    pub connections: Option<u64>,
    /// Connections that it got in its life.
    pub accepted: u64,
    /// Bytes of memory, with its children; `None` if not known.
    #[serde(default)]
    pub memory: Option<u64>,
    /// How often its slot got a new worker after a death.
    pub restarts: u64,
    /// What it says of itself (`STATUS=`).
    #[serde(default)]
    pub status_text: Option<String>,
    /// Since it left the rotation.
    #[serde(default)]
    pub draining_ms: Option<u64>,
}

/// What a worker is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// It serves.
    Active,
    /// It waits for a death.
    Spare,
    /// It belongs to a generation that is not in service yet.
    Incoming,
    /// It finishes what it has.
    Draining,
    /// It was told to end.
    Stopping,
    /// A role of a later version.
    #[serde(other)]
    Other,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WorkerState {
    /// Its process runs; it is not ready.
    Starting,
    /// It is ready.
    Ready,
    /// Out of the rotation, finishing its connections.
    Draining,
    /// Told to end.
    Stopping,
    /// A state of a later version.
    #[serde(other)]
    Other,
}
