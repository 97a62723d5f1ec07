//! The house rules as code.
//!
//! Each rule looks at the files that git knows or would add, and gives findings (`file:line: what is wrong`).
//! Rules about crates are in [`edges`], about Rust source in [`rust`], about any text in [`text`].

mod edges;
mod rust;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// What all rules found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How many files were looked at.
    pub(crate) files: usize,
    /// Findings that fail the check.
    pub(crate) errors: Vec<Finding>,
    /// Findings to think about.
    pub(crate) warnings: Vec<Finding>,
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    file: String,
    /// From 1; `None` when the whole file is meant.
    line: Option<usize>,
    text: String,
}

impl Finding {
    fn at(file: &str, line: usize, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: Some(line),
            text: text.into(),
        }
    }

    fn whole(file: &str, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

/// Applies every rule to the repository at `root`.
pub(crate) fn check(root: &Path) -> anyhow::Result<Report> {
    let mut report = Report {
        errors: edges::check(root)?,
        ..Report::default()
    };
    let files = listed_files(root)?;
    for file in &files {
        let path = root.join(file);
        // Gone from the work tree but not yet from the index, or a link to a folder: nothing to read.
        if !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(content) = String::from_utf8(bytes) else {
            continue;
        };
        report.files += 1;
        report.errors.extend(text::machine_paths(file, &content));
        match text::length(file, &content) {
            text::Length::Fine => {}
            text::Length::Long(finding) => report.warnings.push(finding),
            text::Length::TooLong(finding) => report.errors.push(finding),
        }
        if file.ends_with(".rs") {
            report.errors.extend(rust::check(file, &content));
        }
        if file.ends_with(".md") {
            report
                .errors
                .extend(text::links(file, &content, &|target| root.join(target).exists()));
        }
    }
    Ok(report)
}

/// Files that are tracked or would be with `git add .`, relative to the root.
fn listed_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git")?;
    if !output.status.success() {
        bail!(
            "git ls-files failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let list = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut files: Vec<String> = list.split_terminator('\0').map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_name_their_place() {
        assert_eq!(Finding::at("a/b.rs", 3, "bad").to_string(), "a/b.rs:3: bad");
        assert_eq!(Finding::whole("a/b.rs", "bad").to_string(), "a/b.rs: bad");
    }
}
