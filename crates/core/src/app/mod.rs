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
//! Invariants: at most one living worker per slot; a worker leaves the rotation before it is asked to end; every
//! worker forked is reported as exited exactly once; nothing is decided after `Ended`.

mod messages;
mod notice;
mod slots;

pub use messages::{Action, Input};
pub use notice::{Address, Notice, Outcome};

use crate::dispatch::{Dispatcher, Placement};
use crate::endpoint::{Bound, Effect, Endpoints};
use crate::exit::ExitStatus;
use crate::id::{EndpointId, Slot, Token, WorkerId};
use crate::restart::RestartPolicy;
use crate::schedule::Policy;
use crate::time::Time;
use crate::wire::{Event, Listening, Reply, SharedKind};
use crate::worker::{Ask, ExitReason, ReadyBasis, State, Step, Worker};
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
                untouched,
            } => {
                self.dispatcher
                    .looked(now, worker, connection, untouched, &mut self.placements);
                self.place(out);
            }
            Input::AcceptFailed { endpoint, why } => {
                self.dispatcher.accept_failed(now, endpoint);
                let what = format!("accept a connection: {why}");
                out.push(Action::Notice(Notice::Error { worker: None, what }));
            }
            Input::Disconnect { worker } => self.disconnect(worker, out),
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

    fn start(&mut self, now: Time, out: &mut Vec<Action>) {
        for slot in self.slots.all() {
            self.spawn(now, slot, out);
        }
    }

    fn spawn(&mut self, now: Time, slot: Slot, out: &mut Vec<Action>) -> WorkerId {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let worker = Worker::new(now, id, slot, self.config.channel, self.config.listen_timeout);
        self.workers.insert(id, worker);
        self.slots.filled(slot, id);
        out.push(Action::Spawn { worker: id, slot });
        id
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

    fn spawned(&mut self, worker: WorkerId, pid: u32, out: &mut Vec<Action>) {
        let Some(known) = self.workers.get_mut(&worker) else {
            return;
        };
        known.pid = pid;
        out.push(Action::Notice(Notice::Fork {
            worker,
            slot: known.slot,
            pid,
        }));
        if self.all_ready {
            self.all_ready = false;
        }
    }

    fn spawn_failed(&mut self, now: Time, worker: WorkerId, why: String, out: &mut Vec<Action>) {
        let Some(mut failed) = self.workers.remove(&worker) else {
            return;
        };
        failed.exit = Some(ExitStatus::Unknown);
        let what = format!("start worker {worker}: {why}");
        out.push(Action::Notice(Notice::Error {
            worker: Some(worker),
            what,
        }));
        self.replace(now, &failed, out);
    }

    fn said(&mut self, now: Time, worker: WorkerId, event: Event, out: &mut Vec<Action>) {
        match event {
            // The two that come once per connection first.
            Event::Answer { connection, accepted } => {
                self.dispatcher
                    .answered(now, worker, connection, accepted, &mut self.placements);
                self.place(out);
            }
            Event::Delivered(token) => self.delivered(worker, token),
            Event::Undelivered(token) => self.undelivered(now, worker, token, out),
            Event::Online => {
                if let Some(known) = self.workers.get_mut(&worker) {
                    known.booted(now);
                    out.push(Action::Notice(Notice::Online { worker }));
                }
            }
            Event::Query(query) => {
                let Some(known) = self.workers.get_mut(&worker) else {
                    return;
                };
                if known.in_service() {
                    known.asked();
                    self.endpoints.asked(worker, query, &mut self.effects);
                    self.effect(now, out);
                }
            }
            Event::Listening(listening) => self.listening(now, worker, listening, out),
            Event::Close { key } => {
                self.endpoints.closed(now, worker, &key, &mut self.effects);
                self.effect(now, out);
            }
            Event::Leaving => {
                self.endpoints.leaving(worker);
                self.dispatcher.retire(worker);
                self.with_worker(now, worker, out, |worker, _| worker.leaves());
            }
            Event::Message(message) => {
                if message.get() == "\"ready\"" {
                    self.with_worker(now, worker, out, |w, steps| w.ready(ReadyBasis::Message, steps));
                }
                out.push(Action::Notice(Notice::Message { worker, message }));
            }
            // The driver keeps those with descriptors to itself.
            other => drop(other),
        }
    }

    fn listening(&mut self, now: Time, worker: WorkerId, listening: Listening, out: &mut Vec<Action>) {
        let port = listening.port.unwrap_or(0);
        let name = self.endpoints.sockname(worker, listening.address_type, port);
        let address = Address::of(&listening, name);
        out.push(Action::Notice(Notice::Listening { worker, address }));
        self.with_worker(now, worker, out, |w, steps| w.ready(ReadyBasis::Listening, steps));
    }

    fn delivered(&mut self, worker: WorkerId, token: Token) {
        self.retries
            .retain(|retry| retry.worker != worker || !retry.is_about(token));
    }

    fn undelivered(&mut self, now: Time, worker: WorkerId, token: Token, out: &mut Vec<Action>) {
        match self
            .retries
            .iter_mut()
            .find(|retry| retry.worker == worker && retry.is_about(token))
        {
            Some(retry) => retry.at = Some(now + RESEND),
            None => {
                self.dispatcher
                    .undelivered(now, worker, token, &mut self.placements);
                self.place(out);
            }
        }
    }

    fn resend(&mut self, now: Time, out: &mut Vec<Action>) {
        for retry in &mut self.retries {
            if retry.at.take_if(|at| *at <= now).is_some() {
                let (worker, seq, reply) = (retry.worker, retry.seq, retry.reply.clone());
                out.push(Action::Reply { worker, seq, reply });
            }
        }
    }

    fn garbled(&mut self, now: Time, worker: WorkerId, what: String, out: &mut Vec<Action>) {
        out.push(Action::Notice(Notice::Error {
            worker: Some(worker),
            what,
        }));
        self.out_of_rotation(worker);
        self.with_worker(now, worker, out, |worker, steps| {
            worker.kill(now, ExitReason::Protocol, steps)
        });
    }

    fn channel_closed(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Action>) {
        let Some(known) = self.workers.get_mut(&worker).filter(|known| known.connected) else {
            return;
        };
        let restarts = matches!(self.config.restart, RestartPolicy::Always(_));
        known.channel_closed(now, restarts.then_some(self.config.kill_timeout));
        out.push(Action::Notice(Notice::Disconnect { worker }));
        self.out_of_rotation(worker);
        self.dispatcher.lost(now, worker, &mut self.placements);
        self.place(out);
    }

    fn exited(&mut self, now: Time, worker: WorkerId, status: ExitStatus, out: &mut Vec<Action>) {
        self.channel_closed(now, worker, out);
        let Some(mut dead) = self.workers.remove(&worker) else {
            return;
        };
        dead.exit = Some(status);
        self.last_status = Some(status);
        self.killed +=
            u32::from(dead.reason() == ExitReason::KillTimeout || dead.reason() == ExitReason::Killed);
        out.push(Action::Notice(Notice::Exit {
            worker,
            slot: dead.slot,
            pid: dead.pid,
            status,
            reason: dead.reason(),
            voluntary: dead.voluntary,
            uptime: now.since(dead.forked),
        }));
        self.replace(now, &dead, out);
    }

    /// What follows from the end of a worker.
    fn replace(&mut self, now: Time, dead: &Worker, out: &mut Vec<Action>) {
        let budget = match &self.config.restart {
            RestartPolicy::Always(budget) if self.phase == Phase::Running && !dead.retired() => {
                budget.clone()
            }
            RestartPolicy::Always(_) | RestartPolicy::Never => {
                self.slots.retire(dead.slot, dead.id);
                return self.end_if_over(out);
            }
        };
        let (delay, failures) = self.slots.died(now, dead.slot, dead.was_ready(), &budget);
        if self.workers.is_empty() && self.slots.all_spent(&budget) {
            return self.finish(
                Outcome::Failed {
                    status: self.last_status,
                },
                out,
            );
        }
        out.push(Action::Notice(Notice::Respawn {
            slot: dead.slot,
            delay,
            failures,
        }));
        if delay.is_zero() {
            self.spawn(now, dead.slot, out);
        } else {
            self.slots.respawn_at(dead.slot, now + delay);
        }
    }

    fn bound(&mut self, now: Time, id: EndpointId, result: Result<Bound, i32>, out: &mut Vec<Action>) {
        if let Ok(bound) = &result {
            self.dispatcher.open(id, bound.kind == SharedKind::Tcp);
        }
        self.endpoints.bound(id, result, &mut self.effects);
        self.effect(now, out);
    }

    fn disconnect(&mut self, worker: WorkerId, out: &mut Vec<Action>) {
        self.out_of_rotation(worker);
        self.with_worker(Time::ZERO, worker, out, |worker, steps| worker.disconnect(steps));
    }

    fn stop(&mut self, now: Time, out: &mut Vec<Action>) {
        self.begin_stop(out);
        self.dispatcher.flush(now, &mut self.placements);
        self.place(out);
        self.endpoints.unbind_all(&mut self.effects);
        self.effect(now, out);
        let (ask, limit) = (self.config.ask, self.config.kill_timeout);
        for id in self.ids() {
            self.out_of_rotation(id);
            self.with_worker(now, id, out, |worker, steps| worker.stop(now, ask, limit, steps));
        }
        self.end_if_over(out);
    }

    fn stop_now(&mut self, now: Time, out: &mut Vec<Action>) {
        self.begin_stop(out);
        for id in self.ids() {
            self.with_worker(now, id, out, |worker, steps| {
                worker.kill(now, ExitReason::Killed, steps)
            });
        }
        self.end_if_over(out);
    }

    fn begin_stop(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
            self.slots.cancel();
            out.push(Action::Notice(Notice::Stopping));
        }
    }

    fn end_if_over(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Stopping && self.workers.is_empty() {
            let outcome = match self.killed {
                0 => Outcome::Stopped,
                workers => Outcome::Killed { workers },
            };
            self.finish(outcome, out);
        }
    }

    fn finish(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        out.push(Action::Finish(outcome));
    }

    fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    fn out_of_rotation(&mut self, worker: WorkerId) {
        self.dispatcher.retire(worker);
        self.endpoints.gone(worker);
        self.retries.retain(|retry| retry.worker != worker);
    }

    /// Feeds a worker and turns its steps into actions.
    fn with_worker(
        &mut self,
        now: Time,
        id: WorkerId,
        out: &mut Vec<Action>,
        feed: impl FnOnce(&mut Worker, &mut Vec<Step>),
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let mut steps = std::mem::take(&mut self.steps);
        feed(worker, &mut steps);
        for step in steps.drain(..) {
            match step {
                Step::Disconnect => out.push(Action::Disconnect { worker: id }),
                Step::Shutdown => out.push(Action::Shutdown { worker: id }),
                Step::Signal(signal) => out.push(Action::Signal { worker: id, signal }),
                Step::Kill => out.push(Action::Kill { worker: id }),
                Step::Ready(basis) => self.became_ready(now, id, basis, out),
            }
        }
        self.steps = steps;
    }

    fn became_ready(&mut self, now: Time, id: WorkerId, basis: ReadyBasis, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        self.slots.became_ready(worker.slot);
        out.push(Action::Notice(Notice::Ready {
            worker: id,
            basis,
            after: now.since(worker.forked),
        }));
        let ready = self
            .workers
            .values()
            .filter(|worker| worker.state() == State::Online)
            .count();
        if !self.all_ready && ready == self.slots.count() && self.phase == Phase::Running {
            self.all_ready = true;
            let workers = u32::try_from(ready).unwrap_or(u32::MAX);
            out.push(Action::Notice(Notice::AllReady { workers }));
        }
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

    fn reply(&mut self, worker: WorkerId, seq: u64, reply: Reply, out: &mut Vec<Action>) {
        if matches!(reply, Reply::Shared { .. }) {
            self.retries.push(Retry {
                worker,
                seq,
                reply: reply.clone(),
                at: None,
            });
        }
        out.push(Action::Reply { worker, seq, reply });
    }

    fn place(&mut self, out: &mut Vec<Action>) {
        for placement in self.placements.drain(..) {
            out.push(match placement {
                Placement::HandOver {
                    worker,
                    connection,
                    endpoint,
                } => Action::HandOver {
                    worker,
                    connection,
                    endpoint,
                },
                Placement::Release { connection } => Action::Release { connection },
                Placement::Look { worker, connection } => Action::Look { worker, connection },
            });
        }
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
        out.push(Action::Release { connection });
    }
}
