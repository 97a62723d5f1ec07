//! One value of a file, as a value of `AppSpec`: by its [`Kind`].
//!
//! Job: refuse what cannot be meant, where it stands. What times, sizes and signals mean in the end is judged by whoever
//! starts the app; here only what is certainly wrong is.

use crate::keys::Kind;
use crate::tree::{Datum, Node};
use crate::words;
use serde_json::{Map, Value, json};
use std::path::{Component, Path, PathBuf};

/// Why a value is refused, and what could be written instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Where relative paths begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Base<'a> {
    /// The app's `cwd` (for `cwd` itself, the file's folder).
    pub(crate) folder: &'a Path,
    /// For `~/`.
    pub(crate) home: Option<&'a Path>,
}

impl Base<'_> {
    /// An absolute path, without `.` and `..`.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        let path = match (text.strip_prefix('~'), self.home) {
            (Some(""), Some(home)) => home.to_owned(),
            (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
            _ => self.folder.join(text),
        };
        normal(&path)
    }
}

/// The path without `.` and `..`, symbolic links left alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            _ => normal.push(part),
        }
    }
    normal
}

/// The value as `AppSpec` has it; `None` if it says nothing.
pub(crate) fn convert(kind: Kind, node: &Node, base: Base<'_>) -> Result<Option<Value>, Refused> {
    if node.datum == Datum::Null {
        return Ok(None);
    }
    let value = match kind {
        Kind::Text => text(node)?.into(),
        Kind::Number => number(node)?.into(),
        Kind::Choice(choices) => choice(node, choices)?.into(),
        Kind::Count => count(node)?.into(),
        Kind::Time => time(node)?.into(),
        Kind::Size => size(node)?.into(),
        Kind::Bool => boolean(node)?.into(),
        Kind::Words => list(node, words::split)?.into(),
        Kind::List => list(node, |text| vec![text.to_owned()])?.into(),
        Kind::Path => file(&text(node)?, base),
        Kind::Folder => path(&text(node)?, base),
        Kind::Paths => list(node, |text| vec![text.to_owned()])?
            .iter()
            .map(|text| path(text, base))
            .collect(),
        Kind::LogFile => return log_file(node, base),
        Kind::Watch => watch(node)?,
        Kind::Patterns => patterns(node)?.into(),
        Kind::Codes => codes(node)?,
        Kind::Mode => mode(node)?.into(),
        Kind::Filter => filter(node)?,
        Kind::Env => variables(node)?.into(),
        Kind::EnvPaths => variables(node)?
            .into_iter()
            .map(|(name, value)| (name, relative(&value, base)))
            .collect(),
        Kind::Depends => depends(node)?,
        Kind::Cron => text(node)?.into(),
        Kind::Own | Kind::Kept => node.to_json(),
    };
    let empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    Ok((!empty).then_some(value))
}

fn expected(what: &str, node: &Node) -> Refused {
    Refused {
        message: format!("is {}, and {what} is needed", node.kind()),
        hint: None,
    }
}

fn refused(message: impl Into<String>, hint: &str) -> Refused {
    Refused {
        message: message.into(),
        hint: Some(hint.to_owned()),
    }
}

pub(crate) fn text(node: &Node) -> Result<String, Refused> {
    let text = node.text().ok_or_else(|| expected("a text", node))?;
    if text.contains('\0') {
        return Err(refused("has a zero byte in it", "no program can be given one"));
    }
    Ok(text.to_owned())
}

fn number(node: &Node) -> Result<String, Refused> {
    let text = node.text().ok_or_else(|| expected("a number", node))?.trim();
    if text.parse::<f64>().is_err() {
        return Err(refused(
            format!("is `{text}`, and a number is needed"),
            "write digits alone",
        ));
    }
    Ok(text.to_owned())
}

fn choice(node: &Node, choices: &[&str]) -> Result<String, Refused> {
    let text = text(node)?;
    if choices.contains(&text.as_str()) {
        return Ok(text);
    }
    let all = choices.join(", ");
    let hint = match everup_api::names::nearest(&text, choices) {
        Some(nearest) => format!("did you mean `{nearest}`? There are {all}"),
        None => format!("one of {all}"),
    };
    Err(refused(format!("cannot be `{text}`"), &hint))
}

fn count(node: &Node) -> Result<String, Refused> {
    let text = node
        .text()
        .ok_or_else(|| expected("a number or `max`", node))?
        .trim();
    let whole = text.strip_suffix(".0").unwrap_or(text);
    if whole == "max" || whole.parse::<i64>().is_ok() {
        return Ok(whole.to_owned());
    }
    Err(refused(
        format!("is `{text}`, and a number of workers is needed"),
        "a whole number, `max` or 0 for one per CPU, -1 for one fewer",
    ))
}

fn time(node: &Node) -> Result<String, Refused> {
    let text = node.text().ok_or_else(|| expected("a time", node))?.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.parse::<f64>().is_ok() && matches!(unit, "" | "ms" | "s" | "m" | "h") {
        return Ok(text.strip_suffix(".0").unwrap_or(text).to_owned());
    }
    Err(refused(
        format!("is `{text}`, and a time is needed"),
        "milliseconds (1500) or a number with a unit: 500ms, 5s, 1m, 1h",
    ))
}

fn size(node: &Node) -> Result<String, Refused> {
    let text = node.text().ok_or_else(|| expected("a size", node))?.trim();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(text.strip_suffix(".0").unwrap_or(text).to_owned());
    }
    Err(refused(
        format!("is `{text}`, and a size is needed"),
        "bytes, or a number with a unit: 300M, 1G",
    ))
}

pub(crate) fn boolean(node: &Node) -> Result<bool, Refused> {
    match &node.datum {
        Datum::Bool(value) => Ok(*value),
        Datum::Text(text) if text == "true" || text == "false" => Err(refused(
            format!("is the text \"{text}\""),
            &format!("write {text}, without quotes"),
        )),
        _ => Err(expected("true or false", node)),
    }
}

/// A list of texts, or what comes of one text.
fn list(node: &Node, one: impl Fn(&str) -> Vec<String>) -> Result<Vec<String>, Refused> {
    match &node.datum {
        Datum::List(items) => items
            .iter()
            .filter(|item| item.datum != Datum::Null)
            .map(text)
            .collect(),
        Datum::Text(_) | Datum::Number(_) => Ok(one(&text(node)?)),
        _ => Err(expected("a text or a list of texts", node)),
    }
}

fn path(text: &str, base: Base<'_>) -> Value {
    base.path(text).to_string_lossy().into_owned().into()
}

fn relative(value: &Value, base: Base<'_>) -> Value {
    value.as_str().map_or(Value::Null, |text| path(text, base))
}

/// pm2's `log_file: true` is the usual place, which the daemon knows: it stays this word.
fn log_file(node: &Node, base: Base<'_>) -> Result<Option<Value>, Refused> {
    match node.datum {
        Datum::Bool(false) => Ok(None),
        Datum::Bool(true) => Ok(Some("true".into())),
        _ => Ok(Some(file(&text(node)?, base))),
    }
}

/// A file of output: `NULL` and `/dev/null` are none.
fn file(text: &str, base: Base<'_>) -> Value {
    match text {
        "NULL" | "/dev/null" => "/dev/null".into(),
        _ => path(text, base),
    }
}

fn watch(node: &Node) -> Result<Value, Refused> {
    match &node.datum {
        Datum::Bool(true) => Ok(json!(["."])),
        Datum::Bool(false) => Ok(json!([])),
        _ => Ok(list(node, |text| vec![text.to_owned()])?.into()),
    }
}

fn patterns(node: &Node) -> Result<Vec<String>, Refused> {
    let items = match &node.datum {
        Datum::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    items.iter().map(pattern).collect()
}

fn pattern(node: &Node) -> Result<String, Refused> {
    if let Datum::Pattern(source) = &node.datum {
        return glob(source).ok_or_else(|| {
            refused(
                format!("has the regular expression /{source}/, which cannot be said as a pattern"),
                "write a pattern as in a .gitignore: \"*.log\", \"/dist\", \"node_modules\"",
            )
        });
    }
    let text = text(node)?;
    // Relative to `cwd`, as a `.gitignore` there says it.
    Ok(text
        .strip_prefix("./")
        .map_or(text.clone(), |rest| format!("/{rest}")))
}

/// A regular expression as a pattern, if it is but a text, with `^` or `$` perhaps.
fn glob(source: &str) -> Option<String> {
    let (begins, rest) = source
        .strip_prefix('^')
        .map_or((false, source), |rest| (true, rest));
    let ends = rest.ends_with('$') && !rest.ends_with("\\$");
    let rest = if ends { rest.strip_suffix('$')? } else { rest };
    let mut text = String::new();
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|c| !c.is_alphanumeric())?),
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            _ => text.push(character),
        }
    }
    let inner = text.trim_matches('/');
    // Inside of a name anything may stand around it; a slash at its ends says that it is a whole name.
    let head = if begins || text.starts_with('/') { "" } else { "*" };
    let tail = if ends || text.ends_with('/') { "" } else { "*" };
    // A pattern with a slash in it is one from `cwd` on, if it does not say otherwise.
    let anchored = match (begins, inner.contains('/')) {
        (true, false) => "/",
        (false, true) => "**/",
        _ => "",
    };
    (!inner.is_empty()).then(|| format!("{anchored}{head}{inner}{tail}"))
}

fn codes(node: &Node) -> Result<Value, Refused> {
    let code = |node: &Node| -> Result<Value, Refused> {
        let number = node.text().and_then(|text| text.trim().parse::<i32>().ok());
        number
            .map(Value::from)
            .ok_or_else(|| expected("a list of exit codes", node))
    };
    match &node.datum {
        Datum::List(items) => items.iter().map(code).collect(),
        Datum::Text(text) => {
            let words = text.split([',', ' ']).filter(|word| !word.is_empty());
            words
                .map(|word| code(&Node::new(Datum::Text(word.to_owned()))))
                .collect()
        }
        _ => Ok(json!([code(node)?])),
    }
}

fn mode(node: &Node) -> Result<&'static str, Refused> {
    match text(node)?.as_str() {
        "fork" | "fork_mode" => Ok("fork"),
        "cluster" | "cluster_mode" => Ok("cluster"),
        other => Err(refused(format!("cannot be `{other}`"), "`cluster` or `fork`")),
    }
}

fn filter(node: &Node) -> Result<Value, Refused> {
    match &node.datum {
        Datum::Bool(true) => Ok(true.into()),
        Datum::Bool(false) => Ok(json!([])),
        _ => Ok(list(node, |text| vec![text.to_owned()])?.into()),
    }
}

/// Variables: everything as text, objects as JSON (as pm2 does), and nothing for `null`.
pub(crate) fn variables(node: &Node) -> Result<Map<String, Value>, Refused> {
    let Some(entries) = node.entries() else {
        return words_as_variables(node);
    };
    let mut variables = Map::new();
    for entry in entries {
        let value = match &entry.value.datum {
            Datum::Null => continue,
            Datum::Bool(value) => value.to_string(),
            Datum::Text(text) | Datum::Number(text) => text.clone(),
            Datum::Pattern(_) | Datum::List(_) | Datum::Map(_) => entry.value.to_json().to_string(),
        };
        check_variable(&entry.key, &value)?;
        variables.insert(entry.key.clone(), value.into());
    }
    Ok(variables)
}

/// `A=1 B="2 3"`.
fn words_as_variables(node: &Node) -> Result<Map<String, Value>, Refused> {
    let text = node
        .text()
        .ok_or_else(|| expected("a table of variables", node))?;
    let mut variables = Map::new();
    for word in words::split(text) {
        let Some((name, value)) = word.split_once('=') else {
            return Err(refused(
                "is a text, and a table of variables is needed",
                "or words like NAME=value",
            ));
        };
        check_variable(name, value)?;
        variables.insert(name.to_owned(), value.into());
    }
    Ok(variables)
}

fn check_variable(name: &str, value: &str) -> Result<(), Refused> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(refused(
            format!("has the variable `{name}`, which no process can have"),
            "no `=` in a name",
        ));
    }
    if value.contains('\0') {
        return Err(refused(
            format!("has a zero byte in `{name}`"),
            "no process can be given one",
        ));
    }
    Ok(())
}

const CONDITIONS: &[&str] = &["started", "ready", "completed"];

fn depends(node: &Node) -> Result<Value, Refused> {
    let Some(entries) = node.entries() else {
        let names = list(node, |text| vec![text.to_owned()])?;
        return Ok(Value::Object(
            names.into_iter().map(|name| (name, "ready".into())).collect(),
        ));
    };
    let mut conditions = Map::new();
    for entry in entries {
        conditions.insert(entry.key.clone(), choice(&entry.value, CONDITIONS)?.into());
    }
    Ok(Value::Object(conditions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, value: &Value) -> Result<Option<Value>, String> {
        let base = Base {
            folder: Path::new("/srv/app"),
            home: Some(Path::new("/home/me")),
        };
        convert(kind, &Node::from(value.clone()), base).map_err(|refused| refused.message)
    }

    #[test]
    fn taken() {
        for (kind, given, wanted) in [
            (Kind::Text, json!("x"), json!("x")),
            (Kind::Text, json!(1000), json!("1000")),
            (Kind::Number, json!("16"), json!("16")),
            (Kind::Count, json!(4), json!("4")),
            (Kind::Count, json!("max"), json!("max")),
            (Kind::Count, json!(-1), json!("-1")),
            (Kind::Count, json!(2.0), json!("2")),
            (Kind::Time, json!(1600), json!("1600")),
            (Kind::Time, json!("10s"), json!("10s")),
            (Kind::Size, json!("200M"), json!("200M")),
            (Kind::Words, json!("-a 'b c'"), json!(["-a", "b c"])),
            (Kind::Words, json!(["a b", 3]), json!(["a b", "3"])),
            (Kind::Path, json!("../x/./y"), json!("/srv/x/y")),
            (Kind::Path, json!("~/y"), json!("/home/me/y")),
            (Kind::Paths, json!(".env"), json!(["/srv/app/.env"])),
            (Kind::LogFile, json!(true), json!("true")),
            (Kind::Watch, json!(true), json!(["."])),
            (Kind::Watch, json!("src"), json!(["src"])),
            (Kind::Codes, json!(0), json!([0])),
            (Kind::Codes, json!("0, 42"), json!([0, 42])),
            (Kind::Mode, json!("cluster_mode"), json!("cluster")),
            (Kind::Filter, json!(true), json!(true)),
            (Kind::Filter, json!("AWS_"), json!(["AWS_"])),
            (Kind::Cron, json!(0), json!("0")),
            (Kind::Depends, json!(["db"]), json!({"db": "ready"})),
            (Kind::Depends, json!({"db": "started"}), json!({"db": "started"})),
            (Kind::Env, json!("A=1 B='x y'"), json!({"A": "1", "B": "x y"})),
            (
                Kind::Env,
                json!({"A": 1, "B": true, "C": null, "D": {"x": [1]}, "E": ""}),
                json!({"A": "1", "B": "true", "D": "{\"x\":[1]}", "E": ""}),
            ),
        ] {
            assert_eq!(read(kind, &given), Ok(Some(wanted)), "{kind:?} {given}");
        }
    }

    #[test]
    fn says_nothing() {
        for (kind, given) in [
            (Kind::Text, json!(null)),
            (Kind::Words, json!("")),
            (Kind::Watch, json!(false)),
            (Kind::Filter, json!(false)),
            (Kind::LogFile, json!(false)),
            (Kind::Env, json!({})),
        ] {
            assert_eq!(read(kind, &given), Ok(None), "{kind:?} {given}");
        }
    }

    #[test]
    fn refused() {
        for (kind, given) in [
            (Kind::Text, json!(["x"])),
            (Kind::Text, json!(true)),
            (Kind::Text, json!("a\0b")),
            (Kind::Number, json!("many")),
            (Kind::Count, json!("auto")),
            (Kind::Count, json!(1.5)),
            (Kind::Time, json!("10 minutes")),
            (Kind::Time, json!(-1)),
            (Kind::Size, json!("much")),
            (Kind::Bool, json!("true")),
            (Kind::Bool, json!(1)),
            (Kind::Words, json!({"a": 1})),
            (Kind::Codes, json!(["x"])),
            (Kind::Mode, json!("threads")),
            (Kind::Env, json!(["A"])),
            (Kind::Env, json!({"A=B": 1})),
            (Kind::Depends, json!({"db": "alive"})),
            (Kind::Choice(&["raw", "json"]), json!("jsn")),
        ] {
            assert!(read(kind, &given).is_err(), "{kind:?} {given}");
        }
    }

    #[test]
    fn regular_expressions_that_are_plain_texts() {
        for (source, wanted) in [
            ("node_modules", Some("*node_modules*")),
            ("\\.git", Some("*.git*")),
            ("\\.log$", Some("*.log")),
            ("^dist", Some("/dist*")),
            ("\\/logs\\/", Some("logs")),
            ("src\\/gen", Some("**/*src/gen*")),
            ("a|b", None),
            ("[\\/\\\\]\\.", None),
            ("\\d+", None),
            ("", None),
        ] {
            assert_eq!(glob(source).as_deref(), wanted, "{source}");
        }
    }
}
