//! Which files are read, and how their lines are called. Pure.

use everup_api::v1::App;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Out,
    Err,
    /// The daemon's own log.
    Daemon,
}

/// A file, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) app: String,
    /// The instance's id, if there is only one that writes to it.
    pub(super) id: Option<u32>,
    /// The lowest id.
    pub(super) first: u32,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) target: &'a str,
    pub(super) out: bool,
    pub(super) err: bool,
    /// pm2's name for the daemon, too.
    pub(super) pm2: bool,
}

impl Wanted<'_> {
    /// Whether the daemon's own log is meant, and nothing else.
    pub(super) fn daemon_only(&self) -> bool {
        match self.pm2 {
            true => self.target == "PM2",
            false => self.target == "everup",
        }
    }
}

impl Source {
    /// Of the daemon.
    pub(super) fn daemon(path: &Path, pm2: bool) -> Self {
        Self {
            path: path.to_owned(),
            kind: Kind::Daemon,
            app: if pm2 { "PM2" } else { "everup" }.into(),
            id: None,
            first: 0,
        }
    }

    /// In front of its lines.
    pub(super) fn label(&self, pm2: bool) -> String {
        match (self.kind, self.id) {
            (Kind::Daemon, _) => self.app.clone(),
            (_, None) if !pm2 => self.app.clone(),
            (_, id) => format!("{}|{}", id.unwrap_or(self.first), self.app),
        }
    }
}

/// The files of these apps, each once, in the order of the list.
pub(super) fn sources(apps: &[App], wanted: Wanted<'_>) -> Vec<Source> {
    let mut found: Vec<Source> = Vec::new();
    let mut asked: BTreeSet<&Path> = BTreeSet::new();
    for app in apps {
        let by_id = wanted
            .target
            .parse()
            .ok()
            .filter(|_| app.spec.name != wanted.target && app.spec.namespace() != wanted.target);
        let meant = |id: u32| by_id.is_none_or(|by_id: u32| id == by_id);
        // Those that are not meant are looked at, too: they may write to the same file.
        for instance in &app.instances {
            let own = [
                (&instance.out_file, Kind::Out, wanted.out),
                (&instance.error_file, Kind::Err, wanted.err),
            ];
            let none = own.iter().all(|(path, _, _)| path.is_none());
            // The file of both has the same lines once more.
            let both = (&instance.log_file, Kind::Out, none);
            for (path, kind, _) in own.into_iter().chain([both]).filter(|(_, _, shown)| *shown) {
                let Some(path) = path else { continue };
                if meant(instance.id) {
                    asked.insert(path);
                }
                match found.iter_mut().find(|source| &source.path == path) {
                    Some(known) if known.app == app.spec.name && known.id == Some(instance.id) => {}
                    Some(known) => known.id = None,
                    None => found.push(Source {
                        path: path.clone(),
                        kind,
                        app: app.spec.name.clone(),
                        id: Some(instance.id),
                        first: instance.id,
                    }),
                }
            }
        }
    }
    found.retain(|source| asked.contains(source.path.as_path()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use everup_api::AppSpec;
    use everup_api::v1::{AppState, Instance};

    fn app(name: &str, instances: &[(u32, &str, &str, &str)]) -> App {
        let file = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
        App {
            spec: AppSpec {
                name: name.into(),
                ..AppSpec::default()
            },
            state: AppState::Running,
            generation: 1,
            target: 1,
            clustered: false,
            created_at: 0,
            user: String::new(),
            version: None,
            interpreter: None,
            script_path: None,
            reload: None,
            last_reload: None,
            because: None,
            instances: instances
                .iter()
                .map(|(id, out, err, both)| Instance {
                    id: *id,
                    out_file: file(out),
                    error_file: file(err),
                    log_file: file(both),
                    ..Instance::default()
                })
                .collect(),
            others: Vec::new(),
        }
    }

    fn told(apps: &[App], target: &str, out: bool, err: bool) -> Vec<String> {
        let wanted = Wanted {
            target,
            out,
            err,
            pm2: false,
        };
        let told = |source: &Source| format!("{} {}", source.label(false), source.path.display());
        sources(apps, wanted).iter().map(told).collect()
    }

    #[test]
    fn each_file_once() {
        let apps = [
            app("one", &[(0, "/o", "/e", "/b")]),
            app("merged", &[(1, "/mo", "/me", ""), (2, "/mo", "/me", "")]),
            app("same", &[(3, "/s", "/s", "")]),
            app("both", &[(4, "", "", "/b4")]),
            app("none", &[(5, "", "", "")]),
        ];
        assert_eq!(
            told(&apps, "all", true, true),
            [
                "0|one /o",
                "0|one /e",
                "merged /mo",
                "merged /me",
                "3|same /s",
                "4|both /b4"
            ]
        );
        assert_eq!(
            told(&apps, "all", false, true),
            ["0|one /e", "merged /me", "3|same /s", "4|both /b4"]
        );
    }

    #[test]
    fn one_instance_by_its_id() {
        let apps = [app("a", &[(6, "/a6", "", ""), (7, "/a7", "", "")])];
        assert_eq!(told(&apps, "7", true, true), ["7|a /a7"]);
        assert_eq!(told(&apps, "a", true, true), ["6|a /a6", "7|a /a7"]);
        let merged = [app("m", &[(1, "/mo", "", ""), (2, "/mo", "", "")])];
        assert_eq!(told(&merged, "2", true, true), ["m /mo"]);
        let numbers = [app("7", &[(0, "/x", "", ""), (7, "/y", "", "")])];
        assert_eq!(told(&numbers, "7", true, true).len(), 2);
    }
}
