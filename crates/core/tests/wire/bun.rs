//! Bun's dialect.

use crate::support::*;
use everup_core::id::Token;
use everup_core::wire::{AddressType, Event, HandleKind, Reply, Session, Settings, SharedKind};

fn bun() -> Session {
    let mut session = Session::new(Settings::default());
    let events = hear(
        &mut session,
        "\u{2}{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\",\"seq\":0}",
    );
    assert!(matches!(events[..], [Event::Online]));
    session
}

#[test]
fn internal_lines_are_marked() {
    let mut session = bun();
    session.disconnect();
    assert_eq!(
        written(&mut session),
        "\u{2}{\"cmd\":\"NODE_CLUSTER\",\"act\":\"disconnect\",\"seq\":0}\n"
    );
}

#[test]
fn a_disconnect_before_the_first_line_is_marked() {
    let mut session = Session::new(Settings::default());
    session.disconnect();
    hear(
        &mut session,
        "\u{2}{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\",\"seq\":0}",
    );
    assert!(written(&mut session).starts_with("\u{2}{"));
}

#[test]
fn messages_of_the_app_and_acks_are_not_marked() {
    let mut session = bun();
    session.send(&raw("1"));
    hear_with(
        &mut session,
        r#"{"cmd":"NODE_HANDLE","msg":1,"type":"net.Server"}"#,
        1,
    );
    assert_eq!(written(&mut session), format!("{ACK}\n1\n"));
    assert!(matches!(
        hear(&mut session, r#"{"a":1}"#)[..],
        [Event::Message(_)]
    ));
}

#[test]
fn handles_are_not_wrapped() {
    let mut session = bun();
    session.hand_over(Token(1), "k");
    let line =
        "\u{2}{\"cmd\":\"NODE_CLUSTER\",\"act\":\"newconn\",\"key\":\"k\",\"seq\":0,\"$hasHandle\":true}\n";
    assert_eq!(drain(&mut session), [(line.to_owned(), Some(Token(1)))]);
    hear(&mut session, ACK);
    let events = hear(
        &mut session,
        "\u{2}{\"cmd\":\"NODE_CLUSTER\",\"ack\":0,\"accepted\":true,\"seq\":1}",
    );
    assert!(matches!(
        events[..],
        [Event::Answer {
            connection: Token(1),
            accepted: true
        }]
    ));
    let kind = SharedKind::Udp;
    session.reply(
        2,
        Reply::Shared {
            key: "u".into(),
            data: None,
            kind,
            descriptor: Token(2),
        },
    );
    let line = concat!(
        "\u{2}",
        r#"{"cmd":"NODE_CLUSTER","errno":0,"key":"u","ack":2,"data":null,"seq":1,"$hasHandle":true}"#,
        "\n"
    );
    assert_eq!(drain(&mut session), [(line.to_owned(), Some(Token(2)))]);
}

#[test]
fn handles_of_the_app_are_wrapped_and_not_marked() {
    let mut session = bun();
    session.send_handle(&raw("1"), HandleKind::Socket, Token(1));
    assert_eq!(
        written(&mut session),
        "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":1}\n"
    );
}

#[test]
fn listening_of_http_has_neither_seq_nor_index() {
    let line = "\u{2}{\"cmd\":\"NODE_CLUSTER\",\"act\":\"listening\",\"address\":null,\"port\":3000,\"data\":null,\"addressType\":4}";
    let events = hear(&mut bun(), line);
    let [Event::Listening(listening)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (listening.port, listening.address_type),
        (Some(3000), AddressType::Tcp4)
    );
}

#[test]
fn one_handle_at_a_time() {
    let mut session = bun();
    assert_eq!(session.room(), 1);
    session.hand_over(Token(1), "k");
    session.hand_over(Token(2), "k");
    assert_eq!(sent(&mut session), [Token(1)]);
}

#[test]
fn a_marked_line_of_unknown_content_vanishes() {
    assert!(hear(&mut bun(), "\u{2}{\"a\":1}").is_empty());
}
