//! What a cluster is to run: plain values, already valid.
//!
//! Job: say what, not how. Parsing of options and files is the caller's; every field here has a default that a
//! server in production can live with.

use crate::health::{HealthSpec, ReadySign};
use crate::limits::Limits;
use crate::output::{LineSink, Stream};
use everup_core::id::{Slot, WorkerId};
use everup_core::reload::Rollout;
use everup_core::restart::RestartPolicy;
use everup_core::schedule::Policy;
use everup_core::wire::Serialization;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything about one cluster.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Spec {
    /// Shown in events and errors.
    pub name: String,
    /// The program of every worker; looked up in `PATH` when it has no slash.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// Working directory; `None` is ours.
    pub cwd: Option<PathBuf>,
    /// Added to (and winning over) our own environment.
    pub env: Vec<(OsString, OsString)>,
    /// Workers get nothing of our own environment: only [`env`](Self::env), and what the protocols need.
    pub clear_env: bool,
    /// Variables of [`env`](Self::env) that hold a number, and are one more in each next slot.
    pub increments: Vec<OsString>,
    /// Files whose content workers get by descriptor, by the variable that holds its path (`/dev/fd/7`). At most 1 MiB each; read
    /// whenever a worker is started.
    pub secrets: Vec<(OsString, PathBuf)>,
    /// How many workers are kept. 0 starts none: fork them with [`Cluster::fork`](crate::Cluster::fork).
    pub workers: u32,
    /// Who gets the next connection.
    pub policy: Policy,
    /// Whether a Node cluster channel is given to the workers.
    pub channel: Channel,
    /// Sockets that we bind and pass by `LISTEN_FDS`.
    pub listen: Vec<Listen>,
    /// Descriptors that workers may name in `listen({fd: n})`, by that number.
    #[serde(skip)]
    pub descriptors: BTreeMap<i32, OwnedFd>,
    /// Descriptors that every worker inherits, by their number in the worker (3 or more).
    #[serde(skip)]
    pub inherit: BTreeMap<i32, OwnedFd>,
    /// Workers' standard input is a pipe that [`Cluster::input`](crate::Cluster::input) writes to. Otherwise it is `/dev/null`.
    pub stdin: bool,
    /// What becomes of the workers' standard output and error.
    #[serde(skip)]
    pub output: Output,
    /// How a worker is stopped.
    pub stop: StopPlan,
    /// How long a worker may take until it is ready. `None`: as long as it likes. A worker that passes the
    /// limit has failed: it is killed and counts against its restart budget.
    pub listen_timeout: Option<Duration>,
    /// What makes a worker ready: any of these. None: it listens, or sends the message `ready` or `READY=1`, or, where
    /// none of that can be known, has been up for a second.
    pub ready: Vec<ReadySign>,
    /// How a ready worker is watched. It is ready only when it has passed this probe once, too.
    pub health: Option<HealthSpec>,
    /// A worker must send `WATCHDOG=1` at least this often.
    pub watchdog: Option<Duration>,
    /// What happens when a worker dies.
    pub restart: RestartPolicy,
    /// How reloads go.
    pub rollout: Rollout,
    /// How many workers more are kept ready, out of the rotation; each takes a dead worker's place at once. Needs
    /// workers with a channel and a policy by which the primary hands over.
    pub spares: u32,
    /// A worker that does not acknowledge a connection within this time is replaced. 30 s by default.
    pub stuck_timeout: Option<Duration>,
    /// A worker that is older is replaced (by up to 10 % earlier, by chance). No limit by default.
    pub max_age: Option<Duration>,
    /// A worker whose process tree uses more memory, in bytes, is replaced (from up to 10 % below on, by chance).
    /// No limit by default.
    pub memory_limit: Option<u64>,
    /// Nothing is started until [`Cluster::launch`](crate::Cluster::launch), and nothing that ended is started again.
    pub job: bool,
    /// The cluster ends when no worker is left and, by the restart policy, none will be started.
    pub ends_when_done: bool,
    /// The variable that holds a worker's slot number.
    pub instance_var: OsString,
    /// Reap orphans that are given to this process (as PID 1, or as sub-reaper). Only for a process whose
    /// children are all ours: another part of the program that waits for its own children would be robbed. So would a
    /// second cluster: at most one of a process may have this at a time
    /// ([`StartError::SecondInit`](crate::StartError::SecondInit)).
    pub init: bool,
    /// What every worker may use, and as whom it runs.
    pub limits: Limits,
}

impl Spec {
    /// A spec with one worker running `program`, and defaults for the rest.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self {
            name: program
                .file_stem()
                .map_or_else(|| "app".into(), |stem| stem.to_string_lossy().into_owned()),
            program,
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            clear_env: false,
            increments: Vec::new(),
            secrets: Vec::new(),
            workers: 1,
            policy: Policy::default(),
            channel: Channel::default(),
            listen: Vec::new(),
            descriptors: BTreeMap::new(),
            inherit: BTreeMap::new(),
            stdin: false,
            output: Output::Inherit,
            stop: StopPlan::default(),
            listen_timeout: None,
            ready: Vec::new(),
            health: None,
            watchdog: None,
            restart: RestartPolicy::default(),
            rollout: Rollout::default(),
            spares: 0,
            stuck_timeout: Some(Duration::from_secs(30)),
            max_age: None,
            memory_limit: None,
            job: false,
            ends_when_done: false,
            instance_var: "NODE_APP_INSTANCE".into(),
            init: false,
            limits: Limits::default(),
        }
    }
}

/// Whether workers get a channel that speaks Node's cluster protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Channel {
    /// `NODE_CHANNEL_FD` and `NODE_UNIQUE_ID` are set; `listen` in the worker asks us.
    Node(Serialization),
    /// As `child_process.fork` does: `NODE_CHANNEL_FD` is set, and nothing of a cluster. For messages and sockets that
    /// either side sends; `listen` in the worker binds by itself, so workers share no port. When such a worker serves
    /// cannot be known: unless [`Spec::ready`] names a sign (or it sends the message `ready`), it counts as ready after
    /// a second. To disconnect it (also when it is asked to stop) is to close its channel; if it stays when it is to
    /// stop, it gets SIGTERM a quarter of a second later.
    Ipc(Serialization),
    /// None: the program gets its sockets by `LISTEN_FDS`, or binds by itself.
    None,
}

impl Default for Channel {
    fn default() -> Self {
        Self::Node(Serialization::Json)
    }
}

/// A socket that the primary binds for programs that speak no protocol of ours.
///
/// ```
/// use everup::{Listen, ListenAddress};
///
/// let address = ListenAddress::Tcp(([127, 0, 0, 1], 8000).into());
/// let listen = Listen::new(address).name("web");
/// assert_eq!(listen.name.as_deref(), Some("web"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Listen {
    /// Its name in `LISTEN_FDNAMES`; `None` is `unknown`, as in systemd.
    pub name: Option<String>,
    /// Where.
    pub address: ListenAddress,
}

impl Listen {
    /// A socket at this address, without a name.
    #[must_use]
    pub fn new(address: ListenAddress) -> Self {
        Self { name: None, address }
    }

    /// Its name in `LISTEN_FDNAMES`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// Where a socket is bound.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ListenAddress {
    /// A listening TCP socket. Port 0 takes a free one.
    Tcp(SocketAddr),
    /// A UDP socket.
    Udp(SocketAddr),
    /// A listening UNIX stream socket at this path (at most 107 bytes).
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What becomes of the workers' output.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Output {
    /// They write to our own standard output and error.
    #[default]
    Inherit,
    /// We read it and give it to the sink, line by line, from a thread of its own. A sink that blocks makes
    /// the workers wait; nothing is dropped.
    Lines(Box<dyn LineSink>),
    /// It goes to `/dev/null`.
    Null,
    /// Somebody else says where it goes, for each worker.
    Open(Arc<dyn OpenOutput>),
}

/// Gives workers their standard output and error.
pub trait OpenOutput: Send + Sync + fmt::Debug {
    /// What a worker that is about to be started shall have as this stream. Called in the engine's thread: it must not
    /// wait.
    ///
    /// # Errors
    /// The worker cannot be started then.
    fn open(&self, worker: WorkerId, slot: Slot, stream: Stream) -> io::Result<OwnedFd>;
}

/// How a worker is stopped: first out of rotation, then asked, then killed.
///
/// ```
/// use everup::StopPlan;
/// use std::time::Duration;
///
/// let patient = StopPlan::default().kill_timeout(Duration::from_secs(60));
/// assert_eq!(patient.drain_timeout, Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct StopPlan {
    /// How it is asked.
    pub ask: Ask,
    /// How it is asked when nobody takes its place: the cluster stops, or is restarted. `None`, the default: in the same
    /// way.
    pub at_stop: Option<Ask>,
    /// From the asking until SIGKILL to its whole process tree. 5 s by default. When a worker is replaced, it begins
    /// after [`drain_timeout`](Self::drain_timeout).
    pub kill_timeout: Duration,
    /// How long a worker that is replaced may go on with its connections. 30 s by default.
    pub drain_timeout: Duration,
    /// How many generations before the current one may still be draining; older ones are hurried. 2 by default.
    pub max_draining: u32,
}

impl Default for StopPlan {
    fn default() -> Self {
        Self {
            ask: Ask::Disconnect,
            at_stop: None,
            kill_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            max_draining: 2,
        }
    }
}

impl StopPlan {
    /// How a worker is asked.
    #[must_use]
    pub fn ask(mut self, ask: Ask) -> Self {
        self.ask = ask;
        self
    }

    /// From the asking until SIGKILL to its whole process tree.
    #[must_use]
    pub fn kill_timeout(mut self, kill_timeout: Duration) -> Self {
        self.kill_timeout = kill_timeout;
        self
    }

    /// How long a worker that is replaced may go on with its connections.
    #[must_use]
    pub fn drain_timeout(mut self, drain_timeout: Duration) -> Self {
        self.drain_timeout = drain_timeout;
        self
    }

    /// How many generations before the current one may still be draining.
    #[must_use]
    pub fn max_draining(mut self, max_draining: u32) -> Self {
        self.max_draining = max_draining;
        self
    }
}

pub use crate::process::{FEEDBACK, MARK};
pub use everup_core::worker::Ask;
