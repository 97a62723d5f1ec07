//! Why there are no apps.

use crate::finding::Finding;
use std::io;
use std::path::PathBuf;

/// Why a file gave no apps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its name does not say what it is.
    #[error("{} is no configuration file by its name", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// There is no file to begin with.
    #[error("no configuration file in {}", folder.display())]
    NotFound {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Something in it is wrong: one thing at least.
    #[error("{}{}", .0.first().map(ToString::to_string).unwrap_or_default(), more(.0.len()))]
    Invalid(Vec<Finding>),
}

fn more(findings: usize) -> String {
    match findings {
        0 | 1 => String::new(),
        _ => format!(" (and {} more)", findings - 1),
    }
}

impl ConfigError {
    /// What to do next, if there is something to say that the findings do not.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Read { .. } => None,
            Self::UnknownFormat { .. } => Some(
                "everup.toml, or pm2's: NAME.config.js (cjs, mjs, ts), NAME.json, NAME.yml, NAME.yaml, package.json",
            ),
            Self::NotFound { .. } => Some("`everup init` writes one; or name the file"),
            Self::Invalid(findings) => findings.first()?.hint.as_deref(),
        }
    }

    /// What is wrong in the file, one by one.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Invalid(findings) => findings,
            Self::Read { .. } | Self::UnknownFormat { .. } | Self::NotFound { .. } => &[],
        }
    }
}
