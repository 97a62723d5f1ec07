//! Finding files and programs, as a worker with its directory and `PATH` will find them.

use rustix::fs::{Access, access};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// Where to look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// The workers' directory, absolute.
    pub(crate) cwd: PathBuf,
    /// The workers' `PATH`.
    pub(crate) path: OsString,
    /// The workers' `NODE_OPTIONS`.
    pub(crate) node_options: Option<OsString>,
}

impl Search {
    /// `path` seen from the workers' directory: absolute, whether it exists or not.
    pub(crate) fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        let joined = self.cwd.join(path);
        std::path::absolute(&joined).unwrap_or(joined)
    }

    /// The file of this name, if it is one.
    pub(crate) fn file(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        Some(self.absolute(path)).filter(|path| path.is_file())
    }

    /// A program by its name as a shell would find it: by path if it has a slash, else in `PATH`.
    pub(crate) fn program(&self, name: impl AsRef<OsStr>) -> Option<PathBuf> {
        let name = name.as_ref();
        if name.is_empty() {
            return None;
        }
        if name.as_encoded_bytes().contains(&b'/') {
            return self.file(name).filter(|path| executable(path));
        }
        let candidates =
            std::env::split_paths(&self.path).map(|directory| self.absolute(directory).join(name));
        candidates
            .into_iter()
            .find(|path| path.is_file() && executable(path))
    }

    /// The first of these programs that is there.
    pub(crate) fn first_program(&self, names: &[&str]) -> Option<PathBuf> {
        names.iter().find_map(|name| self.program(name))
    }

    /// The same, with the `node_modules/.bin` of a package before everything else.
    pub(crate) fn in_package(&self, directory: &Path) -> Self {
        let bins = directory
            .ancestors()
            .map(|above| above.join("node_modules/.bin"))
            .filter(|bin| bin.is_dir());
        let all = bins.chain(std::env::split_paths(&self.path));
        let path = std::env::join_paths(all).unwrap_or_else(|_| self.path.clone());
        Self {
            cwd: directory.into(),
            path,
            node_options: self.node_options.clone(),
        }
    }
}

/// Whether we may execute it.
pub(crate) fn executable(path: &Path) -> bool {
    access(path, Access::EXEC_OK).is_ok()
}

/// The last part of a path or word.
pub(crate) fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// The name in the directory of `path` that is most like it, if one is.
pub(crate) fn nearest(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?.to_lowercase();
    let entries = fs::read_dir(path.parent()?).ok()?.flatten().take(10_000);
    let names = entries
        .filter(|e| !e.file_type().is_ok_and(|t| t.is_dir()))
        .filter(|e| Some(&*e.file_name()) != path.file_name())
        .filter_map(|e| e.file_name().into_string().ok());
    let ranked = names.filter_map(|name| Some((likeness(&wanted, &name.to_lowercase())?, name)));
    ranked.min().map(|(_, name)| name)
}

/// How far apart two names are; `None` if too far for a suggestion.
fn likeness(wanted: &str, name: &str) -> Option<usize> {
    if Path::new(name).file_stem().is_some_and(|stem| stem == wanted) && name.len() > wanted.len() {
        return Some(0);
    }
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    Some(distance(wanted, name)).filter(|distance| *distance <= limit)
}

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j - 1] + same).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("app.js", "app.sj", 1),
            ("server", "sever", 1),
            ("x", "abc", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn suggestions() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["app.js", "server.py", "README"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join("app.jsx")).unwrap();
        let near = |name: &str| nearest(&directory.path().join(name));
        assert_eq!(near("ap.js").as_deref(), Some("app.js"));
        assert_eq!(near("App.js").as_deref(), Some("app.js"));
        assert_eq!(near("app").as_deref(), Some("app.js"));
        assert_eq!(near("sevrer.py").as_deref(), Some("server.py"));
        assert_eq!(near("worker.js"), None);
        assert_eq!(near("README"), None);
        assert_eq!(near("no/such/app.js"), None);
    }

    #[test]
    fn programs_by_name_and_by_path() {
        let search = Search {
            cwd: "/bin".into(),
            path: "/nonexistent:/bin:/usr/bin".into(),
            node_options: None,
        };
        assert_eq!(search.program("sh").unwrap(), Path::new("/bin/sh"));
        assert_eq!(search.program("./sh").unwrap(), Path::new("/bin/sh"));
        assert_eq!(search.program("no-such-program-at-all"), None);
        assert_eq!(search.program(""), None);
    }
}
