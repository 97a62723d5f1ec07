//! Handles under way: what may be written when.

use crate::support::*;
use everup_core::id::Token;
use everup_core::wire::{Event, HandleKind, Session, Settings, Transmit};

fn tokens(range: std::ops::RangeInclusive<u64>) -> Vec<Token> {
    range.map(Token).collect()
}

fn hand_over_all(session: &mut Session, range: std::ops::RangeInclusive<u64>) {
    for token in range {
        session.hand_over(Token(token), "k");
    }
}

#[test]
fn with_a_window_of_1_everything_waits_for_the_ack() {
    let mut session = session_with(window(1));
    session.hand_over(Token(1), "k");
    session.hand_over(Token(2), "k");
    session.send(&raw("1"));
    assert_eq!(sent(&mut session), [Token(1)]);
    assert_eq!(session.transmit(), None);
    assert!(matches!(
        hear(&mut session, ACK)[..],
        [Event::Delivered(Token(1))]
    ));
    assert_eq!(sent(&mut session), [Token(2)]);
    assert_eq!(session.transmit(), None);
    hear(&mut session, ACK);
    assert_eq!(written(&mut session), "1\n");
}

#[test]
fn a_window_of_8_lets_8_follow_each_other() {
    let mut session = session();
    assert_eq!(session.room(), 8);
    hand_over_all(&mut session, 1..=10);
    assert_eq!(sent(&mut session), tokens(1..=8));
    assert_eq!((session.room(), session.undelivered()), (0, 10));
    hear(&mut session, ACK);
    assert_eq!(sent(&mut session), [Token(9)]);
}

#[test]
fn a_window_of_0_is_1() {
    let mut session = session_with(window(0));
    assert_eq!(session.room(), 1);
    session.hand_over(Token(1), "k");
    assert_eq!(sent(&mut session), [Token(1)]);
}

#[test]
fn more_than_32_kib_of_plain_bytes_forbid_pipelining_until_an_ack() {
    let mut session = session();
    session.send(&plain(32 * 1024 + 1));
    assert_eq!(session.room(), 1);
    written(&mut session);
    hand_over_all(&mut session, 1..=4);
    assert_eq!(sent(&mut session), [Token(1)]);
    assert_eq!(session.transmit(), None);
    hear(&mut session, ACK);
    assert_eq!(sent(&mut session), tokens(2..=4));
}

#[test]
fn up_to_32_kib_of_plain_bytes_allow_pipelining() {
    let mut session = session();
    session.send(&plain(32 * 1024 - 1000));
    assert_eq!(session.room(), 8);
    hand_over_all(&mut session, 1..=4);
    assert_eq!(sent(&mut session), tokens(1..=4));
}

#[test]
fn frames_of_handles_count_as_well() {
    let mut session = session();
    session.send_handle(&plain(40_000), HandleKind::Socket, Token(1));
    session.hand_over(Token(2), "k");
    assert_eq!(sent(&mut session), [Token(1)]);
    assert_eq!(session.room(), 0);
}

#[test]
fn an_ack_proves_that_its_own_handle_was_read_and_no_more() {
    let mut session = session();
    session.hand_over(Token(1), "k");
    session.send_handle(&plain(40_000), HandleKind::Socket, Token(2));
    session.hand_over(Token(3), "k");
    assert_eq!(sent(&mut session), tokens(1..=2));
    hear(&mut session, ACK);
    assert_eq!(session.transmit(), None);
    hear(&mut session, ACK);
    assert_eq!(sent(&mut session), [Token(3)]);
}

#[test]
fn a_nack_proves_nothing() {
    let mut session = session();
    session.send(&plain(40_000));
    hand_over_all(&mut session, 1..=3);
    written(&mut session);
    hear(&mut session, NACK);
    assert_eq!(sent(&mut session), [Token(2)]);
    assert_eq!(session.transmit(), None);
}

#[test]
fn after_a_torn_handle_the_next_one_waits() {
    let mut session = session();
    hand_over_all(&mut session, 1..=3);
    let offer = session.transmit().unwrap();
    assert_eq!(offer.descriptor, Some(Token(1)));
    let (first, rest) = (10, offer.bytes.len() - 10);
    session.wrote(first);
    let offer = session.transmit().unwrap();
    assert_eq!(
        (offer.descriptor, offer.bytes.len()),
        (None, rest),
        "the descriptor goes once"
    );
    session.wrote(rest);
    assert_eq!(
        session.transmit(),
        None,
        "the tail would be read together with the next descriptor"
    );
    hear(&mut session, ACK);
    assert_eq!(sent(&mut session), tokens(2..=3));
}

#[test]
fn a_plain_message_is_held_and_holds_what_is_behind_it() {
    let mut session = session();
    session.hand_over(Token(1), "k");
    session.send(&raw("1"));
    session.hand_over(Token(2), "k");
    session.send(&raw("2"));
    assert_eq!(session.room(), 0);
    assert_eq!(sent(&mut session), [Token(1)]);
    hear(&mut session, ACK);
    let offers = drain(&mut session);
    assert_eq!(
        (offers[0].0.as_str(), offers[1].1, offers.len()),
        ("1\n", Some(Token(2)), 2)
    );
    hear(&mut session, ACK);
    assert_eq!(written(&mut session), "2\n");
}

#[test]
fn replies_and_disconnect_are_held_too() {
    let mut session = session();
    session.hand_over(Token(1), "k");
    written(&mut session);
    session.disconnect();
    hear(
        &mut session,
        r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":4}"#,
    );
    assert_eq!(session.transmit(), None);
    hear(&mut session, NACK);
    assert_eq!(written(&mut session).lines().count(), 2);
}

#[test]
fn our_ack_passes_everything_queued() {
    let mut session = session_with(window(1));
    session.hand_over(Token(1), "k");
    written(&mut session);
    session.hand_over(Token(2), "k");
    session.send(&raw("1"));
    hear_with(
        &mut session,
        r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}"#,
        1,
    );
    assert_eq!(drain(&mut session), [(format!("{ACK}\n"), None)]);
}

#[test]
fn our_ack_never_goes_inside_a_started_frame() {
    let mut session = session();
    session.send(&raw("\"0123456789\""));
    session.wrote(4);
    hear(
        &mut session,
        r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}"#,
    );
    session.send(&raw("2"));
    assert_eq!(written(&mut session), format!("3456789\"\n{NACK}\n2\n"));
}

#[test]
fn a_started_ack_is_finished_before_anything_else() {
    let mut session = session();
    hear(
        &mut session,
        r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}"#,
    );
    session.wrote(3);
    session.send(&raw("2"));
    hear_with(
        &mut session,
        r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}"#,
        1,
    );
    assert_eq!(written(&mut session), format!("{}\n{ACK}\n2\n", &NACK[3..]));
}

#[test]
fn accepted_is_matched_to_its_connection() {
    let mut session = session();
    hand_over_all(&mut session, 10..=12);
    written(&mut session);
    for _ in 0..3 {
        hear(&mut session, ACK);
    }
    for (ack, accepted, connection) in [(0, true, 10), (2, false, 12), (1, true, 11)] {
        let line = format!(r#"{{"ack":{ack},"accepted":{accepted},"cmd":"NODE_CLUSTER","seq":5}}"#);
        let events = hear(&mut session, &line);
        let [
            Event::Answer {
                connection: answered,
                accepted: took,
            },
        ] = events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!((answered, took), (Token(connection), accepted));
        assert!(hear(&mut session, &line).is_empty(), "an answer counts once");
    }
}

#[test]
fn an_answer_before_the_ack_counts() {
    let mut session = session();
    session.hand_over(Token(1), "k");
    written(&mut session);
    let line = r#"{"ack":0,"accepted":true,"cmd":"NODE_CLUSTER","seq":5}"#;
    assert!(matches!(
        hear(&mut session, line)[..],
        [Event::Answer {
            connection: Token(1),
            accepted: true
        }]
    ));
    assert!(matches!(
        hear(&mut session, ACK)[..],
        [Event::Delivered(Token(1))]
    ));
    assert!(hear(&mut session, line).is_empty());
}

#[test]
fn an_answer_to_what_was_not_sent_is_ignored() {
    let mut session = session();
    session.hand_over(Token(1), "k");
    assert!(
        hear(
            &mut session,
            r#"{"ack":0,"accepted":true,"cmd":"NODE_CLUSTER","seq":5}"#
        )
        .is_empty()
    );
}

#[test]
fn a_nacked_connection_is_forgotten() {
    let mut session = session();
    session.hand_over(Token(1), "k");
    written(&mut session);
    assert!(matches!(
        hear(&mut session, NACK)[..],
        [Event::Undelivered(Token(1))]
    ));
    assert_eq!(session.undelivered(), 0);
    assert!(
        hear(
            &mut session,
            r#"{"ack":0,"accepted":true,"cmd":"NODE_CLUSTER","seq":5}"#
        )
        .is_empty()
    );
}

#[test]
fn ack_and_nack_answer_the_oldest_handle() {
    let mut session = session();
    hand_over_all(&mut session, 1..=3);
    written(&mut session);
    assert!(matches!(
        hear(&mut session, NACK)[..],
        [Event::Undelivered(Token(1))]
    ));
    assert!(matches!(
        hear(&mut session, ACK)[..],
        [Event::Delivered(Token(2))]
    ));
    assert!(matches!(
        hear(&mut session, ACK)[..],
        [Event::Delivered(Token(3))]
    ));
}

#[test]
fn an_ack_for_nothing_is_ignored() {
    let mut session = session();
    assert!(hear(&mut session, ACK).is_empty());
    session.hand_over(Token(1), "k");
    assert!(hear(&mut session, ACK).is_empty(), "not sent yet");
    session.wrote(5);
    assert!(hear(&mut session, ACK).is_empty(), "not whole yet");
    assert_eq!(session.undelivered(), 1);
}

#[test]
fn room_is_never_0_while_nothing_is_under_way() {
    let mut session = session_with(window(1));
    session.hand_over(Token(1), "k");
    session.send(&raw("1"));
    written(&mut session);
    assert_eq!(session.room(), 0);
    hear(&mut session, ACK);
    assert_eq!(
        session.room(),
        1,
        "the held message goes out first, and then nothing is in the way"
    );
    session.hand_over(Token(2), "k");
    assert_eq!(sent(&mut session), [Token(2)]);
}

#[test]
fn what_room_promises_goes_out_at_once() {
    let mut session = session();
    session.send(&plain(20_000));
    session.hand_over(Token(1), "k");
    let room = session.room();
    assert_eq!(room, 7);
    hand_over_all(&mut session, 2..=8);
    assert_eq!(sent(&mut session), tokens(1..=8));
}

#[test]
fn backlog_counts_the_unwritten() {
    let mut session = session();
    assert_eq!(session.backlog(), 0);
    session.send(&plain(100));
    hear(
        &mut session,
        r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}"#,
    );
    assert_eq!(session.backlog(), 100 + NACK.len() + 1);
    session.wrote(1);
    assert_eq!(session.backlog(), 100 + NACK.len());
    written(&mut session);
    assert_eq!(session.backlog(), 0);
}

#[test]
fn small_messages_share_an_offer_and_handles_never_do() {
    let mut session = session();
    session.send(&raw("1"));
    session.send(&raw("2"));
    session.hand_over(Token(1), "k");
    session.hand_over(Token(2), "k");
    let offers = drain(&mut session);
    assert_eq!(offers.len(), 3);
    assert_eq!(offers[0], ("1\n2\n".to_owned(), None));
    assert_eq!((offers[1].1, offers[2].1), (Some(Token(1)), Some(Token(2))));
}

#[test]
fn a_long_backlog_is_written_in_order_and_its_room_given_back() {
    let mut session = Session::new(Settings::default());
    let mut expected = Vec::new();
    let mut got = Vec::new();
    for round in 0..400_usize {
        let message = plain(3000 + round * 7 % 5000);
        expected.extend_from_slice(format!("{message}\n").as_bytes());
        session.send(&message);
        if let Some(Transmit { bytes, .. }) = session.transmit() {
            let part = bytes.len().min(2777);
            got.extend_from_slice(&bytes[..part]);
            session.wrote(part);
        }
    }
    got.extend(written(&mut session).into_bytes());
    assert!(got == expected);
}
