//! Which part of a file is sent, if any: ranges and validators (RFC 9110, 13 and 14). Pure.

use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A state of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) length: u64,
    /// Weak: a file that is written twice within the clock's resolution may have the same.
    pub(super) etag: String,
    /// In HTTP's form, if it is a time that has one.
    pub(super) modified: Option<String>,
    seconds: i64,
}

impl Version {
    pub(super) fn new(length: u64, modified: SystemTime) -> Self {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
        let printed = Timestamp::from_second(seconds)
            .ok()
            .and_then(|time| DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok());
        Self {
            length,
            etag: format!("W/\"{length:x}-{:x}\"", since.as_nanos()),
            modified: printed,
            seconds,
        }
    }
}

/// What the request says about it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes<'a> {
    pub(super) if_none_match: Option<&'a str>,
    pub(super) if_modified_since: Option<&'a str>,
    pub(super) if_range: Option<&'a str>,
    pub(super) range: Option<&'a str>,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    Whole,
    /// From, and how many bytes.
    Part(u64, u64),
    NotModified,
    OutOfRange,
}

pub(super) fn select(version: &Version, wishes: Wishes<'_>) -> Selection {
    let known = match wishes.if_none_match {
        Some(tags) => tags.split(',').any(|tag| weak(tag, &version.etag)),
        None => wishes
            .if_modified_since
            .and_then(seconds)
            .is_some_and(|since| version.seconds <= since),
    };
    if known {
        return Selection::NotModified;
    }
    // A weak validator must not be used here: only a date can match.
    let same = wishes
        .if_range
        .is_none_or(|date| version.modified.as_deref() == Some(date));
    match wishes.range.filter(|_| same) {
        Some(range) => part(range, version.length),
        None => Selection::Whole,
    }
}

fn weak(tag: &str, ours: &str) -> bool {
    let tag = tag.trim();
    tag == "*" || tag.trim_start_matches("W/") == ours.trim_start_matches("W/")
}

fn seconds(date: &str) -> Option<i64> {
    DateTimeParser::new()
        .parse_timestamp(date)
        .ok()
        .map(Timestamp::as_second)
}

/// One range. Several, and what is no range, are as if nothing was said.
fn part(range: &str, length: u64) -> Selection {
    let Some((from, to)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Selection::Whole;
    };
    match (number(from), number(to)) {
        (Some(Some(from)), Some(to)) if from < length => {
            let last = to.unwrap_or(u64::MAX).min(length - 1);
            if last < from {
                Selection::Whole
            } else {
                Selection::Part(from, last - from + 1)
            }
        }
        (Some(Some(from)), Some(to)) if to.is_none_or(|to| from <= to) => Selection::OutOfRange,
        (Some(None), Some(Some(0))) => Selection::OutOfRange,
        (Some(None), Some(Some(last))) if length > 0 => {
            Selection::Part(length.saturating_sub(last), last.min(length))
        }
        (Some(None), Some(Some(_))) => Selection::OutOfRange,
        _ => Selection::Whole,
    }
}

/// `Some(None)` for nothing, `None` for what is no number.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> Version {
        Version::new(100, UNIX_EPOCH + Duration::from_millis(784_111_777_500))
    }

    #[test]
    fn a_version_has_names() {
        assert_eq!(version().modified.unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(version().etag.starts_with("W/\"64-"));
        assert_ne!(version().etag, Version::new(100, UNIX_EPOCH).etag);
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-9", Selection::Part(0, 10)),
            ("bytes=90-", Selection::Part(90, 10)),
            ("bytes=90-1000", Selection::Part(90, 10)),
            ("bytes=-5", Selection::Part(95, 5)),
            ("bytes=-500", Selection::Part(0, 100)),
            ("bytes=99-99", Selection::Part(99, 1)),
            ("bytes=100-", Selection::OutOfRange),
            ("bytes=99999999999999999999999-", Selection::OutOfRange),
            ("bytes=-0", Selection::OutOfRange),
            ("bytes=9-5", Selection::Whole),
            ("bytes=0-1,5-6", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("lines=1-2", Selection::Whole),
        ] {
            let wishes = Wishes {
                range: Some(range),
                ..Wishes::default()
            };
            assert_eq!(select(&version(), wishes), expected, "{range}");
        }
        let empty = Version::new(0, UNIX_EPOCH);
        for range in ["bytes=0-", "bytes=-5"] {
            let wishes = Wishes {
                range: Some(range),
                ..Wishes::default()
            };
            assert_eq!(select(&empty, wishes), Selection::OutOfRange);
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let version = version();
        let etags = format!("\"x\", {}", version.etag);
        let strong = version.etag.trim_start_matches("W/").to_owned();
        for tag in [&*etags, &*strong, "*"] {
            let wishes = Wishes {
                if_none_match: Some(tag),
                ..Wishes::default()
            };
            assert_eq!(select(&version, wishes), Selection::NotModified);
        }
        let since = |date| Wishes {
            if_modified_since: Some(date),
            ..Wishes::default()
        };
        assert_eq!(
            select(&version, since("Sun, 06 Nov 1994 08:49:37 GMT")),
            Selection::NotModified
        );
        assert_eq!(
            select(&version, since("Sun, 06 Nov 1994 08:49:36 GMT")),
            Selection::Whole
        );
        assert_eq!(select(&version, since("yesterday")), Selection::Whole);
        // The tag counts, and not the date.
        let both = Wishes {
            if_none_match: Some("\"x\""),
            ..since("Sun, 06 Nov 1994 08:49:37 GMT")
        };
        assert_eq!(select(&version, both), Selection::Whole);
    }

    #[test]
    fn a_part_of_another_version_is_of_no_use() {
        let version = version();
        let wish = |if_range| Wishes {
            range: Some("bytes=0-9"),
            if_range: Some(if_range),
            ..Wishes::default()
        };
        assert_eq!(
            select(&version, wish("Sun, 06 Nov 1994 08:49:37 GMT")),
            Selection::Part(0, 10)
        );
        assert_eq!(
            select(&version, wish("Sun, 06 Nov 1994 08:49:30 GMT")),
            Selection::Whole
        );
        assert_eq!(select(&version, wish(&version.etag.clone())), Selection::Whole);
    }
}
