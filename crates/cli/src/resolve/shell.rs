//! A line that only a shell can run: who in it gets the cluster channel?

use super::command::{PREFIXES, joined, strip_assigners, text};
use super::line::{Command, Shape, ShellLine};
use super::node::{Invocation, Runtime, invocation};
use super::package::Manager;
use super::search::base;
use super::wrapper::{is_wrapper, wrapper};
use super::{Program, ResolveError, Scope};
use std::ffi::OsString;
use std::path::PathBuf;

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
pub(super) fn from_shell(
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
