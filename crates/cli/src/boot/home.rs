//! `$EVERUP_HOME`, for verbs that only look there.

use super::told::Told;
use crate::verbs::Home;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the daemon keeps its things.
pub(super) fn home() -> Result<PathBuf, Told> {
    Ok(Home::find(called_pm2(std::env::args_os().take(2)))?.path)
}

/// Whether our name on this command line is `pm2`.
pub(super) fn called_pm2(mut args: impl Iterator<Item = OsString>) -> bool {
    let name = args.next().unwrap_or_default();
    Path::new(&name).file_name().is_some_and(|name| name == "pm2")
        || args.next().is_some_and(|arg| arg == "--pm2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_our_name() {
        let called = |args: &[&str]| called_pm2(args.iter().map(OsString::from));
        assert!(called(&["/usr/bin/pm2"]) && called(&["everup", "--pm2"]));
        assert!(!called(&["/usr/bin/everup", "list"]) && !called(&[]));
    }
}
