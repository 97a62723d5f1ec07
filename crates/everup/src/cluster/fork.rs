//! What one worker is to have for itself.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What [`Cluster::fork`](crate::Cluster::fork) changes for one worker: all that is `None` or empty is as in the
/// [`Spec`](crate::Spec). Make it with `Fork { …, ..Fork::default() }`: it will grow.
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
/// let worker = cluster.fork(Fork {
///     env: vec![("DEBUG".into(), "1".into())],
///     stderr: Some(log.into()),
///     ..Fork::default()
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
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
