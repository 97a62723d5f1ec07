//! What holds for a worker of ours whatever bytes come.

use crate::child::{offers, tcp};
use everup_core::wire::child::{Child, Said};
use everup_core::wire::{Serialization, WireError};
use proptest::prelude::*;
use proptest::sample::Index;

const LINES: &[&str] = &[
    r#"{"cmd":"NODE_CLUSTER","errno":0,"key":"k","ack":1,"data":null,"sockname":{"address":"::","family":"IPv6","port":1},"seq":0}"#,
    r#"{"cmd":"NODE_CLUSTER","errno":-98,"key":"k","ack":2,"data":null,"seq":0}"#,
    r#"{"cmd":"NODE_CLUSTER","errno":"x","key":7,"ack":2,"sockname":[]}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","errno":0,"key":"s","ack":2,"data":null,"seq":0}}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"k","seq":5}}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"disconnect"}}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"newconn","key":"k","seq":6}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":4}"#,
    r#"{"cmd":"NODE_HANDLE_ACK"}"#,
    r#"{"cmd":"NODE_HANDLE_NACK"}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"é":"😀"},"key":"k"}"#,
    r#"{"cmd":"NODE_HANDLE"}"#,
    r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"k"}"#,
    r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"k"}"#,
    r#"{"cmd":"NODE_FOO"}"#,
    r#""é中😀""#,
    "[1,2,{}]",
];

/// A limit small enough to be met.
const LIMIT: usize = 600;

/// What a child with two questions makes of this, what it then writes, and whether it is broken.
fn run(
    serialization: Serialization,
    stream: &[u8],
    cuts: &[usize],
) -> (String, Vec<u8>, Result<(), WireError>) {
    let mut child = Child::new(serialization, LIMIT);
    child.online();
    child.ask(tcp(1));
    child.ask(tcp(2));
    offers(&mut child);
    let mut said = Vec::new();
    let mut result = child.receive(b"", 3, &mut said);
    let mut start = 0;
    for &end in cuts.iter().chain([&stream.len()]) {
        result = result.and_then(|()| child.receive(&stream[start..end], 0, &mut said));
        start = end;
    }
    let claimed = said.iter().filter(|said| claims(said)).count();
    assert!(claimed <= 3, "{said:?}");
    let written = offers(&mut child)
        .into_iter()
        .flat_map(|(bytes, _)| bytes)
        .collect();
    (format!("{said:?}"), written, result)
}

fn claims(said: &Said) -> bool {
    use everup_core::wire::child::Answer;
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

fn cuts(stream: &[u8], at: &[Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = at.iter().map(|index| index.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// Bytes that look like the protocol more often than chance would have it.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(
        prop::sample::select(&b"\xff\x0d\x0foA\"cINTF0_{$-;:',^D\\B\x00\x01\x02\x05"[..]),
        0..40,
    );
    let piece = prop_oneof![
        prop::sample::select(LINES).prop_map(|line| format!("{line}\n").into_bytes()),
        prop::sample::select(LINES).prop_map(|line| line.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
        payload.prop_map(|payload| {
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
    fn any_split_says_the_same(
        lines in prop::collection::vec(prop::sample::select(LINES), 0..20),
        at in prop::collection::vec(any::<Index>(), 0..30),
    ) {
        let stream: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let whole = run(Serialization::Json, &stream, &[]);
        prop_assert_eq!(whole.2, Ok(()));
        prop_assert_eq!(run(Serialization::Json, &stream, &cuts(&stream, &at)), whole);
    }

    #[test]
    fn garbage_is_an_error_or_said_in_any_split(
        stream in noise(),
        at in prop::collection::vec(any::<Index>(), 0..30),
        serialization in prop::sample::select(&[Serialization::Json, Serialization::Advanced][..]),
    ) {
        let whole = run(serialization, &stream, &[]);
        let split = run(serialization, &stream, &cuts(&stream, &at));
        match whole.2 {
            Ok(()) => prop_assert_eq!(split, whole),
            // It says so again when it is given more.
            Err(_) => prop_assert_eq!((split.0, split.1), (whole.0, whole.1)),
        }
    }
}

#[test]
fn a_frame_that_is_too_long_is_refused_before_it_is_kept() {
    let mut said = Vec::new();
    let mut child = Child::new(Serialization::Json, LIMIT);
    assert_eq!(child.receive(&[b' '; LIMIT], 0, &mut said), Ok(()));
    let too_long = Err(WireError::FrameTooLong { limit: LIMIT });
    assert_eq!(child.receive(b" ", 0, &mut said), too_long);
    assert_eq!(child.receive(b"1\n", 0, &mut said), Err(WireError::Broken));

    let mut child = Child::new(Serialization::Advanced, LIMIT);
    assert_eq!(
        child.receive(&[0xff; 4], 0, &mut said),
        too_long,
        "the announced length is enough"
    );
}

#[test]
fn what_came_before_the_error_is_said() {
    let mut said = Vec::new();
    let mut child = Child::new(Serialization::Json, LIMIT);
    let result = child.receive(b"1\n{\n2\n", 0, &mut said);
    assert!(matches!(result, Err(WireError::Malformed { .. })));
    assert!(matches!(said[..], [Said::Message(_)]));
}
