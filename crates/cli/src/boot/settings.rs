//! `set`, `get`, `unset`, `conf`, `multiset`: `$EVERUP_HOME/settings.json`, in the form of pm2's `module_conf.json`.
//!
//! Settings are kept and shown; what each is for is its reader's to say (docs/pm2-compat.md). Two commands at once
//! both take effect: the directory is locked while the file is changed.

use super::home::home;
use super::told::{Outcome, Told, say};
use crate::args::boot::{GetArgs, MultisetArgs, SetArgs, UnsetArgs};
use crate::exit::Exit;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

const FILE: &str = "settings.json";

type Settings = Map<String, Value>;

pub(super) fn set(args: &SetArgs) -> Outcome {
    match (&args.key, &args.value) {
        (Some(key), Some(value)) => change(|settings| put(settings, key, value)),
        (Some(_), None) => Err(usage("a value is missing", "everup set KEY VALUE")),
        (None, _) => show(None, false),
    }
}

pub(super) fn conf(args: &SetArgs) -> Outcome {
    match (&args.key, &args.value) {
        (Some(key), Some(value)) => change(|settings| put(settings, key, value)),
        (key, _) => show(key.as_deref(), false),
    }
}

pub(super) fn multiset(args: &MultisetArgs) -> Outcome {
    let words =
        crate::words::split(&args.pairs).map_err(|error| usage(&error.to_string(), "close the quotes"))?;
    if words.is_empty() || words.len() % 2 == 1 {
        return Err(usage(
            "a name and a value belong together",
            "everup multiset \"KEY VALUE KEY VALUE\"",
        ));
    }
    change(|settings| {
        for pair in words.chunks_exact(2) {
            put(settings, &pair[0], &pair[1])?;
        }
        Ok(())
    })
}

pub(super) fn get(args: &GetArgs) -> Outcome {
    show(args.key.as_deref(), args.json)
}

pub(super) fn unset(args: &UnsetArgs) -> Outcome {
    change(|settings| take(settings, &args.key))
}

fn usage(message: &str, hint: &str) -> Told {
    Told::new(Exit::Usage, message).hint(hint)
}

fn change(act: impl FnOnce(&mut Settings) -> Result<(), Told>) -> Outcome {
    let home = home()?;
    let failed = |error: io::Error| Told::file("change", &home.join(FILE), &error);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&home)
        .map_err(failed)?;
    let lock = File::open(&home).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let mut settings = read(&home)?;
    act(&mut settings)?;
    write(&home, &settings).map_err(failed)?;
    say(&listed(&settings, None));
    Ok(Exit::Ok)
}

fn show(key: Option<&str>, json: bool) -> Outcome {
    let settings = read(&home()?)?;
    let key = key.filter(|key| *key != "all");
    let value = match key {
        Some(key) => Some(find(&settings, key).ok_or_else(|| unknown(key))?),
        None => None,
    };
    let text = match (value, json) {
        (Some(value), true) => format!("{value}\n"),
        (None, true) => format!("{}\n", Value::Object(settings)),
        (Some(Value::Object(group)), false) => listed(group, key),
        (Some(value), false) => format!("{}\n", plain(value)),
        (None, false) => listed(&settings, None),
    };
    say(&text);
    Ok(Exit::Ok)
}

fn unknown(key: &str) -> Told {
    Told::new(Exit::Input, format!("there is no setting `{key}`")).hint("everup get shows all")
}

fn read(home: &Path) -> Result<Settings, Told> {
    let path = home.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::new()),
        Err(error) => return Err(Told::file("read", &path, &error)),
    };
    serde_json::from_str(&text).map_err(|error| {
        Told::new(
            Exit::Input,
            format!("{}:{}: {error}", path.display(), error.line()),
        )
        .hint("correct the file, or remove it")
    })
}

fn write(home: &Path, settings: &Settings) -> io::Result<()> {
    let beside = home.join(format!(".{FILE}.{}", std::process::id()));
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    let mut text = serde_json::to_vec_pretty(settings)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(beside, home.join(FILE))
}

/// `app:key`, `app.key`: quotes keep a separator from separating.
fn path(key: &str) -> Result<Vec<String>, Told> {
    let separator = if key.contains('.') { '.' } else { ':' };
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for c in key.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c == separator && !quoted => parts.push(String::new()),
            c => parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
    }
    if parts.iter().any(String::is_empty) {
        return Err(usage(
            &format!("`{key}` is no name of a setting"),
            "write app:key, app.key or key",
        ));
    }
    Ok(parts)
}

fn put(settings: &mut Settings, key: &str, value: &str) -> Result<(), Told> {
    let mut parts = path(key)?;
    let Some(last) = parts.pop() else { return Ok(()) };
    let mut group = settings;
    for part in parts {
        let inner = group.entry(part).or_insert_with(|| Value::Object(Map::new()));
        if !inner.is_object() {
            *inner = Value::Object(Map::new());
        }
        let Value::Object(inner) = inner else {
            return Ok(());
        };
        group = inner;
    }
    group.insert(last, Value::String(value.to_owned()));
    Ok(())
}

fn find<'a>(settings: &'a Settings, key: &str) -> Option<&'a Value> {
    let parts = path(key).ok()?;
    let (last, groups) = parts.split_last()?;
    let mut group = settings;
    for part in groups {
        group = group.get(part)?.as_object()?;
    }
    group.get(last)
}

fn take(settings: &mut Settings, key: &str) -> Result<(), Told> {
    if key == "all" {
        settings.clear();
        return Ok(());
    }
    let mut parts = path(key)?;
    let Some(last) = parts.pop() else { return Ok(()) };
    let mut group = settings;
    for part in parts {
        group = group
            .get_mut(&part)
            .and_then(Value::as_object_mut)
            .ok_or_else(|| unknown(key))?;
    }
    // Those behind it keep their order.
    group.shift_remove(&last).map(drop).ok_or_else(|| unknown(key))
}

/// As pm2 shows them: groups with a headline, an entry per line.
fn listed(settings: &Settings, headline: Option<&str>) -> String {
    let mut text = String::new();
    let (groups, entries): (Vec<_>, Vec<_>) = settings.iter().partition(|(_, value)| value.is_object());
    if let Some(headline) = headline {
        text.push_str(&format!("== {headline} ==\n"));
    }
    for (key, value) in entries {
        text.push_str(&format!("{key}: {}\n", plain(value)));
    }
    for (key, value) in groups {
        let name = headline.map_or_else(|| key.clone(), |headline| format!("{headline}:{key}"));
        if let Value::Object(group) = value {
            text.push_str(&listed(group, Some(&name)));
        }
    }
    text
}

/// A value on one line, whatever is in it; what looks secret is not shown here.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => crate::terminal::harmless(text).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::new();
        for (key, value) in pairs {
            put(&mut settings, key, value).unwrap();
        }
        settings
    }

    #[test]
    fn groups_and_entries() {
        let mut settings = with(&[
            ("pm2-logrotate:max_size", "10M"),
            ("a.b.c", "1"),
            ("x", "y"),
            ("\"p.q\".r", "2"),
        ]);
        assert_eq!(
            Value::Object(settings.clone()),
            serde_json::json!({"pm2-logrotate": {"max_size": "10M"}, "a": {"b": {"c": "1"}}, "x": "y", "p.q": {"r": "2"}})
        );
        assert_eq!(find(&settings, "a.b.c").unwrap(), "1");
        assert_eq!(
            listed(&settings, None),
            "x: y\n== pm2-logrotate ==\nmax_size: 10M\n== a ==\n== a:b ==\nc: 1\n== p.q ==\nr: 2\n"
        );
        take(&mut settings, "a.b.c").unwrap();
        assert_eq!(find(&settings, "a.b.c"), None);
        assert_eq!(
            take(&mut settings, "a.b.c").unwrap_err().message,
            "there is no setting `a.b.c`"
        );
        take(&mut settings, "all").unwrap();
        assert!(settings.is_empty());
    }

    #[test]
    fn a_value_gives_way_to_a_group() {
        let settings = with(&[("a", "1"), ("a:b", "2")]);
        assert_eq!(Value::Object(settings), serde_json::json!({"a": {"b": "2"}}));
        assert!(put(&mut Settings::new(), "a..b", "1").is_err());
    }

    #[test]
    fn kept_and_read_again() {
        let home = tempfile::tempdir().unwrap();
        assert!(read(home.path()).unwrap().is_empty());
        let settings = with(&[("a:b", "2")]);
        write(home.path(), &settings).unwrap();
        assert_eq!(read(home.path()).unwrap(), settings);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        fs::write(home.path().join(FILE), "{\n  broken").unwrap();
        assert!(
            read(home.path())
                .unwrap_err()
                .message
                .contains("settings.json:2: ")
        );
    }
}
