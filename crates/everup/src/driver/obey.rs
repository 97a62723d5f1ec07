//! Doing what the owner says.
//!
//! Whoever waits for an answer gets it when the thing is done, or queued; nobody may be left who does.

use super::{Driver, SEND_HANDLES, SEND_QUEUE, config};
use crate::channel::Channel;
use crate::cluster::{Command, Fork, Reload, Replacement};
use crate::message::SendError;
use crate::roster::Life;
use crate::spec::{Output, Spec};
use everup_core::app::{Accepted, Input};
use everup_core::id::WorkerId;
use everup_core::wire::HandleKind;
use serde_json::value::RawValue;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

impl Driver {
    pub(super) fn obey(&mut self, command: Command) {
        self.bear();
        self.dirty = true;
        match command {
            Command::Fork(fork, answer) => self.fork(fork, &answer),
            // Nobody may wait for these answers any more.
            Command::Send(worker, message, answer) => {
                answer.send(self.send(worker, &message)).ok();
            }
            Command::SendOpaque(worker, payload, answer) => {
                answer.send(self.send_opaque(worker, &payload)).ok();
            }
            Command::SendHandle(worker, message, kind, descriptor, answer) => {
                let sent = self.send_handle(worker, &message, kind, descriptor);
                answer.send(sent).ok();
            }
            Command::Released(worker, key) => self.with_session(worker, |session| session.released(&key)),
            Command::Disconnect(worker) => self.feed(Input::Disconnect { worker }),
            Command::Input(worker, bytes, answer) => {
                answer.send(self.input(worker, &bytes)).ok();
            }
            Command::Replace(worker, cause) => self.feed(Input::Unhealthy { worker, cause }),
            Command::Cut(worker) => self.feed(Input::Cut { worker }),
            Command::Kill(worker, signal) => {
                self.feed(Input::Signalled { worker, signal });
                self.signal(worker, signal);
            }
            Command::Stop => self.leave(Input::Stop),
            Command::DisconnectAll => self.leave(Input::DisconnectAll),
            Command::StopNow => self.feed(Input::StopNow),
            Command::Reload(reload, new, answer) => self.reload(reload, new, &answer),
            Command::AbortReload => self.feed(Input::AbortReload),
            Command::Scale(workers) => self.feed(Input::Scale { workers }),
            Command::Launch => self.feed(Input::Launch),
            Command::TakeIn(connection) => self.take_in(connection),
            Command::Probed(worker, probe, found) => self.feed(Input::Probed { worker, probe, found }),
            Command::Measured(worker, bytes) => self.feed(Input::Measured { worker, bytes }),
            Command::Look(worker, answer) => {
                answer.send(self.app.look(self.now, worker)).ok();
            }
            Command::Status(answer) => {
                let mut status = self.app.status(self.now);
                for worker in &mut status.workers {
                    worker.connections = self.held_open(worker.id).or(worker.connections);
                }
                answer.send(status).ok();
            }
        }
    }

    fn fork(&mut self, fork: Fork, answer: &SyncSender<Option<Arc<Life>>>) {
        let mut actions = Vec::new();
        let worker = self.app.fork(self.now, &mut actions);
        if let Some(worker) = worker {
            self.overrides.insert(worker, fork);
        }
        for action in actions {
            self.act(action);
        }
        let life = worker.and_then(|worker| self.reporter.roster().find(worker));
        // Who has the answer finds a process.
        self.bear();
        answer.send(life).ok();
        self.feed(Input::Tick);
    }

    /// No worker is wanted any more. Who has come by now is still served.
    fn leave(&mut self, input: Input) {
        self.immovable();
        for endpoint in self.listeners.keys().copied().collect::<Vec<_>>() {
            self.accept_the_last(endpoint);
        }
        self.feed(input);
    }

    fn reload(&mut self, reload: Reload, new: Option<Box<Replacement>>, answer: &SyncSender<Accepted>) {
        let mut actions = Vec::new();
        let new = new.map(|new| *new);
        let version = new.map(|(spec, version)| {
            self.reconfigure(spec);
            version
        });
        let accepted = self
            .app
            .reload(self.now, reload.cause, reload.rollout, &mut actions);
        if let Accepted::Begun { generation } | Accepted::Queued { generation } = accepted {
            // Nobody of an earlier one than that which is meant to run will be started again.
            let running = self.app.generation();
            self.generations.retain(|known, _| *known >= running);
            // A queued one may be replaced by a later request, and those before it did not say anything else.
            let same = || {
                self.generations
                    .get(&generation)
                    .or(self.generations.get(&running))
                    .cloned()
            };
            if let Some(mut version) = version.or_else(same) {
                if let Some(env) = reload.env {
                    version.env = env;
                }
                self.generations.insert(generation, version);
            }
            self.record_settings();
        }
        // The owner may not wait for the answer.
        answer.send(accepted).ok();
        for action in actions {
            self.act(action);
        }
        self.feed(Input::Tick);
    }

    /// Takes over what may be changed while workers run. What all generations share stays.
    fn reconfigure(&mut self, new: Spec) {
        self.app.configure(config(&new));
        if let (Some(limit), None) = (new.memory_limit, &self.meter) {
            match super::meter(limit, self.reporter.commander()) {
                Ok(meter) => self.meter = Some(meter),
                Err(error) => self.reporter.error(None, format!("measure memory: {error}")),
            }
            for (worker, io) in &self.workers {
                self.meter
                    .iter()
                    .for_each(|meter| meter.watch(*worker, io.process.pid));
            }
        }
        let old = std::mem::replace(&mut self.spec, new);
        self.spec.env = Vec::new();
        self.spec.policy = old.policy;
        self.spec.channel = old.channel;
        self.spec.listen = old.listen;
        self.spec.descriptors = old.descriptors;
        self.spec.inherit = old.inherit;
        self.spec.workers = old.workers;
        self.spec.spares = old.spares;
        self.spec.job = old.job;
        self.spec.init = old.init;
        self.spec.ends_when_done = old.ends_when_done;
        if !matches!(self.spec.output, Output::Open(_)) {
            self.spec.output = old.output;
        }
    }

    fn send(&mut self, worker: WorkerId, message: &RawValue) -> Result<(), SendError> {
        self.room(worker, message.get().len())?;
        self.with_session(worker, |session| session.send(message));
        Ok(())
    }

    fn send_opaque(&mut self, worker: WorkerId, payload: &[u8]) -> Result<(), SendError> {
        let channel = self.room(worker, payload.len())?;
        let sent = channel.session.send_opaque(payload);
        self.talkative.push(worker);
        match sent {
            true => Ok(()),
            false => Err(SendError::WrongFormat),
        }
    }

    fn send_handle(
        &mut self,
        worker: WorkerId,
        message: &RawValue,
        kind: HandleKind,
        descriptor: OwnedFd,
    ) -> Result<(), SendError> {
        let queued = self.room(worker, message.get().len())?.session.undelivered();
        if queued >= SEND_HANDLES {
            let limit = SEND_HANDLES;
            return Err(SendError::QueueFull { queued, limit });
        }
        let token = self.descriptors.token();
        self.descriptors.handles.insert(token, (worker, descriptor));
        self.with_session(worker, |session| session.send_handle(message, kind, token));
        Ok(())
    }

    /// The channel of a worker, if a message of this size may still be queued for it.
    fn room(&mut self, worker: WorkerId, size: usize) -> Result<&mut Channel, SendError> {
        let io = self.workers.get_mut(&worker);
        let channel = io
            .and_then(|io| io.channel.as_mut())
            .filter(|channel| !channel.closing);
        let channel = channel.ok_or(SendError::Gone)?;
        let queued = channel.session.backlog();
        if queued.saturating_add(size) > SEND_QUEUE {
            let limit = SEND_QUEUE;
            return Err(SendError::QueueFull { queued, limit });
        }
        Ok(channel)
    }
}
