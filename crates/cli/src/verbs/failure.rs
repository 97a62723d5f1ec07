//! Why a verb was not done: in words, as JSON, in pm2's words, and as an exit code.

use crate::error::{CliError, reason};
use crate::exit::Exit;
use crate::terminal::harmless;
use everup_api::v1::CallError;
use serde_json::{Value, json};
use std::io;

/// See the module's documentation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerbError {
    #[error(transparent)]
    Usage(#[from] CliError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("interrupted: the daemon goes on with it")]
    Interrupted,
    #[error("there is no home directory for the daemon")]
    NoHome,
    #[error("could not start the daemon: {why}")]
    NotStarted {
        why: String,
        /// Another home would help.
        home: bool,
    },
    /// A file of apps is wrong.
    #[error("{}", super::files::in_words(.0))]
    File(Box<everup_config::ConfigError>),
    /// Something else, with its hint and its end.
    #[error("{message}")]
    Said {
        message: String,
        hint: Option<String>,
        exit: Exit,
    },
}

impl VerbError {
    /// The command line says something that cannot be.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::said(Exit::Usage, message, Some(hint.into()))
    }

    pub(crate) fn said(exit: Exit, message: impl Into<String>, hint: Option<String>) -> Self {
        Self::Said {
            message: message.into(),
            hint,
            exit,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(error) => error.exit(),
            Self::Call(CallError::Refused(error)) => Exit::of(error.code),
            Self::Call(CallError::TimedOut(_)) => Exit::NotInTime,
            Self::Call(_) => Exit::NoAnswer,
            Self::Interrupted => Exit::Interrupted,
            Self::NoHome | Self::NotStarted { .. } | Self::File(_) => Exit::Input,
            Self::Said { exit, .. } => *exit,
        }
    }

    /// Harmless to a terminal; one line, but for what is wrong in a file.
    pub(crate) fn message(&self) -> String {
        let text = match self {
            Self::Usage(error) => error.message(),
            Self::Call(error) => match std::error::Error::source(error) {
                Some(source) => {
                    let words = source.downcast_ref().map_or_else(|| source.to_string(), reason);
                    format!("{error}: {words}")
                }
                None => error.to_string(),
            },
            _ => self.to_string(),
        };
        let lines: Vec<String> = text.lines().map(harmless).collect();
        lines.join("\n")
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage(error) => error.hint()?,
            Self::Call(CallError::Refused(error)) => error.hint.clone()?,
            Self::Call(CallError::NotRunning { source, .. }) => not_running(source).into(),
            Self::Call(CallError::NotAllowed { .. }) => {
                "it belongs to another user: ask as that user or as root, or set EVERUP_HOME to a directory of your own"
                    .into()
            }
            Self::Call(CallError::TimedOut(_)) => {
                "what was asked for may go on: see `everup list`; --timeout may be longer, or 0".into()
            }
            Self::Call(CallError::Lost) => "whether it was done is not known: see `everup list`".into(),
            Self::Call(CallError::TooOld(_)) => "replace the running daemon: `everup upgrade`".into(),
            Self::Call(_) => return None,
            Self::Interrupted => "see `everup list`; `everup abort` gives up a reload".into(),
            Self::NoHome => "set EVERUP_HOME to a directory of your own".into(),
            Self::NotStarted { home: true, .. } => "set EVERUP_HOME to a directory that you may write to".into(),
            Self::NotStarted { .. } => return None,
            Self::File(error) => error.hint()?.to_owned(),
            Self::Said { hint, .. } => hint.clone()?,
        };
        Some(harmless(&hint))
    }

    /// For programs; as an answer of the daemon would be.
    pub(crate) fn json(&self) -> Value {
        let code = match self {
            Self::Call(CallError::Refused(error)) => json!(error.code),
            Self::Call(CallError::TimedOut(_)) => json!("timed_out"),
            Self::Call(_) => json!("no_answer"),
            Self::Usage(_) => json!("usage"),
            Self::Interrupted => json!("interrupted"),
            Self::NoHome | Self::NotStarted { .. } => json!("not_started"),
            Self::File(_) => json!("invalid_file"),
            Self::Said {
                exit: Exit::Usage, ..
            } => json!("usage"),
            Self::Said {
                exit: Exit::NoAnswer, ..
            } => json!("no_answer"),
            Self::Said { .. } => json!("refused"),
        };
        json!({"error": {"code": code, "message": self.message(), "hint": self.hint()}})
    }
}

fn not_running(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidFilename => {
            "a socket's path has at most 107 bytes: set EVERUP_SOCKET to a shorter one"
        }
        _ => {
            "no daemon runs for this EVERUP_HOME: `everup start` starts one, and `everup resurrect` what was saved"
        }
    }
}
