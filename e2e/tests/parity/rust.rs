//! Our own primary around Rust and Node workers.

use crate::node::{RUST, script};
use anyhow::{Context, Result, bail, ensure};
use e2e::LIMIT;
use everup::{
    Builder, Cluster, Event, Events, Fork, Outcome, Output, Policy, RestartPolicy, WorkerHandle, WorkerId,
};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Instant;

/// A running cluster, and what was heard of it.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) cluster: Cluster,
    events: Events,
    /// Heard, and not taken yet.
    backlog: VecDeque<Event>,
    /// What was heard, in words: for a test that fails.
    log: Vec<String>,
}

/// A cluster of Rust workers, none of which is started yet.
pub(crate) fn rust(policy: Policy) -> Builder {
    Cluster::builder()
        .program(RUST)
        .workers(0)
        .policy(policy)
        .restart(RestartPolicy::never())
        .output(Output::Null)
}

/// What a fork needs to be a Node worker in a cluster of Rust workers.
pub(crate) fn node_worker() -> Fork {
    Fork::new().program("node").args([script("worker.js")])
}

/// A fork with these variables.
pub(crate) fn with_env(env: &[(&str, &str)]) -> Fork {
    Fork::new().envs(env.iter().copied())
}

impl Crew {
    pub(crate) fn start(builder: Builder) -> Result<Self> {
        let (cluster, events) = builder.start()?;
        Ok(Self {
            cluster,
            events,
            backlog: VecDeque::new(),
            log: Vec::new(),
        })
    }

    pub(crate) fn fork(&mut self) -> Result<WorkerHandle> {
        self.fork_as(Fork::default())
    }

    /// Starts a worker, and waits until its app says that it is up.
    pub(crate) fn fork_as(&mut self, fork: Fork) -> Result<WorkerHandle> {
        let worker = self.cluster.fork(fork).context("the cluster runs")?;
        self.says(worker.id(), "up")?;
        Ok(worker)
    }

    /// Takes the first event that fits, whether it came already or is yet to come.
    pub(crate) fn take<T>(&mut self, what: &str, fits: impl Fn(&Event) -> Option<T>) -> Result<(T, Event)> {
        if let Some((index, found)) = self
            .backlog
            .iter()
            .enumerate()
            .find_map(|(index, event)| Some((index, fits(event)?)))
        {
            let event = self.backlog.remove(index).context("just found")?;
            return Ok((found, event));
        }
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(Some(event)) = self.events.recv_timeout(left) else {
                bail!("no {what}; heard:\n{}", self.log.join("\n"));
            };
            self.log.push(format!("{event:.300?}"));
            match fits(&event) {
                Some(found) => return Ok((found, event)),
                None => self.backlog.push_back(event),
            }
        }
    }

    /// The next message `{"say": what, …}` of a worker's.
    pub(crate) fn says(&mut self, from: WorkerId, what: &str) -> Result<Value> {
        let (json, _) = self.take(&format!("{what:?} of {from}"), |event| match event {
            Event::Message { worker, message, .. } | Event::Handle { worker, message, .. }
                if *worker == from =>
            {
                let json: Value = serde_json::from_str(message).ok()?;
                (json["say"] == what).then_some(json)
            }
            _ => None,
        })?;
        Ok(json)
    }

    /// Tells a worker something, and waits for what it says to that.
    pub(crate) fn ask(&mut self, worker: &WorkerHandle, order: &Value, answer: &str) -> Result<Value> {
        worker.send(order)?;
        self.says(worker.id(), answer)
    }

    /// A worker's end: the exit event.
    pub(crate) fn exit(&mut self, of: WorkerId) -> Result<Event> {
        let ended = self.take(&format!("exit of {of}"), |event| match event {
            Event::Exit { worker, .. } => (*worker == of).then_some(()),
            _ => None,
        })?;
        Ok(ended.1)
    }

    /// The port at which a Rust worker listens from now on.
    pub(crate) fn listen(&mut self, worker: &WorkerHandle, how: &str) -> Result<u16> {
        let order = json!({ "do": "listen", "at": "127.0.0.1:0", "how": how });
        crate::node::port(&self.ask(worker, &order, "listening")?)
    }

    /// What a worker could not do, and why.
    pub(crate) fn fails(&mut self, worker: &WorkerHandle, order: &Value, error: &str) -> Result<()> {
        let failed = self.ask(worker, order, "failed")?;
        let as_wanted = failed["error"]
            .as_str()
            .is_some_and(|text| text.starts_with(error));
        ensure!(as_wanted, "{failed}, wanted {error}");
        let (text, source) = (failed["text"].as_str(), failed["source"].as_str());
        ensure!(
            text.is_some_and(|text| source.is_none_or(|source| !text.contains(source))),
            "{failed}"
        );
        Ok(())
    }

    /// Stops in good order: nobody has to be killed.
    pub(crate) fn end(self) -> Result<()> {
        self.cluster.stop();
        let outcome = self.cluster.join();
        ensure!(
            outcome == Outcome::Stopped,
            "{outcome:?}; heard:\n{}",
            self.log.join("\n")
        );
        Ok(())
    }
}
