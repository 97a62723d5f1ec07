//! `$EVERUP_HOME`: where it is, by the environment alone.

use crate::exit::Exit;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::told::Told;

/// Where the daemon keeps its things.
pub(super) fn home() -> Result<PathBuf, Told> {
    let called_pm2 = called_pm2(std::env::args_os().take(2));
    decide(|name| std::env::var_os(name), called_pm2).ok_or_else(|| {
        Told::new(
            Exit::Input,
            "there is no home directory: HOME and EVERUP_HOME are not set",
        )
        .hint("set EVERUP_HOME to an absolute path")
    })
}

/// Whether our name on this command line is `pm2`.
pub(super) fn called_pm2(mut args: impl Iterator<Item = OsString>) -> bool {
    let name = args.next().unwrap_or_default();
    Path::new(&name).file_name().is_some_and(|name| name == "pm2")
        || args.next().is_some_and(|arg| arg == "--pm2")
}

fn decide(variable: impl Fn(&str) -> Option<OsString>, called_pm2: bool) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        std::path::absolute(value).ok()
    };
    absolute("EVERUP_HOME")
        .or_else(|| called_pm2.then(|| absolute("PM2_HOME")).flatten())
        .or_else(|| Some(absolute("HOME")?.join(".everup")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_environment() {
        let with = |set: &'static [(&str, &str)], pm2| {
            decide(
                |name| {
                    set.iter()
                        .find(|(known, _)| *known == name)
                        .map(|(_, value)| value.into())
                },
                pm2,
            )
        };
        let all: &[_] = &[("EVERUP_HOME", "/e"), ("PM2_HOME", "/p"), ("HOME", "/h")];
        assert_eq!(with(all, true), Some("/e".into()));
        assert_eq!(
            with(&[("PM2_HOME", "/p"), ("HOME", "/h")], true),
            Some("/p".into())
        );
        assert_eq!(
            with(&[("PM2_HOME", "/p"), ("HOME", "/h")], false),
            Some("/h/.everup".into())
        );
        assert_eq!(
            with(&[("EVERUP_HOME", ""), ("HOME", "/h")], false),
            Some("/h/.everup".into())
        );
        assert_eq!(with(&[], true), None);
    }

    #[test]
    fn by_our_name() {
        let called = |args: &[&str]| called_pm2(args.iter().map(OsString::from));
        assert!(called(&["/usr/bin/pm2"]) && called(&["everup", "--pm2"]));
        assert!(!called(&["/usr/bin/everup", "list"]) && !called(&[]));
    }
}
