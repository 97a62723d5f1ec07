//! `kill`: everything ends, the daemon too.

use super::stop::Left;
use super::{Deadline, Host, Steps};
use crate::daemon::{Daemon, Ending, Target};
use everup_api::v1::Done;
use std::time::Duration;

/// Until what is still there is killed.
const PATIENCE: Duration = Duration::from_secs(60);

impl Daemon {
    /// Stops all apps, all at the same time. They stay wanted: `state.json` knows them for the next start. The process ends when the
    /// answer has been given, by [`Ending::Over`].
    pub(crate) async fn kill(self: &Host, steps: Steps) -> Done {
        self.end(Ending::Stopping);
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
        done
    }
}
