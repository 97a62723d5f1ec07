//! Why a script or an interpreter cannot be taken from where it was said to be.

use super::{ResolveError, Scope, search};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Why there is no script at `path`; `written` is how the user put it.
pub(super) fn script(path: PathBuf, written: &Path) -> ResolveError {
    if let Some(obstacle) = obstacle(&path) {
        return obstacle;
    }
    if path.is_dir() {
        return ResolveError::DirectoryWithoutMain { path };
    }
    let nearest = search::nearest(&path);
    // As the user would write it.
    let nearest = nearest.map(|name| written.with_file_name(name).display().to_string());
    ResolveError::ScriptNotFound { path, nearest }
}

/// Why there is no interpreter of this name.
pub(super) fn interpreter(scope: &Scope, name: &str, given: bool) -> ResolveError {
    let name = name.to_owned();
    if name.contains('/') {
        let path = scope.search.absolute(&name);
        if let Some(obstacle) = obstacle(&path) {
            return obstacle;
        }
        if path.is_dir() {
            return ResolveError::InterpreterUnusable {
                name,
                what: "a directory",
            };
        }
        if path.is_file() {
            return ResolveError::InterpreterUnusable {
                name,
                what: "not executable",
            };
        }
    }
    ResolveError::InterpreterNotFound { name, given }
}

/// What is in the way of `path`, if it is more than that nothing is there.
fn obstacle(path: &Path) -> Option<ResolveError> {
    let path = path.to_owned();
    match fs::metadata(&path) {
        Ok(found) if found.is_file() || found.is_dir() => None,
        Ok(_) => Some(ResolveError::NotAFile { path }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let target = fs::read_link(&path).ok()?;
            Some(ResolveError::BrokenLink { path, target })
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => None,
        Err(source) => Some(ResolveError::Unreadable { path, source }),
    }
}
