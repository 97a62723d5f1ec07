//! A worker as Node has it, in its faults as well: a socket of the kernel's, a read buffer of 64 KiB, and one
//! slot for a descriptor. And proof that it shows the faults, so that passing it means something.

use crate::support::{ACK, NACK, plain};
use everup_core::id::Token;
use std::collections::VecDeque;

/// What libuv reads at once.
const READ: usize = 64 * 1024;

/// One way of a UNIX stream socket of Linux: each write is a piece, its descriptor belongs to its first byte, and
/// a read ends with the piece whose descriptor it has taken.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pieces: VecDeque<(VecDeque<u8>, Option<Token>)>,
    filled: usize,
}

impl Pipe {
    const CAPACITY: usize = 200_000;

    pub(crate) fn write(&mut self, bytes: &[u8], descriptor: Option<Token>) -> usize {
        let taken = bytes.len().min(Self::CAPACITY - self.filled);
        if taken > 0 {
            self.filled += taken;
            self.pieces
                .push_back((bytes[..taken].iter().copied().collect(), descriptor));
        }
        taken
    }

    pub(crate) fn read(&mut self, limit: usize) -> (Vec<u8>, Option<Token>) {
        let mut bytes = Vec::new();
        while let Some((piece, descriptor)) = self.pieces.front_mut() {
            let taken = piece.len().min(limit - bytes.len());
            bytes.extend(piece.drain(..taken));
            let descriptor = descriptor.take();
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            if descriptor.is_some() {
                self.filled -= bytes.len();
                return (bytes, descriptor);
            }
            if bytes.len() == limit {
                break;
            }
        }
        self.filled -= bytes.len();
        (bytes, None)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

/// What the worker got, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Plain(usize),
    /// The key in the message, and the descriptor that it came to be matched with.
    Connection(String, Token),
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    partial: Vec<u8>,
    slot: Option<Token>,
    pub(crate) got: Vec<Got>,
    pub(crate) nacks: usize,
    /// ACK and NACK, ahead of the rest.
    urgent: VecDeque<String>,
    waiting: VecDeque<(String, Option<Token>)>,
    writing: Option<(Vec<u8>, Option<Token>)>,
    /// A handle of its own is not answered.
    pub(crate) in_flight: bool,
    next_seq: u64,
}

impl Node {
    /// One event of the loop: one `recvmsg`, its lines handled.
    pub(crate) fn read(&mut self, from: &mut Pipe) -> bool {
        let (bytes, descriptor) = from.read(READ);
        if bytes.is_empty() {
            return false;
        }
        if descriptor.is_some() {
            self.slot = descriptor; // A second one pushes the first out.
        }
        self.partial.extend(bytes);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.line(str::from_utf8(&line).unwrap().trim_end());
        }
        true
    }

    fn line(&mut self, line: &str) {
        if line == ACK || line == NACK {
            assert!(self.in_flight, "an answer to nothing");
            assert_eq!(line, ACK);
            self.in_flight = false;
        } else if line.starts_with(r#"{"cmd":"NODE_HANDLE""#) {
            let Some(descriptor) = self.slot.take() else {
                self.nacks += 1;
                self.urgent.push_back(format!("{NACK}\n"));
                return;
            };
            self.urgent.push_back(format!("{ACK}\n"));
            let envelope: serde_json::Value = serde_json::from_str(line).unwrap();
            let (key, ack) = (envelope["msg"]["key"].as_str().unwrap(), &envelope["msg"]["seq"]);
            self.got.push(Got::Connection(key.to_owned(), descriptor));
            let seq = self.next_seq;
            self.next_seq += 1;
            self.say(
                format!(r#"{{"cmd":"NODE_CLUSTER","ack":{ack},"accepted":true,"seq":{seq}}}"#),
                None,
            );
        } else {
            serde_json::from_str::<serde::de::IgnoredAny>(line).unwrap();
            self.got.push(Got::Plain(line.len() + 1));
        }
    }

    pub(crate) fn say(&mut self, line: String, handle: Option<Token>) {
        self.waiting.push_back((line + "\n", handle));
    }

    /// Writes at most `limit` bytes of what may go out.
    pub(crate) fn write(&mut self, to: &mut Pipe, limit: usize) -> bool {
        if self.writing.is_none() {
            self.writing = match self.urgent.pop_front() {
                Some(line) => Some((line.into_bytes(), None)),
                None if self.in_flight => None,
                None => self.waiting.pop_front().map(|(line, handle)| {
                    self.in_flight = handle.is_some();
                    (line.into_bytes(), handle)
                }),
            };
        }
        let Some((bytes, descriptor)) = &mut self.writing else {
            return false;
        };
        let written = to.write(&bytes[..bytes.len().min(limit)], *descriptor);
        if written > 0 {
            *descriptor = None;
            bytes.drain(..written);
        }
        if bytes.is_empty() {
            self.writing = None;
        }
        written > 0
    }

    pub(crate) fn has_nothing_to_say(&self) -> bool {
        self.urgent.is_empty() && self.waiting.is_empty() && self.writing.is_none()
    }
}

fn newconn(number: u64) -> String {
    let msg = format!(r#"{{"cmd":"NODE_CLUSTER","act":"newconn","key":"{number}","seq":{number}}}"#);
    format!("{{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{msg}}}\n")
}

fn is_right(got: &Got) -> bool {
    match got {
        Got::Plain(_) => true,
        Got::Connection(key, token) => *key == token.0.to_string(),
    }
}

#[test]
fn the_model_mismatches_pipelined_handles_behind_a_long_message() {
    let (mut node, mut pipe) = (Node::default(), Pipe::default());
    pipe.write(format!("{}\n", plain(65_480)).as_bytes(), None);
    for number in 1..=4 {
        pipe.write(newconn(number).as_bytes(), Some(Token(number)));
    }
    while node.read(&mut pipe) {}
    assert_eq!(
        node.got[1],
        Got::Connection("1".into(), Token(2)),
        "as it was seen with Node"
    );
    assert_eq!(node.nacks, 1);
}

#[test]
fn the_model_mismatches_a_torn_handle_followed_by_another() {
    let (mut node, mut pipe) = (Node::default(), Pipe::default());
    let first = newconn(1);
    pipe.write(&first.as_bytes()[..10], Some(Token(1)));
    pipe.write(&first.as_bytes()[10..], None);
    pipe.write(newconn(2).as_bytes(), Some(Token(2)));
    while node.read(&mut pipe) {}
    assert!(!is_right(&node.got[0]));
    assert_eq!(node.nacks, 1);
}

#[test]
fn the_model_takes_pipelined_handles_behind_a_short_message() {
    let (mut node, mut pipe) = (Node::default(), Pipe::default());
    pipe.write(format!("{}\n", plain(30_000)).as_bytes(), None);
    for number in 1..=50 {
        pipe.write(newconn(number).as_bytes(), Some(Token(number)));
    }
    while node.read(&mut pipe) {}
    assert_eq!((node.got.len(), node.nacks), (51, 0));
    assert!(node.got.iter().all(is_right));
}
