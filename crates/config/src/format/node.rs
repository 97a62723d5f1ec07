//! `--node`: the file is evaluated by the user's own Node, for whatever the embedded engine cannot do.

use super::{Parsed, process};
use crate::Options;
use crate::finding::{Finding, Source};
use crate::tree::Node;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Before the result in what Node writes: files may write lines of their own.
const MARK: &str = "\u{1}everup\u{1}";
/// A file that takes longer is not waited for.
const LIMIT: Duration = Duration::from_secs(30);
const PROGRAM: &str = include_str!("../js/node.mjs");

pub(super) fn evaluate(source: &Source, options: &Options) -> Result<Parsed, Finding> {
    let mut command = Command::new("node");
    command
        .args([
            OsStr::new("--input-type=module"),
            OsStr::new("-e"),
            OsStr::new(PROGRAM),
        ])
        .args([OsStr::new("--"), source.path.as_os_str(), OsStr::new(MARK)])
        .env_clear()
        .envs(&options.process_env);
    if options.cwd.is_dir() {
        command.current_dir(&options.cwd);
    }
    let ended = process::run(&mut command, LIMIT).map_err(|error| not_run(source, &error))?;
    if !ended.status.success() {
        return Err(thrown(source, &ended.err));
    }
    let parts = ended.out.rsplit_once(MARK);
    let value = parts.and_then(|(_, json)| serde_json::from_str::<serde_json::Value>(json).ok());
    let finding = || {
        source
            .finding(None, "it ended without a result")
            .hint("does it call process.exit()?")
    };
    let root = Node::from(value.ok_or_else(finding)?);
    let printed = parts
        .map_or("", |(printed, _)| printed)
        .lines()
        .map(str::to_owned);
    Ok(Parsed {
        root,
        printed: printed.collect(),
    })
}

fn not_run(source: &Source, error: &std::io::Error) -> Finding {
    if error.kind() == std::io::ErrorKind::TimedOut {
        return source.finding(None, format!("it took more than {} s", LIMIT.as_secs()));
    }
    let finding = source.finding(None, format!("node cannot be run: {error}"));
    finding.hint("--node needs Node in PATH")
}

/// What Node said of an error, and where: the first place of the file itself in it.
fn thrown(source: &Source, err: &str) -> Finding {
    let is_message = |line: &&str| line.contains("Error") && !line.trim_start().starts_with("at ");
    let message = err.lines().find(is_message).or_else(|| err.lines().next());
    let mut finding = source.finding(None, message.unwrap_or("node failed").trim());
    finding.place = place(&source.path, err).map(|(line, column)| Box::new(source.at(line, column)));
    finding
}

/// `PATH:LINE[:COLUMN]` of this file.
pub(super) fn place(path: &Path, text: &str) -> Option<(usize, usize)> {
    let path = path.to_str()?;
    text.match_indices(path).find_map(|(at, _)| {
        let mut numbers = text.get(at + path.len()..)?.strip_prefix(':')?.split(':');
        let mut number = || {
            let digits: String = numbers.next()?.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        Some((number()?, number().unwrap_or(1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_what_node_says() {
        let path = Path::new("/srv/a.js");
        assert_eq!(place(path, "/srv/a.js:3\n  oops\n"), Some((3, 1)));
        assert_eq!(place(path, "E: x\n  at f (/srv/a.js:12:7)\n"), Some((12, 7)));
        assert_eq!(place(path, "at file:///srv/a.js:2:1"), Some((2, 1)));
        assert_eq!(place(path, "at /srv/b.js:2:1"), None);
    }
}
