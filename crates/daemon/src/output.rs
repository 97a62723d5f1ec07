//! Where the workers of an app write: what the engine gets of the daemon's [`Logs`].

use crate::app::App;
use crate::logs::paths::Paths;
use crate::logs::{AppLogs, Logs, MEMORY};
use everup::{Output, Slot};
use everup_api::AppSpec;
use everup_keeper::{Contents, Memory};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outputs {
    logs: Logs,
}

impl Outputs {
    /// Goes on with what a predecessor has left.
    pub(crate) fn start(folder: &Path, left: Option<(Memory, Contents)>) -> io::Result<Self> {
        let (memory, contents) = match left {
            Some(left) => left,
            None => (Memory::create(MEMORY)?, Contents::default()),
        };
        Ok(Self {
            logs: Logs::start(folder, memory, &contents)?,
        })
    }

    /// What an app's engine gets. `owner`: whom its workers run as, if not as we do.
    pub(crate) fn of(&self, app: &Arc<App>, spec: &AppSpec, owner: Option<(u32, u32)>) -> Output {
        const MODE: u32 = 0o600;
        let known = Arc::downgrade(app);
        let id = move |slot: Slot| {
            let app = known.upgrade()?;
            let kept = app.kept();
            Some(kept.record.places.get(&slot.0)?.id)
        };
        Output::Open(self.logs.app(AppLogs {
            spec: spec.clone(),
            ids: Arc::new(move |slot| id(slot).unwrap_or(slot.0)),
            owner,
            mode: MODE,
        }))
    }

    /// Where the output of an app's instance is found.
    pub(crate) fn paths(&self, spec: &AppSpec, id: u32) -> Paths {
        self.logs.paths(spec, id)
    }

    /// The logs themselves.
    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }
}

/// Whom the workers run as, if not as we do.
pub(crate) fn owner(spec: &everup::Spec) -> Option<(u32, u32)> {
    let identity = spec.limits.identity.as_ref()?;
    Some((identity.uid, identity.gid))
}
