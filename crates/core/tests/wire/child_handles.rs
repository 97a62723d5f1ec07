//! Handles of apps, both ways, and the questions about sockets, as a worker of ours has them.

use crate::child::*;
use crate::support::{ACK, NACK, raw};
use everup_core::id::Token;
use everup_core::wire::child::Said;
use everup_core::wire::{HandleKind, WireError};

fn socket(key: &str) -> String {
    format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"s","key":"{key}"}}"#)
}

fn about(what: &str, key: &str) -> String {
    format!(r#"{{"cmd":"NODE_SOCKET_{what}","key":"{key}"}}"#)
}

#[test]
fn a_handle_is_acked_and_one_without_a_descriptor_is_not() {
    let mut child = child();
    let said = told_with(&mut child, &socket("k"), 1);
    let [
        Said::Handle {
            kind: HandleKind::Socket,
            message,
            key: Some(key),
        },
    ] = &said[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!((message.get(), key.as_str()), (r#""s""#, "k"));
    assert_eq!(lines(&mut child), [ACK]);
    assert!(told(&mut child, &socket("k")).is_empty());
    assert_eq!(lines(&mut child), [NACK]);
}

#[test]
fn each_kind_is_known_and_an_unknown_one_is_closed() {
    for (text, kind) in [
        (r#""net.Server""#, HandleKind::Server),
        (r#""net.Socket""#, HandleKind::Socket),
        (r#""dgram.Socket","dgramType":"udp4""#, HandleKind::Udp4),
        (r#""dgram.Socket","dgramType":"udp6""#, HandleKind::Udp6),
        (r#""net.Native""#, HandleKind::NativeStream),
        (r#""dgram.Native""#, HandleKind::NativeDatagram),
    ] {
        let line = format!(r#"{{"cmd":"NODE_HANDLE","type":{text},"msg":1}}"#);
        let said = told_with(&mut child(), &line, 1);
        assert!(
            matches!(said[..], [Said::Handle { kind: known, key: None, .. }] if known == kind),
            "{said:?}"
        );
    }
    let mut child = child();
    let said = told_with(
        &mut child,
        r#"{"cmd":"NODE_HANDLE","type":"net.Cable","msg":1}"#,
        1,
    );
    assert!(matches!(said[..], [Said::Discard, Said::Message(_)]), "{said:?}");
    let inner = r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_FOO"}}"#;
    assert!(matches!(told_with(&mut child, inner, 1)[..], [Said::Discard]));
    assert_eq!(lines(&mut child), [ACK, ACK]);
}

#[test]
fn a_descriptor_may_come_with_any_part_of_its_line() {
    let line = format!("{}\n", socket("k"));
    for at in 1..line.len() {
        for first in [0, 1] {
            let (mut child, mut said) = (child(), Vec::new());
            child.receive(&line.as_bytes()[..at], first, &mut said).unwrap();
            assert!(said.is_empty());
            child
                .receive(&line.as_bytes()[at..], 1 - first, &mut said)
                .unwrap();
            assert!(matches!(said[..], [Said::Handle { .. }]));
        }
    }
}

#[test]
fn one_handle_is_in_flight_and_answers_pass_it() {
    let mut child = child();
    child.send_handle(&raw("1"), HandleKind::Server, Token(1));
    child.send_handle(&raw("2"), HandleKind::Socket, Token(2));
    child.send(&raw("3"));
    let sent = offers(&mut child);
    let line = r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}"#;
    assert_eq!(sent, [(format!("{line}\n").into_bytes(), Some(Token(1)))]);
    told_with(&mut child, &socket("k"), 1);
    assert_eq!(lines(&mut child), [ACK], "ahead of the queue");
    assert!(matches!(told(&mut child, ACK)[..], [Said::Delivered(Token(1))]));
    assert_eq!(offers(&mut child)[0].1, Some(Token(2)));
    assert!(matches!(
        told(&mut child, NACK)[..],
        [Said::Undelivered(Token(2))]
    ));
    assert_eq!(lines(&mut child), ["3"]);
    assert!(told(&mut child, ACK).is_empty(), "it answers nothing");
}

#[test]
fn a_descriptor_goes_with_the_first_byte_only() {
    let mut child = child();
    child.send_handle(&raw("1"), HandleKind::Server, Token(1));
    child.wrote(0);
    assert_eq!(child.transmit().unwrap().descriptor, Some(Token(1)));
    child.wrote(1);
    assert_eq!(child.transmit().unwrap().descriptor, None);
    assert!(told(&mut child, ACK).is_empty(), "it cannot have been read");
    assert_eq!(child.backlog(), 49);
    told_with(&mut child, &socket("k"), 1);
    let rest: Vec<u8> = offers(&mut child)
        .into_iter()
        .flat_map(|(bytes, _)| bytes)
        .collect();
    let rest = String::from_utf8(rest).unwrap();
    let line = r#""cmd":"NODE_HANDLE","type":"net.Server","msg":1}"#;
    assert_eq!(rest, format!("{line}\n{ACK}\n"), "the line is finished first");
    assert!(matches!(told(&mut child, ACK)[..], [Said::Delivered(Token(1))]));
}

#[test]
fn the_primary_hears_how_many_sockets_are_open_and_when_none_is() {
    let mut child = child();
    told(&mut child, &about("GET_COUNT", "k"));
    told(&mut child, &about("NOTIFY_CLOSE", "k"));
    assert_eq!(
        lines(&mut child),
        [
            r#"{"cmd":"NODE_SOCKET_COUNT","key":"k","count":0}"#.to_owned(),
            about("ALL_CLOSED", "k"),
        ]
    );
    told_with(&mut child, &socket("k"), 1);
    told_with(&mut child, &socket("k"), 1);
    told(&mut child, &about("GET_COUNT", "k"));
    told(&mut child, &about("NOTIFY_CLOSE", "k"));
    child.released("k");
    child.released("other");
    assert_eq!(
        lines(&mut child),
        [ACK, ACK, r#"{"cmd":"NODE_SOCKET_COUNT","key":"k","count":2}"#]
    );
    child.released("k");
    child.released("k");
    assert_eq!(lines(&mut child), [about("ALL_CLOSED", "k")]);
}

#[test]
fn sockets_closed_before_anybody_asked_are_not_told() {
    let mut child = child();
    told_with(&mut child, &socket("k"), 1);
    lines(&mut child);
    child.released("k");
    assert!(lines(&mut child).is_empty());
    told(&mut child, &about("NOTIFY_CLOSE", "k"));
    assert_eq!(lines(&mut child), [about("ALL_CLOSED", "k")]);
}

#[test]
fn who_asks_and_reads_no_answers_is_broken() {
    let mut child = child();
    let question = format!("{}\n", about("GET_COUNT", "k"));
    let mut said = Vec::new();
    let result = child.receive(question.repeat(5000).as_bytes(), 0, &mut said);
    assert_eq!(result, Err(WireError::TooManyAnswers));
}

#[test]
fn descriptors_without_messages_are_too_many_in_the_end() {
    let mut child = child();
    let mut said = Vec::new();
    assert_eq!(child.receive(b"1", 64, &mut said), Ok(()));
    assert_eq!(
        child.receive(b"2", 1, &mut said),
        Err(WireError::TooManyDescriptors)
    );
    assert_eq!(child.receive(b"3\n", 0, &mut said), Err(WireError::Broken));
}
