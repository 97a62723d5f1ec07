//! The fields of a request: each is taken by name and type, and what nobody took is unknown.

use super::{Amount, AmountError};
use crate::names::nearest;
use crate::{Error, ErrorCode};
use serde_json::{Map, Value};

/// Fields that nobody has taken yet.
pub(super) struct Fields {
    verb: String,
    left: Map<String, Value>,
    /// The names that were asked for.
    known: Vec<&'static str>,
}

impl Fields {
    pub(super) fn of(line: &[u8]) -> Result<Self, Error> {
        let example = "write one JSON object per line, such as {\"verb\":\"status\"}";
        let bad = |message: String| Error::new(ErrorCode::NotARequest, message).with_hint(example);
        let value: Value = serde_json::from_slice(line).map_err(|error| bad(format!("not JSON: {error}")))?;
        match value {
            Value::Object(left) => Ok(Self {
                verb: String::new(),
                left,
                known: Vec::new(),
            }),
            _ => Err(bad(
                "a request is a JSON object, and this is something else".into()
            )),
        }
    }

    pub(super) fn verb(&mut self) -> Result<String, Error> {
        let Some(Value::String(verb)) = self.left.remove("verb") else {
            let error = Error::new(ErrorCode::NotARequest, "the request has no `verb` that is a text");
            return Err(error.with_hint("write one JSON object per line, such as {\"verb\":\"status\"}"));
        };
        self.verb.clone_from(&verb);
        Ok(verb)
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<u32>, Error> {
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        self.optional(name, "give a whole number from 0 on", number)
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Error> {
        Ok(self
            .optional(name, "give true or false", Value::as_bool)?
            .unwrap_or_default())
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<String, Error> {
        let hint = "give a text";
        let text = self.optional(name, hint, |value| value.as_str().map(str::to_owned))?;
        text.ok_or_else(|| self.missing(name, hint))
    }

    /// As text; a bare number does as well.
    pub(super) fn amount(&mut self, name: &'static str) -> Result<Amount, Error> {
        let hint = format!("{}, as text", AmountError::HINT);
        let amount = self.optional(name, &hint, |value| match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) if number.is_u64() => number.to_string().parse().ok(),
            _ => None,
        })?;
        amount.ok_or_else(|| self.missing(name, &hint))
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Error> {
        let Some(name) = self.left.keys().next() else {
            return Ok(());
        };
        let hint = match nearest(name, &self.known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if self.known.is_empty() => "it has none".into(),
            None => format!("it has: {}", self.known.join(", ")),
        };
        let message = format!("`{}` has no field `{}`", self.verb, short(name));
        Err(Error::new(ErrorCode::UnknownField, message).with_hint(hint))
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        hint: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.known.push(name);
        match self.left.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(&value) {
                Some(read) => Ok(Some(read)),
                None => {
                    let message = format!("`{name}` cannot be {}", short(&value.to_string()));
                    Err(Error::new(ErrorCode::InvalidValue, message).with_hint(hint))
                }
            },
        }
    }

    fn missing(&self, name: &str, hint: &str) -> Error {
        let message = format!("`{}` needs the field `{name}`", self.verb);
        Error::new(ErrorCode::MissingField, message).with_hint(hint)
    }
}

/// What somebody sent, cut to what fits a message.
fn short(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
