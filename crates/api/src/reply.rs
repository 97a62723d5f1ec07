//! What comes back: the envelope, and the small answers.

use crate::{Error, Progress};
use serde::{Deserialize, Serialize};

/// One line of an answer, around an `ok` of type `T`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reply<T> {
    /// It goes on; more lines follow.
    Progress(Progress),
    /// It was done. The last line.
    Ok(T),
    /// It was not done. The last line.
    Error(Error),
}

/// The answer to `ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The primary's process.
    pub pid: u32,
    /// The name of the app.
    pub app: String,
    /// The version of everup.
    pub version: String,
    /// The version of the protocol: [`PROTOCOL`](crate::PROTOCOL).
    #[serde(default)]
    pub protocol: u32,
}

/// The answer to `abort`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    /// Whether there was something to abort.
    pub aborted: bool,
}

/// The answer to `scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaled {
    /// How many workers were wanted.
    pub from: u32,
    /// How many are wanted now.
    pub to: u32,
    /// How many are ready.
    pub ready: u32,
}

/// The answer to `stop`: it has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Always true.
    pub stopping: bool,
}

/// The answer to `reopen`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reopened {
    /// How many files.
    pub reopened: u32,
    /// For people.
    pub message: String,
}

/// The answer to `signal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    /// How many workers got it.
    pub sent: u32,
}

/// The answer to `launch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// Whether it was started; `false` if it runs already.
    pub launched: bool,
    /// For people.
    pub message: String,
}
