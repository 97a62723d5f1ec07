//! One app of a file: its table of keys, as an [`AppSpec`].
//!
//! The environment is put together as pm2 does it, the last one wins: `deploy.NAME.env`, `env`, `port`, `env_NAME`.

use crate::convert::{self, Base, Refused, convert};
use crate::finding::{Finding, Source};
use crate::keys::{self, Found, Key, Kind};
use crate::tree::{Datum, Entry, Node, Span};
use crate::{Options, words};
use everup_api::AppSpec;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What an app's table is read with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) source: &'a Source,
    /// The file's folder.
    pub(crate) folder: &'a Path,
    pub(crate) options: &'a Options,
    /// Unknown keys are errors.
    pub(crate) strict: bool,
    /// pm2's `deploy`.
    pub(crate) deploy: Option<&'a Node>,
    /// Whether there is something at this path.
    pub(crate) exists: &'a dyn Fn(&Path) -> bool,
}

/// What is found on the way.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) errors: Vec<Finding>,
    pub(crate) warnings: Vec<Finding>,
    /// Apps that have no `env_NAME` of the name that was asked for.
    pub(crate) without_env: Vec<String>,
    /// Names of environments that there are.
    pub(crate) env_names: Vec<String>,
}

/// An app, and where it begins.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) spec: AppSpec,
    /// Before `append_env_to_name` and `name_prefix`.
    pub(crate) plain_name: String,
    pub(crate) at: Option<Span>,
}

/// The settings of an app: defaults first, the last one counts.
#[derive(Default)]
struct Settings<'a> {
    keys: Vec<(&'static Key, &'a Entry)>,
    named: Vec<(&'a str, &'a Entry)>,
}

impl<'a> Settings<'a> {
    fn last(&self, name: &str) -> Option<&'a Entry> {
        let mut all = self.keys.iter().rev();
        all.find(|(key, entry)| key.name == name && entry.value.datum != Datum::Null)
            .map(|(_, entry)| *entry)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.last(name).and_then(|entry| entry.value.text())
    }
}

/// Reads the table of one app. `name` and `at` are those of its header, if it has one.
pub(crate) fn build(
    context: Context<'_>,
    table: &Node,
    defaults: Option<&Node>,
    header: Option<&Entry>,
    report: &mut Report,
) -> Option<Built> {
    let errors = report.errors.len();
    let at = header.map_or_else(|| table.at.clone(), |entry| entry.at.clone());
    let Some(entries) = table.entries() else {
        let message = format!("an app is a table of keys, and this is {}", table.kind());
        report
            .errors
            .push(context.source.finding(table.at.as_ref(), message));
        return None;
    };
    let mut settings = Settings::default();
    collect(
        context,
        defaults.and_then(Node::entries).unwrap_or_default(),
        &mut settings,
        report,
    );
    collect(context, entries, &mut settings, report);
    let mut builder = Builder {
        context,
        settings,
        report,
        fields: Map::new(),
        at: at.clone(),
        shown_name: String::new(),
    };
    let plain_name = builder.name(header)?;
    builder.all(&plain_name);
    let fields = builder.fields;
    if report.errors.len() > errors {
        return None;
    }
    match serde_json::from_value(Value::Object(fields)) {
        Ok(spec) => Some(Built { spec, plain_name, at }),
        Err(error) => {
            let message = format!("app `{plain_name}` cannot be understood: {error}");
            report.errors.push(context.source.finding(at.as_ref(), message));
            None
        }
    }
}

/// Sorts the keys of a table; complains about those that there are not.
fn collect<'a>(context: Context<'_>, entries: &'a [Entry], settings: &mut Settings<'a>, report: &mut Report) {
    let mut own: Vec<(&'static Key, &'a Entry)> = Vec::new();
    for entry in entries {
        match keys::find(&entry.key) {
            Some(Found::EnvNamed(name)) => {
                report.env_names.push(name.to_owned());
                settings.named.push((name, entry));
            }
            Some(Found::Key(key)) if key.kind == Kind::Kept && context.strict => {
                let message = format!("`{}` means nothing here: {}", entry.key, key.why);
                report.errors.push(
                    context
                        .source
                        .finding(entry.at.as_ref(), message)
                        .hint("take it out"),
                );
            }
            Some(Found::Key(key)) => match own.iter().position(|(other, _)| other.name == key.name) {
                None => own.push((key, entry)),
                Some(at) => twice(context, &mut own, at, key, entry, report),
            },
            None => unknown(context, entry, report),
        }
    }
    settings.keys.extend(own);
}

/// A key under two of its names: as with pm2, its proper name counts, then the first one that says something.
fn twice<'a>(
    context: Context<'_>,
    own: &mut [(&'static Key, &'a Entry)],
    at: usize,
    key: &'static Key,
    entry: &'a Entry,
    report: &mut Report,
) {
    let Some(slot) = own.get_mut(at) else { return };
    let silent = |entry: &Entry| matches!(entry.value.datum, Datum::Null | Datum::Bool(false));
    let other = slot.1;
    let wins = silent(other) || (entry.key == key.name && !silent(entry));
    let (counts, not) = if wins { (entry, other) } else { (other, entry) };
    *slot = (key, counts);
    if !silent(not) && not.value != counts.value {
        let message = format!(
            "`{}` and `{}` are the same key: `{}` counts",
            other.key, entry.key, counts.key
        );
        let finding = context.source.finding(not.at.as_ref(), message);
        let to = if context.strict {
            &mut report.errors
        } else {
            &mut report.warnings
        };
        to.push(finding);
    }
}

fn unknown(context: Context<'_>, entry: &Entry, report: &mut Report) {
    let guess = || context.source.only_place_of_key(&entry.key);
    let at = entry.at.clone().or_else(guess);
    let message = if context.strict {
        format!("there is no key `{}`", entry.key)
    } else {
        format!("there is no key `{}`: it has no effect", entry.key)
    };
    let mut finding = context.source.finding(at.as_ref(), message);
    finding.hint = keys::nearest(&entry.key).map(|nearest| format!("did you mean `{nearest}`?"));
    let to = if context.strict {
        &mut report.errors
    } else {
        &mut report.warnings
    };
    to.push(finding);
}

struct Builder<'a, 'r> {
    context: Context<'a>,
    settings: Settings<'a>,
    report: &'r mut Report,
    fields: Map<String, Value>,
    at: Option<Span>,
    shown_name: String,
}

impl Builder<'_, '_> {
    /// The app's own name; without one, the script's, as pm2 makes it.
    fn name(&mut self, header: Option<&Entry>) -> Option<String> {
        let given = header
            .map(|entry| entry.key.clone())
            .or_else(|| self.settings.text("name").map(str::to_owned));
        let script = self.settings.text("script").unwrap_or_default();
        let name = given.unwrap_or_else(|| name_of(script));
        self.shown_name.clone_from(&name);
        if script.is_empty() {
            let at = self.at.clone();
            let which = if name.is_empty() {
                "an app".to_owned()
            } else {
                format!("app `{name}`")
            };
            let finding = self
                .context
                .source
                .finding(at.as_ref(), format!("{which} has no `script`"));
            self.report
                .errors
                .push(finding.hint("script = what to run: a file, a program, a command line"));
            return None;
        }
        if name.trim().is_empty() || name.contains(['\0', '\n']) {
            let finding = self
                .context
                .source
                .finding(self.at.as_ref(), "an app needs a name");
            self.report.errors.push(finding);
            return None;
        }
        Some(name)
    }

    fn all(&mut self, plain_name: &str) {
        let folder = self.folder();
        self.fields
            .insert("cwd".to_owned(), folder.to_string_lossy().into_owned().into());
        for key in keys::KEYS {
            let Some(entry) = self.settings.last(key.name) else {
                continue;
            };
            if matches!(key.name, "cwd" | "env" | "name") {
                continue;
            }
            match key.kind {
                Kind::Own => {}
                Kind::Kept => self.keep(key, entry),
                kind => drop(self.take(key.name, kind, entry, &folder)),
            }
        }
        self.own(plain_name);
        self.environment();
        if self.settings.text("script") == Some("serve") {
            self.serve();
        }
    }

    /// Converts a value, and puts it into the field.
    fn take(&mut self, field: &str, kind: Kind, entry: &Entry, folder: &Path) -> Option<()> {
        let home = self.home();
        let base = Base {
            folder,
            home: home.as_deref(),
        };
        match convert(kind, &entry.value, base) {
            Ok(value) => drop(self.fields.insert(field.to_owned(), value?)),
            Err(refused) => self.refuse(entry, refused),
        }
        Some(())
    }

    fn refuse(&mut self, entry: &Entry, refused: Refused) {
        let guess = || self.context.source.only_place_of_key(&entry.key);
        let at = entry.value.at.clone().or_else(|| entry.at.clone()).or_else(guess);
        let message = format!("`{}` of app `{}` {}", entry.key, self.shown_name, refused.message);
        let mut finding = self.context.source.finding(at.as_ref(), message);
        finding.hint = refused.hint;
        self.report.errors.push(finding);
    }

    fn home(&self) -> Option<PathBuf> {
        self.context.options.process_env.get("HOME").map(PathBuf::from)
    }

    /// The app's `cwd`: relative to the file's folder. pm2 has it relative to the caller's: if what is named is only
    /// there, then that is meant.
    fn folder(&mut self) -> PathBuf {
        let home = self.home();
        let base = |folder: &'_ Path, text: &str| {
            let home = home.as_deref();
            Base { folder, home }.path(text)
        };
        let (here, caller) = (self.context.folder, self.context.options.cwd.as_path());
        let given = self.settings.last("cwd");
        let cwd = match given.map(|entry| (entry, convert::text(&entry.value))) {
            Some((entry, Err(refused))) => {
                self.refuse(entry, refused);
                return here.to_owned();
            }
            Some((_, Ok(text))) => Some(text),
            None => None,
        };
        let at = |folder: &Path| {
            cwd.as_deref()
                .map_or_else(|| folder.to_owned(), |cwd| base(folder, cwd))
        };
        // Of a command line only the first word can be looked for.
        let script = self.settings.text("script").unwrap_or_default();
        let wanted = |folder: &Path| match &cwd {
            Some(_) => at(folder),
            None => base(folder, script),
        };
        let exists = self.context.exists;
        let caller_is_meant =
            !self.context.strict && here != caller && !exists(&wanted(here)) && exists(&wanted(caller));
        if !caller_is_meant {
            return at(here);
        }
        let what = if cwd.is_some() { "cwd" } else { "script" };
        let message = format!(
            "`{what}` of app `{}` is not in the file's folder, but in {}: that is taken",
            self.shown_name,
            caller.display()
        );
        let entry = self.settings.last(what);
        let finding = self
            .context
            .source
            .finding(entry.and_then(|entry| entry.at.as_ref()), message);
        self.report.warnings.push(
            finding.hint("write an absolute `cwd`: then it does not depend on where it is started from"),
        );
        at(caller)
    }

    /// A key of pm2's without effect. Some of them were meant to have one that is missed.
    fn keep(&mut self, key: &Key, entry: &Entry) {
        let missed = match key.name {
            "treekill" => entry.value.datum == Datum::Bool(false),
            "watch_options" | "post_update" => true,
            _ => false,
        };
        if missed {
            let message = format!(
                "`{}` of app `{}` has no effect: {}",
                entry.key, self.shown_name, key.why
            );
            let finding = self.context.source.finding(entry.at.as_ref(), message);
            self.report.warnings.push(finding);
        }
        let kept = self
            .fields
            .entry("pm2")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(kept) = kept {
            kept.insert(key.name.to_owned(), entry.value.to_json());
        }
    }

    /// Keys that only the reader of files knows.
    fn own(&mut self, plain_name: &str) {
        let is = |builder: &mut Self, key: &str| {
            let Some(entry) = builder.settings.last(key) else {
                return false;
            };
            match convert::boolean(&entry.value) {
                Ok(value) => value,
                Err(refused) => {
                    builder.refuse(entry, refused);
                    false
                }
            }
        };
        if is(self, "time") {
            self.fields
                .insert("log_date_format".to_owned(), "YYYY-MM-DDTHH:mm:ss".into());
        }
        if is(self, "execute_command") {
            self.fields.insert("exec_mode".to_owned(), "fork".into());
        }
        let mut name = plain_name.to_owned();
        let appends = is(self, "append_env_to_name");
        if let Some(env) = self.context.options.env_name.as_deref().filter(|_| appends) {
            name = format!("{name}-{env}");
        }
        if let Some(prefix) = self
            .settings
            .text("name_prefix")
            .filter(|prefix| !name.contains(prefix))
        {
            name = format!("{prefix}:{name}");
        }
        self.fields.insert("name".to_owned(), name.into());
    }

    fn environment(&mut self) {
        let mut env = Map::new();
        let name = self.context.options.env_name.clone();
        if let Some(name) = &name {
            let deployed = self
                .context
                .deploy
                .and_then(|deploy| deploy.get(name)?.get("env"));
            if let Some(Ok(variables)) = deployed.map(convert::variables) {
                env.extend(variables);
            }
        }
        let given: Vec<&Entry> = self
            .settings
            .keys
            .iter()
            .filter(|(key, _)| key.name == "env")
            .map(|(_, e)| *e)
            .collect();
        for entry in given {
            self.lay_over(&mut env, entry);
        }
        if let Some(port) = self.settings.last("port") {
            match convert(
                Kind::Number,
                &port.value,
                Base {
                    folder: self.context.folder,
                    home: None,
                },
            ) {
                Ok(Some(value)) => drop(env.insert("PORT".to_owned(), value)),
                Ok(None) => {}
                Err(refused) => self.refuse(port, refused),
            }
        }
        if let Some(wanted) = &name {
            let named: Vec<&Entry> = self
                .settings
                .named
                .iter()
                .filter(|(name, _)| name == wanted)
                .map(|(_, e)| *e)
                .collect();
            if named.is_empty() {
                self.report.without_env.push(self.shown_name.clone());
            }
            for entry in named {
                self.lay_over(&mut env, entry);
            }
        }
        if !env.is_empty() {
            self.fields.insert("env".to_owned(), Value::Object(env));
        }
    }

    /// Variables over those that are there; `null` takes one away.
    fn lay_over(&mut self, env: &mut Map<String, Value>, entry: &Entry) {
        if entry.value.datum == Datum::Null {
            return;
        }
        for gone in entry.value.entries().unwrap_or_default() {
            if gone.value.datum == Datum::Null {
                env.shift_remove(&gone.key);
            }
        }
        match convert::variables(&entry.value) {
            Ok(variables) => env.extend(variables),
            Err(refused) => self.refuse(entry, refused),
        }
    }

    /// pm2's `script: serve` is our own file server, told by the same variables.
    fn serve(&mut self) {
        let program = self.context.options.program.clone();
        let program = program.or_else(|| std::env::current_exe().ok());
        let program = program.unwrap_or_else(|| PathBuf::from("everup"));
        self.fields
            .insert("script".to_owned(), program.to_string_lossy().into_owned().into());
        self.fields.insert("interpreter".to_owned(), "none".into());
        // Its workers share the port.
        self.fields.insert("channel".to_owned(), "node".into());
        let given = self
            .fields
            .get("args")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let args = [Value::from(SERVE)].into_iter().chain(given);
        self.fields.insert("args".to_owned(), args.collect());
    }
}

/// The verb of our own binary that serves files in the foreground.
pub(crate) const SERVE: &str = "serve-files";

/// The name of an app that has none: the last part of the script's path, up to its last dot.
pub(crate) fn name_of(script: &str) -> String {
    let base = script
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    match base.rfind('.') {
        Some(dot) if dot > 0 => base.get(..dot).unwrap_or(base).to_owned(),
        Some(_) | None => base.to_owned(),
    }
}

/// Names that are joined by commas or spaces.
pub(crate) fn names(given: &[String]) -> Vec<String> {
    given
        .iter()
        .flat_map(|names| words::split(&names.replace(',', " ")))
        .collect()
}
