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
//! The rest of the machine is in `lives` (workers and the cluster begin and end), `talk` (what workers say),
//! `replace` (one worker takes another one's place), `roll` (reloads) and `scale` (how many there are).
//!
//! Invariants: a slot has at most one worker and at most one successor, and every other living worker is on its way
//! out; a worker leaves the rotation before it is asked to end; every worker forked is reported as exited exactly
//! once; nothing is decided after `Ended`.

mod health;
mod lives;
mod messages;
mod notice;
mod replace;
mod roll;
mod scale;
mod slots;
mod status;
mod talk;

pub use messages::{Action, Input};
pub use notice::{Address, Notice, Outcome};
pub use roll::Accepted;
pub use status::{ReloadStatus, Role, Status, WorkerStatus};

use crate::dispatch::{Dispatcher, Placement};
use crate::endpoint::{Bound, Effect, Endpoints};
use crate::exit::ExitStatus;
use crate::health::{Checks, ProbeId};
use crate::id::{EndpointId, Slot, Token, WorkerId};
use crate::jitter::Jitter;
use crate::reload::{Reload, Rollout};
use crate::restart::RestartPolicy;
use crate::schedule::Policy;
use crate::schedule::sticky::Client;
use crate::steer::Steering;
use crate::storm::Storm;
use crate::time::Time;
use crate::wire::{Reply, SharedKind};
use crate::worker::{Ask, Readiness, Step, Worker};
use roll::Queued;
use slots::Slots;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What does not change while a cluster runs.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// How many workers are kept.
    pub workers: u32,
    /// Who gets the next connection.
    pub policy: Policy,
    /// Whether workers have a channel.
    pub channel: bool,
    /// Whether that carries messages only: what is of a cluster, its workers do not say.
    pub ipc: bool,
    /// Whether dead workers are replaced.
    pub restart: RestartPolicy,
    /// How a worker is asked to stop.
    pub ask: Ask,
    /// How it is asked when nobody takes its place: the cluster stops, or is restarted. `None`: in the same way.
    pub ask_at_stop: Option<Ask>,
    /// From the asking to SIGKILL.
    pub kill_timeout: Duration,
    /// How long a worker may take until it is ready.
    pub ready_limit: Option<Duration>,
    /// What makes a worker ready.
    pub readiness: Readiness,
    /// How many workers more are kept ready, out of the rotation.
    pub spares: u32,
    /// How long a worker that is replaced may go on with its connections until it gets a signal.
    pub drain_timeout: Duration,
    /// How many generations before the current one may still be draining; older ones are hurried.
    pub max_draining: u32,
    /// How reloads go.
    pub rollout: Rollout,
    /// How long a worker may take to acknowledge a connection.
    pub stuck_timeout: Option<Duration>,
    /// How old a worker may become.
    pub max_age: Option<Duration>,
    /// How ready workers are probed.
    pub checks: Option<Checks>,
    /// How long a probe for readiness may take.
    pub ready_probe_timeout: Duration,
    /// A worker has to ping at least this often.
    pub watchdog: Option<Duration>,
    /// How much memory a worker and its descendants may use, in bytes.
    pub memory_limit: Option<u64>,
    /// Whether nothing is started until [`Input::Launch`], and nothing that ended is started again.
    pub job: bool,
    /// Whether the cluster ends when no worker is left and none will be started.
    pub ends_when_done: bool,
    /// For what is to be spread in time.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 1,
            policy: Policy::default(),
            channel: true,
            ipc: false,
            restart: RestartPolicy::default(),
            ask: Ask::Disconnect,
            ask_at_stop: None,
            kill_timeout: Duration::from_secs(5),
            ready_limit: None,
            readiness: Readiness::default(),
            spares: 0,
            drain_timeout: Duration::from_secs(30),
            max_draining: 2,
            rollout: Rollout::default(),
            stuck_timeout: None,
            max_age: None,
            checks: None,
            ready_probe_timeout: Duration::from_secs(2),
            watchdog: None,
            memory_limit: None,
            job: false,
            ends_when_done: false,
            seed: 0,
        }
    }
}

/// How far the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Phase {
    Running,
    Stopping,
    Ended,
}

/// See the module's documentation.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct App {
    config: Config,
    phase: Phase,
    next_worker: u32,
    workers: BTreeMap<WorkerId, Worker>,
    slots: Slots,
    endpoints: Endpoints,
    dispatcher: Dispatcher,
    steering: Steering,
    /// Endpoints that workers have asked for which are not in the rotation yet.
    waiting: BTreeMap<WorkerId, BTreeSet<EndpointId>>,
    retries: Vec<Retry>,
    /// How many active workers there are to be.
    target: u32,
    /// The generation that is meant to run.
    generation: u32,
    next_generation: u32,
    reload: Option<Reload>,
    queued: Option<Queued>,
    storm: Storm,
    jitter: Jitter,
    /// Some worker of this app has shown its readiness by more than its uptime.
    speaks: bool,
    /// Something happened after which a replacement may begin.
    restless: bool,
    all_ready: bool,
    killed: u32,
    /// Workers that ended for good with something else than success.
    failures: u32,
    last_status: Option<ExitStatus>,
    // Kept to spare an allocation per input.
    #[serde(skip)]
    steps: Vec<Step>,
    #[serde(skip)]
    effects: Vec<Effect>,
    #[serde(skip)]
    placements: Vec<Placement>,
}

/// A shared socket that did not reach its worker, to be sent once more.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
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
            slots: Slots::new(if config.workers > 0 {
                config.workers.saturating_add(config.spares)
            } else {
                0
            }),
            waiting: BTreeMap::new(),
            target: config.workers,
            generation: 1,
            next_generation: 2,
            reload: None,
            queued: None,
            storm: Storm::default(),
            jitter: Jitter::new(config.seed),
            speaks: false,
            restless: false,
            failures: 0,
            endpoints: Endpoints::new(config.policy),
            dispatcher: Dispatcher::new(config.policy),
            steering: Steering::default(),
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
            self.target = self.target.saturating_add(1);
            self.spawn(now, slot, out)
        })
    }

    /// Other settings from now on. What cannot change while workers run stays: how many there are, the policy, the channel,
    /// the spares, whether it is a job.
    pub fn configure(&mut self, new: Config) {
        let old = &self.config;
        self.config = Config {
            workers: old.workers,
            policy: old.policy,
            channel: old.channel,
            ipc: old.ipc,
            spares: old.spares,
            job: old.job,
            ends_when_done: old.ends_when_done,
            seed: old.seed,
            ..new
        };
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
            Input::SlotBound {
                endpoint,
                slot,
                result,
            } => {
                self.endpoints
                    .slot_bound(endpoint, slot, result, &mut self.effects);
                self.effect(now, out);
            }
            Input::Connection {
                endpoint,
                connection,
                client,
            } => {
                let client = client.map(Client::from);
                self.dispatcher
                    .arrived(now, endpoint, connection, client, &mut self.placements);
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
            Input::Signalled { worker, signal } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.signalled = Some(signal);
                }
            }
            Input::Cut { worker } => out.push(Action::Cut { worker }),
            Input::Unhealthy { worker, cause } => {
                self.unhealthy(now, worker, cause, &cause.to_string(), out);
            }
            Input::Probed { worker, probe, found } => self.probed(now, worker, probe, found, out),
            Input::ProbeTaken { worker } => self.dispatcher.probe_taken(worker),
            Input::Notified { worker, said } => self.notified(now, worker, said, out),
            Input::Measured { worker, bytes } => self.measured(now, worker, bytes),
            Input::Drained { worker, drained } => self.counted(worker, drained),
            Input::Scale { workers } => self.scale(now, workers, out),
            Input::AbortReload => self.call_off(now, out),
            Input::Launch => self.launch(now, out),
            Input::Stop => self.stop(now, out),
            Input::DisconnectAll => self.disconnect_all(now, out),
            Input::StopNow => self.stop_now(now, out),
        }
        if std::mem::take(&mut self.restless) && self.phase == Phase::Running {
            self.advance(now, out);
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
            self.supervision_deadline(),
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

    /// An endpoint that a worker listens on, for a probe.
    #[must_use]
    pub fn endpoint_of(&self, worker: WorkerId) -> Option<EndpointId> {
        self.endpoints.held_by(worker)
    }

    /// The generation that is meant to run: in a reload the one before, until all are replaced.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether nobody serves an endpoint, and nobody is on the way who might.
    #[must_use]
    pub fn deserted(&self, endpoint: EndpointId) -> bool {
        !self.takes(endpoint) && self.all_are_ready()
    }

    /// Whether anybody takes what is handed over at an endpoint.
    #[must_use]
    pub fn takes(&self, endpoint: EndpointId) -> bool {
        self.dispatcher.has_takers(endpoint)
    }

    /// Whether nobody will ever take what waits in the queue of a slot's socket: the slot is gone with its workers, and
    /// those who serve the endpoint accept from their own sockets only.
    #[must_use]
    pub fn forsaken(&self, endpoint: EndpointId, slot: Slot) -> bool {
        let gone = self.slots.get(slot).is_none() && self.workers.values().all(|worker| worker.slot != slot);
        // While nobody serves at all, clients wait where they are.
        let served = self.dispatcher.members(endpoint).next().is_some();
        gone && served && self.deserted(endpoint)
    }

    /// Whether a worker takes nothing that is handed over, because it accepts by itself.
    #[must_use]
    pub fn is_direct(&self, worker: WorkerId) -> bool {
        self.dispatcher.is_direct(worker)
    }

    /// Whether a worker stops to accept from its own sockets when it is told ([`Session::quiet`](crate::wire::Session::quiet)).
    #[must_use]
    pub fn obeys(&self, worker: WorkerId) -> bool {
        self.dispatcher.obeys(worker)
    }

    /// How many connections a worker was given that it has not answered yet.
    #[must_use]
    pub fn unanswered(&self, worker: WorkerId) -> usize {
        self.dispatcher.unanswered(worker)
    }

    /// Probes that were asked for and not answered.
    #[must_use]
    pub fn probes_under_way(&self) -> Vec<(WorkerId, ProbeId)> {
        let probing = |worker: &Worker| Some((worker.id, worker.health.as_ref()?.under_way()?));
        self.workers.values().filter_map(probing).collect()
    }

    /// A worker, until it has exited.
    pub fn worker(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(&worker)
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
            // It may have been up for long enough.
            self.begin_checks(now, id, out);
        }
        for slot in self.slots.due(now) {
            self.spawn(now, slot, out);
        }
        self.supervise(now, out);
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
                Effect::BindSlot { endpoint, slot } => {
                    self.steering.open(endpoint);
                    out.push(Action::BindSlot { endpoint, slot });
                }
                Effect::Reply { worker, seq, reply } => self.reply(worker, seq, reply, out),
                Effect::Join { worker, endpoint } => self.join(now, worker, endpoint),
                Effect::Leave { worker, endpoint } => {
                    if let Some(waiting) = self.waiting.get_mut(&worker) {
                        waiting.remove(&endpoint);
                    }
                    self.dispatcher.leave(endpoint, worker);
                }
                Effect::Unbind { endpoint } => {
                    self.steering.close(endpoint);
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
        self.steer(out);
    }

    /// Tells which slots' sockets are served, where each has its own, if that has changed.
    fn steer(&mut self, out: &mut Vec<Action>) {
        let (workers, dispatcher) = (&self.workers, &self.dispatcher);
        let slot = |id| workers.get(&id).map(|worker| worker.slot);
        let served = |endpoint| dispatcher.members(endpoint).filter_map(slot).collect();
        let changes = self.steering.look(served);
        out.extend(changes.map(|(endpoint, active)| Action::Steer { endpoint, active }));
    }

    /// A worker serves an endpoint, if it is in the rotation; else as soon as it is.
    fn join(&mut self, now: Time, worker: WorkerId, endpoint: EndpointId) {
        let serving = self.workers.get(&worker).filter(|worker| worker.in_rotation());
        if let Some(slot) = serving.map(|worker| worker.slot) {
            self.dispatcher
                .join(now, endpoint, worker, slot, &mut self.placements);
        } else {
            self.waiting.entry(worker).or_default().insert(endpoint);
        }
    }

    /// A worker enters the rotation with every endpoint that it has asked for.
    fn enter_rotation(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Action>) {
        for endpoint in self.waiting.remove(&worker).unwrap_or_default() {
            self.join(now, worker, endpoint);
        }
        self.place(out);
        self.steer(out);
    }

    fn place(&mut self, out: &mut Vec<Action>) {
        out.extend(self.placements.drain(..).map(Action::Place));
    }
}

impl Retry {
    fn is_about(&self, token: Token) -> bool {
        matches!(&self.reply, Reply::Shared { descriptor, .. } if *descriptor == token)
    }

    fn is_for(&self, closed: &str) -> bool {
        matches!(&self.reply, Reply::Shared { key, .. } if key == closed)
    }
}

/// After the end only connections that still come in matter: they are closed.
fn release_only(input: Input, out: &mut Vec<Action>) {
    if let Input::Connection { connection, .. } = input {
        out.push(Action::Place(Placement::Release { connection }));
    }
}
