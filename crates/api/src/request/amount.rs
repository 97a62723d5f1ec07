//! How many workers: `4`, `+1`, `-2`.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How many workers there shall be, or how many more or fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// This many.
    To(u32),
    /// This many more.
    More(u32),
    /// This many fewer.
    Fewer(u32),
}

impl Amount {
    /// How many there shall be when `now` are there: never fewer than none.
    #[must_use]
    pub fn of(self, now: u32) -> u32 {
        match self {
            Self::To(number) => number,
            Self::More(number) => now.saturating_add(number),
            Self::Fewer(number) => now.saturating_sub(number),
        }
    }
}

/// The text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmountError;

impl AmountError {
    /// What to write.
    pub const HINT: &'static str = "give a number, +N or -N";
}

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a number of workers")
    }
}

impl std::error::Error for AmountError {}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (kind, digits): (fn(u32) -> Self, &str) = match text.as_bytes().first() {
            Some(b'+') => (Self::More, &text[1..]),
            Some(b'-') => (Self::Fewer, &text[1..]),
            _ => (Self::To, text),
        };
        // `u32` would take a second sign.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AmountError);
        }
        digits.parse().map(kind).map_err(|_| AmountError)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(number) => write!(f, "{number}"),
            Self::More(number) => write!(f, "+{number}"),
            Self::Fewer(number) => write!(f, "-{number}"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, expected, of_three) in [
            ("4", Some(Amount::To(4)), 4),
            ("0", Some(Amount::To(0)), 0),
            ("+1", Some(Amount::More(1)), 4),
            ("-2", Some(Amount::Fewer(2)), 1),
            ("-9", Some(Amount::Fewer(9)), 0),
            ("+4294967295", Some(Amount::More(u32::MAX)), u32::MAX),
            ("++1", None, 3),
            ("", None, 3),
            ("+", None, 3),
            (" 4", None, 3),
            ("4294967296", None, 3),
            ("é", None, 3),
        ] {
            let amount = text.parse::<Amount>().ok();
            assert_eq!(amount, expected, "{text}");
            assert_eq!(amount.map_or(3, |amount| amount.of(3)), of_three, "{text}");
            assert!(amount.is_none_or(|amount| amount.to_string() == text));
        }
    }
}
