//! Finding a program as a shell would.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
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

/// The program of this process, by the path by which it was started if that leads there: a symbolic link in it is
/// to be followed anew whenever it is started again. Else by its own path, also if the file there was replaced.
///
/// # Errors
/// What the system says: without `/proc`, nobody knows.
pub(crate) fn own() -> io::Result<PathBuf> {
    let running = without_mark(std::env::current_exe()?);
    let started = std::env::args_os()
        .next()
        .and_then(|name| by_name(Path::new(&name)));
    let same = |path: &PathBuf| path.canonicalize().is_ok_and(|real| real == running);
    Ok(started.filter(same).unwrap_or(running))
}

fn by_name(name: &Path) -> Option<PathBuf> {
    let env: Vec<_> = std::env::vars_os().collect();
    std::path::absolute(find(name, &env)).ok()
}

/// The kernel adds this to the path of a file that is no longer there.
fn without_mark(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_encoded_bytes().strip_suffix(b" (deleted)") {
        Some(bytes) if !path.exists() => PathBuf::from(OsString::from_vec(bytes.to_vec())),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_file_is_known_by_the_path_that_it_had() {
        let path = |text: &str| without_mark(PathBuf::from(text));
        assert_eq!(path("/no/such/app (deleted)"), PathBuf::from("/no/such/app"));
        assert_eq!(path("/no/such/app"), PathBuf::from("/no/such/app"));
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("app (deleted)");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(without_mark(odd.clone()), odd);
    }
}
