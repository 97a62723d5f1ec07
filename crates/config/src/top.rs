//! What stands at the top of a file: where its apps are, in `everup.toml` and in pm2's files.

use crate::app::{Built, Context, Report, build};
use crate::finding::Source;
use crate::tree::{Datum, Entry, Node};

/// Keys at the top of `everup.toml`.
const OWN: [&str; 4] = ["app", "defaults", "include", "$schema"];
/// Keys at the top of pm2's files.
const PM2: [&str; 4] = ["apps", "pm2", "deploy", "static"];

/// The apps of an `everup.toml`.
pub(crate) fn own(context: Context<'_>, root: &Node, report: &mut Report) -> Vec<Built> {
    let source = context.source;
    for entry in root.entries().unwrap_or_default() {
        if !OWN.contains(&entry.key.as_str()) {
            let mut finding = source.finding(
                entry.at.as_ref(),
                format!("there is no key `{}` at the top", entry.key),
            );
            finding.hint = Some(own_hint(entry));
            report.errors.push(finding);
        }
    }
    let defaults = root.get("defaults");
    if let Some(node) = defaults.filter(|node| node.entries().is_none()) {
        let message = format!("`defaults` is a table of keys, and this is {}", node.kind());
        report.errors.push(source.finding(node.at.as_ref(), message));
    }
    match root.get("app").map(|node| (node, &node.datum)) {
        None => Vec::new(),
        Some((_, Datum::Map(entries))) => {
            let each = entries
                .iter()
                .map(|entry| build(context, &entry.value, defaults, Some(entry), report));
            each.flatten().collect()
        }
        Some((_, Datum::List(items))) => {
            let each = items
                .iter()
                .map(|item| build(context, item, defaults, None, report));
            each.flatten().collect()
        }
        Some((node, _)) => {
            let message = format!("`app` is tables [app.NAME], and this is {}", node.kind());
            report.errors.push(source.finding(node.at.as_ref(), message));
            Vec::new()
        }
    }
}

fn own_hint(entry: &Entry) -> String {
    if crate::keys::find(&entry.key).is_some() {
        return "keys of an app stand below its header: [app.NAME]".to_owned();
    }
    match everup_api::names::nearest(&entry.key, &OWN) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "there are [app.NAME], [defaults] and include".to_owned(),
    }
}

/// What `include` of an `everup.toml` names, with the places.
pub(crate) fn includes<'a>(source: &Source, root: &'a Node, report: &mut Report) -> Vec<(&'a str, &'a Node)> {
    let Some(node) = root.get("include") else {
        return Vec::new();
    };
    let items = match &node.datum {
        Datum::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut files = Vec::new();
    for item in items {
        match &item.datum {
            Datum::Text(text) => files.push((text.as_str(), item)),
            _ => {
                let message = format!("`include` names files, and this is {}", item.kind());
                report.errors.push(source.finding(item.at.as_ref(), message));
            }
        }
    }
    files
}

/// The part of a pm2 file that is about apps, whatever the format.
pub(crate) struct Ecosystem {
    apps: Vec<Node>,
    /// Served folders.
    served: Vec<Node>,
    pub(crate) deploy: Option<Node>,
}

/// Finds the apps of a pm2 file: below `apps` or `pm2`, or it is one app, or a list of them.
pub(crate) fn ecosystem(source: &Source, root: Node, is_package: bool, report: &mut Report) -> Ecosystem {
    let mut root = root;
    if is_package {
        let Some(pm2) = root.get("pm2").cloned() else {
            let finding = source.finding(None, "there is no key `pm2` in it");
            report
                .errors
                .push(finding.hint("add \"pm2\": { \"apps\": [ … ] }, or name another file"));
            root = Node::new(Datum::List(Vec::new()));
            return Ecosystem {
                apps: Vec::new(),
                served: Vec::new(),
                deploy: root.get("deploy").cloned(),
            };
        };
        root = pm2;
    }
    let (deploy, served) = (
        root.get("deploy").cloned(),
        root.get("static").map(items).unwrap_or_default(),
    );
    let found = ["apps", "pm2"]
        .iter()
        .find_map(|key| root.get(key).filter(|node| node.datum != Datum::Null));
    let apps = match found {
        Some(node) => items(node),
        None if !served.is_empty() || only_known(&root) => Vec::new(),
        None => {
            misspelt(source, &root, report);
            items(&root)
        }
    };
    if apps.is_empty() && served.is_empty() && report.errors.is_empty() {
        let finding = source.finding(None, "there are no apps in it");
        report
            .errors
            .push(finding.hint("a list of apps is expected: apps: [{ script: … }]"));
    }
    Ecosystem { apps, served, deploy }
}

/// Nothing but keys of the top, or nothing at all: then it is no app.
fn only_known(root: &Node) -> bool {
    match &root.datum {
        Datum::Map(entries) => entries.iter().all(|entry| PM2.contains(&entry.key.as_str())),
        Datum::Null => true,
        _ => false,
    }
}

/// `app: [ … ]` would otherwise be an app without a script.
fn misspelt(source: &Source, root: &Node, report: &mut Report) {
    for entry in root.entries().unwrap_or_default() {
        let is_list = matches!(entry.value.datum, Datum::List(_));
        let nearest = everup_api::names::nearest(&entry.key, &PM2).filter(|_| is_list);
        if let Some(nearest) = nearest.filter(|_| crate::keys::find(&entry.key).is_none()) {
            let guess = || source.only_place_of_key(&entry.key);
            let at = entry.at.clone().or_else(guess);
            let finding = source.finding(at.as_ref(), format!("there is no key `{}` at the top", entry.key));
            report
                .errors
                .push(finding.hint(format!("did you mean `{nearest}`?")));
        }
    }
}

fn items(node: &Node) -> Vec<Node> {
    match &node.datum {
        Datum::List(items) => items.clone(),
        Datum::Null => Vec::new(),
        _ => vec![node.clone()],
    }
}

impl Ecosystem {
    /// The apps, and an app for each served folder.
    pub(crate) fn build(&self, context: Context<'_>, report: &mut Report) -> Vec<Built> {
        let served: Vec<Node> = self.served.iter().map(serve).collect();
        let all = self.apps.iter().chain(&served);
        all.filter_map(|node| build(context, node, None, None, report))
            .collect()
    }
}

/// One of `static`, as the app that pm2 makes of it.
fn serve(definition: &Node) -> Node {
    let text = |node: Option<&Node>| node.map_or(Datum::Null, |node| node.datum.clone());
    let get = |key: &str| text(definition.get(key));
    let auth = definition.get("basic_auth");
    let env = [
        ("PM2_SERVE_PORT", get("port")),
        ("PM2_SERVE_HOST", get("host")),
        ("PM2_SERVE_PATH", get("path")),
        ("PM2_SERVE_SPA", get("spa")),
        ("PM2_SERVE_FTP", get("ftp")),
        ("PM2_SERVE_DIRECTORY", get("directory")),
        (
            "PM2_SERVE_BASIC_AUTH",
            auth.map_or(Datum::Null, |_| Datum::Bool(true)),
        ),
        (
            "PM2_SERVE_BASIC_AUTH_USERNAME",
            text(auth.and_then(|auth| auth.get("username"))),
        ),
        (
            "PM2_SERVE_BASIC_AUTH_PASSWORD",
            text(auth.and_then(|auth| auth.get("password"))),
        ),
    ];
    let port = definition.get("port").and_then(Node::text).unwrap_or("8080");
    let name = definition.get("name").and_then(Node::text);
    let name = name.map_or_else(|| format!("static-page-server-{port}"), str::to_owned);
    let map = |pairs: Vec<(&str, Datum)>| {
        let entry = |(key, datum): (&str, Datum)| Entry {
            key: key.to_owned(),
            at: None,
            value: Node::new(datum),
        };
        Datum::Map(pairs.into_iter().map(entry).collect())
    };
    Node {
        datum: map(vec![
            ("name", Datum::Text(name)),
            ("script", Datum::Text("serve".to_owned())),
            ("env", map(env.to_vec())),
        ]),
        at: definition.at.clone(),
    }
}
