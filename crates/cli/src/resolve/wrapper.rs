//! Programs that would swallow the cluster channel, and what to write instead of them.

use super::command::{joined, text};
use super::node::Runtime;
use super::package::Manager;
use super::search::base;
use super::{ResolveError, Scope};
use std::ffi::OsString;

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

/// Programs that start another one as a process of their own and wait for it. It gets the channel, but it is not
/// the process that we know.
const FORKERS: [&str; 19] = [
    "timeout",
    "time",
    "strace",
    "ltrace",
    "gdb",
    "perf",
    "valgrind",
    "watch",
    "xargs",
    "parallel",
    "script",
    "unbuffer",
    "flock",
    "entr",
    "setsid",
    "tini",
    "dumb-init",
    "catatonit",
    "systemd-run",
];

/// Whether a command that begins with this word can take the channel, or swallow it.
pub(super) fn is_special(word: &OsString) -> bool {
    let word = text(word);
    Runtime::of(&word).is_some() || is_wrapper(&word) || Manager::of(&word).is_some()
}

/// What a command starts as a process of its own, if it does so and that is special.
pub(super) fn forked(words: &[OsString]) -> Option<&[OsString]> {
    let (first, rest) = words.split_first()?;
    let at = rest.iter().position(is_special)?;
    FORKERS.contains(&base(&text(first))).then(|| &rest[at..])
}

/// Refuses a command that would keep a process between us and the app, unless it needs no channel.
pub(super) fn refuse_forker(scope: &Scope, words: &[OsString]) -> Result<(), ResolveError> {
    let name = words.first().map(|word| base(&text(word)).to_owned());
    let command = joined(words);
    let run = |words: &[OsString]| match words {
        [script] => format!("everup run {}", text(script)),
        _ => format!("everup run \"{}\"", joined(words)),
    };
    if name.as_deref() == Some("setsid") && !scope.direct {
        let own = words[1..].iter().take_while(|word| text(word).starts_with('-'));
        let app = &words[1 + own.clone().count()..];
        // It forks if it leads a group, and a worker does.
        if !own.clone().any(|word| text(word).contains('w')) && !app.is_empty() {
            let instead = run(app);
            return Err(ResolveError::Setsid { command, instead });
        }
    }
    match forked(words).filter(|_| !scope.plain_will_do()) {
        Some(app) => Err(ResolveError::Forker {
            command,
            instead: run(app),
        }),
        None => Ok(()),
    }
}

pub(super) fn is_wrapper(word: &str) -> bool {
    WRAPPERS.contains(&base(word))
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
