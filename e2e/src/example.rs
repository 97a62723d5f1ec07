//! A running program of `examples/rust`: what it prints, and what every test of one does to it.

use crate::event::{Seen, Worker};
use crate::process::{signal, state};
use crate::run::wait_until;
use crate::{Everup, LIMIT, Run, binary};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::time::Duration;

/// A primary and its workers, which listen.
#[derive(Debug)]
pub struct Example {
    /// The primary.
    pub run: Run,
    /// Where the workers listen.
    pub address: SocketAddr,
    workers: usize,
}

impl Example {
    /// Starts an example with two workers on a free port, and waits until they are ready.
    ///
    /// # Errors
    /// When it does not build, or they are not ready in time.
    pub fn start(name: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_program(binary::example(name)?, settings)
    }

    /// The same with the program's file.
    ///
    /// # Errors
    /// When the workers are not ready in time.
    pub fn start_program(program: impl AsRef<OsStr>, settings: &[(&str, &str)]) -> Result<Self> {
        let workers = 2;
        let run = Everup::program(program)
            .env("PORT", "0")
            .env("WORKERS", workers.to_string())
            .envs(settings)
            .start()?;
        let address = run.until("a worker that listens", LIMIT, |seen| {
            let mut said = seen
                .out
                .iter()
                .filter_map(|line| line.split_once(": listening on "));
            said.find_map(|(_, address)| address.parse().ok())
        })?;
        let example = Self {
            run,
            address,
            workers,
        };
        example.ready()?;
        Ok(example)
    }

    /// Waits until as many workers are ready as there are to be, and nobody else is there.
    ///
    /// # Errors
    /// When that does not come in time.
    pub fn ready(&self) -> Result<Vec<Worker>> {
        self.run
            .until(&format!("{} workers ready", self.workers), LIMIT, |seen| {
                let there = workers(seen);
                (there.len() == self.workers && there.iter().all(|worker| worker.ready)).then_some(there)
            })
    }

    /// Stops a worker where it is (SIGSTOP): it can take nothing that is given to it from now on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn freeze(&self, worker: &Worker) -> Result<()> {
        signal(worker.pid, Signal::STOP)?;
        wait_until("it is stopped", LIMIT, || match state(worker.pid) {
            Some('T') => Ok(()),
            other => Err(format!("{other:?}")),
        })
    }

    /// Kills a worker (SIGKILL), and waits until the primary knows.
    ///
    /// # Errors
    /// When it is gone already, or the primary does not hear of it.
    pub fn kill(&self, worker: &Worker) -> Result<()> {
        signal(worker.pid, Signal::KILL)?;
        self.run.until("its end", LIMIT, |seen| {
            (!workers(seen).iter().any(|there| there.id == worker.id)).then_some(())
        })
    }

    /// Reloads it (SIGHUP), and waits until all its workers are new and the old ones have gone.
    ///
    /// # Errors
    /// When that fails, or takes too long.
    pub fn reload(&self) -> Result<()> {
        let before = self.ready()?;
        let reloads = |seen: &Seen| {
            let lines = seen.out.iter().filter(|line| line.starts_with("reloaded: "));
            lines.cloned().collect::<Vec<_>>()
        };
        let number = reloads(&self.run.seen()).len();
        self.run.signal(Signal::HUP)?;
        let said = self.run.until("the reload's end", LIMIT, |seen| {
            reloads(seen).get(number).cloned()
        })?;
        ensure!(said.ends_with(", done"), "{said}");
        let after = self.ready()?;
        let stayed = after
            .iter()
            .any(|worker| before.iter().any(|old| old.id == worker.id));
        ensure!(!stayed, "{before:?} and then {after:?}");
        Ok(())
    }

    /// Asks it to stop (SIGTERM): it ends well, and nothing is left of it.
    ///
    /// # Errors
    /// When it does not, or something is left.
    pub fn end(self) -> Result<()> {
        let ended = self.run.stop()?;
        ensure!(ended.code() == Some(0), "{}", ended.all());
        self.run.gone(Duration::from_secs(2)).with_context(|| ended.all())
    }
}

/// The workers there are, by the lines `worker 1: process 123 in slot 0`, `worker 1: ready` and `worker 1: ended, …`.
fn workers(seen: &Seen) -> Vec<Worker> {
    let mut workers: Vec<Worker> = Vec::new();
    let said = seen.out.iter().filter_map(|line| {
        let (id, what) = line.strip_prefix("worker ")?.split_once(": ")?;
        Some((id.parse::<u32>().ok()?, what))
    });
    for (id, what) in said {
        if let Some((pid, slot)) = started(what) {
            let ready = false;
            workers.push(Worker { id, slot, pid, ready });
        } else if what == "ready" {
            workers
                .iter_mut()
                .filter(|worker| worker.id == id)
                .for_each(|worker| worker.ready = true);
        } else if what.starts_with("ended") {
            workers.retain(|worker| worker.id != id);
        }
    }
    workers
}

/// The process id and the slot of `process 123 in slot 0`.
fn started(what: &str) -> Option<(u32, u32)> {
    let (pid, slot) = what.strip_prefix("process ")?.split_once(" in slot ")?;
    Some((pid.parse().ok()?, slot.parse().ok()?))
}
