//! What a cluster looks like from outside, at one moment.

use super::App;
use crate::exit::ExitStatus;
use crate::id::{Slot, WorkerId};
use crate::reload::Phase;
use crate::time::Time;
use crate::worker::{State, Worker};
use std::time::Duration;

/// What a worker is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It serves, or will as soon as it is ready.
    Active,
    /// It stands by.
    Spare,
    /// It is to take over another one's place.
    Incoming,
    /// It finishes its connections, and ends.
    Draining,
}

/// A cluster at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The generation that is meant to run.
    pub generation: u32,
    /// How many active workers there are to be.
    pub target: u32,
    /// How many spares.
    pub spares: u32,
    /// How the workers die, while there is a storm.
    pub storm: Option<ExitStatus>,
    /// The reload under way.
    pub reload: Option<ReloadStatus>,
    /// The living workers, by id.
    pub workers: Vec<WorkerStatus>,
}

/// A reload under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReloadStatus {
    /// The new generation's number.
    pub generation: u32,
    /// How far it is.
    pub phase: Phase,
    /// So many slots are done.
    pub done: u32,
    /// Of so many.
    pub total: u32,
    /// Since the request.
    pub since: Duration,
}

/// A worker at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Who.
    pub id: WorkerId,
    /// Its place.
    pub slot: Slot,
    /// Its process id.
    pub pid: u32,
    /// Which version of the app's command and settings it runs.
    pub generation: u32,
    /// What it is there for.
    pub role: Role,
    /// Where it is in its life.
    pub state: State,
    /// Since its fork.
    pub uptime: Duration,
    /// Since it left the rotation, if it did.
    pub leaving: Option<Duration>,
    /// Connections handed over to it and accepted.
    pub accepted: u64,
    /// Connections that it has open: of those handed over to it, if it says how many have ended; while it drains, all, which
    /// the driver fills in.
    pub connections: Option<u64>,
    /// What its process tree uses, in bytes; the driver fills it in.
    pub memory: Option<u64>,
    /// How often its place was filled again after a death.
    pub restarts: u32,
    /// What it does, in its own words (`STATUS=`).
    pub text: Option<String>,
    /// Whether its channel is open.
    pub connected: bool,
    /// Node's `exitedAfterDisconnect`.
    pub voluntary: bool,
}

impl App {
    /// The cluster as it is now.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        Status {
            generation: self.generation,
            target: self.target,
            spares: self.config.spares,
            storm: self.storm.status(),
            reload: self.reload.as_ref().map(|reload| {
                let (done, total) = reload.progress();
                ReloadStatus {
                    generation: reload.generation(),
                    phase: reload.phase(),
                    done,
                    total,
                    since: now.since(reload.begun()),
                }
            }),
            workers: self
                .workers
                .values()
                .map(|worker| self.worker_status(now, worker))
                .collect(),
        }
    }

    /// Where workers accept by themselves, what was handed over is the smaller part.
    fn open_connections(&self, worker: WorkerId) -> Option<u64> {
        let all = self.config.policy.hands_over();
        self.dispatcher.open_connections(worker).filter(|_| all)
    }

    /// One worker as it is now; `None` when it has ended.
    #[must_use]
    pub fn look(&self, now: Time, worker: WorkerId) -> Option<WorkerStatus> {
        let worker = self.workers.get(&worker)?;
        Some(self.worker_status(now, worker))
    }

    fn worker_status(&self, now: Time, worker: &Worker) -> WorkerStatus {
        let place = self.slots.get(worker.slot);
        WorkerStatus {
            id: worker.id,
            slot: worker.slot,
            pid: worker.pid,
            generation: worker.generation,
            role: if worker.outgoing || worker.retired() {
                Role::Draining
            } else if place.is_some_and(|place| place.successor == Some(worker.id)) {
                Role::Incoming
            } else if worker.standby {
                Role::Spare
            } else {
                Role::Active
            },
            state: worker.state(),
            uptime: now.since(worker.forked),
            leaving: worker.left_at().map(|at| now.since(at)),
            accepted: self.dispatcher.accepted(worker.id),
            connections: self.open_connections(worker.id),
            memory: None,
            restarts: place.map_or(0, |place| place.restarts),
            text: worker.status.clone(),
            connected: worker.connected,
            voluntary: worker.voluntary,
        }
    }
}
