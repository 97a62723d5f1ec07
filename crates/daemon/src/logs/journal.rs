//! What a successor must know to go on: which descriptor is what, and which write is under way.
//!
//! [`Ledger`] is pure: records in, the whole out. [`Journal`] keeps it in a [`Store`] that outlives the daemon's process.
//!
//! Invariants: a descriptor is in the ledger before anybody depends on it, and out of it before it is closed, so a
//! number in the ledger always means what the ledger says.

use super::style::{Style, Writer};
use everup_keeper::Contents;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Memory that outlives the daemon. After an error, what was there is still there.
pub(super) trait Store: Send + fmt::Debug {
    /// Replaces everything, at one instant.
    fn snapshot(&mut self, blob: &[u8]) -> io::Result<()>;
    /// Adds a record, at one instant.
    fn append(&mut self, record: &[u8]) -> io::Result<()>;
}

impl Store for everup_keeper::Memory {
    fn snapshot(&mut self, blob: &[u8]) -> io::Result<()> {
        Self::snapshot(self, blob)
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        Self::append(self, record)
    }
}

/// Where the bytes of one pipe go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) app: String,
    /// pm2's.
    pub(super) id: u32,
    pub(super) worker: u32,
    pub(super) err: bool,
    pub(super) files: Vec<PathBuf>,
    pub(super) mode: u32,
    pub(super) style: Style,
}

impl Route {
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer {
            app: &self.app,
            id: self.id,
            stream: if self.err { "err" } else { "out" },
        }
    }
}

/// What is under way with a pipe whose bytes are written by us, and not moved by the kernel. Says what its second pipe,
/// the aside, holds if it holds anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Copies of bytes that are still in the pipe.
    #[default]
    Peek,
    /// Bytes that are taken from the pipe, and on their way to the files.
    Move {
        /// How many.
        raw: usize,
        /// When they were taken: part of what is written.
        at: i64,
        /// How long each file was: where in it the write begins. `None` if it has no length.
        from: Vec<Option<i64>>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    Pipe {
        fd: RawFd,
        route: Route,
    },
    Aside {
        fd: RawFd,
        ends: [RawFd; 2],
    },
    Step {
        fd: RawFd,
        step: Step,
    },
    Gone {
        fd: RawFd,
    },
    File {
        fd: RawFd,
        path: PathBuf,
    },
    Left {
        fd: RawFd,
    },
    /// The kernel is told to move bytes of another pipe to this file, to which several lead.
    Turn {
        file: RawFd,
        pipe: RawFd,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) route: Route,
    pub(super) aside: Option<[RawFd; 2]>,
    pub(super) step: Step,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub(super) pipes: BTreeMap<RawFd, Entry>,
    pub(super) files: BTreeMap<RawFd, PathBuf>,
    /// Whose bytes came last, by file: if they end within a line, its rest is to come first.
    #[serde(default)]
    pub(super) turns: BTreeMap<RawFd, RawFd>,
}

impl Ledger {
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Pipe { fd, route } => {
                let entry = Entry {
                    route,
                    aside: None,
                    step: Step::Peek,
                };
                self.pipes.insert(fd, entry);
            }
            Record::Aside { fd, ends } => {
                self.pipes.entry(fd).and_modify(|entry| entry.aside = Some(ends));
            }
            Record::Step { fd, step } => {
                self.pipes.entry(fd).and_modify(|entry| entry.step = step);
            }
            Record::Gone { fd } => {
                self.pipes.remove(&fd);
                self.turns.retain(|_, pipe| *pipe != fd);
            }
            Record::File { fd, path } => {
                self.files.insert(fd, path);
            }
            Record::Left { fd } => {
                self.files.remove(&fd);
                self.turns.remove(&fd);
            }
            Record::Turn { file, pipe } => {
                self.turns.insert(file, pipe);
            }
        }
    }

    /// What a predecessor left. A record that cannot be read is of a later version that had to fall back: it is
    /// passed over.
    pub(super) fn restore(left: &Contents) -> Self {
        let mut ledger: Self = serde_json::from_slice(&left.snapshot).unwrap_or_default();
        left.records
            .iter()
            .filter_map(|record| serde_json::from_slice(record).ok())
            .for_each(|record| ledger.apply(record));
        ledger
    }

    /// Every descriptor in it.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let pipes = self.pipes.iter();
        pipes
            .flat_map(|(fd, entry)| std::iter::once(*fd).chain(entry.aside.into_iter().flatten()))
            .chain(self.files.keys().copied())
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Journal {
    store: Box<dyn Store>,
    ledger: Ledger,
    /// Bytes of records since the last snapshot, and of that snapshot.
    appended: usize,
    snapshot: usize,
}

/// More than this, and as much as the snapshot itself: records are folded into a new one.
const MUCH: usize = 64 * 1024;

impl Journal {
    pub(super) fn new(store: Box<dyn Store>, ledger: Ledger) -> io::Result<Self> {
        let mut journal = Self {
            store,
            ledger,
            appended: 0,
            snapshot: 0,
        };
        journal.fold()?;
        Ok(journal)
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Notes it; nothing is noted if that fails.
    pub(super) fn note(&mut self, record: Record) -> io::Result<()> {
        let bytes = serde_json::to_vec(&record)?;
        self.store.append(&bytes)?;
        self.ledger.apply(record);
        self.appended += bytes.len();
        if self.appended > MUCH.max(self.snapshot) {
            // If there is no memory for it, records go on.
            self.fold().ok();
        }
        Ok(())
    }

    fn fold(&mut self) -> io::Result<()> {
        let blob = serde_json::to_vec(&self.ledger)?;
        self.store.snapshot(&blob)?;
        (self.appended, self.snapshot) = (0, blob.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Contents>>);

    impl Store for Kept {
        fn snapshot(&mut self, blob: &[u8]) -> io::Result<()> {
            *self.0.lock().unwrap() = Contents {
                snapshot: blob.to_vec(),
                ..Contents::default()
            };
            Ok(())
        }
        fn append(&mut self, record: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().records.push(record.to_vec());
            Ok(())
        }
    }

    fn route() -> Route {
        Route {
            app: "a".into(),
            id: 1,
            worker: 2,
            err: false,
            files: vec!["/x".into()],
            mode: 0o600,
            style: Style::Json(None),
        }
    }

    fn records() -> Vec<Record> {
        let step = Step::Move {
            raw: 5,
            at: 7,
            from: vec![Some(-3), None],
        };
        vec![
            Record::File {
                fd: 9,
                path: "/x".into(),
            },
            Record::Pipe {
                fd: 7,
                route: route(),
            },
            Record::Aside {
                fd: 7,
                ends: [10, 11],
            },
            Record::Step { fd: 7, step },
            Record::Pipe {
                fd: 8,
                route: route(),
            },
            Record::Gone { fd: 8 },
            Record::File {
                fd: 12,
                path: "/y".into(),
            },
            Record::Turn { file: 9, pipe: 7 },
            Record::Turn { file: 12, pipe: 7 },
            Record::Left { fd: 12 },
            Record::Gone { fd: 99 },
        ]
    }

    #[test]
    fn a_successor_knows_what_its_predecessor_knew() {
        let kept = Kept::default();
        let mut journal = Journal::new(Box::new(kept.clone()), Ledger::default()).unwrap();
        for record in records() {
            journal.note(record).unwrap();
            assert_eq!(&Ledger::restore(&kept.0.lock().unwrap()), journal.ledger());
        }
        let mut fds: Vec<RawFd> = journal.ledger().descriptors().collect();
        fds.sort_unstable();
        assert_eq!(fds, [7, 9, 10, 11]);
    }

    #[test]
    fn records_do_not_grow_for_ever() {
        let kept = Kept::default();
        let mut journal = Journal::new(Box::new(kept.clone()), Ledger::default()).unwrap();
        journal
            .note(Record::Pipe {
                fd: 7,
                route: route(),
            })
            .unwrap();
        for at in 0..10_000 {
            let step = Step::Move {
                raw: 1,
                at,
                from: vec![Some(1)],
            };
            journal.note(Record::Step { fd: 7, step }).unwrap();
        }
        let left = kept.0.lock().unwrap();
        assert!(left.records.iter().map(Vec::len).sum::<usize>() < 2 * MUCH);
        assert_eq!(&Ledger::restore(&left), journal.ledger());
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let left = Contents {
            snapshot: b"?".to_vec(),
            records: vec![b"{}".to_vec(), br#"{"Left":{"fd":1}}"#.to_vec()],
            ..Contents::default()
        };
        assert_eq!(Ledger::restore(&left), Ledger::default());
    }
}
