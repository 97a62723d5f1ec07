//! Why a request was not done.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The answer to a request that was not done: the `error` object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Error {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong, in lower case.
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Error {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// Says what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What kind of error it is. The client verbs of `everup` end with the exit code that is named for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The line is not one JSON object with a `verb` (exit code 1).
    NotARequest,
    /// The line is longer than [`REQUEST_LIMIT`](crate::REQUEST_LIMIT) (exit code 2).
    TooLong,
    /// There is no such verb (exit code 2).
    UnknownVerb,
    /// The verb has no such field (exit code 2).
    UnknownField,
    /// The verb needs a field that is not there (exit code 2).
    MissingField,
    /// A field has a value that it cannot have (exit code 2).
    InvalidValue,
    /// The peer is neither root nor the user whom everup runs as (exit code 9).
    PermissionDenied,
    /// More connections than everup serves at once (exit code 9).
    Busy,
    /// A request took longer to arrive than everup waits for it (exit code 9).
    TooSlow,
    /// No worker of this number is there (exit code 10).
    UnknownWorker,
    /// The app was not started in a way that this can be done: no scheduled job, no such kind of worker (exit
    /// code 10).
    Unsupported,
    /// Something else is going on, and both at once is impossible (exit code 10).
    Conflict,
    /// The app is being stopped (exit code 10).
    Stopping,
    /// The answer is longer than [`REPLY_LIMIT`](crate::REPLY_LIMIT) (exit code 10).
    ReplyTooLong,
    /// A failure of everup or of the system (exit code 1).
    Internal,
    /// A code of a later version (exit code 10).
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// All codes that this version knows.
    pub const ALL: [Self; 15] = [
        Self::NotARequest,
        Self::TooLong,
        Self::UnknownVerb,
        Self::UnknownField,
        Self::MissingField,
        Self::InvalidValue,
        Self::PermissionDenied,
        Self::Busy,
        Self::TooSlow,
        Self::UnknownWorker,
        Self::Unsupported,
        Self::Conflict,
        Self::Stopping,
        Self::ReplyTooLong,
        Self::Internal,
    ];
}
