//! `package.json`: the main script of a directory, and what `npm start` and its kin would run.
//!
//! A package manager runs a script through a shell of its own and would keep Node's channel for itself, so the
//! script's line is taken from the file and resolved as if the user had written it.

use super::command::from_line;
use super::search::base;
use super::wrapper::wrapper;
use super::{Program, ResolveError, Scope};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// More scripts than this that call each other are a circle.
const MAX_DEPTH: u32 = 8;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Npm,
    Yarn,
    Pnpm,
    Bun,
}

impl Manager {
    pub(super) fn of(program: &str) -> Option<Self> {
        match base(program) {
            "npm" => Some(Self::Npm),
            "yarn" | "yarnpkg" => Some(Self::Yarn),
            "pnpm" => Some(Self::Pnpm),
            _ => None,
        }
    }

    /// Whether it runs `prestart` before `start`.
    fn has_hooks(self) -> bool {
        matches!(self, Self::Npm | Self::Yarn | Self::Bun)
    }
}

/// The script that Node would run for a directory, if it is one and has one.
pub(super) fn main_of(directory: &Path) -> Result<Option<PathBuf>, ResolveError> {
    if !directory.is_dir() {
        return Ok(None);
    }
    let package = match read(&directory.join("package.json")) {
        Ok(package) => Some(package),
        Err(ResolveError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let main = package.as_ref().and_then(|package| package.get("main")?.as_str());
    let main =
        main.map(|main| std::path::absolute(directory.join(main)).unwrap_or_else(|_| directory.join(main)));
    let candidates = main.into_iter().flat_map(|main| {
        let with = |extension: &str| PathBuf::from(format!("{}.{extension}", main.display()));
        [main.clone(), with("js"), main.join("index.js")]
    });
    Ok(candidates
        .chain([directory.join("index.js")])
        .find(|path| path.is_file()))
}

fn read(path: &Path) -> Result<Map<String, Value>, ResolveError> {
    let bytes = std::fs::read(path).map_err(|source| ResolveError::Unreadable {
        path: path.into(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| ResolveError::BadPackage {
        path: path.into(),
        source,
    })
}

/// Resolves a command of a package manager.
pub(super) fn command(scope: &Scope, manager: Manager, words: &[OsString]) -> Result<Program, ResolveError> {
    let texts: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let Some((script, extra)) = script_of(manager, &texts[1..]) else {
        return Err(wrapper(scope, words));
    };
    let shown = texts.join(" ");
    let cwd = &scope.search.cwd;
    let Some(directory) = cwd.ancestors().find(|above| above.join("package.json").is_file()) else {
        return Err(ResolveError::NoPackage {
            command: shown,
            cwd: cwd.clone(),
        });
    };
    let package = read(&directory.join("package.json"))?;
    let empty = Map::new();
    let scripts = package
        .get("scripts")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let Some(line) = line_of(scripts, script, directory) else {
        let lines = scripts.iter().filter(|(_, line)| line.is_string());
        let known = lines.map(|(name, _)| name.clone()).collect();
        return Err(ResolveError::NoPackageScript {
            directory: directory.into(),
            script: script.into(),
            known,
        });
    };
    if scope.depth >= MAX_DEPTH {
        return Err(ResolveError::Circle {
            script: script.into(),
        });
    }
    if manager.has_hooks() {
        refuse_hooks(scripts, script, &shown, &line)?;
    }
    let inner = Scope {
        search: scope.search.in_package(directory),
        depth: scope.depth + 1,
        ..scope.clone()
    };
    let program = from_line(&inner, &line, extra.iter().map(OsString::from).collect())?;
    Ok(finish(
        program,
        &package,
        directory,
        cwd,
        script,
        &format!("`{shown}` is `{line}`"),
    ))
}

/// The script that a command line of the manager runs, and the arguments for it. `None` if it runs none, or
/// has options that we do not know.
fn script_of(manager: Manager, args: &[String]) -> Option<(&str, &[String])> {
    const QUIET: [&str; 5] = ["-s", "--silent", "-q", "--quiet", "--if-present"];
    let skip = |args| -> &[String] {
        let args: &[String] = args;
        let quiet = args
            .iter()
            .take_while(|arg| QUIET.contains(&arg.as_str()))
            .count();
        &args[quiet..]
    };
    let (verb, rest) = skip(args).split_first()?;
    let (script, rest) = match verb.as_str() {
        "run" | "run-script" | "rum" | "urn" => {
            let (script, rest) = skip(rest).split_first()?;
            (script.as_str(), rest)
        }
        "test" | "t" | "tst" => ("test", rest),
        "start" | "stop" | "restart" => (verb.as_str(), rest),
        // These run every script by its bare name.
        _ if matches!(manager, Manager::Yarn | Manager::Pnpm) && !verb.starts_with('-') && !is_verb(verb) => {
            (verb.as_str(), rest)
        }
        _ => return None,
    };
    if script.starts_with('-') {
        return None;
    }
    match rest.first().map(String::as_str) {
        Some("--") => Some((script, &rest[1..])),
        // npm would take it for itself; the others pass it on.
        Some(option) if option.starts_with('-') && manager == Manager::Npm => None,
        _ => Some((script, rest)),
    }
}

/// Verbs of Yarn and pnpm that are no scripts.
fn is_verb(word: &str) -> bool {
    matches!(
        word,
        "exec"
            | "dlx"
            | "node"
            | "install"
            | "add"
            | "remove"
            | "create"
            | "init"
            | "workspace"
            | "workspaces"
    )
}

fn line_of(scripts: &Map<String, Value>, script: &str, directory: &Path) -> Option<String> {
    let line = scripts.get(script).and_then(Value::as_str).map(Into::into);
    // npm's own default.
    line.or_else(|| {
        (script == "start" && directory.join("server.js").is_file()).then(|| "node server.js".into())
    })
}

fn refuse_hooks(
    scripts: &Map<String, Value>,
    script: &str,
    shown: &str,
    line: &str,
) -> Result<(), ResolveError> {
    for (when, before) in [("pre", true), ("post", false)] {
        let hook = format!("{when}{script}");
        if scripts
            .get(&hook)
            .and_then(Value::as_str)
            .is_some_and(|line| !line.trim().is_empty())
        {
            return Err(ResolveError::Hooks {
                command: shown.into(),
                hook,
                line: line.into(),
                before,
            });
        }
    }
    Ok(())
}

/// What the manager would have added: its directory, some variables; and a word about it.
fn finish(
    mut program: Program,
    package: &Map<String, Value>,
    directory: &Path,
    cwd: &Path,
    script: &str,
    what: &str,
) -> Program {
    if directory != cwd {
        program.cwd.get_or_insert_with(|| directory.into());
    }
    let mut default = |name: &str, value: OsString| program.env_defaults.push((name.into(), value));
    default("npm_lifecycle_event", script.into());
    default("npm_package_json", directory.join("package.json").into());
    for (name, key) in [("npm_package_name", "name"), ("npm_package_version", "version")] {
        if let Some(value) = package.get(key).and_then(Value::as_str) {
            default(name, value.into());
        }
    }
    let why = if program.channel {
        ", without the package manager, which would swallow the cluster channel"
    } else {
        ""
    };
    program.notices.insert(0, format!("{what}: running that{why}"));
    program
}
