//! Any bytes, in any pieces, with any number of descriptors, at a session that has something to say itself.
//!
//! `cargo +nightly fuzz run wire`
#![no_main]

use everup_core::id::Token;
use everup_core::wire::{Event, HandleKind, Reply, Serialization, Session, Settings};
use libfuzzer_sys::fuzz_target;

/// Small, so that the fuzzer meets it.
const LIMIT: usize = 4096;

fuzz_target!(|data: &[u8]| {
    for serialization in [Serialization::Json, Serialization::Advanced] {
        converse(serialization, data);
    }
});

/// `data` is a list of pieces: length, then descriptors (2 bits), bytes to write (6 bits), then the piece.
fn converse(serialization: Serialization, mut data: &[u8]) {
    let mut session = Session::new(Settings {
        serialization,
        frame_limit: LIMIT,
        window: 4,
    });
    let mut events = Vec::new();
    let mut token = 0;
    let (mut received, mut claimed) = (0, 0);
    while let [length, how, rest @ ..] = data {
        let (piece, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        data = rest;
        let descriptors = usize::from(how >> 6);
        received += descriptors;
        if session.receive(piece, descriptors, &mut events).is_err() {
            assert!(session.receive(b"1\n", 0, &mut events).is_err());
            break;
        }
        for event in events.drain(..) {
            claimed += usize::from(matches!(event, Event::Handle { .. } | Event::Discard));
            react(&mut session, event, &mut token);
        }
        assert!(claimed <= received);
        assert!(session.room() > 0 || session.undelivered() > 0);
        write_some(&mut session, usize::from(how & 63));
    }
    while session.transmit().is_some() {
        write_some(&mut session, usize::MAX);
    }
}

fn react(session: &mut Session, event: Event, token: &mut u64) {
    *token += 1;
    match event {
        Event::Query(query) => {
            session.reply(
                query.seq,
                Reply::HandOver {
                    key: "k".to_owned(),
                    data: query.data,
                    sockname: None,
                },
            );
            session.hand_over(Token(*token), "k");
        }
        Event::Message(message) if token.is_multiple_of(2) => session.send(&message),
        Event::Message(message) => session.send_handle(&message, HandleKind::Socket, Token(*token)),
        Event::Opaque(payload) => assert!(session.send_opaque(&payload), "it came from such a channel"),
        Event::Handle { key: Some(key), .. } => session.released(&key),
        Event::Online => session.hand_over(Token(*token), "k"),
        Event::Leaving => session.disconnect(),
        _ => {}
    }
}

fn write_some(session: &mut Session, limit: usize) {
    let Some(offer) = session.transmit() else { return };
    let part = offer.bytes.len().min(limit);
    let whole = part == offer.bytes.len();
    assert!(!offer.bytes.is_empty());
    session.wrote(part);
    if part > 0 && !whole {
        assert!(
            session.transmit().is_some_and(|rest| rest.descriptor.is_none()),
            "one descriptor, once"
        );
    }
}
