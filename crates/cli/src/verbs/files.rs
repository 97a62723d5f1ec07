//! Words that mean a configuration file, and the apps in it.

use super::failure::VerbError;
use crate::args::manage::FileArgs;
use crate::exit::Exit;
use everup_api::AppSpec;
use everup_config::{ConfigError, Finding, Options};
use std::fmt::Write;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a file says.
#[derive(Debug)]
pub(crate) struct FileApps {
    pub(crate) apps: Vec<AppSpec>,
    pub(crate) warnings: Vec<String>,
}

/// Whether a word means the apps of a file, or of standard input.
pub(crate) fn is_file(word: &str) -> bool {
    word == "-" || everup_config::is_config_name(word)
}

/// The file of a directory that is meant if nothing is named.
pub(crate) fn default_file(here: &Path) -> Result<PathBuf, VerbError> {
    everup_config::discover(here).map_err(|error| broken(&error))
}

/// Reads it. `-` is standard input.
pub(crate) fn load(
    word: &str,
    args: &FileArgs,
    section: Option<&str>,
    here: &Path,
) -> Result<FileApps, VerbError> {
    let options = Options {
        env_name: section.map(str::to_owned),
        only: args.only.clone(),
        node: args.node,
        cwd: here.to_owned(),
        process_env: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        program: None,
    };
    let loaded = if word == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| {
            let why = crate::error::reason(&error);
            VerbError::said(Exit::Input, format!("could not read standard input: {why}"), None)
        })?;
        everup_config::load_str(&text, &options)
    } else {
        everup_config::load(Path::new(word), &options)
    };
    let loaded = loaded.map_err(|error| broken(&error))?;
    Ok(FileApps {
        apps: loaded.apps,
        warnings: loaded.warnings.iter().map(told).collect(),
    })
}

/// What is wrong with it: each finding, with the line where it stands.
fn broken(error: &ConfigError) -> VerbError {
    let mut text = match error.findings() {
        [] => super::home::chain(error),
        findings => findings.iter().map(told).collect::<Vec<_>>().join("\nerror: "),
    };
    text.truncate(text.trim_end().len());
    VerbError::Said {
        message: text,
        hint: error
            .hint()
            .filter(|_| error.findings().is_empty())
            .map(str::to_owned),
        exit: Exit::Input,
    }
}

/// A finding with its line and its hint.
fn told(finding: &Finding) -> String {
    let mut text = finding.to_string();
    if let Some(snippet) = finding.snippet() {
        // Writing to a string cannot fail.
        write!(text, "\n{snippet}").ok();
    }
    if let Some(hint) = &finding.hint {
        write!(text, "\n  hint: {hint}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_words_are_files() {
        for word in [
            "-",
            "process.json",
            "./x/ecosystem.config.js",
            "a.config.cjs",
            "apps.yml",
            "everup.toml",
        ] {
            assert!(is_file(word), "{word}");
        }
        for word in ["app.js", "web", "all", "0", "config.js", "toml"] {
            assert!(!is_file(word), "{word}");
        }
    }
}
