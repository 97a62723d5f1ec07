//! As much of HTTP/1.1 as one client of one server needs: requests, heads, bodies in three framings, line by line.

use crate::socket::Until;
use std::fmt::Write;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A head is not longer.
const HEAD_LIMIT: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum HttpError {
    /// The connection ended too early.
    Ended,
    /// It was reset: the kernel does that when the other side has not read all.
    Unread,
    /// It is no HTTP.
    Malformed(&'static str),
    Io(io::Error),
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset => Self::Unread,
            io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => Self::Ended,
            _ => Self::Io(error),
        }
    }
}

/// The bytes of a `GET`. `headers` are whole lines.
pub(super) fn get(call: &str, query: &[(&str, &str)], headers: &[&str]) -> Vec<u8> {
    let mut target = format!("/v1/{call}");
    for (index, (key, value)) in query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(key);
        target.push('=');
        target.push_str(&percent(value));
    }
    let mut text = format!("GET {target} HTTP/1.1\r\nHost: everup\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// The bytes of a `POST` with a JSON body.
pub(super) fn post(call: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST /v1/{call} HTTP/1.1\r\nHost: everup\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

/// What comes before a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    framing: Framing,
    /// Whether another request may follow.
    pub(super) keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    /// To the end of the connection.
    Close,
}

/// Reads a head; interim ones (`100 Continue`) are skipped.
pub(super) fn head(stream: &mut BufReader<UnixStream>, deadline: Option<Instant>) -> Result<Head, HttpError> {
    loop {
        let mut lines = Vec::new();
        loop {
            let line = raw_line(stream, deadline, HEAD_LIMIT)?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
            if lines.iter().map(Vec::len).sum::<usize>() > HEAD_LIMIT {
                return Err(HttpError::Malformed("a head without end"));
            }
        }
        let head = parse(&lines)?;
        if head.status >= 200 {
            return Ok(head);
        }
    }
}

fn parse(lines: &[Vec<u8>]) -> Result<Head, HttpError> {
    const MALFORMED: HttpError = HttpError::Malformed("no HTTP");
    let mut lines = lines.iter().map(|line| String::from_utf8_lossy(line));
    let status = lines.next().ok_or(MALFORMED)?;
    let rest = status.strip_prefix("HTTP/1.").ok_or(MALFORMED)?;
    let (minor, rest) = rest.split_once(' ').ok_or(MALFORMED)?;
    let code = rest
        .get(..3)
        .and_then(|code| code.parse().ok())
        .ok_or(MALFORMED)?;
    let mut head = Head {
        status: code,
        framing: if code == 204 {
            Framing::Length(0)
        } else {
            Framing::Close
        },
        keep: minor != "0",
    };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" if head.framing == Framing::Close => {
                head.framing = Framing::Length(value.parse().map_err(|_| MALFORMED)?);
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => head.framing = Framing::Chunked,
            "transfer-encoding" => return Err(HttpError::Malformed("an encoding that nobody asked for")),
            "connection" if value.eq_ignore_ascii_case("close") => head.keep = false,
            _ => {}
        }
    }
    head.keep &= head.framing != Framing::Close;
    Ok(head)
}

/// A body, read in lines.
pub(super) struct Body<'a> {
    stream: &'a mut BufReader<UnixStream>,
    deadline: Option<Instant>,
    framing: Framing,
    /// What may still be read.
    budget: usize,
    /// Of this body, or of this chunk.
    left: u64,
    /// The first chunk is still to come.
    first: bool,
    ended: bool,
    pending: Vec<u8>,
    /// Up to here `pending` has no newline.
    searched: usize,
}

impl<'a> Body<'a> {
    pub(super) fn new(
        stream: &'a mut BufReader<UnixStream>,
        head: &Head,
        deadline: Option<Instant>,
        budget: usize,
    ) -> Self {
        let left = match head.framing {
            Framing::Length(length) => length,
            Framing::Chunked | Framing::Close => 0,
        };
        Self {
            stream,
            deadline,
            framing: head.framing,
            budget,
            left,
            first: true,
            ended: false,
            pending: Vec::new(),
            searched: 0,
        }
    }

    /// The body is without end: what was read does not count, and there is time again.
    pub(super) fn renew(&mut self, budget: usize, deadline: Option<Instant>) {
        self.budget = budget;
        self.deadline = deadline;
    }

    /// The next line without its newline; what comes after the last one is a line as well.
    pub(super) fn line(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        loop {
            let found = self.pending[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(at) = found {
                let mut line: Vec<u8> = self.pending.drain(..=self.searched + at).collect();
                self.searched = 0;
                line.pop();
                return Ok(Some(line));
            }
            self.searched = self.pending.len();
            if self.ended {
                self.searched = 0;
                let rest = std::mem::take(&mut self.pending);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), HttpError> {
        if self.left == 0 && !self.next_part()? {
            self.ended = true;
            return Ok(());
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(64 * 1024);
        let mut buffer = vec![0; room];
        let read = read(self.stream, self.deadline, &mut buffer)?;
        if read == 0 {
            return match self.framing {
                Framing::Close => {
                    self.ended = true;
                    self.left = 0;
                    Ok(())
                }
                Framing::Length(_) | Framing::Chunked => Err(HttpError::Ended),
            };
        }
        self.budget = self
            .budget
            .checked_sub(read)
            .ok_or(HttpError::Malformed("an answer without end"))?;
        self.left = self.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        self.pending.extend_from_slice(&buffer[..read]);
        Ok(())
    }

    /// Whether there is more after what is `left`.
    fn next_part(&mut self) -> Result<bool, HttpError> {
        let first = std::mem::replace(&mut self.first, false);
        match self.framing {
            Framing::Length(_) => Ok(false),
            Framing::Close => {
                self.left = u64::MAX;
                Ok(true)
            }
            Framing::Chunked => self.next_chunk(first),
        }
    }

    fn next_chunk(&mut self, first: bool) -> Result<bool, HttpError> {
        const MALFORMED: HttpError = HttpError::Malformed("a chunk without a size");
        if !first && !raw_line(self.stream, self.deadline, 2)?.is_empty() {
            return Err(MALFORMED);
        }
        let line = raw_line(self.stream, self.deadline, 4096)?;
        let text = String::from_utf8_lossy(&line);
        let size = text.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(size, 16).map_err(|_| MALFORMED)?;
        if self.left > 0 {
            return Ok(true);
        }
        // Trailers.
        while !raw_line(self.stream, self.deadline, HEAD_LIMIT)?.is_empty() {}
        Ok(false)
    }
}

/// A line up to CRLF or LF, without it.
fn raw_line(
    stream: &mut BufReader<UnixStream>,
    deadline: Option<Instant>,
    limit: usize,
) -> Result<Vec<u8>, HttpError> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        if read(stream, deadline, &mut byte)? == 0 {
            return Err(HttpError::Ended);
        }
        match byte[0] {
            b'\n' => {
                line.pop_if(|last| *last == b'\r');
                return Ok(line);
            }
            _ if line.len() >= limit => return Err(HttpError::Malformed("a line without end")),
            byte => line.push(byte),
        }
    }
}

/// From the buffer; it is filled in time or not at all.
fn read(
    stream: &mut BufReader<UnixStream>,
    deadline: Option<Instant>,
    into: &mut [u8],
) -> Result<usize, HttpError> {
    if stream.buffer().is_empty() {
        Until::new(stream.get_ref(), deadline).ready()?;
    }
    loop {
        match stream.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(stream.read(into)?),
        }
    }
}
