//! What an engine leaves to its successor, so that its process may be killed at any instant.
//!
//! Job: the form of it. An engine that has a [`Ledger`] writes down, before each step that cannot be taken back, what
//! somebody else would have to know to go on: everything that [`everup_core::app::App`] knows, the conversation
//! with each worker, and the number of each descriptor. Whoever holds the same descriptors under the same numbers
//! (a process that shares the table of descriptors with the dead one) and the ledger's content, the [`Estate`], goes on
//! with [`Cluster::adopt`](crate::Cluster::adopt).
//!
//! ```text
//! loop of the engine:   read (bytes go into the ledger first) → decide → snapshot → write (noted before and after)
//! successor:            snapshot → what was read since → decide, as the dead one had or would have → go on
//! ```
//!
//! Invariants: a byte that a worker said is in the kernel or in the ledger; a connection is in the kernel's queue or is
//! an open descriptor; a descriptor that a snapshot names is not closed before the next snapshot.
//!
//! Must not know: where the ledger is, who shares descriptors with whom.

pub(crate) mod number;

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

/// Where an engine writes down what its successor must know. Every call takes effect as a whole or not at all, also if
/// the process is killed meanwhile.
pub trait Ledger: Send + fmt::Debug {
    /// What seldom changes: replaces what was said by this before.
    ///
    /// # Errors
    /// There is no room. The engine goes on; its successor would know the old state only.
    fn settings(&mut self, blob: &[u8]) -> io::Result<()>;
    /// The state now: replaces the last one, and all records.
    ///
    /// # Errors
    /// As for [`settings`](Self::settings).
    fn snapshot(&mut self, blob: &[u8]) -> io::Result<()>;
    /// Something that has happened since the snapshot.
    ///
    /// # Errors
    /// As for [`settings`](Self::settings).
    fn append(&mut self, record: &[u8]) -> io::Result<()>;
    /// Room for bytes that the kernel will write: all zero now. What is written there and not committed is in the
    /// [`Estate`] up to the last byte that is not zero.
    ///
    /// # Errors
    /// As for [`settings`](Self::settings).
    fn reserve(&mut self, head: &[u8], len: usize) -> io::Result<&mut [u8]>;
    /// So many bytes were written there: with the head before them they are a record now.
    fn commit(&mut self, written: usize);
}

/// How a process ended that is no child of ours, by its pid, if somebody has seen it: the status as `waitid` gives it,
/// as (exit code, signal, whether a core was dumped).
pub type SeenExit = (Option<i32>, Option<i32>, bool);

/// Who has seen ends of processes that are no children of ours.
#[derive(Clone)]
pub struct Exits(Arc<dyn Fn(u32) -> Option<SeenExit> + Send + Sync>);

impl Exits {
    /// By this look-up, which must not wait.
    pub fn new(seen: impl Fn(u32) -> Option<SeenExit> + Send + Sync + 'static) -> Self {
        Self(Arc::new(seen))
    }

    /// How this process ended, if it was seen.
    pub(crate) fn seen(&self, pid: u32) -> Option<SeenExit> {
        (self.0)(pid)
    }
}

impl fmt::Debug for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exits").finish_non_exhaustive()
    }
}

/// What makes an engine one that can be taken over.
#[derive(Debug)]
pub struct Keeping {
    /// Where it writes its state down.
    pub ledger: Box<dyn Ledger>,
    /// Who has reaped those whose parent has died.
    pub exits: Option<Exits>,
}

/// What a dead engine has left.
#[derive(Debug, Clone, Default)]
pub struct Estate {
    /// Of [`Ledger::settings`].
    pub settings: Vec<u8>,
    /// Of [`Ledger::snapshot`].
    pub snapshot: Vec<u8>,
    /// Of [`Ledger::append`] and [`Ledger::commit`], since then.
    pub records: Vec<Vec<u8>>,
    /// Reserved, and not committed: the head, and what is there.
    pub reserved: Option<(Vec<u8>, Vec<u8>)>,
}

/// An estate whose descriptors belong to us now. Dropping it closes them.
#[derive(Debug)]
pub struct Heirloom {
    pub(crate) settings: crate::driver::keep::Settings,
    pub(crate) left: crate::driver::keep::Left,
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) reserved: Option<(Vec<u8>, Vec<u8>)>,
    numbers: Vec<RawFd>,
}

/// Why an estate is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstateError {
    /// It was written by another version of everup, or is damaged.
    #[error("what the engine has left cannot be read")]
    Unreadable(#[source] postcard::Error),
    /// It was written by a version that this one does not understand.
    #[error("what the engine has left is in format {found}, and this everup reads format {FORMAT}")]
    Format {
        /// Its number.
        found: u32,
    },
}

/// The version of what is written down.
pub const FORMAT: u32 = 1;

impl Estate {
    /// Takes possession of the descriptors that it names. To be called once for an estate, and only in a process where
    /// these numbers are what they were for the dead engine: each that is open is ours from now on.
    ///
    /// # Errors
    /// It cannot be read. What it named may be closed then.
    pub fn open(self) -> Result<Heirloom, EstateError> {
        let (found, _) = postcard::take_from_bytes::<u32>(&self.snapshot).map_err(EstateError::Unreadable)?;
        if found != FORMAT {
            return Err(EstateError::Format { found });
        }
        let settings = postcard::from_bytes(&self.settings).map_err(EstateError::Unreadable)?;
        let left = postcard::from_bytes(&self.snapshot).map_err(EstateError::Unreadable)?;
        Ok(Heirloom {
            settings,
            left,
            records: self.records,
            reserved: self.reserved,
            numbers: number::taken(),
        })
    }
}

impl Heirloom {
    /// The numbers of all descriptors that belong to it.
    #[must_use]
    pub fn numbers(&self) -> &[RawFd] {
        &self.numbers
    }

    /// The name of the app.
    #[must_use]
    pub fn name(&self) -> &str {
        self.settings.name()
    }

    /// What its workers may use, and as whom they run.
    #[must_use]
    pub fn limits(&self) -> &crate::Limits {
        self.settings.limits()
    }

    /// What its workers run. Without output: that is the successor's.
    pub(crate) fn take_spec(&mut self) -> crate::Spec {
        self.settings.take_spec()
    }

    /// User and group that its workers run as, if not as we do.
    #[must_use]
    pub fn identity(&self) -> Option<(u32, u32)> {
        self.settings.identity()
    }

    /// Whether this is a client's connection to one of its listening sockets.
    #[must_use]
    pub fn serves(&self, connection: BorrowedFd<'_>) -> bool {
        self.left.serves(connection)
    }

    /// The marks of its workers: what they have started has the same.
    #[must_use]
    pub fn marks(&self) -> Vec<String> {
        self.left.marks()
    }
}
