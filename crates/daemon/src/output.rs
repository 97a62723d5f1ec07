//! Where the workers of an app write: files in `logs/`.

use everup::{OpenOutput, Output, Slot, Stream, WorkerId};
use everup_api::AppSpec;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outputs {
    folder: PathBuf,
}

/// The files of an app.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths {
    pub(crate) out: Option<PathBuf>,
    pub(crate) error: Option<PathBuf>,
    pub(crate) both: Option<PathBuf>,
}

impl Outputs {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What an app's engine gets.
    pub(crate) fn of(&self, app: &AppSpec) -> Output {
        let paths = self.paths(app);
        Output::Open(Arc::new(Files(paths)))
    }

    /// Where its output is found.
    pub(crate) fn paths(&self, app: &AppSpec) -> Paths {
        if app.disable_logs == Some(true) {
            return Paths::default();
        }
        let named = |given: Option<&PathBuf>, end: &str| {
            let default = || {
                self.folder
                    .join(format!("{}-{end}.log", app.name.replace('/', "-")))
            };
            let path = given.map_or_else(default, |path| app.cwd.join(path));
            Some(path).filter(|path| path != Path::new("/dev/null") && !path.ends_with("NULL"))
        };
        Paths {
            out: named(app.out_file.as_ref(), "out"),
            error: named(app.error_file.as_ref(), "error"),
            both: app.log_file.clone(),
        }
    }
}

#[derive(Debug)]
struct Files(Paths);

impl OpenOutput for Files {
    fn open(&self, _: WorkerId, _: Slot, stream: Stream) -> io::Result<OwnedFd> {
        let path = match stream {
            Stream::Out => &self.0.out,
            Stream::Err => &self.0.error,
        };
        let path = path.as_deref().unwrap_or(Path::new("/dev/null"));
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Ok(file.into())
    }
}
