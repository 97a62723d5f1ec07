//! What is wrong, or doubtful, in a file: what, where, and what to do.

use crate::tree::Span;
use std::fmt;
use std::path::{Path, PathBuf};

/// A file's text, to say where something stands in it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The whole line.
    pub text: String,
    /// How many characters of it are meant.
    pub width: usize,
}

/// Something to tell the owner of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What, in lower case.
    pub message: String,
    /// Which file.
    pub path: PathBuf,
    /// Where in it, if that is known.
    pub place: Option<Box<Place>>,
    /// What to do.
    pub hint: Option<String>,
}

/// Something doubtful; the apps can be started all the same.
pub type Warning = Finding;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{}:{}:{}: ", place.path.display(), place.line, place.column)?,
            None => write!(f, "{}: ", self.path.display())?,
        }
        f.write_str(&self.message)
    }
}

impl Finding {
    /// The line, with a mark below what is meant. Lines for a terminal or a log, without a newline at the end.
    ///
    /// Values are shown as they stand in the file: this is for whoever can read it.
    #[must_use]
    pub fn snippet(&self) -> Option<String> {
        let place = self.place.as_ref()?;
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        let characters: Vec<char> = place.text.chars().collect();
        let (begin, line) = cut(&characters, place.column);
        let before: String = characters
            .iter()
            .skip(begin)
            .take(place.column.saturating_sub(1 + begin))
            .map(|c| if *c == '\t' { '\t' } else { ' ' })
            .collect();
        let room = LONGEST.saturating_sub(before.chars().count()).max(1);
        let marks = "^".repeat(place.width.clamp(1, room));
        Some(format!(
            "{gutter} |\n{number} | {line}\n{gutter} | {before}{marks}"
        ))
    }
}

/// No more characters of a line are shown.
const LONGEST: usize = 120;

/// A window of a long line around the column, and where it begins.
fn cut(characters: &[char], column: usize) -> (usize, String) {
    let begin = if column <= LONGEST - 20 {
        0
    } else {
        column.saturating_sub(LONGEST / 2)
    };
    let shown = characters.iter().skip(begin).take(LONGEST);
    // A file may hold anything: nothing of it shall move the terminal's cursor.
    let shown = shown.map(|c| {
        if c.is_control() && *c != '\t' {
            '\u{fffd}'
        } else {
            *c
        }
    });
    (begin, shown.collect())
}

impl Source {
    pub(crate) fn new(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            text,
        }
    }

    /// The place of these bytes.
    pub(crate) fn place(&self, span: &Span) -> Place {
        let start = floor(&self.text, span.start);
        let end = floor(&self.text, span.end).max(start);
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let width = self.text.get(start..end).unwrap_or_default();
        Place {
            path: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: count(before.get(line_start..).unwrap_or_default()) + 1,
            text: line.to_owned(),
            width: count(width.lines().next().unwrap_or_default()).max(1),
        }
    }

    /// The place of a line and a column, both from 1.
    pub(crate) fn at(&self, line: usize, column: usize) -> Place {
        let text = self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        Place {
            path: self.path.clone(),
            line: line.max(1),
            column: column.max(1),
            text: text.to_owned(),
            width: 1,
        }
    }

    /// Something about these bytes, or about the file.
    pub(crate) fn finding(&self, at: Option<&Span>, message: impl Into<String>) -> Finding {
        Finding {
            message: message.into(),
            path: self.path.clone(),
            place: at.map(|span| Box::new(self.place(span))),
            hint: None,
        }
    }

    /// Where a key most likely stands in a text whose format tells no places: only if there is one place alone.
    pub(crate) fn only_place_of_key(&self, key: &str) -> Option<Span> {
        let is_key = |start: usize| {
            let end = start + key.len();
            let before = self.text.get(..start).and_then(|text| text.chars().next_back());
            let after = self.text.get(end..).unwrap_or_default();
            let quote = before.filter(|c| matches!(c, '"' | '\'' | '`'));
            let after = quote.map_or(Some(after), |quote| after.strip_prefix(quote));
            let free = before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '$' | '.'));
            free && after.is_some_and(|after| after.trim_start().starts_with(':'))
        };
        let mut found = self
            .text
            .match_indices(key)
            .map(|(start, _)| start)
            .filter(|start| is_key(*start));
        let start = found.next().filter(|_| !key.is_empty())?;
        found.next().is_none().then(|| start..start + key.len())
    }
}

impl Finding {
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_with_a_mark() {
        let source = Source::new(Path::new("a.toml"), "x = 1\n\tché = 22\n".to_owned());
        let finding = source.finding(Some(&(7..11)), "what is ché");
        assert_eq!(finding.to_string(), "a.toml:2:2: what is ché");
        assert_eq!(finding.snippet().unwrap(), "  |\n2 | \tché = 22\n  | \t^^^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let text = format!("{}KEY{}", "x".repeat(5000), "y".repeat(5000));
        let source = Source::new(Path::new("a"), text);
        let snippet = source.finding(Some(&(5000..5003)), "m").snippet().unwrap();
        let lines: Vec<&str> = snippet.lines().collect();
        let at = lines[2].find('^').unwrap();
        assert_eq!(&lines[1][at..at + 3], "KEY");
        assert!(lines[1].len() < 140);
    }

    #[test]
    fn a_key_is_found_only_if_there_is_no_doubt() {
        let source = |text: &str| Source::new(Path::new("a.js"), text.to_owned());
        assert_eq!(source("{ watchh: 1 }").only_place_of_key("watchh"), Some(2..8));
        assert_eq!(source("{ 'watchh' : 1 }").only_place_of_key("watchh"), Some(3..9));
        assert_eq!(
            source("{ watchh: 1, b: { watchh: 2 } }").only_place_of_key("watchh"),
            None
        );
        assert_eq!(source("{ nowatchh: 1 }").only_place_of_key("watchh"), None);
        assert_eq!(source("{}").only_place_of_key(""), None);
    }

    proptest::proptest! {
        #[test]
        fn any_place_of_any_text(text in "\\PC*[\n\t\u{1b}é]*\\PC*", a in 0_usize..60, b in 0_usize..60) {
            let source = Source::new(Path::new("a"), text);
            let finding = source.finding(Some(&(a..b)), "m");
            let shown = finding.snippet().unwrap();
            proptest::prop_assert!(shown.chars().all(|c| c != '\x1b'));
        }
    }
}
