//! How a worker's bytes look in a file: as they are, with a date before each line, or as JSON. Pure.
//!
//! Invariant: what is written depends on the bytes, the style and the time only, so a successor that finds half a write
//! can make the other half.

use super::dayjs;
use jiff::{Timestamp, Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// As they are.
    Raw,
    /// Each line after the date in this notation, and `: `.
    Dated(String),
    /// An object per line; the date is in this notation, else RFC 3339.
    Json(Option<String>),
}

/// Who wrote it: for JSON.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The app.
    pub app: &'a str,
    /// pm2's id.
    pub id: u32,
    /// `out` or `err`.
    pub stream: &'static str,
}

impl Style {
    /// What an app asks for by `log_date_format` and `log_type`.
    #[must_use]
    pub fn of(date_format: Option<&str>, log_type: Option<&str>) -> Self {
        let date = date_format.filter(|format| !format.is_empty()).map(str::to_owned);
        match (log_type, date) {
            (Some("json"), date) => Self::Json(date),
            (_, Some(date)) => Self::Dated(date),
            (_, None) => Self::Raw,
        }
    }

    /// How many of the bytes can be written now: all, or those up to the last end of a line. `complete` says that no
    /// more can come for the last line: the stream has ended, or the line is as long as it may be.
    #[must_use]
    pub fn take(&self, bytes: &[u8], complete: bool) -> usize {
        match self {
            Self::Raw => bytes.len(),
            Self::Dated(_) | Self::Json(_) if complete => bytes.len(),
            Self::Dated(_) | Self::Json(_) => bytes
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1),
        }
    }

    /// What is written for these bytes at this time (milliseconds since 1970). A piece of a line that has no end gets
    /// one, so that nobody else's line can begin in it.
    #[must_use]
    pub fn render(&self, bytes: &[u8], writer: Writer<'_>, at: i64, zone: &TimeZone) -> Vec<u8> {
        let time = Timestamp::from_millisecond(at)
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_zoned(zone.clone());
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        match self {
            Self::Raw => bytes.to_vec(),
            Self::Dated(format) => {
                let date = dayjs::format(format, &time);
                let mut text = Vec::with_capacity(bytes.len() + 64);
                for line in lines {
                    text.extend_from_slice(date.as_bytes());
                    text.extend_from_slice(b": ");
                    text.extend_from_slice(line);
                    if !line.ends_with(b"\n") {
                        text.push(b'\n');
                    }
                }
                text
            }
            Self::Json(format) => {
                let date = match format {
                    Some(format) => dayjs::format(format, &time),
                    None => rfc3339(&time),
                };
                let mut text = String::with_capacity(bytes.len() + 128);
                lines.for_each(|line| object(line, &date, writer, &mut text));
                text.into_bytes()
            }
        }
    }
}

/// As `Date.prototype.toISOString` writes it.
fn rfc3339(time: &Zoned) -> String {
    format!("{:.3}", time.timestamp())
}

/// pm2's keys; `partial` if the line goes on in the next object, or has no end.
fn object(line: &[u8], date: &str, writer: Writer<'_>, text: &mut String) {
    let whole = line.strip_suffix(b"\n");
    let message = String::from_utf8_lossy(whole.unwrap_or(line));
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    // Writing to a string cannot fail.
    writeln!(
        text,
        r#"{{"message":{},"timestamp":{},"type":"{}","process_id":{},"app_name":{}{}}}"#,
        quoted(&message),
        quoted(date),
        writer.stream,
        writer.id,
        quoted(writer.app),
        if whole.is_some() { "" } else { r#","partial":true"# }
    )
    .unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WRITER: Writer<'static> = Writer {
        app: "a\"b",
        id: 3,
        stream: "out",
    };

    fn render(style: &Style, bytes: &[u8]) -> String {
        String::from_utf8(style.render(bytes, WRITER, 0, &TimeZone::UTC)).unwrap()
    }

    #[test]
    fn raw_is_raw() {
        assert_eq!(Style::Raw.take(b"a\nb", false), 3);
        assert_eq!(render(&Style::Raw, b"a\nb"), "a\nb");
    }

    #[test]
    fn lines_are_dated() {
        let style = Style::of(Some("YYYY"), None);
        assert_eq!(style.take(b"a\nb", false), 2);
        assert_eq!(style.take(b"ab", false), 0);
        assert_eq!(style.take(b"a\nb", true), 3);
        assert_eq!(render(&style, b"a\n\nb"), "1970: a\n1970: \n1970: b\n");
    }

    #[test]
    fn json_is_pm2s() {
        let style = Style::of(None, Some("json"));
        assert_eq!(
            render(&style, b"x\"\x1b\n\xffy"),
            "{\"message\":\"x\\\"\\u001b\",\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"type\":\"out\",\"process_id\":3,\"app_name\":\"a\\\"b\"}\n\
             {\"message\":\"\u{fffd}y\",\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"type\":\"out\",\"process_id\":3,\"app_name\":\"a\\\"b\",\"partial\":true}\n"
        );
        assert_eq!(
            Style::of(Some("YY"), Some("json")),
            Style::Json(Some("YY".into()))
        );
    }

    proptest! {
        /// However the bytes come, each line is there once, in order.
        #[test]
        fn nothing_is_lost_between_pieces(text in "[ab\n]{0,60}", cuts in proptest::collection::vec(0..20_usize, 0..10)) {
            let style = Style::of(Some("YYYY"), None);
            let (mut waiting, mut written) = (Vec::new(), String::new());
            let mut rest = text.as_bytes();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, next) = rest.split_at(cut.min(rest.len()));
                waiting.extend_from_slice(piece);
                rest = next;
                let taken = style.take(&waiting, cut == usize::MAX);
                written.push_str(&render(&style, &waiting[..taken]));
                waiting.drain(..taken);
            }
            let expected: String = text.lines().map(|line| format!("1970: {line}\n")).collect();
            prop_assert_eq!(written, expected);
        }
    }
}
