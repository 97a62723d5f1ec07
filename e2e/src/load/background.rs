//! Load that goes on until the test has seen enough.

use super::client::run_while;
use super::{Plan, Report};
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// The load client in a thread of its own. Dropping it ends it, too.
#[derive(Debug)]
pub struct Background {
    goes_on: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Report>>>,
}

impl Background {
    /// Begins to send.
    #[must_use]
    pub fn start(plan: Plan) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&goes_on);
        Self {
            goes_on,
            thread: Some(thread::spawn(move || run_while(&plan, &seen))),
        }
    }

    /// Sends nothing more, and waits for the answers that are on their way.
    ///
    /// # Errors
    /// When the client itself failed.
    pub fn finish(mut self) -> Result<Report> {
        self.goes_on.store(false, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(report)) => report,
            Some(Err(_)) | None => anyhow::bail!("the load client panicked"),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
    }
}
