//! What one worker is to have for itself.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What [`Cluster::fork`](crate::Cluster::fork) changes for one worker: all that is `None` or empty is as in the
/// [`Spec`](crate::Spec).
///
/// It is for this worker alone: one that takes its place after its death, or in a reload, is as the spec says. Not
/// possible for one worker: another channel, other limits or inherited descriptors, another user; those are the spec's.
///
/// ```no_run
/// use everup::{Cluster, Fork};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (cluster, _events) = Cluster::builder().node("app.js").workers(0).start()?;
/// let log = std::fs::File::create("debug.log")?;
/// let worker = cluster.fork(Fork::new().env("DEBUG", "1").stderr(log));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Fork {
    /// Added to (and winning over) the spec's environment, and the variables of the protocols: be careful.
    pub env: Vec<(OsString, OsString)>,
    /// Instead of the spec's arguments.
    pub args: Option<Vec<OsString>>,
    /// Instead of the spec's program (Node's `exec`): looked up in `PATH` when it has no slash.
    pub program: Option<PathBuf>,
    /// Instead of the spec's working directory.
    pub cwd: Option<PathBuf>,
    /// Its standard input; `None` is [`Stdio::Null`].
    pub stdin: Option<Stdio>,
    /// Its standard output; `None` is as in [`Spec::output`](crate::Spec::output).
    pub stdout: Option<Stdio>,
    /// Its standard error; `None` is as in [`Spec::output`](crate::Spec::output).
    pub stderr: Option<Stdio>,
}

impl Fork {
    /// A worker as the spec says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more variable of its environment, added to (and winning over) the spec's.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// More variables: see [`env`](Self::env).
    #[must_use]
    pub fn envs<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter();
        self.env
            .extend(variables.map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// These arguments instead of the spec's.
    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// This program instead of the spec's, looked up in `PATH` when it has no slash. The arguments stay the spec's,
    /// unless [`args`](Self::args) gives others.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// This working directory instead of the spec's.
    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// Where its standard input comes from.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Where its standard output goes.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Where its standard error goes.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }
}

/// Where one standard stream of a worker goes, or comes from.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// It is our own.
    Inherit,
    /// `/dev/null`.
    Null,
    /// This: one end of a pipe, a file, a socket. Our copy is closed once the worker has it.
    Descriptor(OwnedFd),
}

impl From<OwnedFd> for Stdio {
    fn from(descriptor: OwnedFd) -> Self {
        Self::Descriptor(descriptor)
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self::Descriptor(file.into())
    }
}
