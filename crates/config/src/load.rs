//! Reading: which file, its text, and the files that it includes.

use crate::app::{Context, Report};
use crate::convert::{Base, normal};
use crate::error::ConfigError;
use crate::finding::{Finding, Source};
use crate::format::{self, Format};
use crate::list::{self, Item};
use crate::tree::Node;
use crate::{Loaded, Options, top};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names that are looked for, in this order.
const NAMES: [&str; 13] = [
    "everup.toml",
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.config.ts",
    "ecosystem.config.json",
    "ecosystem.config.yml",
    "ecosystem.config.yaml",
    "ecosystem.json",
    "ecosystem.yml",
    "ecosystem.yaml",
    "process.json",
    "process.yml",
];

/// A file of apps is not as long as this.
const LONGEST: u64 = 16 << 20;

/// The file in this folder that apps are described in, if none was named.
///
/// # Errors
/// [`ConfigError::NotFound`].
pub fn discover(folder: &Path) -> Result<PathBuf, ConfigError> {
    let mut files = NAMES.iter().map(|name| folder.join(name));
    files
        .find(|file| file.is_file())
        .ok_or_else(|| ConfigError::NotFound {
            folder: folder.to_owned(),
        })
}

/// Whether what somebody wants to start is a file of apps by its name, as pm2 decides it (`.json`, `.yml`, `.yaml`,
/// `.config.js` and the like, anywhere in it); and `.toml` and `.config.ts` at its end.
#[must_use]
pub fn is_config_name(name: &str) -> bool {
    format::by_part(name).is_some() || name.ends_with(".toml") || name.ends_with(".config.ts")
}

/// Reads a file of apps, and what it includes.
///
/// # Errors
/// Whatever is wrong with it: nothing is given then.
pub fn load(path: &Path, options: &Options) -> Result<Loaded, ConfigError> {
    let origin = normal(&options.cwd.join(path));
    let mut reader = Reader::new(options);
    reader.file(&origin)?;
    reader.finish(origin)
}

/// Reads apps from a text, such as standard input: JSON, or an expression of JavaScript.
///
/// # Errors
/// Whatever is wrong with it: nothing is given then.
pub fn load_str(text: &str, options: &Options) -> Result<Loaded, ConfigError> {
    let origin = PathBuf::from("-");
    let mut reader = Reader::new(options);
    let source = Arc::new(Source::new(&origin, text.to_owned()));
    reader.text(Format::Json, &source, &options.cwd.clone())?;
    reader.finish(origin)
}

struct Reader<'a> {
    options: &'a Options,
    report: Report,
    items: Vec<Item>,
    loaded: Loaded,
    /// Files that are being read: each is included by the one before it.
    open: Vec<PathBuf>,
}

impl<'a> Reader<'a> {
    fn new(options: &'a Options) -> Self {
        Self {
            options,
            report: Report::default(),
            items: Vec::new(),
            loaded: Loaded::default(),
            open: Vec::new(),
        }
    }

    fn finish(mut self, origin: PathBuf) -> Result<Loaded, ConfigError> {
        let apps = list::finish(self.items, self.options, &mut self.report);
        if !self.report.errors.is_empty() {
            return Err(ConfigError::Invalid(self.report.errors));
        }
        self.loaded.origin = origin;
        self.loaded.apps = apps;
        self.loaded.warnings = self.report.warnings;
        Ok(self.loaded)
    }

    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let format = format::of(path).ok_or_else(|| ConfigError::UnknownFormat {
            path: path.to_owned(),
        })?;
        let text = read(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let source = Arc::new(Source::new(path, text));
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        self.loaded.files.push(path.to_owned());
        self.open.push(path.to_owned());
        self.text(format, &source, &folder)?;
        self.open.pop();
        Ok(())
    }

    fn text(&mut self, format: Format, source: &Arc<Source>, folder: &Path) -> Result<(), ConfigError> {
        let parsed = match format::parse(format, source, self.options) {
            Ok(parsed) => parsed,
            Err(finding) => {
                self.report.errors.push(finding);
                return Ok(());
            }
        };
        self.loaded.printed.extend(parsed.printed);
        let exists = |path: &Path| path.exists();
        let context = Context {
            source,
            folder,
            options: self.options,
            strict: format == Format::Toml,
            deploy: None,
            exists: &exists,
        };
        let built = if context.strict {
            self.included(source, &parsed.root, folder)?;
            top::own(context, &parsed.root, &mut self.report)
        } else {
            let is_package = format == Format::Package;
            let ecosystem = top::ecosystem(source, parsed.root, is_package, &mut self.report);
            self.loaded.deploy = ecosystem
                .deploy
                .as_ref()
                .map(Node::to_json)
                .or(self.loaded.deploy.take());
            let context = Context {
                deploy: ecosystem.deploy.as_ref(),
                ..context
            };
            ecosystem.build(context, &mut self.report)
        };
        let item = |built| Item {
            built,
            source: Arc::clone(source),
            strict: context.strict,
        };
        self.items.extend(built.into_iter().map(item));
        Ok(())
    }

    /// Files that an `everup.toml` includes come before its own apps.
    fn included(&mut self, source: &Source, root: &Node, folder: &Path) -> Result<(), ConfigError> {
        let home = self.options.process_env.get("HOME").map(PathBuf::from);
        for (name, node) in top::includes(source, root, &mut self.report) {
            let base = Base {
                folder,
                home: home.as_deref(),
            };
            let path = base.path(name);
            if self.open.contains(&path) {
                let message = format!("`{name}` includes itself, by way of this file");
                self.report.errors.push(source.finding(node.at.as_ref(), message));
                continue;
            }
            if self.loaded.files.contains(&path) {
                continue;
            }
            if let Err(error) = self.file(&path) {
                self.report.errors.push(not_included(source, node, &error));
            }
        }
        Ok(())
    }
}

fn not_included(source: &Source, node: &Node, error: &ConfigError) -> Finding {
    let why = std::error::Error::source(error)
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    let finding = source.finding(node.at.as_ref(), format!("{error}{why}"));
    match error.hint() {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}

fn read(path: &Path) -> io::Result<String> {
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    if meta.len() > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is too long for a list of apps",
        ));
    }
    let bytes = std::fs::read(path)?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
