//! A state as bytes that can be told from torn ones.
//!
//! One JSON object: `{"everup_state": 1, "checksum": "…", "state": {…}}`, where the checksum is that of the text of `state`.
//! Pure.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What we write.
pub(crate) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    everup_state: u32,
    checksum: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// Why bytes are no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("it is cut off, or no state of everup")]
    Torn(#[source] serde_json::Error),
    #[error("its content is not what was written")]
    Damaged,
    #[error("it is of version {found}, and this everup reads version {VERSION}")]
    Version { found: u32 },
    #[error("it has another form than this everup writes")]
    Form(#[source] serde_json::Error),
}

/// As bytes.
pub(crate) fn encode<T: Serialize>(state: &T) -> serde_json::Result<Vec<u8>> {
    let state = serde_json::value::to_raw_value(state)?;
    let envelope = Envelope {
        everup_state: VERSION,
        checksum: checksum(state.get().as_bytes()),
        state: &state,
    };
    let mut bytes = serde_json::to_vec(&envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// From bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(CodecError::Torn)?;
    if envelope.everup_state != VERSION {
        return Err(CodecError::Version {
            found: envelope.everup_state,
        });
    }
    if envelope.checksum != checksum(envelope.state.get().as_bytes()) {
        return Err(CodecError::Damaged);
    }
    serde_json::from_str(envelope.state.get()).map_err(CodecError::Form)
}

/// FNV-1a: against accidents, not against people.
fn checksum(bytes: &[u8]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_was_written_is_read() {
        let state = json!({"apps": [{"name": "wéb", "n": 1}], "boot": "x"});
        let bytes = encode(&state).unwrap();
        assert_eq!(decode::<Value>(&bytes).unwrap(), state);
    }

    #[test]
    fn torn_at_every_byte() {
        let bytes = encode(&json!({"apps": [1, 2, 3], "name": "x{\"}"})).unwrap();
        // The last byte is the newline, which nothing depends on.
        for length in 0..bytes.len() - 1 {
            assert!(decode::<Value>(&bytes[..length]).is_err(), "{length}");
            let mut zeros = bytes.clone();
            zeros[length..].fill(0);
            assert!(decode::<Value>(&zeros).is_err(), "zeros from {length}");
        }
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let state = json!({"apps": ["abc"], "n": 12345});
        let bytes = encode(&state).unwrap();
        for place in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            match decode::<Value>(&changed) {
                Err(_) => {}
                // The same number or text in another way of writing.
                Ok(read) => assert_eq!(read, state, "{place}"),
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        let text = br#"{"everup_state": 9, "checksum": "", "state": {}}"#;
        let error = decode::<Value>(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is of version 9, and this everup reads version 1"
        );
    }
}
