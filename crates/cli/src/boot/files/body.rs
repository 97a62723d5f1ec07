//! A file as the body of an answer: read in pieces, off the thread that serves, the next when the last one is sent.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};

/// Read at once.
const PIECE: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) enum Payload {
    Text(Option<Bytes>),
    File(FileBody),
}

#[derive(Debug)]
pub(super) struct FileBody {
    state: State,
    left: u64,
}

#[derive(Debug)]
enum State {
    Idle(File),
    Reading(JoinHandle<io::Result<(File, Bytes)>>),
    Over,
}

impl Payload {
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()))
    }

    pub(super) fn empty() -> Self {
        Self::Text(None)
    }

    /// So many bytes from there on.
    pub(super) fn file(mut file: File, from: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(from))?;
        Ok(Self::File(FileBody {
            state: State::Idle(file),
            left: length,
        }))
    }
}

impl FileBody {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Idle(_) | State::Over if self.left == 0 => return Poll::Ready(None),
                State::Over => return Poll::Ready(None),
                State::Idle(file) => {
                    let size = self.left.min(PIECE);
                    self.state = State::Reading(spawn_blocking(move || piece(file, size)));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready(read) = Pin::new(&mut reading).poll(context) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let (file, bytes) = match read.map_err(io::Error::other).flatten() {
                        Ok(read) => read,
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    };
                    if bytes.is_empty() {
                        // It became shorter: the client must not take it for the whole.
                        return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                    }
                    self.left -= bytes.len() as u64;
                    self.state = State::Idle(file);
                    return Poll::Ready(Some(Ok(bytes)));
                }
            }
        }
    }
}

fn piece(mut file: File, size: u64) -> io::Result<(File, Bytes)> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    (&mut file).take(size).read_to_end(&mut bytes)?;
    Ok((file, bytes.into()))
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let bytes = match &mut *self {
            Self::Text(text) => text.take().map(Ok),
            Self::File(file) => ready!(file.poll(context)),
        };
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::File(file) => file.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Self::File(file) => file.left,
        })
    }
}
