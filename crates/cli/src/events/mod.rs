//! What happens in the cluster, told on standard error: a line of text or a JSON object per event.
//!
//! The names and fields of the JSON form are stable; `docs/run.md` lists them.

mod human;
mod json;
mod time;

use crate::args::EventFormat;
use crate::cpus::Cpus;
use crate::error::{BindFailure, CliError};
use crate::output::{Console, paint};
use crate::port_owner;
use everup::{Channel, Death, Event, Policy, Slot, Spec, WorkerId};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Tells events in the form that was asked for.
#[derive(Debug)]
pub(crate) struct Reporter {
    format: EventFormat,
    console: Console,
    app: String,
    workers: BTreeMap<WorkerId, Known>,
    bind: Option<BindFailure>,
}

/// What later events of a worker do not say again.
#[derive(Debug, Clone, Copy)]
struct Known {
    slot: Slot,
    pid: u32,
}

/// How many deaths there were of this kind, where that is told.
fn number(death: Death) -> u32 {
    match death {
        Death::Early { in_a_row } => in_a_row,
        Death::Frequent { deaths } => deaths,
        _ => 0,
    }
}

/// What there is to say about the start.
#[derive(Debug)]
pub(crate) struct Start {
    workers: u32,
    cpus: Cpus,
    policy: &'static str,
    channel: bool,
    command: String,
    listen: Vec<String>,
}

impl Start {
    pub(crate) fn of(spec: &Spec, cpus: Cpus) -> Self {
        let channel = spec.channel != Channel::None;
        let policy = match spec.policy {
            _ if !channel => "shared",
            Policy::LeastConnections => "least-connections",
            Policy::RoundRobin => "round-robin",
            _ => "shared",
        };
        let args = spec.args.iter().map(|arg| arg.to_string_lossy().into_owned());
        let words: Vec<String> = std::iter::once(spec.program.display().to_string())
            .chain(args)
            .collect();
        let listen = spec
            .listen
            .iter()
            .map(|listen| listen.address.to_string())
            .collect();
        Self {
            workers: spec.workers,
            cpus,
            policy,
            channel,
            command: words.join(" "),
            listen,
        }
    }
}

impl Reporter {
    pub(crate) fn new(format: EventFormat, console: Console, app: String) -> Self {
        Self {
            format,
            console,
            app,
            workers: BTreeMap::new(),
            bind: None,
        }
    }

    /// The first line.
    pub(crate) fn start(&mut self, start: &Start) {
        self.tell(|| human::start(&self.app, start), || json::start(start));
    }

    /// Something the user should know.
    pub(crate) fn notice(&mut self, text: &str) {
        self.tell(
            || format!("note: {text}"),
            || json::object("notice", &[("message", text.into())]),
        );
    }

    /// An event of the cluster.
    pub(crate) fn event(&mut self, event: &Event) {
        if let Event::Fork { worker, slot, pid } = event {
            self.workers.insert(
                *worker,
                Known {
                    slot: *slot,
                    pid: *pid,
                },
            );
        }
        if let Event::BindFailed {
            worker,
            address,
            errno,
        } = event
        {
            self.bind_failed(*worker, address, *errno);
        } else {
            match self.format {
                EventFormat::Human => {
                    if let Some(text) = human::event(event, &self.workers) {
                        self.human(&text);
                    }
                }
                EventFormat::Json => self.json(json::event(event, &self.workers)),
                EventFormat::None => {}
            }
        }
        if let Event::Exit { worker, .. } = event {
            self.workers.remove(worker);
        }
    }

    /// The last address that the app could not get, if any.
    pub(crate) fn bind_failure(&self) -> Option<BindFailure> {
        self.bind.clone()
    }

    /// Who holds the port is looked up and told once per address: every worker will have the same trouble.
    fn bind_failed(&mut self, worker: WorkerId, address: &str, errno: i32) {
        let again = self
            .bind
            .as_ref()
            .is_some_and(|known| known.address == address && known.errno == errno);
        if !again {
            let owner = port_owner::find(address);
            self.bind = Some(BindFailure {
                address: address.into(),
                errno,
                owner,
            });
        }
        let Some(failure) = &self.bind else { return };
        let known = self.workers.get(&worker);
        self.tell(
            || human::bind_failed(worker, known, failure, !again),
            || json::bind_failed(worker, known, failure),
        );
    }

    /// The error that ends us. Text even with `--events none`: silence would be a riddle.
    pub(crate) fn fatal(&self, error: &CliError) {
        match self.format {
            EventFormat::Human | EventFormat::None => print_error(&self.console, error),
            EventFormat::Json => self.json(json::fatal(error)),
        }
    }

    fn tell(&self, human: impl FnOnce() -> String, json: impl FnOnce() -> Map<String, Value>) {
        match self.format {
            EventFormat::Human => self.human(&human()),
            EventFormat::Json => self.json(json()),
            EventFormat::None => {}
        }
    }

    fn human(&self, text: &str) {
        let name = if self.console.colour() {
            paint(2, "everup")
        } else {
            "everup".into()
        };
        let lines: Vec<String> = text.lines().map(|line| format!("{name}  {line}")).collect();
        self.console.note(&lines.join("\n"));
    }

    /// `event` first, then `at` and `app`, then the rest.
    fn json(&self, fields: Map<String, Value>) {
        let mut all = Map::new();
        let mut fields = fields.into_iter();
        all.extend(fields.next());
        all.insert("at".into(), time::rfc3339(SystemTime::now()).into());
        all.insert("app".into(), self.app.clone().into());
        all.extend(fields);
        self.console.note(&Value::Object(all).to_string());
    }
}

/// An error as text, with its hint.
fn print_error(console: &Console, error: &CliError) {
    let (label, hint_label) = if console.colour() {
        (paint(31, "error:"), paint(36, "hint:"))
    } else {
        ("error:".into(), "hint:".into())
    };
    let mut text = format!("{label} {}", error.message());
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\n  {hint_label} {hint}"));
    }
    console.note(&text);
}
