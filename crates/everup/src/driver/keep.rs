//! Writing down what a successor must know, and going on where a dead engine stopped: see [`crate::estate`].
//!
//! A record is a byte for its kind, the worker's number, and what belongs to it. What was *read* is fed to the machine
//! by the successor as if it had just read it: the dead engine's snapshot is older than that. What was *written* is only
//! noted in the conversation. A write that was begun, and not noted as done, may have happened or not: text is sent
//! again (all of it may come twice), a descriptor is taken for sent until the worker turns out not to have it
//! ([`Driver::doubt`]).

use super::drain::Postponed;
use super::{Descriptors, Driver, Later, Listener, Version};
use crate::bind::BoundSocket;
use crate::driver::workers::WorkerIo;
use crate::estate::{FORMAT, Heirloom};
use crate::poller::Key;
use crate::spec::Spec;
use everup_core::app::{App, Input};
use everup_core::health::{ProbeId, Probed};
use everup_core::id::{EndpointId, Slot, Token, WorkerId};
use everup_core::time::Time;
use everup_core::wire::Event;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, getpeername, getsockname, sockopt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// A record's kind: what a worker said.
const READ: u8 = 1;
/// Descriptors that came with it.
const CAME: u8 = 2;
/// A write that begins: how long it is, and which descriptor goes with it.
const WRITING: u8 = 3;
/// How much was written.
const WROTE: u8 = 4;
/// After this long a descriptor that may have been sent is looked for.
const DOUBT: Duration = Duration::from_millis(50);

/// What seldom changes.
#[derive(Debug, Deserialize)]
pub(crate) struct Settings {
    spec: Spec,
    mark: String,
    /// The monotonic clock when the first engine began.
    base: Duration,
    generations: BTreeMap<u32, Version>,
}

impl Settings {
    pub(crate) fn take_spec(&mut self) -> Spec {
        std::mem::replace(&mut self.spec, Spec::new(""))
    }

    pub(crate) fn identity(&self) -> Option<(u32, u32)> {
        let identity = self.spec.limits.identity.as_ref()?;
        Some((identity.uid, identity.gid))
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn limits(&self) -> &crate::Limits {
        &self.spec.limits
    }
}

#[derive(Serialize)]
struct SettingsNow<'a> {
    spec: &'a Spec,
    mark: &'a str,
    base: Duration,
    generations: &'a BTreeMap<u32, Version>,
}

/// The state, as a successor reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct Left {
    #[expect(dead_code, reason = "read before the rest, by itself")]
    format: u32,
    app: App,
    workers: BTreeMap<WorkerId, WorkerIo>,
    passed: Vec<BoundSocket>,
    listeners: BTreeMap<EndpointId, Listener>,
    descriptors: Descriptors,
    births: Vec<(WorkerId, Slot, u32)>,
    doomed: Vec<WorkerId>,
    probes: Vec<(Token, (WorkerId, ProbeId, bool))>,
    holdings: Vec<(WorkerId, Vec<Postponed>)>,
    /// Handles that may have been sent or not: who asks next may be killed before he knows.
    doubts: Vec<(WorkerId, Token)>,
}

impl Left {
    pub(crate) fn marks(&self) -> Vec<String> {
        self.workers
            .values()
            .map(|io| io.process.mark().to_owned())
            .collect()
    }

    /// Whether this is a client's connection to one of its sockets.
    pub(crate) fn serves(&self, connection: BorrowedFd<'_>) -> bool {
        let Some(local) = accepted_at(connection) else {
            return false;
        };
        let Ok(local) = SocketAddr::try_from(local.clone()) else {
            let mut sockets = self
                .listeners
                .values()
                .map(|listener| &listener.socket.descriptor);
            return sockets.any(|socket| getsockname(socket).is_ok_and(|name| name == local));
        };
        self.listeners.values().any(|listener| {
            let name = listener.socket.sockname.as_ref();
            let address: Option<IpAddr> = name.and_then(|name| name.address.parse().ok());
            let port = name.map(|name| name.port);
            let ip = local.ip().to_canonical();
            let same = |address: IpAddr| address.is_unspecified() || address.to_canonical() == ip;
            port == Some(local.port()) && address.is_some_and(same)
        })
    }
}

/// The same, as it is written.
#[derive(Serialize)]
struct Now<'a> {
    format: u32,
    app: &'a App,
    workers: &'a BTreeMap<WorkerId, WorkerIo>,
    passed: &'a [BoundSocket],
    listeners: &'a BTreeMap<EndpointId, Listener>,
    descriptors: &'a Descriptors,
    births: &'a [(WorkerId, Slot, u32)],
    doomed: &'a [WorkerId],
    probes: Vec<(Token, (WorkerId, ProbeId, bool))>,
    holdings: Vec<(WorkerId, Vec<Postponed>)>,
    doubts: Vec<(WorkerId, Token)>,
}

/// What may not be closed before the next snapshot: its number would be given to something else.
#[derive(Debug)]
pub(super) enum Closing {
    Descriptor(#[expect(dead_code, reason = "only its drop matters")] OwnedFd),
    Channel(#[expect(dead_code, reason = "only its drop matters")] Box<crate::channel::Channel>),
    Worker(#[expect(dead_code, reason = "only its drop matters")] Box<WorkerIo>),
    Listener(#[expect(dead_code, reason = "only its drop matters")] Box<Listener>),
}

impl From<OwnedFd> for Closing {
    fn from(descriptor: OwnedFd) -> Self {
        Self::Descriptor(descriptor)
    }
}

/// Where a connection came in: at an internet address, or at a UNIX socket's path.
fn accepted_at(connection: BorrowedFd<'_>) -> Option<SocketAddrAny> {
    let local = getsockname(connection).ok()?;
    match local.address_family() {
        AddressFamily::UNIX => {
            // Only one end of a connection has the listener's name, and the listener itself is no connection.
            let named = SocketAddrUnix::try_from(local.clone()).ok()?.path().is_some();
            let listens = sockopt::socket_acceptconn(connection).unwrap_or(true);
            (named && !listens).then_some(local)
        }
        _ => getpeername(connection).ok().flatten().map(|_| local),
    }
}

/// The clock of everything that is written down: monotonic, the same for all processes since the machine's start.
pub(super) fn clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

impl Driver {
    /// Closes something, once no snapshot names it any more.
    pub(super) fn close(&mut self, what: impl Into<Closing>) {
        let what = what.into();
        if self.keeping.is_some() {
            self.closing.push(what);
        }
    }

    /// Writes the settings down, when they have changed.
    pub(super) fn record_settings(&mut self) {
        let Some(keeping) = &mut self.keeping else { return };
        let now = SettingsNow {
            spec: &self.spec,
            mark: &self.mark,
            base: self.base,
            generations: &self.generations,
        };
        let written = postcard::to_stdvec(&now)
            .map_err(io::Error::other)
            .and_then(|blob| keeping.ledger.settings(&blob));
        self.told(written);
    }

    /// Writes the state down, if it has changed. To be called before anything is written to a worker, and before this
    /// thread waits.
    pub(super) fn record(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let Some(keeping) = &mut self.keeping else { return };
        let probes = self
            .probes
            .iter()
            .map(|(token, probe)| (*token, *probe))
            .collect();
        let holdings = self
            .holdings
            .iter()
            .map(|(worker, holding)| (*worker, holding.postponed()))
            .collect();
        let doubt = |(_, what): &(Time, Later)| match what {
            Later::Doubt(worker, token) => Some((*worker, *token)),
            Later::Write(_) | Later::Reap(_) | Later::Hold(_) | Later::Bury(_) => None,
        };
        let doubts = self.later.iter().filter_map(doubt).collect();
        let now = Now {
            format: FORMAT,
            app: &self.app,
            workers: &self.workers,
            passed: &self.passed,
            listeners: &self.listeners,
            descriptors: &self.descriptors,
            births: &self.births,
            doomed: &self.doomed,
            probes,
            holdings,
            doubts,
        };
        self.blob.clear();
        let blob = std::mem::take(&mut self.blob);
        let written = match postcard::to_extend(&now, blob) {
            Ok(blob) => {
                let written = keeping.ledger.snapshot(&blob);
                self.blob = blob;
                written
            }
            Err(error) => Err(io::Error::other(error)),
        };
        self.told(written);
        self.closing.clear();
    }

    /// Says once that nothing can be written down.
    fn told(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => self.unrecorded = false,
            Err(_) if self.unrecorded => {}
            Err(error) => {
                self.unrecorded = true;
                let what = format!("write the engine's state down, so that it can be taken over: {error}");
                self.reporter.error(None, what);
            }
        }
    }

    /// Goes on where a dead engine stopped.
    pub(super) fn inherit(&mut self, left: Heirloom, strays: &[(u32, String)]) {
        let Heirloom {
            settings,
            left,
            records,
            reserved,
            ..
        } = left;
        (self.mark, self.base, self.generations) = (settings.mark, settings.base, settings.generations);
        self.now = Time(clock().saturating_sub(self.base));
        self.app = left.app;
        self.workers = left.workers;
        self.passed = left.passed;
        self.listeners = left.listeners;
        self.descriptors = left.descriptors;
        self.births = left.births;
        self.doomed = left.doomed;
        self.probes = left.probes.into_iter().collect();
        self.prober = Self::prober(&self.mark, self.reporter.commander());
        self.dirty = true;
        self.record_settings();
        self.end_strays(strays);
        self.know_workers();
        self.watch_all();
        self.replay(&records, reserved);
        for (worker, token) in left.doubts {
            self.later.push((self.now + DOUBT, Later::Doubt(worker, token)));
        }
        self.lost_probes();
        for (worker, postponed) in left.holdings {
            self.not_held_any_more(worker, postponed);
        }
        self.talkative = self.workers.keys().copied().collect();
    }

    /// Processes that were started, and that the last snapshot does not know: nobody has heard from them yet.
    fn end_strays(&self, strays: &[(u32, String)]) {
        let prefix = format!("{}.", self.mark);
        let known = self.pids();
        for (pid, mark) in strays {
            if mark.starts_with(&prefix)
                && !known.contains(pid)
                && self.workers.values().all(|io| io.process.mark() != mark)
            {
                crate::process::end_stray(*pid, mark);
            }
        }
    }

    fn know_workers(&mut self) {
        for status in self.app.status(self.now).workers {
            let roster = self.reporter.roster();
            roster.born(status.id, status.slot, status.generation);
            if let Some(io) = self.workers.get(&status.id) {
                roster.started(status.id, io.process.pid);
                if let Some(meter) = &self.meter {
                    meter.watch(status.id, io.process.pid);
                }
            }
        }
    }

    fn watch_all(&mut self) {
        let mut trouble = Vec::new();
        for (&worker, io) in &mut self.workers {
            let mut watched = self.poller.watch(io.process.descriptor(), Key::Exit(worker));
            if let Some(channel) = &mut io.channel {
                channel.waits_for_room = false;
                watched = watched.and(self.poller.watch(channel.descriptor(), Key::Channel(worker)));
            }
            if let Some(notify) = &io.notify {
                watched = watched.and(self.poller.watch(notify.descriptor(), Key::Notify(worker)));
            }
            trouble.extend(watched.err());
        }
        for (&endpoint, listener) in &mut self.listeners {
            let key = Key::Listener(endpoint);
            if listener.ours {
                listener.ready = true;
                trouble.extend(self.poller.watch_arrivals(&listener.socket.descriptor, key).err());
            }
            if let Some(group) = &mut listener.group {
                group.news();
                for socket in group.rescued() {
                    trouble.extend(self.poller.watch_arrivals(socket, key).err());
                }
            }
        }
        for error in trouble {
            self.reporter
                .error(None, format!("watch what was taken over: {error}"));
        }
    }

    fn replay(&mut self, records: &[Vec<u8>], reserved: Option<(Vec<u8>, Vec<u8>)>) {
        let torn = reserved.map(|(mut head, bytes)| {
            head.extend_from_slice(&bytes);
            head
        });
        let torn = torn.filter(|record| record.len() > HEAD);
        let records: Vec<Record<'_>> = records
            .iter()
            .chain(&torn)
            .filter_map(|bytes| Record::parse(bytes))
            .collect();
        let mut writing: BTreeMap<WorkerId, (usize, Option<Token>)> = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            match record {
                Record::Read { worker, bytes } => {
                    let came = match records.get(at + 1) {
                        Some(Record::Came {
                            worker: same,
                            numbers,
                        }) if same == worker => numbers.as_slice(),
                        _ => &[],
                    };
                    self.heard_before(*worker, bytes, came);
                }
                Record::Came { .. } => {}
                Record::Writing {
                    worker,
                    length,
                    token,
                } => {
                    writing.insert(*worker, (*length, *token));
                }
                Record::Wrote { worker, written } => {
                    writing.remove(worker);
                    self.noted(*worker, *written);
                }
            }
        }
        for (worker, (length, token)) in writing {
            if let Some(token) = token {
                self.noted(worker, length);
                let io = self.workers.get_mut(&worker);
                if let Some(channel) = io.and_then(|io| io.channel.as_mut()) {
                    channel.session.doubt(token);
                }
                self.later.push((self.now + DOUBT, Later::Doubt(worker, token)));
            }
        }
    }

    fn noted(&mut self, worker: WorkerId, written: usize) {
        let channel = self.workers.get_mut(&worker).and_then(|io| io.channel.as_mut());
        if let Some(channel) = channel.filter(|_| written > 0) {
            channel.session.wrote(written);
        }
    }

    /// What the dead engine read, and nobody knows whether it was done.
    fn heard_before(&mut self, worker: WorkerId, bytes: &[u8], came: &[RawFd]) {
        let mut events: Vec<Event> = Vec::new();
        let Some(channel) = self.workers.get_mut(&worker).and_then(|io| io.channel.as_mut()) else {
            return;
        };
        let heard = channel.inherit(bytes, came, &mut events);
        for event in events {
            self.said(worker, event);
        }
        if let Err(error) = heard {
            let what = error.to_string();
            self.feed(Input::Garbled { worker, what });
            self.close_channel(worker);
        }
    }

    /// Probes that nobody will answer any more.
    fn lost_probes(&mut self) {
        let under_way: Vec<(WorkerId, ProbeId)> = self.app.probes_under_way();
        for (worker, probe) in under_way {
            let found = Probed::Unknown("the daemon was replaced meanwhile".into());
            self.feed(Input::Probed { worker, probe, found });
        }
    }

    /// Whether a worker got a descriptor that its predecessor may have sent or not: one that sleeps has read all that it
    /// was sent, and who has read it has answered, or has the connection.
    pub(super) fn doubt(&mut self, worker: WorkerId, token: Token) {
        let Some(io) = self.workers.get_mut(&worker) else {
            return;
        };
        let Some(channel) = io
            .channel
            .as_mut()
            .filter(|channel| channel.session.awaits(token))
        else {
            return;
        };
        let sent = self.descriptors.connections.get(&token);
        let has = sent.is_none_or(|connection| io.process.has(connection));
        if has || !io.process.asleep() {
            return self.later.push((self.now + DOUBT, Later::Doubt(worker, token)));
        }
        let mut events = Vec::new();
        channel.session.never_sent(token, &mut events);
        for event in events {
            self.said(worker, event);
        }
        self.talkative.push(worker);
    }

    /// A connection that the dead engine had accepted, and not yet said so; or a copy of one that a worker has.
    pub(super) fn take_in(&mut self, connection: OwnedFd) {
        if self.workers.values().any(|io| io.process.has(&connection)) {
            return;
        }
        let Some(local) = accepted_at(connection.as_fd()) else {
            return;
        };
        if let Ok(local) = SocketAddr::try_from(local.clone()) {
            self.moved(connection, local);
            return;
        }
        let here =
            |listener: &&Listener| getsockname(&listener.socket.descriptor).is_ok_and(|name| name == local);
        let found = self
            .listeners
            .iter()
            .find(|(_, listener)| listener.ours && here(listener));
        let Some(endpoint) = found.map(|(endpoint, _)| *endpoint) else {
            return;
        };
        let token = self.descriptors.token();
        self.descriptors.connections.insert(token, connection);
        self.feed(Input::Connection {
            endpoint,
            connection: token,
            client: None,
        });
    }

    fn not_held_any_more(&mut self, worker: WorkerId, postponed: Vec<Postponed>) {
        for what in postponed {
            self.act(what.of(worker));
        }
        let why = "the daemon was replaced meanwhile";
        self.drained(worker, super::drain::unknown(why.into()));
    }
}

/// The kind, and the worker.
const HEAD: usize = 5;

/// The head of what a worker said.
pub(crate) fn read_head(worker: WorkerId) -> [u8; HEAD] {
    head(READ, worker)
}

fn head(kind: u8, worker: WorkerId) -> [u8; HEAD] {
    let mut head = [kind, 0, 0, 0, 0];
    head[1..].copy_from_slice(&worker.0.to_le_bytes());
    head
}

/// Descriptors came.
pub(crate) fn came<'a>(worker: WorkerId, descriptors: impl Iterator<Item = &'a OwnedFd>) -> Vec<u8> {
    let mut record = head(CAME, worker).to_vec();
    for descriptor in descriptors {
        record.extend(descriptor.as_raw_fd().to_le_bytes());
    }
    record
}

/// A write begins.
pub(crate) fn writing(worker: WorkerId, length: usize, token: Option<Token>) -> [u8; HEAD + 12] {
    let mut record = [0; HEAD + 12];
    record[..HEAD].copy_from_slice(&head(WRITING, worker));
    record[HEAD..HEAD + 4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    record[HEAD + 4..].copy_from_slice(&token.map_or(0, |token| token.0).to_le_bytes());
    record
}

/// It is done.
pub(crate) fn wrote(worker: WorkerId, written: usize) -> [u8; HEAD + 4] {
    let mut record = [0; HEAD + 4];
    record[..HEAD].copy_from_slice(&head(WROTE, worker));
    record[HEAD..].copy_from_slice(&u32::try_from(written).unwrap_or(u32::MAX).to_le_bytes());
    record
}

#[derive(Debug, PartialEq, Eq)]
enum Record<'a> {
    Read {
        worker: WorkerId,
        bytes: &'a [u8],
    },
    Came {
        worker: WorkerId,
        numbers: Vec<RawFd>,
    },
    Writing {
        worker: WorkerId,
        length: usize,
        token: Option<Token>,
    },
    Wrote {
        worker: WorkerId,
        written: usize,
    },
}

impl<'a> Record<'a> {
    fn parse(record: &'a [u8]) -> Option<Self> {
        let (head, rest) = record.split_at_checked(HEAD)?;
        let worker = WorkerId(u32::from_le_bytes(head[1..].try_into().ok()?));
        let number = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        Some(match head[0] {
            READ => Self::Read { worker, bytes: rest },
            CAME => {
                let numbers = rest
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|bytes| RawFd::from_le_bytes(*bytes));
                Self::Came {
                    worker,
                    numbers: numbers.collect(),
                }
            }
            WRITING => {
                let token = u64::from_le_bytes(rest.get(4..12)?.try_into().ok()?);
                Self::Writing {
                    worker,
                    length: usize::try_from(number(0)?).ok()?,
                    token: (token > 0).then_some(Token(token)),
                }
            }
            WROTE => Self::Wrote {
                worker,
                written: usize::try_from(number(0)?).ok()?,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let worker = WorkerId(7);
        let mut said = read_head(worker).to_vec();
        said.extend(b"{}\n");
        assert_eq!(
            Record::parse(&said),
            Some(Record::Read {
                worker,
                bytes: b"{}\n"
            })
        );
        let begun = writing(worker, 300, Some(Token(9)));
        let parsed = Record::parse(&begun);
        assert_eq!(
            parsed,
            Some(Record::Writing {
                worker,
                length: 300,
                token: Some(Token(9))
            })
        );
        let plain = writing(worker, 300, None);
        assert_eq!(
            Record::parse(&plain),
            Some(Record::Writing {
                worker,
                length: 300,
                token: None
            })
        );
        assert_eq!(
            Record::parse(&wrote(worker, 12)),
            Some(Record::Wrote { worker, written: 12 })
        );
        assert_eq!(Record::parse(&begun[..6]), None);
        assert_eq!(Record::parse(b"x"), None);
    }
}
