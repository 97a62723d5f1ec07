//! How many workers `--instances` means.

use everup::MAX_WORKERS;
use everup::cpus::Cpus;

/// Why a text is no worker count.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InstancesError {
    #[error("not a number")]
    NotANumber,
    #[error("more than {MAX_WORKERS} workers")]
    TooMany,
}

impl InstancesError {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotANumber => "give a count such as 4, `max` (one per CPU) or -1 (one fewer than CPUs)",
            Self::TooMany => "`max` starts one per CPU; more rarely helps",
        }
    }
}

/// How many workers `text` means.
pub(crate) fn instances(text: &str, cpus: Cpus) -> Result<u32, InstancesError> {
    if text == "max" {
        return Ok(cpus.usable.min(MAX_WORKERS));
    }
    let (minus, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InstancesError::NotANumber);
    }
    let number: u32 = digits.parse().unwrap_or(u32::MAX);
    match number {
        0 => Ok(cpus.usable.min(MAX_WORKERS)),
        _ if minus => Ok(cpus.usable.saturating_sub(number).clamp(1, MAX_WORKERS)),
        _ if number > MAX_WORKERS => Err(InstancesError::TooMany),
        _ => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (text, on, expected) in [
            ("1", 4, Ok(1)),
            ("9", 4, Ok(9)),
            ("max", 4, Ok(4)),
            ("0", 4, Ok(4)),
            ("-0", 4, Ok(4)),
            ("-1", 4, Ok(3)),
            ("-1", 1, Ok(1)),
            ("-9", 4, Ok(1)),
            ("1024", 4, Ok(1024)),
            ("1025", 4, Err(InstancesError::TooMany)),
            ("99999999999999", 4, Err(InstancesError::TooMany)),
            ("abc", 4, Err(InstancesError::NotANumber)),
            ("", 4, Err(InstancesError::NotANumber)),
            ("-", 4, Err(InstancesError::NotANumber)),
            ("+1", 4, Err(InstancesError::NotANumber)),
            ("1.5", 4, Err(InstancesError::NotANumber)),
        ] {
            assert_eq!(instances(text, Cpus::of(on, None)), expected, "{text} on {on}");
        }
    }
}
