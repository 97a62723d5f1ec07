//! The library's face: clusters described, commanded and ended as a program does it, with real workers.

mod builder;
mod ending;
mod engine;
mod events;
mod handle;
mod ipc;
mod messages;
mod own_program;

use anyhow::{Context, Result, bail, ensure};
use e2e::LIMIT;
use everup::{Builder, Cluster, Event, Events, Fork, Outcome, RestartPolicy, WorkerHandle, WorkerId};
use serde_json::Value;
use std::path::PathBuf;

/// A cluster of Node workers that are forked one by one, and not started again.
struct Stage {
    cluster: Cluster,
    events: Events,
    folder: tempfile::TempDir,
}

impl Stage {
    fn start(script: &str) -> Result<Self> {
        Self::start_with(script, |builder| builder)
    }

    fn start_with(script: &str, change: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("worker.js");
        std::fs::write(&path, script)?;
        let builder = Cluster::builder()
            .node(path)
            .workers(0)
            .restart(RestartPolicy::never());
        let (cluster, events) = change(builder).start()?;
        Ok(Self {
            cluster,
            events,
            folder,
        })
    }

    /// Where the workers' script is.
    fn script(&self) -> PathBuf {
        self.folder.path().join("worker.js")
    }

    fn fork(&self) -> Result<WorkerHandle> {
        self.cluster
            .fork(Fork::default())
            .context("the cluster is ending")
    }

    /// The first event that is looked for.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Event) -> Option<T>) -> Result<T> {
        let mut seen = Vec::new();
        loop {
            match self.events.recv_timeout(LIMIT) {
                Ok(Some(event)) => match look(&event) {
                    Some(found) => return Ok(found),
                    None => seen.push(format!("{event:?}")),
                },
                Ok(None) => bail!("the cluster ended before {what}: {seen:#?}"),
                Err(error) => bail!("{error}: {what}: {seen:#?}"),
            }
        }
    }

    /// The next message of any worker.
    fn message(&mut self) -> Result<Value> {
        let message = self.until("a message", |event| match event {
            Event::Message { message, .. } => Some(message.clone()),
            _ => None,
        })?;
        Ok(serde_json::from_str(&message)?)
    }

    /// Waits for the end of a worker.
    fn exit(&mut self, id: WorkerId) -> Result<()> {
        self.until("an exit", |event| match event {
            Event::Exit { worker, .. } if *worker == id => Some(()),
            _ => None,
        })
    }

    fn stop(self) -> Result<()> {
        self.cluster.stop();
        let outcome = self.cluster.join();
        ensure!(outcome == Outcome::Stopped, "{outcome:?}");
        Ok(())
    }
}
