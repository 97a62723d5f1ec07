//! Where the daemon keeps what it keeps: `$EVERUP_HOME`, and the names in it.

use std::path::{Path, PathBuf};

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Who may do what.
    pub(crate) fn access(&self) -> PathBuf {
        self.0.join("access.json")
    }

    /// Who did what.
    pub(crate) fn audit(&self) -> PathBuf {
        self.0.join("audit.log")
    }

    /// The daemon's process.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.0.join("daemon.pid")
    }

    /// What the workers write.
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Pid files of workers.
    pub(crate) fn pids(&self) -> PathBuf {
        self.0.join("pids")
    }

    /// What is there, after every change.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// What was there when somebody said `save`.
    pub(crate) fn saved(&self) -> PathBuf {
        self.0.join("saved.json")
    }
}
