//! Whom a target means, in pm2's order: `all`, `/regex/` on names, a name, a namespace, an id.

use everup_api::{Error, ErrorCode};

/// An app, as far as targets go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// The path of its script: pm2 takes it for a name.
    pub(crate) script: Option<&'a str>,
    pub(crate) ids: &'a [u32],
}

/// What was meant: an app (by its place in the list), and one of its instances if an id was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meant {
    pub(crate) app: usize,
    pub(crate) id: Option<u32>,
}

/// Targets that are nobody's, and what is said of each.
pub(crate) type Missing = Vec<(String, Error)>;

/// Whom all the targets mean, each app once, in the order of the list; and which mean nobody. If none means anybody, that
/// is an error.
pub(crate) fn meant(apps: &[Named<'_>], targets: &[String]) -> Result<(Vec<Meant>, Missing), Error> {
    let mut found: Vec<Meant> = Vec::new();
    let mut missing = Missing::new();
    for target in targets {
        let those = match one(apps, target) {
            Err(error) if error.code == ErrorCode::UnknownApp => {
                missing.push((target.clone(), error));
                continue;
            }
            those => those?,
        };
        for new in those {
            match found.iter_mut().find(|known| {
                known.app == new.app && (known.id.is_none() || new.id.is_none() || known.id == new.id)
            }) {
                // All of it is more than one of it.
                Some(known) => known.id = known.id.and(new.id),
                None => found.push(new),
            }
        }
    }
    if found.is_empty() && !missing.is_empty() {
        return Err(missing.swap_remove(0).1);
    }
    found.sort_by_key(|meant| (meant.app, meant.id));
    Ok((found, missing))
}

fn one(apps: &[Named<'_>], target: &str) -> Result<Vec<Meant>, Error> {
    let whole = |test: &dyn Fn(&Named<'_>) -> bool| -> Vec<Meant> {
        let chosen = apps.iter().enumerate().filter(|(_, app)| test(app));
        chosen.map(|(app, _)| Meant { app, id: None }).collect()
    };
    if target == "all" {
        return Ok(whole(&|_| true));
    }
    if let Some(pattern) = target.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'))
        && !pattern.is_empty()
        && !apps.iter().any(|app| app.script == Some(target))
    {
        let pattern = regex_lite::Regex::new(pattern).map_err(|error| {
            Error::new(
                ErrorCode::InvalidValue,
                format!("`{target}` is no regular expression: {error}"),
            )
        })?;
        return some(whole(&|app| pattern.is_match(app.name)), apps, target);
    }
    let by_name = whole(&|app| app.name == target || app.script == Some(target));
    if !by_name.is_empty() {
        return Ok(by_name);
    }
    let by_namespace = whole(&|app| app.namespace == target);
    if !by_namespace.is_empty() {
        return Ok(by_namespace);
    }
    let id: Option<u32> = target.parse().ok();
    let place = id.and_then(|id| apps.iter().position(|app| app.ids.contains(&id)));
    let by_id = place.map(|app| Meant {
        app,
        // The only one is the app.
        id: id.filter(|_| apps[app].ids.len() > 1),
    });
    some(by_id.into_iter().collect(), apps, target)
}

fn some(found: Vec<Meant>, apps: &[Named<'_>], target: &str) -> Result<Vec<Meant>, Error> {
    if found.is_empty() {
        return Err(unknown(apps, target));
    }
    Ok(found)
}

fn unknown(apps: &[Named<'_>], target: &str) -> Error {
    let error = Error::new(
        ErrorCode::UnknownApp,
        format!("there is no app, namespace or id `{target}`"),
    );
    let names = apps.iter().flat_map(|app| [app.name, app.namespace]);
    let names: Vec<&str> = names.collect();
    match everup_api::nearest(target, &names) {
        Some(name) => error.with_hint(format!("did you mean `{name}`?")),
        None if apps.is_empty() => error.with_hint("no app is there; `everup start SCRIPT` makes one"),
        None => error.with_hint("`everup list` shows what is there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPS: [Named<'static>; 4] = [
        Named {
            name: "web",
            namespace: "shop",
            script: Some("/srv/web.js"),
            ids: &[0, 1],
        },
        Named {
            name: "api",
            namespace: "shop",
            script: None,
            ids: &[2],
        },
        Named {
            name: "3",
            namespace: "default",
            script: None,
            ids: &[4],
        },
        Named {
            name: "shop",
            namespace: "default",
            script: None,
            ids: &[3],
        },
    ];

    fn names(targets: &[&str]) -> Vec<(&'static str, Option<u32>)> {
        let targets: Vec<String> = targets.iter().map(|text| (*text).into()).collect();
        let (found, missing) = meant(&APPS, &targets).unwrap();
        assert!(missing.is_empty());
        found
            .iter()
            .map(|meant| (APPS[meant.app].name, meant.id))
            .collect()
    }

    #[test]
    fn the_order_of_pm2() {
        assert_eq!(names(&["all"]).len(), 4);
        assert_eq!(names(&["/^w/"]), [("web", None)]);
        assert_eq!(names(&["/srv/web.js"]), [("web", None)]);
        // A name before a namespace, and both before an id.
        assert_eq!(names(&["shop"]), [("shop", None)]);
        assert_eq!(names(&["3"]), [("3", None)]);
        assert_eq!(names(&["default"]), [("3", None), ("shop", None)]);
        assert_eq!(names(&["2"]), [("api", None)]);
        assert_eq!(names(&["1"]), [("web", Some(1))]);
    }

    #[test]
    fn each_once() {
        assert_eq!(names(&["web", "1", "api", "web"]), [("web", None), ("api", None)]);
        assert_eq!(names(&["1", "0"]), [("web", Some(0)), ("web", Some(1))]);
    }

    #[test]
    fn what_is_not_there() {
        for (target, hint) in [
            ("wep", "did you mean `web`?"),
            ("zzz", "`everup list` shows what is there"),
        ] {
            let error = meant(&APPS, &[target.into()]).unwrap_err();
            assert_eq!(error.code, ErrorCode::UnknownApp);
            assert_eq!(error.hint.as_deref(), Some(hint));
        }
        assert_eq!(
            meant(&APPS, &["/(/".into()]).unwrap_err().code,
            ErrorCode::InvalidValue
        );
        assert_eq!(meant(&[], &["all".into()]).unwrap().0, []);
        let (found, missing) = meant(&APPS, &["zzz".into(), "api".into()]).unwrap();
        assert_eq!(found, [Meant { app: 1, id: None }]);
        assert_eq!(missing[0].0, "zzz");
    }
}
