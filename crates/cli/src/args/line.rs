//! The command line as pm2's users write it, made into one that clap reads: options before the verb, options with a
//! value that may be missing, and, in pm2 mode, options that say nothing to this verb.
//!
//! Decides only. What comes after `--` is never touched.

use clap::{Arg, Command};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A command line, ready for clap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) words: Vec<OsString>,
    /// We were called as pm2: output and exit codes follow it.
    pub(crate) pm2: bool,
}

/// Options of ours that clap wants with `=`, and that pm2 lets be followed by a value or not.
const OPTIONAL: [&str; 2] = ["--watch", "--filter-env"];
/// Takes all numbers that follow.
const MANY: [&str; 2] = ["--stop-exit-codes", "--stop_exit_codes"];

/// Reads who we are, and puts words where clap expects them. `command` is asked only if need be: it is not for nothing.
pub(crate) fn prepare(argv: impl IntoIterator<Item = OsString>, command: impl FnOnce() -> Command) -> Line {
    let mut words: Vec<OsString> = argv.into_iter().collect();
    let name = words
        .first()
        .map(|word| Path::new(word).file_name() == Some(OsStr::new("pm2")));
    let mut pm2 = name.unwrap_or(false);
    if words.get(1).is_some_and(|word| word == "--pm2") {
        words.remove(1);
        pm2 = true;
    }
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let app_args = words.split_off(end);
    if pm2 || needs_work(&words) {
        let mut command = command();
        command.build();
        words = work(words, &command, pm2);
    }
    words.extend(app_args);
    Line { words, pm2 }
}

fn needs_work(words: &[OsString]) -> bool {
    let odd = |word: &OsString| OPTIONAL.iter().chain(&MANY).any(|option| word == option);
    words.get(1).is_some_and(|word| is_option(word)) || words.iter().any(odd)
}

fn is_option(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-") && word != "-"
}

fn work(words: Vec<OsString>, command: &Command, pm2: bool) -> Vec<OsString> {
    let Some(most) = command.find_subcommand("start") else {
        return words;
    };
    let Some(at) = verb(&words, command, most) else {
        return words;
    };
    let mut rest = words;
    let mut line = vec![rest.remove(0), rest.remove(at - 1)];
    let verb = line[1].to_str().and_then(|verb| command.find_subcommand(verb));
    if let Some(verb) = verb {
        rest = joined(rest, verb);
        if pm2 {
            rest = known(rest, verb, most);
        }
    }
    line.extend(rest);
    line
}

/// Where the verb is, if options before it are such as a verb has.
fn verb(words: &[OsString], command: &Command, most: &Command) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        if !is_option(word) {
            return word
                .to_str()
                .and_then(|word| command.find_subcommand(word))
                .map(|_| at);
        }
        at += 1 + usize::from(find(most, word)?.takes_next);
    }
    None
}

/// An option of a verb.
struct Known<'a> {
    arg: &'a Arg,
    /// The next word is its value.
    takes_next: bool,
}

/// The option that a word is.
fn find<'a>(verb: &'a Command, word: &OsStr) -> Option<Known<'a>> {
    let text = word.to_str()?;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let arg = verb.get_arguments().find(|arg| match name.strip_prefix("--") {
        Some(long) => {
            arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
        }
        None => name
            .chars()
            .nth(1)
            .is_some_and(|short| arg.get_short() == Some(short)),
    })?;
    let takes = arg.get_action().takes_values() && !arg.is_require_equals_set();
    let glued = !name.starts_with("--") && name.len() > 2;
    Some(Known {
        arg,
        takes_next: takes && value.is_none() && !glued,
    })
}

/// `--watch src` to `--watch=src`, `--stop-exit-codes 0 42` to `--stop-exit-codes=0,42`.
fn joined(words: Vec<OsString>, verb: &Command) -> Vec<OsString> {
    let mut line: Vec<OsString> = Vec::new();
    let mut named = false;
    let mut words = words.into_iter().peekable();
    while let Some(mut word) = words.next() {
        let option = OPTIONAL.iter().any(|option| word == *option);
        if option && words.peek().is_some_and(|next| !is_option(next)) {
            // The only word there is must be what is to be started.
            let others = named || words.clone().skip(1).any(|word| !is_option(&word));
            if others && let Some(value) = words.next() {
                word.push("=");
                word.push(value);
            }
        } else if MANY.iter().any(|option| word == *option) {
            let mut mark = "=";
            while let Some(code) = words.next_if(|next| next.to_str().is_some_and(is_codes)) {
                word.push(mark);
                word.push(code);
                mark = ",";
            }
        } else if !is_option(&word) {
            named = true;
        } else if find(verb, &word).is_some_and(|known| known.takes_next) {
            line.push(word);
            line.extend(words.next());
            continue;
        }
        line.push(word);
    }
    line
}

fn is_codes(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
}

/// Without the options that other verbs know and this one does not: pm2 takes all of them everywhere.
fn known(words: Vec<OsString>, verb: &Command, most: &Command) -> Vec<OsString> {
    let mut line = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let here = is_option(&word).then(|| find(verb, &word)).flatten();
        let there = is_option(&word).then(|| find(most, &word)).flatten();
        match (here, there) {
            (None, Some(known)) if !known.arg.is_positional() => {
                if known.takes_next {
                    words.next();
                }
            }
            (Some(known), _) if known.takes_next => {
                line.push(word);
                line.extend(words.next());
            }
            _ => line.push(word),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::CommandFactory;

    fn line(words: &[&str]) -> String {
        let line = prepare(words.iter().map(OsString::from), Cli::command);
        let words: Vec<&str> = line.words.iter().map(|word| word.to_str().unwrap()).collect();
        format!("{}{}", if line.pm2 { "pm2! " } else { "" }, words.join(" "))
    }

    #[test]
    fn who_we_are() {
        for (words, expected) in [
            (&["everup", "list"][..], "everup list"),
            (&["/usr/bin/pm2", "list"], "pm2! /usr/bin/pm2 list"),
            (&["everup", "--pm2", "list"], "pm2! everup list"),
            (&["everup"], "everup"),
            (&["everup", "--version"], "everup --version"),
            (
                &["everup", "start", "x", "--", "--pm2", "--watch", "y"],
                "everup start x -- --pm2 --watch y",
            ),
        ] {
            assert_eq!(line(words), expected);
        }
    }

    #[test]
    fn options_before_the_verb() {
        for (words, expected) in [
            (
                &["everup", "-n", "a", "start", "x.js"][..],
                "everup start -n a x.js",
            ),
            (
                &["everup", "-i2", "--name=a", "start", "x.js"],
                "everup start -i2 --name=a x.js",
            ),
            (&["everup", "-m", "list"], "everup list -m"),
            (&["everup", "-s", "delete", "all"], "everup delete -s all"),
            (&["everup", "--bogus", "list"], "everup --bogus list"),
        ] {
            assert_eq!(line(words), expected);
        }
    }

    #[test]
    fn values_that_may_be_missing() {
        for (words, expected) in [
            (
                &["everup", "start", "--watch", "x.js"][..],
                "everup start --watch x.js",
            ),
            (
                &["everup", "start", "x.js", "--watch"],
                "everup start x.js --watch",
            ),
            (
                &["everup", "start", "x.js", "--watch", "src", "-i", "2"],
                "everup start x.js --watch=src -i 2",
            ),
            (
                &["everup", "start", "--watch", "src", "x.js"],
                "everup start --watch=src x.js",
            ),
            (
                &["everup", "start", "-n", "a", "--watch", "x.js"],
                "everup start -n a --watch x.js",
            ),
            (
                &["everup", "start", "x.js", "--stop-exit-codes", "0", "42", "-f"],
                "everup start x.js --stop-exit-codes=0,42 -f",
            ),
        ] {
            assert_eq!(line(words), expected);
        }
    }

    #[test]
    fn pm2_takes_every_option_everywhere() {
        for (words, expected) in [
            (&["pm2", "list", "--name", "x", "-a"][..], "pm2! pm2 list"),
            (
                &["pm2", "stop", "x", "-i", "3", "--update-env"],
                "pm2! pm2 stop x",
            ),
            (&["pm2", "list", "--bogus"], "pm2! pm2 list --bogus"),
            (&["pm2", "scale", "x", "-1"], "pm2! pm2 scale x -1"),
        ] {
            assert_eq!(line(words), expected);
        }
    }
}
