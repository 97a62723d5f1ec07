//! How these verbs end: an exit code, or an error with what to do next.

use crate::error;
use crate::exit::Exit;
use crate::output::paint;
use crate::terminal::{colour_wanted, harmless};
use crate::verbs::VerbError;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// What a verb ends with.
pub(super) type Outcome = Result<Exit, Told>;

/// Why a verb was not done.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) exit: Exit,
}

impl Told {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit,
        }
    }

    /// A file that could not be used.
    pub(super) fn file(what: &str, path: &Path, source: &io::Error) -> Self {
        let told = Self::new(
            Exit::Input,
            format!("could not {what} {}: {}", path.display(), error::reason(source)),
        );
        match source.kind() {
            io::ErrorKind::PermissionDenied => told.hint("it belongs to somebody else: look with `ls -ld`"),
            io::ErrorKind::ReadOnlyFilesystem => {
                told.hint("name a directory that can be written with EVERUP_HOME")
            }
            _ => told,
        }
    }

    /// Says what to do next.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<VerbError> for Told {
    fn from(error: VerbError) -> Self {
        Self {
            message: error.message(),
            hint: error.hint(),
            exit: error.exit(),
        }
    }
}

/// Tells the error, if there is one.
pub(super) fn tell(outcome: Outcome, pm2: bool) -> Exit {
    let told = match outcome {
        Ok(exit) => return exit,
        Err(told) => told,
    };
    let colour = io::stderr().is_terminal() && colour_wanted();
    let label = |number, text: &str| match colour {
        true => paint(number, text),
        false => text.to_owned(),
    };
    let head = if pm2 {
        "[PM2][ERROR]".into()
    } else {
        label(31, "error:")
    };
    let mut text = format!("{head} {}\n", harmless(&told.message));
    if let Some(hint) = &told.hint {
        text.push_str(&format!("  {} {}\n", label(36, "hint:"), harmless(hint)));
    }
    io::stderr().write_all(text.as_bytes()).ok();
    told.exit
}

/// Writes to standard output; a reader that went away is no failure.
pub(super) fn say(text: &str) {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}
