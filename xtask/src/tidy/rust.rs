//! Rules about Rust source: where `unsafe` may be, module docs, nothing left undone, no sleeping tests.
//!
//! They look at code only: comments and strings are blanked first ([`code_only`]).

use super::Finding;

/// The places for `unsafe`: system calls, and the tests of what happens between processes that share descriptors.
const UNSAFE_HOMES: [&str; 5] = [
    "crates/everup/src/sys/",
    "crates/keeper/src/sys/",
    "crates/keeper/tests/",
    "crates/daemon/tests/adoption.rs",
    "crates/daemon/tests/logs_killed.rs",
];
/// Words that mean "not finished".
const UNFINISHED: [&str; 3] = ["#[ignore", "todo!(", "unimplemented!("];
/// Above a sleep in a test: why no state can be waited for.
const WAIT_MARK: &str = "// wait:";

/// Applies the rules to one file.
pub(super) fn check(file: &str, source: &str) -> Vec<Finding> {
    let code = code_only(source);
    let mut findings = Vec::new();
    if needs_module_doc(file) && !source.starts_with("//!") {
        findings.push(Finding::at(
            file,
            1,
            "no module doc: begin with `//!` (job, states, what it must not know)",
        ));
    }
    let lines: Vec<&str> = source.lines().collect();
    for (index, line) in code.lines().enumerate() {
        let number = index + 1;
        let at_home = UNSAFE_HOMES.iter().any(|home| file.starts_with(home));
        if !at_home && has_word(line, "unsafe") {
            let what = format!("unsafe outside {}", UNSAFE_HOMES[..2].join(" and "));
            findings.push(Finding::at(file, number, what));
        }
        for word in UNFINISHED {
            if line.contains(word) {
                findings.push(Finding::at(file, number, format!("left undone: {word}")));
            }
        }
        if is_test_code(file) && is_sleep(line) && !is_justified(&lines, index) {
            findings.push(Finding::at(
                file,
                number,
                format!(
                    "sleep in a test: wait for a state, or say why with `{WAIT_MARK} reason` here or above"
                ),
            ));
        }
    }
    findings
}

/// `crates/<name>/src/**.rs`.
fn needs_module_doc(file: &str) -> bool {
    let mut parts = file.split('/');
    parts.next() == Some("crates") && parts.nth(1) == Some("src")
}

/// The end-to-end crate, and the integration tests of the others.
fn is_test_code(file: &str) -> bool {
    file.starts_with("e2e/") || (file.starts_with("crates/") && file.contains("/tests/"))
}

fn is_sleep(line: &str) -> bool {
    line.match_indices("sleep(")
        .any(|(at, _)| !line[..at].ends_with(is_word))
}

fn is_justified(lines: &[&str], index: usize) -> bool {
    let above = index.checked_sub(1).and_then(|index| lines.get(index));
    lines
        .get(index)
        .into_iter()
        .chain(above)
        .any(|line| line.contains(WAIT_MARK))
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The source with comments, strings and characters blanked; lines stay where they are.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let previous = code.chars().next_back();
        let blank = blank_length(rest, previous);
        if blank == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..blank].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[blank..];
        }
    }
    code
}

/// How many bytes at the start of `rest` are a comment or a literal: 0 if it is code.
fn blank_length(rest: &str, previous: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return string_length(rest);
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    if previous.is_some_and(is_word) {
        0
    } else {
        raw_string_length(rest)
    }
}

/// Block comments nest in Rust.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(next) = rest[at..].find(['/', '*']) {
        at += next;
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `'a'`, `'\n'`, `'\u{1F600}'`; 0 for a lifetime.
fn character_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => rest
            .get(3..)
            .and_then(|tail| tail.find('\''))
            .map_or(rest.len(), |end| end + 4),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// `r"…"`, `r#"…"#`, also with `b` or `c` in front; 0 if it is something else.
fn raw_string_length(rest: &str) -> usize {
    let after_prefix = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let Some(after_r) = after_prefix.strip_prefix('r') else {
        return 0;
    };
    let body = after_r.trim_start_matches('#');
    let hashes = after_r.len() - body.len();
    if !body.starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - body.len() + 1;
    rest[start..]
        .find(&end)
        .map_or(rest.len(), |at| start + at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &str, source: &str) -> Vec<String> {
        check(file, source).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn literals_and_comments_are_no_code() {
        let source = "a // unsafe\nb /* unsafe /* x */ unsafe\n*/ c \"un\\\"safe\" d r#\"un\"safe\"# e '\"' f 'x' g<'a> '\\'' h";
        let code = code_only(source);
        assert_eq!(code.split_whitespace().collect::<String>(), "abcdefg<'a>h");
        assert_eq!(code.lines().count(), source.lines().count());
        assert_eq!(
            code_only("for\"x\"r br\"y\" \"z")
                .split_whitespace()
                .collect::<String>(),
            "forr"
        );
    }

    #[test]
    fn unsafe_has_one_home() {
        let source = "//! Doc.\n#![deny(unsafe_code)]\nlet s = \"unsafe\";\nunsafe { f() }\n";
        assert_eq!(
            shown("crates/everup/src/driver.rs", source),
            [
                "crates/everup/src/driver.rs:4: unsafe outside crates/everup/src/sys/ and crates/keeper/src/sys/"
            ]
        );
        assert!(shown("crates/everup/src/sys/spawn.rs", source).is_empty());
    }

    #[test]
    fn modules_are_described() {
        let found = shown("crates/core/src/app.rs", "use std::fmt;\n");
        assert!(found[0].starts_with("crates/core/src/app.rs:1: no module doc"));
        assert!(shown("crates/core/src/app.rs", "//! Decides.\n").is_empty());
        assert!(shown("crates/core/tests/app.rs", "use std::fmt;\n").is_empty());
        assert!(shown("xtask/src/a.rs", "use std::fmt;\n").is_empty());
    }

    #[test]
    fn nothing_is_left_undone() {
        let source =
            "#[ignore = \"later\"]\nfn a() { todo!() }\nfn b() { unimplemented!(\"c\") }\n// todo!()\n";
        assert_eq!(
            shown("e2e/tests/a.rs", source),
            [
                "e2e/tests/a.rs:1: left undone: #[ignore",
                "e2e/tests/a.rs:2: left undone: todo!(",
                "e2e/tests/a.rs:3: left undone: unimplemented!(",
            ]
        );
    }

    #[test]
    fn tests_wait_for_a_state() {
        let source = "thread::sleep(ms);\n\nsleep(ms); // wait: the kernel tells nobody\n// wait: a pause is the \
                      point here\nthread::sleep(ms);\nno_sleep(ms);\n";
        let found = shown("e2e/tests/a.rs", source);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("e2e/tests/a.rs:1: sleep in a test"));
        assert!(shown("crates/everup/src/driver.rs", &format!("//! Doc.\n{source}")).is_empty());
    }
}
