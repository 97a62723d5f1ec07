//! What workers say on their channels, and what follows.

use super::{Action, Address, App, Notice, RESEND, Retry};
use crate::id::{Token, WorkerId};
use crate::time::Time;
use crate::wire::{Event, Listening, Reply};
use crate::worker::ReadyBasis;

impl App {
    pub(super) fn heard(&mut self, worker: WorkerId, out: &mut Vec<Action>) {
        self.dispatcher.heard(worker, &mut self.placements);
        self.place(out);
    }

    pub(super) fn said(&mut self, now: Time, worker: WorkerId, event: Event, out: &mut Vec<Action>) {
        // A worker that counts has many threads: what one of them says tells nothing of the last connection.
        if !matches!(event, Event::Answer { .. } | Event::Closed { .. }) {
            self.heard(worker, out);
        }
        match event {
            Event::Answer { connection, accepted } => {
                self.dispatcher
                    .answered(now, worker, connection, accepted, &mut self.placements);
                self.place(out);
                if self.storm.probe().is_some() {
                    self.look_at_the_probe(now, out);
                }
            }
            Event::Delivered(token) => self.delivered(worker, token),
            Event::Undelivered(token) => self.undelivered(now, worker, token, out),
            Event::Online => {
                if let Some(known) = self.workers.get_mut(&worker) {
                    known.booted(now);
                    out.push(Action::Notice(Notice::Online { worker }));
                }
            }
            Event::Counts => self.counts(worker),
            Event::Closed { total } => {
                self.counts(worker);
                self.dispatcher.closed(worker, total);
            }
            Event::Direct { key } => {
                if let Some(endpoint) = self.endpoints.named(worker, &key) {
                    self.dispatcher.direct(endpoint, worker);
                }
            }
            Event::Query(query) => {
                let Some(known) = self.workers.get_mut(&worker) else {
                    return;
                };
                if known.in_service() {
                    known.asked();
                    let slot = known.slot;
                    self.endpoints.asked(worker, slot, query, &mut self.effects);
                    self.effect(now, out);
                }
            }
            Event::Listening(listening) => self.listening(now, worker, listening, out),
            Event::Close { key } => {
                self.retries
                    .retain(|retry| retry.worker != worker || !retry.is_for(&key));
                self.endpoints.closed(now, worker, &key, &mut self.effects);
                self.effect(now, out);
            }
            Event::Leaving => {
                self.endpoints.leaving(worker);
                self.dispatcher.retire(worker);
                self.steer(out);
                self.with_worker(now, worker, out, |worker, _| worker.leaves());
            }
            Event::Message(message) => {
                if message.get() == "\"ready\"" {
                    self.signed(now, worker, ReadyBasis::Message, out);
                }
                out.push(Action::Notice(Notice::Message { worker, message }));
            }
            // The driver keeps those with descriptors to itself.
            other => drop(other),
        }
    }

    fn counts(&mut self, worker: WorkerId) {
        if self.workers.contains_key(&worker) {
            self.dispatcher.counts(worker);
        }
    }

    pub(super) fn listening(
        &mut self,
        now: Time,
        worker: WorkerId,
        listening: Listening,
        out: &mut Vec<Action>,
    ) {
        let port = listening.port.unwrap_or(0);
        let name = self.endpoints.sockname(worker, listening.address_type, port);
        let address = Address::of(&listening, name);
        out.push(Action::Notice(Notice::Listening { worker, address }));
        self.signed(now, worker, ReadyBasis::Listening, out);
    }

    pub(super) fn delivered(&mut self, worker: WorkerId, token: Token) {
        self.retries
            .retain(|retry| retry.worker != worker || !retry.is_about(token));
    }

    pub(super) fn undelivered(&mut self, now: Time, worker: WorkerId, token: Token, out: &mut Vec<Action>) {
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

    pub(super) fn resend(&mut self, now: Time, out: &mut Vec<Action>) {
        for retry in &mut self.retries {
            if retry.at.take_if(|at| *at <= now).is_some() {
                let (worker, seq, reply) = (retry.worker, retry.seq, retry.reply.clone());
                out.push(Action::Reply { worker, seq, reply });
            }
        }
    }

    pub(super) fn reply(&mut self, worker: WorkerId, seq: u64, reply: Reply, out: &mut Vec<Action>) {
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
}
