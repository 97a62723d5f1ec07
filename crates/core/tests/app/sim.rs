//! A simulated driver: processes that boot, listen, answer and die by a script, in virtual time.

use everup_core::app::{Accepted, Action, App, Config, Input, Notice, Outcome, Role, WorkerStatus};
use everup_core::cause::Cause;
use everup_core::dispatch::{Look, Placement};
use everup_core::endpoint::{BindRequest, Bound};
use everup_core::exit::ExitStatus;
use everup_core::id::{EndpointId, Slot, Token, WorkerId};
use everup_core::reload::{Drained, Receipt, Rollout};
use everup_core::time::Time;
use everup_core::wire::{AddressType, Event, Listening, Query, Reply, SharedKind};
use everup_core::worker::State;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub(crate) fn config(workers: u32) -> Config {
    Config {
        workers,
        kill_timeout: Duration::from_secs(5),
        ..Config::default()
    }
}

/// A process as the simulation knows it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) slot: Slot,
    pub(crate) channel: bool,
    /// Ignores everything but SIGKILL.
    pub(crate) stubborn: bool,
    pub(crate) in_flight: VecDeque<Token>,
    pub(crate) said: Vec<&'static str>,
}

impl Process {
    /// Whether it was told to go.
    pub(crate) fn leaving(&self) -> bool {
        let told = |what: &&str| matches!(*what, "hold" | "disconnect" | "SIGTERM" | "SIGKILL" | "signal");
        self.said.iter().any(told)
    }
}

#[derive(Debug)]
pub(crate) struct Sim {
    pub(crate) app: App,
    pub(crate) now: Time,
    pub(crate) alive: BTreeMap<WorkerId, Process>,
    pub(crate) sockets: BTreeMap<EndpointId, Token>,
    /// The sockets of slots, where each has its own.
    pub(crate) slot_sockets: BTreeMap<(EndpointId, Slot), Token>,
    /// The slots whose sockets get new connections, as told last.
    pub(crate) steered: BTreeSet<Slot>,
    /// The sockets that workers got.
    pub(crate) given: BTreeMap<WorkerId, Token>,
    pub(crate) held: BTreeSet<Token>,
    pub(crate) served: BTreeSet<Token>,
    pub(crate) reset: BTreeSet<Token>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) ports_taken: bool,
    /// Whether no further socket can be bound to an address.
    pub(crate) slots_taken: bool,
    pub(crate) next_connection: u64,
    /// Whether connections that are looked at are untouched.
    pub(crate) untouched: bool,
    /// Whether what becomes of connections is not told by itself.
    pub(crate) uncounted: bool,
    /// Probes that were asked for.
    pub(crate) probes: Vec<(WorkerId, everup_core::health::ProbeId)>,
    queue: VecDeque<Input>,
}

impl Sim {
    pub(crate) fn new(config: Config) -> Self {
        let mut sim = Self::unstarted(config);
        sim.feed(Input::Start);
        sim
    }

    fn unstarted(config: Config) -> Self {
        Self {
            app: App::new(config),
            now: Time::ZERO,
            alive: BTreeMap::new(),
            sockets: BTreeMap::new(),
            slot_sockets: BTreeMap::new(),
            steered: BTreeSet::new(),
            given: BTreeMap::new(),
            held: BTreeSet::new(),
            served: BTreeSet::new(),
            reset: BTreeSet::new(),
            notices: Vec::new(),
            outcome: None,
            ports_taken: false,
            slots_taken: false,
            next_connection: 1_000_000,
            untouched: false,
            uncounted: false,
            probes: Vec::new(),
            queue: VecDeque::new(),
        }
    }

    /// As an operator does.
    pub(crate) fn reload(&mut self, rollout: Option<Rollout>) -> Accepted {
        let mut actions = Vec::new();
        let accepted = self.app.reload(self.now, Cause::Reload, rollout, &mut actions);
        for action in actions {
            self.act(action);
        }
        self.drain();
        accepted
    }

    /// The receipts so far.
    pub(crate) fn receipts(&self) -> Vec<&Receipt> {
        let mut found: Vec<&Receipt> = Vec::new();
        for notice in &self.notices {
            if let Notice::Reloaded(receipt) = notice {
                found.push(receipt);
            }
        }
        found
    }

    /// The workers that take connections, by id.
    pub(crate) fn serving(&self) -> Vec<WorkerId> {
        let status = self.app.status(self.now);
        let serves =
            |w: &&WorkerStatus| w.state == State::Online && matches!(w.role, Role::Active | Role::Incoming);
        status.workers.iter().filter(serves).map(|w| w.id).collect()
    }

    /// Boots everybody who has not, and lets those who were told to go, go, again and again for a while.
    pub(crate) fn settle(&mut self, how_long: Duration) {
        let end = self.now + how_long;
        while self.now < end && self.outcome.is_none() {
            for worker in self.ids() {
                let fresh = self.alive.get(&worker).is_some_and(|p| p.said.is_empty());
                if fresh {
                    self.boot(worker);
                } else if self.alive.get(&worker).is_some_and(Process::leaving) {
                    self.die(worker, ExitStatus::Code(0));
                }
            }
            self.wait(Duration::from_millis(50));
        }
    }

    pub(crate) fn feed(&mut self, input: Input) {
        self.queue.push_back(input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(input) = self.queue.pop_front() {
            if let Input::Said {
                event:
                    Event::Answer {
                        connection,
                        accepted: true,
                    },
                ..
            } = &input
            {
                assert!(self.served.insert(*connection), "accepted twice");
            }
            let mut actions = Vec::new();
            self.app.handle(self.now, input, &mut actions);
            for action in actions {
                self.act(action);
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm per action")]
    fn act(&mut self, action: Action) {
        assert!(
            self.outcome.is_none() || matches!(action, Action::Place(Placement::Release { .. })),
            "after the end: {action:?}"
        );
        match action {
            Action::Spawn { worker, slot, .. } => {
                let status = self.app.status(self.now);
                let here = |roles: &[Role]| {
                    let workers = status.workers.iter();
                    workers
                        .filter(|w| w.slot == slot && roles.contains(&w.role))
                        .count()
                };
                let crowd = [here(&[Role::Active, Role::Spare]), here(&[Role::Incoming])];
                assert!(crowd.iter().all(|n| *n <= 1), "{crowd:?} in {slot:?}");
                let process = Process {
                    slot,
                    channel: true,
                    stubborn: false,
                    in_flight: VecDeque::new(),
                    said: Vec::new(),
                };
                self.alive.insert(worker, process);
                self.queue.push_back(Input::Spawned {
                    worker,
                    pid: worker.0 + 100,
                });
            }
            Action::Bind { endpoint, request } => self.bind(endpoint, &request),
            Action::BindSlot { endpoint, slot } => self.bind_slot(endpoint, slot),
            Action::Steer { endpoint, active } => {
                let unknown = |slot: &&Slot| !self.slot_sockets.contains_key(&(endpoint, **slot));
                assert_eq!(active.iter().find(unknown), None);
                let empty = |slot: &&Slot| self.alive.values().all(|process| process.slot != **slot);
                assert_eq!(active.iter().find(empty), None, "nobody is there to accept");
                self.steered = active;
            }
            Action::Unbind { endpoint } => {
                self.slot_sockets.retain(|(of, _), _| *of != endpoint);
                assert!(self.sockets.remove(&endpoint).is_some());
            }
            Action::Place(Placement::HandOver {
                worker,
                connection,
                endpoint,
            }) => self.hand_over(worker, connection, endpoint),
            Action::Place(Placement::Release { connection }) => {
                assert!(self.held.remove(&connection), "{connection:?} released twice");
                if !self.served.contains(&connection) {
                    self.reset.insert(connection);
                }
            }
            Action::Place(Placement::Look { worker, connection }) => {
                let untouched = self.untouched;
                if untouched && !self.alive.contains_key(&worker) {
                    assert!(self.served.remove(&connection), "it was accepted");
                }
                let look = Look {
                    untouched,
                    asleep: false,
                };
                self.queue.push_back(Input::Looked {
                    worker,
                    connection,
                    look,
                });
            }
            Action::Reply { worker, reply, .. } => {
                let said = match reply {
                    Reply::Failed { errno, .. } => {
                        assert!(errno < 0);
                        "failed"
                    }
                    Reply::HandOver { .. } => "hand-over",
                    Reply::Shared { descriptor, .. } => {
                        self.given.insert(worker, descriptor);
                        "shared"
                    }
                };
                self.hear(worker, said);
            }
            Action::Disconnect { worker } => self.hear(worker, "disconnect"),
            Action::Shutdown { worker } => self.hear(worker, "shutdown"),
            Action::Signal { worker, signal: 15 } => self.hear(worker, "SIGTERM"),
            Action::Signal { worker, .. } => self.hear(worker, "signal"),
            Action::Kill { worker } => self.hear(worker, "SIGKILL"),
            Action::Cut { worker } => {
                if let Some(process) = self.alive.get_mut(&worker) {
                    process.channel = false;
                    process.in_flight.clear();
                }
                self.queue.push_back(Input::ChannelClosed { worker });
            }
            Action::Probe { worker, probe, .. } => self.probes.push((worker, probe)),
            Action::Hold { worker } => {
                self.hear(worker, "hold");
                if !self.uncounted {
                    let drained = Drained::default();
                    self.queue.push_back(Input::Drained { worker, drained });
                }
            }
            Action::Notice(notice) => self.notices.push(notice),
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    fn bind(&mut self, endpoint: EndpointId, request: &BindRequest) {
        let kind = if request.address_type == AddressType::Unix {
            SharedKind::Pipe
        } else {
            SharedKind::Tcp
        };
        let token = Token(u64::from(endpoint.0));
        let result = match self.ports_taken {
            true => Err(98),
            false => Ok(Bound {
                descriptor: token,
                kind,
                sockname: None,
            }),
        };
        if result.is_ok() {
            self.sockets.insert(endpoint, token);
        }
        self.queue.push_back(Input::Bound { endpoint, result });
    }

    fn bind_slot(&mut self, endpoint: EndpointId, slot: Slot) {
        let token = Token(1000 + u64::from(slot.0));
        let result = if self.slots_taken { Err(98) } else { Ok(token) };
        if result.is_ok() {
            assert_eq!(
                self.slot_sockets.insert((endpoint, slot), token),
                None,
                "bound twice"
            );
        }
        self.queue.push_back(Input::SlotBound {
            endpoint,
            slot,
            result,
        });
    }

    fn hand_over(&mut self, worker: WorkerId, connection: Token, endpoint: EndpointId) {
        assert!(
            self.held.contains(&connection),
            "{connection:?} is not ours to give"
        );
        assert!(self.sockets.contains_key(&endpoint));
        for process in self.alive.values() {
            assert!(!process.in_flight.contains(&connection), "given to two");
        }
        let process = self.alive.get_mut(&worker).expect("given to the dead");
        assert!(process.channel);
        process.in_flight.push_back(connection);
    }

    fn hear(&mut self, worker: WorkerId, what: &'static str) {
        self.alive
            .get_mut(&worker)
            .expect("told to the dead")
            .said
            .push(what);
    }

    /// Lets time pass, with every tick in its time.
    pub(crate) fn wait(&mut self, how_long: Duration) {
        let end = self.now + how_long;
        let mut same = 0;
        while let Some(due) = self.app.next_deadline(self.now).filter(|due| *due <= end) {
            same = if due <= self.now { same + 1 } else { 0 };
            assert!(same < 10, "spins at {:?}", self.now);
            self.now = due.max(self.now);
            self.feed(Input::Tick);
        }
        self.now = end;
    }

    pub(crate) fn say(&mut self, worker: WorkerId, event: Event) {
        if self.alive.get(&worker).is_some_and(|process| process.channel) {
            self.feed(Input::Said { worker, event });
        }
    }

    /// Boots, asks for the port and listens.
    pub(crate) fn boot(&mut self, worker: WorkerId) {
        self.say(worker, Event::Online);
        self.say(worker, Event::Query(query(1)));
        self.say(worker, Event::Listening(listening()));
    }

    pub(crate) fn boot_all(&mut self) {
        for worker in self.ids() {
            self.boot(worker);
        }
    }

    pub(crate) fn ids(&self) -> Vec<WorkerId> {
        self.alive.keys().copied().collect()
    }

    /// As the driver does: the channel's end first, then the process's.
    pub(crate) fn die(&mut self, worker: WorkerId, status: ExitStatus) {
        if let Some(process) = self.alive.remove(&worker) {
            if process.channel {
                self.feed(Input::ChannelClosed { worker });
            }
            self.feed(Input::Exited { worker, status });
        }
    }

    pub(crate) fn connect(&mut self, most: usize) {
        let Some((&endpoint, _)) = self.sockets.first_key_value() else {
            return;
        };
        for _ in 0..self.app.demand(self.now, endpoint).min(most) {
            let connection = Token(self.next_connection);
            self.next_connection += 1;
            self.held.insert(connection);
            self.feed(Input::Connection {
                endpoint,
                connection,
                client: None,
            });
        }
    }

    pub(crate) fn answer(&mut self, worker: WorkerId, accepted: bool) {
        let Some(connection) = self
            .alive
            .get_mut(&worker)
            .and_then(|process| process.in_flight.pop_front())
        else {
            return;
        };
        self.say(worker, Event::Answer { connection, accepted });
    }

    pub(crate) fn said(&self, worker: u32) -> &[&'static str] {
        self.alive
            .get(&WorkerId(worker))
            .map_or(&[], |process| &process.said)
    }

    pub(crate) fn count(&self, matches: impl Fn(&Notice) -> bool) -> usize {
        self.notices.iter().filter(|notice| matches(notice)).count()
    }
}

pub(crate) fn query(seq: u64) -> Query {
    Query {
        seq,
        index: 0,
        address: None,
        port: Some(3000),
        address_type: AddressType::Tcp4,
        fd: None,
        flags: 0,
        backlog: None,
        readable_all: false,
        writable_all: false,
        data: None,
    }
}

pub(crate) fn listening() -> Listening {
    Listening {
        address: None,
        port: Some(3000),
        address_type: AddressType::Tcp4,
        fd: None,
    }
}
