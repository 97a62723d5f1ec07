//! Words that mean a configuration file, and the apps in it.

use super::failure::VerbError;
use crate::args::manage::FileArgs;
use crate::exit::Exit;
use everup_api::AppSpec;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a file says.
#[derive(Debug)]
pub(crate) struct FileApps {
    pub(crate) apps: Vec<AppSpec>,
    pub(crate) warnings: Vec<String>,
}

/// Whether a word means the apps of a file: pm2's rule, and our own format.
pub(crate) fn is_file(word: &str) -> bool {
    const PARTS: [&str; 6] = [
        ".json",
        ".yml",
        ".yaml",
        ".config.js",
        ".config.cjs",
        ".config.mjs",
    ];
    word == "-"
        || PARTS.iter().any(|part| word.contains(part))
        || word.ends_with(".config.ts")
        || Path::new(word)
            .extension()
            .is_some_and(|extension| extension == "toml")
}

/// The file of a directory that is meant if nothing is named.
pub(crate) fn default_file(here: &Path) -> Result<PathBuf, VerbError> {
    const NAMES: [&str; 9] = [
        "everup.toml",
        "ecosystem.config.js",
        "ecosystem.config.cjs",
        "ecosystem.config.mjs",
        "ecosystem.config.ts",
        "ecosystem.config.json",
        "ecosystem.config.yaml",
        "ecosystem.config.yml",
        "process.json",
    ];
    let mut paths = NAMES.iter().map(|name| here.join(name));
    paths.find(|path| path.is_file()).ok_or_else(|| {
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
    let broken = |message: String| VerbError::said(Exit::Input, message, None);
    let mut text = String::new();
    if word == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| broken(format!("could not read standard input: {error}")))?;
    } else {
        let path = here.join(word);
        text = std::fs::read_to_string(&path).map_err(|error| {
            broken(format!(
                "could not read {}: {}",
                path.display(),
                crate::error::reason(&error)
            ))
        })?;
    }
    let _ = section;
    parse(&text, args, here).map_err(|error| broken(format!("{word}: {error}")))
}

/// Until the configuration crate is there: JSON with our keys.
fn parse(text: &str, args: &FileArgs, here: &Path) -> Result<FileApps, serde_json::Error> {
    let mut value: serde_json::Value = serde_json::from_str(text)?;
    let inner = value.get_mut("apps").map(serde_json::Value::take);
    let apps = inner.unwrap_or(value);
    let mut apps: Vec<AppSpec> = match apps {
        list @ serde_json::Value::Array(_) => serde_json::from_value(list)?,
        one => vec![serde_json::from_value(one)?],
    };
    for app in &mut apps {
        app.cwd = here.join(&app.cwd);
    }
    apps.retain(|app| args.only.is_empty() || args.only.contains(&app.name));
    Ok(FileApps {
        apps,
        warnings: Vec::new(),
    })
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
}
