//! What a worker says, as JSON text, field by field in the order that Node uses.
//!
//! Must not know: what is queued or in flight.

use super::super::encode::{close_with_seq, string, unsigned};
use super::super::message::AddressType;
use super::Ask;

const START: &[u8] = br#"{"cmd":"NODE_CLUSTER","#;

/// With a mark that an everup primary knows: this worker will tell which connections have ended.
pub(super) fn online(out: &mut Vec<u8>, seq: u64) {
    act(out, "online");
    out.extend_from_slice(br#","everup":1"#);
    close_with_seq(out, seq);
}

pub(super) fn query(out: &mut Vec<u8>, ask: &Ask, index: u64, seq: u64) {
    act(out, "queryServer");
    place(out, ask, index);
    close_with_seq(out, seq);
}

pub(super) fn listening(out: &mut Vec<u8>, ask: &Ask, index: u64, seq: u64) {
    act(out, "listening");
    place(out, ask, index);
    close_with_seq(out, seq);
}

pub(super) fn close(out: &mut Vec<u8>, key: &str, seq: u64) {
    act(out, "close");
    out.extend_from_slice(br#","key":"#);
    string(out, key);
    close_with_seq(out, seq);
}

pub(super) fn direct(out: &mut Vec<u8>, key: &str, seq: u64) {
    act(out, "direct");
    out.extend_from_slice(br#","key":"#);
    string(out, key);
    close_with_seq(out, seq);
}

pub(super) fn quiet(out: &mut Vec<u8>, seq: u64) {
    act(out, "quiet");
    close_with_seq(out, seq);
}

pub(super) fn leaving(out: &mut Vec<u8>, seq: u64) {
    act(out, "exitedAfterDisconnect");
    close_with_seq(out, seq);
}

pub(super) fn closed(out: &mut Vec<u8>, total: u64, seq: u64) {
    act(out, "closed");
    out.extend_from_slice(br#","total":"#);
    unsigned(out, total);
    close_with_seq(out, seq);
}

pub(super) fn answer(out: &mut Vec<u8>, ack: u64, accepted: bool, seq: u64) {
    out.extend_from_slice(START);
    out.extend_from_slice(br#""ack":"#);
    unsigned(out, ack);
    let accepted: &[u8] = if accepted {
        br#","accepted":true"#
    } else {
        br#","accepted":false"#
    };
    out.extend_from_slice(accepted);
    close_with_seq(out, seq);
}

fn act(out: &mut Vec<u8>, act: &str) {
    out.extend_from_slice(START);
    out.extend_from_slice(br#""act":"#);
    string(out, act);
}

fn place(out: &mut Vec<u8>, ask: &Ask, index: u64) {
    out.extend_from_slice(br#","index":"#);
    unsigned(out, index);
    out.extend_from_slice(br#","data":null,"address":"#);
    match &ask.address {
        Some(address) => string(out, address),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","port":"#);
    match ask.port {
        Some(port) => unsigned(out, u64::from(port)),
        None => out.extend_from_slice(b"-1"),
    }
    out.extend_from_slice(br#","addressType":"#);
    out.extend_from_slice(match ask.address_type {
        AddressType::Tcp4 => b"4",
        AddressType::Tcp6 => b"6",
        AddressType::Unix => b"-1",
        AddressType::Udp4 => br#""udp4","fd":-1"#,
        AddressType::Udp6 => br#""udp6","fd":-1"#,
        AddressType::Descriptor => b"null",
    });
    out.extend_from_slice(br#","flags":"#);
    unsigned(out, u64::from(ask.flags));
    if let Some(backlog) = ask.backlog {
        out.extend_from_slice(br#","backlog":"#);
        unsigned(out, u64::from(backlog));
    }
}
