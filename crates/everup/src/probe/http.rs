//! A probe that asks for a path by HTTP/1.1.
//!
//! ```text
//! Connecting ──▶ Sending ──▶ Reading ──head is complete: answered──▶ Lingering ──end, limit──▶ over
//! ```
//!
//! The head of the answer decides. The rest is read all the same, up to [`MOST`]: an app whose answer is cut off would
//! complain of a client that went away.

use super::tcp::{connected, open};
use super::{Step, Way, trouble};
use everup_core::health::Probed;
use everup_core::time::short;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The most that is read.
const MOST: usize = 64 * 1024;
/// What is read at once.
const CHUNK: usize = 8 * 1024;
/// Bytes of a wrong answer that are shown.
const SHOWN: usize = 24;

#[derive(Debug)]
pub(super) struct Exchange {
    stream: OwnedFd,
    stage: Stage,
    request: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    /// Bytes read in all.
    total: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Sending,
    Reading,
    Lingering,
}

impl Exchange {
    pub(super) fn begin(way: Way, path: &str, host: &str) -> Result<Self, Probed> {
        let (stream, stage) = match way {
            Way::Connected(stream) => {
                rustix::io::ioctl_fionbio(&stream, true).map_err(trouble)?;
                (stream, Stage::Sending)
            }
            Way::Address(address) => (open(address).map_err(trouble)?, Stage::Connecting),
        };
        Ok(Self {
            stream,
            stage,
            request: request(path, host),
            sent: 0,
            received: Vec::new(),
            total: 0,
        })
    }

    pub(super) fn watch(&self) -> (BorrowedFd<'_>, PollFlags) {
        let flags = match self.stage {
            Stage::Connecting => PollFlags::OUT,
            Stage::Sending => PollFlags::OUT | PollFlags::IN,
            Stage::Reading | Stage::Lingering => PollFlags::IN,
        };
        (self.stream.as_fd(), flags)
    }

    pub(super) fn step(&mut self) -> Step {
        let done = match self.stage {
            Stage::Connecting => self.connect(),
            Stage::Sending => self.send(),
            Stage::Reading => return self.read(),
            Stage::Lingering => return self.linger(),
        };
        match done {
            Ok(true) => self.step(),
            Ok(false) => Step::Wait,
            Err(error) => Step::Done(trouble(error)),
        }
    }

    pub(super) fn expire(&self, limit: Duration) -> Step {
        let limit = short(limit);
        let why = match self.stage {
            Stage::Lingering => return Step::Over,
            Stage::Connecting => format!("no connection within {limit}"),
            Stage::Sending | Stage::Reading if self.received.is_empty() => {
                format!("no answer within {limit}")
            }
            Stage::Sending | Stage::Reading => format!("no end of its answer's head within {limit}"),
        };
        Step::Done(Probed::Failed(why))
    }

    /// True when the next stage is reached.
    fn connect(&mut self) -> Result<bool, Errno> {
        let done = connected(&self.stream)?;
        if done {
            self.stage = Stage::Sending;
        }
        Ok(done)
    }

    fn send(&mut self) -> Result<bool, Errno> {
        while let Some(rest) = self.request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send(&self.stream, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                // It may have answered before it closed.
                Err(Errno::PIPE | Errno::CONNRESET) => break,
                Err(error) => return Err(error),
            }
        }
        self.stage = Stage::Reading;
        Ok(true)
    }

    fn read(&mut self) -> Step {
        loop {
            match self.receive() {
                Ok(0) if self.received.is_empty() => {
                    return Step::Done(Probed::Failed("closed without an answer".into()));
                }
                Ok(0) => return Step::Done(Probed::Failed("closed in the middle of its answer".into())),
                Ok(_) => {}
                Err(Errno::AGAIN) => return Step::Wait,
                Err(error) => return Step::Done(trouble(error)),
            }
            match head(&self.received) {
                Ok(Some(status)) => return self.answered(status),
                Ok(None) if self.total >= MOST => {
                    let why = format!("no end of its answer's head within {} KiB", MOST / 1024);
                    return Step::Done(Probed::Failed(why));
                }
                Ok(None) => {}
                Err(why) => return Step::Done(Probed::Failed(why)),
            }
        }
    }

    fn answered(&mut self, status: u16) -> Step {
        self.stage = Stage::Lingering;
        self.received = Vec::new();
        Step::Answered(match status {
            200..=399 => Probed::Ok,
            _ => Probed::Failed(format!("status {status}")),
        })
    }

    fn linger(&mut self) -> Step {
        while self.total < MOST {
            match self.receive() {
                Ok(1..) => self.received.clear(),
                Err(Errno::AGAIN) => return Step::Wait,
                Ok(0) | Err(_) => return Step::Over,
            }
        }
        Step::Over
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        let mut chunk = [0; CHUNK];
        let room = CHUNK.min(MOST - self.total);
        let (read, _) =
            rustix::io::retry_on_intr(|| recv(&self.stream, &mut chunk[..room], RecvFlags::DONTWAIT))?;
        self.received.extend_from_slice(&chunk[..read]);
        self.total += read;
        Ok(read)
    }
}

fn request(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: everup-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// The status, once the head is complete; interim answers (1xx) are skipped.
fn head(mut bytes: &[u8]) -> Result<Option<u16>, String> {
    const BEGIN: &[u8] = b"HTTP/1.";
    loop {
        let begun = bytes.len().min(BEGIN.len());
        if bytes[..begun] != BEGIN[..begun] {
            return Err(no_http(bytes));
        }
        let Some(line) = find(bytes, b"\r\n") else {
            return Ok(None);
        };
        let status = status(&bytes[..line]).ok_or_else(|| no_http(bytes))?;
        let Some(end) = find(&bytes[line..], b"\r\n\r\n") else {
            return Ok(None);
        };
        if !(100..200).contains(&status) || status == 101 {
            return Ok(Some(status));
        }
        bytes = &bytes[line + end + 4..];
    }
}

/// `HTTP/1.1 200 OK`, without anything else (`RFC 9112`, section 4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (code, reason) = rest.split_at_checked(3)?;
    let printable = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
    if !(reason.is_empty() || reason[0] == b' ' && reason.iter().all(printable)) {
        return None;
    }
    let digits = code.iter().all(u8::is_ascii_digit);
    let code = std::str::from_utf8(code).ok().filter(|_| digits)?;
    code.parse().ok().filter(|code| *code >= 100)
}

fn no_http(bytes: &[u8]) -> String {
    let line = find(bytes, b"\r\n").unwrap_or(bytes.len());
    format!(
        "not an HTTP answer: it begins with `{}`",
        bytes[..line.min(SHOWN)].escape_ascii()
    )
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        for (text, status) in [
            ("HTTP/1.1 200 OK\r\n\r\n", 200),
            ("HTTP/1.0 204\r\nA: b\r\n\r\n", 204),
            ("HTTP/1.1 404 \r\n\r\n", 404),
            ("HTTP/1.1 503 No \u{fc}nit\r\nA: b\r\n\r\nbody", 503),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\n\r\n",
                302,
            ),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", 101),
        ] {
            assert_eq!(head(text.as_bytes()), Ok(Some(status)), "{text}");
            let end = text.rfind("\r\n\r\n").unwrap() + 4;
            for cut in 0..end {
                assert_eq!(
                    head(&text.as_bytes()[..cut]),
                    Ok(None),
                    "{}",
                    &text[..cut.min(20)]
                );
            }
        }
    }

    #[test]
    fn other_things_are_no_heads() {
        for text in [
            "SSH-2.0-x\r\n",
            "hello",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200OK\r\n\r\n",
            "HTTP/1.1 200 O\u{1}K\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(head(text.as_bytes()).is_err(), "{text:?}");
        }
        let why = head(b"\x15\x03\x01nonsense and much more of it").unwrap_err();
        assert_eq!(
            why,
            "not an HTTP answer: it begins with `\\x15\\x03\\x01nonsense and much mor`"
        );
    }
}
