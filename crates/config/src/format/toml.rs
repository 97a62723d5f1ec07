//! TOML, with places.

use crate::finding::{Finding, Source};
use crate::tree::{Datum, Entry, Node};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) fn parse(source: &Source) -> Result<Node, Finding> {
    let table = DeTable::parse(&source.text).map_err(|error| refused(source, &error))?;
    Ok(Node {
        at: None,
        datum: map(source, table.get_ref()),
    })
}

fn refused(source: &Source, error: &toml::de::Error) -> Finding {
    let message = error.message().replace('\n', ", ");
    source.finding(error.span().as_ref(), format!("this is no TOML: {message}"))
}

fn node(source: &Source, value: &Spanned<DeValue<'_>>) -> Node {
    let raw = || source.text.get(value.span()).unwrap_or_default().to_owned();
    let datum = match value.get_ref() {
        DeValue::String(text) => Datum::Text(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Datum::Number(number.as_str().to_owned()),
        DeValue::Integer(_) => Datum::Number(raw()),
        DeValue::Float(number) => Datum::Number(number.as_str().to_owned()),
        DeValue::Boolean(value) => Datum::Bool(*value),
        DeValue::Datetime(_) => Datum::Text(raw()),
        DeValue::Array(items) => Datum::List(items.iter().map(|item| node(source, item)).collect()),
        DeValue::Table(table) => map(source, table),
    };
    Node {
        datum,
        at: Some(value.span()),
    }
}

fn map(source: &Source, table: &DeTable<'_>) -> Datum {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| -> Entry {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        Entry {
            key: name.to_string(),
            at: Some(key.span()),
            value: node(source, value),
        }
    };
    Datum::Map(table.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn values_keep_their_text_and_place() {
        let text = "a = 1.10\nb = 1_000\nc = 0x1F\n[app.web]\nd = [true, 'x']\ne = 2026-01-01\n";
        let source = Source::new(Path::new("a.toml"), text.to_owned());
        let root = parse(&source).unwrap();
        let shown = |key: &str| root.get(key).unwrap().text().unwrap().to_owned();
        assert_eq!(
            (shown("a"), shown("b"), shown("c")),
            ("1.10".to_owned(), "1000".to_owned(), "0x1F".to_owned())
        );
        let web = root.get("app").unwrap().get("web").unwrap();
        assert_eq!(web.get("e").unwrap().text(), Some("2026-01-01"));
        let place = source.place(web.get("d").unwrap().at.as_ref().unwrap());
        assert_eq!((place.line, place.column), (5, 5));
    }

    #[test]
    fn an_error_says_where() {
        let source = Source::new(Path::new("a.toml"), "a = 1\nb = = 2\n".to_owned());
        let finding = parse(&source).unwrap_err();
        assert!(finding.to_string().starts_with("a.toml:2:"), "{finding}");
    }
}
