//! Which files an app's output goes to: pm2's names. Pure.
//!
//! `logs/NAME-out.log`, `logs/NAME-error.log`, and `logs/NAME.log` for both together if `log_file` is `true`. Each
//! instance of an app for which `instances` is given has its own, with its id before the extension: `NAME-out-3.log`;
//! `merge_logs` says otherwise.

use everup::Stream;
use everup_api::AppSpec;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The files of one instance, as far as there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// Of standard output.
    pub out: Option<PathBuf>,
    /// Of standard error.
    pub err: Option<PathBuf>,
    /// Of both.
    pub both: Option<PathBuf>,
}

impl Paths {
    /// The files of an app's instance with this id; `logs` is where they are by default.
    #[must_use]
    pub fn of(spec: &AppSpec, logs: &Path, id: u32) -> Self {
        if spec.disable_logs == Some(true) {
            return Self::default();
        }
        let name = safe(&spec.name);
        let merged = spec.merge_logs.unwrap_or(spec.instances.is_none());
        let id = (!merged).then_some(id);
        let file = |given: Option<&PathBuf>, end: &str| match given {
            None => Some(logs.join(format!("{name}-{end}.log"))),
            Some(path) => own(path, &spec.cwd),
        };
        let both = spec.log_file.as_ref().filter(|path| path.as_os_str() != "false");
        let both = both.and_then(|path| match path.as_os_str() == "true" {
            true => Some(logs.join(format!("{name}.log"))),
            false => own(path, &spec.cwd),
        });
        let numbered = |path: PathBuf| match id {
            Some(id) => number(&path, id),
            None => path,
        };
        Self {
            out: file(spec.out_file.as_ref(), "out").map(numbered),
            err: file(spec.error_file.as_ref(), "error").map(numbered),
            both: both.map(numbered),
        }
    }

    /// Where a stream goes: each file once.
    #[must_use]
    pub fn stream(&self, stream: Stream) -> Vec<PathBuf> {
        let own = match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        };
        let both = self.both.as_ref().filter(|both| Some(*both) != own.as_ref());
        own.iter().chain(both).cloned().collect()
    }
}

/// The file that is meant, or `None` for pm2's words for none.
fn own(path: &Path, cwd: &Path) -> Option<PathBuf> {
    let none = path == Path::new("/dev/null") || path == Path::new("NULL") || path.as_os_str().is_empty();
    (!none).then(|| cwd.join(path))
}

/// What a name may have in a file's name; pm2 puts `-` for the rest, also for letters that are not of ASCII, by which
/// two names may have one file. A name of dots only would be a directory.
fn safe(name: &str) -> String {
    let keep = |c: char| {
        if c.is_alphanumeric() || matches!(c, '.' | '-' | '\\') {
            c
        } else {
            '-'
        }
    };
    name.chars().map(keep).collect()
}

/// The id before the extension, in place of a number that is there.
fn number(path: &Path, id: u32) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default();
    let extension = path.extension();
    let bare = match extension.is_some_and(|extension| extension == "log") {
        true => without_number(stem),
        false => stem,
    };
    let mut name = OsString::from(bare);
    name.push(format!("-{id}"));
    if let Some(extension) = extension {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

fn without_number(stem: &OsStr) -> &OsStr {
    let Some(text) = stem.to_str() else {
        return stem;
    };
    match text.rsplit_once('-') {
        Some((bare, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            bare.as_ref()
        }
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> AppSpec {
        AppSpec {
            name: name.into(),
            cwd: "/srv/app".into(),
            ..AppSpec::default()
        }
    }

    fn paths(spec: &AppSpec) -> [Option<String>; 3] {
        let paths = Paths::of(spec, Path::new("/h/logs"), 7);
        [paths.out, paths.err, paths.both].map(|path| path.map(|path| path.to_str().unwrap().to_owned()))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.into())
    }

    #[test]
    fn names_are_those_of_pm2() {
        let app = spec("my app/Ä_x.1");
        assert_eq!(
            paths(&app),
            [
                some("/h/logs/my-app-Ä-x.1-out.log"),
                some("/h/logs/my-app-Ä-x.1-error.log"),
                None
            ]
        );
        let apart = AppSpec {
            merge_logs: Some(false),
            log_file: Some("true".into()),
            out_file: Some("o/x-12.log".into()),
            error_file: Some("/var/e".into()),
            ..spec("a")
        };
        assert_eq!(
            paths(&apart),
            [
                some("/srv/app/o/x-7.log"),
                some("/var/e-7"),
                some("/h/logs/a-7.log")
            ]
        );
        let plain = AppSpec {
            out_file: Some("out.txt".into()),
            error_file: Some("err.d/x.txt".into()),
            merge_logs: Some(false),
            ..spec("a")
        };
        assert_eq!(
            paths(&plain),
            [some("/srv/app/out-7.txt"), some("/srv/app/err.d/x-7.txt"), None]
        );
    }

    #[test]
    fn each_instance_has_its_own() {
        let many = AppSpec {
            instances: Some("2".into()),
            ..spec("a")
        };
        assert_eq!(
            paths(&many),
            [some("/h/logs/a-out-7.log"), some("/h/logs/a-error-7.log"), None]
        );
        let merged = AppSpec {
            merge_logs: Some(true),
            ..many
        };
        assert_eq!(paths(&merged)[0], some("/h/logs/a-out.log"));
    }

    #[test]
    fn none_is_none() {
        let off = AppSpec {
            out_file: Some("NULL".into()),
            error_file: Some("/dev/null".into()),
            log_file: Some("false".into()),
            ..spec("a")
        };
        assert_eq!(paths(&off), [None, None, None]);
        let disabled = AppSpec {
            disable_logs: Some(true),
            out_file: Some("x".into()),
            ..spec("a")
        };
        assert_eq!(paths(&disabled), [None, None, None]);
    }

    #[test]
    fn a_file_for_all_is_written_once() {
        let one = AppSpec {
            out_file: Some("x.log".into()),
            error_file: Some("e.log".into()),
            log_file: Some("x.log".into()),
            ..spec("a")
        };
        let paths = Paths::of(&one, Path::new("/h/logs"), 0);
        assert_eq!(paths.stream(Stream::Out), [PathBuf::from("/srv/app/x.log")]);
        assert_eq!(
            paths.stream(Stream::Err),
            [PathBuf::from("/srv/app/e.log"), PathBuf::from("/srv/app/x.log")]
        );
    }
}
