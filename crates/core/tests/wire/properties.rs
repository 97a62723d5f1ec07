//! What holds for any bytes.

use crate::support::*;
use everup_core::wire::{Event, Serialization, Session, Settings, WireError};
use proptest::prelude::*;
use proptest::sample::Index;

const LINES: &[&str] = &[
    r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4,"flags":0,"backlog":false,"seq":1}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"listening","address":null,"port":1,"addressType":4}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"close","key":"k","seq":3}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"online","everup":1,"seq":0}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"closed","total":3,"seq":3}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":4}"#,
    r#"{"cmd":"NODE_CLUSTER","ack":0,"accepted":true,"seq":5}"#,
    r#"{"cmd":"NODE_HANDLE_ACK"}"#,
    r#"{"cmd":"NODE_HANDLE_NACK"}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"é":"😀"},"key":"k"}"#,
    r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"k"}"#,
    r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"k"}"#,
    r#"{"cmd":"NODE_FOO"}"#,
    r#""é中😀""#,
    "[1,2,{}]",
    "\u{2}{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\"}",
];

/// A limit small enough to be met.
const LIMIT: usize = 600;

fn settings(serialization: Serialization) -> Settings {
    Settings {
        serialization,
        frame_limit: LIMIT,
        window: 8,
    }
}

fn run(settings: Settings, stream: &[u8], cuts: &[usize]) -> (String, String, Result<(), WireError>) {
    let mut session = Session::new(settings);
    let mut events = Vec::new();
    let mut result = session.receive(b"", 3, &mut events);
    let mut start = 0;
    for &end in cuts.iter().chain([&stream.len()]) {
        result = result.and_then(|()| session.receive(&stream[start..end], 0, &mut events));
        start = end;
    }
    let written = String::from_utf8_lossy(
        &drain_bytes(&mut session)
            .into_iter()
            .flat_map(|(bytes, _)| bytes)
            .collect::<Vec<_>>(),
    )
    .into_owned();
    (format!("{events:?}"), written, result)
}

fn cuts(stream: &[u8], at: &[Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = at.iter().map(|index| index.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// Bytes that look like the protocol more often than chance would have it.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(LINES).prop_map(|line| format!("{line}\n").into_bytes()),
        prop::sample::select(LINES).prop_map(|line| line.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
        Just(vec![
            0, 0, 0, 12, 0xff, 0x0d, b'o', b'"', 1, b'a', b'I', 2, b'{', 1, 0, 0
        ]),
        prop::collection::vec(
            prop::sample::select(&b"\xff\x0d\x0foA\"cINTF0_{$-;:',^D\\B\x00\x01\x02\x05"[..]),
            0..40
        )
        .prop_map(|payload| {
            let length = u32::try_from(payload.len() + 2).unwrap();
            [&length.to_be_bytes()[..], &[0xff, 0x0f], &payload].concat()
        }),
        Just(vec![b' '; LIMIT]),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_events(
        lines in prop::collection::vec(prop::sample::select(LINES), 0..20),
        at in prop::collection::vec(any::<Index>(), 0..30),
    ) {
        let stream: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let settings = settings(Serialization::Json);
        let whole = run(settings, &stream, &[]);
        prop_assert_eq!(whole.2, Ok(()));
        prop_assert_eq!(run(settings, &stream, &cuts(&stream, &at)), whole.clone());
        let single: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(run(settings, &stream, &single), whole);
    }

    #[test]
    fn garbage_is_an_error_or_an_event_in_any_split(
        stream in noise(),
        at in prop::collection::vec(any::<Index>(), 0..30),
        serialization in prop::sample::select(&[Serialization::Json, Serialization::Advanced][..]),
    ) {
        let whole = run(settings(serialization), &stream, &[]);
        let split = run(settings(serialization), &stream, &cuts(&stream, &at));
        match whole.2 {
            Ok(()) => prop_assert_eq!(split, whole),
            // A session that is broken says so again when it is given more.
            Err(_) => prop_assert_eq!((split.0, split.1), (whole.0, whole.1)),
        }
    }

    #[test]
    fn any_string_is_a_message_and_comes_out_as_one_line(text in any::<String>()) {
        let json = serde_json::to_string(&text).unwrap();
        let events = hear(&mut session(), &json);
        let [Event::Message(message)] = &events[..] else { panic!("{events:?}") };
        let mut session = session();
        session.send(message);
        session.hand_over(everup_core::id::Token(1), &text);
        let written = written(&mut session);
        let lines: Vec<&str> = written.split_terminator('\n').collect();
        prop_assert_eq!(lines.len(), 2);
        prop_assert_eq!(lines[0], json);
        let envelope: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        prop_assert_eq!(envelope["msg"]["key"].as_str(), Some(text.as_str()));
    }
}

#[test]
fn a_frame_that_is_too_long_is_refused_before_it_is_kept() {
    let mut session = Session::new(settings(Serialization::Json));
    assert!(try_hear(&mut session, &[b' '; LIMIT], 0).is_ok());
    assert_eq!(
        try_hear(&mut session, b" ", 0).unwrap_err(),
        WireError::FrameTooLong { limit: LIMIT }
    );

    let mut session = Session::new(settings(Serialization::Advanced));
    assert_eq!(
        try_hear(&mut session, &[0xff; 4], 0).unwrap_err(),
        WireError::FrameTooLong { limit: LIMIT },
        "the announced length is enough"
    );
}

#[test]
fn a_line_of_exactly_the_limit_is_accepted() {
    let line = plain(LIMIT + 1);
    assert_eq!(line.get().len(), LIMIT);
    for part in [1, LIMIT, LIMIT + 1] {
        let mut session = Session::new(settings(Serialization::Json));
        let mut events = Vec::new();
        for bytes in format!("{line}\n").as_bytes().chunks(part) {
            session.receive(bytes, 0, &mut events).unwrap();
        }
        assert_eq!(events.len(), 1);
    }
}

#[test]
fn three_mib_come_through() {
    let text = "é中😀\u{2028}".repeat(280_000);
    let json = serde_json::to_string(&text).unwrap();
    let mut session = session();
    let mut events = Vec::new();
    for bytes in format!("{json}\n").as_bytes().chunks(65_536) {
        session.receive(bytes, 0, &mut events).unwrap();
    }
    assert!(matches!(&events[..], [Event::Message(message)] if message.get() == json));
}
