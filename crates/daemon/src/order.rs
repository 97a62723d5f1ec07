//! In which order apps are started and stopped, by what they depend on.

use everup_api::{Error, ErrorCode};
use std::collections::{BTreeMap, BTreeSet};

/// An error if one of `names` needs an app that is not there, or waits for itself in the end.
pub(crate) fn check<'a>(
    known: &BTreeMap<String, Vec<String>>,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Error> {
    for name in names {
        let mut path = vec![name.to_owned()];
        let mut seen = BTreeSet::new();
        walk(known, name, &mut path, &mut seen)?;
    }
    Ok(())
}

fn walk(
    known: &BTreeMap<String, Vec<String>>,
    name: &str,
    path: &mut Vec<String>,
    seen: &mut BTreeSet<String>,
) -> Result<(), Error> {
    for needed in known.get(name).into_iter().flatten() {
        if path.contains(needed) {
            path.push(needed.clone());
            let error = Error::new(
                ErrorCode::InvalidValue,
                format!("apps wait for each other: {}", path.join(" → ")),
            );
            return Err(error.with_hint("take one of them out of `depends_on`"));
        }
        if !known.contains_key(needed) {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let error = Error::new(
                ErrorCode::UnknownApp,
                format!("`{name}` depends on `{needed}`, which is not there"),
            );
            return Err(match everup_api::nearest(needed, &names) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error.with_hint("start it first, or together with this one"),
            });
        }
        if seen.insert(needed.clone()) {
            path.push(needed.clone());
            walk(known, needed, path, seen)?;
            path.pop();
        }
    }
    Ok(())
}

/// Groups in which to stop: nobody is stopped before those who need it.
pub(crate) fn stops(apps: &BTreeMap<String, Vec<String>>) -> Vec<Vec<String>> {
    let mut left: BTreeMap<&String, BTreeSet<&String>> = apps
        .iter()
        .map(|(name, needs)| {
            (
                name,
                needs.iter().filter(|need| apps.contains_key(*need)).collect(),
            )
        })
        .collect();
    let mut groups = Vec::new();
    while !left.is_empty() {
        let needed: BTreeSet<&String> = left.values().flatten().copied().collect();
        let mut group: Vec<&String> = left
            .keys()
            .copied()
            .filter(|name| !needed.contains(name))
            .collect();
        if group.is_empty() {
            // They need each other: nothing is known of their order.
            group = left.keys().copied().collect();
        }
        for name in &group {
            left.remove(name);
        }
        groups.push(group.into_iter().cloned().collect());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps(text: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        text.iter()
            .map(|(name, needs)| ((*name).into(), needs.iter().map(|need| (*need).into()).collect()))
            .collect()
    }

    #[test]
    fn those_who_need_others_stop_first() {
        let all = apps(&[
            ("db", &[]),
            ("api", &["db"]),
            ("web", &["api", "cache"]),
            ("job", &[]),
        ]);
        assert_eq!(stops(&all), [vec!["job", "web"], vec!["api"], vec!["db"]]);
        let ring = apps(&[("a", &["b"]), ("b", &["a"])]);
        assert_eq!(stops(&ring), [vec!["a", "b"]]);
    }

    #[test]
    fn nobody_waits_for_himself() {
        let ring = apps(&[
            ("a", &["b"]),
            ("b", &["c"]),
            ("c", &["a"]),
            ("d", &["dc"]),
            ("e", &[]),
        ]);
        let error = check(&ring, ["a"].into_iter()).unwrap_err();
        assert_eq!(error.message, "apps wait for each other: a → b → c → a");
        let error = check(&ring, ["d"].into_iter()).unwrap_err();
        assert_eq!(error.message, "`d` depends on `dc`, which is not there");
        check(&ring, ["e"].into_iter()).unwrap();
    }
}
