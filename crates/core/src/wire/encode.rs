//! What the primary says, as JSON text.
//!
//! Job: write each message field by field in the order that Node uses, without a tree of values in between.
//! How the text is framed (newline, Bun's prefix, V8's format) is said by [`Framing`].
//!
//! Must not know: what is queued or in flight; the session hands in sequence numbers.

use super::message::{HandleKind, Reply, Serialization, SharedKind, Sockname};
use super::v8;
use serde_json::value::RawValue;

/// Marks an internal line in Bun's dialect.
pub(super) const BUN_MARK: u8 = 0x02;

/// How frames to this worker are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Framing {
    pub(super) serialization: Serialization,
    pub(super) bun: bool,
}

impl Framing {
    /// A message of the protocol's; `write` appends its JSON.
    pub(super) fn internal(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.bun {
            out.push(BUN_MARK);
        }
        self.user(out, write);
    }

    /// A message of the app's, and ACK and NACK: Bun does not mark them.
    pub(super) fn user(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        match self.serialization {
            Serialization::Json => {
                write(out);
                out.push(b'\n');
            }
            Serialization::Advanced => {
                let mut json = Vec::new();
                write(&mut json);
                prefixed(out, |out| v8::encode(&json, out));
            }
        }
    }

    /// A message of the protocol's with a handle: in Node's envelope, or marked where Bun looks for it.
    pub(super) fn with_handle(self, out: &mut Vec<u8>, native: Native, write: impl FnOnce(&mut Vec<u8>)) {
        self.internal(out, |out| {
            if self.bun {
                write(out);
                out.pop(); // The closing brace.
                out.extend_from_slice(b",\"$hasHandle\":true}");
            } else {
                open_envelope(out, native.node_type());
                write(out);
                native.close_envelope(out);
            }
        });
    }
}

/// Appends a payload behind its length of four bytes.
pub(super) fn prefixed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = u32::try_from(out.len() - start - 4);
    debug_assert!(length.is_ok(), "a frame of 4 GiB");
    match length {
        Ok(length) => out[start..start + 4].copy_from_slice(&length.to_be_bytes()),
        Err(_) => out.truncate(start), // Cannot be said at all.
    }
}

/// What a descriptor of the cluster's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Native {
    Connection { pipe: bool },
    Shared(SharedKind),
}

impl Native {
    fn node_type(self) -> &'static str {
        match self {
            Self::Connection { .. } | Self::Shared(SharedKind::Tcp | SharedKind::Pipe) => "net.Native",
            Self::Shared(SharedKind::Udp) => "dgram.Native",
        }
    }

    /// Ends the envelope, with the two fields that Deno wants and Node ignores.
    fn close_envelope(self, out: &mut Vec<u8>) {
        let fields: &str = match self {
            Self::Connection { pipe: false } => r#","socketType":0,"nativeKind":"tcp"}"#,
            Self::Connection { pipe: true } => r#","socketType":0,"nativeKind":"pipe"}"#,
            Self::Shared(SharedKind::Tcp) => r#","socketType":1,"nativeKind":"tcp"}"#,
            Self::Shared(SharedKind::Pipe) => r#","socketType":1,"nativeKind":"pipe"}"#,
            Self::Shared(SharedKind::Udp) => "}",
        };
        out.extend_from_slice(fields.as_bytes());
    }
}

fn open_envelope(out: &mut Vec<u8>, node_type: &str) {
    out.extend_from_slice(br#"{"cmd":"NODE_HANDLE","type":""#);
    out.extend_from_slice(node_type.as_bytes());
    out.extend_from_slice(br#"","msg":"#);
}

/// A message of the app's, in the envelope of the handle that goes with it.
pub(super) fn user_envelope(out: &mut Vec<u8>, kind: HandleKind, message: &RawValue) {
    let (node_type, rest) = match kind {
        HandleKind::Server => ("net.Server", "}"),
        HandleKind::Socket => ("net.Socket", "}"),
        HandleKind::Udp4 => ("dgram.Socket", r#","dgramType":"udp4"}"#),
        HandleKind::Udp6 => ("dgram.Socket", r#","dgramType":"udp6"}"#),
        HandleKind::NativeStream => ("net.Native", r#","socketType":0,"nativeKind":"tcp"}"#),
        HandleKind::NativeDatagram => ("dgram.Native", "}"),
    };
    open_envelope(out, node_type);
    user_message(out, message);
    out.extend_from_slice(rest.as_bytes());
}

/// A message of the app's. A raw newline would end the line early; in JSON it can only be white space.
pub(super) fn user_message(out: &mut Vec<u8>, message: &RawValue) {
    let text = message.get().as_bytes();
    if text.contains(&b'\n') {
        out.extend(text.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
    } else {
        out.extend_from_slice(text);
    }
}

/// `NODE_HANDLE_ACK` or `NODE_HANDLE_NACK`.
pub(super) fn handle_answer(out: &mut Vec<u8>, arrived: bool) {
    let text = if arrived {
        r#"{"cmd":"NODE_HANDLE_ACK"}"#
    } else {
        r#"{"cmd":"NODE_HANDLE_NACK"}"#
    };
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn newconn(out: &mut Vec<u8>, key: &str, seq: u64) {
    out.extend_from_slice(br#"{"cmd":"NODE_CLUSTER","act":"newconn","key":"#);
    string(out, key);
    close_with_seq(out, seq);
}

pub(super) fn quiet(out: &mut Vec<u8>, seq: u64) {
    out.extend_from_slice(br#"{"cmd":"NODE_CLUSTER","act":"quiet""#);
    close_with_seq(out, seq);
}

pub(super) fn disconnect(out: &mut Vec<u8>, seq: u64) {
    out.extend_from_slice(br#"{"cmd":"NODE_CLUSTER","act":"disconnect""#);
    close_with_seq(out, seq);
}

pub(super) fn acknowledge(out: &mut Vec<u8>, ack: u64, seq: u64) {
    out.extend_from_slice(br#"{"cmd":"NODE_CLUSTER","ack":"#);
    unsigned(out, ack);
    close_with_seq(out, seq);
}

/// The answer to `queryServer`, without the envelope that a shared handle needs.
pub(super) fn reply(out: &mut Vec<u8>, reply: &Reply, ack: u64, seq: u64) {
    let (errno, key, data, sockname) = match reply {
        Reply::Failed { errno, key } => (*errno, key, None, None),
        Reply::HandOver { key, data, sockname } => (0, key, data.as_deref(), sockname.as_ref()),
        Reply::Shared { key, data, .. } => (0, key, data.as_deref(), None),
    };
    out.extend_from_slice(br#"{"cmd":"NODE_CLUSTER","errno":"#);
    if errno != 0 {
        // Also for a positive one, which would crash the worker.
        out.push(b'-');
    }
    unsigned(out, u64::from(errno.unsigned_abs()));
    out.extend_from_slice(br#","key":"#);
    string(out, key);
    out.extend_from_slice(br#","ack":"#);
    unsigned(out, ack);
    out.extend_from_slice(br#","data":"#);
    user_message(out, data.unwrap_or(RawValue::NULL));
    if let Some(sockname) = sockname {
        self::sockname(out, sockname);
    }
    close_with_seq(out, seq);
}

fn sockname(out: &mut Vec<u8>, sockname: &Sockname) {
    out.extend_from_slice(br#","sockname":{"address":"#);
    string(out, &sockname.address);
    let family: &[u8] = if sockname.v6 {
        br#","family":"IPv6","port":"#
    } else {
        br#","family":"IPv4","port":"#
    };
    out.extend_from_slice(family);
    unsigned(out, u64::from(sockname.port));
    out.push(b'}');
}

pub(super) fn all_closed(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(br#"{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"#);
    string(out, key);
    out.push(b'}');
}

pub(super) fn socket_count(out: &mut Vec<u8>, key: &str, count: u64) {
    out.extend_from_slice(br#"{"cmd":"NODE_SOCKET_COUNT","key":"#);
    string(out, key);
    out.extend_from_slice(br#","count":"#);
    unsigned(out, count);
    out.push(b'}');
}

pub(super) fn close_with_seq(out: &mut Vec<u8>, seq: u64) {
    out.extend_from_slice(br#","seq":"#);
    unsigned(out, seq);
    out.push(b'}');
}

/// Appends `text` as a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\0'..'\u{20}' => unit_escape(out, character as u16),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends `\uXXXX`.
pub(super) fn unit_escape(out: &mut Vec<u8>, unit: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(DIGITS[usize::from(unit >> shift & 0xf)]);
    }
}

/// Appends a number without going through a formatter.
pub(super) fn unsigned(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
