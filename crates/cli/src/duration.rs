//! Durations as people write them: `1500` (milliseconds, as in pm2), `500ms`, `5s`, `1.5s`, `1m`, `2h`; and back.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("not a duration")]
    Malformed,
    #[error("longer than a year")]
    TooLong,
}

impl DurationError {
    pub(crate) const HINT: &'static str =
        "write milliseconds (1500) or a number with a unit: 500ms, 5s, 1m, 1h";
}

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("", 1)];
const YEAR: u64 = 365 * 24 * 3_600_000;

/// Reads a duration; a bare number is milliseconds.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationError::Malformed)?;
    let (whole, fraction) = number
        .split_once('.')
        .map_or((number, None), |(w, f)| (w, Some(f)));
    if whole.is_empty() || fraction.is_some_and(|f| f.is_empty() || f.contains('.')) {
        return Err(DurationError::Malformed);
    }
    let whole: u64 = whole.parse().map_err(|_| DurationError::TooLong)?;
    let mut millis = whole.checked_mul(*factor).ok_or(DurationError::TooLong)?;
    if let Some(fraction) = fraction {
        millis = millis.saturating_add(fraction_of(fraction, *factor));
    }
    if millis > YEAR {
        Err(DurationError::TooLong)
    } else {
        Ok(Duration::from_millis(millis))
    }
}

/// `factor` times `0.<digits>`, rounded down; digits after the ninth do not count.
fn fraction_of(digits: &str, factor: u64) -> u64 {
    let mut parts = 0;
    let mut scale = 1;
    for digit in digits.bytes().take(9) {
        parts = parts * 10 + u64::from(digit - b'0');
        scale *= 10;
    }
    parts * factor / scale
}

/// For people: `340 ms`, `3.2 s`, `4 min 5 s`, `2 h 3 min`.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// Whole milliseconds, for JSON.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for (text, expected) in [
            ("0", 0),
            ("1500", 1500),
            ("500ms", 500),
            ("5s", 5_000),
            ("1.5s", 1_500),
            ("1m", 60_000),
            ("0.5m", 30_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(expected)), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in ["", "s", "-1", "5 s", "5x", "1.2.3s", "1.s", ".5s", "five", "5S"] {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text}");
        }
        for text in ["99999999999999999999", "9000h", "18446744073709551615h"] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text}");
        }
    }

    #[test]
    fn shown() {
        for (millis, expected) in [
            (0, "0 ms"),
            (340, "340 ms"),
            (3_290, "3.2 s"),
            (245_000, "4 min 5 s"),
            (7_380_000, "2 h 3 min"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), expected);
        }
    }
}
