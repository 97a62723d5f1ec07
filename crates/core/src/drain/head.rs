//! What unread bytes of a connection begin with.
//!
//! Job: tell a request of HTTP/1 from everything else, by the rules that servers read a request line with (RFC 9112,
//! section 3): method, one space, target, one space, `HTTP/1.0` or `HTTP/1.1`, the end of the line. Pure.

/// How many unread bytes are looked at. A request line that is longer is none that servers take.
pub const PEEK: usize = 16 * 1024;
/// The longest method that is believed (`VERSION-CONTROL` has 15).
const METHOD: usize = 24;
/// A record of TLS 1.3 that is no longer than this is an alert: its two bytes, the true type, and the cipher's tag.
const ALERT: usize = 24;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Nothing is unread.
    Nothing,
    /// A request of HTTP/1, or as much of one as has a whole request line.
    Request,
    /// A whole head of a request, and another request behind it: the client does not wait for answers.
    Pipelined,
    /// What may become a request line.
    Prefix,
    /// The client says goodbye: an alert of TLS. Nobody waits for an answer.
    Farewell,
    /// Records of TLS.
    Tls,
    /// Anything else.
    Other,
}

impl Head {
    /// What these bytes are, the first [`PEEK`] of those that are unread.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Nothing;
        }
        if let Some(tls) = tls(bytes) {
            return tls;
        }
        match request_line(bytes) {
            Line::Whole if pipelined(bytes) => Self::Pipelined,
            Line::Whole => Self::Request,
            Line::Part if bytes.len() < PEEK => Self::Prefix,
            Line::Part | Line::None => Self::Other,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole,
    Part,
    None,
}

/// Another request line right after the end of the first head.
fn pipelined(bytes: &[u8]) -> bool {
    const END: &[u8] = b"\r\n\r\n";
    let end = bytes.windows(END.len()).position(|window| window == END);
    end.is_some_and(|end| request_line(&bytes[end + END.len()..]) == Line::Whole)
}

fn request_line(bytes: &[u8]) -> Line {
    // Servers skip empty lines before a request: some clients send one after a body.
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte));
    let Some(bytes) = start.map(|start| &bytes[start..]) else {
        return Line::Part;
    };
    let is_method = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    let is_target = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    let Some((method, rest)) = word(bytes, is_method) else {
        return part_if(bytes.len() <= METHOD && bytes.iter().all(is_method));
    };
    if method == 0 || method > METHOD {
        return Line::None;
    }
    let Some((target, rest)) = word(rest, is_target) else {
        return part_if(rest.iter().all(is_target));
    };
    if target == 0 {
        return Line::None;
    }
    version(rest)
}

/// The length of the word up to the first space, and what is behind that space.
fn word(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> Option<(usize, &[u8])> {
    let end = bytes.iter().position(|byte| !belongs(byte))?;
    (bytes[end] == b' ').then_some((end, &bytes[end + 1..]))
}

fn part_if(possible: bool) -> Line {
    if possible { Line::Part } else { Line::None }
}

fn version(rest: &[u8]) -> Line {
    let ends: [&[u8]; 4] = [b"HTTP/1.1\r\n", b"HTTP/1.0\r\n", b"HTTP/1.1\n", b"HTTP/1.0\n"];
    if ends.iter().any(|end| rest.starts_with(end)) {
        return Line::Whole;
    }
    part_if(ends.iter().any(|end| end.starts_with(rest)))
}

/// A record's type, 3 as the major version, and the record's length.
fn tls(bytes: &[u8]) -> Option<Head> {
    const ALERTS: u8 = 21;
    const DATA: u8 = 23;
    let kind = *bytes.first().filter(|kind| (20..=24).contains(*kind))?;
    match bytes.get(1..5) {
        Some([3, 0..=4, high, low]) => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let alone = bytes.len() == length + 5;
            let alert = kind == ALERTS || kind == DATA && length <= ALERT;
            Some(if alone && alert { Head::Farewell } else { Head::Tls })
        }
        Some(_) => None,
        None => bytes.get(1).is_none_or(|major| *major == 3).then_some(Head::Tls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: &[u8] = b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n";

    #[test]
    fn every_beginning_of_a_request_is_a_prefix_until_its_line_is_whole() {
        let line = REQUEST.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
        for length in 1..REQUEST.len() {
            let expected = if length < line {
                Head::Prefix
            } else {
                Head::Request
            };
            assert_eq!(Head::of(&REQUEST[..length]), expected, "{length} bytes");
        }
    }

    #[test]
    fn requests_of_every_kind() {
        for request in [
            REQUEST,
            b"POST / HTTP/1.0\r\n",
            b"OPTIONS * HTTP/1.1\r\n",
            b"M-SEARCH /x HTTP/1.1\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\n",
            b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody",
        ] {
            assert_eq!(Head::of(request), Head::Request, "{request:?}");
        }
    }

    #[test]
    fn two_requests_in_a_row() {
        assert_eq!(Head::of(&REQUEST.repeat(2)), Head::Pipelined);
    }

    #[test]
    fn what_is_no_request() {
        for bytes in [
            &b"get / HTTP/1.1\r\n"[..],
            b" GET / HTTP/1.1\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"GET / HTTP/1.2\r\n",
            b"GET /\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PING\r\n",
            b"\x81\x85masked",
            b"{\"json\": 1}",
            b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(Head::of(bytes), Head::Other, "{bytes:?}");
        }
        let endless = [b"GET /".as_slice(), &[b'a'; PEEK]].concat();
        assert_eq!(Head::of(&endless[..PEEK]), Head::Other);
        assert_eq!(Head::of(b""), Head::Nothing);
    }

    #[test]
    fn tls_and_its_goodbye() {
        assert_eq!(Head::of(&[22, 3, 1, 2, 0, 1]), Head::Tls);
        assert_eq!(Head::of(&[23]), Head::Tls);
        let record = |kind: u8, length: u8| [vec![kind, 3, 3, 0, length], vec![0; length.into()]].concat();
        assert_eq!(Head::of(&record(21, 26)), Head::Farewell);
        assert_eq!(Head::of(&record(23, 19)), Head::Farewell);
        assert_eq!(Head::of(&record(23, 60)), Head::Tls);
        assert_eq!(Head::of(&[record(23, 19), record(23, 60)].concat()), Head::Tls);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let head = Head::of(&bytes);
            prop_assert_eq!(head == Head::Nothing, bytes.is_empty());
        }
    }
}
