//! When a worker is to leave, and who said so.
//!
//! Job: one fact that many may wait for: futures, and threads by a descriptor that becomes readable.
//! Invariant: the first reason stays.

use rustix::event::{EventfdFlags, eventfd};
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::watch;

/// Why a worker is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DrainReason {
    /// The primary asked: the cluster stops, reloads, or replaces this worker.
    Primary,
    /// This worker itself: [`Worker::disconnect`](super::Worker::disconnect).
    Worker,
    /// A signal: SIGTERM, or SIGINT where there is no primary.
    Signal,
    /// The primary is gone, or has closed the channel (also because it spoke something else than the protocol): nobody
    /// sends connections any more. Node's workers end at once; here what was begun is finished. An everup primary that
    /// dies takes its workers with it, so under one this means a channel that was cut.
    PrimaryGone,
}

#[derive(Debug, Clone)]
pub(super) struct Drain {
    reason: Arc<watch::Sender<Option<DrainReason>>>,
    /// Readable from the beginning of the drain on.
    /// `None` when there was no descriptor for it: then threads learn of it with the next connection.
    readable: Option<Arc<OwnedFd>>,
}

impl Drain {
    pub(super) fn new() -> Self {
        let readable = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Self {
            reason: Arc::new(watch::Sender::new(None)),
            readable: readable.map(Arc::new),
        }
    }

    /// Whether it begins now.
    pub(super) fn begin(&self, reason: DrainReason) -> bool {
        let begins = self.reason.send_if_modified(|known| {
            let begins = known.is_none();
            known.get_or_insert(reason);
            begins
        });
        if let Some(readable) = self.readable.as_ref().filter(|_| begins) {
            rustix::io::write(readable, &1_u64.to_ne_bytes()).ok();
        }
        begins
    }

    pub(super) fn reason(&self) -> Option<DrainReason> {
        *self.reason.borrow()
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.readable.as_ref().map(|readable| readable.as_fd())
    }

    /// Done when it has begun.
    pub(super) fn begun(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        // The sender goes along, so that the end of everything else is not taken for a drain.
        let (sender, mut receiver) = (Arc::clone(&self.reason), self.reason.subscribe());
        async move {
            // It fails when the sender is gone only, and we have that.
            receiver.wait_for(Option::is_some).await.ok();
            drop(sender);
        }
    }
}
