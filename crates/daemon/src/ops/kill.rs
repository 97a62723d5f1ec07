//! `kill`: everything ends, the daemon too.

use super::stop::Left;
use super::{Deadline, Host, Steps};
use crate::daemon::{Daemon, Ending, Target};
use crate::state::stored::Stored;
use everup_api::v1::Done;
use std::sync::PoisonError;
use std::time::Duration;

/// Until what is still there is killed.
const PATIENCE: Duration = Duration::from_secs(60);

impl Daemon {
    /// Stops all apps, all at the same time. They stay wanted: `state.json` knows them for the next start, unless they are
    /// parked: then the next daemon of this boot begins with none. The process ends when the answer has been given, by
    /// [`Ending::Over`].
    pub(crate) async fn kill(self: &Host, steps: Steps, park: bool) -> Done {
        self.end(Ending::Stopping);
        if park {
            let apps = self.apps();
            let stored = apps.iter().map(|app| Stored::with_variables(&app.kept()));
            // What was inherited is on disk only if somebody asks for it.
            let stored = stored
                .map(|stored| Stored {
                    inherited: None,
                    ..stored
                })
                .collect();
            *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = stored;
        }
        let targets = || {
            self.apps()
                .into_iter()
                .map(|app| Target { app, id: None })
                .collect()
        };
        let deadline = Deadline(tokio::time::Instant::now() + PATIENCE);
        let done = self.stop_these(targets(), Left::Parked, false, None, deadline, steps.clone());
        let done = done.await;
        if done.apps.iter().any(|app| app.error.is_some()) {
            let deadline = Deadline(tokio::time::Instant::now() + PATIENCE);
            self.stop_these(targets(), Left::Parked, true, None, deadline, steps)
                .await;
        }
        if park {
            for app in self.apps() {
                self.forget(&app);
            }
        }
        // Who comes now is to start another daemon, and not to wait for this one.
        std::fs::remove_file(crate::socket::path(&self.home)).ok();
        done
    }
}
