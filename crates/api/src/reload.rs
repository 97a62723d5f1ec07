//! A reload or restart: how it goes, and its receipt.

use serde::{Deserialize, Serialize};

/// How far a reload or restart is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// How many slots are through.
    pub done: u32,
    /// How many slots there are.
    pub total: u32,
    /// For people.
    pub message: String,
}

/// What a reload or restart is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// It waits for something else to end.
    Waiting,
    /// New workers boot.
    Starting,
    /// The first new worker is being watched.
    Canary,
    /// New workers take the place of old ones.
    Rolling,
    /// The old generation comes back.
    RollingBack,
    /// Old workers finish what they have.
    Draining,
    /// Workers are being stopped (restart).
    Stopping,
    /// A phase of a later version.
    #[serde(other)]
    Other,
}

/// What a reload or restart came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Receipt {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it was not done.
    #[serde(default)]
    pub reason: Option<String>,
    /// The generation that it made, or wanted to make.
    pub generation: u64,
    /// What it was: `reload`, `restart`, `cron`, `watch`.
    pub cause: String,
    /// What became of each slot.
    pub workers: Vec<Replaced>,
    /// From the request to the end.
    pub duration_ms: u64,
    /// Connections that went from an old worker to a new one.
    pub connections_moved: u64,
    /// Requests without an answer; `None` if that could not be known.
    pub requests_lost: Option<u64>,
    /// Connections that ended with a worker that was killed: an answer may have been under way.
    #[serde(default)]
    pub connections_cut: u64,
    /// Why it could not be known.
    #[serde(default)]
    pub lost_unknown_because: Option<String>,
    /// Connections that the kernel dropped because a queue was full; `None` if that could not be known.
    #[serde(default)]
    pub queue_overflows: Option<u64>,
    /// Old workers that still finish what they have.
    pub still_draining: u32,
}

/// How a reload or restart ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Every slot has a new worker.
    Done,
    /// It was given up; the old generation is as it was.
    Aborted,
    /// It failed on the way; the old generation is back.
    RolledBack,
    /// The app was stopped meanwhile.
    Stopped,
    /// An outcome of a later version.
    #[serde(other)]
    Other,
}

/// A slot in a [`Receipt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Replaced {
    /// The slot.
    pub slot: u32,
    /// Who was there.
    #[serde(default)]
    pub old_worker: Option<u32>,
    /// Its process.
    #[serde(default)]
    pub old_pid: Option<u32>,
    /// Who is there now, if anybody.
    #[serde(default)]
    pub new_worker: Option<u32>,
    /// Its process.
    #[serde(default)]
    pub new_pid: Option<u32>,
    /// From the start of the new one until it was ready.
    #[serde(default)]
    pub boot_ms: Option<u64>,
    /// From leaving the rotation until the old one's end; `None` while it still drains.
    #[serde(default)]
    pub drain_ms: Option<u64>,
    /// Whether the old one had to be killed.
    #[serde(default)]
    pub forced: bool,
    /// Whether the new one was given up again, for one of the old generation.
    #[serde(default)]
    pub reverted: bool,
}
