//! Why a verb was not done, in words, as JSON, and as an exit code.

use crate::error::{CliError, reason};
use crate::exit::Exit;
use crate::output::paint;
use crate::terminal::{colour_wanted, harmless};
use everup_api::{ClientError, ErrorCode};
use serde_json::{Value, json};
use std::io::{self, IsTerminal};

/// Why it was not done.
#[derive(Debug)]
pub(super) enum AskError {
    Usage(CliError),
    /// Nobody said whom to ask.
    NoSocket,
    Client(ClientError),
}

impl From<ClientError> for AskError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl AskError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::NoSocket => Exit::Usage,
            Self::Client(ClientError::Refused(error)) => exit_of(error.code),
            Self::Client(_) => Exit::NoAnswer,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let colour = io::stderr().is_terminal() && colour_wanted();
        let label = |number, text: &str| {
            if colour {
                paint(number, text)
            } else {
                text.to_owned()
            }
        };
        let mut text = format!("{} {}", label(31, "error:"), harmless(&self.message()));
        if let Some(hint) = self.hint() {
            text.push_str(&format!("\n  {} {}", label(36, "hint:"), harmless(&hint)));
        }
        text
    }

    /// For programs; as an answer of everup would be.
    pub(super) fn json(&self) -> Value {
        let code = match self {
            Self::Usage(_) | Self::NoSocket => json!("usage"),
            Self::Client(ClientError::Refused(error)) => json!(error.code),
            Self::Client(ClientError::TimedOut(_)) => json!("timed_out"),
            Self::Client(_) => json!("no_answer"),
        };
        json!({"error": {"code": code, "message": self.message(), "hint": self.hint()}})
    }

    fn message(&self) -> String {
        match self {
            Self::Usage(error) => error.message(),
            Self::NoSocket => "no control socket is named".into(),
            Self::Client(error) => match std::error::Error::source(error) {
                Some(source) => {
                    let words = source.downcast_ref().map_or_else(|| source.to_string(), reason);
                    format!("{error}: {words}")
                }
                None => error.to_string(),
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(error) => error.hint(),
            Self::NoSocket => Some(
                "give --control PATH or set EVERUP_CONTROL, as in `everup run --control PATH`; without a socket, \
                 SIGTERM stops an everup"
                    .into(),
            ),
            Self::Client(ClientError::Connect { source, .. }) => connect_hint(source).map(str::to_owned),
            Self::Client(ClientError::TimedOut(_)) => Some(
                "what was asked for may go on: see `everup status`; --timeout may be longer, or 0".into(),
            ),
            Self::Client(ClientError::Closed) => Some("it has probably ended: read what it wrote".into()),
            Self::Client(ClientError::Refused(error)) => error.hint.clone(),
            Self::Client(_) => None,
        }
    }
}

fn connect_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::NotFound => Some("is the app running, with `everup run --control` and this path?"),
        io::ErrorKind::ConnectionRefused => {
            Some("nobody listens there: it is no socket, or one that a killed everup has left behind")
        }
        io::ErrorKind::PermissionDenied => Some("ask as root, or as the user whom it runs as"),
        io::ErrorKind::InvalidFilename => Some("a socket's path has at most 107 bytes"),
        _ => None,
    }
}

/// As `docs/control.md` has it.
fn exit_of(code: ErrorCode) -> Exit {
    Exit::of(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_the_exit_codes() {
        let document = include_str!("../../../../../docs/control.md");
        for code in ErrorCode::CONTROL {
            let word = serde_json::to_string(&code).unwrap();
            let start = format!("| `{}` | ", word.trim_matches('"'));
            let row = document.lines().find(|line| line.starts_with(&start)).unwrap();
            let end = format!(" | {} |", exit_of(code).code());
            assert!(row.ends_with(&end), "{row} does not end with {end}");
        }
    }
}
