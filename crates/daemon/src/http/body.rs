//! Answers: one JSON object, or lines as they come.

use everup_api::{Error, Reply};
use hyper::body::{Body, Bytes, Frame};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::Receiver;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All of it; empty when it is sent.
    Whole(Bytes),
    /// As it comes.
    Lines(Receiver<Bytes>),
}

impl Answer {
    /// What came of it, if that is known: `ok`, or the code of the error.
    pub(super) fn outcome(&self) -> Option<String> {
        let Self::Whole(bytes) = self else { return None };
        let answer: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let code = answer.get("error").and_then(|error| error.get("code")?.as_str());
        Some(code.unwrap_or("ok").to_owned())
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Lines(lines) => lines
                .poll_recv(context)
                .map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.len().try_into().unwrap_or(u64::MAX))
            }
            Self::Lines(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// A reply as a line of JSON.
pub(crate) fn line<T: Serialize>(reply: &Reply<T>) -> Bytes {
    let mut line = serde_json::to_vec(reply).unwrap_or_else(|error| {
        // Not possible: all of it is plain data.
        format!("{{\"error\":{{\"code\":\"internal\",\"message\":\"{error}\"}}}}").into_bytes()
    });
    line.push(b'\n');
    line.into()
}

/// `{"ok": …}`.
pub(crate) fn ok<T: Serialize>(value: T) -> Response<Answer> {
    with(
        StatusCode::OK,
        "application/json",
        Answer::Whole(line(&Reply::Ok(value))),
    )
}

/// `{"error": …}`, with its status.
pub(crate) fn failed(error: &Error) -> Response<Answer> {
    let status = StatusCode::from_u16(error.code.told_as().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let line = line(&Reply::<()>::Error(error.clone()));
    with(status, "application/json", Answer::Whole(line))
}

/// The same as bytes, for somebody whose request is not even read.
pub(super) fn raw(error: &Error) -> Vec<u8> {
    let status = error.code.told_as().0;
    let line = line(&Reply::<()>::Error(error.clone()));
    let mut bytes = format!(
        "HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        line.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&line);
    bytes
}

/// One or the other.
pub(crate) fn result<T: Serialize>(result: Result<T, Error>) -> Response<Answer> {
    match result {
        Ok(value) => ok(value),
        Err(error) => failed(&error),
    }
}

/// Lines as they come.
pub(crate) fn lines(kind: &'static str, lines: Receiver<Bytes>) -> Response<Answer> {
    with(StatusCode::OK, kind, Answer::Lines(lines))
}

fn with(status: StatusCode, kind: &'static str, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}
