//! A command: the words of a shell line, or a program's name with the arguments after `--`.

use super::line::{self, Command, LineError, Shape, ShellLine};
use super::node::{Invocation, Runtime, invocation};
use super::package::{self, Manager};
use super::search::base;
use super::{Program, ResolveError, Scope, file};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Programs that start the app as a process of their own, so that Node's channel would end with them.
const WRAPPERS: [&str; 39] = [
    "npx",
    "pnpx",
    "bunx",
    "nodemon",
    "node-dev",
    "tsx",
    "ts-node",
    "ts-node-esm",
    "ts-node-dev",
    "tsnd",
    "esrun",
    "vite-node",
    "babel-node",
    "swc-node",
    "tsc-watch",
    "concurrently",
    "npm-run-all",
    "npm-run-all2",
    "run-s",
    "run-p",
    "pm2",
    "pm2-runtime",
    "forever",
    "supervisor",
    "nest",
    "react-scripts",
    "env-cmd",
    "dotenv",
    "dotenvx",
    "cross-env-shell",
    "corepack",
    "turbo",
    "nx",
    "lerna",
    "foreman",
    "nf",
    "sudo",
    "doas",
    "su",
];

/// Programs that end in `exec` of their last arguments: the channel passes through.
const PREFIXES: [&str; 13] = [
    "env",
    "nice",
    "ionice",
    "taskset",
    "numactl",
    "chrt",
    "stdbuf",
    "setarch",
    "prlimit",
    "nohup",
    "setsid",
    "tini",
    "dumb-init",
];

fn text(word: &OsStr) -> std::borrow::Cow<'_, str> {
    word.to_string_lossy()
}

fn joined(words: &[OsString]) -> String {
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
            None => {
                let path = scope.search.absolute(first);
                let nearest = super::search::nearest(&path);
                Err(ResolveError::ScriptNotFound { path, nearest })
            }
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
fn strip_assigners(words: &mut Vec<OsString>) -> Vec<(OsString, OsString)> {
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
    let nearest = super::search::nearest(&path);
    if name.contains('/') || file::has_known_extension(&path) {
        return ResolveError::ScriptNotFound { path, nearest };
    }
    ResolveError::ProgramNotFound {
        name,
        cwd: scope.search.cwd.clone(),
        nearest,
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
    let not_found = |name: &OsStr| ResolveError::InterpreterNotFound {
        name: text(name).into(),
        given: false,
    };
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
    let found = with_extension
        .into_iter()
        .find(|path| path.is_file())
        .or_else(|| package::main_of(&path));
    match found {
        Some(found) => Ok(found),
        None if path.is_dir() => Err(ResolveError::DirectoryWithoutMain { path }),
        None => {
            let nearest = super::search::nearest(&path);
            Err(ResolveError::ScriptNotFound { path, nearest })
        }
    }
}

fn is_wrapper(word: &str) -> bool {
    WRAPPERS.contains(&base(word))
}

/// `bun run script` of a package, as the words of a package manager.
fn package_run(words: &[OsString]) -> Option<Vec<OsString>> {
    let name = text(words.first()?);
    let verb = text(words.get(1)?);
    let script = text(words.get(2)?);
    let is_bun = Runtime::of(&name) == Some(Runtime::Bun) && verb == "run";
    (is_bun && !script.contains(['.', '/']) && !script.starts_with('-')).then(|| words.to_vec())
}

/// Refuses a command that would swallow the channel, unless the app needs none.
pub(super) fn refuse_wrapper(scope: &Scope, words: &[OsString]) -> Result<(), ResolveError> {
    let name = words
        .first()
        .map(|word| text(word).into_owned())
        .unwrap_or_default();
    let verb = words
        .get(1)
        .map(|word| text(word).into_owned())
        .unwrap_or_default();
    let spawns = match Runtime::of(&name) {
        Some(Runtime::Deno) => verb == "task",
        Some(Runtime::Bun) => verb == "x",
        Some(Runtime::Node) | None => is_wrapper(&name),
    };
    let watches = matches!(Runtime::of(&name), Some(Runtime::Deno | Runtime::Bun))
        && words.iter().take(4).any(|word| word == "--watch");
    if (spawns || watches) && !scope.plain_will_do() {
        Err(wrapper(scope, words))
    } else {
        Ok(())
    }
}

/// The refusal of a command, with what to write instead if that can be guessed.
pub(super) fn wrapper(scope: &Scope, words: &[OsString]) -> ResolveError {
    let name = words
        .first()
        .map(|word| base(&text(word)).to_owned())
        .unwrap_or_default();
    let next = words
        .iter()
        .skip(1)
        .map(|word| text(word))
        .find(|word| !word.starts_with('-'));
    let instead = next.and_then(|next| match name.as_str() {
        "nodemon" | "node-dev" | "supervisor" | "forever" | "deno" | "bun"
            if scope.search.file(&*next).is_some() =>
        {
            Some(format!("everup run {next}"))
        }
        "tsx" if scope.search.file(&*next).is_some() => {
            Some(format!("everup run {next} --node-args \"--import tsx\""))
        }
        "ts-node" | "ts-node-esm" | "ts-node-dev" | "tsnd" if scope.search.file(&*next).is_some() => {
            Some(format!("everup run {next} --node-args \"-r ts-node/register\""))
        }
        "npx" | "pnpx" | "bunx" if !is_wrapper(&next) => {
            let bin = format!("node_modules/.bin/{next}");
            scope.search.file(&bin).map(|_| format!("everup run {bin}"))
        }
        "sudo" | "doas" => Some(format!("{name} everup run …")),
        _ => None,
    });
    ResolveError::Wrapper {
        command: joined(words),
        instead,
    }
}

/// What a command of a line is, for the question who gets the channel.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Node,
    Wrapper,
    Other,
}

/// The words of a command as far as they matter, without what passes the channel on.
fn kind(command: &Command) -> (Kind, Vec<OsString>) {
    let mut words: Vec<OsString> = command.words.iter().map(OsString::from).collect();
    if words.first().is_some_and(|word| base(&text(word)) != "cross-env") {
        strip_assigners(&mut words);
    }
    let is_special = |word: &OsString| {
        Runtime::of(&text(word)).is_some() || is_wrapper(&text(word)) || Manager::of(&text(word)).is_some()
    };
    if words
        .first()
        .is_some_and(|word| PREFIXES.contains(&base(&text(word))))
        && let Some(at) = words.iter().position(is_special)
    {
        words.drain(..at);
    }
    let Some(first) = words.first() else {
        return (Kind::Other, words);
    };
    let name = text(first).into_owned();
    let kind = if Runtime::of(&name).is_some() {
        Kind::Node
    } else if is_wrapper(&name) || Manager::of(&name).is_some() || base(&name) == "cross-env" {
        Kind::Wrapper
    } else {
        Kind::Other
    };
    (kind, words)
}

/// Resolves a line that only a shell can run.
fn from_shell(
    scope: &Scope,
    written: &str,
    read: &ShellLine,
    extra: Vec<OsString>,
) -> Result<Program, ResolveError> {
    let channel = gets_channel(scope, written, read)?;
    if !scope.node_args.is_empty() {
        return Err(ResolveError::NodeArgsOfLine { line: written.into() });
    }
    let shell = scope
        .search
        .first_program(&["bash", "sh"])
        .ok_or(ResolveError::NoShell)?;
    let mut line = written.to_owned();
    let last = &read.commands[read.commands.len() - 1];
    if !extra.is_empty() {
        if read.shape == Shape::Complex || written.contains('#') {
            return Err(ResolveError::ArgumentsOfLine { line: written.into() });
        }
        line = format!("{} \"$@\"", written.trim_end().trim_end_matches(';'));
    }
    if read.shape != Shape::Complex
        && last
            .words
            .first()
            .is_some_and(|word| scope.search.program(word).is_some())
    {
        line.insert_str(last.start, "exec ");
    }
    let mut args: Vec<OsString> = vec!["-c".into(), line.into()];
    if !extra.is_empty() {
        args.push("everup".into());
        args.extend(extra);
    }
    let (_, words) = kind(last);
    let script = words
        .iter()
        .skip(usize::from(channel))
        .find(|word| !text(word).starts_with('-'));
    let name = script.map_or_else(|| shell.clone(), PathBuf::from);
    Ok(Program {
        channel,
        ..Program::plain(shell, args)
    }
    .named(&name))
}

/// Whether the channel of a line goes to one Node process and to nobody else; refuses what is neither.
fn gets_channel(scope: &Scope, written: &str, read: &ShellLine) -> Result<bool, ResolveError> {
    let kinds: Vec<(Kind, Vec<OsString>)> = read.commands.iter().map(kind).collect();
    let Some(((last, words), before)) = kinds.split_last() else {
        return Ok(false);
    };
    let touched = before.iter().any(|(kind, _)| *kind != Kind::Other);
    if scope.direct || (!touched && *last == Kind::Other) {
        return Ok(false);
    }
    match read.shape {
        Shape::List if *last == Kind::Other => return Ok(false),
        Shape::Simple | Shape::List if !touched && *last == Kind::Node => {
            let own: Vec<_> = words[1..].iter().map(|word| text(word)).collect();
            return match invocation(&own) {
                Invocation::Script(_) => Ok(true),
                _ if scope.listens => Ok(false),
                Invocation::Watch(_) => Err(wrapper(scope, words)),
                Invocation::NoScript(_) | Invocation::Nothing => Err(ResolveError::NodeWithoutScript {
                    command: joined(words),
                }),
            };
        }
        _ if scope.listens => return Ok(false),
        Shape::Simple | Shape::List if !touched => return Err(wrapper(scope, words)),
        Shape::Simple | Shape::List | Shape::Complex => {}
    }
    let instead = match read.shape {
        Shape::List => {
            let begin = read.commands[read.commands.len() - 1].begin;
            let (first, rest) = written.split_at(begin);
            Some(format!(
                "{first}everup run \"{}\"",
                rest.trim().replace('"', "\\\"")
            ))
        }
        // `node app.js | pretty`: the pipe belongs behind everup.
        Shape::Complex if kinds[0].0 == Kind::Node && !written.contains(['&', ';', '(', '{']) => {
            let (first, rest) = written.split_once('|').unwrap_or((written, ""));
            Some(format!(
                "everup run \"{}\" |{rest}",
                first.trim().replace('"', "\\\"")
            ))
        }
        Shape::Simple | Shape::Complex => None,
    };
    Err(ResolveError::SharedChannel {
        line: written.into(),
        instead,
    })
}
