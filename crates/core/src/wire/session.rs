//! The conversation with one worker.
//!
//! Job: turn what the worker's channel brings into [`Event`]s, answer by itself what needs no decision, and say
//! what is to be written next. One [`Session`] per channel.
//!
//! Answered here: handles (`NODE_HANDLE_ACK`, `NODE_HANDLE_NACK`), `exitedAfterDisconnect`, and the questions
//! about sockets that we were given (`NODE_SOCKET_NOTIFY_CLOSE`, `NODE_SOCKET_GET_COUNT`).
//!
//! # Descriptors
//!
//! The caller keeps the descriptors that it received in a queue, in the order of arrival, and tells
//! [`Session::receive`] how many came with the bytes at hand. It takes the oldest one out of its queue for each
//! [`Event::Handle`] (to own it) and for each [`Event::Discard`] (to close it), in the order of the events;
//! nothing else moves that queue. When the channel ends it closes what is left. A descriptor that arrives before
//! its line is complete waits for that line; one that belongs to no line is claimed by the next handle, as in
//! Node.
//!
//! [`Session::transmit`] names the descriptor to attach to the first byte of what it offers. Each offer is to be
//! written on its own: two offers in one `sendmsg` would lend the descriptor to the wrong bytes.
//!
//! # Connections
//!
//! A connection given to [`Session::hand_over`] is queued → in flight → [`Event::Delivered`] → [`Event::Answer`];
//! or in flight → [`Event::Undelivered`], and no answer follows. [`Session::room`] says how many would start
//! without being held back; whenever it is 0 a handle is unsettled, so one of those events will come. The rules
//! of flight are those of the module `outbox`.
//!
//! # States
//!
//! The dialect is unknown → Node's (Deno's is the same) or Bun's, by the mark on the first line. Until it is
//! known the request to disconnect waits; nobody could read it yet. After a [`WireError`] the session is broken
//! and refuses further input; the channel is to be closed.
//!
//! # Invariants
//!
//! - Kept input never exceeds the frame limit, unclaimed descriptors never [`UNCLAIMED`], answers of our own not
//!   yet written never [`ANSWERS`].
//! - A line that we write is one whole, valid JSON value.
//! - Nothing that a worker says makes it panic.

use super::conversation::Conversation;
use super::frame::Deframer;
use super::message::{Event, HandleKind, Reply, Serialization};
use crate::id::Token;
use serde_json::value::RawValue;

/// How many received descriptors may wait for their line.
pub const UNCLAIMED: usize = 64;
/// How many answers that we owe to a worker may wait to be written. A worker that asks without reading is broken.
pub const ANSWERS: usize = 4096;

/// The longest frame, in bytes, unless [`Settings::frame_limit`] says something else: 64 MiB.
pub const FRAME_LIMIT: usize = 64 << 20;

/// How a channel is spoken. Chosen by the primary when it starts the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// The format of messages.
    pub serialization: Serialization,
    /// The longest frame that is accepted, in bytes. 64 MiB by default: Node has no limit, and apps send
    /// messages of several MiB; beyond this it is an accident, and the primary's memory is everybody's.
    pub frame_limit: usize,
    /// How many handles may be in flight while that is provably safe; 1 is Node's own rule. 8 by default.
    /// Always 1 for Bun, whose reader was not studied.
    pub window: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            serialization: Serialization::Json,
            frame_limit: FRAME_LIMIT,
            window: 8,
        }
    }
}

/// The worker broke the protocol; its channel is of no use any more.
///
/// Says nothing of the content, which may hold keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A message is longer than allowed.
    #[error("a message of more than {limit} bytes")]
    FrameTooLong {
        /// [`Settings::frame_limit`].
        limit: usize,
    },
    /// A frame is not a message.
    #[error("a malformed message: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Descriptors came without messages that they belong to.
    #[error("more than {UNCLAIMED} descriptors without a message")]
    TooManyDescriptors,
    /// It asks and asks, and reads no answers.
    #[error("more than {ANSWERS} unread answers")]
    TooManyAnswers,
    /// An earlier error ended the conversation.
    #[error("the channel is broken")]
    Broken,
}

/// What to write next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// Never empty. Any part of it may be written; say so with [`Session::wrote`].
    pub bytes: &'a [u8],
    /// To be attached to the first byte.
    pub descriptor: Option<Token>,
}

/// The primary's side of one worker's channel.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Session {
    deframer: Deframer,
    conversation: Conversation,
    broken: bool,
}

impl Session {
    /// A channel on which nothing was said yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            deframer: Deframer::new(settings.serialization, settings.frame_limit),
            conversation: Conversation::new(settings),
            broken: false,
        }
    }

    /// Takes bytes just read from the channel and the number of descriptors that came with them; what they mean
    /// is appended to `events`, also when an error follows.
    ///
    /// # Errors
    /// The worker does not speak the protocol. The channel is to be closed; later calls fail as well.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        descriptors: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), WireError> {
        if self.broken {
            return Err(WireError::Broken);
        }
        let result = self.take(bytes, descriptors, events);
        if result.is_err() {
            self.broken = true;
            self.deframer.clear();
        }
        result
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        descriptors: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), WireError> {
        self.conversation.arrived(descriptors);
        while let Some(frame) = self.deframer.next(&mut bytes)? {
            self.conversation.frame(frame, events)?;
        }
        self.conversation.check_unclaimed()
    }

    /// What to write next: the rest of the front segment, and the descriptor that goes with its first byte
    /// (none once that is written). `None`: nothing may be written until the worker says something.
    pub fn transmit(&self) -> Option<Transmit<'_>> {
        self.conversation.outbox.transmit()
    }

    /// `n` bytes of the last offer were written, and with the first of them its descriptor.
    pub fn wrote(&mut self, n: usize) {
        self.conversation.outbox.wrote(n);
    }

    /// Sends a connection to the worker's server of this key.
    pub fn hand_over(&mut self, connection: Token, key: &str) {
        self.conversation.hand_over(connection, key);
    }

    /// Answers the query of this sequence number.
    pub fn reply(&mut self, query_seq: u64, reply: Reply) {
        self.conversation.reply(query_seq, &reply);
    }

    /// Asks a worker of our own library to accept nothing from its sockets any more, and to say so: [`Event::Quiet`]. Not
    /// of Node's protocol; other workers do not answer.
    pub fn quiet(&mut self) {
        self.conversation.quiet();
    }

    /// Asks the worker to close its servers and leave.
    pub fn disconnect(&mut self) {
        self.conversation.disconnect();
    }

    /// Sends a message to the app.
    pub fn send(&mut self, message: &RawValue) {
        self.conversation.send(message);
    }

    /// Sends a message and a descriptor to the app.
    pub fn send_handle(&mut self, message: &RawValue, kind: HandleKind, descriptor: Token) {
        self.conversation.send_handle(message, kind, descriptor);
    }

    /// Sends a payload as it came in an [`Event::Opaque`]. Only a channel of V8's format has such things: on
    /// any other, and without V8's mark in front, nothing is sent, and this is false.
    pub fn send_opaque(&mut self, payload: &[u8]) -> bool {
        self.conversation.send_opaque(payload)
    }

    /// Our copy of a `net.Socket` that came with this key is closed.
    pub fn released(&mut self, key: &str) {
        self.conversation.released(key);
    }

    /// How many connections may be handed over right now so that they go out without being held back behind an
    /// unsettled handle. Whenever this is 0 a handle is unsettled, and its event will change that.
    pub fn room(&self) -> usize {
        self.conversation.outbox.room()
    }

    /// Handles queued or sent, and not yet settled by [`Event::Delivered`] or [`Event::Undelivered`].
    pub fn undelivered(&self) -> usize {
        self.conversation.outbox.undelivered()
    }

    /// Whether a handle was sent, and nothing was heard of it.
    pub fn awaits(&self, handle: Token) -> bool {
        self.conversation.outbox.awaits(handle)
    }

    /// A handle that counts as sent may never have been: nothing that could be taken for it is sent, until it is settled, or
    /// [`never_sent`](Self::never_sent) says so.
    pub fn doubt(&mut self, handle: Token) {
        self.conversation.outbox.doubt(handle);
    }

    /// A handle that counted as sent never was: [`Event::Undelivered`] follows, if nothing was heard of it.
    pub fn never_sent(&mut self, handle: Token, events: &mut Vec<Event>) {
        if self.conversation.outbox.never_sent(handle) {
            events.push(Event::Undelivered(handle));
        }
    }

    /// Bytes queued and not yet written.
    pub fn backlog(&self) -> usize {
        self.conversation.outbox.backlog()
    }
}
