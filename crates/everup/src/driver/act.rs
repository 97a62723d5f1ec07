//! Doing what the machine decided.

use super::drain::Postponed;
use super::group::Group;
use super::{Driver, Listener, keep};
use crate::bind;
use crate::poller::Key;
use crate::spec::Channel as Dialect;
use crate::sys;
use everup_core::app::{Action, Input, Notice};
use everup_core::dispatch::{Look, Placement};
use everup_core::endpoint::{BindRequest, Bound, Endpoints, Sharing};
use everup_core::exit::ExitStatus;
use everup_core::id::{EndpointId, WorkerId};
use everup_core::wire::Session;
use rustix::io::Errno;
use std::os::fd::AsFd;

impl Driver {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Place(placement) => self.place(placement),
            Action::Spawn {
                worker,
                slot,
                generation,
            } => {
                self.reporter.roster().born(worker, slot, generation);
                self.births.push((worker, slot, generation));
            }
            Action::Probe {
                worker,
                probe,
                limit,
                readiness,
            } => self.probe(worker, probe, limit, readiness),
            Action::Hold { worker } => self.hold(worker),
            Action::Bind { endpoint, request } => {
                let result = self.bind(endpoint, &request).map_err(Errno::raw_os_error);
                self.feed(Input::Bound { endpoint, result });
            }
            Action::BindSlot { endpoint, slot } => {
                let result = self.bind_slot(endpoint, slot).map_err(Errno::raw_os_error);
                self.feed(Input::SlotBound {
                    endpoint,
                    slot,
                    result,
                });
            }
            Action::Steer { endpoint, active } => self.steer(endpoint, &active),
            Action::Unbind { endpoint } => self.unbind(endpoint),
            Action::Reply { worker, seq, reply } => {
                self.with_session(worker, |session| session.reply(seq, reply))
            }
            Action::Disconnect { worker } if self.postponed(worker, Postponed::Disconnect) => {}
            Action::Shutdown { worker } if self.postponed(worker, Postponed::Shutdown) => {}
            Action::Signal { worker, signal } if self.postponed(worker, Postponed::Signal(signal)) => {}
            Action::Disconnect { worker } if matches!(self.spec.channel, Dialect::Ipc(_)) => {
                self.close_when_written(worker);
            }
            Action::Disconnect { worker } => self.with_session(worker, Session::disconnect),
            Action::Shutdown { worker } => {
                if let Ok(message) = serde_json::value::to_raw_value("shutdown") {
                    self.with_session(worker, |session| session.send(&message));
                }
            }
            Action::Cut { worker } => self.close_channel(worker),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::Kill { worker } => {
                if let Some(io) = self.workers.get_mut(&worker) {
                    io.signalled = true;
                }
                self.doomed.push(worker);
            }
            Action::Notice(notice) => self.tell(notice),
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    fn place(&mut self, placement: Placement) {
        match placement {
            Placement::HandOver {
                worker,
                connection,
                endpoint,
            } => {
                let channel = self.workers.get_mut(&worker).and_then(|io| io.channel.as_mut());
                if let (Some(listener), Some(channel)) = (self.listeners.get(&endpoint), channel) {
                    channel.session.hand_over(connection, &listener.key);
                    self.talkative.push(worker);
                }
            }
            Placement::Release { connection } => {
                if let Some(released) = self.descriptors.connections.remove(&connection) {
                    self.close(released);
                }
            }
            Placement::Look { worker, connection } => {
                let kept = self.descriptors.connections.get(&connection);
                let look = Look {
                    untouched: kept.is_some_and(sys::tcp::untouched),
                    asleep: self.workers.get(&worker).is_some_and(|io| io.process.asleep()),
                };
                self.feed(Input::Looked {
                    worker,
                    connection,
                    look,
                });
            }
        }
    }

    fn tell(&mut self, notice: Notice) {
        let killed = |status: &ExitStatus| {
            matches!(
                status,
                ExitStatus::Signal {
                    signal: libc::SIGKILL,
                    ..
                }
            )
        };
        let stranger = matches!(&notice, Notice::Exit { status, forced: false, .. } if killed(status));
        let oom = stranger && self.oom.grown();
        if let (Notice::Exit { worker, .. }, Some(meter)) = (&notice, &self.meter) {
            meter.forget(*worker);
        }
        self.reporter.notice(notice, oom);
    }

    /// Lets a worker's session say something, if it still has a channel.
    pub(super) fn with_session(&mut self, worker: WorkerId, speak: impl FnOnce(&mut Session)) {
        if let Some(channel) = self.workers.get_mut(&worker).and_then(|io| io.channel.as_mut()) {
            speak(&mut channel.session);
            self.talkative.push(worker);
        }
    }

    /// There is no other way to ask for it: where there is no cluster, nobody listens for a request.
    fn close_when_written(&mut self, worker: WorkerId) {
        if let Some(channel) = self.workers.get_mut(&worker).and_then(|io| io.channel.as_mut()) {
            channel.closing = true;
            self.talkative.push(worker);
        }
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: i32) {
        let Some(io) = self.workers.get_mut(&worker) else {
            return;
        };
        io.signalled = true;
        if let Err(error) = io.process.signal(signal) {
            self.reporter
                .error(Some(worker), format!("send signal {signal}: {error}"));
        }
    }

    fn bind(&mut self, endpoint: EndpointId, request: &BindRequest) -> Result<Bound, Errno> {
        let socket = bind::for_worker(request, |fd| {
            // Those of `LISTEN_FDS` have the same numbers here as in the worker.
            let passed = || self.passed.get(usize::try_from(fd.checked_sub(3)?).ok()?);
            let known = self.spec.descriptors.get(&fd).map(AsFd::as_fd);
            known.or_else(|| passed().map(|socket| socket.descriptor.as_fd()))
        })?;
        let ours = request.sharing == Sharing::HandOver;
        if ours {
            self.poller
                .watch_arrivals(&socket.descriptor, Key::Listener(endpoint))?;
        }
        let token = self.descriptors.token();
        let bound = Bound {
            descriptor: token,
            kind: socket.kind,
            sockname: socket.sockname.clone(),
        };
        let key = Endpoints::key(endpoint);
        self.listeners.insert(
            endpoint,
            Listener {
                socket,
                token,
                ours,
                foreign: request.fd.is_some(),
                ready: false,
                key,
                group: (request.sharing == Sharing::PerSlot).then(|| Group::new(request.clone())),
            },
        );
        Ok(bound)
    }

    fn unbind(&mut self, endpoint: EndpointId) {
        if let Some(listener) = self.listeners.remove(&endpoint) {
            self.poller.forget(&listener.socket.descriptor);
            for socket in listener.group.iter().flat_map(Group::rescued) {
                self.poller.forget(socket);
            }
            self.close(keep::Closing::Listener(Box::new(listener)));
        }
    }
}
