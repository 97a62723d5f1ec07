//! Sizes as people write them: `512M`, `1.5G`, `1048576`; units are powers of 1024, as in pm2 and systemd.

/// Bytes; `None` if it is no size.
pub(super) fn parse(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let parts: u64 = fraction.parse().ok()?;
    let scale = 10u64.pow(u32::try_from(fraction.len()).ok()?);
    let rest = u64::try_from(u128::from(parts) * u128::from(factor) / u128::from(scale)).ok()?;
    whole.checked_mul(factor)?.checked_add(rest)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1048576", Some(1 << 20)),
            ("512M", Some(512 << 20)),
            ("300m", Some(300 << 20)),
            ("1.5G", Some(3 << 29)),
            ("2GiB", Some(2 << 30)),
            ("0", Some(0)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.", None),
            ("1.2.3M", None),
            ("1X", None),
            ("1 M", None),
            ("99999999999T", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
