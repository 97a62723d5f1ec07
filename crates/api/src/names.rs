//! Names that were meant: the nearest of those that exist.

/// The name that is most like `wanted`, if one is like it at all.
#[must_use]
pub fn nearest<'a>(wanted: &str, names: &[&'a str]) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    let ranked = names
        .iter()
        .map(|name| (distance(&wanted, &name.to_lowercase()), *name));
    let best = ranked.min()?;
    (best.0 <= limit).then_some(best.1)
}

/// Edits (insert, delete, replace, swap two neighbours) from one text to the other; a long text is far from everything.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(40).collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let names = ["status", "stop", "scale", "signal", "reload", "WEB"];
        for (wanted, expected) in [
            ("statsu", Some("status")),
            ("STATUS", Some("status")),
            ("relaod", Some("reload")),
            ("stops", Some("stop")),
            ("satus", Some("status")),
            ("webb", Some("WEB")),
            ("explode", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, &names), expected, "{wanted}");
        }
        assert_eq!(nearest("wbe", &["web", "api"]), Some("web"));
        assert_eq!(nearest(&"x".repeat(60_000), &names), None);
    }
}
