//! Whether a connection is idle between two requests of HTTP/1, as far as its reads and writes tell.
//!
//! Job: tell the end of an idle connection from the end of an answer. A server that drains ends its idle connections; a
//! request that is on its way then would be lost. If the server says nothing of the end (no `shutdown`) and only closes,
//! the primary's copy keeps the connection open, and the request goes to another worker. The end of an *answer* must be
//! said at once: there are clients that wait for it.
//!
//! ```text
//! new ──read waits──▶ idle ──bytes──▶ busy ──written, then a read waits──▶ idle
//!  └── the first bytes are no request of HTTP/1 ──▶ never idle
//! ```
//!
//! Must not know: whether the worker drains, and whether there is a primary.

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Whether the first bytes were a request of HTTP/1; `None` before them.
    http: Option<bool>,
    /// Whether the last thing that was done was to wait for more from the client.
    waits: bool,
}

impl Idle {
    /// A read gave these bytes; none at the client's end.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.waits = false;
        self.http.get_or_insert_with(|| is_http1(bytes));
    }

    /// A read has to wait.
    pub(super) fn waits(&mut self) {
        self.waits = true;
    }

    /// Something was written. A server that speaks first speaks no HTTP.
    pub(super) fn wrote(&mut self) {
        self.waits = false;
        self.http.get_or_insert(false);
    }

    /// Whether it is idle now.
    pub(super) fn is_idle(&self) -> bool {
        self.waits && self.http != Some(false)
    }
}

/// A method begins with capital letters; `PRI` is how HTTP/2 begins.
fn is_http1(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(3)];
    !start.is_empty() && start.iter().all(u8::is_ascii_uppercase) && start != b"PRI"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_before_the_first_request_and_between_two() {
        let mut idle = Idle::default();
        assert!(!idle.is_idle(), "nobody has tried to read yet");
        idle.waits();
        assert!(idle.is_idle(), "a request may be on its way");
        idle.read(b"GET / HTTP/1.1\r\n\r\n");
        assert!(!idle.is_idle());
        idle.waits();
        idle.wrote();
        assert!(!idle.is_idle(), "the end after this is the answer's");
        idle.waits();
        assert!(idle.is_idle());
        idle.read(b"");
        assert!(!idle.is_idle(), "the client has said its end");
    }

    #[test]
    fn other_protocols_are_never_idle() {
        for first in [&b"PRI * HTTP/2.0\r\n"[..], b"\x16\x03\x01", b"hello\n", b""] {
            let mut idle = Idle::default();
            idle.read(first);
            idle.waits();
            assert!(!idle.is_idle(), "{first:?}");
        }
        let mut speaks_first = Idle::default();
        speaks_first.wrote();
        speaks_first.waits();
        assert!(!speaks_first.is_idle());
    }
}
