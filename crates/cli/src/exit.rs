//! The exit codes of `everup`: one enum, from which `--help` and `docs/exit-codes.md` are checked.

use everup_api::ErrorCode;

/// How an invocation of `everup` ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, or stopped as asked.
    Ok = 0,
    /// A failure that is not the user's.
    Unexpected = 1,
    /// An option or a value is wrong.
    Usage = 2,
    /// A file or program is missing or cannot be used.
    Input = 3,
    /// An address of `--listen` could not be bound.
    Bind = 4,
    /// The app kept dying.
    Failed = 5,
    /// Stopped, but not gracefully.
    Killed = 6,
    /// The pid file or the control socket belongs to a live process.
    PidFile = 7,
    /// A reload or restart was not done.
    Reload = 8,
    /// Nobody could be reached at the control socket, or not in time.
    NoAnswer = 9,
    /// The running everup says that it cannot do it.
    Refused = 10,
    /// The daemon was not done in time.
    NotInTime = 11,
    /// Ctrl-C while the daemon worked.
    Interrupted = 130,
}

impl Exit {
    /// All codes, in order.
    pub(crate) const ALL: [Self; 13] = [
        Self::Ok,
        Self::Unexpected,
        Self::Usage,
        Self::Input,
        Self::Bind,
        Self::Failed,
        Self::Killed,
        Self::PidFile,
        Self::Reload,
        Self::NoAnswer,
        Self::Refused,
        Self::NotInTime,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// For an answer that says no.
    pub(crate) fn of(code: ErrorCode) -> Self {
        let (_, number) = code.told_as();
        let mut all = Self::ALL.into_iter();
        all.find(|exit| exit.code() == number).unwrap_or(Self::Refused)
    }

    /// One line for `--help` and the docs.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "stopped as asked",
            Self::Unexpected => "unexpected failure of everup",
            Self::Usage => "wrong usage: an option or a value",
            Self::Input => "script, interpreter, env file or directory missing or unusable",
            Self::Bind => "an address of --listen could not be bound",
            Self::Failed => "the app failed: its workers kept dying and the restart budget is spent",
            Self::Killed => "stopped as asked, but some workers had to be killed",
            Self::PidFile => "the pid file or the control socket is held by a live process",
            Self::Reload => "a reload or restart was aborted, rolled back or otherwise not done",
            Self::NoAnswer => "no everup answers at the control socket, or not in time, or not to you",
            Self::Refused => "the running everup could not do what it was asked",
            Self::NotInTime => "it was not done in time; what was not done, and what goes on, is said",
            Self::Interrupted => "interrupted; the daemon goes on with what it was asked for",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorCode, Exit};

    #[test]
    fn every_code_of_an_error_is_one_of_ours() {
        for code in ErrorCode::ALL {
            assert_eq!(Exit::of(code).code(), code.told_as().1, "{code:?}");
        }
    }

    #[test]
    fn the_document_has_a_row_for_each_code() {
        let document = include_str!("../../../docs/exit-codes.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(document.contains(&row), "docs/exit-codes.md has no row `{row}`");
        }
    }
}
