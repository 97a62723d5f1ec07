//! The part of V8's value format that `advanced` serialization needs, to and from JSON text.
//!
//! Job: write any JSON value in format version 13, which every Node from 14 on reads; read what Node writes
//! (versions up to 15) as JSON text, and say whether that is all there was. What JSON cannot express (dates,
//! maps, buffers, references, `NaN`, …) is passed over and stands as `null` in an inexact result.
//!
//! Invariants: the text is valid JSON whatever comes in, and at most six times as long as the payload and a
//! constant; recursion is bounded by [`DEPTH`].
//!
//! Must not know: frames, messages.

mod decode;
mod encode;

pub(super) use decode::decode;
pub(super) use encode::encode;

/// How deep values may be nested when read.
const DEPTH: usize = 200;
/// The first byte of every payload.
const MARK: u8 = 0xff;
/// The version that we write.
const VERSION_WRITTEN: u8 = 13;
/// The newest version that we know.
const VERSION_KNOWN: u32 = 15;

/// What a payload says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Valid JSON, unless `exact` is false and the payload could not be read to its end.
    pub(super) json: String,
    /// Nothing was lost.
    pub(super) exact: bool,
}

impl Decoded {
    /// Whether it is an envelope of a handle whose content could not be read.
    pub(super) fn starts_as_handle(&self) -> bool {
        !self.exact && self.json.starts_with(r#"{"cmd":"NODE_HANDLE","#)
    }
}

/// Whether this may be a payload in V8's format.
pub(super) fn is_marked(payload: &[u8]) -> bool {
    payload.len() > 2 && payload[0] == MARK
}
