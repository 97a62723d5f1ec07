//! What a worker of ours says, line by line as Node's own, and how it leaves.
//!
//! The lines of the first test were recorded from a worker of Node 20.20.2 (`cluster`, TCP, UNIX, UDP).

use crate::support::raw;
use everup_core::id::Token;
use everup_core::wire::child::{Answer, Ask, Child, Said, ServerId};
use everup_core::wire::{AddressType, Serialization};

/// A child that has nothing to write.
pub(crate) fn child() -> Child {
    Child::with_serialization(Serialization::Json)
}

/// What it makes of this line.
pub(crate) fn told(child: &mut Child, line: &str) -> Vec<Said> {
    told_with(child, line, 0)
}

pub(crate) fn told_with(child: &mut Child, line: &str, descriptors: usize) -> Vec<Said> {
    let mut said = Vec::new();
    child
        .receive(format!("{line}\n").as_bytes(), descriptors, &mut said)
        .unwrap();
    said
}

/// Everything that it may write now, offer by offer.
pub(crate) fn offers(child: &mut Child) -> Vec<(Vec<u8>, Option<Token>)> {
    let mut offers = Vec::new();
    while let Some(offer) = child.transmit() {
        assert!(!offer.bytes.is_empty());
        let length = offer.bytes.len();
        offers.push((offer.bytes.to_vec(), offer.descriptor));
        child.wrote(length);
    }
    offers
}

/// The lines that it may write now.
pub(crate) fn lines(child: &mut Child) -> Vec<String> {
    let bytes: Vec<u8> = offers(child).into_iter().flat_map(|(bytes, _)| bytes).collect();
    let text = String::from_utf8(bytes).unwrap();
    text.split_terminator('\n').map(str::to_owned).collect()
}

pub(crate) fn tcp(port: u16) -> Ask {
    Ask {
        address: None,
        port: Some(port),
        address_type: AddressType::Tcp4,
        flags: 0,
        backlog: None,
    }
}

/// The question of this sequence number, answered: connections will be handed over under this key.
pub(crate) fn hand_over_reply(seq: u64, key: &str) -> String {
    format!(
        r#"{{"cmd":"NODE_CLUSTER","errno":0,"key":"{key}","ack":{seq},"data":null,"sockname":{{"address":"::","family":"IPv6","port":1}},"seq":0}}"#
    )
}

/// An open server under this key, the first thing that this child asks for. Its lines are written.
pub(crate) fn open(child: &mut Child, port: u16, key: &str) -> ServerId {
    let server = child.ask(tcp(port)).unwrap();
    let question: serde_json::Value = serde_json::from_str(&lines(child)[0]).unwrap();
    let said = told(child, &hand_over_reply(question["seq"].as_u64().unwrap(), key));
    assert!(
        matches!(&said[..], [Said::Answer { server: who, answer: Answer::HandOver { .. } }] if *who == server),
        "{said:?}"
    );
    server
}

const LEAVING: &str = r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":0}"#;
const DISCONNECT: &str = r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":9}"#;

#[test]
fn its_life_is_told_as_node_tells_it() {
    let mut child = child();
    child.online();
    // Node has no mark of ours there.
    assert_eq!(
        lines(&mut child),
        [r#"{"cmd":"NODE_CLUSTER","act":"online","everup":1,"seq":0}"#]
    );
    let first = Ask {
        address: Some("127.0.0.1".to_owned()),
        backlog: Some(77),
        ..tcp(0)
    };
    let tcp = child.ask(first).unwrap();
    assert_eq!(
        lines(&mut child),
        [
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4,"flags":0,"backlog":77,"seq":1}"#
        ]
    );
    told(&mut child, &hand_over_reply(1, "k1"));
    child.listening(tcp, Some(4321));
    assert_eq!(
        lines(&mut child),
        [
            r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"data":null,"address":"127.0.0.1","port":4321,"addressType":4,"flags":0,"backlog":77,"seq":2}"#
        ]
    );
    child.send(&raw(r#"{"hi":1}"#));
    assert!(child.leave());
    assert_eq!(
        lines(&mut child),
        [
            r#"{"hi":1}"#,
            r#"{"cmd":"NODE_CLUSTER","act":"close","key":"k1","seq":3}"#,
            r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":4}"#,
        ]
    );
}

#[test]
fn other_families_are_asked_for_as_node_does() {
    let mut child = child();
    child.ask(Ask {
        address: Some("/run/\"x\".sock".to_owned()),
        port: None,
        address_type: AddressType::Unix,
        ..tcp(0)
    });
    child.ask(Ask {
        address: Some("0.0.0.0".to_owned()),
        address_type: AddressType::Udp4,
        ..tcp(0)
    });
    child.ask(Ask {
        address_type: AddressType::Udp6,
        flags: 4,
        ..tcp(0)
    });
    child.ask(Ask {
        address: Some("::".to_owned()),
        address_type: AddressType::Tcp6,
        flags: 1,
        ..tcp(443)
    });
    // Node leaves `flags` out where nothing is flagged; 0 says the same.
    assert_eq!(
        lines(&mut child),
        [
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"/run/\"x\".sock","port":-1,"addressType":-1,"flags":0,"seq":0}"#,
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"0.0.0.0","port":0,"addressType":"udp4","fd":-1,"flags":0,"seq":1}"#,
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":0,"addressType":"udp6","fd":-1,"flags":4,"seq":2}"#,
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"::","port":443,"addressType":6,"flags":1,"seq":3}"#,
        ]
    );
}

#[test]
fn closed_connections_are_told_as_a_total() {
    let mut child = child();
    child.closed_connections(3);
    assert_eq!(
        lines(&mut child),
        [r#"{"cmd":"NODE_CLUSTER","act":"closed","total":3,"seq":0}"#]
    );
}

#[test]
fn a_message_of_the_app_is_one_line() {
    let mut child = child();
    child.send(&raw("{\n\"a\": 1\n}"));
    child.send(&raw(r#""a\nb""#));
    assert_eq!(lines(&mut child), [r#"{ "a": 1 }"#, r#""a\nb""#]);
}

#[test]
fn what_is_said_in_v8s_format_is_the_same() {
    let mut child = Child::with_serialization(Serialization::Advanced);
    child.closed_connections(1);
    let bytes: Vec<u8> = offers(&mut child)
        .into_iter()
        .flat_map(|(bytes, _)| bytes)
        .collect();
    let expected =
        b"\xff\x0do\"\x03cmd\"\x0cNODE_CLUSTER\"\x03act\"\x06closed\"\x05totalI\x02\"\x03seqI\x00{\x04";
    let length = u32::try_from(expected.len()).unwrap().to_be_bytes();
    assert_eq!(bytes, [&length[..], expected].concat());

    // What a primary says comes the same way: `{cmd: 'NODE_CLUSTER', act: 'disconnect', seq: 0}`, and 1.
    let disconnect = b"\xff\x0fo\"\x03cmd\"\x0cNODE_CLUSTER\"\x03act\"\x0adisconnect\"\x03seqI\x00{\x03";
    let length = u32::try_from(disconnect.len()).unwrap().to_be_bytes();
    let mut said = Vec::new();
    child
        .receive(
            &[&length[..], disconnect, b"\0\0\0\x04\xff\x0fI\x02"].concat(),
            0,
            &mut said,
        )
        .unwrap();
    assert!(
        matches!(&said[..], [Said::Disconnect, Said::Message(message)] if message.get() == "1"),
        "{said:?}"
    );
}

#[test]
fn a_value_that_only_v8_can_express_is_handed_through() {
    let mut child = Child::with_serialization(Serialization::Advanced);
    let date = b"\xff\x0fD\0\0\0\0\0\0\xf8\x3f";
    let mut said = Vec::new();
    child
        .receive(&[&[0, 0, 0, 11][..], date].concat(), 0, &mut said)
        .unwrap();
    assert!(
        matches!(&said[..], [Said::Opaque(payload)] if payload == date),
        "{said:?}"
    );
}

#[test]
fn who_leaves_is_let_go_once_the_primary_knows() {
    let mut child = child();
    assert!(!child.is_leaving());
    assert!(child.leave());
    assert!(child.is_leaving());
    assert_eq!(lines(&mut child), [LEAVING]);
    assert!(told(&mut child, r#"{"cmd":"NODE_CLUSTER","ack":7,"seq":0}"#).is_empty());
    let said = told(&mut child, r#"{"cmd":"NODE_CLUSTER","ack":0,"seq":1}"#);
    assert!(matches!(said[..], [Said::LetGo]));
    assert!(told(&mut child, r#"{"cmd":"NODE_CLUSTER","ack":0,"seq":1}"#).is_empty());
    assert!(!child.leave(), "nothing will follow");
    assert!(lines(&mut child).is_empty());
}

#[test]
fn leaving_twice_is_said_once() {
    let mut child = child();
    assert!(child.leave());
    assert!(child.leave(), "it is still awaited");
    assert_eq!(lines(&mut child), [LEAVING]);
}

#[test]
fn who_is_asked_to_leave_closes_and_has_nothing_to_announce() {
    let mut child = child();
    let server = open(&mut child, 1, "k");
    assert!(matches!(told(&mut child, DISCONNECT)[..], [Said::Disconnect]));
    assert!(child.is_leaving());
    assert!(!child.leave());
    child.close(server);
    assert_eq!(child.ask(tcp(2)), None);
    assert_eq!(
        lines(&mut child),
        [r#"{"cmd":"NODE_CLUSTER","act":"close","key":"k","seq":1}"#]
    );
}

#[test]
fn a_second_request_to_leave_is_told_and_says_nothing() {
    let mut child = child();
    open(&mut child, 1, "k");
    told(&mut child, DISCONNECT);
    lines(&mut child);
    assert!(matches!(told(&mut child, DISCONNECT)[..], [Said::Disconnect]));
    assert!(lines(&mut child).is_empty());
}

#[test]
fn who_leaves_and_is_asked_to_is_still_let_go() {
    let mut child = child();
    open(&mut child, 1, "k");
    assert!(child.leave());
    assert_eq!(lines(&mut child).len(), 2);
    assert!(matches!(told(&mut child, DISCONNECT)[..], [Said::Disconnect]));
    assert!(lines(&mut child).is_empty());
    let said = told(&mut child, r#"{"cmd":"NODE_CLUSTER","ack":2,"seq":1}"#);
    assert!(matches!(said[..], [Said::LetGo]));
}

#[test]
fn messages_of_the_app_pass_and_unknown_ones_of_the_protocol_do_not() {
    let mut child = child();
    for line in [
        r#"{"cmd":"NODE_"}"#,
        "1",
        "null",
        r#""NODE_CLUSTER""#,
        r#"[{"cmd":"NODE_X"}]"#,
    ] {
        assert!(
            matches!(&told(&mut child, line)[..], [Said::Message(message)] if message.get() == line),
            "{line}"
        );
    }
    for line in [
        r#"{"cmd":"NODE_FOO"}"#,
        r#"{"cmd":"NODE_CLUSTER","act":"dance","seq":1}"#,
        r#"{"cmd":"NODE_CLUSTER","ack":-1}"#,
        r#"{"cmd":"NODE_HANDLE_ACK"}"#,
    ] {
        assert!(told(&mut child, line).is_empty(), "{line}");
    }
    assert!(lines(&mut child).is_empty());
}
