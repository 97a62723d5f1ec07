//! A descriptor that tokio watches.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches whether it is readable, in the runtime of the caller.
///
/// # Errors
/// What the system says.
pub(crate) fn readable(descriptor: &Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: what is registered owns the descriptor, so it stays open, and the same, as long as it is registered.
    let watched = unsafe { AsyncFd::register_with_interest(Arc::clone(descriptor), Interest::READABLE) };
    watched.map_err(Into::into)
}
