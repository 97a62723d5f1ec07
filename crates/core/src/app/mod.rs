//! One cluster: its workers, its endpoints, its connections. The only entry point of the driver.
//!
//! Job: from each [`Input`] decide the [`Action`]s. Owner: the driver of the `everup` crate, which feeds inputs one
//! at a time, performs the actions in order, and calls [`App::handle`] with [`Input::Tick`] no later than
//! [`App::next_deadline`].
//!
//! ```text
//! Running ──stop──▶ Stopping ──last worker gone──▶ Ended
//!    └── every slot's budget spent, nobody alive ──▶ Ended (failed)
//! ```
//!
//! The rest of the machine is in `lives` (workers and the cluster begin and end) and `talk` (what workers say).
//!
//! Invariants: at most one living worker per slot; a worker leaves the rotation before it is asked to end; every
//! worker forked is reported as exited exactly once; nothing is decided after `Ended`.

mod lives;
mod messages;
mod notice;
mod slots;
mod talk;

pub use messages::{Action, Input};
pub use notice::{Address, Notice, Outcome};

use crate::dispatch::{Dispatcher, Placement};
use crate::endpoint::{Bound, Effect, Endpoints};
use crate::exit::ExitStatus;
use crate::id::{EndpointId, Token, WorkerId};
use crate::restart::RestartPolicy;
use crate::schedule::Policy;
use crate::time::Time;
use crate::wire::{Reply, SharedKind};
use crate::worker::{Ask, Step, Worker};
use slots::Slots;
use std::collections::BTreeMap;
use std::time::Duration;

/// What does not change while a cluster runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many workers are kept.
    pub workers: u32,
    /// Who gets the next connection.
    pub policy: Policy,
    /// Whether workers have a channel.
    pub channel: bool,
    /// Whether dead workers are replaced.
    pub restart: RestartPolicy,
    /// How a worker is asked to stop.
    pub ask: Ask,
    /// From the asking to SIGKILL.
    pub kill_timeout: Duration,
    /// How long a worker may take until it listens.
    pub listen_timeout: Option<Duration>,
}

/// How far the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Stopping,
    Ended,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct App {
    config: Config,
    phase: Phase,
    next_worker: u32,
    workers: BTreeMap<WorkerId, Worker>,
    slots: Slots,
    endpoints: Endpoints,
    dispatcher: Dispatcher,
    retries: Vec<Retry>,
    all_ready: bool,
    killed: u32,
    last_status: Option<ExitStatus>,
    // Kept to spare an allocation per input.
    steps: Vec<Step>,
    effects: Vec<Effect>,
    placements: Vec<Placement>,
}

/// A shared socket that did not reach its worker, to be sent once more.
#[derive(Debug)]
struct Retry {
    worker: WorkerId,
    seq: u64,
    reply: Reply,
    /// `None` while the answer is awaited.
    at: Option<Time>,
}

/// A shared socket that a worker had no descriptor for is sent again after this.
const RESEND: Duration = Duration::from_millis(250);

impl App {
    /// A cluster that has not started.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            phase: Phase::Running,
            next_worker: 1,
            workers: BTreeMap::new(),
            slots: Slots::new(config.workers),
            endpoints: Endpoints::new(config.policy),
            dispatcher: Dispatcher::new(config.policy),
            retries: Vec::new(),
            all_ready: false,
            killed: 0,
            last_status: None,
            steps: Vec::new(),
            effects: Vec::new(),
            placements: Vec::new(),
            config,
        }
    }

    /// An operator forks one more worker, in the lowest free slot. `None` when the cluster is ending.
    pub fn fork(&mut self, now: Time, out: &mut Vec<Action>) -> Option<WorkerId> {
        (self.phase == Phase::Running).then(|| {
            let slot = self.slots.add();
            self.spawn(now, slot, out)
        })
    }

    /// Feeds one input; what is to be done is appended to `out`, in order.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Action>) {
        if self.phase == Phase::Ended {
            return release_only(input, out);
        }
        match input {
            Input::Start => self.start(now, out),
            Input::Tick => self.tick(now, out),
            Input::Spawned { worker, pid } => self.spawned(worker, pid, out),
            Input::SpawnFailed { worker, why } => self.spawn_failed(now, worker, why, out),
            Input::Said { worker, event } => self.said(now, worker, event, out),
            Input::Heard { worker } => self.heard(worker, out),
            Input::Garbled { worker, what } => self.garbled(now, worker, what, out),
            Input::ChannelClosed { worker } => self.channel_closed(now, worker, out),
            Input::Exited { worker, status } => self.exited(now, worker, status, out),
            Input::Bound { endpoint, result } => self.bound(now, endpoint, result, out),
            Input::Connection { endpoint, connection } => {
                self.dispatcher
                    .arrived(now, endpoint, connection, &mut self.placements);
                self.place(out);
            }
            Input::Looked {
                worker,
                connection,
                look,
            } => {
                self.dispatcher
                    .looked(now, worker, connection, look, &mut self.placements);
                self.place(out);
            }
            Input::AcceptFailed { endpoint, why } => {
                self.dispatcher.accept_failed(now, endpoint);
                let what = format!("accept a connection: {why}");
                out.push(Action::Notice(Notice::Error { worker: None, what }));
            }
            Input::Disconnect { worker } => self.disconnect(now, worker, out),
            Input::Cut { worker } => out.push(Action::Cut { worker }),
            Input::Stop => self.stop(now, out),
            Input::StopNow => self.stop_now(now, out),
        }
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        if self.phase == Phase::Ended {
            return None;
        }
        let workers = self.workers.values().filter_map(Worker::next_deadline).min();
        let retries = self.retries.iter().filter_map(|retry| retry.at).min();
        let all = [
            workers,
            retries,
            self.slots.next_deadline(),
            self.endpoints.next_deadline(),
            self.dispatcher.next_deadline(now),
        ];
        all.into_iter().flatten().min()
    }

    /// How many connections may be accepted from an endpoint now.
    #[must_use]
    pub fn demand(&self, now: Time, endpoint: EndpointId) -> usize {
        self.dispatcher.demand(now, endpoint)
    }

    /// A worker, until it has exited.
    pub fn worker(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(&worker)
    }

    /// The workers that have not exited, by id, with the connections each has taken.
    pub fn workers(&self) -> impl Iterator<Item = (&Worker, u64)> {
        self.workers
            .values()
            .map(|worker| (worker, self.dispatcher.accepted(worker.id)))
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        let ids: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|w| w.next_deadline().is_some_and(|at| at <= now))
            .map(|w| w.id)
            .collect();
        for id in ids {
            self.with_worker(now, id, out, |worker, steps| worker.tick(now, steps));
        }
        for slot in self.slots.due(now) {
            self.spawn(now, slot, out);
        }
        self.endpoints.tick(now, &mut self.effects);
        self.effect(now, out);
        self.dispatcher.tick(now, &mut self.placements);
        self.place(out);
        self.resend(now, out);
    }

    fn bound(&mut self, now: Time, id: EndpointId, result: Result<Bound, i32>, out: &mut Vec<Action>) {
        if let Ok(bound) = &result {
            self.dispatcher.open(id, bound.kind == SharedKind::Tcp);
        }
        self.endpoints.bound(id, result, &mut self.effects);
        self.effect(now, out);
    }

    fn effect(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Bind { endpoint, request } => out.push(Action::Bind { endpoint, request }),
                Effect::Reply { worker, seq, reply } => self.reply(worker, seq, reply, out),
                Effect::Join { worker, endpoint } => {
                    self.dispatcher.join(now, endpoint, worker, &mut self.placements);
                }
                Effect::Leave { worker, endpoint } => self.dispatcher.leave(endpoint, worker),
                Effect::Unbind { endpoint } => {
                    self.dispatcher.close(endpoint, &mut self.placements);
                    out.push(Action::Unbind { endpoint });
                }
                Effect::Failed {
                    worker,
                    address,
                    errno,
                } => {
                    out.push(Action::Notice(Notice::BindFailed {
                        worker,
                        address,
                        errno: -errno,
                    }));
                }
            }
        }
        self.effects = effects;
        self.place(out);
    }

    fn place(&mut self, out: &mut Vec<Action>) {
        out.extend(self.placements.drain(..).map(Action::Place));
    }
}

impl Retry {
    fn is_about(&self, token: Token) -> bool {
        matches!(&self.reply, Reply::Shared { descriptor, .. } if *descriptor == token)
    }
}

/// After the end only connections that still come in matter: they are closed.
fn release_only(input: Input, out: &mut Vec<Action>) {
    if let Input::Connection { connection, .. } = input {
        out.push(Action::Place(Placement::Release { connection }));
    }
}
