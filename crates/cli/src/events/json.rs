//! Events as JSON objects. Names and fields are an interface: `docs/run.md` has an example of each, and a test
//! compares.

use super::{Start, Who, number, supervision};
use crate::duration::millis;
use crate::error::{BindFailure, CliError};
use everup::{
    Address, Death, Event, ExitReason, ExitStatus, HandleKind, Outcome, ReadyBasis, Slot, WorkerId,
    signal_name,
};
use serde_json::{Map, Value, json};

pub(super) type Object = Map<String, Value>;

/// An object with its event's name first.
pub(super) fn object(name: &str, fields: &[(&str, Value)]) -> Object {
    let fields = fields
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()));
    std::iter::once(("event".to_owned(), name.into()))
        .chain(fields)
        .collect()
}

pub(super) fn start(start: &Start) -> Object {
    object(
        "start",
        &[
            ("pid", std::process::id().into()),
            ("workers", start.workers.into()),
            ("cpus", start.cpus.usable.into()),
            ("policy", start.policy.into()),
            ("channel", if start.channel { "node" } else { "none" }.into()),
            ("listen", json!(start.listen)),
            ("command", start.command.clone().into()),
        ],
    )
}

/// The object of a cluster's event.
#[expect(clippy::too_many_lines, reason = "one arm per event")]
pub(super) fn event(event: &Event) -> Object {
    let who = |worker: &WorkerId, slot: &Slot, pid: &u32| Who::of(*worker, *slot, *pid);
    match event {
        Event::Bound { name, address } => {
            let mut fields = vec![("name", json!(name))];
            fields.extend(address_fields(address));
            object("bound", &fields)
        }
        Event::Fork {
            worker,
            slot,
            pid,
            generation,
        } => of_worker(
            "fork",
            who(worker, slot, pid),
            &[("generation", (*generation).into())],
        ),
        Event::SpawnFailed { worker, slot, why } => object(
            "spawn_failed",
            &[
                ("worker", worker.0.into()),
                ("slot", slot.0.into()),
                ("why", why.as_str().into()),
            ],
        ),
        Event::Online { worker, slot, pid } => of_worker("online", who(worker, slot, pid), &[]),
        Event::Listening {
            worker,
            slot,
            pid,
            address,
        } => of_worker("listening", who(worker, slot, pid), &address_fields(address)),
        Event::Ready {
            worker,
            slot,
            pid,
            basis,
            after,
        } => of_worker(
            "ready",
            who(worker, slot, pid),
            &[
                ("basis", basis_name(*basis).into()),
                ("after_ms", millis(*after).into()),
            ],
        ),
        Event::AllReady { workers } => object("all_ready", &[("workers", (*workers).into())]),
        Event::Disconnect { worker, slot, pid } => of_worker("disconnect", who(worker, slot, pid), &[]),
        Event::Exit {
            worker,
            slot,
            pid,
            status,
            generation,
            reason,
            forced,
            oom,
            voluntary,
            uptime,
            ..
        } => {
            let mut fields = status_fields(*status);
            fields.push(("generation", (*generation).into()));
            fields.push(("reason", reason_name(*reason).into()));
            fields.push(("forced", (*forced).into()));
            if *oom {
                fields.push(("oom", true.into()));
            }
            fields.push(("voluntary", (*voluntary).into()));
            fields.push(("uptime_ms", millis(*uptime).into()));
            of_worker("exit", who(worker, slot, pid), &fields)
        }
        Event::Respawn { slot, delay, death } => object(
            "respawn",
            &[
                ("slot", slot.0.into()),
                ("delay_ms", millis(*delay).into()),
                ("death", death_name(*death).into()),
                ("failures", number(*death).into()),
            ],
        ),
        Event::Message {
            worker,
            slot,
            pid,
            message,
        } => of_worker("message", who(worker, slot, pid), &message_fields(message)),
        Event::Handle {
            worker,
            slot,
            pid,
            kind,
            message,
            ..
        } => {
            let mut fields = vec![("kind", kind_name(*kind).into())];
            fields.extend(message_fields(message));
            of_worker("handle", who(worker, slot, pid), &fields)
        }
        Event::Error {
            worker: Some(worker),
            slot,
            pid,
            what,
        } => {
            let (worker, slot, pid) = (*worker, *slot, *pid);
            of_worker(
                "error",
                Who { worker, slot, pid },
                &[("message", what.clone().into())],
            )
        }
        Event::Error {
            worker: None, what, ..
        } => object("error", &[("message", what.clone().into())]),
        Event::Stopping => object("stopping", &[]),
        Event::Stopped { outcome } => stopped(*outcome),
        Event::Skipped { events } => object("skipped", &[("events", (*events).into())]),
        // Else an event that this version has no name for.
        other => supervision::json(other).unwrap_or_else(|| object("other", &[])),
    }
}

pub(super) fn bind_failed(who: Who, failure: &BindFailure) -> Object {
    let mut fields = vec![
        ("address", failure.address.clone().into()),
        ("errno", failure.errno.into()),
        ("message", failure.reason().into()),
    ];
    if let Some(owner) = &failure.owner {
        fields.push(("owner", json!({ "pid": owner.pid, "command": owner.command })));
    }
    of_worker("bind_failed", who, &fields)
}

pub(super) fn fatal(error: &CliError) -> Object {
    let mut fields = vec![
        ("code", error.exit().code().into()),
        ("message", error.message().into()),
    ];
    fields.extend(error.hint().map(|hint| ("hint", hint.into())));
    object("fatal", &fields)
}

pub(super) fn of_worker(name: &str, who: Who, fields: &[(&str, Value)]) -> Object {
    let mut all = vec![("worker", who.worker.0.into())];
    all.extend(who.slot.map(|slot| ("slot", slot.0.into())));
    all.extend(who.pid.map(|pid| ("pid", pid.into())));
    all.extend(fields.iter().cloned());
    object(name, &all)
}

fn address_fields(address: &Address) -> Vec<(&'static str, Value)> {
    let mut fields = vec![("address", address.to_string().into())];
    match address {
        Address::Tcp(socket) | Address::Udp(socket) => {
            let kind = if matches!(address, Address::Tcp(_)) {
                "tcp"
            } else {
                "udp"
            };
            fields.push(("kind", kind.into()));
            fields.push(("host", socket.ip().to_string().into()));
            fields.push(("port", socket.port().into()));
        }
        Address::Unix(path) => {
            fields.push(("kind", "unix".into()));
            fields.push(("path", path.clone().into()));
        }
        Address::Descriptor(fd) => {
            fields.push(("kind", "fd".into()));
            fields.push(("fd", (*fd).into()));
        }
        _ => {}
    }
    fields
}

pub(super) fn status_fields(status: ExitStatus) -> Vec<(&'static str, Value)> {
    match status {
        ExitStatus::Code(code) => vec![("code", code.into())],
        ExitStatus::Signal { signal, core } => {
            vec![("signal", signal_name(signal).into()), ("core", core.into())]
        }
        _ => vec![],
    }
}

fn stopped(outcome: Outcome) -> Object {
    match outcome {
        Outcome::Stopped => object("stopped", &[("outcome", "stopped".into())]),
        Outcome::Killed { workers } => object(
            "stopped",
            &[("outcome", "killed".into()), ("workers", workers.into())],
        ),
        Outcome::Failed { status } => {
            let mut fields = vec![("outcome", "failed".into())];
            fields.extend(status.map(status_fields).unwrap_or_default());
            object("stopped", &fields)
        }
        Outcome::Done { failures, .. } => object(
            "stopped",
            &[("outcome", "done".into()), ("failures", failures.into())],
        ),
        _ => object("stopped", &[("outcome", "other".into())]),
    }
}

fn death_name(death: Death) -> &'static str {
    match death {
        Death::Proven => "proven",
        Death::Frequent { .. } => "frequent",
        Death::Early { .. } => "early",
        _ => "other",
    }
}

fn basis_name(basis: ReadyBasis) -> &'static str {
    match basis {
        ReadyBasis::Listening => "listening",
        ReadyBasis::Message => "message",
        ReadyBasis::Notify => "notify",
        ReadyBasis::Probe => "probe",
        ReadyBasis::Uptime => "uptime",
        _ => "other",
    }
}

pub(crate) fn reason_name(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Own => "own",
        ExitReason::Stopped => "stopped",
        ExitReason::KillTimeout => "kill_timeout",
        ExitReason::ListenTimeout => "listen_timeout",
        ExitReason::Protocol => "protocol",
        ExitReason::Killed => "killed",
        ExitReason::Replaced(cause) => cause.name(),
        _ => "other",
    }
}

fn kind_name(kind: HandleKind) -> &'static str {
    match kind {
        HandleKind::Server => "server",
        HandleKind::Socket => "socket",
        HandleKind::Udp4 => "udp4",
        HandleKind::Udp6 => "udp6",
        HandleKind::NativeStream => "native_stream",
        HandleKind::NativeDatagram => "native_datagram",
        _ => "other",
    }
}

/// A message as the value that it is. Half a surrogate pair has no place in a value: then it is the text of the
/// JSON, and that is said.
fn message_fields(message: &str) -> Vec<(&'static str, Value)> {
    match serde_json::from_str(message) {
        Ok(value) => vec![("message", value)],
        Err(_) => vec![("message", message.into()), ("raw", true.into())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::End;
    use crate::port_owner::Owner;
    use everup::cpus::Cpus;
    use everup::{Cause, Phase};
    use std::time::Duration;

    const WORKER: WorkerId = WorkerId(1);
    const SLOT: Slot = Slot(0);
    const PID: u32 = 4001;

    fn told(it: &Event) -> Object {
        event(it)
    }

    fn while_starting() -> Vec<Object> {
        let cpus = Cpus::of(2, None);
        let command = "/usr/bin/node /srv/web.js".to_owned();
        let policy = "least-connections";
        let first = Start {
            workers: 2,
            cpus,
            policy,
            channel: true,
            command,
            listen: vec![],
        };
        let owner = Some(Owner {
            pid: 812,
            command: "nginx: master process".into(),
        });
        let failure = BindFailure {
            address: "*:3000".into(),
            errno: 98,
            owner,
        };
        let listening = |address| {
            told(&Event::Listening {
                worker: WORKER,
                slot: SLOT,
                pid: PID,

                address,
            })
        };
        let (basis, after) = (ReadyBasis::Listening, Duration::from_millis(39));
        let notice = "something the operator should know";
        vec![
            start(&first),
            object("notice", &[("message", notice.into())]),
            told(&Event::Bound {
                name: Some("web".into()),
                address: Address::Tcp("127.0.0.1:8080".parse().unwrap()),
            }),
            told(&Event::Fork {
                worker: WORKER,
                slot: SLOT,
                pid: PID,
                generation: 1,
            }),
            told(&Event::SpawnFailed {
                worker: WORKER,
                slot: SLOT,
                why: "Permission denied (os error 13)".into(),
            }),
            told(&Event::Online {
                worker: WORKER,
                slot: SLOT,
                pid: PID,
            }),
            listening(Address::Tcp("[::]:3000".parse().unwrap())),
            listening(Address::Unix("/run/web.sock".into())),
            listening(Address::Descriptor(5)),
            bind_failed(Who::of(WORKER, SLOT, PID), &failure),
            told(&Event::Ready {
                worker: WORKER,
                slot: SLOT,
                pid: PID,

                basis,
                after,
            }),
            told(&Event::AllReady { workers: 2 }),
        ]
    }

    fn supervising() -> Vec<Object> {
        let code = ExitStatus::Code(1);
        vec![
            told(&Event::Replacing {
                worker: WORKER,
                slot: SLOT,
                pid: PID,
                cause: Cause::Memory {
                    bytes: 320 << 20,
                    limit: 300 << 20,
                },
            }),
            told(&Event::Promoted {
                worker: WORKER,
                slot: SLOT,
                pid: PID,
            }),
            told(&Event::Storm {
                status: code,
                probe: SLOT,
            }),
            told(&Event::Calm),
            told(&Event::Scaled { from: 2, to: 4 }),
            told(&Event::Reloading {
                generation: 2,
                cause: Cause::Reload,
                phase: Phase::Rolling,
                done: 1,
                total: 2,
            }),
            told(&Event::Overlap),
            told(&Event::Finished { slot: SLOT }),
        ]
    }

    fn afterwards() -> Vec<Object> {
        let exit = |status, reason, voluntary| {
            let uptime = Duration::from_secs(2);
            let (slot, pid) = (SLOT, PID);
            told(&Event::Exit {
                worker: WORKER,
                slot,
                pid,
                generation: 1,
                status,
                reason,
                forced: reason == ExitReason::KillTimeout,
                oom: false,
                voluntary,
                uptime,
            })
        };
        let code = ExitStatus::Code(1);
        let signal = ExitStatus::Signal {
            signal: 9,
            core: false,
        };
        let what = "something that the cluster survives".to_owned();
        let message = r#"{"type":"anything"}"#.to_owned();
        let delay = Duration::from_millis(200);
        let stopped = |outcome| told(&Event::Stopped { outcome });
        let error = CliError::Failed {
            app: "web".into(),
            end: End::Status(Some(code)),
            bind: None,
        };
        vec![
            told(&Event::Message {
                worker: WORKER,
                slot: SLOT,
                pid: PID,

                message,
            }),
            told(&Event::Disconnect {
                worker: WORKER,
                slot: SLOT,
                pid: PID,
            }),
            exit(code, ExitReason::Own, false),
            exit(signal, ExitReason::KillTimeout, true),
            told(&Event::Respawn {
                slot: SLOT,
                delay,
                death: Death::Early { in_a_row: 3 },
            }),
            told(&Event::Error {
                worker: Some(WORKER),
                slot: Some(SLOT),
                pid: Some(PID),
                what,
            }),
            told(&Event::Skipped { events: 12 }),
            told(&Event::Stopping),
            stopped(Outcome::Stopped),
            stopped(Outcome::Killed { workers: 1 }),
            stopped(Outcome::Failed { status: Some(code) }),
            stopped(Outcome::Done {
                failures: 1,
                status: Some(code),
            }),
            fatal(&error),
        ]
    }

    #[test]
    fn a_message_that_is_no_unicode() {
        let message = r#"{"u":"\ud800"}"#.to_owned();
        let worker = WORKER;
        let told = Value::Object(told(&Event::Message {
            worker,
            slot: SLOT,
            pid: PID,
            message,
        }))
        .to_string();
        assert_eq!(
            told,
            r#"{"event":"message","worker":1,"slot":0,"pid":4001,"message":"{\"u\":\"\\ud800\"}","raw":true}"#
        );
    }

    #[test]
    fn the_document_shows_each_event_as_it_is() {
        let lines = include_str!("../../../../docs/run.md")
            .lines()
            .filter(|line| line.starts_with("{\"event\""));
        let mut documented = Vec::new();
        for line in lines {
            let mut object: Object = serde_json::from_str(line).unwrap();
            // What the reporter adds, right after the name.
            let keys: Vec<_> = object.keys().take(3).cloned().collect();
            assert_eq!(keys, ["event", "at", "app"]);
            object.shift_remove("at");
            object.shift_remove("app");
            if object["event"] == "start" {
                object.insert("pid".into(), std::process::id().into());
            }
            // These cannot be made outside of the engine: one owns a descriptor, the other is for it alone to fill in.
            if object["event"] != "handle" && object["event"] != "reloaded" {
                documented.push(Value::Object(object).to_string());
            }
        }
        let real: Vec<_> = while_starting()
            .into_iter()
            .chain(supervising())
            .chain(afterwards())
            .map(|object| Value::Object(object).to_string())
            .collect();
        assert_eq!(real, documented);
    }
}
