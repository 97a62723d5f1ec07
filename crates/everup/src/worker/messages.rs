//! Messages from the primary's app.
//!
//! Job: keep them until the app takes them, within a bound; what is beyond it is counted, not kept.

use super::link::Link;
use crate::message::Handle;
use everup_core::wire::HandleKind;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::Notify;

/// How much may wait for the app, in bytes of messages; a descriptor counts as [`HANDLE_WEIGHT`].
pub const INBOX_LIMIT: usize = 64 << 20;
/// So that at most 256 descriptors wait.
pub const HANDLE_WEIGHT: usize = INBOX_LIMIT / 256;

/// A message from the primary's app.
#[derive(Debug)]
pub struct Message {
    body: Body,
    handle: Option<Received>,
}

#[derive(Debug)]
enum Body {
    Json(Box<RawValue>),
    Opaque(Vec<u8>),
}

/// A socket that came with a message. Node's `server.close()` in a primary that sent one of its server's connections
/// waits until this is dropped.
#[derive(Debug)]
pub struct Received {
    descriptor: Option<OwnedFd>,
    kind: HandleKind,
    release: Option<(Arc<Link>, String)>,
}

impl Message {
    pub(super) fn json_only(json: Box<RawValue>) -> Self {
        Self {
            body: Body::Json(json),
            handle: None,
        }
    }

    pub(super) fn opaque_only(payload: Vec<u8>) -> Self {
        Self {
            body: Body::Opaque(payload),
            handle: None,
        }
    }

    pub(super) fn with_handle(
        json: Box<RawValue>,
        kind: HandleKind,
        descriptor: OwnedFd,
        release: Option<(Arc<Link>, String)>,
    ) -> Self {
        Self {
            body: Body::Json(json),
            handle: Some(Received {
                descriptor: Some(descriptor),
                kind,
                release,
            }),
        }
    }

    /// Its JSON text; `null` for what JSON cannot express.
    #[must_use]
    pub fn json(&self) -> &str {
        match &self.body {
            Body::Json(json) => json.get(),
            Body::Opaque(_) => "null",
        }
    }

    /// What V8's serializer wrote, where the channel's serialization is `advanced` and JSON cannot express it.
    #[must_use]
    pub fn opaque(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Json(_) => None,
            Body::Opaque(payload) => Some(payload),
        }
    }

    /// Its value.
    ///
    /// # Errors
    /// It is of another form.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.json())
    }

    /// The socket that came with it, once.
    pub fn take_handle(&mut self) -> Option<Received> {
        self.handle.take()
    }

    fn weight(&self) -> usize {
        let bytes = match &self.body {
            Body::Json(json) => json.get().len(),
            Body::Opaque(payload) => payload.len(),
        };
        bytes + self.handle.as_ref().map_or(0, |_| HANDLE_WEIGHT)
    }
}

impl Received {
    /// What the sender said that it is.
    #[must_use]
    pub fn kind(&self) -> HandleKind {
        self.kind
    }

    /// The socket. A sender that waits for its end is told now: nobody could tell it later.
    ///
    /// It is non-blocking.
    #[must_use]
    pub fn into_handle(mut self) -> Option<Handle> {
        let descriptor = self.descriptor.take()?;
        Some(Handle::of(self.kind, descriptor))
    }

    /// Another descriptor for the same socket.
    ///
    /// # Errors
    /// When this process is out of descriptors.
    pub fn duplicate(&self) -> io::Result<Handle> {
        match &self.descriptor {
            Some(descriptor) => Ok(Handle::of(self.kind, descriptor.try_clone()?)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        drop(self.descriptor.take());
        if let Some((link, key)) = self.release.take() {
            link.released(&key);
        }
    }
}

/// What waits for the app.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Message>,
    weight: usize,
    skipped: u64,
    ended: bool,
    taken: bool,
    arrived: Arc<Notify>,
}

impl Inbox {
    /// The only reader there may be.
    pub(super) fn reader(&mut self) -> Option<Arc<Notify>> {
        (!std::mem::replace(&mut self.taken, true)).then(|| Arc::clone(&self.arrived))
    }

    /// Gives a message back for which there is no room. One message always has room.
    pub(super) fn push(&mut self, message: Message) -> Option<Message> {
        let weight = message.weight();
        if self.weight > 0 && self.weight + weight > INBOX_LIMIT {
            self.skipped += 1;
            return Some(message);
        }
        self.weight += weight;
        self.waiting.push_back(message);
        self.arrived.notify_one();
        None
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.arrived.notify_one();
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.waiting.pop_front()?;
        self.weight -= message.weight();
        Some(message)
    }
}

/// The messages of the primary's app, in order. Those that came before are kept, within
/// [`INBOX_LIMIT`]; Node loses what comes before its app listens.
#[derive(Debug)]
pub struct Messages {
    link: Arc<Link>,
    arrived: Arc<Notify>,
}

impl Messages {
    /// `None` if somebody has them already.
    pub(super) fn of(link: &Arc<Link>) -> Option<Self> {
        Some(Self {
            arrived: link.with_inbox(Inbox::reader)?,
            link: Arc::clone(link),
        })
    }

    pub(super) fn each(link: &Arc<Link>, mut act: impl FnMut(Message) + Send + 'static) -> io::Result<bool> {
        let Some(mut messages) = Self::of(link) else {
            return Ok(false);
        };
        std::thread::Builder::new()
            .name("everup-messages".into())
            .spawn(move || {
                while let Some(message) = messages.recv_blocking() {
                    act(message);
                }
            })?;
        Ok(true)
    }

    /// The next one; `None` when the channel is closed and all were taken. Works in any async runtime; cancelling it
    /// loses nothing.
    pub async fn recv(&mut self) -> Option<Message> {
        loop {
            let (message, ended) = self.link.with_inbox(|inbox| (inbox.pop(), inbox.ended));
            if message.is_some() || ended {
                return message;
            }
            self.arrived.notified().await;
        }
    }

    /// The same, waiting in this thread.
    pub fn recv_blocking(&mut self) -> Option<Message> {
        crate::wait::block_on(self.recv())
    }

    /// How many were not kept, because the app was slower than [`INBOX_LIMIT`] allows.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.link.with_inbox(|inbox| inbox.skipped)
    }
}
