//! Writes `state.json` after changes: those of one instant together, and nothing if the bytes would be the same.
//!
//! Owner: one task. An operation is answered when what it changed is on disk, or when it is known that this cannot be;
//! workers that come and go are written a moment later.

use crate::daemon::{Daemon, Ending, blocking};
use crate::state::disk::{self, Real};
use crate::state::stored::{State, Stored};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long workers may come and go until it is written.
const SOON: Duration = Duration::from_millis(200);
/// When a disk that was full is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Saving {
    /// Changes that must be written now, and those that may wait.
    asked: watch::Sender<(u64, u64)>,
    /// How many of the first are written, or could not be.
    done: watch::Sender<u64>,
    /// Why the last writing failed.
    failed: watch::Sender<Option<String>>,
}

impl Saving {
    pub(crate) fn now(&self) {
        self.asked.send_modify(|asked| asked.0 += 1);
    }

    pub(crate) fn soon(&self) {
        self.asked.send_modify(|asked| asked.1 += 1);
    }

    /// Waits until all that was asked for is written. Gives the reason why it could not be.
    pub(crate) async fn durable(&self) -> Option<String> {
        let asked = self.asked.borrow().0;
        let mut done = self.done.subscribe();
        // The sender is ours.
        done.wait_for(|done| *done >= asked).await.ok();
        self.failed.borrow().clone()
    }
}

/// Writes for as long as the daemon lives.
pub(crate) async fn save(daemon: Arc<Daemon>) {
    let mut asked = daemon.saving.asked.subscribe();
    let mut last = None;
    let mut seen = (0, 0);
    loop {
        let now = *asked.borrow_and_update();
        if now == seen {
            tokio::select! {
                _ = asked.changed() => {}
                () = daemon.ended(Ending::Over) => return,
            }
            continue;
        }
        if now.0 == seen.0 {
            // Until somebody is in a hurry.
            tokio::time::timeout(SOON, asked.wait_for(|now| now.0 != seen.0))
                .await
                .ok();
        }
        seen = *asked.borrow_and_update();
        let failed = write(&daemon, &mut last).await;
        if let Some(why) = &failed {
            tell(&daemon, why);
            retry(&daemon);
        }
        daemon.saving.failed.send_replace(failed);
        daemon.saving.done.send_replace(seen.0);
    }
}

/// Writes once more, at the end.
pub(crate) async fn save_last(daemon: &Daemon) {
    write(daemon, &mut None).await;
    tidy(daemon);
}

/// Nothing is left of writers that were killed.
pub(crate) fn tidy(daemon: &Daemon) {
    disk::tidy(&daemon.home.state());
    disk::tidy(&daemon.home.saved());
}

async fn write(daemon: &Daemon, last: &mut Option<Vec<u8>>) -> Option<String> {
    let state = state(daemon);
    let bytes = serde_json::to_vec(&state).ok();
    if bytes.is_some() && *last == bytes {
        return None;
    }
    let path = daemon.home.state();
    let stored = blocking(move || disk::store(&Real, &path, &state)).await;
    let error = match stored {
        Ok(Ok(())) => {
            *last = bytes;
            return None;
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.message,
    };
    Some(format!(
        "the state could not be saved to {}: {error}",
        daemon.home.state().display()
    ))
}

fn state(daemon: &Daemon) -> State {
    let apps = daemon.apps();
    State {
        boot_id: crate::proc::boot_id(),
        apps: apps.iter().map(|app| Stored::of(&app.kept())).collect(),
        parked: daemon
            .parked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
    }
}

fn tell(daemon: &Daemon, why: &str) {
    if daemon.saving.failed.borrow().as_deref() == Some(why) {
        return;
    }
    let mut data = serde_json::Map::new();
    data.insert("what".into(), why.into());
    daemon.journal.tell("error", None, None, data);
}

fn retry(daemon: &Arc<Daemon>) {
    let daemon = Arc::downgrade(daemon);
    tokio::spawn(async move {
        tokio::time::sleep(AGAIN).await;
        if let Some(daemon) = daemon.upgrade() {
            daemon.saving.soon();
        }
    });
}
