//! What a dead daemon has left, and going on with it.
//!
//! ```text
//! descriptors (all that were open) ─▶ memories ─▶ apps: what was known, engines' estates
//!                                             ├─▶ logs: pipes and files
//!                                             └─▶ the API's socket
//! the rest: connections that were just accepted go to the app that serves their address; all else is closed
//! ```
//!
//! Job: sort it ([`Legacy::sort`]), before this process opens anything of its own; then let each app go on
//! ([`Daemon::adopt`]). Invariants: nothing that an app needs is closed; nothing that nobody knows stays open.

use crate::app::{App, Kept, Run, Variables};
use crate::daemon::{Daemon, blocking};
use crate::follow::follow;
use crate::launcher::Facts;
use crate::ledger::{AppLedger, Part, owner};
use crate::logs;
use crate::ops::Host;
use crate::record::Record;
use crate::view;
use everup::Cluster;
use everup::estate::{Exits, Heirloom, Keeping, SeenExit};
use everup_api::{AppSpec, Exit, Receipt};
use everup_keeper::{Contents, Inherited, Memory};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The memory of what belongs to no app.
const DAEMON: &str = "daemon";
/// The memory of what is known of an app.
const KNOWN: &str = "app:known:";

/// What is known of an app, as it is written down.
#[derive(Debug, Serialize)]
pub(crate) struct Remembered<'a> {
    spec: &'a AppSpec,
    inherited: &'a Variables,
    origin: &'a Option<PathBuf>,
    wanted: bool,
    running: bool,
    created_at: u64,
    facts: &'a Facts,
    target: u32,
    job: bool,
    record: &'a Record,
    because: &'a Option<String>,
    exits: &'a VecDeque<Exit>,
    receipts: &'a VecDeque<Receipt>,
}

/// The same, as it is read.
#[derive(Debug, Deserialize)]
struct Known {
    spec: AppSpec,
    inherited: Variables,
    origin: Option<PathBuf>,
    wanted: bool,
    running: bool,
    created_at: u64,
    facts: Facts,
    target: u32,
    job: bool,
    record: Record,
    because: Option<String>,
    exits: VecDeque<Exit>,
    receipts: VecDeque<Receipt>,
}

impl<'a> Remembered<'a> {
    pub(crate) fn of(kept: &'a Kept) -> Self {
        Self {
            spec: &kept.spec,
            inherited: &kept.inherited,
            origin: &kept.origin,
            wanted: kept.wanted,
            running: kept.run.is_some(),
            created_at: kept.created_at,
            facts: &kept.facts,
            target: kept.target,
            job: kept.job,
            record: &kept.record,
            because: &kept.because,
            exits: &kept.exits,
            receipts: &kept.receipts,
        }
    }
}

/// What belongs to no app.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Common {
    /// The number of the API's listening socket.
    socket: Option<RawFd>,
    /// Of the next event.
    pub(crate) seq: u64,
}

/// Everything that was left, sorted.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    apps: Vec<Left>,
    pub(crate) logs: Option<(Memory, Contents)>,
    pub(crate) socket: Option<UnixListener>,
    pub(crate) common: Option<Memory>,
    /// The number of the next event.
    pub(crate) seq: u64,
    connections: Vec<OwnedFd>,
    /// What could not be understood, for people.
    pub(crate) trouble: Vec<String>,
}

/// One app.
#[derive(Debug)]
struct Left {
    memory: Memory,
    known: Known,
    engine: Option<(AppLedger, Heirloom)>,
}

/// Memories by whose they are.
#[derive(Default)]
struct Memories {
    known: BTreeMap<String, (Memory, Contents)>,
    settings: BTreeMap<String, (Memory, Contents)>,
    states: BTreeMap<String, (Memory, Contents)>,
}

impl Legacy {
    /// Sorts all descriptors that a dead daemon left; closes those that nobody knows.
    ///
    /// # Errors
    /// What the system says of `/proc/self/fd`.
    pub(crate) fn sort(mut inherited: Inherited) -> io::Result<Self> {
        let mut legacy = Self {
            seq: 1,
            ..Self::default()
        };
        let mut memories = Memories::default();
        for (name, descriptor) in inherited.memories()? {
            match Memory::open(descriptor) {
                Ok(memory) => legacy.file(&name, memory, &mut memories, &mut inherited),
                Err(error) => legacy
                    .trouble
                    .push(format!("read what was left of {name}: {error}")),
            }
        }
        legacy.match_up(memories, &mut inherited);
        if let Some((_, contents)) = &legacy.logs {
            let numbers = logs::numbers(contents);
            numbers
                .into_iter()
                .for_each(|number| keep_open(&mut inherited, number));
        }
        let rest: Vec<RawFd> = inherited.numbers().collect();
        for number in rest {
            // Taken and not kept: closed.
            let connection = inherited
                .take(number)
                .filter(|descriptor| legacy.is_served(descriptor));
            legacy.connections.extend(connection);
        }
        Ok(legacy)
    }

    fn file(
        &mut self,
        name: &str,
        memory: (Memory, Contents),
        memories: &mut Memories,
        inherited: &mut Inherited,
    ) {
        if let Some(app) = name.strip_prefix(KNOWN) {
            memories.known.insert(app.into(), memory);
        } else if let Some((part, app)) = owner(name) {
            let parts = match part {
                Part::Settings => &mut memories.settings,
                Part::State => &mut memories.states,
            };
            parts.insert(app.into(), memory);
        } else if name == logs::MEMORY {
            self.logs = Some(memory);
        } else if name == DAEMON {
            let common: Common = serde_json::from_slice(&memory.1.snapshot).unwrap_or_default();
            self.seq = common.seq.max(1);
            let socket = common.socket.and_then(|number| inherited.take(number));
            self.socket = socket.map(UnixListener::from);
            self.common = Some(memory.0);
        }
    }

    fn match_up(&mut self, memories: Memories, inherited: &mut Inherited) {
        let Memories {
            known,
            mut settings,
            mut states,
        } = memories;
        for (app, (memory, contents)) in known {
            let engine = settings.remove(&app).zip(states.remove(&app));
            if contents.snapshot.is_empty() {
                continue;
            }
            let known = match serde_json::from_slice(&contents.snapshot) {
                Ok(known) => known,
                Err(error) => {
                    self.trouble
                        .push(format!("read what was known of {app}: {error}"));
                    continue;
                }
            };
            let engine = engine.and_then(|(settings, state)| self.engine(&app, settings, state, inherited));
            self.apps.push(Left {
                memory,
                known,
                engine,
            });
        }
    }

    fn engine(
        &mut self,
        app: &str,
        settings: (Memory, Contents),
        state: (Memory, Contents),
        inherited: &mut Inherited,
    ) -> Option<(AppLedger, Heirloom)> {
        if state.1.snapshot.is_empty() {
            // It was about to begin.
            return None;
        }
        let (ledger, estate) = AppLedger::inherit(settings, state);
        match estate.open() {
            Ok(left) => {
                left.numbers()
                    .iter()
                    .for_each(|number| keep_open(inherited, *number));
                Some((ledger, left))
            }
            Err(error) => {
                self.trouble.push(format!("go on with {app}: {error}"));
                None
            }
        }
    }

    /// Whether no app was left.
    pub(crate) fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }

    /// Whether it is a client's connection to one of the apps.
    fn is_served(&self, descriptor: &OwnedFd) -> bool {
        self.apps.iter().any(|app| app.serves(descriptor))
    }
}

impl Left {
    fn serves(&self, connection: &OwnedFd) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|(_, left)| left.serves(connection.as_fd()))
    }
}

/// It has an owner: it stays open, under its number.
fn keep_open(inherited: &mut Inherited, number: RawFd) {
    if let Some(descriptor) = inherited.take(number) {
        let _number = descriptor.into_raw_fd();
    }
}

/// Whom the keeper has buried, as the engine asks for it.
pub(crate) fn exits(exits: everup_keeper::Exits) -> Exits {
    /// The keeper remembers somewhat more.
    const REMEMBERED: u64 = 4000;
    let mark = exits.mark().saturating_sub(REMEMBERED);
    Exits::new(move |pid| {
        let status = exits.lookup(mark, pid)?;
        let seen: SeenExit = (status.code(), status.signal(), status.core_dumped());
        Some(seen)
    })
}

/// What is written down of what belongs to no app.
pub(crate) fn common(socket: RawFd, seq: u64) -> Vec<u8> {
    let socket = Some(socket);
    serde_json::to_vec(&Common { socket, seq }).unwrap_or_default()
}

/// A new memory for that.
///
/// # Errors
/// The system has no memory, or no descriptor.
pub(crate) fn common_memory() -> io::Result<Memory> {
    Memory::create(DAEMON)
}

impl Daemon {
    /// What makes an app's engine one that outlives this process; `None` where nobody would take it over.
    pub(crate) fn keeping(&self, app: &App) -> io::Result<Option<Keeping>> {
        let Some(exits) = &self.exits else { return Ok(None) };
        self.remember(app)?;
        Ok(Some(Keeping {
            ledger: Box::new(AppLedger::create(&app.name)?),
            exits: Some(exits.clone()),
        }))
    }

    /// From now on a successor finds what is known of the app.
    pub(crate) fn remember(&self, app: &App) -> io::Result<()> {
        if self.exits.is_some() && !app.is_kept() {
            app.keep_in(Memory::create(&format!("{KNOWN}{}", app.name))?);
        }
        Ok(())
    }

    /// Goes on with all apps.
    pub(crate) async fn adopt(self: &Host, legacy: Legacy) {
        let of = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        let marks = Arc::new(everup::cluster::marked_children(&of.to_string()));
        let mut known = Vec::new();
        let mut connections = legacy.connections;
        for left in legacy.apps {
            known.extend(left.engine.iter().flat_map(|(_, left)| left.marks()));
            let its = |connection: &mut OwnedFd| left.serves(connection);
            let its: Vec<OwnedFd> = connections.extract_if(.., its).collect();
            self.adopt_app(left, its, &marks).await;
        }
        for (pid, mark) in marks.iter().filter(|(_, mark)| !known.contains(mark)) {
            // Of no worker that we know, nor started by one: nobody would ever stop it.
            everup::cluster::end_stray(*pid, mark);
        }
    }

    async fn adopt_app(self: &Host, left: Left, connections: Vec<OwnedFd>, marks: &Arc<Vec<(u32, String)>>) {
        let Left {
            memory,
            known,
            engine,
        } = left;
        let (wanted, running, created_at) = (known.wanted, known.running, known.created_at);
        let (app, _) = self.app_or_new(&known.spec, &Arc::new(known.inherited));
        {
            let mut kept = app.kept();
            kept.origin = known.origin;
            kept.wanted = wanted;
            kept.created_at = created_at;
            kept.facts = known.facts;
            kept.target = known.target;
            kept.job = known.job;
            kept.record = known.record;
            kept.because = known.because;
            kept.exits = known.exits;
            kept.receipts = known.receipts;
        }
        self.claim_ids(&app);
        let adopted = match engine {
            Some((ledger, left)) => self.adopt_engine(&app, ledger, left, marks, &known.spec).await,
            None => Ok(false),
        };
        match adopted {
            Ok(true) => {
                if let Some(cluster) = app.kept().cluster() {
                    connections
                        .into_iter()
                        .for_each(|connection| cluster.take_in(connection));
                }
            }
            Ok(false) => app.kept().record.begin(),
            Err(why) => {
                let mut kept = app.kept();
                kept.record.begin();
                kept.because = Some(format!("it could not be taken over: {why}"));
            }
        }
        app.keep_in(memory);
        // It was about to be started.
        if wanted && running && app.kept().run.is_none() {
            self.start_again(&app);
        }
    }

    /// Whether it goes on.
    async fn adopt_engine(
        self: &Host,
        app: &Arc<App>,
        ledger: AppLedger,
        left: Heirloom,
        marks: &Arc<Vec<(u32, String)>>,
        spec: &AppSpec,
    ) -> Result<bool, String> {
        let output = self.outputs.of(app, spec, left.identity());
        let keeping = Keeping {
            ledger: Box::new(ledger),
            exits: self.exits.clone(),
        };
        let marks = Arc::clone(marks);
        let adopt = move || Cluster::adopt(left, output, keeping, marks);
        let adopted = blocking(adopt).await.map_err(|error| error.message)?;
        let (cluster, events) = adopted.map_err(|error| error.to_string())?;
        if let Some(status) = cluster.status() {
            app.kept().record.reconcile(&status, view::now());
        }
        app.kept().run = Some(Run {
            cluster: Arc::new(cluster),
            firing: None,
            spec: spec.clone(),
        });
        tokio::spawn(follow(Arc::clone(self), Arc::clone(app), events));
        self.arm_again(app);
        Ok(true)
    }
}
