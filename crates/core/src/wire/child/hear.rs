//! What the primary's frames mean to a worker.

use super::super::decode::{self, Fields};
use super::super::message::{HandleKind, Serialization};
use super::super::session::{ANSWERS, WireError};
use super::super::{encode as shared, v8};
use super::{Answer, Child, Departure, Offer, Said, Server, ServerId, ServerState};
use serde_json::value::RawValue;

/// The shortest urgent answer, in bytes.
const SHORTEST: usize = 26;

impl Child {
    pub(super) fn frame(&mut self, frame: &[u8], said: &mut Vec<Said>) -> Result<(), WireError> {
        match self.framing.serialization {
            Serialization::Json => self.line(frame, said)?,
            Serialization::Advanced => self.payload(frame, said)?,
        }
        if self.outbox.answers() > ANSWERS || self.outbox.urgent_backlog() > ANSWERS * SHORTEST {
            return Err(WireError::TooManyAnswers);
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], said: &mut Vec<Said>) -> Result<(), WireError> {
        let text = str::from_utf8(line).map_err(|_| WireError::Malformed { reason: "not UTF-8" })?;
        if let Some((cmd, fields)) = decode::internal(text) {
            self.hear(&cmd, &fields, said);
            return Ok(());
        }
        let message = RawValue::from_string(text.to_owned()).map_err(|_| WireError::Malformed {
            reason: "a line that is not a JSON value",
        })?;
        said.push(Said::Message(message));
        Ok(())
    }

    fn payload(&mut self, payload: &[u8], said: &mut Vec<Said>) -> Result<(), WireError> {
        let decoded = v8::decode(payload)?;
        if let Some((cmd, fields)) = decode::internal(&decoded.json) {
            self.hear(&cmd, &fields, said);
            return Ok(());
        }
        if decoded.starts_as_handle() && self.claim() {
            said.push(Said::Discard);
        }
        if !decoded.exact {
            said.push(Said::Opaque(payload.to_vec()));
            return Ok(());
        }
        let message = RawValue::from_string(decoded.json).map_err(|_| WireError::Malformed {
            reason: "a value that is not JSON",
        })?;
        said.push(Said::Message(message));
        Ok(())
    }

    fn hear(&mut self, cmd: &str, fields: &Fields<'_>, said: &mut Vec<Said>) {
        match cmd {
            "NODE_HANDLE_ACK" | "NODE_HANDLE_NACK" => {
                let delivered = cmd == "NODE_HANDLE_ACK";
                if let Some(handle) = self.outbox.settle(delivered) {
                    said.push(if delivered {
                        Said::Delivered(handle.descriptor)
                    } else {
                        Said::Undelivered(handle.descriptor)
                    });
                }
            }
            "NODE_CLUSTER" => self.cluster(fields, None, said),
            "NODE_HANDLE" => self.handle(fields, said),
            "NODE_SOCKET_NOTIFY_CLOSE" => self.notify_close(fields),
            "NODE_SOCKET_GET_COUNT" => self.count(fields),
            _ => {}
        }
    }

    /// A message of the cluster's; `arrived`: whether the descriptor that belongs to it came, where one does.
    fn cluster(&mut self, fields: &Fields<'_>, arrived: Option<bool>, said: &mut Vec<Said>) {
        let seen = said.len();
        if let Some(ack) = fields.ack.and_then(decode::unsigned) {
            self.answered(ack, fields, arrived, said);
        } else {
            match fields.act.and_then(decode::string).as_deref() {
                Some("newconn") => self.connection(fields, arrived == Some(true), said),
                Some("quiet") => said.push(Said::Quiet),
                Some("disconnect") => self.asked_to_leave(said),
                _ => {}
            }
        }
        let used = said[seen..].iter().any(|said| {
            matches!(
                said,
                Said::Connection { .. }
                    | Said::Discard
                    | Said::Answer {
                        answer: Answer::Shared,
                        ..
                    }
            )
        });
        if arrived == Some(true) && !used {
            said.push(Said::Discard);
        }
    }

    fn answered(&mut self, ack: u64, fields: &Fields<'_>, arrived: Option<bool>, said: &mut Vec<Said>) {
        if self.departure == Departure::Announced(ack) {
            self.departure = Departure::LetGo;
            return said.push(Said::LetGo);
        }
        let asked = self.servers.iter().find_map(|(&id, server)| match server.state {
            ServerState::Asked(seq) if seq == ack => Some((id, false)),
            ServerState::Abandoned(seq) if seq == ack => Some((id, true)),
            ServerState::Asked(_) | ServerState::Abandoned(_) | ServerState::Open(_) => None,
        });
        let Some((server, abandoned)) = asked else {
            return;
        };
        let answer = answer(fields, arrived);
        let key = fields.key.and_then(decode::string).filter(|_| errno(fields) == 0);
        match (&answer, key) {
            (Answer::HandOver { .. } | Answer::Shared, Some(key)) if !abandoned => {
                self.open(server, key.into_owned());
            }
            (_, key) => self.give_up(server, key.as_deref()),
        }
        if !abandoned {
            said.push(Said::Answer { server, answer });
        }
    }

    fn open(&mut self, server: ServerId, key: String) {
        if let Some(known) = self.servers.get_mut(&server) {
            known.state = ServerState::Open(key);
        }
    }

    /// A server that comes to nothing. `key`: under which the primary counts us among its holders.
    fn give_up(&mut self, server: ServerId, key: Option<&str>) {
        if let Some(known) = self.servers.remove(&server) {
            self.forget_place(&known.ask);
        }
        if let Some(key) = key {
            self.say_close(key);
        }
    }

    fn server_of(&self, key: &str) -> Option<ServerId> {
        let open = |server: &Server| matches!(&server.state, ServerState::Open(known) if known == key);
        let mut servers = self.servers.iter();
        servers.find(|(_, server)| open(server)).map(|(&id, _)| id)
    }

    fn connection(&mut self, fields: &Fields<'_>, arrived: bool, said: &mut Vec<Said>) {
        let Some(seq) = fields.seq.and_then(decode::unsigned) else {
            return;
        };
        if !arrived {
            return; // The primary knows by our NACK, and expects no answer.
        }
        let key = fields.key.and_then(decode::string).unwrap_or_default();
        match self.server_of(&key) {
            Some(server) => said.push(Said::Connection {
                server,
                offer: Offer(seq),
            }),
            None => {
                said.push(Said::Discard);
                self.refuse(Offer(seq));
            }
        }
    }

    fn asked_to_leave(&mut self, said: &mut Vec<Said>) {
        if self.departure == Departure::Staying {
            self.departure = Departure::Asked;
            self.close_all();
        }
        said.push(Said::Disconnect);
    }

    fn handle(&mut self, fields: &Fields<'_>, said: &mut Vec<Said>) {
        let arrived = self.claim();
        let message = fields.msg.unwrap_or(RawValue::NULL);
        if let Some((cmd, inner)) = decode::internal(message.get()) {
            if cmd == "NODE_CLUSTER" {
                self.cluster(&inner, Some(arrived), said);
            } else if arrived {
                said.push(Said::Discard);
            }
            return;
        }
        let Some(kind) = fields.handle_kind() else {
            if arrived {
                said.push(Said::Discard);
            }
            return said.push(Said::Message(message.to_owned()));
        };
        if !arrived {
            return;
        }
        let key = match kind {
            HandleKind::Socket => fields.key.and_then(decode::string).map(|key| key.into_owned()),
            _ => None,
        };
        if let Some(key) = &key {
            self.received.add(key);
        }
        said.push(Said::Handle {
            kind,
            message: message.to_owned(),
            key,
        });
    }

    /// Whether a descriptor came with the handle at hand. The answer to it is queued.
    fn claim(&mut self) -> bool {
        let arrived = self.unclaimed > 0;
        self.unclaimed -= usize::from(arrived);
        let framing = self.framing;
        self.outbox
            .push_urgent(|out| framing.user(out, |out| shared::handle_answer(out, arrived)));
        arrived
    }

    fn notify_close(&mut self, fields: &Fields<'_>) {
        if let Some(key) = fields.key.and_then(decode::string)
            && self.received.wait(&key)
        {
            self.reply(|out| shared::all_closed(out, &key));
        }
    }

    fn count(&mut self, fields: &Fields<'_>) {
        if let Some(key) = fields.key.and_then(decode::string) {
            let open = self.received.count(&key);
            self.reply(|out| shared::socket_count(out, &key, open));
        }
    }
}

fn answer(fields: &Fields<'_>, arrived: Option<bool>) -> Answer {
    match (errno(fields), arrived) {
        (0, Some(true)) => Answer::Shared,
        (0, Some(false)) => Answer::Missing,
        (0, None) => Answer::HandOver {
            sockname: fields.sockname.and_then(decode::sockname),
        },
        (errno, _) => Answer::Failed { errno },
    }
}

/// Positive; 0 is none.
fn errno(fields: &Fields<'_>) -> i32 {
    let text = fields.errno.map_or("0", RawValue::get);
    let number: i64 = text.parse().unwrap_or_default();
    i32::try_from(number.unsigned_abs()).unwrap_or(i32::MAX)
}
