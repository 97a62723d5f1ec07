//! The keeper: it keeps descriptors and state while daemons come and go.
//!
//! ```text
//! keeper     subreaper, one thread, holds the lock of $EVERUP_HOME
//!   └─ daemon     cloned without exec: both have ONE descriptor table
//!        └─ workers     after the daemon's death: the keeper's
//! ```
//!
//! Whatever the daemon has open, the keeper has open under the same number, and the other way round, without anything having to be
//! passed: at no instant is a connection that was just accepted known to one process only. State is in memfds
//! ([`Memory`]), which are descriptors like all the others.
//!
//! - The daemon dies: the keeper clones another, which looks through the descriptors ([`Inherited`]) and adopts.
//! - The keeper dies: the daemon notices and becomes the keeper (exec keeps pid, children and descriptors), which clones
//!   a daemon, which adopts. The same path.
//! - Upgrade: the daemon ends with a code of its own ([`Upgrade`]), the keeper becomes the new program, which clones a
//!   daemon, which adopts. If that does not get ready in time, the old program comes back: it is kept open. Until a new
//!   daemon is ready, a copy of the old keeper (the guard) has all descriptors too, should the new program end or hang.
//!
//! The keeper opens no descriptor while a daemon runs, names the daemon by its pid only (it is its parent, and nobody else
//! reaps it), and knows nothing of apps, workers, the control API or configuration.

mod arguments;
mod check;
mod ensure;
mod exits;
mod guard;
mod handoff;
mod keeper;
mod link;
mod log;
pub mod memory;
mod policy;
mod root;
mod run;
mod successor;
mod sys;

pub use arguments::{Command, KEEPER};
pub use check::{CHECK, CheckError};
pub use ensure::{EnsureError, LOG, Place, Started, ensure};
pub use exits::{Exits, exit_by_pidfd};
pub use handoff::{Checked, Handoff, Inherited, Ready, Upgrade};
pub use memory::{Contents, Memory, find};
pub use run::{Config, run};
