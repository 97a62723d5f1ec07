//! What stands in a file, whatever its format: values with their places, numbers as they were written.
//!
//! Invariant: a place is a range of bytes of the text that was parsed. Formats that tell no places (JavaScript) have none.

use std::ops::Range;

/// Bytes of the text.
pub(crate) type Span = Range<usize>;

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) datum: Datum,
    pub(crate) at: Option<Span>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Datum {
    Null,
    Bool(bool),
    /// As it was written: `1.10` is not `1.1`.
    Number(String),
    Text(String),
    /// The source of a regular expression of JavaScript.
    Pattern(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) at: Option<Span>,
    pub(crate) value: Node,
}

impl Node {
    /// A value that stands nowhere.
    pub(crate) fn new(datum: Datum) -> Self {
        Self { datum, at: None }
    }

    /// The value of a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let entries = self.entries()?;
        entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.datum {
            Datum::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// A text or a number, as text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.datum {
            Datum::Text(text) | Datum::Number(text) => Some(text),
            _ => None,
        }
    }

    /// Of what kind it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.datum {
            Datum::Null => "nothing",
            Datum::Bool(_) => "a boolean",
            Datum::Number(_) => "a number",
            Datum::Text(_) => "a text",
            Datum::Pattern(_) => "a regular expression",
            Datum::List(_) => "a list",
            Datum::Map(_) => "a table",
        }
    }

    /// The same as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.datum {
            Datum::Null => Value::Null,
            Datum::Bool(value) => Value::Bool(*value),
            Datum::Number(text) => number(text),
            Datum::Text(text) => Value::String(text.clone()),
            Datum::Pattern(text) => Value::String(format!("/{text}/")),
            Datum::List(items) => items.iter().map(Self::to_json).collect(),
            Datum::Map(entries) => {
                let pairs = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(pairs.collect())
            }
        }
    }
}

fn number(text: &str) -> serde_json::Value {
    let plain = text.replace('_', "");
    match serde_json::from_str(&plain) {
        Ok(value @ serde_json::Value::Number(_)) => value,
        Ok(_) | Err(_) => serde_json::Value::String(text.to_owned()),
    }
}

/// The marker of a regular expression in what comes out of JavaScript.
pub(crate) const PATTERN: &str = "$everup.pattern";

impl From<serde_json::Value> for Node {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        Self::new(match value {
            Value::Null => Datum::Null,
            Value::Bool(value) => Datum::Bool(value),
            Value::Number(number) => Datum::Number(number.to_string()),
            Value::String(text) => Datum::Text(text),
            Value::Array(items) => Datum::List(items.into_iter().map(Self::from).collect()),
            Value::Object(mut map) if map.len() == 1 && map.contains_key(PATTERN) => {
                let source = map.shift_remove(PATTERN);
                Datum::Pattern(
                    source
                        .as_ref()
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned(),
                )
            }
            Value::Object(map) => {
                let entry = |(key, value)| Entry {
                    key,
                    at: None,
                    value: Self::from(value),
                };
                Datum::Map(map.into_iter().map(entry).collect())
            }
        })
    }
}
