//! What is said back and forth with one worker, frame by frame.
//!
//! Job: the part of a [`Session`](super::Session) between the cutting of frames and the queue of what is to be
//! written: what each message means, what is answered without asking anybody, which connection an answer is
//! about. States and invariants are those of the session.
//!
//! Must not know: how bytes were cut into frames, when what it queues may be written.

use super::decode::{self, Fields};
use super::encode::{self, Framing, Native};
use super::message::{Event, HandleKind, Reply, Serialization};
use super::outbox::{Handle, Outbox};
use super::received::Received;
use super::session::{ANSWERS, Settings, UNCLAIMED, WireError};
use super::v8;
use crate::id::Token;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, VecDeque};

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Conversation {
    framing: Framing,
    /// Whether a line was heard, so that the dialect is known.
    heard: bool,
    disconnect_waits: bool,
    pub(super) outbox: Outbox,
    next_seq: u64,
    /// Connections delivered and not yet answered, by the sequence number of their `newconn`.
    unanswered: VecDeque<(u64, Token)>,
    /// Received descriptors whose line is not complete.
    unclaimed: usize,
    received: Received,
    /// Keys whose connections are UNIX sockets.
    pipes: BTreeSet<String>,
}

impl Conversation {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            framing: Framing {
                serialization: settings.serialization,
                bun: false,
            },
            heard: false,
            disconnect_waits: false,
            outbox: Outbox::new(settings.window),
            next_seq: 0,
            unanswered: VecDeque::new(),
            unclaimed: 0,
            received: Received::default(),
            pipes: BTreeSet::new(),
        }
    }

    /// So many descriptors came with the bytes at hand.
    pub(super) fn arrived(&mut self, descriptors: usize) {
        self.unclaimed = self.unclaimed.saturating_add(descriptors);
    }

    /// After the bytes at hand: are there more descriptors than lines that may still ask for one?
    pub(super) fn check_unclaimed(&self) -> Result<(), WireError> {
        if self.unclaimed > UNCLAIMED {
            Err(WireError::TooManyDescriptors)
        } else {
            Ok(())
        }
    }

    /// Takes one frame.
    pub(super) fn frame(&mut self, frame: &[u8], events: &mut Vec<Event>) -> Result<(), WireError> {
        match self.framing.serialization {
            Serialization::Json => self.line(frame, events)?,
            Serialization::Advanced => self.payload(frame, events)?,
        }
        self.check_answers()
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<(), WireError> {
        let (marked, line) = match line.split_first() {
            Some((&encode::BUN_MARK, rest)) => (true, rest),
            _ => (false, line),
        };
        self.hear(marked);
        let text = str::from_utf8(line).map_err(|_| WireError::Malformed { reason: "not UTF-8" })?;
        if let Some((cmd, fields)) = decode::internal(text) {
            self.internal(&cmd, &fields, events);
            return Ok(());
        }
        let message = RawValue::from_string(text.to_owned()).map_err(|_| WireError::Malformed {
            reason: "a line that is not a JSON value",
        })?;
        if !marked {
            events.push(Event::Message(message));
        }
        Ok(())
    }

    fn payload(&mut self, payload: &[u8], events: &mut Vec<Event>) -> Result<(), WireError> {
        self.hear(false);
        let decoded = v8::decode(payload)?;
        if let Some((cmd, fields)) = decode::internal(&decoded.json) {
            self.internal(&cmd, &fields, events);
            return Ok(());
        }
        if decoded.starts_as_handle() {
            self.discard(events);
        }
        if !decoded.exact {
            events.push(Event::Opaque(payload.to_vec()));
            return Ok(());
        }
        let message = RawValue::from_string(decoded.json).map_err(|_| WireError::Malformed {
            reason: "a value that is not JSON",
        })?;
        events.push(Event::Message(message));
        Ok(())
    }

    /// The first line tells the dialect.
    fn hear(&mut self, marked: bool) {
        if marked && !self.framing.bun {
            self.framing.bun = true;
            self.outbox.set_window(1);
        }
        self.heard = true;
        if self.disconnect_waits {
            self.disconnect_waits = false;
            self.disconnect();
        }
    }

    fn internal(&mut self, cmd: &str, fields: &Fields<'_>, events: &mut Vec<Event>) {
        match cmd {
            "NODE_HANDLE_ACK" => self.settle(true, events),
            "NODE_HANDLE_NACK" => self.settle(false, events),
            "NODE_CLUSTER" => self.cluster(fields, events),
            "NODE_HANDLE" => self.handle(fields, events),
            "NODE_SOCKET_NOTIFY_CLOSE" => self.notify_close(fields),
            "NODE_SOCKET_GET_COUNT" => self.count(fields),
            _ => {}
        }
    }

    fn settle(&mut self, delivered: bool, events: &mut Vec<Event>) {
        let Some(handle) = self.outbox.settle(delivered) else {
            return;
        };
        if !delivered {
            events.push(Event::Undelivered(handle.descriptor));
            return;
        }
        if let Some(seq) = handle.newconn {
            self.unanswered.push_back((seq, handle.descriptor));
        }
        events.push(Event::Delivered(handle.descriptor));
    }

    fn cluster(&mut self, fields: &Fields<'_>, events: &mut Vec<Event>) {
        if let Some(connection) = fields
            .ack
            .and_then(decode::unsigned)
            .and_then(|ack| self.answered(ack))
        {
            events.push(Event::Answer {
                connection,
                accepted: fields.accepted.is_some_and(decode::truth),
            });
            return;
        }
        let Some(act) = fields.act.and_then(decode::string) else {
            return;
        };
        match act.as_ref() {
            "online" => {
                events.push(Event::Online);
                let version = fields.everup.and_then(decode::unsigned);
                events.extend(version.filter(|version| *version > 0).map(|_| Event::Counts));
            }
            "closed" => {
                let total = fields.total.and_then(decode::unsigned);
                events.extend(total.map(|total| Event::Closed { total }));
            }
            "queryServer" => events.extend(fields.query().map(Event::Query)),
            "listening" => events.push(Event::Listening(fields.listening())),
            "close" => {
                if let Some(key) = fields.key.and_then(decode::string) {
                    self.pipes.remove(key.as_ref());
                    events.push(Event::Close {
                        key: key.into_owned(),
                    });
                }
            }
            "quiet" => events.push(Event::Quiet),
            "direct" => {
                let key = fields.key.and_then(decode::string);
                events.extend(key.map(|key| Event::Direct {
                    key: key.into_owned(),
                }));
            }
            "exitedAfterDisconnect" => {
                self.let_leave(fields);
                events.push(Event::Leaving);
            }
            _ => {}
        }
    }

    /// The connection announced under this number, once.
    fn answered(&mut self, seq: u64) -> Option<Token> {
        match self
            .unanswered
            .iter()
            .position(|&(announced, _)| announced == seq)
        {
            Some(at) => self.unanswered.remove(at).map(|(_, connection)| connection),
            None => self.outbox.answered(seq),
        }
    }

    fn let_leave(&mut self, fields: &Fields<'_>) {
        if let Some(ack) = fields.seq.and_then(decode::unsigned) {
            let seq = self.take_seq();
            self.answer(|out| encode::acknowledge(out, ack, seq));
        }
    }

    fn handle(&mut self, fields: &Fields<'_>, events: &mut Vec<Event>) {
        let message = fields.msg.unwrap_or(RawValue::NULL);
        let Some(kind) = fields.handle_kind() else {
            self.discard(events);
            events.push(Event::Message(message.to_owned()));
            return;
        };
        if !self.claim() {
            return;
        }
        let key = match kind {
            HandleKind::Socket => fields.key.and_then(decode::string).map(|key| key.into_owned()),
            _ => None,
        };
        if let Some(key) = &key {
            self.received.add(key);
        }
        events.push(Event::Handle {
            kind,
            message: message.to_owned(),
            key,
        });
    }

    /// Takes a descriptor for something that is not known.
    fn discard(&mut self, events: &mut Vec<Event>) {
        if self.claim() {
            events.push(Event::Discard);
        }
    }

    /// Whether a descriptor came with the handle at hand. The answer to it is queued.
    fn claim(&mut self) -> bool {
        let arrived = self.unclaimed > 0;
        self.unclaimed -= usize::from(arrived);
        let framing = self.framing;
        self.outbox
            .push_urgent(|out| framing.user(out, |out| encode::handle_answer(out, arrived)));
        arrived
    }

    fn notify_close(&mut self, fields: &Fields<'_>) {
        if let Some(key) = fields.key.and_then(decode::string)
            && self.received.wait(&key)
        {
            self.answer(|out| encode::all_closed(out, &key));
        }
    }

    fn count(&mut self, fields: &Fields<'_>) {
        if let Some(key) = fields.key.and_then(decode::string) {
            let open = self.received.count(&key);
            self.answer(|out| encode::socket_count(out, &key, open));
        }
    }

    pub(super) fn released(&mut self, key: &str) {
        if self.received.closed(key) {
            self.answer(|out| encode::all_closed(out, key));
        }
    }

    fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let framing = self.framing;
        self.outbox.push_answer(|out| framing.internal(out, write));
    }

    fn check_answers(&self) -> Result<(), WireError> {
        // The shortest urgent answer is 26 bytes long.
        if self.outbox.answers() > ANSWERS || self.outbox.urgent_backlog() > ANSWERS * 26 {
            return Err(WireError::TooManyAnswers);
        }
        Ok(())
    }

    pub(super) fn send(&mut self, message: &RawValue) {
        let framing = self.framing;
        self.outbox
            .push(|out| framing.user(out, |out| encode::user_message(out, message)));
    }

    pub(super) fn send_handle(&mut self, message: &RawValue, kind: HandleKind, descriptor: Token) {
        let framing = self.framing;
        let handle = Handle {
            descriptor,
            newconn: None,
        };
        self.outbox.push_handle(handle, |out| {
            framing.user(out, |out| encode::user_envelope(out, kind, message));
        });
    }

    pub(super) fn send_opaque(&mut self, payload: &[u8]) -> bool {
        let fits = self.framing.serialization == Serialization::Advanced && v8::is_marked(payload);
        if fits {
            self.outbox
                .push(|out| encode::prefixed(out, |out| out.extend_from_slice(payload)));
        }
        fits
    }

    pub(super) fn hand_over(&mut self, connection: Token, key: &str) {
        let seq = self.take_seq();
        let native = Native::Connection {
            pipe: self.pipes.contains(key),
        };
        let handle = Handle {
            descriptor: connection,
            newconn: Some(seq),
        };
        let framing = self.framing;
        self.outbox.push_handle(handle, |out| {
            framing.with_handle(out, native, |out| encode::newconn(out, key, seq));
        });
    }

    pub(super) fn reply(&mut self, ack: u64, reply: &Reply) {
        let seq = self.take_seq();
        let framing = self.framing;
        match reply {
            Reply::Shared { kind, descriptor, .. } => {
                let handle = Handle {
                    descriptor: *descriptor,
                    newconn: None,
                };
                self.outbox.push_handle(handle, |out| {
                    framing.with_handle(out, Native::Shared(*kind), |out| {
                        encode::reply(out, reply, ack, seq)
                    });
                });
                return;
            }
            Reply::HandOver {
                key, sockname: None, ..
            } => {
                self.pipes.insert(key.clone());
            }
            Reply::HandOver { key, .. } => {
                self.pipes.remove(key);
            }
            Reply::Failed { errno, .. } => debug_assert!(*errno < 0, "a positive errno crashes the worker"),
        }
        self.outbox
            .push(|out| framing.internal(out, |out| encode::reply(out, reply, ack, seq)));
    }

    pub(super) fn quiet(&mut self) {
        let seq = self.take_seq();
        let framing = self.framing;
        self.outbox
            .push(|out| framing.internal(out, |out| encode::quiet(out, seq)));
    }

    pub(super) fn disconnect(&mut self) {
        if !self.heard {
            self.disconnect_waits = true;
            return;
        }
        let seq = self.take_seq();
        let framing = self.framing;
        self.outbox
            .push(|out| framing.internal(out, |out| encode::disconnect(out, seq)));
    }

    fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }
}
