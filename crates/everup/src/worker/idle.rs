//! Whether the end of a connection is the end of an answer, or just of a connection of HTTP/1 on which nothing is owed.
//!
//! Job: say it, from what is read and written. A server that drains ends its idle connections; a request that is on its
//! way then would be lost. If the server says nothing of the end (no `shutdown`) and only closes, the primary's copy keeps
//! the connection open, and the request goes to another worker. An end that was *announced* must be said at once: there
//! are clients that wait for it.
//!
//! ```text
//! quiet ──an answer with `connection: close`, or the client's end──▶ announced ──the next request──▶ quiet
//!   └── the first bytes are no request of HTTP/1, or it becomes another protocol ──▶ never quiet again
//! ```
//!
//! Must not know: whether there is a primary, and where the connection came from.

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Whether the first bytes were a request of HTTP/1; `None` before them.
    http: Option<bool>,
    /// Whether the other side has been told to expect the end, or has ended itself.
    announced: bool,
}

impl Idle {
    /// These bytes were read; none at the client's end.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.announced = bytes.is_empty();
        self.http.get_or_insert_with(|| is_http1(bytes));
    }

    /// These bytes are about to be written. Answers are looked at for what they announce only if the worker drains:
    /// before, their server chose to end the connection by itself, and nothing is to be saved.
    pub(super) fn write(&mut self, bytes: &[u8], draining: bool) {
        // Who speaks first speaks no HTTP.
        if !*self.http.get_or_insert(false) || !bytes.starts_with(b"HTTP/1.") {
            return;
        }
        if bytes.get(7..12) == Some(b"1 101") {
            self.http = Some(false);
        } else if draining {
            self.announced = announces_end(bytes);
        }
    }

    /// Whether nobody would miss the word that this connection has ended.
    pub(super) fn may_end_unsaid(&self) -> bool {
        self.http != Some(false) && !self.announced
    }
}

/// A method begins with capital letters; `PRI` is how HTTP/2 begins.
fn is_http1(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(3)];
    !start.is_empty() && start.iter().all(u8::is_ascii_uppercase) && start != b"PRI"
}

/// The head of an answer. Old clients expect the end after each.
fn announces_end(answer: &[u8]) -> bool {
    let mut lines = answer.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let old = lines.next().is_some_and(|status| status.starts_with(b"HTTP/1.0"));
    let mut head = lines.take_while(|line| !line.is_empty());
    old || head.any(|line| line.eq_ignore_ascii_case(b"connection: close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok";

    #[test]
    fn before_the_first_request_and_between_two_nothing_is_said() {
        let mut idle = Idle::default();
        assert!(idle.may_end_unsaid(), "a request may be on its way");
        idle.read(REQUEST);
        idle.write(ANSWER, true);
        idle.write(b"connection: close", true);
        assert!(idle.may_end_unsaid(), "that was a body");
        idle.read(b"");
        assert!(!idle.may_end_unsaid(), "the client has said its end");
    }

    #[test]
    fn an_end_that_was_announced_is_said() {
        for answer in [LAST, b"HTTP/1.0 200 OK\r\n\r\n"] {
            let mut idle = Idle::default();
            idle.read(REQUEST);
            idle.write(answer, true);
            assert!(!idle.may_end_unsaid());
            idle.read(REQUEST);
            idle.write(ANSWER, true);
            assert!(idle.may_end_unsaid());
        }
    }

    #[test]
    fn other_protocols_always_say_their_end() {
        for first in [&b"PRI * HTTP/2.0\r\n"[..], b"\x16\x03\x01", b"hello\n", b""] {
            let mut idle = Idle::default();
            idle.read(first);
            assert!(!idle.may_end_unsaid(), "{first:?}");
        }
        let mut speaks_first = Idle::default();
        speaks_first.write(b"220 hello\r\n", false);
        assert!(!speaks_first.may_end_unsaid());
        let mut upgraded = Idle::default();
        upgraded.read(REQUEST);
        upgraded.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", false);
        upgraded.read(b"\x81\x00");
        assert!(!upgraded.may_end_unsaid());
    }
}
