//! JSON as Node's `util.inspect` shows it: what `prettylist` and `id` print, and scripts have learned to read.
//!
//! Follows Node 20 with its defaults (`breakLength` 80, `compact` 3), except that long arrays are not cut.

use serde_json::Value;

const BREAK: usize = 80;
const COMPACT: usize = 3;

/// The text, without a newline at its end.
pub(crate) fn inspect(value: &Value) -> String {
    Inspector { depth: 0, indent: 0 }.value(value, 0)
}

struct Inspector {
    /// Of the object that was begun last.
    depth: usize,
    indent: usize,
}

impl Inspector {
    fn value(&mut self, value: &Value, depth: usize) -> String {
        match value {
            Value::Null => "null".into(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => self.long(text),
            Value::Array(items) if items.is_empty() => "[]".into(),
            Value::Array(items) => {
                self.depth = depth;
                let parts = items.iter().map(|item| self.nested(item, depth)).collect();
                let numbers = items.iter().all(Value::is_number);
                self.reduce(parts, depth, ["[", "]"], Some(numbers))
            }
            Value::Object(map) if map.is_empty() => "{}".into(),
            Value::Object(map) => {
                self.depth = depth;
                let parts = map
                    .iter()
                    .map(|(name, item)| format!("{}: {}", key(name), self.nested(item, depth)));
                let parts = parts.collect();
                self.reduce(parts, depth, ["{", "}"], None)
            }
        }
    }

    fn nested(&mut self, value: &Value, depth: usize) -> String {
        self.indent += 2;
        let text = self.value(value, depth + 1);
        self.indent -= 2;
        text
    }

    /// `numbers` is of arrays: whether there is nothing else in it.
    fn reduce(
        &self,
        parts: Vec<String>,
        depth: usize,
        [open, close]: [&str; 2],
        numbers: Option<bool>,
    ) -> String {
        let entries = parts.len();
        let parts = match numbers {
            Some(numbers) if entries > 6 => self.grouped(parts, numbers),
            _ => parts,
        };
        if self.depth.saturating_sub(depth) < COMPACT && entries == parts.len() {
            let start = parts.len() + self.indent + open.len() + 10;
            let total = parts.iter().map(|part| width(part)).sum::<usize>() + parts.len() + start;
            let joined = parts.join(", ");
            if total <= BREAK && !joined.contains('\n') {
                return format!("{open} {joined} {close}");
            }
        }
        let line = format!("\n{}", " ".repeat(self.indent));
        format!("{open}{line}  {}{line}{close}", parts.join(&format!(",{line}  ")))
    }

    /// Many short items in columns.
    fn grouped(&self, parts: Vec<String>, numbers: bool) -> Vec<String> {
        let widths: Vec<usize> = parts.iter().map(|part| width(part)).collect();
        let total: usize = widths.iter().map(|width| width + 2).sum();
        let longest = widths.iter().max().copied().unwrap_or(0);
        let most = longest + 2;
        if most * 3 + self.indent >= BREAK || (total <= most * 5 && longest > 6) {
            return parts;
        }
        let columns = columns(parts.len(), total, most)
            .min((BREAK - self.indent) / most)
            .min(COMPACT * 4)
            .min(15);
        if columns <= 1 {
            return parts;
        }
        let room: Vec<usize> = (0..columns)
            .map(|column| {
                widths
                    .iter()
                    .skip(column)
                    .step_by(columns)
                    .max()
                    .copied()
                    .unwrap_or(0)
                    + 2
            })
            .collect();
        parts
            .chunks(columns)
            .map(|row| {
                let last = row.len() - 1;
                let cells = row
                    .iter()
                    .enumerate()
                    .map(|(column, part)| match (numbers, column == last) {
                        (true, false) => format!("{:>1$}", format!("{part}, "), room[column]),
                        (true, true) => format!("{part:>0$}", room[column] - 2),
                        (false, false) => format!("{:<1$}", format!("{part}, "), room[column]),
                        (false, true) => part.clone(),
                    });
                cells.collect()
            })
            .collect()
    }

    /// Long texts of several lines are shown line by line.
    fn long(&self, text: &str) -> String {
        let long = width(text) > 16 && width(text) + self.indent + 4 > BREAK;
        if !long || !text.trim_end_matches('\n').contains('\n') {
            return quoted(text);
        }
        let lines: Vec<String> = text.split_inclusive('\n').map(quoted).collect();
        lines.join(&format!(" +\n{}", " ".repeat(self.indent + 2)))
    }
}

/// As many as make a block of a pleasant form. Whole numbers are enough: they are small.
fn columns(entries: usize, total: usize, most: usize) -> usize {
    let small = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let bias = (small(most) - small(total) / small(entries)).max(0.0).sqrt();
    let biased = (small(most) - 3.0 - bias).max(1.0);
    let wanted = ((2.5 * biased * small(entries)).sqrt() / biased).round();
    (1..=15)
        .rev()
        .find(|columns| small(*columns) <= wanted)
        .unwrap_or(1)
}

fn width(text: &str) -> usize {
    text.encode_utf16().count()
}

fn key(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn quoted(text: &str) -> String {
    let quote = match (
        text.contains('\''),
        text.contains('"'),
        text.contains('`') || text.contains("${"),
    ) {
        (true, false, _) => '"',
        (true, true, false) => '`',
        _ => '\'',
    };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\\' => quoted.push_str("\\\\"),
            c if c == quote => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => quoted.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each by Node 20: `util.inspect(value, false, null, false)`.
    #[test]
    fn as_node_does() {
        let thirty: Vec<u32> = (0..30).collect();
        for (value, expected) in [
            (json!([]), "[]"),
            (json!([0, 1]), "[ 0, 1 ]"),
            (json!(["2"]), "[ '2' ]"),
            (json!({}), "{}"),
            (
                json!({"a-b": 1, "c": "it's", "d": "a\nb", "e": null}),
                "{ 'a-b': 1, c: \"it's\", d: 'a\\nb', e: null }",
            ),
            (json!({"a": {"b": {"c": {}}}}), "{ a: { b: { c: {} } } }"),
            (
                json!({"a": {"b": {"c": {"d": 1}}}}),
                "{\n  a: { b: { c: { d: 1 } } }\n}",
            ),
            (
                json!([[1, 2, [3, [4]]], {"x": {"y": {"z": [1]}}}]),
                "[\n  [ 1, 2, [ 3, [ 4 ] ] ],\n  {\n    x: { y: { z: [ 1 ] } }\n  }\n]",
            ),
            (json!([0, 1, 2, 3, 4, 5, 6]), "[\n  0, 1, 2, 3,\n  4, 5, 6\n]"),
            (
                json!(thirty),
                "[\n   0,  1,  2,  3,  4,  5,  6,  7,  8,\n   9, 10, 11, 12, 13, 14, 15, 16, 17,\n  18, 19, 20, 21, 22, 23, 24, 25, 26,\n  27, 28, 29\n]",
            ),
            (
                json!(["aa", "b", "cc", "dd", "eeeee", "f", "g", "h"]),
                "[\n  'aa',    'b',\n  'cc',    'dd',\n  'eeeee', 'f',\n  'g',     'h'\n]",
            ),
            (
                json!({"a": format!("{}\nfoo\nbar", "x".repeat(70))}),
                &format!(
                    "{{\n  a: '{}\\n' +\n    'foo\\n' +\n    'bar'\n}}",
                    "x".repeat(70)
                ),
            ),
        ] {
            assert_eq!(inspect(&value), expected, "{value}");
        }
    }
}
