//! Configuration files, as descriptions of apps.
//!
//! Job: `everup.toml`, and pm2's files as they are (`ecosystem.config.js`, `process.json`, YAML, `package.json`), read
//! into [`AppSpec`]s. [`load`] does the reading; everything behind it is a function of text and [`Options`].
//!
//! What is wrong is said with the place in the file ([`Finding`]): all of it at once, not the first only. An unknown key
//! is an error in `everup.toml`, and a warning in pm2's files, where it has no effect.
//!
//! JavaScript runs in this process (QuickJS, with limits of time and memory), or in the user's own Node
//! ([`Options::node`]). Either way it may do whatever the user may do: it is his file. So this belongs into a short-lived
//! command, never into the daemon.
//!
//! Invariants: a value that was not given is absent in the description; paths in it are absolute; equal files give equal
//! descriptions.
//!
//! Must not know: what runs, the daemon, terminals.

mod app;
mod convert;
mod error;
mod finding;
mod format;
mod keys;
mod list;
mod load;
mod sample;
mod schema;
mod top;
mod tree;
mod words;

pub use error::ConfigError;
pub use finding::{Finding, Place, Warning};
pub use keys::{KEYS, Key, Kind, Standing};
pub use load::{discover, is_config_name, load, load_str};
pub use sample::{sample_ecosystem, sample_simple, sample_toml};
pub use schema::schema;
pub use words::split as split_words;

use everup_api::AppSpec;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a file is read with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--env NAME`: `env_NAME` is laid over `env`.
    pub env_name: Option<String>,
    /// `--only a,b`: these apps alone; names may be joined by commas or spaces. Empty: all.
    pub only: Vec<String>,
    /// `--node`: JavaScript is evaluated by the user's Node.
    pub node: bool,
    /// The caller's working directory, absolute.
    pub cwd: PathBuf,
    /// The caller's environment: for JavaScript (`process.env`), `HOME` for `~/`, `PATH` for `--node`.
    pub process_env: BTreeMap<String, String>,
    /// Our own binary, for `script: serve` [default: this process's].
    pub program: Option<PathBuf>,
}

/// What is in a file.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Loaded {
    /// The file, absolute; `-` for standard input.
    pub origin: PathBuf,
    /// Its apps, in order. Names are unique.
    pub apps: Vec<AppSpec>,
    /// What is doubtful.
    pub warnings: Vec<Warning>,
    /// pm2's `deploy` section, as it is.
    pub deploy: Option<serde_json::Value>,
    /// What the file itself wrote (`console.log`), line by line.
    pub printed: Vec<String>,
    /// All files that were read for it: `origin` and what it includes.
    pub files: Vec<PathBuf>,
}
