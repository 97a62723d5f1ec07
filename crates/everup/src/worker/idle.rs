//! Whether the end of a connection is the end of an answer, or just of a connection of HTTP/1 on which nothing is owed.
//!
//! Job: say it, from what is read and written. A server that drains ends its idle connections; a request that is on its
//! way then would be lost. If the server says nothing of the end (no `shutdown`) and only closes, the primary's copy keeps
//! the connection open, and the request goes to another worker. An end that was *announced* must be said at once: there
//! are clients that wait for it.
//!
//! ```text
//! silent ──▶ undecided ──a whole request line──▶ http ──`CONNECT`, or an answer that switches protocols──▶ other
//!    └───────────┴── anything else, or the server speaks ──▶ other
//! ```
//!
//! Silent and http may end unsaid, until an answer has said `connection: close` or the client has ended. Once an answer
//! has said it, nothing that the client still sends takes it back: no answer follows.
//!
//! Must not know: whether there is a primary, and where the connection came from.

use everup_core::drain::{Head, PEEK};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Idle {
    protocol: Protocol,
    /// The client has ended.
    ended: bool,
    /// An answer has told the client to expect the end.
    announced: bool,
}

/// What is spoken.
#[derive(Debug, Default)]
enum Protocol {
    /// Nothing has been said.
    #[default]
    Silent,
    /// These bytes may become a request line.
    Undecided(Vec<u8>),
    Http,
    Other,
}

impl Idle {
    /// These bytes were read; none at the client's end.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.ended = bytes.is_empty();
        if self.ended {
            return;
        }
        self.protocol = match std::mem::take(&mut self.protocol) {
            Protocol::Silent => Protocol::of(bytes),
            Protocol::Undecided(mut before) => {
                before.extend_from_slice(&bytes[..bytes.len().min(PEEK)]);
                Protocol::of(&before)
            }
            Protocol::Http if is_connect(bytes) => Protocol::Other,
            known @ (Protocol::Http | Protocol::Other) => known,
        };
    }

    /// These bytes are about to be written. Answers are looked at also before the worker drains: what one that began
    /// earlier has announced still holds. That is cheap, only the head of an answer is read.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if !matches!(self.protocol, Protocol::Http) {
            // Who speaks first, or to half a request line, speaks no HTTP.
            self.protocol = Protocol::Other;
            return;
        }
        if !bytes.starts_with(b"HTTP/1.") {
            return;
        }
        if bytes.get(7..12) == Some(b"1 101") {
            self.protocol = Protocol::Other;
        } else {
            self.announced |= announces_end(bytes);
        }
    }

    /// Whether nobody would miss the word that this connection has ended.
    pub(super) fn may_end_unsaid(&self) -> bool {
        let expects = match self.protocol {
            Protocol::Silent | Protocol::Http => false,
            Protocol::Undecided(_) | Protocol::Other => true,
        };
        !expects && !self.ended && !self.announced
    }
}

impl Protocol {
    /// By the first bytes of a connection.
    fn of(bytes: &[u8]) -> Self {
        match Head::of(&bytes[..bytes.len().min(PEEK)]) {
            Head::Nothing => Self::Silent,
            Head::Request | Head::Pipelined if is_connect(bytes) => Self::Other,
            Head::Request | Head::Pipelined => Self::Http,
            Head::Prefix => Self::Undecided(bytes.to_vec()),
            Head::Farewell | Head::Tls | Head::Other => Self::Other,
        }
    }
}

/// What follows a request to connect is anything. A body that looks like one only makes the end be said.
fn is_connect(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"CONNECT ")
}

/// The head of an answer. Old clients expect the end after each, unless they are told otherwise.
fn announces_end(answer: &[u8]) -> bool {
    let mut lines = answer.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let old = lines.next().is_some_and(|status| status.starts_with(b"HTTP/1.0"));
    let (mut close, mut stays) = (false, false);
    for option in lines.take_while(|line| !line.is_empty()).flat_map(options) {
        close |= option.eq_ignore_ascii_case(b"close");
        stays |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    close || old && !stays
}

/// What a line says of the connection, if it is the one that does.
fn options(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    const NAME: &[u8] = b"connection:";
    let named = line.split_at_checked(NAME.len());
    let value = named.filter(|(name, _)| name.eq_ignore_ascii_case(NAME));
    let options = value.map(|(_, value)| value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii));
    options.into_iter().flatten()
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
        idle.write(ANSWER);
        idle.write(b"connection: close");
        assert!(idle.may_end_unsaid(), "that was a body");
        idle.read(b"");
        assert!(!idle.may_end_unsaid(), "the client has said its end");
    }

    #[test]
    fn an_end_that_was_announced_is_said_whatever_the_client_still_sends() {
        for answer in [
            LAST,
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nconnection:te, Close\r\n\r\n",
        ] {
            let mut idle = Idle::default();
            idle.read(REQUEST);
            idle.write(answer);
            assert!(!idle.may_end_unsaid());
            idle.read(REQUEST);
            assert!(!idle.may_end_unsaid(), "no answer comes to that one");
        }
    }

    #[test]
    fn an_old_client_may_be_told_that_the_connection_stays() {
        let mut idle = Idle::default();
        idle.read(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        idle.write(b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\nconnection: close\r\n");
        assert!(idle.may_end_unsaid());
    }

    #[test]
    fn other_protocols_always_say_their_end() {
        for first in [
            &b"PRI * HTTP/2.0\r\n"[..],
            b"\x16\x03\x01",
            b"hello\n",
            b"HELLO\n",
            b"NICK me\r\n",
            b"CONNECT\naccept-version:1.2\n",
            b"CONNECT there:443 HTTP/1.1\r\n\r\n",
            b"",
        ] {
            let mut idle = Idle::default();
            idle.read(first);
            assert!(!idle.may_end_unsaid(), "{first:?}");
        }
        let mut speaks_first = Idle::default();
        speaks_first.write(b"220 hello\r\n");
        assert!(!speaks_first.may_end_unsaid());
        let mut tunnel = Idle::default();
        tunnel.read(REQUEST);
        tunnel.write(ANSWER);
        tunnel.read(b"CONNECT there:443 HTTP/1.1\r\n\r\n");
        tunnel.write(b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(!tunnel.may_end_unsaid());
        let mut upgraded = Idle::default();
        upgraded.read(REQUEST);
        upgraded.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        upgraded.read(b"\x81\x00");
        assert!(!upgraded.may_end_unsaid());
    }

    #[test]
    fn it_is_undecided_until_the_request_line_is_whole_and_that_is_not_http() {
        let mut idle = Idle::default();
        let line = REQUEST.len() - 2;
        for byte in &REQUEST[..line - 1] {
            idle.read(&[*byte]);
            assert!(!idle.may_end_unsaid(), "{idle:?}");
        }
        idle.read(&REQUEST[line - 1..]);
        assert!(idle.may_end_unsaid());
        let mut endless = Idle::default();
        endless.read(b"GET /");
        endless.read(&[b'a'; 2 * PEEK]);
        assert!(matches!(endless.protocol, Protocol::Other), "kept no further");
    }
}
