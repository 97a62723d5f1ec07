//! A blocking client: one connection, one request after the other.

use crate::frame::{LineError, LineReader, REPLY_LIMIT, REQUEST_LIMIT, line};
use crate::socket::{Until, connect, ended};
use crate::{Call, Error, Progress, Reply, Request};
use serde_json::Value;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why there is no answer that says it is done.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody could be reached.
    Connect {
        /// At this socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There was no whole answer within this time.
    TimedOut(Duration),
    /// The connection ended before the answer.
    Closed,
    /// What came is no answer.
    Protocol(String),
    /// everup says that it was not done.
    Refused(Error),
    /// The connection failed.
    Io(io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { path, .. } => write!(f, "no everup answers at {}", path.display()),
            Self::TimedOut(limit) => write!(f, "no answer within {limit:?}"),
            Self::Closed => f.write_str("the connection ended before the answer"),
            Self::Protocol(what) => write!(f, "this is no everup, or a very different version: {what}"),
            Self::Refused(error) => error.fmt(f),
            Self::Io(_) => f.write_str("the connection failed"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Io(source) => Some(source),
            Self::TimedOut(_) | Self::Closed | Self::Protocol(_) | Self::Refused(_) => None,
        }
    }
}

/// A connection to a running everup.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    reader: LineReader,
    /// For each request, up to the last line of its answer.
    limit: Option<Duration>,
}

impl Client {
    /// Connects. Each request may take as long as `limit`; `None` is for ever.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path, limit: Option<Duration>) -> Result<Self, ClientError> {
        let limit = limit.filter(|limit| !limit.is_zero());
        let deadline = limit.map(|limit| Instant::now() + limit);
        let stream = match (connect(path, deadline), limit) {
            (Ok(stream), _) => stream,
            (Err(error), Some(limit)) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(ClientError::TimedOut(limit));
            }
            (Err(source), _) => {
                let path = path.to_owned();
                return Err(ClientError::Connect { path, source });
            }
        };
        Ok(Self {
            stream,
            reader: LineReader::new(REPLY_LIMIT),
            limit,
        })
    }

    /// Asks, and has the answer by its type.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call<C: Call>(
        &mut self,
        request: C,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<C::Reply, ClientError> {
        let answer = self.exchange(&request.into(), progress)?;
        serde_json::from_value(answer).map_err(|error| ClientError::Protocol(error.to_string()))
    }

    /// Asks, and has the `ok` object as it came.
    ///
    /// # Errors
    /// See [`ClientError`]. After any but `Refused` the connection is of no use any more.
    pub fn exchange(
        &mut self,
        request: &Request,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Value, ClientError> {
        let deadline = self.limit.map(|limit| Instant::now() + limit);
        self.send(request, deadline)?;
        loop {
            match self.receive(deadline)? {
                Reply::Progress(step) => progress(step),
                Reply::Ok(answer) => return Ok(answer),
                Reply::Error(error) => return Err(ClientError::Refused(error)),
            }
        }
    }

    fn send(&mut self, request: &Request, deadline: Option<Instant>) -> Result<(), ClientError> {
        let line = line(request).map_err(ClientError::Io)?;
        if line.len() > REQUEST_LIMIT {
            return Err(ClientError::Protocol("the request is too long".into()));
        }
        let mut stream = Until::new(&self.stream, deadline);
        match stream.write_all(&line) {
            // Refused before it was read: the reason may be there to be read.
            Err(error) if ended(&error) => Ok(()),
            result => result.map_err(|error| self.failed(error)),
        }
    }

    fn receive(&mut self, deadline: Option<Instant>) -> Result<Reply<Value>, ClientError> {
        let mut stream = Until::new(&self.stream, deadline);
        match self.reader.next(&mut stream) {
            Ok(Some(line)) => {
                serde_json::from_slice(&line).map_err(|error| ClientError::Protocol(error.to_string()))
            }
            Ok(None) | Err(LineError::Cut) => Err(ClientError::Closed),
            Err(LineError::TooLong) => Err(ClientError::Protocol("a line without end".into())),
            Err(LineError::Io(error)) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> ClientError {
        match (error.kind(), self.limit) {
            (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(limit)) => {
                ClientError::TimedOut(limit)
            }
            _ if ended(&error) => ClientError::Closed,
            _ => ClientError::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, PingRequest, ReloadRequest, StatusRequest};
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    const LIMIT: Option<Duration> = Some(Duration::from_secs(20));

    /// A server that takes one connection, and for each request gives the next of these answers.
    fn server(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, PathBuf, JoinHandle<Vec<Vec<u8>>>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut reader, mut requests) = (LineReader::new(REQUEST_LIMIT), Vec::new());
            for answer in answers {
                requests.extend(reader.next(&mut stream).unwrap());
                stream.write_all(&answer).ok();
            }
            requests
        };
        (directory, path, thread::spawn(serve))
    }

    fn answers(lines: &[&str]) -> Vec<Vec<u8>> {
        lines.iter().map(|line| line.as_bytes().to_vec()).collect()
    }

    #[test]
    fn one_request_after_the_other() {
        let (_directory, path, server) = server(answers(&[
            "{\"ok\":{\"pid\":7,\"app\":\"a\",\"version\":\"1\",\"later\":true}}\n",
            "{\"progress\":{\"phase\":\"rolling\",\"done\":1,\"total\":2,\"message\":\"m\"}}\n\
             {\"progress\":{\"phase\":\"new_word\",\"done\":2,\"total\":2,\"message\":\"n\"}}\n\
             {\"error\":{\"code\":\"new_code\",\"message\":\"no\"}}\n",
        ]));
        let mut client = Client::connect(&path, LIMIT).unwrap();
        let pong = client.call(PingRequest {}, &mut |_| {}).unwrap();
        assert_eq!((pong.pid, pong.protocol), (7, 0));
        let mut steps = Vec::new();
        let answer = client.call(ReloadRequest {}, &mut |step| steps.push((step.phase, step.done)));
        assert!(matches!(answer, Err(ClientError::Refused(error)) if error.code == ErrorCode::Other));
        assert_eq!(steps, [(crate::Phase::Rolling, 1), (crate::Phase::Other, 2)]);
        let requests = server.join().unwrap();
        assert_eq!(requests, answers(&[r#"{"verb":"ping"}"#, r#"{"verb":"reload"}"#]));
    }

    #[test]
    fn what_is_no_answer() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "this is no everup"),
            (b"{\"ok\":[]}\n", "this is no everup"),
            (b"{\"ok\":{", "the connection ended before the answer"),
            (b"", "the connection ended before the answer"),
            (
                &vec![b'x'; REPLY_LIMIT + 1],
                "this is no everup, or a very different version: a line without end",
            ),
        ] {
            let (_directory, path, server) = server(vec![bytes.to_vec()]);
            let mut client = Client::connect(&path, LIMIT).unwrap();
            let error = client
                .call(StatusRequest {}, &mut |_| {})
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
            server.join().unwrap();
        }
    }

    #[test]
    fn nobody_there_and_nobody_answering() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let error = Client::connect(&path, LIMIT).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no everup answers at {}", path.display())
        );
        let _deaf = UnixListener::bind(&path).unwrap();
        let soon = Some(Duration::from_millis(20));
        let mut client = Client::connect(&path, soon).unwrap();
        let error = client.call(PingRequest {}, &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, ClientError::TimedOut(limit) if limit.as_millis() == 20),
            "{error}"
        );
        // Until its queue is full.
        let mut waiting = Vec::new();
        let error = loop {
            match Client::connect(&path, soon) {
                Ok(client) => waiting.push(client),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, ClientError::TimedOut(limit) if limit.as_millis() == 20),
            "{error}"
        );
    }
}
