//! Rules about any text file: no path of one machine, files of a readable length, links that lead somewhere.

use super::Finding;

/// Think again at this many lines of code.
const LONG: usize = 600;
/// Split at this many.
const TOO_LONG: usize = 900;
/// What counts as source; data, documents and lock files may be long.
const SOURCE: [&str; 8] = [".rs", ".js", ".cjs", ".mjs", ".ts", ".py", ".sh", ".css"];

/// Folders that exist on the machine of one developer. In pieces, so that this file passes its own rule.
const MACHINE_PATHS: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!("/tmp/re", "search"),
];

/// Finds paths that are true on one machine only.
pub(super) fn machine_paths(file: &str, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in numbered(content) {
        for path in MACHINE_PATHS {
            if line.match_indices(path).any(|(at, _)| starts_a_path(line, at)) {
                findings.push(Finding::at(file, number, format!("path of one machine: {path}")));
            }
        }
    }
    findings
}

/// Whether the slash at `at` begins an absolute path: `a/work/` is a relative one.
fn starts_a_path(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}'))
}

/// How long a source file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Length {
    Fine,
    Long(Finding),
    TooLong(Finding),
}

/// Judges the length of a source file; its inline tests are not counted.
pub(super) fn length(file: &str, content: &str) -> Length {
    if !SOURCE.iter().any(|ending| file.ends_with(ending)) {
        return Length::Fine;
    }
    let lines = lines_without_tests(content);
    if lines > TOO_LONG {
        Length::TooLong(Finding::whole(
            file,
            format!("{lines} lines, split it (limit {TOO_LONG})"),
        ))
    } else if lines > LONG {
        Length::Long(Finding::whole(
            file,
            format!("{lines} lines, think again (split at {TOO_LONG})"),
        ))
    } else {
        Length::Fine
    }
}

fn lines_without_tests(content: &str) -> usize {
    let lines: Vec<&str> = content.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'))
        .unwrap_or(lines.len())
}

/// Finds links of a Markdown file whose target, a path in this repository, does not exist.
pub(super) fn links(file: &str, content: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fence: Option<&str> = None;
    for (number, line) in numbered(content) {
        let start = line.trim_start();
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark)) {
            match fence {
                None => fence = Some(mark),
                Some(open) if open == mark => fence = None,
                Some(_) => {}
            }
            continue;
        }
        if fence.is_some() {
            continue;
        }
        for target in link_targets(&without_code(line)) {
            if let Some(path) = repository_path(file, &target)
                && !exists(&path)
            {
                findings.push(Finding::at(file, number, format!("link to nothing: {target}")));
            }
        }
    }
    findings
}

/// The line with its `code spans` blanked.
fn without_code(line: &str) -> String {
    let mut inside = false;
    line.chars()
        .map(|c| {
            if c == '`' {
                inside = !inside;
            }
            if inside { ' ' } else { c }
        })
        .collect()
}

/// Targets of `[text](target "title")` and `[name]: target`.
fn link_targets(line: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for (at, _) in line.match_indices("](") {
        let rest = &line[at + 2..];
        let target = match rest.strip_prefix('<') {
            Some(rest) => rest.split('>').next(),
            None => rest.split([')', ' ']).next(),
        };
        targets.extend(target.filter(|target| !target.is_empty()).map(str::to_owned));
    }
    if line.starts_with('[')
        && let Some((_, target)) = line.split_once("]: ")
    {
        targets.extend(target.split_whitespace().next().map(str::to_owned));
    }
    targets
}

/// The path that a link means, relative to the root; `None` for a link to somewhere else or within the page.
fn repository_path(file: &str, target: &str) -> Option<String> {
    let target = target.split(['#', '?']).next().filter(|path| !path.is_empty())?;
    if target.starts_with("//") || target.split('/').next()?.contains(':') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    if !target.starts_with('/') {
        parts.extend(file.split('/'));
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.is_empty() => return Some(target.to_owned()),
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Lines with their numbers, from 1.
fn numbered(content: &str) -> impl Iterator<Item = (usize, &str)> {
    content.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn machine_paths_are_found() {
        let path = MACHINE_PATHS[0];
        let text = format!("fine\nsee {path}notes\nsrc{path}a is relative\n({path})");
        assert_eq!(
            shown(&machine_paths("a.md", &text)),
            [
                format!("a.md:2: path of one machine: {path}"),
                format!("a.md:4: path of one machine: {path}")
            ]
        );
    }

    #[test]
    fn length_is_judged_without_inline_tests() {
        let code = "line\n".repeat(600);
        assert_eq!(length("a.rs", &code), Length::Fine);
        assert_eq!(
            length("a.rs", &format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n")),
            Length::Fine
        );
        assert!(matches!(
            length("a.rs", &format!("{code}line\n")),
            Length::Long(_)
        ));
        assert!(matches!(
            length("a.js", &"line\n".repeat(901)),
            Length::TooLong(_)
        ));
        assert_eq!(length("package-lock.json", &"line\n".repeat(2000)), Length::Fine);
    }

    #[test]
    fn links_must_lead_somewhere() {
        let exists = |path: &str| ["README.md", "docs/a.md", "docs"].contains(&path);
        let page = "[ok](a.md#part) [ok](../README.md) [ok](/docs/) [web](https://example.org/x.md)\n\
                    [bad](b.md) and `[code](c.md)` [here](#here) [mail](mailto:a@b)\n\
                    ```\n[fenced](d.md)\n```\n\
                    [ref]: e.md\n\
                    [out](../../f.md)\n\
                    ![image](<a b.png> \"title\")\n";
        assert_eq!(
            shown(&links("docs/x.md", page, &exists)),
            [
                "docs/x.md:2: link to nothing: b.md",
                "docs/x.md:6: link to nothing: e.md",
                "docs/x.md:7: link to nothing: ../../f.md",
                "docs/x.md:8: link to nothing: a b.png",
            ]
        );
    }
}
