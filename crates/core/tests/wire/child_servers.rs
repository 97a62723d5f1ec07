//! The servers of a worker of ours: answers to its questions, connections for them, and what comes too late.

use crate::child::*;
use crate::support::{ACK, NACK};
use everup_core::wire::child::{Answer, Ask, Child, Said, ServerId};
use everup_core::wire::{AddressType, WireError};

const KEY: &str = "null:1:4:-1:0";

fn shared_reply(seq: u64, key: &str) -> String {
    format!(
        r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{{"cmd":"NODE_CLUSTER","errno":0,"key":"{key}","ack":{seq},"data":null,"seq":0}}}}"#
    )
}

fn newconn(seq: u64, key: &str) -> String {
    format!(
        r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{{"cmd":"NODE_CLUSTER","act":"newconn","key":"{key}","seq":{seq}}}}}"#
    )
}

fn closes(key: &str, seq: u64) -> String {
    format!(r#"{{"cmd":"NODE_CLUSTER","act":"close","key":"{key}","seq":{seq}}}"#)
}

fn accepts(ack: u64, accepted: bool, seq: u64) -> String {
    format!(r#"{{"cmd":"NODE_CLUSTER","ack":{ack},"accepted":{accepted},"seq":{seq}}}"#)
}

fn the_answer(said: &[Said], to: ServerId) -> Answer {
    match said {
        [Said::Answer { server, answer }] if *server == to => answer.clone(),
        other => panic!("{other:?}"),
    }
}

/// The index of each question written.
fn indexes(child: &mut Child) -> Vec<u64> {
    let lines = lines(child);
    let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter_map(|line: serde_json::Value| line["index"].as_u64())
        .collect()
}

#[test]
fn the_primary_hands_over() {
    for (sockname, expected) in [
        ("", None),
        (r#""sockname":{},"#, None),
        (
            r#""sockname":{"address":"::1","family":"IPv6","port":81},"#,
            Some(("::1", true, 81)),
        ),
        (
            r#""sockname":{"address":"1.2.3.4","family":"IPv4","port":8},"#,
            Some(("1.2.3.4", false, 8)),
        ),
        // Node 18.0 to 18.3 gave the family as a number.
        (
            r#""sockname":{"address":"::1","family":6,"port":81},"#,
            Some(("::1", true, 81)),
        ),
    ] {
        for errno in ["0", "null"] {
            let mut child = child();
            let server = child.ask(tcp(1)).unwrap();
            let reply = format!(
                r#"{{"cmd":"NODE_CLUSTER","errno":{errno},"key":"{KEY}","ack":0,"data":null,{sockname}"seq":0}}"#
            );
            let Answer::HandOver { sockname } = the_answer(&told(&mut child, &reply), server) else {
                panic!("{reply}")
            };
            let sockname = sockname.map(|name| (name.address, name.v6, name.port));
            assert_eq!(
                sockname,
                expected.map(|(address, v6, port)| (address.to_owned(), v6, port))
            );
        }
    }
}

#[test]
fn an_error_is_positive_here() {
    for (wire, errno) in [("-98", 98), ("13", 13), ("-99999999999999", i32::MAX)] {
        let mut child = child();
        let server = child.ask(tcp(1)).unwrap();
        lines(&mut child);
        let reply =
            format!(r#"{{"cmd":"NODE_CLUSTER","errno":{wire},"key":"k","ack":0,"data":null,"seq":0}}"#);
        assert_eq!(
            the_answer(&told(&mut child, &reply), server),
            Answer::Failed { errno }
        );
        child.close(server);
        assert!(lines(&mut child).is_empty(), "there is nothing to close");
    }
}

#[test]
fn a_socket_of_its_own_comes_and_is_closed() {
    let mut child = child();
    let server = child.ask(tcp(1)).unwrap();
    lines(&mut child);
    let said = told_with(&mut child, &shared_reply(0, KEY), 1);
    assert_eq!(the_answer(&said, server), Answer::Shared);
    assert_eq!(lines(&mut child), [ACK]);
    child.close(server);
    child.close(server);
    assert_eq!(lines(&mut child), [closes(KEY, 1)]);
}

#[test]
fn a_socket_that_does_not_arrive_is_missing_and_given_back() {
    let mut child = child();
    let server = child.ask(tcp(1)).unwrap();
    lines(&mut child);
    let said = told(&mut child, &shared_reply(0, KEY));
    assert_eq!(the_answer(&said, server), Answer::Missing);
    // Node's primary counts us as a holder, and would end by an assertion when we ask again.
    assert_eq!(lines(&mut child), [NACK.to_owned(), closes(KEY, 1)]);
    // An everup primary sends it again.
    let said = told_with(&mut child, &shared_reply(0, KEY), 1);
    assert!(matches!(said[..], [Said::Discard]));
    assert_eq!(lines(&mut child), [ACK]);
}

#[test]
fn an_error_with_a_descriptor_leaves_none_behind() {
    let mut child = child();
    child.ask(tcp(1)).unwrap();
    let reply = shared_reply(0, KEY).replace(r#""errno":0"#, r#""errno":-5"#);
    let said = told_with(&mut child, &reply, 1);
    assert!(
        matches!(
            said[..],
            [
                Said::Answer {
                    answer: Answer::Failed { errno: 5 },
                    ..
                },
                Said::Discard
            ]
        ),
        "{said:?}"
    );
}

#[test]
fn a_question_whose_server_was_closed_is_closed_when_it_is_answered() {
    let mut child = child();
    let server = child.ask(tcp(1)).unwrap();
    child.close(server);
    child.close(server);
    child.listening(server, Some(1));
    assert_eq!(lines(&mut child).len(), 1, "only the question");
    assert!(told(&mut child, &hand_over_reply(0, KEY)).is_empty());
    assert_eq!(lines(&mut child), [closes(KEY, 1)]);
    assert!(told(&mut child, &hand_over_reply(0, KEY)).is_empty());
    assert!(lines(&mut child).is_empty(), "once");
}

#[test]
fn a_socket_for_a_closed_server_is_discarded() {
    let mut child = child();
    let server = child.ask(tcp(1)).unwrap();
    child.close(server);
    lines(&mut child);
    let said = told_with(&mut child, &shared_reply(0, KEY), 1);
    assert!(matches!(said[..], [Said::Discard]));
    assert_eq!(lines(&mut child), [ACK.to_owned(), closes(KEY, 1)]);
}

#[test]
fn an_error_for_a_closed_server_is_nothing() {
    let mut child = child();
    let server = child.ask(tcp(1)).unwrap();
    child.close(server);
    lines(&mut child);
    let reply = r#"{"cmd":"NODE_CLUSTER","errno":-98,"key":"k","ack":0,"data":null,"seq":0}"#;
    assert!(told(&mut child, reply).is_empty());
    assert!(lines(&mut child).is_empty());
}

#[test]
fn an_answer_after_leaving_is_closed() {
    for asked in [true, false] {
        let mut child = child();
        child.ask(tcp(1)).unwrap();
        if asked {
            told(&mut child, r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":0}"#);
        } else {
            child.leave();
        }
        lines(&mut child);
        assert!(told(&mut child, &hand_over_reply(0, KEY)).is_empty());
        assert!(lines(&mut child)[0].contains(r#""act":"close","key":"null:1:4:-1:0""#));
    }
}

#[test]
fn who_asks_again_takes_over_the_abandoned_question() {
    let mut child = child();
    let first = child.ask(tcp(1)).unwrap();
    child.close(first);
    let second = child
        .ask(Ask {
            backlog: Some(5),
            ..tcp(1)
        })
        .unwrap();
    let elsewhere = child.ask(tcp(2)).unwrap();
    assert_eq!(lines(&mut child).len(), 2, "port 1 once, port 2 once");
    assert!(matches!(
        the_answer(&told(&mut child, &hand_over_reply(0, KEY)), second),
        Answer::HandOver { .. }
    ));
    child.close(first);
    assert!(lines(&mut child).is_empty(), "the first has no server");
    let said = told_with(&mut child, &newconn(1, KEY), 1);
    assert!(matches!(said[..], [Said::Connection { server, .. }] if server == second && server != elsewhere));
}

#[test]
fn the_same_place_is_counted() {
    let mut child = child();
    let first = child.ask(tcp(1)).unwrap();
    let second = child
        .ask(Ask {
            backlog: Some(9),
            flags: 1,
            ..tcp(1)
        })
        .unwrap();
    child.ask(tcp(2)).unwrap();
    child
        .ask(Ask {
            address_type: AddressType::Udp4,
            ..tcp(1)
        })
        .unwrap();
    assert_eq!(
        indexes(&mut child),
        [0, 1, 0, 0],
        "as Node counts: not by flags or backlog"
    );
    told(&mut child, &hand_over_reply(0, "a"));
    told(&mut child, &hand_over_reply(1, "b"));
    child.close(first);
    child.ask(tcp(1)).unwrap();
    assert_eq!(indexes(&mut child), [2], "while somebody has the place");
    told(&mut child, &hand_over_reply(5, "c"));
    child.close(second);
    let third = child.ask(tcp(1)).unwrap();
    assert_eq!(indexes(&mut child), [3]);
    child.close(third);
}

#[test]
fn counting_begins_anew_when_nobody_has_the_place() {
    let mut child = child();
    let server = open(&mut child, 1, "k");
    child.close(server);
    child.ask(tcp(1)).unwrap();
    assert_eq!(indexes(&mut child), [0]);
    told(
        &mut child,
        r#"{"cmd":"NODE_CLUSTER","errno":-98,"key":"k","ack":2,"seq":0}"#,
    );
    child.ask(tcp(1)).unwrap();
    assert_eq!(indexes(&mut child), [0], "also when it could not be had");
}

#[test]
fn a_connection_is_offered_and_answered() {
    let mut child = child();
    let (one, two) = (open(&mut child, 1, "one"), open(&mut child, 2, "two"));
    for (server, key, accepted, seq) in [(two, "two", true, 2), (one, "one", false, 3)] {
        let said = told_with(&mut child, &newconn(40, key), 1);
        let [
            Said::Connection {
                server: for_whom,
                offer,
            },
        ] = said[..]
        else {
            panic!("{said:?}")
        };
        assert_eq!(for_whom, server);
        assert_eq!(lines(&mut child), [ACK]);
        child.answer(offer, accepted);
        assert_eq!(lines(&mut child), [accepts(40, accepted, seq)]);
    }
}

#[test]
fn a_connection_for_a_closed_server_is_refused() {
    let mut child = child();
    let server = open(&mut child, 1, "k");
    let said = told_with(&mut child, &newconn(0, "k"), 1);
    let [Said::Connection { offer, .. }] = said[..] else {
        panic!("{said:?}")
    };
    child.close(server);
    lines(&mut child);
    for key in ["k", "never"] {
        let said = told_with(&mut child, &newconn(8, key), 1);
        assert!(matches!(said[..], [Said::Discard]));
        let refused = lines(&mut child);
        assert_eq!(refused[0], ACK);
        assert!(refused[1].contains(r#""ack":8,"accepted":false"#));
    }
    child.answer(offer, true);
    assert_eq!(
        lines(&mut child),
        [accepts(0, true, 4)],
        "what was offered before is ours to answer"
    );
}

#[test]
fn a_connection_that_does_not_arrive_is_not_answered() {
    let mut child = child();
    open(&mut child, 1, "k");
    assert!(told(&mut child, &newconn(5, "k")).is_empty());
    assert_eq!(lines(&mut child), [NACK]);
    let said = told_with(&mut child, &newconn(6, "k"), 1);
    assert!(matches!(said[..], [Said::Connection { .. }]), "the next does");
}

#[test]
fn a_connection_without_a_number_is_discarded() {
    let mut child = child();
    open(&mut child, 1, "k");
    let nameless = newconn(5, "k").replace(r#","seq":5"#, "");
    assert!(matches!(told_with(&mut child, &nameless, 1)[..], [Said::Discard]));
    assert_eq!(lines(&mut child), [ACK]);
}

#[test]
fn who_hands_over_and_reads_no_refusals_is_broken() {
    let mut child = child();
    let message = crate::support::raw("1");
    let kind = everup_core::wire::HandleKind::Socket;
    // Never acknowledged: everything behind it waits.
    child.send_handle(&message, kind, everup_core::id::Token(1));
    let mut said = Vec::new();
    let mut result = Ok(());
    for seq in 0..5000 {
        result = child.receive(format!("{}\n", newconn(seq, "?")).as_bytes(), 1, &mut said);
        offers(&mut child);
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(WireError::TooManyAnswers));
    assert_eq!(child.receive(b"1\n", 0, &mut said), Err(WireError::Broken));
}
