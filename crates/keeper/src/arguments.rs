//! The arguments that make a program the keeper. Hidden from users.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::check::CHECK;

/// The first argument of a keeper.
pub const KEEPER: &str = "--keeper";
const HOME: &str = "--home";
const TELL: &str = "--tell";
const RESUME: &str = "--resume";
/// Why there is another keeper.
pub(crate) const KILLED: &str = "killed";
pub(crate) const UPGRADED: &str = "upgraded";
pub(crate) const FELL_BACK: &str = "fell-back";

/// What a program that hosts a keeper was started for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// A first keeper.
    Start {
        /// `$EVERUP_HOME`.
        home: PathBuf,
        /// Standard output is a pipe whose reader wants to know how it went.
        tell: bool,
    },
    /// The keeper's state is in the descriptors that are open.
    Resume {
        /// The keeper before was killed, or has made room.
        killed: bool,
    },
    /// Say what this program speaks.
    Check,
}

impl Command {
    /// `None`: the arguments (without the program's name) are not for the keeper.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter();
        let first = arguments.next()?;
        if first == CHECK {
            return Some(Self::Check);
        }
        (first == KEEPER).then_some(())?;
        let second = arguments.next()?;
        let third = arguments.next()?;
        match second.to_str()? {
            RESUME => Some(Self::Resume {
                killed: third == KILLED,
            }),
            HOME => Some(Self::Start {
                home: third.into(),
                tell: arguments.next().is_some_and(|last| last == TELL),
            }),
            _ => None,
        }
    }
}

/// Arguments of a first keeper.
pub(crate) fn start(home: &OsStr) -> [&OsStr; 4] {
    [KEEPER.as_ref(), HOME.as_ref(), home, TELL.as_ref()]
}

/// Arguments of a keeper that goes on, with the program's name.
pub(crate) fn resume(program: &OsStr, why: &str) -> Option<Vec<CString>> {
    [
        program.as_bytes(),
        KEEPER.as_bytes(),
        RESUME.as_bytes(),
        why.as_bytes(),
    ]
    .into_iter()
    .map(|argument| CString::new(argument).ok())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Option<Command> {
        Command::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn what_is_written_is_understood() {
        let home = PathBuf::from("/a b");
        let arguments = start(home.as_os_str()).map(OsString::from);
        assert_eq!(
            Command::parse(arguments),
            Some(Command::Start { home, tell: true })
        );
        for why in [KILLED, UPGRADED, FELL_BACK] {
            let arguments = resume("/everup".as_ref(), why).unwrap();
            let arguments = arguments[1..].iter().map(|argument| argument.to_str().unwrap());
            let killed = why == KILLED;
            assert_eq!(
                parsed(&arguments.collect::<Vec<_>>()),
                Some(Command::Resume { killed })
            );
        }
        assert_eq!(parsed(&[CHECK]), Some(Command::Check));
    }

    #[test]
    fn other_arguments_are_not_ours() {
        for other in [
            &["start"] as &[&str],
            &[],
            &[KEEPER],
            &[KEEPER, HOME],
            &[KEEPER, "x", "y"],
        ] {
            assert_eq!(parsed(other), None);
        }
    }
}
