//! What a successor of this daemon must know, in a memory of the keeper's kind.
//!
//! Small records as things happen; now and then all of it, so that the records stay few. A successor reads the last
//! snapshot and the records since then. Invariant: an answer is given only when what it says is in here.

use super::stored::{Present, Stored};
use crate::app::{App, Kept, Variables};
use everup_api::{Exit, Receipt};
use everup_keeper::{Contents, Memory};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name of its memory.
pub(crate) const MEMORY: &str = "daemon";
/// Records of so many bytes are too many.
const ROOM: usize = 1 << 20;

/// See the module's documentation. Without a keeper it remembers nothing.
#[derive(Debug, Default)]
pub(crate) struct Recall(Mutex<Option<Writing>>);

#[derive(Debug)]
struct Writing {
    memory: Memory,
    /// Bytes since the last snapshot.
    since: usize,
    /// Sets of variables that are written down.
    known: Vec<u64>,
    /// Of the last event.
    seq: u64,
}

/// One thing that has happened.
#[derive(Debug, Serialize, Deserialize)]
enum Note<'a> {
    /// The number of the last event.
    #[serde(rename = "q")]
    Seq(u64),
    /// An app as it is now.
    App(Box<Stored>),
    /// It is gone.
    Gone(Cow<'a, str>),
    /// A worker has ended.
    Exit(Cow<'a, str>, Box<Exit>),
    /// A reload is over.
    Receipt(Cow<'a, str>, Box<Receipt>),
    /// A set of inherited variables.
    Variables(u64, Arc<Variables>),
    /// The socket of the API.
    Socket(RawFd),
}

/// All of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recalled {
    pub(crate) seq: u64,
    pub(crate) apps: BTreeMap<String, Stored>,
    pub(crate) variables: BTreeMap<u64, Arc<Variables>>,
    pub(crate) socket: Option<RawFd>,
}

impl Recall {
    /// Goes on in this memory.
    pub(crate) fn begin(&self, memory: Memory) {
        *self.lock() = Some(Writing {
            memory,
            since: ROOM,
            known: Vec::new(),
            seq: 0,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Writing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event has got this number.
    pub(crate) fn seq(&self, seq: u64) {
        if let Some(writing) = self.lock().as_mut() {
            writing.seq = writing.seq.max(seq);
            writing.note(&Note::Seq(seq));
        }
    }

    /// An app is as it is.
    pub(crate) fn app(&self, kept: &Kept) {
        let mut lock = self.lock();
        let Some(writing) = lock.as_mut() else { return };
        let number = writing.variables(&kept.inherited);
        writing.note(&Note::App(Box::new(present(kept, number, false))));
    }

    /// An app is no more.
    pub(crate) fn gone(&self, name: &str) {
        self.note(&Note::Gone(name.into()));
    }

    /// A worker of an app has ended.
    pub(crate) fn exit(&self, app: &str, exit: &Exit) {
        self.note(&Note::Exit(app.into(), Box::new(exit.clone())));
    }

    /// A reload of an app is over.
    pub(crate) fn receipt(&self, app: &str, receipt: &Receipt) {
        self.note(&Note::Receipt(app.into(), Box::new(receipt.clone())));
    }

    /// Where the API listens.
    pub(crate) fn socket(&self, socket: RawFd) {
        self.note(&Note::Socket(socket));
    }

    fn note(&self, note: &Note<'_>) {
        if let Some(writing) = self.lock().as_mut() {
            writing.note(note);
        }
    }

    /// Whether all of it should be written once more.
    pub(crate) fn full(&self) -> bool {
        self.lock().as_ref().is_some_and(|writing| writing.since >= ROOM)
    }

    /// Writes all of it.
    pub(crate) fn snapshot(&self, seq: u64, apps: &[Arc<App>], socket: Option<RawFd>) {
        // Apps are looked at without our lock: whoever has one of them may be waiting for it.
        let mut all = Recalled {
            seq,
            socket,
            ..Recalled::default()
        };
        for app in apps {
            let kept = app.kept();
            let number = fingerprint(&kept.inherited);
            all.variables.insert(number, Arc::clone(&kept.inherited));
            all.apps.insert(app.name.clone(), present(&kept, number, true));
        }
        let mut lock = self.lock();
        let Some(writing) = lock.as_mut() else { return };
        all.seq = all.seq.max(writing.seq);
        let Ok(bytes) = serde_json::to_vec(&all) else {
            return;
        };
        if writing.memory.snapshot(&bytes).is_ok() {
            writing.since = 0;
            writing.known = all.variables.into_keys().collect();
        }
    }
}

impl Writing {
    fn note(&mut self, note: &Note<'_>) {
        let Ok(bytes) = serde_json::to_vec(note) else {
            return;
        };
        self.since += bytes.len();
        // Without room a successor knows less; we go on.
        if self.memory.append(&bytes).is_err() {
            self.since = ROOM;
        }
    }

    fn variables(&mut self, variables: &Arc<Variables>) -> u64 {
        let number = fingerprint(variables);
        if !self.known.contains(&number) {
            self.note(&Note::Variables(number, Arc::clone(variables)));
            self.known.push(number);
        }
        number
    }
}

fn fingerprint(variables: &Variables) -> u64 {
    let mut hasher = DefaultHasher::new();
    variables.hash(&mut hasher);
    hasher.finish()
}

fn present(kept: &Kept, inherited: u64, with_past: bool) -> Stored {
    let mut exits = Vec::new();
    if with_past {
        exits.extend(kept.exits.iter().cloned());
        let run = kept.run.iter();
        exits.extend(
            run.flat_map(|run| run.cluster.exits())
                .map(|exit| crate::view::exit(&exit)),
        );
    }
    let mut stored = Stored::of(kept);
    stored.present = Some(Present {
        inherited,
        facts: kept.facts.clone(),
        target: kept.target,
        job: kept.job,
        runs: kept.run.is_some(),
        running_spec: kept
            .run
            .as_ref()
            .map(|run| run.spec.clone())
            .filter(|spec| *spec != kept.spec),
        failed: matches!(kept.end, Some(everup::Outcome::Failed { .. })),
        because: kept.because.clone(),
        all_ready: kept.record.all_ready,
        exits,
        receipts: if with_past {
            kept.receipts.iter().cloned().collect()
        } else {
            Vec::new()
        },
    });
    stored
}

/// What the predecessor has left. What cannot be understood is left out.
pub(crate) fn read(contents: &Contents) -> Recalled {
    let mut all: Recalled = serde_json::from_slice(&contents.snapshot).unwrap_or_default();
    for record in &contents.records {
        if let Ok(note) = serde_json::from_slice(record) {
            fold(&mut all, note);
        }
    }
    all
}

fn fold(all: &mut Recalled, note: Note<'_>) {
    let present = |all: &mut Recalled, app: &str, change: &mut dyn FnMut(&mut Present)| {
        if let Some(present) = all.apps.get_mut(app).and_then(|stored| stored.present.as_mut()) {
            change(present);
        }
    };
    match note {
        Note::Seq(seq) => all.seq = seq,
        Note::App(mut stored) => {
            let before = all
                .apps
                .remove(&stored.spec.name)
                .and_then(|stored| stored.present);
            if let (Some(before), Some(now)) = (before, &mut stored.present) {
                now.exits = before.exits;
                now.receipts = before.receipts;
            }
            all.apps.insert(stored.spec.name.clone(), *stored);
        }
        Note::Gone(name) => drop(all.apps.remove(name.as_ref())),
        Note::Exit(app, exit) => present(all, &app, &mut |present| present.exits.push((*exit).clone())),
        Note::Receipt(app, receipt) => {
            present(all, &app, &mut |present| {
                present.receipts.push((*receipt).clone())
            });
        }
        Note::Variables(number, variables) => drop(all.variables.insert(number, variables)),
        Note::Socket(socket) => all.socket = Some(socket),
    }
}

/// The memory, new or the predecessor's.
///
/// # Errors
/// There is no memory to be had.
pub(crate) fn memory(left: Option<(Memory, Contents)>) -> io::Result<(Memory, Recalled)> {
    match left {
        Some((memory, contents)) => {
            let recalled = read(&contents);
            Ok((memory, recalled))
        }
        None => Ok((Memory::create(MEMORY)?, Recalled::default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everup_api::AppSpec;

    fn app(name: &str) -> Arc<App> {
        let spec = AppSpec {
            name: name.into(),
            ..AppSpec::default()
        };
        App::new(name.into(), spec, Arc::new([("A".into(), "1".into())].into()))
    }

    fn recalled(recall: &Recall) -> Recalled {
        use std::os::fd::AsFd;
        let lock = recall.lock();
        let fd = lock.as_ref().unwrap().memory.fd();
        read(&Contents::read(fd.as_fd()).unwrap())
    }

    #[test]
    fn a_successor_knows_what_was_noted() {
        let recall = Recall::default();
        recall.seq(1);
        assert!(!recall.full(), "without a memory nothing is remembered");
        recall.begin(Memory::create("test-recall").unwrap());
        assert!(recall.full());
        let (web, api) = (app("web"), app("api"));
        web.kept().target = 3;
        recall.snapshot(7, &[Arc::clone(&web), Arc::clone(&api)], Some(9));
        assert!(!recall.full());
        recall.seq(8);
        web.kept().wanted = true;
        web.kept().inherited = Arc::new([("A".into(), "2".into())].into());
        recall.app(&web.kept());
        recall.gone("api");
        let all = recalled(&recall);
        assert_eq!((all.seq, all.socket), (8, Some(9)));
        assert_eq!(all.apps.keys().collect::<Vec<_>>(), ["web"]);
        let stored = &all.apps["web"];
        let present = stored.present.as_ref().unwrap();
        assert_eq!((stored.wanted, present.target), (true, 3));
        assert_eq!(all.variables[&present.inherited]["A"], "2");
        let revived = stored
            .clone()
            .revive(Arc::clone(&all.variables[&present.inherited]));
        assert_eq!(revived.kept().spec, web.kept().spec);
    }

    #[test]
    fn many_records_ask_for_a_snapshot() {
        let recall = Recall::default();
        recall.begin(Memory::create("test-recall-2").unwrap());
        let web = app("web");
        recall.snapshot(0, &[Arc::clone(&web)], None);
        let mut notes = 0;
        while !recall.full() {
            recall.app(&web.kept());
            notes += 1;
        }
        assert!(notes > 100, "{notes}");
        recall.snapshot(5, &[web], None);
        assert!(!recall.full());
        assert_eq!(recalled(&recall).seq, 5);
    }
}
