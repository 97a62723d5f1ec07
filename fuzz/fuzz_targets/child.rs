//! Any bytes, in any pieces, with any number of descriptors, at a worker that has something to say itself.
//!
//! `cargo +nightly fuzz run child`
#![no_main]

use everup_core::id::Token;
use everup_core::wire::child::{Answer, Ask, Child, Said, ServerId};
use everup_core::wire::{AddressType, HandleKind, Serialization};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

/// Small, so that the fuzzer meets it.
const LIMIT: usize = 4096;

fuzz_target!(|data: &[u8]| {
    for serialization in [Serialization::Json, Serialization::Advanced] {
        converse(serialization, data);
    }
});

/// `data` is a list of pieces: length, then descriptors (2 bits), bytes to write (6 bits), then the piece.
fn converse(serialization: Serialization, mut data: &[u8]) {
    let mut worker = Worker::new(serialization);
    let mut said = Vec::new();
    let (mut received, mut claimed) = (0, 0);
    while let [length, how, rest @ ..] = data {
        let (piece, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        data = rest;
        let descriptors = usize::from(how >> 6);
        received += descriptors;
        let result = worker.child.receive(piece, descriptors, &mut said);
        for said in said.drain(..) {
            claimed += usize::from(claims(&said));
            worker.react(said);
        }
        assert!(claimed <= received);
        if result.is_err() {
            assert!(worker.child.receive(b"1\n", 0, &mut said).is_err());
            break;
        }
        write_some(&mut worker.child, usize::from(how & 63));
    }
    while worker.child.transmit().is_some() {
        write_some(&mut worker.child, usize::MAX);
    }
}

/// What the app knows. What it hears may be about a server that it has closed since.
struct Worker {
    child: Child,
    asked: BTreeSet<ServerId>,
    open: BTreeSet<ServerId>,
    answered: BTreeSet<ServerId>,
    steps: u64,
}

impl Worker {
    fn new(serialization: Serialization) -> Self {
        let mut worker = Self {
            child: Child::new(serialization, LIMIT),
            asked: BTreeSet::new(),
            open: BTreeSet::new(),
            answered: BTreeSet::new(),
            steps: 0,
        };
        worker.child.online();
        worker.ask();
        worker.ask();
        worker
    }

    fn ask(&mut self) {
        let server = self.child.ask(Ask {
            address: None,
            port: Some(1),
            address_type: AddressType::Tcp4,
            flags: 0,
            backlog: None,
        });
        assert_eq!(server.is_none(), self.child.is_leaving());
        self.asked.extend(server);
    }

    fn react(&mut self, said: Said) {
        self.steps += 1;
        let step = self.steps;
        match said {
            Said::Answer { server, answer } => {
                assert!(self.answered.insert(server), "answered twice");
                let waits = self.asked.remove(&server);
                match answer {
                    Answer::HandOver { .. } | Answer::Shared if waits => {
                        self.child.listening(server, Some(1));
                        self.open.insert(server);
                    }
                    _ => self.ask(),
                }
            }
            Said::Connection { server, offer } => {
                assert!(self.answered.contains(&server), "a connection for nobody");
                self.child.answer(offer, step.is_multiple_of(2));
                self.child.closed_connections(step);
            }
            Said::Disconnect => {
                assert!(self.child.is_leaving());
                self.asked.clear();
                self.open.clear();
            }
            Said::Handle { key: Some(key), .. } => self.child.released(&key),
            Said::Message(message) if step % 5 == 0 => {
                self.child.send_handle(&message, HandleKind::Socket, Token(step));
            }
            Said::Message(message) if step % 5 == 1 => self.child.send(&message),
            Said::Message(_) => self.heard(step),
            _ => {}
        }
    }

    fn heard(&mut self, step: u64) {
        match step % 5 {
            2 => self.ask(),
            3 => {
                for server in [self.asked.pop_first(), self.open.pop_last()]
                    .into_iter()
                    .flatten()
                {
                    self.child.close(server);
                }
            }
            _ if step.is_multiple_of(7) => {
                self.child.leave();
                self.asked.clear();
                self.open.clear();
            }
            _ => {}
        }
    }
}

fn claims(said: &Said) -> bool {
    matches!(
        said,
        Said::Connection { .. }
            | Said::Handle { .. }
            | Said::Discard
            | Said::Answer {
                answer: Answer::Shared,
                ..
            }
    )
}

fn write_some(child: &mut Child, limit: usize) {
    let Some(offer) = child.transmit() else { return };
    let part = offer.bytes.len().min(limit);
    let whole = part == offer.bytes.len();
    assert!(!offer.bytes.is_empty());
    child.wrote(part);
    if part > 0 && !whole {
        assert!(
            child.transmit().is_some_and(|rest| rest.descriptor.is_none()),
            "one descriptor, once"
        );
    }
}
