//! From a file's text to a tree: by the file's name, as pm2 does it.

mod json;
mod node;
mod process;
#[cfg(feature = "js")]
mod quick;
mod script;
mod toml;
mod yaml;

use crate::Options;
use crate::finding::{Finding, Source};
use crate::tree::Node;
use std::path::Path;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Ours.
    Toml,
    /// JSON, with comments and all that JSON5 has; or any expression of JavaScript, as in pm2.
    Json,
    /// `package.json`: below `pm2`.
    Package,
    Yaml,
    /// JavaScript or TypeScript.
    Script,
}

/// What a file of this name is.
pub(crate) fn of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?;
    if name == "package.json" {
        return Some(Format::Package);
    }
    match path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
    {
        "toml" => Some(Format::Toml),
        "json" | "json5" | "jsonc" => Some(Format::Json),
        "yml" | "yaml" => Some(Format::Yaml),
        "js" | "cjs" | "mjs" | "ts" | "cts" | "mts" => Some(Format::Script),
        _ => by_part(name),
    }
}

/// What a name says anywhere in it, as pm2 looks for it: `process.json.old` is JSON.
pub(crate) fn by_part(name: &str) -> Option<Format> {
    const PARTS: [(&str, Format); 6] = [
        (".json", Format::Json),
        (".yml", Format::Yaml),
        (".yaml", Format::Yaml),
        (".config.js", Format::Script),
        (".config.cjs", Format::Script),
        (".config.mjs", Format::Script),
    ];
    let mut parts = PARTS.iter();
    parts
        .find(|(part, _)| name.contains(part))
        .map(|(_, format)| *format)
}

/// What came of a text.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) root: Node,
    /// What a script wrote.
    pub(crate) printed: Vec<String>,
}

impl From<Node> for Parsed {
    fn from(root: Node) -> Self {
        Self {
            root,
            printed: Vec::new(),
        }
    }
}

/// Reads the text of a file.
pub(crate) fn parse(format: Format, source: &Source, options: &Options) -> Result<Parsed, Finding> {
    match format {
        Format::Toml => toml::parse(source).map(Parsed::from),
        Format::Json | Format::Package => json::parse(source, options),
        Format::Yaml => yaml::parse(source).map(Parsed::from),
        Format::Script => script::evaluate(source, options),
    }
}
