//! The lines that we write, letter by letter, and the classification of those that we read.

use crate::support::*;
use everup_core::id::Token;
use everup_core::wire::{Event, HandleKind, Reply, Session, SharedKind, Sockname, WireError};

fn hand_over_reply(key: &str, sockname: Option<Sockname>) -> Reply {
    Reply::HandOver {
        key: key.into(),
        data: None,
        sockname,
    }
}

#[test]
fn a_reply_for_round_robin_is_nodes_line() {
    let mut session = session();
    let sockname = Sockname {
        address: "::".into(),
        v6: true,
        port: 18080,
    };
    session.reply(1, hand_over_reply("null:18080:4:undefined", Some(sockname)));
    assert_eq!(
        written(&mut session),
        concat!(
            r#"{"cmd":"NODE_CLUSTER","errno":0,"key":"null:18080:4:undefined","ack":1,"data":null,"#,
            r#""sockname":{"address":"::","family":"IPv6","port":18080},"seq":0}"#,
            "\n"
        )
    );
}

#[test]
fn a_reply_for_a_unix_socket_has_no_sockname() {
    let mut session = session();
    session.reply(0, hand_over_reply("/run/a.sock:-1:-1:", None));
    assert_eq!(
        written(&mut session),
        "{\"cmd\":\"NODE_CLUSTER\",\"errno\":0,\"key\":\"/run/a.sock:-1:-1:\",\"ack\":0,\"data\":null,\"seq\":0}\n"
    );
}

#[test]
fn a_failure_has_a_negative_errno() {
    let mut session = session();
    session.reply(
        3,
        Reply::Failed {
            errno: -98,
            key: "k".into(),
        },
    );
    assert_eq!(
        written(&mut session),
        "{\"cmd\":\"NODE_CLUSTER\",\"errno\":-98,\"key\":\"k\",\"ack\":3,\"data\":null,\"seq\":0}\n"
    );
}

#[test]
fn data_is_echoed() {
    let mut session = session();
    let sockname = Sockname {
        address: "0.0.0.0".into(),
        v6: false,
        port: 1,
    };
    let data = Some(raw(r#"{"ticketKeys":"9680"}"#));
    session.reply(
        1,
        Reply::HandOver {
            key: "k".into(),
            data,
            sockname: Some(sockname),
        },
    );
    let line = written(&mut session);
    assert!(line.contains(
        r#""data":{"ticketKeys":"9680"},"sockname":{"address":"0.0.0.0","family":"IPv4","port":1}"#
    ));
}

#[test]
fn a_shared_handle_comes_in_an_envelope_with_denos_fields() {
    for (kind, node_type, rest) in [
        (
            SharedKind::Tcp,
            "net.Native",
            r#","socketType":1,"nativeKind":"tcp""#,
        ),
        (
            SharedKind::Pipe,
            "net.Native",
            r#","socketType":1,"nativeKind":"pipe""#,
        ),
        (SharedKind::Udp, "dgram.Native", ""),
    ] {
        let mut session = session();
        session.reply(
            1,
            Reply::Shared {
                key: "k".into(),
                data: None,
                kind,
                descriptor: Token(7),
            },
        );
        let inner = r#"{"cmd":"NODE_CLUSTER","errno":0,"key":"k","ack":1,"data":null,"seq":0}"#;
        let line = format!("{{\"cmd\":\"NODE_HANDLE\",\"type\":\"{node_type}\",\"msg\":{inner}{rest}}}\n");
        assert_eq!(drain(&mut session), [(line, Some(Token(7)))]);
    }
}

#[test]
fn a_connection_is_a_newconn_in_an_envelope() {
    let mut session = session();
    session.hand_over(Token(5), "k\"1");
    let line = concat!(
        r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"k\"1","seq":0}"#,
        r#","socketType":0,"nativeKind":"tcp"}"#,
        "\n"
    );
    assert_eq!(drain(&mut session), [(line.to_owned(), Some(Token(5)))]);
}

#[test]
fn a_connection_of_a_unix_socket_says_pipe() {
    let mut session = session();
    session.reply(1, hand_over_reply("u", None));
    session.hand_over(Token(5), "u");
    assert!(written(&mut session).contains(r#""nativeKind":"pipe""#));
}

#[test]
fn disconnect_is_nodes_line() {
    let mut session = session();
    session.disconnect();
    assert_eq!(
        written(&mut session),
        "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"disconnect\",\"seq\":0}\n"
    );
}

#[test]
fn a_worker_of_our_library_says_how_many_connections_have_ended() {
    let mut session = session();
    let online = r#"{"cmd":"NODE_CLUSTER","act":"online","everup":1,"seq":0}"#;
    assert!(matches!(
        hear(&mut session, online)[..],
        [Event::Online, Event::Counts]
    ));
    let other = r#"{"cmd":"NODE_CLUSTER","act":"online","everup":0,"seq":0}"#;
    assert!(matches!(hear(&mut session, other)[..], [Event::Online]));
    let closed = r#"{"cmd":"NODE_CLUSTER","act":"closed","total":12,"seq":7}"#;
    assert!(matches!(
        hear(&mut session, closed)[..],
        [Event::Closed { total: 12 }]
    ));
    for total in ["-1", "null", "\"12\"", "{}"] {
        let junk = format!(r#"{{"cmd":"NODE_CLUSTER","act":"closed","total":{total}}}"#);
        assert!(hear(&mut session, &junk).is_empty(), "{total}");
    }
    assert!(hear(&mut session, r#"{"cmd":"NODE_CLUSTER","act":"closed","seq":7}"#).is_empty());
}

#[test]
fn a_worker_of_our_library_says_where_it_accepts_by_itself() {
    let direct = r#"{"cmd":"NODE_CLUSTER","act":"direct","key":"e1","seq":3}"#;
    let mut session = session();
    assert!(matches!(&hear(&mut session, direct)[..], [Event::Direct { key }] if key == "e1"));
    assert!(hear(&mut session, r#"{"cmd":"NODE_CLUSTER","act":"direct","key":1}"#).is_empty());
}

#[test]
fn disconnect_waits_for_the_dialect() {
    let mut session = Session::new(window(1));
    session.disconnect();
    assert_eq!(session.transmit(), None);
    hear(&mut session, r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#);
    assert!(written(&mut session).contains("disconnect"));
}

#[test]
fn every_message_of_ours_has_its_own_seq() {
    let mut session = session();
    session.disconnect();
    session.reply(
        9,
        Reply::Failed {
            errno: -1,
            key: "k".into(),
        },
    );
    hear(
        &mut session,
        r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":4}"#,
    );
    let text = written(&mut session);
    let ends: Vec<_> = text
        .lines()
        .map(|line| line.rsplit_once("\"seq\":").unwrap().1)
        .collect();
    assert_eq!(ends, ["0}", "1}", "2}"]);
}

#[test]
fn exited_after_disconnect_is_answered() {
    for seq in [0, 12] {
        let mut session = session();
        let line = format!(r#"{{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":{seq}}}"#);
        assert!(matches!(hear(&mut session, &line)[..], [Event::Leaving]));
        assert_eq!(
            written(&mut session),
            format!("{{\"cmd\":\"NODE_CLUSTER\",\"ack\":{seq},\"seq\":0}}\n")
        );
    }
}

#[test]
fn user_level_handles_are_nodes_envelopes() {
    for (kind, start, end) in [
        (HandleKind::Server, "net.Server", "}"),
        (HandleKind::Socket, "net.Socket", "}"),
        (HandleKind::Udp4, "dgram.Socket", r#","dgramType":"udp4"}"#),
        (HandleKind::Udp6, "dgram.Socket", r#","dgramType":"udp6"}"#),
        (HandleKind::NativeDatagram, "dgram.Native", "}"),
    ] {
        let mut session = session();
        session.send_handle(&raw(r#"{"a":1}"#), kind, Token(3));
        let line = format!("{{\"cmd\":\"NODE_HANDLE\",\"type\":\"{start}\",\"msg\":{{\"a\":1}}{end}\n");
        assert_eq!(drain(&mut session), [(line, Some(Token(3)))]);
    }
}

#[test]
fn a_newline_in_a_message_never_reaches_the_wire() {
    let mut session = session();
    session.send(&raw("{\n \"a\": [1,\r\n\"x\\ny\"]\n}"));
    session.send_handle(&raw("[\n]"), HandleKind::Socket, Token(1));
    let text = written(&mut session);
    assert_eq!(text.matches('\n').count(), 2);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn any_json_value_is_a_message() {
    for json in [
        "1",
        "-1.5e3",
        "\"é😀\\u2028\"",
        "true",
        "null",
        "[]",
        "[1,{}]",
        "{}",
        r#"{"cmd":1}"#,
    ] {
        let events = hear(&mut session(), json);
        assert!(
            matches!(&events[..], [Event::Message(message)] if message.get() == json),
            "{json}: {events:?}"
        );
    }
}

#[test]
fn only_a_cmd_longer_than_its_prefix_is_internal() {
    for json in [
        r#"{"cmd":"NODE_"}"#,
        r#"{"cmd":"NODE"}"#,
        r#"{"cmd":"node_FOO"}"#,
        r#"{"cmd":["NODE_FOO"]}"#,
        r#"{"x":{"cmd":"NODE_FOO"}}"#,
        r#"["NODE_FOO"]"#,
        r#"{"cmd":"x NODE_FOO"}"#,
        r#"{"cmd":"NODE_FOO","cmd":1}"#,
        r#"{"\ud800":"NODE_FOO"}"#,
    ] {
        assert!(
            matches!(hear(&mut session(), json)[..], [Event::Message(_)]),
            "{json}"
        );
    }
    for json in [
        r#"{"cmd":"NODE_FOO"}"#,
        r#"  {"a":[1],"cmd":"NODE_X"} "#,
        r#"{"cmd":"\u004eODE_FOO"}"#,
        r#"{"\u0063md":"NODE_FOO"}"#,
        r#"{"cmd":1,"cmd":"NODE_FOO"}"#,
        r#"{"\ud800":1,"cmd":"NODE_FOO"}"#,
    ] {
        assert!(hear(&mut session(), json).is_empty(), "{json}");
    }
}

#[test]
fn unknown_acts_and_acks_are_ignored() {
    let mut session = session();
    for json in [
        r#"{"cmd":"NODE_CLUSTER","act":"dance","seq":1}"#,
        r#"{"cmd":"NODE_CLUSTER","ack":-1,"seq":1}"#,
        r#"{"cmd":"NODE_CLUSTER","ack":0,"accepted":true,"seq":1}"#,
        r#"{"cmd":"NODE_CLUSTER","ack":"x","seq":1}"#,
        r#"{"cmd":"NODE_CLUSTER"}"#,
        r#"{"cmd":"NODE_CLUSTER","act":7}"#,
        r#"{"cmd":"NODE_CLUSTER","act":"close","key":7}"#,
    ] {
        assert!(hear(&mut session, json).is_empty(), "{json}");
    }
    assert_eq!(session.transmit(), None);
    // An unknown ack does not hide an act.
    assert!(matches!(
        hear(&mut session, r#"{"cmd":"NODE_CLUSTER","ack":-1,"act":"online"}"#)[..],
        [Event::Online]
    ));
}

#[test]
fn close_names_its_key() {
    let events = hear(
        &mut session(),
        r#"{"cmd":"NODE_CLUSTER","act":"close","key":"a\"b","seq":1}"#,
    );
    assert!(matches!(&events[..], [Event::Close { key }] if key == "a\"b"));
}

#[test]
fn what_is_no_json_breaks_the_channel() {
    for bytes in [
        &b"\n"[..],
        b"  \n",
        b"{\n",
        b"{}{}\n",
        b"nul\n",
        b"\"\xff\"\n",
        b"{\"cmd\":\"NODE_FOO\"\n",
    ] {
        let mut session = session();
        let mut events = Vec::new();
        let result = session.receive(&[b"1\n", bytes].concat(), 0, &mut events);
        assert!(matches!(result, Err(WireError::Malformed { .. })), "{bytes:?}");
        assert!(
            matches!(events[..], [Event::Message(_)]),
            "what came before counts"
        );
        assert_eq!(session.receive(b"1\n", 0, &mut events), Err(WireError::Broken));
    }
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let internal = format!(r#"{{"a":{deep},"cmd":"NODE_CLUSTER","act":"online"}}"#);
    assert!(matches!(hear(&mut session(), &deep)[..], [Event::Message(_)]));
    assert!(matches!(hear(&mut session(), &internal)[..], [Event::Online]));
}
