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
    /// There is no such app, namespace or id (exit code 10).
    UnknownApp,
    /// An app of this name is there already (exit code 10).
    Exists,
    /// It was not done in time; what goes on is said (exit code 11).
    Timeout,
    /// A script, program, directory or file of the app is missing or cannot be used (exit code 3).
    BadInput,
    /// An address of the app could not be bound (exit code 4).
    Bind,
    /// The app was started and failed (exit code 5).
    AppFailed,
    /// A reload or restart was aborted or rolled back (exit code 8).
    ReloadFailed,
    /// A code of a later version (exit code 10).
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// The codes of the control socket of `everup run`: docs/control.md.
    pub const CONTROL: [Self; 15] = [
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

    /// All codes that this version knows: docs/errors.md.
    pub const ALL: [Self; 22] = [
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
        Self::UnknownApp,
        Self::Exists,
        Self::Timeout,
        Self::BadInput,
        Self::Bind,
        Self::AppFailed,
        Self::ReloadFailed,
    ];

    /// The HTTP status of an answer of the daemon, and the exit code of the verb that gets it.
    #[must_use]
    pub fn told_as(self) -> (u16, u8) {
        match self {
            Self::NotARequest => (400, 1),
            Self::TooLong => (413, 2),
            Self::UnknownVerb => (404, 2),
            Self::UnknownField | Self::MissingField | Self::InvalidValue => (400, 2),
            Self::PermissionDenied => (403, 9),
            Self::Busy => (503, 9),
            Self::TooSlow => (408, 9),
            Self::UnknownWorker | Self::UnknownApp => (404, 10),
            Self::Unsupported => (422, 10),
            Self::Conflict | Self::Stopping | Self::Exists => (409, 10),
            Self::ReplyTooLong => (500, 10),
            Self::Internal => (500, 1),
            Self::Timeout => (504, 11),
            Self::BadInput => (422, 3),
            Self::Bind => (409, 4),
            Self::AppFailed => (422, 5),
            Self::ReloadFailed => (422, 8),
            Self::Other => (500, 10),
        }
    }

    /// The word of the code, as in JSON.
    #[must_use]
    pub fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        word.and_then(|word| Some(word.as_str()?.to_owned()))
            .unwrap_or_default()
    }
}
