//! Where the workers of an app write: [`crate::logs`], with the ids of the app's places.

use crate::app::App;
use crate::logs::paths::Paths;
use crate::logs::{AppLogs, Logs, MEMORY};
use everup::{Limits, Output, Slot};
use everup_api::AppSpec;
use everup_keeper::{Contents, Memory};
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) logs: Logs,
}

impl Outputs {
    /// `left` is the memory of a daemon before this one, and what it holds.
    pub(crate) fn new(folder: &Path, left: Option<(Memory, Contents)>) -> io::Result<Self> {
        let (memory, left) = match left {
            Some(left) => left,
            None => (Memory::create(MEMORY)?, Contents::default()),
        };
        Ok(Self {
            logs: Logs::start(folder, memory, &left)?,
        })
    }

    /// What an app's engine gets.
    pub(crate) fn of(&self, app: &Arc<App>, spec: &AppSpec, limits: &Limits) -> Output {
        let owner = limits.identity.as_ref();
        let app: Weak<App> = Arc::downgrade(app);
        let ids = move |slot: Slot| {
            let app = app.upgrade();
            let id = app.and_then(|app| Some(app.kept().record.places.get(&slot.0)?.id));
            id.unwrap_or(slot.0)
        };
        Output::Open(self.logs.app(AppLogs {
            spec: spec.clone(),
            ids: Arc::new(ids),
            owner: owner.map(|owner| (owner.uid, owner.gid)),
            mode: 0o600,
        }))
    }

    /// Where the output of a place is found.
    pub(crate) fn paths(&self, app: &AppSpec, id: u32) -> Paths {
        self.logs.paths(app, id)
    }
}
