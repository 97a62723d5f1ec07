//! YAML 1.2 as pm2's reader (js-yaml 4) takes it: `yes` and `on` are texts; anchors, and `<<` for merging.
//!
//! From the parser's events, not by serde: so numbers keep their text, and everything has a place.
//!
//! Invariants: no more than [`NODES`] values come out, however many aliases there are, and none is deeper than [`DEPTH`].

use crate::finding::{Finding, Source};
use crate::tree::{Datum, Entry, Node, Span};
use granit_parser::{Event, Parser, ScalarStyle, Tag};
use std::collections::HashMap;

/// So many values are enough for any list of apps: a file of a few lines can name billions by aliases.
const NODES: usize = 100_000;
/// Levels of lists and tables.
const DEPTH: usize = 64;

pub(super) fn parse(source: &Source) -> Result<Node, Finding> {
    let mut reader = Reader {
        source,
        events: Parser::new_from_str(&source.text),
        anchors: HashMap::new(),
        left: NODES,
    };
    reader.document()
}

struct Reader<'a> {
    source: &'a Source,
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    left: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, Finding> {
        loop {
            let Some((event, span)) = self.next()? else {
                return Ok(Node::new(Datum::Null));
            };
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(Node::new(Datum::Null)),
                event => return self.value(event, span, 0),
            }
        }
    }

    /// The next event that is no comment.
    fn next(&mut self) -> Result<Option<(Event<'a>, Option<Span>)>, Finding> {
        for next in self.events.by_ref() {
            let (event, span) = next.map_err(|error| refused(self.source, &error))?;
            if !matches!(event, Event::Comment(..)) {
                return Ok(Some((event, span.byte_range())));
            }
        }
        Ok(None)
    }

    fn value(&mut self, event: Event<'a>, at: Option<Span>, depth: usize) -> Result<Node, Finding> {
        self.count(1, at.as_ref())?;
        if depth > DEPTH {
            return Err(self
                .source
                .finding(at.as_ref(), format!("more than {DEPTH} levels")));
        }
        let (datum, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref()), anchor),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, at.as_ref()),
            _ => return Err(self.source.finding(at.as_ref(), "this cannot be a value")),
        };
        let node = Node { datum, at };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, at: Option<&Span>) -> Result<Node, Finding> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(self
                .source
                .finding(at, "an alias of something that it is in itself"));
        };
        self.count(size(&node), at)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, at: Option<&Span>) -> Result<(), Finding> {
        let left = self.left.checked_sub(nodes);
        self.left = left.ok_or_else(|| self.source.finding(at, format!("more than {NODES} values")))?;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Datum, Finding> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.value(event, span, depth + 1)?);
        }
        Ok(Datum::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Datum, Finding> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        while let Some((event, at)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = self.value(event, at.clone(), depth + 1)?;
            let Some((event, span)) = self.next()? else { break };
            let value = self.value(event, span, depth + 1)?;
            let Some(key) = name_of(&key) else {
                return Err(self
                    .source
                    .finding(at.as_ref(), format!("{} as a key", key.kind())));
            };
            if plain && key == "<<" {
                self.merge(&value, &mut merged)?;
                continue;
            }
            if entries.iter().any(|entry| entry.key == key) {
                return Err(self.source.finding(at.as_ref(), format!("`{key}` is here twice")));
            }
            entries.push(Entry { key, at, value });
        }
        for entry in merged {
            if !entries.iter().any(|other| other.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(Datum::Map(entries))
    }

    /// What stands behind `<<`: a table, or several, of which the first wins.
    fn merge(&self, value: &Node, merged: &mut Vec<Entry>) -> Result<(), Finding> {
        match &value.datum {
            Datum::Map(entries) => merged.extend(entries.iter().cloned()),
            Datum::List(items) if items.iter().all(|item| item.entries().is_some()) => {
                merged.extend(items.iter().filter_map(Node::entries).flatten().cloned());
            }
            _ => {
                let message = format!("{} cannot be merged: a table is needed", value.kind());
                return Err(self.source.finding(value.at.as_ref(), message));
            }
        }
        Ok(())
    }
}

fn refused(source: &Source, error: &granit_parser::ScanError) -> Finding {
    let marker = error.marker();
    let mut finding = source.finding(None, format!("this is no YAML: {}", error.info()));
    finding.place = Some(Box::new(source.at(marker.line(), marker.col() + 1)));
    finding
}

fn size(node: &Node) -> usize {
    1 + match &node.datum {
        Datum::List(items) => items.iter().map(size).sum(),
        Datum::Map(entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
        _ => 0,
    }
}

fn name_of(key: &Node) -> Option<String> {
    match &key.datum {
        Datum::Text(text) | Datum::Number(text) => Some(text.clone()),
        Datum::Bool(value) => Some(value.to_string()),
        Datum::Null => Some("null".to_owned()),
        Datum::Pattern(_) | Datum::List(_) | Datum::Map(_) => None,
    }
}

/// What a scalar means, by YAML's core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Datum {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if style != ScalarStyle::Plain || is_text {
        return Datum::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Datum::Null,
        "true" | "True" | "TRUE" => Datum::Bool(true),
        "false" | "False" | "FALSE" => Datum::Bool(false),
        _ if is_number(text) => Datum::Number(text.to_owned()),
        _ => Datum::Text(text.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let based = |prefix: &str, base: u32| {
        let digits = digits.strip_prefix(prefix);
        digits.is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(base)))
    };
    let decimal = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.parse::<f64>().is_ok();
    decimal || based("0x", 16) || based("0o", 8) || based("0b", 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn read(text: &str) -> Result<Node, Finding> {
        parse(&Source::new(Path::new("a.yml"), text.to_owned()))
    }

    fn value(text: &str) -> serde_json::Value {
        read(text).unwrap().to_json()
    }

    #[test]
    fn scalars_as_js_yaml_takes_them() {
        let text =
            "a: yes\nb: on\nc: true\nd: 3\ne: '3'\nf: ~\ng:\nh: 1e3\ni: .5\nj: 0x1F\nk: 1.2.3\nl: !!str 7\n";
        let wanted = json!({
            "a": "yes", "b": "on", "c": true, "d": 3, "e": "3", "f": null, "g": null, "h": 1e3, "i": ".5",
            "j": "0x1F", "k": "1.2.3", "l": "7"
        });
        assert_eq!(value(text), wanted);
        assert_eq!(read("v: 1.10").unwrap().get("v").unwrap().text(), Some("1.10"));
    }

    #[test]
    fn anchors_and_merges() {
        let text = "base: &b {a: 1, b: 1}\nx:\n  <<: *b\n  b: 2\ny:\n  <<: [{c: 1}, *b]\nz: *b\n";
        let wanted = json!({
            "base": {"a": 1, "b": 1}, "x": {"b": 2, "a": 1}, "y": {"c": 1, "a": 1, "b": 1}, "z": {"a": 1, "b": 1}
        });
        assert_eq!(value(text), wanted);
    }

    #[test]
    fn errors_say_where() {
        for (text, place) in [
            ("a: 1\n  b: 2\n", "a.yml:2:"),
            ("a: 1\na: 2\n", "a.yml:2:1: `a` is here twice"),
            ("a: *b\n", "a.yml:1:"),
            ("a: [1\n", "a.yml:"),
        ] {
            let finding = read(text).unwrap_err();
            assert!(finding.to_string().starts_with(place), "{finding}");
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 9].join(", ")));
        }
        let finding = read(&text).unwrap_err();
        assert!(finding.message.contains("more than 100000 values"), "{finding}");
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(read(&deep).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[a-z:&*<>\\[\\]{}, \n\t'\"|!%-]{0,80}") {
            let _read = read(&text);
        }
    }
}
