//! A session with a hand on both its ends.

use everup_core::id::Token;
use everup_core::wire::{Event, Serialization, Session, Settings, WireError};
use serde_json::value::RawValue;

/// A session that has heard `online`.
pub(crate) fn session() -> Session {
    session_with(Settings::default())
}

pub(crate) fn session_with(settings: Settings) -> Session {
    let mut session = Session::new(settings);
    let events = hear(&mut session, r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#);
    assert!(matches!(events[..], [Event::Online]));
    session
}

pub(crate) fn window(window: usize) -> Settings {
    Settings {
        window,
        ..Settings::default()
    }
}

pub(crate) fn advanced() -> Settings {
    Settings {
        serialization: Serialization::Advanced,
        ..Settings::default()
    }
}

/// What the session makes of this line.
pub(crate) fn hear(session: &mut Session, line: &str) -> Vec<Event> {
    hear_with(session, line, 0)
}

pub(crate) fn hear_with(session: &mut Session, line: &str, descriptors: usize) -> Vec<Event> {
    try_hear(session, format!("{line}\n").as_bytes(), descriptors).unwrap()
}

pub(crate) fn try_hear(
    session: &mut Session,
    bytes: &[u8],
    descriptors: usize,
) -> Result<Vec<Event>, WireError> {
    let mut events = Vec::new();
    session.receive(bytes, descriptors, &mut events)?;
    Ok(events)
}

/// Everything that may be written now, offer by offer.
pub(crate) fn drain(session: &mut Session) -> Vec<(String, Option<Token>)> {
    drain_bytes(session)
        .into_iter()
        .map(|(bytes, descriptor)| (String::from_utf8(bytes).unwrap(), descriptor))
        .collect()
}

pub(crate) fn drain_bytes(session: &mut Session) -> Vec<(Vec<u8>, Option<Token>)> {
    let mut offers = Vec::new();
    while let Some(offer) = session.transmit() {
        assert!(!offer.bytes.is_empty());
        let length = offer.bytes.len();
        offers.push((offer.bytes.to_vec(), offer.descriptor));
        session.wrote(length);
    }
    offers
}

/// The text of everything that may be written now.
pub(crate) fn written(session: &mut Session) -> String {
    drain(session).into_iter().map(|(text, _)| text).collect()
}

/// The descriptors that may be sent now.
pub(crate) fn sent(session: &mut Session) -> Vec<Token> {
    drain(session)
        .into_iter()
        .filter_map(|(_, descriptor)| descriptor)
        .collect()
}

pub(crate) fn raw(json: impl Into<String>) -> Box<RawValue> {
    RawValue::from_string(json.into()).unwrap()
}

/// A message of the app's, `length` bytes long in all, newline included.
pub(crate) fn plain(length: usize) -> Box<RawValue> {
    raw(format!("\"{}\"", "x".repeat(length.saturating_sub(3))))
}

pub(crate) const ACK: &str = r#"{"cmd":"NODE_HANDLE_ACK"}"#;
pub(crate) const NACK: &str = r#"{"cmd":"NODE_HANDLE_NACK"}"#;
