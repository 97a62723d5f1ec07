//! What somebody sent, as a type; what is wrong with it, for people.

use crate::{Error, ErrorCode, nearest};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The body of a request. An empty one is an empty object.
///
/// # Errors
/// With the nearest name for a field that nobody knows.
pub fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| explain(&error))
}

/// The same of a value.
///
/// # Errors
/// As for [`from_body`].
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| explain(&error))
}

/// What is wrong with a value that was sent, for people.
#[must_use]
pub fn explain(error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let words: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let (first, others) = match words.split_first() {
        Some((first, others)) => (*first, others),
        None => ("", &[][..]),
    };
    if text.starts_with("unknown field") {
        let error = Error::new(ErrorCode::UnknownField, format!("there is no field `{first}`"));
        return match nearest(first, others) {
            Some(name) => error.with_hint(format!("did you mean `{name}`?")),
            None => error.with_hint(format!("it can be: {}", others.join(", "))),
        };
    }
    if text.starts_with("missing field") {
        return Error::new(ErrorCode::MissingField, format!("the field `{first}` is missing"));
    }
    if error.is_syntax() || error.is_eof() {
        let error = Error::new(ErrorCode::NotARequest, format!("not JSON: {text}"));
        return error.with_hint("send one JSON object");
    }
    Error::new(ErrorCode::InvalidValue, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{On, Scale};

    #[test]
    fn what_is_wrong_is_named() {
        let code = |body: &str| from_body::<Scale>(body.as_bytes()).unwrap_err();
        let error = code(r#"{"target": "a", "worker": "1"}"#);
        assert_eq!(error.code, ErrorCode::UnknownField);
        assert_eq!(error.message, "there is no field `worker`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `workers`?"));
        let error = code(r#"{"target": "a"}"#);
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::MissingField, "the field `workers` is missing")
        );
        assert_eq!(code(r#"{"target": 1}"#).code, ErrorCode::InvalidValue);
        assert_eq!(code("{").code, ErrorCode::NotARequest);
        assert_eq!(code("[]").code, ErrorCode::InvalidValue);
        assert_eq!(from_body::<On>(b" ").unwrap(), On::default());
    }
}
