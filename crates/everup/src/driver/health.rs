//! Probes and `sd_notify` of workers: how what [`App`](everup_core::app::App) asks for reaches one worker and no other,
//! and how what a worker says comes back.

use super::Driver;
use crate::cluster::Command;
use crate::health::{ProbePlan, ReadySign};
use crate::notify::sender_belongs;
use crate::poller::Key;
use crate::probe::{Answer, Exec, Probe, Task, Way, pair};
use everup_core::app::Input;
use everup_core::endpoint::Endpoints;
use everup_core::health::{ProbeId, Probed};
use everup_core::id::{Token, WorkerId};
use everup_core::notify::parse;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A worker's listening socket that no other worker has.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Private {
    #[serde(with = "crate::estate::number")]
    pub(super) listener: OwnedFd,
    pub(super) address: SocketAddr,
}

impl Driver {
    /// Whether workers need a socket of their own for probes: they cannot be handed a connection.
    pub(super) fn needs_private(&self) -> bool {
        let by_address = |plan: &ProbePlan| matches!(plan, ProbePlan::Tcp | ProbePlan::Http { .. });
        let health = self
            .spec
            .health
            .as_ref()
            .is_some_and(|health| by_address(&health.probe));
        let ready = self.ready_probe().is_some();
        !matches!(self.spec.channel, crate::spec::Channel::Node(_)) && (health || ready)
    }

    pub(super) fn private(&self) -> io::Result<Option<Private>> {
        if !self.needs_private() {
            return Ok(None);
        }
        let (listener, address) = pair::private_listener()?;
        Ok(Some(Private { listener, address }))
    }

    fn ready_probe(&self) -> Option<ProbePlan> {
        self.spec.ready.iter().find_map(|sign| match sign {
            ReadySign::Tcp => Some(ProbePlan::Tcp),
            ReadySign::Http { path, host } => Some(ProbePlan::Http {
                path: path.clone(),
                host: host.clone(),
            }),
            _ => None,
        })
    }

    pub(super) fn probe(&mut self, worker: WorkerId, id: ProbeId, limit: Duration, readiness: bool) {
        let plan = match readiness {
            true => self.ready_probe(),
            false => self.spec.health.as_ref().map(|health| health.probe.clone()),
        };
        let task = plan
            .ok_or_else(|| Probed::Unknown("there is no such probe".into()))
            .and_then(|plan| self.task(worker, id, plan));
        match task {
            Ok(Some(task)) => self.prober.start(Probe {
                worker,
                id,
                limit,
                task,
            }),
            Ok(None) => {}
            Err(found) => self.feed(Input::Probed {
                worker,
                probe: id,
                found,
            }),
        }
    }

    /// What is to be done; `None` if the worker's own answer on the channel will tell.
    fn task(&mut self, worker: WorkerId, id: ProbeId, plan: ProbePlan) -> Result<Option<Task>, Probed> {
        let unknown = |error: io::Error| Probed::Unknown(error.to_string());
        match plan {
            ProbePlan::Exec { argv } => self.exec(worker, argv).map(Some),
            ProbePlan::Http { path, host } => {
                let way = match self.own_address(worker) {
                    Some((address, _)) => Way::Address(address),
                    None => Way::Connected(self.hand_probe(worker, id, false)?),
                };
                Ok(Some(Task::Http { way, path, host }))
            }
            ProbePlan::Tcp => match self.own_address(worker) {
                Some((address, listener)) => Ok(Some(Task::Tcp {
                    address,
                    listener: Some(listener.map_err(unknown)?),
                })),
                None => {
                    drop(self.hand_probe(worker, id, true)?);
                    Ok(None)
                }
            },
        }
    }

    fn own_address(&self, worker: WorkerId) -> Option<(SocketAddr, io::Result<OwnedFd>)> {
        let private = self.workers.get(&worker)?.private.as_ref()?;
        Some((private.address, private.listener.try_clone()))
    }

    fn exec(&self, worker: WorkerId, argv: Vec<std::ffi::OsString>) -> Result<Task, Probed> {
        let gone = || Probed::Unknown("the worker is gone".into());
        let io = self.workers.get(&worker).ok_or_else(gone)?;
        let known = self.app.worker(worker).ok_or_else(gone)?;
        Ok(Task::Exec(Exec {
            argv,
            env: self.variables_of(known.generation),
            cwd: self.spec.cwd.clone(),
            pid: io.process.pid,
            slot: known.slot,
        }))
    }

    /// Hands one end of a connection that we have made to the worker, as if a client had come; gives the other end.
    fn hand_probe(&mut self, worker: WorkerId, id: ProbeId, answer_is_all: bool) -> Result<OwnedFd, Probed> {
        let endpoint = self
            .app
            .endpoint_of(worker)
            .ok_or_else(|| Probed::Failed("it does not listen".into()))?;
        if self.app.is_direct(worker) {
            let why =
                "it accepts by itself, so no connection reaches this very worker: probe it by a command";
            return Err(Probed::Failed(why.into()));
        }
        let (client, server) = pair::loopback_pair().map_err(|error| Probed::Unknown(error.to_string()))?;
        let token = self.descriptors.token();
        self.descriptors.connections.insert(token, server);
        self.probes.insert(token, (worker, id, answer_is_all));
        self.with_session(worker, |session| {
            session.hand_over(token, &Endpoints::key(endpoint))
        });
        Ok(client)
    }

    /// A worker answered a hand-over: whether that was a probe.
    pub(super) fn probe_answered(&mut self, token: Token, accepted: Option<bool>) -> bool {
        let Some((worker, probe, answer_is_all)) = self.probes.remove(&token) else {
            return false;
        };
        if let Some(copy) = self.descriptors.connections.remove(&token) {
            self.close(copy);
        }
        if accepted == Some(true) {
            self.feed(Input::ProbeTaken { worker });
        }
        let found = match accepted {
            Some(true) if !answer_is_all => return true,
            Some(true) => Probed::Ok,
            Some(false) => Probed::Failed("it refused the connection".into()),
            None => Probed::Failed("it has no descriptor free for a connection".into()),
        };
        self.feed(Input::Heard { worker });
        self.feed(Input::Probed { worker, probe, found });
        true
    }

    /// Probes of a worker that is gone have no answer any more.
    pub(super) fn forget_probes(&mut self, worker: WorkerId) {
        let connections = &mut self.descriptors.connections;
        self.probes.retain(|token, (who, ..)| {
            let other = *who != worker;
            if !other {
                connections.remove(token);
            }
            other
        });
    }

    /// The prober's answers come as commands.
    pub(super) fn prober(mark: &str, commander: crate::cluster::Commander) -> crate::probe::Prober {
        crate::probe::Prober::new(mark, move |Answer { worker, id, found }| {
            commander.send(Command::Probed(worker, id, found));
        })
    }

    /// Something came on a worker's notify socket.
    pub(super) fn notified(&mut self, worker: WorkerId) {
        let Some(io) = self.workers.get(&worker) else {
            return;
        };
        let Some(socket) = &io.notify else { return };
        let (pid, mark) = (io.process.pid, io.process.mark().to_owned());
        let received = match socket.receive() {
            Ok(received) => received,
            Err(error) => {
                // It would be reported for ever.
                self.poller.forget(socket.descriptor());
                return self
                    .reporter
                    .error(Some(worker), format!("read its notify socket: {error}"));
            }
        };
        for datagram in received {
            if let Err(stranger) = sender_belongs(datagram.sender, pid, &mark) {
                self.trouble(worker, &format!("a notification is refused: {stranger}"));
                continue;
            }
            match parse(&datagram.bytes) {
                Ok(said) => {
                    if let Some(trouble) = &said.trouble {
                        self.trouble(worker, &format!("a notification is odd: {trouble}"));
                    }
                    self.feed(Input::Notified { worker, said });
                }
                Err(error) => self.trouble(worker, &format!("a notification says nothing: {error}")),
            }
        }
    }

    /// Tells of trouble with notifications, at most once a second: anybody on this machine can cause it.
    fn trouble(&mut self, worker: WorkerId, what: &str) {
        if self.trouble_until <= self.now {
            self.trouble_until = self.now + Duration::from_secs(1);
            self.reporter.error(Some(worker), what.into());
        }
    }

    pub(super) fn watch_notify(
        &self,
        worker: WorkerId,
        socket: &crate::notify::NotifySocket,
    ) -> io::Result<()> {
        Ok(self.poller.watch(socket.descriptor(), Key::Notify(worker))?)
    }
}
