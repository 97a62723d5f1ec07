//! `--env-file`: the dotenv syntax.
//!
//! `KEY=value` lines, `export ` allowed before, `#` comments on a line of their own or after a blank. A value
//! may be bare (trimmed), `'literal'`, `` `literal` `` or `"with \n \r \t \" \\ \$ escapes"`; quoted values may
//! span lines. Nothing is expanded: `$HOME` stays `$HOME`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Why an env file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    #[error("could not read env file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        problem: Problem,
    },
}

/// What is wrong in a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("no `=` in `{0}`")]
    NoEquals(String),
    #[error("`{0}` is not a variable name")]
    Key(String),
    #[error("a {0} quote is not closed")]
    Unclosed(char),
    #[error("text after the closing quote: `{0}`")]
    AfterQuote(String),
    #[error("the text is not UTF-8")]
    NotUtf8,
    #[error("a NUL byte")]
    Nul,
}

impl EnvFileError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::Syntax { .. } => Some("write lines such as KEY=value, KEY=\"two words\" or # a comment"),
        }
    }
}

/// The variables of a file, in its order.
pub(crate) fn read(path: &Path) -> Result<Vec<(OsString, OsString)>, EnvFileError> {
    let bytes = std::fs::read(path).map_err(|source| EnvFileError::Read {
        path: path.into(),
        source,
    })?;
    let pairs = parse(&bytes).map_err(|(line, problem)| EnvFileError::Syntax {
        path: path.into(),
        line,
        problem,
    })?;
    Ok(pairs
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect())
}

type Pairs = Vec<(String, String)>;

fn parse(bytes: &[u8]) -> Result<Pairs, (usize, Problem)> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| (1 + newlines(&bytes[..error.valid_up_to()]), Problem::NotUtf8))?;
    if let Some(at) = text.find('\0') {
        return Err((1 + newlines(&bytes[..at]), Problem::Nul));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line = 1 + newlines(&text.as_bytes()[..text.len() - rest.len()]);
        let (pair, after) = entry(rest).map_err(|problem| (line, problem))?;
        pairs.extend(pair);
        rest = after;
    }
    Ok(pairs)
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// A pair, if the line has one, and the text after it.
type Entry<'a> = (Option<(String, String)>, &'a str);

/// Reads one line, or more when a quoted value spans them; gives what follows.
fn entry(text: &str) -> Result<Entry<'_>, Problem> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok((None, after));
    }
    let Some(equals) = line.find('=') else {
        return Err(Problem::NoEquals(trimmed.into()));
    };
    let key = key(line[..equals].trim())?;
    let value = text[equals + 1..].trim_start_matches([' ', '\t']);
    let Some(quote @ ('\'' | '"' | '`')) = value.chars().next() else {
        return Ok((Some((key, bare(value))), after));
    };
    let (value, rest) = quoted(&value[1..], quote)?;
    let (tail, after) = rest.split_once('\n').unwrap_or((rest, ""));
    let tail = tail.trim();
    if !tail.is_empty() && !tail.starts_with('#') {
        return Err(Problem::AfterQuote(tail.into()));
    }
    Ok((Some((key, value)), after))
}

fn key(text: &str) -> Result<String, Problem> {
    let name = match text.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => text,
    };
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && name.chars().all(good) {
        Ok(name.into())
    } else {
        Err(Problem::Key(name.into()))
    }
}

/// An unquoted value: to the end of the line, without a comment that follows a blank.
fn bare(text: &str) -> String {
    let line = text.split_once('\n').map_or(text, |(line, _)| line);
    let comment = line
        .char_indices()
        .find(|(at, c)| *c == '#' && line[..*at].chars().next_back().is_none_or(char::is_whitespace));
    line[..comment.map_or(line.len(), |(at, _)| at)].trim().into()
}

/// A quoted value and what follows its closing quote.
fn quoted(text: &str, quote: char) -> Result<(String, &str), Problem> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((value, &text[at + 1..])),
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('"' | '\\' | '$'))) => value.push(c),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            '\r' if text[at..].starts_with("\r\n") => {}
            _ => value.push(c),
        }
    }
    Err(Problem::Unclosed(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax() {
        let text = "\u{feff}# comment\n\nA=1\r\nexport B = two words # comment\nC='#not $a \\n comment' # c\n\
                    D=\"x\\n\\\"y\\\" \\$ \\w\"\nE=\nF=\"two\nlines\"\nG=a#b\nH= # nothing\nI=`it's`\nA=2\nK=ä=ö";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "#not $a \\n comment"),
            ("D", "x\n\"y\" $ \\w"),
            ("E", ""),
            ("F", "two\nlines"),
            ("G", "a#b"),
            ("H", ""),
            ("I", "it's"),
            ("A", "2"),
            ("K", "ä=ö"),
        ];
        let expected: Pairs = expected.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert_eq!(parse(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, message) in [
            ("A=1\nnonsense here\n", 2, "no `=` in `nonsense here`"),
            ("\n\n1A=x", 3, "`1A` is not a variable name"),
            ("=x", 1, "`` is not a variable name"),
            ("A=1\nB=\"x\nC=2", 2, "a \" quote is not closed"),
            ("A='x' y", 1, "text after the closing quote: `y`"),
            ("A=\"x\ny\"\nB", 3, "no `=` in `B`"),
            ("A=x\0", 1, "a NUL byte"),
        ] {
            let (at, problem) = parse(text.as_bytes()).unwrap_err();
            assert_eq!((at, problem.to_string().as_str()), (line, message), "{text:?}");
        }
        assert_eq!(parse(b"A=1\nB=\xff"), Err((2, Problem::NotUtf8)));
    }

    #[test]
    fn the_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.env");
        let error = read(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("could not read env file {}", path.display())
        );
        std::fs::write(&path, "oops").unwrap();
        assert_eq!(
            read(&path).unwrap_err().to_string(),
            format!("{}:1: no `=` in `oops`", path.display())
        );
    }
}
