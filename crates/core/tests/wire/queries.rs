//! `queryServer` and `listening`, with every oddity that workers have shown.

use crate::support::*;
use everup_core::wire::{AddressType, Event, Query};

fn query(fields: &str) -> Query {
    let line = format!(r#"{{"cmd":"NODE_CLUSTER","act":"queryServer",{fields},"seq":1}}"#);
    let mut events = hear(&mut session(), &line);
    let Some(Event::Query(query)) = events.pop() else {
        panic!("{line}: no query")
    };
    assert_eq!(query.seq, 1);
    assert!(events.is_empty());
    query
}

fn is_senseless(query: &Query) -> bool {
    query.address_type == AddressType::Descriptor
        && query.fd.is_none()
        && query.address.is_none()
        && query.port.is_none()
}

#[test]
fn tcp_without_an_address() {
    let query = query(r#""index":2,"data":null,"address":null,"port":18200,"addressType":4,"backlog":0"#);
    assert_eq!(
        (query.index, query.port, query.address_type),
        (2, Some(18200), AddressType::Tcp4)
    );
    assert_eq!(
        (query.address, query.backlog, query.flags, query.fd),
        (None, None, 0, None)
    );
    assert!(query.data.is_none());
}

#[test]
fn a_backlog_of_false_is_none() {
    let query = query(
        r#""index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4,"flags":0,"backlog":false"#,
    );
    assert_eq!((query.port, query.backlog), (Some(0), None));
    assert_eq!(query.address.as_deref(), Some("127.0.0.1"));
}

#[test]
fn tcp6_with_flags_and_backlog() {
    let query =
        query(r#""index":0,"data":null,"address":"::","port":0,"addressType":6,"flags":1,"backlog":77"#);
    assert_eq!(
        (query.address_type, query.flags, query.backlog),
        (AddressType::Tcp6, 1, Some(77))
    );
}

#[test]
fn null_flags_and_no_backlog() {
    let query = query(r#""address":null,"port":1,"addressType":4,"flags":null"#);
    assert_eq!((query.flags, query.backlog, query.index), (0, None, 0));
}

#[test]
fn unix_sockets() {
    let query = query(
        r#""index":0,"address":"/run/rel.sock","port":-1,"addressType":-1,"backlog":0,"readableAll":true,"writableAll":false"#,
    );
    assert_eq!((query.address_type, query.port), (AddressType::Unix, None));
    assert_eq!(query.address.as_deref(), Some("/run/rel.sock"));
    assert!(query.readable_all && !query.writable_all);
}

#[test]
fn abstract_unix_sockets() {
    let query = query(r#""address":"/app/\u0000name","port":-1,"addressType":-1"#);
    assert_eq!(query.address.as_deref(), Some("/app/\0name"));
}

#[test]
fn a_descriptor_has_null_port_and_type() {
    let query =
        query(r#""index":0,"data":null,"address":null,"port":null,"addressType":null,"fd":9,"backlog":0"#);
    assert_eq!(
        (query.address_type, query.fd, query.port),
        (AddressType::Descriptor, Some(9), None)
    );
}

#[test]
fn udp() {
    let query = query(r#""address":"0.0.0.0","port":0,"addressType":"udp4","fd":-1,"flags":4"#);
    assert_eq!(
        (query.address_type, query.fd, query.flags),
        (AddressType::Udp4, None, 4)
    );
    assert_eq!(
        self::query(r#""addressType":"udp6","port":5"#).address_type,
        AddressType::Udp6
    );
}

#[test]
fn udp_without_a_port_is_port_0() {
    assert_eq!(
        query(r#""address":"0.0.0.0","addressType":"udp4","fd":-1"#).port,
        Some(0)
    );
    assert_eq!(query(r#""port":null,"addressType":"udp4""#).port, Some(0));
}

#[test]
fn data_is_kept_as_it_came() {
    let query = query(r#""data":{"ticketKeys":"96", "n":[1]},"address":null,"port":1,"addressType":4"#);
    assert_eq!(query.data.unwrap().get(), r#"{"ticketKeys":"96", "n":[1]}"#);
}

#[test]
fn listen_handle_of_node_18_can_be_answered() {
    let fields = r#""index":0,"data":null,"address":null,"port":-1,"addressType":-1,"backlog":false"#;
    assert!(is_senseless(&query(fields)));
}

#[test]
fn what_makes_no_sense_can_be_answered() {
    for fields in [
        r#""address":null,"port":70000,"addressType":4"#,
        r#""address":null,"port":-1,"addressType":4"#,
        r#""address":null,"port":1.5,"addressType":4"#,
        r#""address":null,"port":{},"addressType":4"#,
        r#""address":null,"port":"x","addressType":4"#,
        r#""address":7,"port":1,"addressType":4"#,
        r#""address":"\ud800","port":1,"addressType":4"#,
        r#""address":null,"port":1,"addressType":5"#,
        r#""address":null,"port":1,"addressType":"tcp""#,
        r#""address":null,"port":null,"addressType":null,"fd":99999999999"#,
        r#""address":null,"port":null,"addressType":null,"fd":"9""#,
        r#""address":null,"port":null,"addressType":null"#,
        r#""index":-1,"flags":-1,"backlog":{}"#,
    ] {
        assert!(is_senseless(&query(fields)), "{fields}");
    }
}

#[test]
fn a_query_without_seq_cannot_be_answered() {
    assert!(
        hear(
            &mut session(),
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","port":1}"#
        )
        .is_empty()
    );
}

#[test]
fn listening_has_the_real_port() {
    let line = r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"data":null,"address":null,"port":4711,"addressType":4,"backlog":0,"seq":2}"#;
    let events = hear(&mut session(), line);
    let [Event::Listening(listening)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (listening.port, listening.address_type),
        (Some(4711), AddressType::Tcp4)
    );
    let line = r#"{"cmd":"NODE_CLUSTER","act":"listening","address":"/a","port":-1,"addressType":-1}"#;
    let events = hear(&mut session(), line);
    let [Event::Listening(listening)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((listening.port, listening.address.as_deref()), (None, Some("/a")));
}
