//! Times in dayjs' notation, as pm2's `log_date_format` takes them. Pure.
//!
//! Follows dayjs 1.11 without plugins, in English, its quirks included: a run of letters that it cuts out and then does
//! not know (`Y`, `YYY`) becomes the zone without a colon, as `ZZ` does.

use jiff::Zoned;
use std::fmt::Write;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
/// What dayjs looks for: a letter, and how often in a row at most.
const RUNS: [(char, usize); 11] = [
    ('Y', 4),
    ('M', 4),
    ('D', 2),
    ('d', 4),
    ('H', 2),
    ('h', 2),
    ('a', 1),
    ('A', 1),
    ('m', 2),
    ('s', 2),
    ('Z', 2),
];

/// The time in this notation.
#[must_use]
pub fn format(pattern: &str, time: &Zoned) -> String {
    let mut text = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(quoted) = quoted(rest) {
            text.push_str(quoted);
            quoted.len() + 2
        } else {
            let length = token(rest, first);
            match length {
                0 => text.push(first),
                _ => replace(&rest[..length], time, &mut text),
            }
            length.max(first.len_utf8())
        };
        rest = &rest[length..];
    }
    text
}

/// `[text]` at the beginning.
fn quoted(rest: &str) -> Option<&str> {
    let (text, _) = rest.strip_prefix('[')?.split_once(']')?;
    (!text.is_empty()).then_some(text)
}

/// How long the token at the beginning is; 0 if there is none.
fn token(rest: &str, first: char) -> usize {
    if rest.starts_with("SSS") {
        return 3;
    }
    let most = RUNS
        .iter()
        .find(|(letter, _)| *letter == first)
        .map_or(0, |(_, most)| *most);
    rest.chars()
        .take(most)
        .take_while(|letter| *letter == first)
        .count()
}

fn replace(token: &str, time: &Zoned, text: &mut String) {
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let month = MONTHS[usize::from(time.month().unsigned_abs()) - 1];
    let day = time.weekday().to_sunday_zero_offset();
    let weekday = WEEKDAYS[usize::from(day.unsigned_abs())];
    let noon = if time.hour() < 12 { "AM" } else { "PM" };
    let done = match token {
        "YY" => write!(text, "{:02}", time.year() % 100),
        "YYYY" => write!(text, "{:04}", time.year()),
        "M" => write!(text, "{}", time.month()),
        "MM" => write!(text, "{:02}", time.month()),
        "MMM" => write!(text, "{}", &month[..3]),
        "MMMM" => write!(text, "{month}"),
        "D" => write!(text, "{}", time.day()),
        "DD" => write!(text, "{:02}", time.day()),
        "d" => write!(text, "{day}"),
        "dd" => write!(text, "{}", &weekday[..2]),
        "ddd" => write!(text, "{}", &weekday[..3]),
        "dddd" => write!(text, "{weekday}"),
        "H" => write!(text, "{}", time.hour()),
        "HH" => write!(text, "{:02}", time.hour()),
        "h" => write!(text, "{hour12}"),
        "hh" => write!(text, "{hour12:02}"),
        "a" => write!(text, "{}", noon.to_lowercase()),
        "A" => write!(text, "{noon}"),
        "m" => write!(text, "{}", time.minute()),
        "mm" => write!(text, "{:02}", time.minute()),
        "s" => write!(text, "{}", time.second()),
        "ss" => write!(text, "{:02}", time.second()),
        "SSS" => write!(text, "{:03}", time.millisecond()),
        "Z" => zone(time, ":", text),
        _ => zone(time, "", text),
    };
    // Writing to a string cannot fail.
    done.unwrap_or_default();
}

/// `+02:00`, rounded to a quarter of an hour as dayjs does.
fn zone(time: &Zoned, between: &str, text: &mut String) -> std::fmt::Result {
    let seconds = time.offset().seconds();
    // JavaScript rounds halves up, of the negated offset in minutes.
    let minutes = -((-seconds).div_euclid(60) * 2 + 15).div_euclid(30) * 15;
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.abs();
    write!(text, "{sign}{:02}{between}{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::format;
    use jiff::{Timestamp, tz::TimeZone};

    fn at(milliseconds: i64, zone: &str) -> jiff::Zoned {
        Timestamp::from_millisecond(milliseconds)
            .unwrap()
            .to_zoned(TimeZone::get(zone).unwrap())
    }

    /// What dayjs 1.11.15 printed; `dayjs_itself_agrees` compares with what is installed, if it is.
    #[test]
    fn as_dayjs_prints_it() {
        for (pattern, zone, milliseconds, expected) in [
            (
                "YYYY-MM-DDTHH:mm:ss",
                "UTC",
                1_700_000_000_123,
                "2023-11-14T22:13:20",
            ),
            (
                "YYYY-MM-DD HH:mm:ss.SSS Z",
                "Europe/Berlin",
                1_700_000_000_123,
                "2023-11-14 23:13:20.123 +01:00",
            ),
            (
                "ddd, D MMM YY h:m:s a [at] A ZZ",
                "Asia/Kolkata",
                1_700_000_000_123,
                "Wed, 15 Nov 23 3:43:20 am at AM +0530",
            ),
            (
                "dddd dd d MMMM M H hh",
                "America/St_Johns",
                0,
                "Wednesday We 3 December 12 20 08",
            ),
            ("[Y] Y [] S [x", "UTC", 0, "Y +0000 [] S [x"),
            ("ééYYYYé", "UTC", 0, "éé1970é"),
            ("", "UTC", 0, ""),
        ] {
            assert_eq!(format(pattern, &at(milliseconds, zone)), expected, "{pattern}");
        }
    }

    #[test]
    fn dayjs_itself_agrees() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/node_modules/dayjs");
        let patterns = [
            "YYYY-MM-DD HH:mm:ss Z",
            "YYYYYY YYY YY Y",
            "MMMMM MMM MM M",
            "DDD DD D",
            "ddddd dddd ddd dd d",
            "HHH HH H hhh hh h",
            "aA aa AA",
            "mmm mm m sss ss s",
            "SSSS SSS SS S",
            "ZZZ ZZ Z",
            "[[] []] [a]b] Q x",
        ];
        let zones = [
            "UTC",
            "Europe/Berlin",
            "America/St_Johns",
            "Asia/Kathmandu",
            "Pacific/Apia",
        ];
        let times = [0_i64, 1_700_000_000_123, 951_782_399_999, 1_711_846_800_000];
        for zone in zones {
            let script = format!(
                "const d=require({root:?}); for (const p of {patterns:?}) for (const t of {times:?}) console.log(d(t).format(p))"
            );
            let Ok(node) = std::process::Command::new("node")
                .args(["-e", &script])
                .env("TZ", zone)
                .output()
            else {
                return;
            };
            if !node.status.success() {
                return;
            }
            let mut lines = std::str::from_utf8(&node.stdout).unwrap().lines();
            for pattern in patterns {
                for time in times {
                    assert_eq!(
                        format(pattern, &at(time, zone)),
                        lines.next().unwrap(),
                        "{pattern} {time} {zone}"
                    );
                }
            }
        }
    }
}
