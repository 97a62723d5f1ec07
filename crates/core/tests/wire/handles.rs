//! Handles that the worker sends, and the questions that it asks about them.

use crate::support::*;
use everup_core::id::Token;
use everup_core::wire::{Event, HandleKind, WireError};

const SERVER: &str = r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":{"a":1}}"#;

fn socket(key: &str) -> String {
    format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"s","key":"{key}"}}"#)
}

#[test]
fn a_handle_is_acked_at_once() {
    let mut session = session();
    let events = hear_with(&mut session, SERVER, 1);
    let [
        Event::Handle {
            kind: HandleKind::Server,
            message,
            key: None,
        },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(message.get(), r#"{"a":1}"#);
    assert_eq!(written(&mut session), format!("{ACK}\n"));
}

#[test]
fn a_handle_without_a_descriptor_is_nacked() {
    let mut session = session();
    assert!(hear(&mut session, SERVER).is_empty());
    assert_eq!(written(&mut session), format!("{NACK}\n"));
    assert_eq!(
        hear_with(&mut session, SERVER, 1).len(),
        1,
        "the worker tries again"
    );
}

#[test]
fn a_descriptor_may_come_with_any_part_of_its_line() {
    for (split, first, second) in [(1, 1, 0), (30, 1, 0), (30, 0, 1), (SERVER.len(), 0, 1)] {
        let mut session = session();
        let line = format!("{SERVER}\n");
        let (head, tail) = line.as_bytes().split_at(split);
        assert!(try_hear(&mut session, head, first).unwrap().is_empty());
        assert!(matches!(
            try_hear(&mut session, tail, second).unwrap()[..],
            [Event::Handle { .. }]
        ));
    }
}

#[test]
fn a_descriptor_before_its_line_waits_for_it() {
    let mut session = session();
    assert_eq!(hear_with(&mut session, "1", 1).len(), 1);
    assert!(matches!(hear(&mut session, SERVER)[..], [Event::Handle { .. }]));
}

#[test]
fn every_known_type_is_told_apart() {
    for (envelope, expected) in [
        (r#""type":"net.Socket""#, HandleKind::Socket),
        (r#""type":"dgram.Socket","dgramType":"udp4""#, HandleKind::Udp4),
        (r#""type":"dgram.Socket","dgramType":"udp6""#, HandleKind::Udp6),
        (r#""type":"net.Native""#, HandleKind::NativeStream),
        (r#""type":"dgram.Native""#, HandleKind::NativeDatagram),
    ] {
        let events = hear_with(
            &mut session(),
            &format!(r#"{{"cmd":"NODE_HANDLE","msg":1,{envelope}}}"#),
            1,
        );
        assert!(
            matches!(events[..], [Event::Handle { kind, .. }] if kind == expected),
            "{envelope}: {events:?}"
        );
    }
}

#[test]
fn a_handle_of_an_unknown_type_is_acked_and_to_be_closed() {
    let mut session = session();
    let line = r#"{"cmd":"NODE_HANDLE","type":"net.BoundSocket","msg":7}"#;
    let events = hear_with(&mut session, line, 1);
    assert!(matches!(&events[..], [Event::Discard, Event::Message(message)] if message.get() == "7"));
    assert_eq!(written(&mut session), format!("{ACK}\n"));
    assert!(hear(&mut session, SERVER).is_empty(), "its descriptor is spent");
}

#[test]
fn notify_close_is_answered_at_once_when_nothing_is_held() {
    let mut session = session();
    assert!(hear(&mut session, r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"4::0"}"#).is_empty());
    assert_eq!(
        written(&mut session),
        "{\"cmd\":\"NODE_SOCKET_ALL_CLOSED\",\"key\":\"4::0\"}\n"
    );
}

#[test]
fn notify_close_is_answered_when_the_last_socket_is_released() {
    let mut session = session();
    for _ in 0..2 {
        let events = hear_with(&mut session, &socket("k"), 1);
        assert!(matches!(&events[..], [Event::Handle { key: Some(key), .. }] if key == "k"));
    }
    hear(&mut session, r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"k"}"#);
    written(&mut session);
    session.released("k");
    assert_eq!(session.transmit(), None);
    session.released("k");
    assert_eq!(
        written(&mut session),
        "{\"cmd\":\"NODE_SOCKET_ALL_CLOSED\",\"key\":\"k\"}\n"
    );
    session.released("k");
    session.released("unknown");
    assert_eq!(session.transmit(), None);
}

#[test]
fn get_count_tells_how_many_sockets_are_open() {
    let mut session = session();
    let ask = r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"k"}"#;
    hear_with(&mut session, &socket("k"), 1);
    hear_with(&mut session, &socket("k"), 1);
    session.released("k");
    written(&mut session);
    hear(&mut session, ask);
    assert_eq!(
        written(&mut session),
        "{\"cmd\":\"NODE_SOCKET_COUNT\",\"key\":\"k\",\"count\":1}\n"
    );
    session.released("k");
    hear(&mut session, ask);
    assert!(written(&mut session).contains("\"count\":0"));
}

#[test]
fn too_many_unclaimed_descriptors_break_the_channel() {
    let mut session = session();
    assert!(try_hear(&mut session, b"", 64).is_ok());
    assert_eq!(
        try_hear(&mut session, b"", 1).unwrap_err(),
        WireError::TooManyDescriptors
    );
}

#[test]
fn a_worker_that_asks_without_reading_is_broken() {
    for line in [SERVER, r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"k"}"#] {
        let mut session = session();
        let result =
            (0..10_000).try_for_each(|_| try_hear(&mut session, format!("{line}\n").as_bytes(), 0).map(drop));
        assert_eq!(result, Err(WireError::TooManyAnswers));
        assert!(session.backlog() < 1 << 20);
    }
}

#[test]
fn handles_both_ways_do_not_deadlock() {
    let mut session = session_with(window(1));
    session.hand_over(Token(1), "k");
    session.hand_over(Token(2), "k");
    assert_eq!(sent(&mut session), [Token(1)]);
    // The worker's own handle crosses ours; it holds everything but ACKs until we answer.
    hear_with(&mut session, SERVER, 1);
    assert_eq!(written(&mut session), format!("{ACK}\n"));
    hear(&mut session, ACK);
    assert_eq!(sent(&mut session), [Token(2)]);
}
