//! The apps of a file, or of several, as one list: names are unique, and only those that were asked for are left.

use crate::Options;
use crate::app::{Built, Report, names};
use crate::finding::{Finding, Source};
use everup_api::AppSpec;

/// An app with the file that it is from.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) built: Built,
    pub(crate) source: std::sync::Arc<Source>,
    /// Whether a second app of its name is an error, and not renamed.
    pub(crate) strict: bool,
}

/// Makes the list; adds what is wrong to the report.
pub(crate) fn finish(mut items: Vec<Item>, options: &Options, report: &mut Report) -> Vec<AppSpec> {
    let wanted = names(&options.only);
    missing(&items, &wanted, report);
    let is_wanted = |item: &Item| {
        let (plain, full) = (&item.built.plain_name, &item.built.spec.name);
        wanted.is_empty() || wanted.iter().any(|name| name == plain || name == full)
    };
    items.retain(is_wanted);
    environment(options, items.first(), report);
    let mut apps: Vec<AppSpec> = Vec::new();
    for item in items {
        let mut spec = item.built.spec.clone();
        if apps.iter().any(|app| app.name == spec.name) {
            rename(&item, &mut spec, &apps, report);
        }
        apps.push(spec);
    }
    apps
}

/// Names of `--only` that are no app.
fn missing(items: &[Item], wanted: &[String], report: &mut Report) {
    let Some(first) = items.first() else { return };
    let all: Vec<&str> = items
        .iter()
        .flat_map(|item| [item.built.plain_name.as_str(), item.built.spec.name.as_str()])
        .collect();
    for name in wanted.iter().filter(|name| !all.contains(&name.as_str())) {
        let mut finding = first.source.finding(None, format!("there is no app `{name}`"));
        let nearest = everup_api::names::nearest(name, &all);
        finding.hint = nearest.map(|nearest| format!("did you mean `{nearest}`?"));
        report.errors.push(finding);
    }
}

/// `--env NAME` without `env_NAME`: as in pm2 no error.
fn environment(options: &Options, first: Option<&Item>, report: &mut Report) {
    let (Some(name), Some(first)) = (&options.env_name, first) else {
        return;
    };
    let without = std::mem::take(&mut report.without_env);
    if without.is_empty() {
        return;
    }
    let message = format!(
        "there is no `env_{name}` in {}: only `env` counts",
        listed(&without)
    );
    let mut finding: Finding = first.source.finding(None, message);
    let known: Vec<&str> = report.env_names.iter().map(String::as_str).collect();
    let nearest = everup_api::names::nearest(name, &known).filter(|nearest| nearest != name);
    finding.hint = nearest.map(|nearest| format!("did you mean --env {nearest}?"));
    report.warnings.push(finding);
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// pm2 starts two apps under one name. Here a name is one app: the second one gets a number.
fn rename(item: &Item, spec: &mut AppSpec, apps: &[AppSpec], report: &mut Report) {
    let at = item.built.at.as_ref();
    let name = spec.name.clone();
    if item.strict {
        report
            .errors
            .push(item.source.finding(at, format!("app `{name}` is here twice")));
        return;
    }
    let free = (2..).map(|number| format!("{name}-{number}"));
    let mut free = free.filter(|name| apps.iter().all(|app| app.name != *name));
    spec.name = free.next().unwrap_or_default();
    let message = format!("a second app `{name}` is here: it is called `{}`", spec.name);
    report
        .warnings
        .push(item.source.finding(at, message).hint("give it a name of its own"));
}
