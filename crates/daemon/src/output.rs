//! Where the workers of an app write: the files of [`crate::logs`].

use crate::app::App;
use crate::logs::paths::Paths;
use crate::logs::{AppLogs, Logs};
use everup::{Limits, Output, Slot};
use everup_api::AppSpec;
use everup_keeper::{Contents, Memory};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) logs: Logs,
}

impl Outputs {
    /// Goes on with what a predecessor has left in the memory.
    pub(crate) fn start(folder: &Path, memory: Memory, left: &Contents) -> io::Result<Self> {
        let logs = Logs::start(folder, memory, left)?;
        Ok(Self { logs })
    }

    /// What an app's engine gets.
    pub(crate) fn of(&self, app: &Arc<App>, spec: &AppSpec, limits: &Limits) -> Output {
        let whose = Arc::downgrade(app);
        let ids = move |slot: Slot| {
            let app = whose.upgrade();
            let id = app.and_then(|app| Some(app.kept().record.places.get(&slot.0)?.id));
            id.unwrap_or(slot.0)
        };
        let identity = limits.identity.as_ref();
        Output::Open(self.logs.app(AppLogs {
            spec: spec.clone(),
            ids: Arc::new(ids),
            owner: identity.map(|identity| (identity.uid, identity.gid)),
            mode: 0o600,
        }))
    }

    /// The files of an instance.
    pub(crate) fn paths(&self, spec: &AppSpec, id: u32) -> Paths {
        self.logs.paths(spec, id)
    }

    /// All files of an app.
    pub(crate) fn files(&self, app: &App) -> Vec<PathBuf> {
        let kept = app.kept();
        let ids = kept.record.ids();
        let mut files: Vec<PathBuf> = ids
            .into_iter()
            .map(|id| self.paths(&kept.spec, id))
            .flat_map(|paths| [paths.out, paths.err, paths.both])
            .flatten()
            .collect();
        files.sort();
        files.dedup();
        files
    }
}
