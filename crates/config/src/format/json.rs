//! JSON as pm2 takes it: comments, unquoted keys, commas at the end (JSON5), else any expression of JavaScript.

use super::{Parsed, script};
use crate::Options;
use crate::finding::{Finding, Source};
use crate::tree::Node;
use serde_json::Value;

pub(super) fn parse(source: &Source, options: &Options) -> Result<Parsed, Finding> {
    let strict: Result<Value, _> = serde_json::from_str(&source.text);
    let value = strict.or_else(|_| json5::from_str::<Value>(&source.text));
    let error = match value {
        Ok(value) => return Ok(Node::from(value).into()),
        Err(error) => error,
    };
    if looks_like_an_expression(&source.text)
        && let Ok(parsed) = script::expression(source, options)
    {
        return Ok(parsed);
    }
    let mut finding = source.finding(None, format!("this is no JSON: {}", what(&error)));
    finding.place = error
        .position()
        .map(|place| Box::new(source.at(place.line + 1, place.column + 1)));
    Err(finding)
}

/// Data that is merely broken is not tried as a program.
fn looks_like_an_expression(text: &str) -> bool {
    ["process", "require", "`", "(", "+", "=>"]
        .iter()
        .any(|sign| text.contains(sign))
}

fn what(error: &json5::Error) -> String {
    match error.code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Value, Finding> {
        let source = Source::new(Path::new("a.json"), text.to_owned());
        parse(&source, &Options::default()).map(|parsed| parsed.root.to_json())
    }

    #[test]
    fn json_and_what_people_write_instead() {
        let wanted = serde_json::json!({"apps": [{"name": "a", "n": 3}]});
        for text in [
            r#"{"apps": [{"name": "a", "n": 3}]}"#,
            "{ // a comment\n apps: [{ name: 'a', n: 3, }, ], /* more */ }",
        ] {
            assert_eq!(read(text).unwrap(), wanted, "{text}");
        }
    }

    #[cfg(feature = "js")]
    #[test]
    fn an_expression_of_javascript() {
        let text = "{ apps: [{ name: 'a' + 1, n: Math.max(1, 3) }] }";
        assert_eq!(
            read(text).unwrap(),
            serde_json::json!({"apps": [{"name": "a1", "n": 3}]})
        );
    }

    #[test]
    fn an_error_says_where() {
        let finding = read("{\n  \"apps\": [\n    { \"name\" \"a\" }\n  ]\n}\n").unwrap_err();
        assert!(finding.to_string().starts_with("a.json:3:"), "{finding}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,60}") {
            let _read = read(&text);
        }
    }
}
