//! A blocking client of the daemon: HTTP over its UNIX socket, one connection, one call after the other.
//!
//! Invariants: a call that only looks is repeated when the connection ended before the answer (the daemon died, and the
//! next one is on its way); one that changes something is repeated only if it was never sent whole. What became of
//! it otherwise nobody can know here: [`CallError::Lost`] says so. Each call ends at its deadline, however slowly the
//! other side writes.
//!
//! Must not know: arguments, terminals, how a daemon is started.

mod events;
mod http;
#[cfg(test)]
mod tests;

pub use events::Events;

use super::Pong;
use crate::frame::REPLY_LIMIT;
use crate::socket::{self, Until};
use crate::{Error, Progress, Reply};
use http::{Body, Head, HttpError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An answer is not longer: 1,000 workers take about 2 MB.
const ANSWER_LIMIT: usize = 64 << 20;
/// How long a daemon that has died may take to be back.
const RECOVERY: Duration = Duration::from_secs(10);
/// Between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(10);

const _: () = assert!(ANSWER_LIMIT >= REPLY_LIMIT);

/// Why there is no answer that says it is done.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// No daemon is there.
    NotRunning {
        /// At this socket.
        path: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// There is one, and it is not for this user.
    NotAllowed {
        /// At this socket.
        path: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// There was no whole answer within this time. What was asked for may go on.
    TimedOut(Duration),
    /// The daemon ended after it had got the call, and before it answered.
    Lost,
    /// What answers speaks another language.
    Protocol(String),
    /// The daemon does not know this call: it is older.
    TooOld(String),
    /// The daemon says that it was not done.
    Refused(Error),
    /// The connection failed.
    Io(io::Error),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { path, .. } => write!(f, "no daemon answers at {}", path.display()),
            Self::NotAllowed { path, .. } => write!(f, "could not connect to {}", path.display()),
            Self::TimedOut(limit) => write!(f, "no answer within {limit:?}"),
            Self::Lost => f.write_str("the daemon ended before it answered"),
            Self::Protocol(what) => write!(f, "this is no everup, or a very different version: {what}"),
            Self::TooOld(call) => write!(
                f,
                "the running daemon does not know `{call}`: it is of another version"
            ),
            Self::Refused(error) => error.fmt(f),
            Self::Io(_) => f.write_str("the connection to the daemon failed"),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotRunning { source, .. } | Self::NotAllowed { source, .. } | Self::Io(source) => {
                Some(source)
            }
            Self::TimedOut(_) | Self::Lost | Self::Protocol(_) | Self::TooOld(_) | Self::Refused(_) => None,
        }
    }
}

/// A daemon, and the connection to it.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: Option<BufReader<UnixStream>>,
    /// Of each call.
    limit: Option<Duration>,
    recovery: Duration,
}

/// What is sent, and whether it may be sent again.
struct Request {
    bytes: Vec<u8>,
    call: String,
    repeatable: bool,
}

impl Client {
    /// Connects. Each call may take as long as `limit`; `None` is for ever.
    ///
    /// # Errors
    /// [`CallError::NotRunning`], [`CallError::NotAllowed`], [`CallError::TimedOut`].
    pub fn connect(path: &Path, limit: Option<Duration>) -> Result<Self, CallError> {
        let limit = limit.filter(|limit| !limit.is_zero());
        let mut client = Self {
            path: path.to_owned(),
            stream: None,
            limit,
            recovery: RECOVERY,
        };
        client.open(client.deadline())?;
        Ok(client)
    }

    /// Changes how long each call may take.
    pub fn set_limit(&mut self, limit: Option<Duration>) {
        self.limit = limit.filter(|limit| !limit.is_zero());
    }

    /// Another handle of the connection, if there is one: shut down, it ends a call with [`CallError::Lost`].
    #[must_use]
    pub fn line(&self) -> Option<UnixStream> {
        self.stream.as_ref()?.get_ref().try_clone().ok()
    }

    /// Who answers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn ping(&mut self) -> Result<Pong, CallError> {
        self.get("ping", &[])
    }

    /// Asks for something that changes nothing: `GET /v1/CALL?…`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn get<T: DeserializeOwned>(&mut self, call: &str, query: &[(&str, &str)]) -> Result<T, CallError> {
        let request = Request {
            bytes: http::get(call, query, &[]),
            call: call.to_owned(),
            repeatable: true,
        };
        self.answer(&request, &mut |_| {})
    }

    /// Has something done: `POST /v1/CALL`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn post<T: DeserializeOwned>(
        &mut self,
        call: &str,
        body: &impl Serialize,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<T, CallError> {
        self.send(call, body, false, progress)
    }

    /// As [`Client::post`], for a call that changes nothing all the same (`plan`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn ask<T: DeserializeOwned>(&mut self, call: &str, body: &impl Serialize) -> Result<T, CallError> {
        self.send(call, body, true, &mut |_| {})
    }

    /// The events after this one, as they come; `None` is from now on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn events(self, after: Option<u64>) -> Result<Events, CallError> {
        Events::open(self, after)
    }

    fn send<T: DeserializeOwned>(
        &mut self,
        call: &str,
        body: &impl Serialize,
        repeatable: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Protocol(error.to_string()))?;
        let request = Request {
            bytes: http::post(call, &body),
            call: call.to_owned(),
            repeatable,
        };
        self.answer(&request, progress)
    }

    fn answer<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<T, CallError> {
        let value = self.exchange(request, progress)?;
        serde_json::from_value(value).map_err(|error| CallError::Protocol(error.to_string()))
    }

    fn exchange(
        &mut self,
        request: &Request,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Value, CallError> {
        let deadline = self.deadline();
        loop {
            let failed = match self.once(request, deadline, progress) {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let again = request.repeatable || failed.unheard;
            if !again || !matches!(failed.error, CallError::Lost) {
                return Err(failed.error);
            }
            self.reopen(deadline)?;
        }
    }

    /// One try. The connection is kept only after a whole answer.
    fn once(
        &mut self,
        request: &Request,
        deadline: Option<Instant>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Value, Failed> {
        if self.stream.is_none() {
            self.open(deadline).map_err(Failed::unsent)?;
        }
        let limit = self.limit;
        let Some(mut stream) = self.stream.take() else {
            return Err(Failed::unsent(CallError::Lost));
        };
        let sent = Until::new(stream.get_ref(), deadline).write_all(&request.bytes);
        let cut = match sent {
            // A daemon that refuses before it has read all may have said why.
            Err(error) if socket::ended(&error) => true,
            Err(error) => return Err(Failed::unsent(failure(error, limit))),
            Ok(()) => false,
        };
        let head = http::head(&mut stream, deadline).map_err(|error| Failed {
            unheard: cut || matches!(error, HttpError::Unread),
            error: http_failure(error, limit),
        })?;
        let (value, keep) = read_answer(&mut stream, &head, request, deadline, limit, progress)?;
        self.stream = keep.then_some(stream);
        Ok(value?)
    }

    fn deadline(&self) -> Option<Instant> {
        self.limit.map(|limit| Instant::now() + limit)
    }

    fn open(&mut self, deadline: Option<Instant>) -> Result<(), CallError> {
        let stream = socket::connect(&self.path, deadline).map_err(|source| self.unreachable(source))?;
        self.stream = Some(BufReader::new(stream));
        Ok(())
    }

    /// Waits for the daemon that comes after one that died.
    fn reopen(&mut self, deadline: Option<Instant>) -> Result<(), CallError> {
        let end = Instant::now() + self.recovery;
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        loop {
            match self.open(Some(end)) {
                Err(CallError::NotRunning { .. }) if Instant::now() < end => std::thread::sleep(PAUSE),
                result => return result,
            }
        }
    }

    fn unreachable(&self, source: io::Error) -> CallError {
        let path = self.path.clone();
        match (source.kind(), self.limit) {
            (io::ErrorKind::PermissionDenied, _) => CallError::NotAllowed { path, source },
            (io::ErrorKind::TimedOut, Some(limit)) => CallError::TimedOut(limit),
            _ => CallError::NotRunning { path, source },
        }
    }
}

/// A call without an answer that says it is done.
struct Failed {
    error: CallError,
    /// No daemon has read all of it.
    unheard: bool,
}

impl Failed {
    fn unsent(error: CallError) -> Self {
        Self { error, unheard: true }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self {
            error,
            unheard: false,
        }
    }
}

/// The last object of an answer; and whether another call may follow on the connection.
type Answer = (Result<Value, CallError>, bool);

fn read_answer(
    stream: &mut BufReader<UnixStream>,
    head: &Head,
    request: &Request,
    deadline: Option<Instant>,
    limit: Option<Duration>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Answer, CallError> {
    let mut body = Body::new(stream, head, deadline, ANSWER_LIMIT);
    let mut last = None;
    while let Some(line) = body.line().map_err(|error| http_failure(error, limit))? {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Reply<Value>>(&line) {
            Ok(Reply::Progress(step)) => progress(step),
            Ok(Reply::Ok(value)) => last = Some(Ok(value)),
            Ok(Reply::Error(error)) => last = Some(Err(CallError::Refused(error))),
            Err(_) if head.status == 404 || head.status == 405 => {
                last = Some(Err(CallError::TooOld(request.call.clone())));
            }
            Err(error) => return Err(CallError::Protocol(error.to_string())),
        }
    }
    match last {
        Some(answer) => Ok((answer, head.keep)),
        None if head.status == 404 || head.status == 405 => Err(CallError::TooOld(request.call.clone())),
        None if head.status >= 400 => Err(CallError::Protocol(format!("status {}", head.status))),
        // A stream that ends between two lines: its writer has died.
        None => Err(CallError::Lost),
    }
}

fn http_failure(error: HttpError, limit: Option<Duration>) -> CallError {
    match error {
        HttpError::Ended | HttpError::Unread => CallError::Lost,
        HttpError::Malformed(what) => CallError::Protocol(what.into()),
        HttpError::Io(error) => failure(error, limit),
    }
}

fn failure(error: io::Error, limit: Option<Duration>) -> CallError {
    match (error.kind(), limit) {
        (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(limit)) => CallError::TimedOut(limit),
        _ if socket::ended(&error) => CallError::Lost,
        _ => CallError::Io(error),
    }
}
