//! Finding a program as a shell would.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The program itself if its name has a slash, else the first of that name in the `PATH` of `env`; the bare name if
/// there is none, for the system to complain about.
pub(crate) fn find(program: &Path, env: &[(OsString, OsString)]) -> PathBuf {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return program.to_owned();
    }
    let path = env
        .iter()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value.clone())
        .unwrap_or_default();
    let runnable = |candidate: &PathBuf| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file() && runnable(candidate))
        .unwrap_or_else(|| program.to_owned())
}
