//! The primary's part of the same program: what `e2e/parity/primary.js` does with Node's, in small.

use anyhow::{Context, Result};
use everup::{Cluster, Event, Fork, Policy, RestartPolicy, WorkerHandle};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::BufRead;

/// Obeys `{"do": "fork"}`, `{"do": "send", "worker": N, "message": …}` and `{"do": "all"}` (all leave) until standard input ends.
pub(crate) fn run() -> Result<()> {
    let (cluster, mut events) = Cluster::builder()
        .env("FIXTURE", "worker")
        .workers(0)
        .policy(Policy::Shared)
        .restart(RestartPolicy::never())
        .start()?;
    let telling = std::thread::spawn(move || {
        while let Some(event) = events.recv_blocking() {
            tell(&event);
        }
    });
    let mut workers: BTreeMap<u64, WorkerHandle> = BTreeMap::new();
    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line?)?;
        if order["do"] == "fork" {
            let worker = cluster.fork(Fork::default()).context("it runs")?;
            workers.insert(worker.id().0.into(), worker);
        } else if order["do"] == "all" {
            cluster.disconnect_all();
            crate::line(&json!({ "event": "all disconnected" }));
        } else if let Some(worker) = order["worker"].as_u64().and_then(|id| workers.get(&id)) {
            worker.send(&order["message"])?;
        }
    }
    cluster.stop();
    let outcome = cluster.join();
    crate::line(&json!({ "ended": format!("{outcome:?}") }));
    telling.join().ok().context("the events")
}

fn tell(event: &Event) {
    let (name, worker, message) = match event {
        Event::Fork { worker, .. } => ("fork", worker, None),
        Event::Online { worker, .. } => ("online", worker, None),
        Event::Exit { worker, .. } => ("exit", worker, None),
        Event::Message { worker, message, .. } => ("message", worker, Some(message)),
        other => return crate::line(&json!({ "heard": format!("{other:?}") })),
    };
    let message = message.and_then(|message| serde_json::from_str::<Value>(message).ok());
    crate::line(&json!({ "event": name, "worker": worker.0, "message": message }));
}
