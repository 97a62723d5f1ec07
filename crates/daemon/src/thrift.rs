//! Gives memory back to the kernel after something was done: answers and states are built in memory that is of no use later.
//!
//! Owner: one task. While nothing is done it sleeps.

use crate::daemon::{Daemon, Ending};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// So long after the first thing that was done; what is done meanwhile needs memory, too.
const AFTER: Duration = Duration::from_secs(3);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Thrift(Notify);

impl Thrift {
    /// Something was done.
    pub(crate) fn used(&self) {
        self.0.notify_one();
    }
}

/// Does it for as long as the daemon lives.
pub(crate) async fn give_back(daemon: Arc<Daemon>) {
    let turns = async {
        loop {
            daemon.thrift.0.notified().await;
            tokio::time::sleep(AFTER).await;
            everup::heap::trim();
        }
    };
    tokio::select! {
        () = turns => {}
        () = daemon.ended(Ending::Over) => {}
    }
}
