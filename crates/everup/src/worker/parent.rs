//! The channel of a program that was started by `child_process.fork`.

use super::env;
use super::error::EnvError;
use super::link::Link;
use super::messages::{Message, Messages};
use super::start_reading;
use crate::message::{self, Handle, SendError};
use serde::Serialize;
use std::sync::Arc;

/// The parent of this process, where it was started by `child_process.fork` (with `execPath` set to this program) or by
/// a cluster whose channel is [`Channel::Ipc`](crate::Channel::Ipc): messages and sockets, and nothing of a cluster.
#[derive(Debug, Clone)]
pub struct Parent {
    link: Arc<Link>,
}

impl Parent {
    /// `None` when this process was not started so; a [`Worker`](super::Worker) is something else.
    ///
    /// # Errors
    /// The variables are there and make no sense, or it was called before.
    pub fn from_env() -> Result<Option<Self>, EnvError> {
        let Some(channel) = env::parent()? else {
            return Ok(None);
        };
        let link = Link::new(Some(channel.socket), channel.serialization, false);
        start_reading(&link)?;
        Ok(Some(Self { link }))
    }

    /// Sends a message, as JSON: `process.send(message)`.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, message: &impl Serialize) -> Result<(), SendError> {
        self.link.send(&message::json(message)?)
    }

    /// Sends a JSON text.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_json(&self, message: &str) -> Result<(), SendError> {
        self.link.send(&message::text(message)?)
    }

    /// Sends a message and a socket, which is closed here once it has arrived: `process.send(message, handle)`.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_handle(&self, message: &impl Serialize, handle: impl Into<Handle>) -> Result<(), SendError> {
        let message = message::json(message)?;
        self.link.send_handle(&message, handle.into())
    }

    /// The parent's messages; `None` if somebody has them already.
    #[must_use]
    pub fn messages(&self) -> Option<Messages> {
        Messages::of(&self.link)
    }

    /// Calls this for each message, in a thread of its own: `process.on('message')`. False if somebody has them already.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn on_message(&self, act: impl FnMut(Message) + Send + 'static) -> std::io::Result<bool> {
        Messages::each(&self.link, act)
    }

    /// Closes the channel when everything is written: `process.disconnect()`.
    pub async fn disconnect(&self) {
        self.link.written().await;
        self.link.shut();
    }

    /// Whether the channel is open: `process.connected`.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Done when the parent is gone, or has closed the channel: `process.on('disconnect')`.
    pub fn on_disconnect(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        self.link.drain.begun()
    }
}
