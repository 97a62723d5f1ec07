//! A line of a file as it is shown. Pure.

use super::source::{Kind, Source};
use crate::output::paint;
use everup_daemon::logs::dayjs;
use jiff::Zoned;
use std::fmt::Write;

/// How lines are shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) form: Form,
    /// dayjs' notation, for new lines.
    pub(super) timestamp: Option<String>,
    pub(super) highlight: Option<String>,
    pub(super) colour: bool,
    pub(super) pm2: bool,
    /// Of the longest label.
    pub(super) width: usize,
}

/// What a line is turned into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// `0|web | text`.
    #[default]
    Prefixed,
    /// As it is.
    Raw,
    /// pm2's `--json`.
    Json,
    /// pm2's `--format`.
    Pairs,
}

const GREEN: u8 = 32;
const RED: u8 = 31;
const BLUE: u8 = 34;
const GREY: u8 = 90;

impl Look {
    /// The line with its newline. `now` is the time of a new line; one that had been there has none.
    pub(super) fn line(&self, source: &Source, text: &[u8], now: Option<&Zoned>) -> Vec<u8> {
        if self.form == Form::Raw {
            return [text, b"\n"].concat();
        }
        let time = now.and_then(|now| Some(dayjs::format(self.timestamp.as_deref()?, now)));
        let mut shown = String::new();
        match self.form {
            Form::Json => return json(source, text, now, self.pm2),
            Form::Pairs => self.pairs(source, time, &mut shown),
            Form::Prefixed | Form::Raw => {
                if let Some(time) = time {
                    shown.push_str(&self.paint(GREY, &format!("{time} ")));
                }
                let label = source.label(self.pm2);
                shown.push_str(&self.paint(hue(source.kind), &format!("{label:<0$} | ", self.width)));
            }
        }
        let text = tame(text, self.colour);
        match &self.highlight {
            Some(wanted) if !wanted.is_empty() => {
                let lit = format!("\x1b[100m{wanted}\x1b[49m");
                shown.push_str(&text.replace(wanted.as_str(), &lit));
            }
            _ => shown.push_str(&text),
        }
        shown.push('\n');
        shown.into_bytes()
    }

    /// Above the last lines of a file; pm2 counts what was asked for, not what is there.
    pub(super) fn header(&self, source: &Source, lines: usize) -> String {
        let path = tame(source.path.as_os_str().as_encoded_bytes(), false);
        self.paint(GREY, &format!("{path} last {lines} lines:")) + "\n"
    }

    fn pairs(&self, source: &Source, time: Option<String>, shown: &mut String) {
        let time = time.map(|time| format!("timestamp={time} ")).unwrap_or_default();
        let whose = match (source.kind, source.id) {
            (Kind::Daemon, _) => format!("app={} ", source.app.to_lowercase()),
            (_, Some(id)) => format!("app={} id={id} ", source.app),
            (_, None) if self.pm2 => format!("app={} id={} ", source.app, source.first),
            (_, None) => format!("app={} ", source.app),
        };
        let kind = match source.kind {
            Kind::Out => "type=out ",
            Kind::Err => "type=error ",
            Kind::Daemon => "",
        };
        // Writing to a string cannot fail.
        write!(shown, "{time}{whose}{kind}message=").unwrap_or_default();
    }

    fn paint(&self, colour: u8, text: &str) -> String {
        match self.colour {
            true => paint(colour, text),
            false => text.to_owned(),
        }
    }
}

fn hue(kind: Kind) -> u8 {
    match kind {
        Kind::Out => GREEN,
        Kind::Err => RED,
        Kind::Daemon => BLUE,
    }
}

/// pm2's keys. A line that is such an object already (`log_type: json`) stays what it is.
fn json(source: &Source, text: &[u8], now: Option<&Zoned>, pm2: bool) -> Vec<u8> {
    let ours = serde_json::from_slice::<serde_json::Map<_, _>>(text)
        .is_ok_and(|object| object.contains_key("message") && object.contains_key("app_name"));
    if ours {
        return [text, b"\n"].concat();
    }
    let id = source.id.or_else(|| pm2.then_some(source.first));
    let mut object = serde_json::json!({
        "message": String::from_utf8_lossy(text),
        "timestamp": now.map(|now| format!("{:.3}", now.timestamp())),
        "type": match source.kind { Kind::Out => "out", Kind::Err => "err", Kind::Daemon => "daemon" },
        "process_id": id,
        "app_name": source.app,
    });
    if let Some(object) = object.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    format!("{object}\n").into_bytes()
}

/// The text without power over the terminal: colours stay where colours are wanted, and end with the line; everything
/// else that is not a character to be seen is shown as one.
fn tame(text: &[u8], colour: bool) -> String {
    let text = String::from_utf8_lossy(text);
    let text = text.strip_suffix('\r').unwrap_or(&text);
    let (mut shown, mut painted) = (String::with_capacity(text.len()), false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = colours(rest) {
            if colour {
                shown.push_str(&rest[..length]);
                painted = true;
            }
            rest = &rest[length..];
            continue;
        }
        match c {
            '\t' => shown.push('\t'),
            _ if harmful(c) => write!(shown, "\\u{{{:x}}}", u32::from(c)).unwrap_or_default(),
            _ => shown.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    if painted {
        shown.push_str("\x1b[0m");
    }
    shown
}

/// How long the sequence is that sets colours, if one begins here: `ESC [ digits and ; m`.
fn colours(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    body[end..].starts_with('m').then_some(end + 3)
}

fn harmful(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(kind: Kind, id: Option<u32>) -> Source {
        Source {
            path: "/x/web-out.log".into(),
            kind,
            app: "web".into(),
            id,
            first: 3,
        }
    }

    fn line(look: &Look, source: &Source, text: &[u8]) -> String {
        let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        String::from_utf8(look.line(source, text, Some(&now))).unwrap()
    }

    #[test]
    fn prefixes_are_pm2s() {
        let look = Look {
            width: 7,
            ..Look::default()
        };
        assert_eq!(
            line(&look, &source(Kind::Out, Some(0)), b"hello"),
            "0|web   | hello\n"
        );
        assert_eq!(
            line(&look, &source(Kind::Out, None), b"hello"),
            "web     | hello\n"
        );
        let pm2 = Look {
            pm2: true,
            timestamp: Some("YYYY".into()),
            ..look
        };
        assert_eq!(
            line(&pm2, &source(Kind::Err, None), b"hello"),
            "1970 3|web   | hello\n"
        );
        assert_eq!(
            pm2.header(&source(Kind::Out, None), 15),
            "/x/web-out.log last 15 lines:\n"
        );
    }

    #[test]
    fn colours_by_stream_and_highlights() {
        let look = Look {
            width: 5,
            colour: true,
            highlight: Some("b".into()),
            ..Look::default()
        };
        assert_eq!(
            line(&look, &source(Kind::Err, Some(0)), b"abc"),
            "\x1b[31m0|web | \x1b[0ma\x1b[100mb\x1b[49mc\n"
        );
    }

    #[test]
    fn other_forms() {
        let form = |form| Look {
            form,
            timestamp: Some("YYYY".into()),
            ..Look::default()
        };
        assert_eq!(
            line(&form(Form::Pairs), &source(Kind::Err, Some(0)), b"a b"),
            "timestamp=1970 app=web id=0 type=error message=a b\n"
        );
        let raw = form(Form::Raw).line(&source(Kind::Out, Some(0)), b"\x1b[2J\xff", None);
        assert_eq!(raw, b"\x1b[2J\xff\n");
    }

    #[test]
    fn json_objects() {
        let look = Look {
            form: Form::Json,
            ..Look::default()
        };
        assert_eq!(
            line(&look, &source(Kind::Out, Some(0)), b"a\"b"),
            "{\"message\":\"a\\\"b\",\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"type\":\"out\",\"process_id\":0,\"app_name\":\"web\"}\n"
        );
        let there = look.line(&source(Kind::Out, None), b"x", None);
        assert_eq!(
            String::from_utf8(there).unwrap(),
            "{\"message\":\"x\",\"type\":\"out\",\"app_name\":\"web\"}\n"
        );
        let own = "{\"message\":\"x\",\"app_name\":\"web\",\"partial\":true}";
        assert_eq!(
            line(&look, &source(Kind::Out, None), own.as_bytes()),
            format!("{own}\n")
        );
    }

    #[test]
    fn escapes_have_no_power() {
        for (text, colour, expected) in [
            (&b"\x1b[31mred\x1b[0m"[..], true, "\x1b[31mred\x1b[0m\x1b[0m"),
            (b"\x1b[31mred\x1b[0m", false, "red"),
            (
                b"\x1b[2J\x1b]0;t\x07\x1b[",
                true,
                "\\u{1b}[2J\\u{1b}]0;t\\u{7}\\u{1b}[",
            ),
            (b"a\tb\rc\r", true, "a\tb\\u{d}c"),
            (b"\x1b[38;5;1mx", true, "\x1b[38;5;1mx\x1b[0m"),
            ("\u{202e}x\u{9b}31m".as_bytes(), true, "\\u{202e}x\\u{9b}31m"),
        ] {
            assert_eq!(tame(text, colour), expected);
        }
    }
}
