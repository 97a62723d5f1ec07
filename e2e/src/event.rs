//! What a running `everup` says: one JSON object per line on standard error.

use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitStatus;
use std::time::Instant;

/// One event, and when it was read.
#[derive(Debug, Clone)]
pub struct Event {
    /// When this process read it.
    pub at: Instant,
    /// The whole object.
    pub json: Value,
}

impl Event {
    /// The object's `event`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("event")
    }

    /// A string field; empty where it is absent.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.json.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A whole number; `None` where it is absent.
    #[must_use]
    pub fn number(&self, field: &str) -> Option<i64> {
        self.json.get(field).and_then(Value::as_i64)
    }

    /// Whose event it is.
    #[must_use]
    pub fn worker(&self) -> Option<u32> {
        self.number("worker").and_then(|id| u32::try_from(id).ok())
    }

    /// The TCP address of a `listening` event, made one that can be connected to.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let mut address: SocketAddr = self.text("address").trim_start_matches("tcp://").parse().ok()?;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        Some(address)
    }
}

/// A worker that has been forked and has not exited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its number.
    pub id: u32,
    /// Its place.
    pub slot: u32,
    /// Its process.
    pub pid: u32,
    /// Whether it is ready.
    pub ready: bool,
}

/// Everything that a program has said so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Events, in order.
    pub events: Vec<Event>,
    /// Lines of standard output.
    pub out: Vec<String>,
    /// Lines of standard error that are no events.
    pub err: Vec<String>,
    /// How it ended.
    pub status: Option<ExitStatus>,
    pub(crate) open_streams: u32,
}

impl Seen {
    /// The events with this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.name() == name)
    }

    /// How many events have this name.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.named(name).count()
    }

    /// The workers there are, by the events.
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        let mut workers: Vec<Worker> = Vec::new();
        for event in &self.events {
            let Some(id) = event.worker() else { continue };
            match event.name() {
                "fork" => workers.push(Worker {
                    id,
                    slot: event
                        .number("slot")
                        .and_then(|slot| u32::try_from(slot).ok())
                        .unwrap_or_default(),
                    pid: event
                        .number("pid")
                        .and_then(|pid| u32::try_from(pid).ok())
                        .unwrap_or_default(),
                    ready: false,
                }),
                "ready" => workers
                    .iter_mut()
                    .filter(|worker| worker.id == id)
                    .for_each(|w| w.ready = true),
                "exit" => workers.retain(|worker| worker.id != id),
                _ => {}
            }
        }
        workers
    }

    /// The workers that are ready.
    #[must_use]
    pub fn ready(&self) -> Vec<Worker> {
        self.workers().into_iter().filter(|worker| worker.ready).collect()
    }

    /// Where a worker listened last.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let of = |name| self.named(name).rev().find_map(Event::address);
        of("listening").or_else(|| of("bound"))
    }

    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        let mut part = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let from = lines.len().saturating_sub(60);
                text += &format!(
                    "\n--- {title} ({} lines)\n{}",
                    lines.len(),
                    lines[from..].join("\n")
                );
            }
        };
        part(
            "events",
            self.events.iter().map(|event| event.json.to_string()).collect(),
        );
        part("standard output", self.out.clone());
        part("standard error", self.err.clone());
        if let Some(status) = self.status {
            text += &format!("\n--- ended: {status}");
        }
        text
    }
}
