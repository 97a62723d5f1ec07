//! One connection: reads requests, asks the operator, writes the answers.
//!
//! States: waiting for a request (silent, or one has begun) → answering → waiting … → ended. Whatever goes wrong with
//! the connection ends it, after the request that is being done.

use super::Operator;
use api::{Error, ErrorCode, LineError, LineReader, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request};
use everup::signal_number;
use everup_api as api;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a client may keep us waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Between two requests.
    pub(super) silent: Duration,
    /// From the first byte of a request to its last.
    pub(super) request: Duration,
    /// For a line of an answer.
    pub(super) reply: Duration,
}

impl Limits {
    pub(super) const USUAL: Self = Self {
        silent: Duration::from_secs(60),
        request: Duration::from_secs(10),
        reply: Duration::from_secs(5),
    };
}

/// Serves until the client goes, misbehaves, or `closing` says that it is enough.
pub(super) fn serve(
    stream: &UnixStream,
    operator: &dyn Operator,
    limits: Limits,
    closing: &dyn Fn() -> bool,
) {
    let mut answer = Answer {
        stream,
        limit: limits.reply,
        broken: false,
    };
    let mut reader = LineReader::new(REQUEST_LIMIT);
    while !answer.broken && !closing() {
        match next(&mut reader, stream, limits) {
            Ok(Some(line)) if line.trim_ascii().is_empty() => {}
            Ok(Some(line)) => match Request::parse(&line) {
                Ok(request) => answer.request(request, operator),
                Err(error) => answer.end(Err::<(), _>(error)),
            },
            Ok(None) => return,
            Err(error) => {
                if let Some(error) = misbehaved(&error) {
                    answer.end(Err::<(), _>(error));
                }
                return;
            }
        }
    }
}

/// Refuses a connection, without waiting for anything.
pub(super) fn refuse(stream: &UnixStream, error: Error) {
    // A new connection has room for it.
    if stream.set_nonblocking(true).is_ok() {
        let mut answer = Answer {
            stream,
            limit: Duration::ZERO,
            broken: false,
        };
        answer.end(Err::<(), _>(error));
    }
}

/// The next line. Its deadline counts from its first byte, however slowly the others come.
fn next(
    reader: &mut LineReader,
    mut stream: &UnixStream,
    limits: Limits,
) -> Result<Option<Vec<u8>>, LineError> {
    let mut deadline = Instant::now()
        + if reader.has_begun() {
            limits.request
        } else {
            limits.silent
        };
    loop {
        if let Some(line) = reader.buffered()? {
            return Ok(Some(line));
        }
        let begun = reader.has_begun();
        let left = deadline.saturating_duration_since(Instant::now());
        let timed_out = || match begun {
            true => Err(LineError::Io(io::ErrorKind::TimedOut.into())),
            // Silence needs no answer.
            false => Ok(None),
        };
        if left.is_zero() {
            return timed_out();
        }
        stream.set_read_timeout(Some(left)).map_err(LineError::Io)?;
        match reader.fill(&mut stream) {
            Ok(true) if !begun => deadline = Instant::now() + limits.request,
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return timed_out(),
            Err(error) => return Err(LineError::Io(error)),
        }
    }
}

/// What to tell a client before it is left; `None` if it cannot hear.
fn misbehaved(error: &LineError) -> Option<Error> {
    match error {
        LineError::TooLong => {
            let message = format!("the request is longer than {REQUEST_LIMIT} bytes");
            Some(Error::new(ErrorCode::TooLong, message))
        }
        LineError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            let message = "the request took too long to arrive";
            let hint = "a request is one line: it ends with a line break";
            Some(Error::new(ErrorCode::TooSlow, message).with_hint(hint))
        }
        _ => None,
    }
}

/// Where the answer to a request goes.
struct Answer<'a> {
    stream: &'a UnixStream,
    limit: Duration,
    /// Nothing can be written any more.
    broken: bool,
}

impl Answer<'_> {
    fn request(&mut self, request: Request, operator: &dyn Operator) {
        match request {
            Request::Ping(_) => self.end(Ok(operator.ping())),
            Request::Status(_) => self.end(operator.status()),
            Request::Why(request) => {
                let mut why = operator.why(request);
                if let Ok(why) = &mut why {
                    why.fit(REPLY_LIMIT - 64);
                }
                self.end(why);
            }
            Request::Reload(request) => {
                let receipt = operator.reload(request, &mut |step| self.progress(step));
                self.end(receipt);
            }
            Request::Abort(_) => self.end(operator.abort()),
            Request::Scale(request) => self.end(operator.scale(request)),
            Request::Restart(request) => {
                let receipt = operator.restart(request, &mut |step| self.progress(step));
                self.end(receipt);
            }
            Request::Stop(request) => self.end(operator.stop(request)),
            Request::Reopen(_) => self.end(operator.reopen()),
            Request::Signal(request) => {
                let sent = number(&request.signal).and_then(|signal| operator.signal(signal, request.worker));
                self.end(sent);
            }
            Request::Launch(_) => self.end(operator.launch()),
            other => {
                let message = format!("`{}` is not served here", other.verb());
                self.end(Err::<(), _>(Error::new(ErrorCode::Unsupported, message)));
            }
        }
    }

    /// Left out when the client does not read: the next one says more anyway.
    fn progress(&mut self, step: api::Progress) {
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let room = poll(&mut [PollFd::new(self.stream, PollFlags::OUT)], Some(&at_once));
        if !self.broken && room != Ok(0) {
            self.write(&Reply::<()>::Progress(step));
        }
    }

    fn end<T: Serialize>(&mut self, answer: Result<T, Error>) {
        let reply = match answer {
            Ok(answer) => Reply::Ok(answer),
            Err(error) => Reply::Error(error),
        };
        self.write(&reply);
    }

    fn write<T: Serialize>(&mut self, reply: &Reply<T>) {
        if self.broken {
            return;
        }
        let written = api::line(reply).and_then(|line| match line.len() {
            ..=REPLY_LIMIT => self.bytes(&line),
            _ => self.bytes(&api::line(&Reply::<()>::Error(too_long()))?),
        });
        self.broken = written.is_err();
    }

    /// All of them, within the limit.
    fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.limit;
        let mut stream = self.stream;
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            // No limit means "at once": the stream does not block then.
            if !self.limit.is_zero() {
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                stream.set_write_timeout(Some(left))?;
            }
            match stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => bytes = &bytes[written?..],
            }
        }
        Ok(())
    }
}

fn too_long() -> Error {
    let message = format!("the answer is longer than {REPLY_LIMIT} bytes");
    Error::new(ErrorCode::ReplyTooLong, message)
}

fn number(signal: &str) -> Result<i32, Error> {
    signal_number(signal).ok_or_else(|| {
        let shown: String = signal.chars().take(40).collect();
        Error::new(ErrorCode::InvalidValue, format!("`{shown}` is not a signal"))
            .with_hint("write a name or a number: USR2, SIGHUP, 10")
    })
}
