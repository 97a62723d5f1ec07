//! The engine's loop: it waits for the kernel, feeds [`App`], and does what that decides.
//!
//! Job: be the only owner of a cluster's descriptors and processes. Runs in one thread until the cluster has
//! ended. Decides nothing: every choice is [`App`]'s, and what is here is how it is done.
//!
//! Invariants: nothing in this thread waits but the poller; a channel is read to its end before its worker is
//! reported as gone; a connection's descriptor is kept until a worker has said `accepted`.
//!
//! - [`act`]: doing the actions.
//! - [`burial`]: what a worker leaves behind.
//! - [`group`]: the sockets of an endpoint, where each slot has its own.
//! - [`process`](crate::process) and [`workers`]: starting workers, their channels, their ends.
//! - [`obey`]: doing what the owner says.
//! - [`report`]: telling the owner.

mod act;
mod burial;
mod drain;
mod group;
mod health;
mod input;
pub(crate) mod keep;
mod obey;
mod report;
mod secrets;
mod version;
mod workers;

pub(crate) use report::{Reporter, Told, reporter};

use crate::bind::{self, BoundSocket};
use crate::cluster::{Command, Commander, Fork};
use crate::confine::Confiner;
use crate::estate::{Heirloom, Keeping};
use crate::event::Outcome;
use crate::meter::Meter;
use crate::oom;
use crate::output::{Relay, clear};
use crate::poller::{Key, Poller, Ready};
use crate::probe::Prober;
use crate::process::{self, Process};
use crate::spec::{Channel as Dialect, Spec};
use burial::Burial;
use drain::Holding;
use everup_core::app::{Action, App, Config, Input};
use everup_core::health::ProbeId;
use everup_core::id::{EndpointId, Slot, Token, WorkerId};
use everup_core::time::Time;
use everup_core::wire;
use group::Group;
use rustix::io::Errno;
use rustix::net::SocketAddrAny;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::time::Duration;
pub(crate) use version::Version;
use workers::WorkerIo;

/// Bytes that may be queued for a worker that does not read its channel.
const SEND_QUEUE: usize = 256 * 1024 * 1024;
/// Handles that may be under way to one worker.
const SEND_HANDLES: usize = 1024;
/// When something is tried again that no readiness is reported for.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// How many connections are accepted before other news is looked at.
const ACCEPT_BATCH: usize = 32;
/// How many connections are taken out of a listener's queue when the cluster stops: more than any sensible
/// backlog.
const LAST_SWEEP: usize = 65_536;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Driver {
    spec: Spec,
    app: App,
    /// The monotonic clock when it began: all times count from here.
    base: Duration,
    now: Time,
    poller: Poller,
    /// Tells the descendants of this cluster's workers from those of any other's.
    mark: String,
    commands: Receiver<Command>,
    wake: OwnedFd,
    children: Option<OwnedFd>,
    reporter: Reporter,
    relay: Option<Relay>,
    /// Bound for the operator, passed by `LISTEN_FDS`.
    passed: Vec<BoundSocket>,
    workers: BTreeMap<WorkerId, WorkerIo>,
    /// Workers that are gone, while something that they started is not.
    burials: BTreeMap<WorkerId, Burial>,
    overrides: BTreeMap<WorkerId, Fork>,
    /// What each generation runs that may still be started.
    generations: BTreeMap<u32, Version>,
    /// Workers to be started once everything that is more urgent is done.
    births: Vec<(WorkerId, Slot, u32)>,
    /// Connections handed over as probes: to whom, which, and whether the worker's answer is all that is wanted.
    probes: HashMap<Token, (WorkerId, ProbeId, bool)>,
    prober: Prober,
    /// Workers that leave, and whose connections are watched.
    holdings: BTreeMap<WorkerId, Holding>,
    /// No trouble with notifications is told before.
    trouble_until: Time,
    meter: Option<Meter>,
    oom: oom::Counter,
    listeners: BTreeMap<EndpointId, Listener>,
    descriptors: Descriptors,
    followups: VecDeque<Input>,
    /// Whether [`Driver::feed`] is at work: what comes in meanwhile waits its turn.
    feeding: bool,
    actions: Vec<Action>,
    /// What is tried again, and when.
    later: Vec<(Time, Later)>,
    /// Workers to be killed with their trees, all in one go.
    doomed: Vec<WorkerId>,
    /// Workers whose channel may have something to write.
    talkative: Vec<WorkerId>,
    buffer: Vec<u8>,
    events: Vec<wire::Event>,
    outcome: Option<Outcome>,
    /// Where the state is written down for a successor.
    keeping: Option<Keeping>,
    /// Something has changed since.
    dirty: bool,
    /// It could not be written down, and that was told.
    unrecorded: bool,
    closing: Vec<keep::Closing>,
    blob: Vec<u8>,
}

/// What the machine has to know of the spec.
fn config(spec: &Spec) -> Config {
    Config {
        workers: spec.workers,
        policy: spec.policy,
        channel: spec.channel != Dialect::None,
        ipc: matches!(spec.channel, Dialect::Ipc(_)),
        restart: spec.restart.clone(),
        ask: spec.stop.ask,
        ask_at_stop: spec.stop.at_stop,
        kill_timeout: spec.stop.kill_timeout,
        drain_timeout: spec.stop.drain_timeout,
        max_draining: spec.stop.max_draining,
        ready_limit: spec.listen_timeout,
        readiness: crate::health::readiness(&spec.ready),
        checks: spec.health.as_ref().map(crate::health::HealthSpec::checks),
        watchdog: spec.watchdog,
        spares: spec.spares,
        rollout: spec.rollout,
        stuck_timeout: spec.stuck_timeout,
        max_age: spec.max_age,
        memory_limit: spec.memory_limit,
        job: spec.job,
        ends_when_done: spec.ends_when_done,
        seed: RandomState::new().hash_one(std::process::id()),
        ..Config::default()
    }
}

/// Something that could not be done, and that nobody will tell us the time for.
#[derive(Debug, Clone, Copy)]
enum Later {
    Write(WorkerId),
    Reap(WorkerId),
    /// The worker may have answered its hand-overs, and its connections can be copied.
    Hold(WorkerId),
    Bury(WorkerId),
    /// It may have got this handle, or not.
    Doubt(WorkerId, Token),
}

/// A socket that workers asked for.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Listener {
    socket: BoundSocket,
    token: Token,
    /// Whether we accept from it; otherwise the workers do.
    ours: bool,
    /// Whether it is somebody else's, too: a descriptor that we were given.
    foreign: bool,
    /// Whether connections may wait in its queue.
    ready: bool,
    /// What it is called on the wire.
    key: String,
    /// Where each slot has its own socket: those. `socket` only holds the address then.
    group: Option<Group>,
}

impl Listener {
    /// A socket that is to be accepted from, and whether connections may still wait there.
    fn source(&mut self) -> Option<(&OwnedFd, &mut bool)> {
        match &mut self.group {
            Some(group) => group.source(),
            None if self.ours && self.ready => Some((&self.socket.descriptor, &mut self.ready)),
            None => None,
        }
    }

    fn news(&mut self) {
        match &mut self.group {
            Some(group) => group.news(),
            None => self.ready = true,
        }
    }
}

/// Descriptors that are being sent, or may have to be sent again, by token.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Descriptors {
    next: u64,
    /// Connections, until a worker has taken them.
    #[serde(with = "crate::estate::number::by_token")]
    connections: HashMap<Token, OwnedFd>,
    /// Handles of the user's, until they are delivered.
    #[serde(with = "crate::estate::number::by_token_for")]
    handles: HashMap<Token, (WorkerId, OwnedFd)>,
}

impl Descriptors {
    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }
}

fn meter(limit: u64, commander: Commander) -> io::Result<Meter> {
    Meter::start(limit, move |worker, bytes| {
        commander.send(Command::Measured(worker, bytes));
    })
}

impl Driver {
    /// # Errors
    /// When the system refuses epoll or the like.
    #[expect(clippy::too_many_arguments, reason = "each is made by somebody else")]
    pub(crate) fn new(
        mut spec: Spec,
        confiner: Confiner,
        passed: Vec<BoundSocket>,
        relay: Option<Relay>,
        commands: Receiver<Command>,
        wake: OwnedFd,
        reporter: Reporter,
        keeping: Option<Keeping>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.watch(&wake, Key::Command)?;
        let children = if spec.init {
            Some(crate::sys::signals::child_events()?)
        } else {
            None
        };
        if let Some(children) = &children {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
            poller.watch(children, Key::Child)?;
        }
        let config = config(&spec);
        let mark = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        let meter = spec.memory_limit.map(|limit| meter(limit, reporter.commander()));
        let first = Version::of(&spec, confiner);
        // It has them, and they may be many.
        spec.env = Vec::new();
        Ok(Self {
            spec,
            app: App::new(config),
            generations: BTreeMap::from([(1, first)]),
            births: Vec::new(),
            probes: HashMap::new(),
            holdings: BTreeMap::new(),
            prober: Self::prober(&mark, reporter.commander()),
            trouble_until: Time::ZERO,
            meter: meter.transpose()?,
            oom: oom::Counter::new(),
            base: keep::clock(),
            now: Time::ZERO,
            poller,
            mark,
            commands,
            wake,
            children,
            reporter,
            relay,
            passed,
            workers: BTreeMap::new(),
            burials: BTreeMap::new(),
            overrides: BTreeMap::new(),
            listeners: BTreeMap::new(),
            descriptors: Descriptors::default(),
            followups: VecDeque::new(),
            feeding: false,
            actions: Vec::new(),
            later: Vec::new(),
            doomed: Vec::new(),
            talkative: Vec::new(),
            buffer: Vec::new(),
            events: Vec::new(),
            outcome: None,
            keeping,
            dirty: true,
            unrecorded: false,
            closing: Vec::new(),
            blob: Vec::new(),
        })
    }

    /// Runs until the cluster has ended.
    pub(crate) fn run(mut self) -> Outcome {
        for (asked, socket) in self.spec.listen.iter().zip(&self.passed) {
            self.reporter
                .bound(asked.name.clone(), bind::address(asked, socket));
        }
        self.record_settings();
        self.feed(Input::Start);
        self.serve()
    }

    /// Goes on where a dead engine stopped, until the cluster has ended. `strays`: processes with the mark of a worker,
    /// of any cluster.
    pub(crate) fn run_on(mut self, left: Heirloom, strays: &[(u32, String)]) -> Outcome {
        self.inherit(left, strays);
        self.feed(Input::Tick);
        self.serve()
    }

    fn serve(mut self) -> Outcome {
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            let more = self.accept();
            self.write();
            self.kill_doomed();
            let more = self.give_birth() || more;
            if let Some(outcome) = self.outcome {
                self.end(outcome);
                return outcome;
            }
            let due = self.due();
            self.record();
            if !more {
                // There may be a thousand engines at rest in one process.
                self.buffer = Vec::new();
            }
            let limit = if more {
                Some(Duration::ZERO)
            } else {
                due.map(|at| at - self.now)
            };
            if let Err(error) = self.poller.wait(limit, &mut ready) {
                // Without the poller nothing can be known any more; workers end with this thread.
                self.reporter.error(None, format!("wait for events: {error}"));
                self.reporter.roster().close();
                return Outcome::Killed {
                    workers: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
                };
            }
            self.now = Time(keep::clock().saturating_sub(self.base));
            for news in ready.drain(..) {
                self.news(news);
            }
            self.bear();
            if due.is_some_and(|at| at <= self.now) {
                self.try_again();
                self.bear();
                self.feed(Input::Tick);
            }
        }
    }

    fn due(&self) -> Option<Time> {
        let later = self.later.iter().map(|(at, _)| *at).min();
        later.into_iter().chain(self.app.next_deadline(self.now)).min()
    }

    fn later(&mut self, what: Later) {
        self.later.push((self.now + TRY_AGAIN, what));
    }

    fn try_again(&mut self) {
        let now = self.now;
        for (_, what) in self
            .later
            .extract_if(.., |(at, _)| *at <= now)
            .collect::<Vec<_>>()
        {
            match what {
                Later::Write(worker) => self.talkative.push(worker),
                Later::Reap(worker) => self.exited(worker),
                Later::Hold(worker) => self.take_copies(worker),
                Later::Bury(worker) => self.look_at_burial(worker),
                Later::Doubt(worker, token) => self.doubt(worker, token),
            }
        }
    }

    /// Nothing else may happen between the decision to start a worker and its start: what is decided for it meanwhile
    /// would reach nobody.
    fn bear(&mut self) {
        while !self.births.is_empty() {
            self.write();
            self.give_birth();
        }
    }

    /// After everything is written: a fork takes longer than a hand-over.
    /// True if anybody was started: what follows from it is to be looked at.
    fn give_birth(&mut self) -> bool {
        if !self.births.is_empty() {
            // Who comes after us must know of them before they are there.
            self.record();
        }
        let births = std::mem::take(&mut self.births);
        let any = !births.is_empty();
        for (worker, slot, generation) in births {
            self.spawn(worker, slot, generation);
        }
        if any {
            self.record();
        }
        any
    }

    fn kill_doomed(&mut self) {
        let doomed = std::mem::take(&mut self.doomed);
        let processes: Vec<&Process> = doomed
            .iter()
            .filter_map(|worker| self.workers.get(worker))
            .map(|io| &io.process)
            .collect();
        if processes.is_empty() {
            return;
        }
        let victims = process::kill_trees(&processes);
        for worker in doomed {
            if let Some(io) = self.workers.get_mut(&worker) {
                io.victims.extend(victims.iter().cloned());
            }
        }
    }

    fn news(&mut self, news: Ready) {
        self.bear();
        match news.key {
            Key::Channel(worker) => self.channel_news(worker, news),
            Key::Listener(endpoint) => {
                if let Some(listener) = self.listeners.get_mut(&endpoint) {
                    listener.news();
                }
            }
            Key::Exit(worker) => self.exited(worker),
            Key::Notify(worker) => self.notified(worker),
            Key::Command => self.command(),
            Key::Child => {
                if let Some(children) = &self.children {
                    crate::sys::signals::clear_child_events(children);
                }
                self.reap_orphans();
            }
        }
    }

    /// Feeds the machine and does what it says, until it has nothing more to say.
    fn feed(&mut self, input: Input) {
        self.dirty = true;
        self.followups.push_back(input);
        if std::mem::replace(&mut self.feeding, true) {
            return;
        }
        while let Some(input) = self.followups.pop_front() {
            let mut actions = std::mem::take(&mut self.actions);
            self.app.handle(self.now, input, &mut actions);
            for action in actions.drain(..) {
                self.act(action);
            }
            self.actions = actions;
        }
        self.feeding = false;
    }

    /// Accepts as many connections as can be handed over. True if some may be left that could be, too.
    fn accept(&mut self) -> bool {
        let waiting: Vec<EndpointId> = self
            .listeners
            .iter_mut()
            .filter_map(|(&id, listener)| listener.source().map(|_| id))
            .collect();
        let mut more = false;
        for endpoint in waiting {
            let demand = self.app.demand(self.now, endpoint).min(ACCEPT_BATCH);
            self.accept_from(endpoint, demand);
            more |= self.turn_away(endpoint);
            let ready = self
                .listeners
                .get_mut(&endpoint)
                .is_some_and(|listener| listener.source().is_some());
            more |= ready && self.app.demand(self.now, endpoint) > 0;
        }
        more
    }

    /// The cluster stops: nobody new is let in, and everybody who is in is taken out, before the socket is closed.
    /// Whoever would come in between would be turned away by the closing.
    fn accept_the_last(&mut self, endpoint: EndpointId) {
        self.admit_no_more_to_group(endpoint);
        let Some(listener) = self.listeners.get(&endpoint) else {
            return;
        };
        if listener.ours && listener.socket.kind == wire::SharedKind::Tcp && !listener.foreign {
            // If that is not possible, the gap is a few microseconds.
            crate::sys::tcp::admit_no_more(&listener.socket.descriptor).ok();
        }
        self.accept_from(endpoint, LAST_SWEEP);
    }

    fn accept_from(&mut self, endpoint: EndpointId, most: usize) {
        for _ in 0..most {
            let source = self.listeners.get_mut(&endpoint).and_then(Listener::source);
            let Some((socket, ready)) = source else {
                return;
            };
            let flags = rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(socket, flags) {
                Ok((accepted, client)) => {
                    let connection = self.descriptors.token();
                    self.descriptors.connections.insert(connection, accepted);
                    let client = client.and_then(address);
                    self.feed(Input::Connection {
                        endpoint,
                        connection,
                        client,
                    });
                }
                Err(Errno::AGAIN) => *ready = false,
                // These are about one connection that is gone already (`man 2 accept`).
                Err(
                    Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::NETDOWN | Errno::HOSTUNREACH,
                ) => {}
                Err(error) => {
                    let why = error.to_string();
                    return self.feed(Input::AcceptFailed { endpoint, why });
                }
            }
        }
    }

    /// Writes what the channels have to say.
    fn write(&mut self) {
        if !self.talkative.is_empty() {
            self.record();
        }
        while let Some(worker) = self.talkative.pop() {
            self.write_to(worker);
        }
    }

    fn command(&mut self) {
        clear(&self.wake);
        self.news_of_holdings();
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(std::sync::mpsc::TryRecvError::Empty) => return,
                // Nobody can command us any more: the owner dropped the cluster.
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return self.feed(Input::StopNow),
            }
        }
    }

    /// Everything is released before the end is told, except that the workers' last lines may wait for their
    /// sink.
    fn end(mut self, outcome: Outcome) {
        self.listeners.clear();
        self.passed.clear();
        drop(self.prober);
        // Who asks from now on hears at once that there is no engine: a sink that asks would wait for itself.
        drop(self.commands);
        if self.spec.init {
            process::kill_children();
        }
        self.reporter.stopped(outcome);
        if let Some(relay) = self.relay.take() {
            relay.finish();
        }
    }

    /// The descriptor of a token, whatever it names.
    fn find<'a>(
        descriptors: &'a Descriptors,
        listeners: &'a BTreeMap<EndpointId, Listener>,
        token: Token,
    ) -> Option<BorrowedFd<'a>> {
        let handle = || descriptors.handles.get(&token).map(|(_, descriptor)| descriptor);
        let sent = descriptors.connections.get(&token).or_else(handle);
        let shared = |listener: &'a Listener| match &listener.group {
            Some(group) => group.find(token),
            None => (listener.token == token).then_some(&listener.socket.descriptor),
        };
        sent.or_else(|| listeners.values().find_map(shared))
            .map(AsFd::as_fd)
    }
}

/// A client's address, if it is an internet one.
fn address(client: SocketAddrAny) -> Option<IpAddr> {
    Some(SocketAddr::try_from(client).ok()?.ip())
}
