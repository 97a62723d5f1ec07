//! Just enough of an HTTP/1.1 response to know where it ends, what its status is, and who sent it.

/// How far a response has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress<'a> {
    /// More bytes are to come.
    Partial,
    /// It ends where the connection ends.
    UntilEof(Head<'a>),
    /// It is whole.
    Whole(Head<'a>),
}

/// What its head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    /// The status code.
    pub(super) status: u16,
    /// The header `X-Worker`.
    pub(super) worker: &'a str,
    /// The server closes the connection after it.
    pub(super) closes: bool,
}

/// Looks at everything that has come of a response.
pub(super) fn parse(bytes: &[u8]) -> Progress<'_> {
    let Some(end) = end_of_head(bytes) else {
        return Progress::Partial;
    };
    let Ok(text) = std::str::from_utf8(&bytes[..end]) else {
        return Progress::Partial;
    };
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.get(9..12))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let mut head = Head {
        status,
        worker: "",
        closes: text.starts_with("HTTP/1.0"),
    };
    let (mut length, mut chunked) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("x-worker") {
            head.worker = value;
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    let body = &bytes[end + 4..];
    match length {
        Some(length) if body.len() >= length => Progress::Whole(head),
        Some(_) => Progress::Partial,
        None if !chunked => Progress::UntilEof(head),
        None if body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n") => Progress::Whole(head),
        None => Progress::Partial,
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == b'\r') {
        if bytes[from + at..].starts_with(b"\r\n\r\n") {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_only_at_the_last_byte() {
        let response = b"HTTP/1.1 200 OK\r\nX-Worker: 3\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..response.len() {
            assert_eq!(parse(&response[..end]), Progress::Partial, "{end}");
        }
        assert_eq!(
            parse(response),
            Progress::Whole(Head {
                status: 200,
                worker: "3",
                closes: false
            })
        );
    }

    #[test]
    fn chunked_and_endless() {
        let chunked =
            b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(
            parse(chunked),
            Progress::Whole(Head {
                status: 404,
                worker: "",
                closes: true
            })
        );
        let endless = b"HTTP/1.0 200 OK\r\n\r\nabc";
        assert_eq!(
            parse(endless),
            Progress::UntilEof(Head {
                status: 200,
                worker: "",
                closes: true
            })
        );
    }
}
