//! V8's format on the wire.

use crate::support::*;
use everup_core::id::Token;
use everup_core::wire::{AddressType, Event, HandleKind, Reply, Session, WireError};
use proptest::prelude::*;

fn frame(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat()
}

fn hear_payload(payload: &[u8]) -> Vec<Event> {
    try_hear(&mut Session::new(advanced()), &frame(payload), 0).unwrap()
}

/// The JSON that a payload stands for.
fn json_of(payload: &[u8]) -> String {
    let mut events = hear_payload(payload);
    let Some(Event::Message(message)) = events.pop() else {
        panic!("{payload:?}: no message")
    };
    message.get().to_owned()
}

fn object(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut payload = vec![0xff, 0x0f, b'o'];
    for (name, value) in fields {
        payload.extend_from_slice(&string(name));
        payload.extend_from_slice(value);
    }
    payload.extend_from_slice(&[b'{', u8::try_from(fields.len()).unwrap()]);
    payload
}

fn string(text: &str) -> Vec<u8> {
    [&[b'"', u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// What we write for this JSON, without the length.
fn payload_of(json: &str) -> Vec<u8> {
    let mut session = Session::new(advanced());
    session.send(&raw(json));
    let bytes: Vec<u8> = drain_bytes(&mut session)
        .into_iter()
        .flat_map(|(bytes, _)| bytes)
        .collect();
    let (length, payload) = bytes.split_first_chunk::<4>().unwrap();
    assert_eq!(
        usize::try_from(u32::from_be_bytes(*length)).unwrap(),
        payload.len()
    );
    payload.to_vec()
}

#[test]
fn ours_are_as_v8_writes_them() {
    // `v8.serialize` of Node 20, but for the version.
    for (json, expected) in [
        ("1", &b"\xff\x0dI\x02"[..]),
        ("-1", b"\xff\x0dI\x01"),
        ("-2147483648", b"\xff\x0dI\xff\xff\xff\xff\x0f"),
        ("1.5", b"\xff\x0dN\0\0\0\0\0\0\xf8\x3f"),
        ("true", b"\xff\x0dT"),
        ("false", b"\xff\x0dF"),
        ("null", b"\xff\x0d0"),
        (r#""ab""#, b"\xff\x0d\"\x02ab"),
        (r#""\u00e9\n""#, b"\xff\x0d\"\x02\xe9\n"),
        ("\"中\"", b"\xff\x0dc\x02\x2d\x4e"),
        (r#"{"a":"中"}"#, b"\xff\x0do\"\x01ac\x02\x2d\x4e{\x01"),
        (r#"{"ab":"中"}"#, b"\xff\x0do\"\x02ab\0c\x02\x2d\x4e{\x01"),
        ("[]", b"\xff\x0dA\0$\0\0"),
        (
            r#"[1,[true,"],["],{}]"#,
            b"\xff\x0dA\x03I\x02A\x02T\"\x03],[$\0\x02o{\0$\0\x03",
        ),
    ] {
        assert_eq!(payload_of(json), expected, "{json}");
    }
}

#[test]
fn nodes_are_read() {
    for (payload, expected) in [
        (&b"\xff\x0fI\x02"[..], "1"),
        (b"\xff\x0dI\x01", "-1"),
        (b"\xff\x0fI\xff\xff\xff\xff\x0f", "-2147483648"),
        (b"\xff\x0fU\x05", "5"),
        (b"\xff\x0fN\0\0\0\0\0\0\xf8\x3f", "1.5"),
        (b"\xff\x0fN\0\0\0\0\0\0\0\x80", "-0.0"),
        (b"\xff\x0fN\0\0\0\0\0\0\xf0\x41", "4294967296"),
        (b"\xff\x0f\"\x03\xe9\"\x01", "\"é\\\"\\u0001\""),
        (b"\xff\x0fc\x04\x3d\xd8\x00\xde", "\"😀\""),
        (b"\xff\x0fc\x02\x3d\xd8", "\"\\ud83d\""),
        (b"\xff\x0fS\x02\xc3\xa9", "\"é\""),
        (b"\xff\x0foI\x02T\"\x01b_{\x02", "{\"1\":true}"),
        (b"\xff\x0fo\"\x01a_\"\x01bT\"\x01c_{\x03", "{\"b\":true}"),
        (b"\xff\x0fA\x02I\x02o{\x00$\0\x02", "[1,{}]"),
    ] {
        assert_eq!(json_of(payload), expected);
    }
}

#[test]
fn an_array_that_v8_has_read_itself_is_an_array() {
    // `v8.serialize(v8.deserialize(v8.serialize([1, 'x'])))` of Node 20: index and value pairs.
    assert_eq!(
        json_of(b"\xff\x0fa\x02I\x00I\x02I\x02\"\x01x@\x02\x02"),
        "[1,\"x\"]"
    );
    assert_eq!(json_of(b"\xff\x0fa\x00@\x00\x00"), "[]");
    for holey in [
        &b"\xff\x0fa\x03I\x00I\x02I\x04I\x02@\x02\x03"[..],
        b"\xff\x0fa\xff\xff\xff\xff\x0f@\x00\xff\xff\xff\xff\x0f",
    ] {
        let events = hear_payload(holey);
        assert!(
            matches!(&events[..], [Event::Opaque(payload)] if payload == holey),
            "{events:?}"
        );
    }
}

#[test]
fn what_json_cannot_express_is_opaque() {
    for payload in [
        &b"\xff\x0fD\0\0\0\0\0\0\xf0\x41"[..],                           // date
        b"\xff\x0f;\"\x01aI\x02:\x02",                                   // map
        b"\xff\x0f'I\x02,\x01",                                          // set
        b"\xff\x0fo\"\x01a^\0{\x01",                                     // itself
        b"\xff\x0f\\\0\x0a\x02hi",                                       // Buffer
        b"\xff\x0fo\"\x01a\\\0\x0a\x02hi{\x01",                          // Buffer inside
        b"\xff\x0fZ\x10\0\0\0\0\0\0\0\x80",                              // bigint
        b"\xff\x0fN\0\0\0\0\0\0\xf8\x7f",                                // NaN
        b"\xff\x0fA\x02I\x02-$\0\x02",                                   // hole
        b"\xff\x0fA\x01_$\0\x01",                                        // undefined in an array
        b"\xff\x0fA\x01I\x02\"\x01aT$\x01\x01",                          // array with a property
        b"\xff\x0fa\xff\xff\xff\xff\x0fI\x02T@\x01\xff\xff\xff\xff\x0f", // sparse array
        b"\xff\x0fR\"\x01a\0",                                           // regular expression
        b"\xff\x0f_",                                                    // undefined
        b"\xff\x0f!anything",                                            // not known
        b"\xff\x0fo\"\x01a\\\x07",                                       // host object not of Node's
        b"\xff\x0fo\"\x01aD\0",                                          // cut, but who knows
        b"\xff\x7fT",                                                    // a newer version
    ] {
        let events = hear_payload(payload);
        let [Event::Opaque(opaque)] = &events[..] else {
            panic!("{payload:?}: {events:?}")
        };
        assert_eq!(opaque, payload);
        let mut session = Session::new(advanced());
        session.send_opaque(opaque);
        assert_eq!(drain_bytes(&mut session), [(frame(payload), None)]);
    }
}

#[test]
fn what_is_cut_or_of_another_format_breaks_the_channel() {
    for payload in [
        &b""[..],
        b"\xff",
        b"\xff\x0f",
        b"\xff\x7f",
        b"{}",
        b"\xff\x0fo\"\x01a",
        b"\xff\x0f\"\x05ab",
        b"\xff\x0fc\x01a",
        b"\xff\x0fA\xff\xff\xff\xff\x0fT",
    ] {
        let result = try_hear(&mut Session::new(advanced()), &frame(payload), 0);
        assert!(
            matches!(result, Err(WireError::Malformed { .. })),
            "{payload:?}: {result:?}"
        );
    }
}

#[test]
fn too_deep_is_opaque() {
    let payload = [
        &b"\xff\x0f"[..],
        &b"A\x01".repeat(100_000),
        b"T",
        &b"$\0\x01".repeat(100_000),
    ]
    .concat();
    assert!(matches!(hear_payload(&payload)[..], [Event::Opaque(_)]));
    let json = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(payload_of(&json).len(), 2 + 100_000 + 99_999 + 1 + 100_000 * 3);
}

#[test]
fn the_cluster_is_understood() {
    let cmd = string("NODE_CLUSTER");
    let payload = object(&[("cmd", &cmd), ("act", &string("online")), ("seq", b"I\0")]);
    assert!(matches!(hear_payload(&payload)[..], [Event::Online]));
    let payload = object(&[
        ("cmd", &cmd),
        ("act", &string("queryServer")),
        ("index", b"I\0"),
        ("data", b"0"),
        ("address", b"0"),
        ("port", b"I\x02"),
        ("addressType", b"I\x08"),
        ("fd", b"_"),
        ("flags", b"_"),
        ("backlog", b"F"),
        ("seq", b"I\x02"),
    ]);
    let events = hear_payload(&payload);
    let [Event::Query(query)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (query.seq, query.port, query.address_type),
        (1, Some(1), AddressType::Tcp4)
    );
    assert_eq!((query.fd, query.flags, query.backlog), (None, 0, None));
}

#[test]
fn replies_and_handles_are_framed() {
    let mut session = Session::new(advanced());
    session.reply(
        1,
        Reply::Failed {
            errno: -98,
            key: "k".into(),
        },
    );
    session.hand_over(Token(1), "k");
    session.send_handle(&raw("1"), HandleKind::Server, Token(2));
    let offers = drain_bytes(&mut session);
    assert_eq!(
        (offers.len(), offers[1].1, offers[2].1),
        (3, Some(Token(1)), Some(Token(2)))
    );
    let expected = payload_of(r#"{"cmd":"NODE_CLUSTER","errno":-98,"key":"k","ack":1,"data":null,"seq":0}"#);
    assert_eq!(offers[0].0, frame(&expected));
    let expected = payload_of(r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}"#);
    assert_eq!(offers[2].0, frame(&expected));
}

#[test]
fn a_handle_with_an_inexpressible_message_is_delivered_with_null() {
    let mut session = Session::new(advanced());
    let cmd = string("NODE_HANDLE");
    let payload = object(&[
        ("cmd", &cmd),
        ("type", &string("net.Socket")),
        ("msg", b"\\\0\x0a\x02hi"),
        ("key", b"\"\x01k"),
    ]);
    let events = try_hear(&mut session, &frame(&payload), 1).unwrap();
    let [
        Event::Handle {
            kind: HandleKind::Socket,
            message,
            key: Some(key),
        },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((message.get(), key.as_str()), ("null", "k"));
}

#[test]
fn a_handle_with_an_unreadable_message_does_not_spoil_the_next() {
    let mut session = Session::new(advanced());
    let cmd = string("NODE_HANDLE");
    let payload = object(&[("cmd", &cmd), ("type", &string("net.Server")), ("msg", b"!!")]);
    let events = try_hear(&mut session, &frame(&payload), 1).unwrap();
    assert!(matches!(events[..], [Event::Discard, Event::Opaque(_)]));
    assert_eq!(drain_bytes(&mut session), [(frame(&payload_of(ACK)), None)]);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Into::into),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[a-zé中]{0,200}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Numbers as JavaScript has them: all are doubles.
fn same(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (left, right) {
        (Number(left), Number(right)) => close(left.as_f64().unwrap(), right.as_f64().unwrap()),
        (Array(left), Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Object(left), Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|((a, l), (b, r))| a == b && same(l, r))
        }
        _ => left == right,
    }
}

/// `serde_json` reads doubles with an error in the last place.
fn close(left: f64, right: f64) -> bool {
    // The last place of the smallest numbers is more than that.
    (left - right).abs() <= (left.abs() * 1e-15).max(f64::MIN_POSITIVE * f64::EPSILON)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_comes_back(value in json(), pretty in any::<bool>()) {
        let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let back: serde_json::Value = serde_json::from_str(&json_of(&payload_of(&json.unwrap()))).unwrap();
        prop_assert!(same(&back, &value), "{back} != {value}");
    }
}
