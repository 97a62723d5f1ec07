//! A command: the words of a shell line, or a program's name with the arguments after `--`.

use super::line::{self, Command, LineError, Shape};
use super::node::{Invocation, Runtime, invocation};
use super::package::{self, Manager};
use super::search::base;
use super::shell::{from_shell, refuse_inner_line};
use super::wrapper::{is_wrapper, refuse_forker, refuse_wrapper, wrapper};
use super::{Program, ResolveError, Scope, file, missing};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Programs that end in `exec` of their last arguments: the channel passes through.
pub(super) const PREFIXES: [&str; 10] = [
    "env", "nice", "ionice", "taskset", "numactl", "chrt", "stdbuf", "setarch", "prlimit", "nohup",
];

pub(super) fn text(word: &OsStr) -> std::borrow::Cow<'_, str> {
    word.to_string_lossy()
}

pub(super) fn joined(words: &[OsString]) -> String {
    words.iter().map(|word| text(word)).collect::<Vec<_>>().join(" ")
}

/// Resolves a shell line; `extra` are the arguments after `--`.
pub(super) fn from_line(scope: &Scope, written: &str, extra: Vec<OsString>) -> Result<Program, ResolveError> {
    let unreadable = |source| ResolveError::Line {
        line: written.into(),
        source,
    };
    let mut read = line::read(written).map_err(unreadable)?;
    let simple = read.shape == Shape::Simple && !read.commands[0].needs_shell;
    if !simple {
        return from_shell(scope, written, &read, extra);
    }
    let Command {
        assignments, words, ..
    } = read.commands.remove(0);
    if words.is_empty() {
        return Err(unreadable(LineError::Empty));
    }
    let words = words.into_iter().map(OsString::from).chain(extra).collect();
    let mut program = from_words(scope, words)?;
    let assignments = assignments
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()));
    program.env.splice(0..0, assignments);
    Ok(program)
}

/// For `--interpreter`: a line that is a file with arguments.
pub(super) fn file_and_args(
    scope: &Scope,
    written: &str,
    extra: Vec<OsString>,
) -> Result<(PathBuf, Vec<OsString>), ResolveError> {
    let read = line::read(written).map_err(|source| ResolveError::Line {
        line: written.into(),
        source,
    })?;
    let command = &read.commands[0];
    let plain = read.shape == Shape::Simple && !command.needs_shell && command.assignments.is_empty();
    match command.words.split_first() {
        Some((first, rest)) if plain => match scope.search.file(first) {
            Some(path) => Ok((path, rest.iter().map(OsString::from).chain(extra).collect())),
            None if scope.search.program(first).is_some() => {
                Err(ResolveError::InterpreterOfLine { line: written.into() })
            }
            None => Err(missing::script(scope.search.absolute(first), Path::new(first))),
        },
        _ => Err(ResolveError::InterpreterOfLine { line: written.into() }),
    }
}

/// Resolves a command without expansions.
pub(super) fn from_words(scope: &Scope, mut words: Vec<OsString>) -> Result<Program, ResolveError> {
    let env = strip_assigners(&mut words);
    let mut program = from_plain_words(scope, words)?;
    program.env.splice(0..0, env);
    Ok(program)
}

/// Takes `exec`, and `env` or `cross-env` with nothing but assignments, from the front of a command.
pub(super) fn strip_assigners(words: &mut Vec<OsString>) -> Vec<(OsString, OsString)> {
    let mut env = Vec::new();
    while words.len() > 1 {
        let assigner = match base(&text(&words[0])) {
            "exec" => false,
            "env" | "cross-env" => true,
            _ => break,
        };
        let pairs: Vec<_> = words[1..]
            .iter()
            .map_while(|word| assignment(word).filter(|_| assigner))
            .collect();
        let Some(next) = words.get(1 + pairs.len()) else {
            break;
        };
        if text(next).starts_with('-') {
            break;
        }
        words.drain(..=pairs.len());
        env.extend(pairs);
    }
    env
}

fn assignment(word: &OsString) -> Option<(OsString, OsString)> {
    let (name, value) = word.to_str()?.split_once('=')?;
    let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    good.then(|| (name.into(), value.into()))
}

fn from_plain_words(scope: &Scope, words: Vec<OsString>) -> Result<Program, ResolveError> {
    let Some(first) = words.first().cloned() else {
        return Err(ResolveError::EmptyName);
    };
    let name = text(&first).into_owned();
    if scope.plain_will_do() && (is_wrapper(&name) || Manager::of(&name).is_some()) {
        return plain(scope, words);
    }
    if let Some(manager) = Manager::of(&name) {
        return package::command(scope, manager, &words);
    }
    if let Some(script) = package_run(&words) {
        return package::command(scope, Manager::Bun, &script);
    }
    if let ("sh" | "bash" | "dash", [_, option, line]) = (base(&name), words.as_slice())
        && option == "-c"
        && let Some(line) = line.to_str()
    {
        return from_line(scope, line, vec![]);
    }
    refuse_inner_line(scope, &words)?;
    refuse_forker(scope, &words)?;
    refuse_wrapper(scope, &words)?;
    if Runtime::of(&name).is_some() {
        return runtime(scope, words, 0);
    }
    if PREFIXES.contains(&base(&name)) {
        let wrapped = words
            .iter()
            .skip(1)
            .position(|word| is_wrapper(&text(word)) || Manager::of(&text(word)).is_some());
        if let Some(at) = wrapped.filter(|_| !scope.plain_will_do()) {
            return Err(wrapper(scope, &words[at + 1..]));
        }
        return match words.iter().position(|word| Runtime::of(&text(word)).is_some()) {
            Some(at) => runtime(scope, words, at),
            None => plain(scope, words),
        };
    }
    let args = words[1..].to_vec();
    if let Some(path) = scope.search.file(&first) {
        return file::run(scope, path, args);
    }
    match scope.search.program(&first) {
        // A script of Node's that is found in PATH is a script of Node's.
        Some(path) => file::run(scope, path, args),
        None => Err(program_not_found(scope, name)),
    }
}

fn program_not_found(scope: &Scope, name: String) -> ResolveError {
    let path = scope.search.absolute(&name);
    match missing::script(path.clone(), Path::new(&name)) {
        ResolveError::ScriptNotFound { nearest, .. }
            if !name.contains('/') && !file::has_known_extension(&path) =>
        {
            ResolveError::ProgramNotFound {
                name,
                cwd: scope.search.cwd.clone(),
                nearest,
            }
        }
        other => other,
    }
}

/// A program as it is, without the channel.
fn plain(scope: &Scope, words: Vec<OsString>) -> Result<Program, ResolveError> {
    let mut words = words.into_iter();
    let first = words.next().unwrap_or_default();
    let Some(path) = scope.search.program(&first) else {
        return Err(program_not_found(scope, text(&first).into_owned()));
    };
    if !scope.node_args.is_empty() {
        return Err(ResolveError::NodeArgsWithoutInterpreter { path });
    }
    Ok(Program::plain(path, words.collect()))
}

/// A command in which the word at `at` is Node or its kin.
fn runtime(scope: &Scope, words: Vec<OsString>, at: usize) -> Result<Program, ResolveError> {
    let name = text(&words[at]).into_owned();
    let not_found = |name: &OsStr| missing::interpreter(scope, &text(name), false);
    let program = scope
        .search
        .program(&words[0])
        .ok_or_else(|| not_found(&words[0]))?;
    let runtime_program = scope
        .search
        .program(&words[at])
        .ok_or_else(|| not_found(&words[at]))?;
    if scope.direct {
        return plain(scope, words);
    }
    let mut args: Vec<OsString> = words[1..].to_vec();
    let own: Vec<String> = words[at + 1..]
        .iter()
        .map(|word| text(word).into_owned())
        .collect();
    if Runtime::of(&name) != Some(Runtime::Node) {
        return Ok(foreign_runtime(scope, program, &words, args, &own, at));
    }
    let script_at = match invocation(&own) {
        Invocation::Script(script_at) => script_at,
        _ if scope.listens => return plain(scope, words),
        Invocation::Watch(option) => {
            let script = own.iter().find(|word| !word.starts_with('-'));
            let script = script.map_or(Path::new("app.js"), Path::new);
            return Err(file::watch(&format!("{name} {option}"), script));
        }
        Invocation::NoScript(option) => {
            return Err(ResolveError::NodeWithoutScript {
                command: format!("{name} {option}"),
            });
        }
        Invocation::Nothing => {
            return Err(ResolveError::NodeWithoutScript {
                command: joined(&words),
            });
        }
    };
    let script = node_script(scope, &own[script_at])?;
    let mut options = own[..script_at].to_vec();
    options.extend(scope.node_args.iter().cloned());
    let flag = file::typescript_flag(scope, &runtime_program, &options, &script)?;
    let mut insert: Vec<OsString> = flag.iter().map(OsString::from).collect();
    insert.extend(scope.node_args.iter().map(OsString::from));
    // `args` has no first word: what follows Node's own word begins at `at`.
    let before_script =
        at + script_at - usize::from(own[..script_at].last().is_some_and(|word| word == "--"));
    args.splice(before_script..before_script, insert);
    Ok(Program {
        channel: true,
        ..Program::plain(program, args)
    }
    .named(&script))
}

/// Deno and Bun have their own ways of finding a script; they are taken as they are.
fn foreign_runtime(
    scope: &Scope,
    program: PathBuf,
    words: &[OsString],
    mut args: Vec<OsString>,
    own: &[String],
    at: usize,
) -> Program {
    let verb = usize::from(
        own.first()
            .is_some_and(|word| matches!(word.as_str(), "run" | "serve")),
    );
    args.splice(at + verb..at + verb, scope.node_args.iter().map(OsString::from));
    let script = own.iter().skip(verb).find(|word| !word.starts_with('-'));
    let name = script.map_or_else(|| PathBuf::from(&words[at]), PathBuf::from);
    Program {
        channel: true,
        ..Program::plain(program, args)
    }
    .named(&name)
}

/// The file that Node runs for `node word`.
fn node_script(scope: &Scope, word: &str) -> Result<PathBuf, ResolveError> {
    let path = scope.search.absolute(word);
    if path.is_file() {
        file::check_readable(&path)?;
        return Ok(path);
    }
    let with_extension = ["js", "json", "node"]
        .iter()
        .map(|e| PathBuf::from(format!("{}.{e}", path.display())));
    let with_extension = with_extension.into_iter().find(|path| path.is_file());
    match with_extension {
        Some(found) => Ok(found),
        None => package::main_of(&path)?.ok_or_else(|| missing::script(path, Path::new(word))),
    }
}

/// `bun run script` of a package, as the words of a package manager.
fn package_run(words: &[OsString]) -> Option<Vec<OsString>> {
    let name = text(words.first()?);
    let verb = text(words.get(1)?);
    let script = text(words.get(2)?);
    let is_bun = Runtime::of(&name) == Some(Runtime::Bun) && verb == "run";
    (is_bun && !script.contains(['.', '/']) && !script.starts_with('-')).then(|| words.to_vec())
}
