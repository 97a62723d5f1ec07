//! A line that only a shell can run: who in it gets the cluster channel?

use super::command::{PREFIXES, joined, strip_assigners, text};
use super::line::{self, Command, Shape, ShellLine};
use super::node::{Invocation, Runtime, invocation};
use super::package::Manager;
use super::search::base;
use super::shebang::{self, Head};
use super::wrapper::{forked, is_special, is_wrapper, refuse_forker, wrapper};
use super::{Program, ResolveError, Scope, file};
use std::ffi::OsString;
use std::path::PathBuf;

/// What a command of a line is, for the question who gets the channel.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Node,
    Wrapper,
    /// It starts Node or a wrapper as a process of its own.
    Forker,
    Other,
}

/// Words of the shell's own after which a command begins.
const LEADING: [&str; 10] = [
    "if", "then", "elif", "else", "while", "until", "do", "!", "{", "time",
];

/// What ends soon: no app.
const BRIEF: [&str; 14] = [
    "echo", "printf", "true", "false", ":", "exit", "test", "[", "sleep", "date", "logger", "kill", "rm",
    "wait",
];

fn leads(command: &Command) -> bool {
    command
        .words
        .first()
        .is_some_and(|word| LEADING.contains(&word.as_str()))
}

/// The words of a command as far as they matter, without what passes the channel on.
fn kind(scope: &Scope, command: &Command) -> (Kind, Vec<OsString>) {
    let mut words: Vec<OsString> = command
        .words
        .iter()
        .skip_while(|word| LEADING.contains(&word.as_str()))
        .map(OsString::from)
        .collect();
    if words.first().is_some_and(|word| base(&text(word)) != "cross-env") {
        strip_assigners(&mut words);
    }
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
    } else if forked(&words).is_some() {
        Kind::Forker
    } else if let Some(runtime) = runtime_of_script(scope, &name) {
        words.insert(0, runtime.into());
        Kind::Node
    } else {
        Kind::Other
    };
    (kind, words)
}

/// The runtime in the `#!` line of an executable script.
fn runtime_of_script(scope: &Scope, name: &str) -> Option<String> {
    match shebang::look(&scope.search.program(name)?) {
        Ok(Head::Shebang(shebang)) => Runtime::of(&shebang.program).map(|_| shebang.program),
        Ok(Head::Text | Head::Binary) | Err(_) => None,
    }
}

/// Refuses `bash -lc 'node app.js'` and its like; `bash -c` alone has been read as the line that it is.
pub(super) fn refuse_inner_line(scope: &Scope, words: &[OsString]) -> Result<(), ResolveError> {
    let words: Vec<_> = words.iter().map(|word| text(word)).collect();
    let shell = words
        .first()
        .is_some_and(|word| matches!(base(word), "sh" | "bash" | "dash" | "zsh" | "ksh"));
    let options = words
        .iter()
        .skip(1)
        .take_while(|word| word.starts_with('-'))
        .count();
    let given = |word: &&std::borrow::Cow<'_, str>| !word.starts_with("--") && word.contains('c');
    let runs_line = options > 0 && words[1..=options].iter().any(|word| given(&word));
    let Some(inner) = words.get(options + 1).filter(|_| shell && runs_line) else {
        return Ok(());
    };
    let Ok(read) = line::read(inner) else {
        return Ok(());
    };
    let touches = |command: &Command| kind(scope, command).0 != Kind::Other;
    if scope.plain_will_do() || !read.commands.iter().any(touches) {
        return Ok(());
    }
    let instead = !inner.contains(['"', '$', '`', '\\']);
    Err(ResolveError::BehindShell {
        line: words.join(" "),
        instead: instead.then(|| format!("everup run \"{inner}\"")),
    })
}

/// Resolves a line that only a shell can run.
pub(super) fn from_shell(
    scope: &Scope,
    written: &str,
    read: &ShellLine,
    extra: Vec<OsString>,
) -> Result<Program, ResolveError> {
    refuse_scripts(scope, written, read)?;
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
    let program = Program {
        channel,
        notices: unheard(scope, read, channel),
        ..Program::plain(shell, args)
    };
    Ok(program.named(&name(scope, read, channel)))
}

/// A name for the line: its script's, if that is a plain word.
fn name(scope: &Scope, read: &ShellLine, channel: bool) -> PathBuf {
    let (_, words) = kind(scope, &read.commands[read.commands.len() - 1]);
    let words: Vec<_> = words.iter().map(|word| text(word)).collect();
    let own = words.get(1..).unwrap_or_default();
    let script = match invocation(own) {
        Invocation::Script(at) if channel => own.get(at),
        _ => words.iter().find(|word| !word.starts_with('-')),
    };
    let plain = |word: &&std::borrow::Cow<'_, str>| {
        word.chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@' | '+' | ':'))
    };
    let words = script.into_iter().chain(words.first());
    let mut words = words.filter(plain);
    let compound = read.commands.iter().any(leads);
    let word = words.next().filter(|_| !compound);
    word.map_or_else(|| "app".into(), |word| PathBuf::from(&**word))
}

/// A word about a Node in the line that gets no channel.
fn unheard(scope: &Scope, read: &ShellLine, channel: bool) -> Vec<String> {
    let node = read
        .commands
        .iter()
        .find(|command| kind(scope, command).0 == Kind::Node);
    match node.filter(|_| !channel && !scope.plain_will_do()) {
        Some(command) => vec![format!(
            "`{}` gets no cluster channel: the last command of the line is taken for the app",
            command.words.join(" ")
        )],
        None => vec![],
    }
}

/// Refuses scripts that the shell would not find, or not execute.
fn refuse_scripts(scope: &Scope, written: &str, read: &ShellLine) -> Result<(), ResolveError> {
    for command in &read.commands {
        let (_, words) = kind(scope, command);
        let Some(word) = words.first() else { continue };
        let interpreter = scope
            .search
            .file(word)
            .and_then(|path| file::interpreter_name(&path));
        if let (Some(interpreter), None) = (interpreter, scope.search.program(word)) {
            return Err(ResolveError::ScriptInLine {
                line: written.into(),
                script: text(word).into(),
                interpreter,
            });
        }
    }
    Ok(())
}

/// Whether the channel of a line goes to one Node process and to nobody else; refuses what is neither.
fn gets_channel(scope: &Scope, written: &str, read: &ShellLine) -> Result<bool, ResolveError> {
    let kinds: Vec<(Kind, Vec<OsString>)> =
        read.commands.iter().map(|command| kind(scope, command)).collect();
    let Some(((last, words), before)) = kinds.split_last() else {
        return Ok(false);
    };
    let touched = before.iter().any(|(kind, _)| *kind != Kind::Other);
    if scope.direct || (!touched && *last == Kind::Other) {
        return Ok(false);
    }
    let forker = kinds.iter().find(|(kind, _)| *kind == Kind::Forker);
    if let Some((_, words)) = forker {
        refuse_forker(scope, words)?;
    }
    match read.shape {
        _ if scope.listens && (touched || *last != Kind::Node) => return Ok(false),
        Shape::Complex if scope.listens => return Ok(false),
        Shape::List if *last == Kind::Other => return is_behind_shell(scope, written, &kinds),
        Shape::Simple | Shape::List if !touched && *last == Kind::Node => {
            return single(scope, words);
        }
        Shape::Simple | Shape::List if !touched => return Err(wrapper(scope, words)),
        Shape::Complex if read.commands.iter().any(leads) => return Err(behind_shell(written, &kinds)),
        Shape::Simple | Shape::List | Shape::Complex => {}
    }
    Err(ResolveError::SharedChannel {
        line: written.into(),
        instead: elsewhere(written, read, &kinds),
    })
}

/// Whether the only Node of a line gets the channel.
fn single(scope: &Scope, words: &[OsString]) -> Result<bool, ResolveError> {
    let own: Vec<_> = words[1..].iter().map(|word| text(word)).collect();
    match invocation(&own) {
        Invocation::Script(_) => Ok(true),
        _ if scope.listens => Ok(false),
        Invocation::Watch(_) => Err(wrapper(scope, words)),
        Invocation::NoScript(_) | Invocation::Nothing => Err(ResolveError::NodeWithoutScript {
            command: joined(words),
        }),
    }
}

/// `node app.js && echo done`: the shell stays, and Node is not the last. It is the app all the same if the last
/// command cannot be one; else Node only prepares something.
fn is_behind_shell(
    scope: &Scope,
    written: &str,
    kinds: &[(Kind, Vec<OsString>)],
) -> Result<bool, ResolveError> {
    let node = kinds.iter().any(|(kind, _)| *kind == Kind::Node);
    let last = kinds.last().and_then(|(_, words)| words.first());
    let serves =
        last.is_some_and(|word| !BRIEF.contains(&base(&text(word))) && scope.search.program(word).is_some());
    if node && !serves {
        return Err(behind_shell(written, kinds));
    }
    Ok(false)
}

fn behind_shell(written: &str, kinds: &[(Kind, Vec<OsString>)]) -> ResolveError {
    let mut special = kinds.iter().filter(|(kind, _)| *kind != Kind::Other);
    let alone = match (special.next(), special.next()) {
        (Some((Kind::Node, words)), None) => Some(joined(words)),
        _ => None,
    };
    let line = written.into();
    let plain = |line: &String| !line.contains(['"', '\'', '$', '`', '\\', '*', '?']);
    let instead = alone.filter(plain).map(|line| format!("everup run \"{line}\""));
    ResolveError::BehindShell { line, instead }
}

/// What to write instead of a line in which the channel is shared.
fn elsewhere(written: &str, read: &ShellLine, kinds: &[(Kind, Vec<OsString>)]) -> Option<String> {
    match read.shape {
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
    }
}
