//! Events as they come: server-sent events, resumed where the connection ended.

use super::http::{self, Body, HttpError};
use super::{ANSWER_LIMIT, CallError, Client, PAUSE, failure, http_failure};
use crate::Reply;
use crate::socket::Until;
use crate::v1::Event;
use serde_json::Value;
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A daemon that sends nothing for this long is asked anew (it sends comments every few seconds).
const SILENCE: Duration = Duration::from_secs(60);

/// An endless stream of events. When the daemon is replaced, it goes on after the last one that was seen.
#[derive(Debug)]
pub struct Events {
    client: Client,
    last: Option<u64>,
}

impl Events {
    pub(super) fn open(client: Client, after: Option<u64>) -> Result<Self, CallError> {
        Ok(Self { client, last: after })
    }

    /// Gives each event to `see` until it says `false`, or there is no daemon any more.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn each(&mut self, mut see: impl FnMut(Event) -> bool) -> Result<(), CallError> {
        loop {
            match self.follow(&mut see) {
                Ok(true) => return Ok(()),
                Ok(false) | Err(CallError::Lost | CallError::TimedOut(_)) => {
                    self.client.stream = None;
                    std::thread::sleep(PAUSE);
                    self.client.reopen(None)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One connection. `true` if nobody wants more.
    fn follow(&mut self, see: &mut impl FnMut(Event) -> bool) -> Result<bool, CallError> {
        let mut stream = self.request()?;
        let limit = Some(SILENCE);
        let head = http::head(&mut stream, deadline()).map_err(|error| http_failure(error, limit))?;
        let mut body = Body::new(&mut stream, &head, None, ANSWER_LIMIT);
        if head.status != 200 {
            return Err(refusal(&mut body, head.status));
        }
        let mut parser = Parser::default();
        loop {
            body.renew(ANSWER_LIMIT, deadline());
            let line = match body.line() {
                Ok(Some(line)) => line,
                Ok(None) | Err(HttpError::Ended | HttpError::Unread) => return Ok(false),
                Err(error) => return Err(http_failure(error, limit)),
            };
            let Some(data) = parser.line(&line) else { continue };
            let event: Event =
                serde_json::from_str(&data).map_err(|error| CallError::Protocol(error.to_string()))?;
            self.last = Some(event.seq);
            if !see(event) {
                return Ok(true);
            }
        }
    }

    fn request(&mut self) -> Result<BufReader<UnixStream>, CallError> {
        if self.client.stream.is_none() {
            self.client.open(deadline())?;
        }
        let Some(stream) = self.client.stream.take() else {
            return Err(CallError::Lost);
        };
        let resume = self.last.map(|last| format!("Last-Event-ID: {last}"));
        let headers: Vec<&str> = std::iter::once("Accept: text/event-stream")
            .chain(resume.as_deref())
            .collect();
        let bytes = http::get("events", &[], &headers);
        Until::new(stream.get_ref(), deadline())
            .write_all(&bytes)
            .map_err(|error| failure(error, Some(SILENCE)))?;
        Ok(stream)
    }
}

fn deadline() -> Option<Instant> {
    Some(Instant::now() + SILENCE)
}

fn refusal(body: &mut Body<'_>, status: u16) -> CallError {
    let line = body.line().ok().flatten().unwrap_or_default();
    match serde_json::from_slice::<Reply<Value>>(&line) {
        Ok(Reply::Error(error)) => CallError::Refused(error),
        _ if status == 404 => CallError::TooOld("events".into()),
        _ => CallError::Protocol(format!("status {status}")),
    }
}

/// Lines to the data of events.
#[derive(Debug, Default)]
struct Parser {
    data: Option<String>,
}

impl Parser {
    /// The data of the event that this line ends.
    fn line(&mut self, line: &[u8]) -> Option<String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return self.data.take();
        }
        let text = String::from_utf8_lossy(line);
        if let Some(data) = text.strip_prefix("data:") {
            let data = data.strip_prefix(' ').unwrap_or(data);
            match &mut self.data {
                Some(before) => {
                    before.push('\n');
                    before.push_str(data);
                }
                None => self.data = Some(data.to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_data() {
        let mut parser = Parser::default();
        let lines = [
            ": hello",
            "",
            "id: 7",
            "event: exit",
            "data: {\"a\":",
            "data:1}",
            "",
        ];
        let data: Vec<String> = lines
            .iter()
            .filter_map(|line| parser.line(line.as_bytes()))
            .collect();
        assert_eq!(data, ["{\"a\":\n1}"]);
    }
}
