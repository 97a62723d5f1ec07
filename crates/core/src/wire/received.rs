//! Sockets that the other end gave us and wants to hear about when they are closed.
//!
//! Job: count, per key, the `net.Socket`s that came from a server of the other end's, so that its
//! `server.close()` and `server.getConnections()` can be answered (`NODE_SOCKET_NOTIFY_CLOSE`,
//! `NODE_SOCKET_GET_COUNT`). The same on both sides of a channel.
//!
//! Must not know: how the answers are written.

use std::collections::BTreeMap;

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Received {
    by_key: BTreeMap<String, Sockets>,
}

/// Sockets received under one key.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Sockets {
    open: u64,
    /// The other end waits to hear that none is left.
    awaited: bool,
}

impl Received {
    /// One more came.
    pub(super) fn add(&mut self, key: &str) {
        match self.by_key.get_mut(key) {
            Some(sockets) => sockets.open += 1,
            None => {
                let sockets = Sockets {
                    open: 1,
                    awaited: false,
                };
                self.by_key.insert(key.to_owned(), sockets);
            }
        }
    }

    /// The other end waits until none is left. Whether that is so already.
    pub(super) fn wait(&mut self, key: &str) -> bool {
        match self.by_key.get_mut(key) {
            Some(sockets) => {
                sockets.awaited = true;
                false
            }
            None => true,
        }
    }

    /// How many are open.
    pub(super) fn count(&self, key: &str) -> u64 {
        self.by_key.get(key).map_or(0, |sockets| sockets.open)
    }

    /// One was closed. Whether it was the last, and the other end waits to hear so.
    pub(super) fn closed(&mut self, key: &str) -> bool {
        let Some(sockets) = self.by_key.get_mut(key) else {
            return false;
        };
        sockets.open = sockets.open.saturating_sub(1);
        if sockets.open > 0 {
            return false;
        }
        let awaited = sockets.awaited;
        self.by_key.remove(key);
        awaited
    }
}
