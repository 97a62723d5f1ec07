//! Amounts for people.

use crate::duration::show;
use std::time::Duration;

/// `2 h 3 min`.
pub(crate) fn millis(millis: u64) -> String {
    const DAY: u64 = 86_400_000;
    match millis / DAY {
        0 | 1 => show(Duration::from_millis(millis)),
        days => format!("{days} d {} h", millis % DAY / 3_600_000),
    }
}

/// `70.0 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let fits = |(_, shift): &&(&str, u32)| bytes >> shift > 0;
    let (unit, shift) = UNITS.iter().find(fits).unwrap_or(&("B", 0));
    match shift {
        0 => format!("{bytes} {unit}"),
        _ => format!(
            "{}.{} {unit}",
            bytes >> shift,
            (bytes >> (shift - 10) & 1023) * 10 / 1024
        ),
    }
}

/// `1 worker`, `2 workers`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// `0-3`, `0,2,5`: numbers in order.
pub(crate) fn ranges(numbers: impl IntoIterator<Item = u32>) -> String {
    let mut numbers: Vec<u32> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let part = |(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (number, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (73_400_320, "70.0 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        assert_eq!(millis(59_999), "59.9 s");
        assert_eq!(millis(90_000_000), "25 h 0 min");
        assert_eq!(millis(180_000_000), "2 d 2 h");
        assert_eq!(count(1, "app"), "1 app");
        assert_eq!(count(0, "app"), "0 apps");
    }

    #[test]
    fn numbers_in_a_row() {
        for (numbers, expected) in [
            (&[][..], ""),
            (&[3], "3"),
            (&[1, 0], "0,1"),
            (&[0, 1, 2, 3], "0-3"),
            (&[7, 2, 3, 4, 9, 8, 0], "0,2-4,7-9"),
        ] {
            assert_eq!(ranges(numbers.iter().copied()), expected);
        }
    }
}
