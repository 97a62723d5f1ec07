//! Words that mean a configuration file, and the apps in it.

use super::context::Context;
use super::failure::VerbError;
use crate::args::manage::FileArgs;
use crate::exit::Exit;
use crate::terminal::harmless;
use everup_api::AppSpec;
use everup_config::{ConfigError, Finding, Options};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a file says.
#[derive(Debug)]
pub(crate) struct FileApps {
    pub(crate) apps: Vec<AppSpec>,
    /// The file, absolute; `None` for standard input.
    pub(crate) origin: Option<PathBuf>,
    warnings: Vec<Finding>,
    /// What the file itself wrote.
    printed: Vec<String>,
}

impl FileApps {
    /// What is doubtful in it, and what it wrote itself: on the side.
    pub(crate) fn remark(&self, context: &Context) {
        for line in &self.printed {
            context.note(&harmless(line));
        }
        for warning in &self.warnings {
            let hint = warning.hint.as_deref();
            let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            context.note(&harmless(&format!("warning: {warning}{hint}")));
        }
    }
}

/// Whether a word means the apps of a file: pm2's rule, and our own format.
pub(crate) fn is_file(word: &str) -> bool {
    word == "-" || everup_config::is_config_name(word)
}

/// The file of a directory that is meant if nothing is named.
pub(crate) fn default_file(here: &Path) -> Result<PathBuf, VerbError> {
    everup_config::discover(here).map_err(|_| {
        VerbError::said(
            Exit::Input,
            "there is no everup.toml and no ecosystem.config.js here",
            Some("name what to start: `everup start app.js`; `everup init` writes a file".into()),
        )
    })
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
        process_env: environment(),
        program: None,
    };
    let loaded = if word == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| {
            let message = format!("could not read standard input: {}", crate::error::reason(&error));
            VerbError::said(Exit::Input, message, None)
        })?;
        everup_config::load_str(&text, &options)
    } else {
        everup_config::load(Path::new(word), &options)
    };
    let loaded = loaded.map_err(|error| VerbError::File(Box::new(error)))?;
    Ok(FileApps {
        apps: loaded.apps,
        origin: Some(loaded.origin).filter(|_| word != "-"),
        warnings: loaded.warnings,
        printed: loaded.printed,
    })
}

/// Ours, as far as it is text.
fn environment() -> BTreeMap<String, String> {
    let pairs = std::env::vars_os();
    pairs
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// All that is wrong in a file, with its lines, for a terminal.
pub(crate) fn explain(error: &ConfigError, paint: &dyn Fn(u8, &str) -> String) -> String {
    let one = |message: &str, snippet: Option<String>, hint: Option<&str>| {
        let mut text = format!("{} {}", paint(31, "error:"), harmless(message));
        for line in snippet.iter().flat_map(|snippet| snippet.lines()) {
            text.push_str(&format!("\n  {}", harmless(line)));
        }
        if let Some(hint) = hint {
            text.push_str(&format!("\n  {} {}", paint(36, "hint:"), harmless(hint)));
        }
        text
    };
    let findings = error.findings();
    if findings.is_empty() {
        return one(&in_words(error), None, error.hint());
    }
    let all = findings
        .iter()
        .map(|finding| one(&finding.to_string(), finding.snippet(), finding.hint.as_deref()));
    all.collect::<Vec<_>>().join("\n")
}

/// In one line, with its reason.
pub(crate) fn in_words(error: &ConfigError) -> String {
    match error {
        ConfigError::Read { source, .. } => format!("{error}: {}", crate::error::reason(source)),
        other => other.to_string(),
    }
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
            "x.json.bak",
        ] {
            assert!(is_file(word), "{word}");
        }
        for word in ["app.js", "web", "all", "0", "config.js", "toml"] {
            assert!(!is_file(word), "{word}");
        }
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[app.web]\nscript = 'a.js'\ninstancse = 4\nwat\u{202e}h = 1\n";
        std::fs::write(
            folder.path().join("everup.toml"),
            text.replace("wat\u{202e}h", "'wat\u{202e}h'"),
        )
        .unwrap();
        let error = load("everup.toml", &FileArgs::default(), None, folder.path()).unwrap_err();
        let VerbError::File(error) = error else {
            panic!("{error}")
        };
        let shown = explain(&error, &|_, text| text.to_owned());
        let wanted = "everup.toml:3:1: there is no key `instancse`\n    |\n  3 | instancse = 4\n    | ^^^^^^^^^\n  hint: did you mean `instances`?\nerror: ";
        assert!(shown.contains(wanted), "{shown}");
        assert!(!shown.contains('\u{202e}'), "{shown}");
    }
}
