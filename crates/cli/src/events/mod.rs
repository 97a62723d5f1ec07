//! What happens in the cluster, told on standard error: a line of text or a JSON object per event.
//!
//! The names and fields of the JSON form are stable; `docs/run.md` lists them.

mod human;
mod json;
pub(crate) mod supervision;
mod time;

pub(crate) use json::reason_name;
pub(crate) use time::rfc3339;

use crate::args::EventFormat;
use crate::error::{BindFailure, CliError, End, plain};
use crate::notes::Notes;
use crate::output::paint;
use crate::port_owner;
use everup::cpus::Cpus;
use everup::{Channel, Death, Event, ExitReason, ExitStatus, Policy, Slot, Spec, WorkerId};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::time::{Duration, SystemTime};

/// Tells events in the form that was asked for.
#[derive(Debug)]
pub(crate) struct Reporter {
    format: EventFormat,
    notes: Notes,
    colour: bool,
    /// So many lines found no room since the last one that did.
    skipped: Cell<u64>,
    app: String,
    bind: Option<BindFailure>,
    ends: Ends,
}

/// How the worker before now ended, as far as its status does not tell.
#[derive(Debug, Default)]
struct Ends {
    /// The last one was killed as it did not listen.
    deaf: bool,
    /// Why the last one could not be started.
    not_started: Option<String>,
}

impl Ends {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Fork { .. } => self.not_started = None,
            Event::Exit { reason, .. } => self.deaf = *reason == ExitReason::ListenTimeout,
            Event::SpawnFailed { why, .. } => self.not_started = Some(why.clone()),
            _ => {}
        }
    }
}

/// Which worker an event is about.
#[derive(Debug, Clone, Copy)]
struct Who {
    worker: WorkerId,
    /// Unknown of one that has ended.
    slot: Option<Slot>,
    /// Unknown of one that has ended, or never was a process.
    pid: Option<u32>,
}

impl Who {
    fn of(worker: WorkerId, slot: Slot, pid: u32) -> Self {
        Self {
            worker,
            slot: Some(slot),
            pid: Some(pid).filter(|pid| *pid > 0),
        }
    }
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
            Policy::Sticky => "sticky",
            Policy::ReusePort => "reuseport",
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
    pub(crate) fn new(format: EventFormat, notes: Notes, colour: bool, app: String) -> Self {
        Self {
            format,
            notes,
            colour,
            skipped: Cell::new(0),
            app,
            bind: None,
            ends: Ends::default(),
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
        self.ends.note(event);
        if let Event::BindFailed {
            worker,
            slot,
            pid,
            address,
            errno,
        } = event
        {
            self.bind_failed(Who::of(*worker, *slot, *pid), address, *errno);
        } else {
            match self.format {
                EventFormat::Human => {
                    if let Some(text) = human::event(event) {
                        self.add(self.human(&text));
                    }
                }
                EventFormat::Json => self.add(self.json(json::event(event))),
                EventFormat::None => {}
            }
        }
    }

    /// How the last worker of a failed app ended.
    pub(crate) fn end(&self, status: Option<ExitStatus>, listen_limit: Option<Duration>) -> End {
        match (&self.ends.not_started, listen_limit) {
            (Some(why), _) => End::NotStarted(plain(why)),
            (None, Some(limit)) if self.ends.deaf => End::Deaf(limit),
            _ => End::Status(status),
        }
    }

    /// The last address that the app could not get, if any.
    pub(crate) fn bind_failure(&self) -> Option<BindFailure> {
        self.bind.clone()
    }

    /// Who holds the port is looked up and told once per address: every worker will have the same trouble.
    fn bind_failed(&mut self, who: Who, address: &str, errno: i32) {
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
        self.tell(
            || human::bind_failed(who, failure, !again),
            || json::bind_failed(who, failure),
        );
    }

    /// The error that ends us. Text even with `--events none`: silence would be a riddle.
    pub(crate) fn fatal(&self, error: &CliError) {
        let line = match self.format {
            EventFormat::Human | EventFormat::None => error_text(error, self.colour),
            EventFormat::Json => self.json(json::fatal(error)),
        };
        if let Some(skipped) = self.skipped_line() {
            self.notes.last(skipped);
        }
        self.notes.last(line);
    }

    fn tell(&self, human: impl FnOnce() -> String, json: impl FnOnce() -> Map<String, Value>) {
        match self.format {
            EventFormat::Human => self.add(self.human(&human())),
            EventFormat::Json => self.add(self.json(json())),
            EventFormat::None => {}
        }
    }

    /// Counts what finds no room, and says so when there is room again.
    fn add(&self, line: String) {
        let missing = self.skipped.get();
        if self.skipped_line().is_none_or(|skipped| self.notes.add(skipped)) {
            self.skipped.set(u64::from(!self.notes.add(line)));
        } else {
            self.skipped.set(missing + 1);
        }
    }

    fn skipped_line(&self) -> Option<String> {
        let event = match self.skipped.get() {
            0 => return None,
            events => Event::Skipped { events },
        };
        match self.format {
            EventFormat::Human => human::event(&event).map(|text| self.human(&text)),
            EventFormat::Json => Some(self.json(json::event(&event))),
            EventFormat::None => None,
        }
    }

    fn human(&self, text: &str) -> String {
        let name = if self.colour {
            paint(2, "everup")
        } else {
            "everup".into()
        };
        let lines: Vec<String> = text.lines().map(|line| format!("{name}  {line}")).collect();
        lines.join("\n")
    }

    /// `event` first, then `at` and `app`, then the rest.
    fn json(&self, fields: Map<String, Value>) -> String {
        let mut all = Map::new();
        let mut fields = fields.into_iter();
        all.extend(fields.next());
        all.insert("at".into(), rfc3339(SystemTime::now()).into());
        all.insert("app".into(), self.app.clone().into());
        all.extend(fields);
        Value::Object(all).to_string()
    }
}

/// An error as text, with its hint.
fn error_text(error: &CliError, colour: bool) -> String {
    let (label, hint_label) = if colour {
        (paint(31, "error:"), paint(36, "hint:"))
    } else {
        ("error:".into(), "hint:".into())
    };
    let mut text = format!("{label} {}", error.message());
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\n  {hint_label} {hint}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Console;

    #[test]
    fn how_the_last_worker_ended() {
        let (notes, _writer) = crate::notes::start(Console::stdio().unwrap()).unwrap();
        let mut reporter = Reporter::new(EventFormat::None, notes, false, "web".into());
        let (worker, slot, pid) = (WorkerId(1), Slot(0), 7);
        let limit = Some(Duration::from_millis(300));
        let status = ExitStatus::Code(1);
        let exit = |reason| Event::Exit {
            worker,
            slot,
            pid,
            generation: 1,
            status,
            reason,
            forced: false,
            oom: false,
            voluntary: false,
            uptime: Duration::ZERO,
        };
        reporter.event(&Event::Fork {
            worker,
            slot,
            pid,
            generation: 1,
        });
        reporter.event(&Event::Error {
            worker: Some(worker),
            slot: Some(slot),
            pid: Some(pid),
            what: "something odd".into(),
        });
        reporter.event(&exit(ExitReason::ListenTimeout));
        assert_eq!(
            reporter.end(Some(status), limit),
            End::Deaf(Duration::from_millis(300))
        );
        reporter.event(&exit(ExitReason::Own));
        assert_eq!(reporter.end(Some(status), limit), End::Status(Some(status)));
        reporter.event(&Event::SpawnFailed {
            worker: WorkerId(2),
            slot,
            why: "Exec format error (os error 8)".into(),
        });
        assert_eq!(
            reporter.end(None, limit),
            End::NotStarted("exec format error".into())
        );
        let worker = WorkerId(3);
        reporter.event(&Event::Fork {
            worker,
            slot,
            pid,
            generation: 1,
        });
        assert_eq!(reporter.end(None, None), End::Status(None));
    }
}
