//! Sizes as people write them: `300M`, `1.5G`, `512K`, `1073741824`; 1024 to the step, as pm2 does.

/// Why a text is no size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size")]
pub(crate) struct SizeError;

impl SizeError {
    pub(crate) const HINT: &'static str = "write bytes, or a number with K, M or G: 300M, 1.5G";
}

/// Reads a size in bytes.
pub(crate) fn parse(text: &str) -> Result<u64, SizeError> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(SizeError),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| SizeError)?;
    if fraction.is_empty() || fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SizeError);
    }
    let scale = 10u64.pow(u32::try_from(fraction.len()).map_err(|_| SizeError)?);
    let part: u64 = fraction.parse().map_err(|_| SizeError)?;
    let bytes = whole
        .checked_mul(1 << shift)
        .and_then(|bytes| bytes.checked_add((part << shift) / scale));
    bytes.ok_or(SizeError)
}

/// A size for people.
#[cfg(test)]
pub(crate) fn show(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, name)) => format!("{}.{} {name}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_pm2_and_others() {
        let good = [
            ("300M", 300 << 20),
            ("1G", 1 << 30),
            ("1.5g", 3 << 29),
            ("512k", 512 << 10),
            ("1024", 1024),
            ("2MiB", 2 << 20),
            ("0", 0),
        ];
        for (text, bytes) in good {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "1X",
            "1.",
            ".5G",
            "1.2.3M",
            "99999999999999999999",
            "99999999999T",
        ] {
            assert_eq!(parse(text), Err(SizeError), "{text}");
        }
        assert_eq!(show(300 << 20), "300.0 MiB");
        assert_eq!(show(1000), "1000 B");
    }
}
