//! Which files do not count.
//!
//! Job: answer that for a path, by three lists in this order: paths that are everup's own; the globs of everup and of
//! `--ignore-watch` (the last one that matches decides, `!` makes it count); the `.gitignore` files from the
//! directory of the path upward. Must not know: who asks.
//!
//! Globs are those of `.gitignore`. The question is about one path: its directories must have been asked before.

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file with the globs of a directory.
pub(super) const GITIGNORE: &str = ".gitignore";

/// What nobody wants to be woken for: hidden files but `.env`, packages, logs, byte code, dumps of a dead process, and
/// what editors write beside a file.
const DEFAULTS: [&str; 17] = [
    ".*",
    "!.env",
    "!.env.*",
    "node_modules/",
    "__pycache__/",
    "*.pyc",
    "*.log",
    "nohup.out",
    "core.[0-9]*",
    "*.heapsnapshot",
    "*.cpuprofile",
    "*~",
    "*.sw[a-p]",
    "\\#*#",
    "4913",
    "*___jb_tmp___",
    "*___jb_old___",
];

/// Directories that are no files.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A glob that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct GlobError {
    reason: String,
}

impl GlobError {
    pub(crate) const HINT: &'static str = "write it as in a .gitignore: `data`, `/build`, `*.tmp`, `src/**/gen`, or `!x.log` to watch it all the same";
}

/// The globs of `--ignore-watch`, and ours before them.
#[derive(Debug, Clone)]
pub(crate) struct Globs(Gitignore);

impl Globs {
    /// Understands globs, which are relative to `base`.
    pub(crate) fn parse(base: &Path, globs: &[String]) -> Result<Self, (String, GlobError)> {
        let mut builder = GitignoreBuilder::new(base);
        let failed = |glob: &str, error: &ignore::Error| {
            let reason = inner(error);
            (glob.to_owned(), GlobError { reason })
        };
        let all = DEFAULTS.iter().copied().chain(globs.iter().map(String::as_str));
        for glob in all {
            let line = relative(base, glob);
            builder
                .add_line(None, &line)
                .map_err(|error| failed(glob, &error))?;
        }
        let globs = builder.build().map_err(|error| failed("", &error))?;
        Ok(Self(globs))
    }
}

/// Takes what people write for the same thing: `./logs`, and an absolute path inside the directory.
fn relative(base: &Path, glob: &str) -> String {
    if let Ok(inside) = Path::new(glob).strip_prefix(base)
        && !inside.as_os_str().is_empty()
    {
        return format!("/{}", inside.display());
    }
    glob.strip_prefix("./")
        .map_or_else(|| glob.into(), |rest| format!("/{rest}"))
}

/// What is wrong, without the glob again.
fn inner(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        other => other.to_string(),
    }
}

/// The `.gitignore` of a directory and of those above it.
#[derive(Debug, Clone, Default)]
pub(super) struct Git(Option<Arc<Level>>);

#[derive(Debug)]
struct Level {
    globs: Gitignore,
    above: Git,
}

impl Git {
    /// What holds in a directory if `self` holds in the one above.
    pub(super) fn enter(&self, directory: &Path) -> Self {
        // Another repository has its own rules.
        let above = if directory.join(".git").exists() {
            Self::default()
        } else {
            self.clone()
        };
        let file = directory.join(GITIGNORE);
        if !file.is_file() {
            return above;
        }
        // A line that cannot be understood is skipped, as git does.
        let (globs, _) = Gitignore::new(file);
        Self(Some(Arc::new(Level { globs, above })))
    }

    /// What holds for a root from above it: nothing, if that would hide what was named to be watched.
    pub(super) fn of_root(root: &Path) -> Self {
        let above = Self::above(root);
        let hides = above.ignores(root, true) || above.ignores(&root.join("any"), false);
        if hides { Self::default() } else { above }
    }

    /// What holds for a directory from those above it, up to the top of its repository.
    fn above(directory: &Path) -> Self {
        if directory.join(".git").exists() {
            return Self::default();
        }
        let parents = || directory.ancestors().skip(1);
        let Some(top) = parents().position(|parent| parent.join(".git").exists()) else {
            return Self::default();
        };
        let mut inside: Vec<&Path> = parents().take(top + 1).collect();
        inside.reverse();
        inside
            .iter()
            .fold(Self::default(), |git, parent| git.enter(parent))
    }

    fn ignores(&self, path: &Path, is_dir: bool) -> bool {
        let mut level = &self.0;
        while let Some(git) = level {
            match git.globs.matched(path, is_dir) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => level = &git.above.0,
            }
        }
        false
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Rules {
    globs: Globs,
    own: Vec<PathBuf>,
}

impl Rules {
    pub(super) fn new(globs: Globs, own: Vec<PathBuf>) -> Self {
        let mut own = own;
        own.extend(KERNEL.iter().map(PathBuf::from));
        Self { globs, own }
    }

    /// Our own files under the name that they have below this root: a path may lead over a link.
    pub(super) fn add_root(&mut self, root: &Path) {
        let Ok(real) = root.canonicalize() else { return };
        let inside = |own: &PathBuf| {
            let parent = own.parent()?.canonicalize().ok()?;
            let real_own = parent.join(own.file_name()?);
            Some(root.join(real_own.strip_prefix(&real).ok()?))
        };
        let found: Vec<PathBuf> = self.own.iter().filter_map(inside).collect();
        for path in found {
            if !self.own.contains(&path) {
                self.own.push(path);
            }
        }
    }

    pub(super) fn ignored(&self, path: &Path, is_dir: bool, git: &Git) -> bool {
        match self.verdict(path, is_dir) {
            Some(ignored) => ignored,
            None => git.ignores(path, is_dir),
        }
    }

    /// What everup and the user say, without git.
    pub(super) fn verdict(&self, path: &Path, is_dir: bool) -> Option<bool> {
        if self.own.iter().any(|own| path.starts_with(own)) {
            return Some(true);
        }
        match self.globs.0.matched(path, is_dir) {
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
            Match::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn rules(globs: &[&str]) -> Rules {
        let globs: Vec<String> = globs.iter().map(ToString::to_string).collect();
        let globs = Globs::parse(Path::new("/app"), &globs).unwrap();
        Rules::new(globs, vec!["/app/run/app.pid".into(), "/app/logs".into()])
    }

    fn ignored(rules: &Rules, path: &str) -> bool {
        let is_dir = path.ends_with('/');
        rules.ignored(Path::new(path.trim_end_matches('/')), is_dir, &Git::default())
    }

    #[test]
    fn what_nobody_wants() {
        let rules = rules(&[]);
        for path in [
            "/app/node_modules/",
            "/app/src/node_modules/",
            "/app/.git/",
            "/app/.cache/",
            "/app/.a.js.swp",
            "/app/a.js~",
            "/app/a.log",
            "/app/x/__pycache__/",
            "/app/core.123",
            "/app/#a.js#",
            "/app/4913",
            "/app/run/app.pid",
            "/app/logs/",
            "/app/logs/a.txt",
            "/proc/",
        ] {
            assert!(ignored(&rules, path), "{path}");
        }
        for path in [
            "/app/a.js",
            "/app/.env",
            "/app/.env.local",
            "/app/core/",
            "/app/core.js",
            "/app/run/",
            "/app/log/",
            "/app/a#b",
            "/elsewhere/a.js",
        ] {
            assert!(!ignored(&rules, path), "{path}");
        }
    }

    #[test]
    fn globs_of_the_user_win() {
        let rules = rules(&["data", "/build", "./tmp", "/app/var/", "src/**/gen", "!keep.log"]);
        for path in [
            "/app/data/",
            "/app/x/data",
            "/app/build/",
            "/app/tmp/",
            "/app/var/",
            "/app/src/a/b/gen/",
            "/app/other.log",
        ] {
            assert!(ignored(&rules, path), "{path}");
        }
        for path in ["/app/x/build/", "/app/x/tmp/", "/app/keep.log", "/app/gen/"] {
            assert!(!ignored(&rules, path), "{path}");
        }
    }

    #[test]
    fn bad_globs_are_named() {
        let (glob, error) = Globs::parse(Path::new("/app"), &["ok".into(), "a{b".into()]).unwrap_err();
        assert_eq!(glob, "a{b");
        assert!(error.to_string().contains("unclosed alternate"), "{error}");
    }

    #[test]
    fn git_ignores_from_the_bottom_up() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        fs::create_dir_all(top.join(".git")).unwrap();
        fs::create_dir_all(top.join("app/sub/.git")).unwrap();
        fs::write(top.join(GITIGNORE), "dist\n*.tmp\nsecret/*\n").unwrap();
        fs::write(top.join("app").join(GITIGNORE), "!keep.tmp\n/only\n").unwrap();
        let app = Git::above(&top.join("app")).enter(&top.join("app"));
        let ignores =
            |git: &Git, path: &str| git.ignores(&top.join(path.trim_end_matches('/')), path.ends_with('/'));
        assert!(ignores(&app, "app/dist/") && ignores(&app, "app/a.tmp") && ignores(&app, "app/only"));
        assert!(!ignores(&app, "app/keep.tmp") && !ignores(&app, "app/x/only"));
        let file = |root: &str| ignores(&Git::of_root(&top.join(root)), &format!("{root}/a.tmp"));
        // Named to be watched: what is above does not count.
        assert!(!file("app/dist") && !file("secret"));
        assert!(file("app/src"));
        let other = app.enter(&top.join("app/sub"));
        assert!(!ignores(&other, "app/sub/a.tmp"));
    }

    #[test]
    fn own_files_behind_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let globs = Globs::parse(&link, &[]).unwrap();
        let mut rules = Rules::new(globs, vec![real.join("app.pid")]);
        rules.add_root(&link);
        assert!(rules.ignored(&link.join("app.pid"), false, &Git::default()));
    }
}
