//! Events as lines for people.

use super::supervision;
use super::{Start, Who, number};
use crate::duration::show;
use crate::error::BindFailure;
use everup::{Death, Event, ExitReason, Outcome, ReadyBasis, Slot, WorkerId};
use std::time::Duration;

pub(super) fn start(app: &str, start: &Start) -> String {
    let workers = count(start.workers, "worker");
    let cpus = start.cpus;
    let of = match cpus.quota {
        Some(quota) if quota < cpus.affinity => format!(" of {} by its cgroup's quota", cpus.affinity),
        _ => String::new(),
    };
    let policy = match (start.channel, start.listen.as_slice()) {
        (true, []) => format!("policy {}", start.policy),
        (true, listen) => format!("policy {}, LISTEN_FDS: {}", start.policy, listen.join(" ")),
        (false, []) => "no shared port".into(),
        (false, listen) => format!("sharing {}", listen.join(" ")),
    };
    format!(
        "{app}: {workers}, {}{of}, {policy}: {}",
        count(cpus.usable, "CPU"),
        start.command
    )
}

/// The line of an event; `None` for what people need not see.
#[expect(clippy::too_many_lines, reason = "one arm per event")]
pub(super) fn event(event: &Event) -> Option<String> {
    let who = |worker: &WorkerId, slot: &Slot, pid: &u32| named(Who::of(*worker, *slot, *pid));
    Some(match event {
        Event::Bound { name: None, address } => format!("bound {address} for the workers"),
        Event::Bound {
            name: Some(name),
            address,
        } => format!("bound {address} for the workers, as `{name}`"),
        Event::Fork {
            worker, slot, pid, ..
        } => format!("{} started in slot {slot}", who(worker, slot, pid)),
        Event::SpawnFailed { worker, why, .. } => format!("worker {worker} could not be started: {why}"),
        Event::Online { worker, slot, pid } => format!("{} online", who(worker, slot, pid)),
        Event::Listening {
            worker,
            slot,
            pid,
            address,
        } => format!("{} listening on {address}", who(worker, slot, pid)),
        Event::Ready {
            worker,
            slot,
            pid,
            basis,
            after,
        } => {
            let basis = match basis {
                // Just told by `listening`.
                ReadyBasis::Listening => return None,
                ReadyBasis::Message => "as it says",
                ReadyBasis::Notify => "as it says by sd_notify",
                ReadyBasis::Probe => "as its probe says",
                ReadyBasis::Uptime => "as it stays up and asks for no address",
                _ => "",
            };
            format!("{} ready after {}, {basis}", who(worker, slot, pid), show(*after))
        }
        Event::AllReady { workers: 1 } => "the worker is ready".into(),
        Event::AllReady { workers } => format!("all {workers} workers are ready"),
        Event::Disconnect { worker, slot, pid } => format!("{} disconnected", who(worker, slot, pid)),
        Event::Exit {
            worker,
            slot,
            pid,
            status,
            reason,
            forced,
            oom,
            uptime,
            voluntary,
            ..
        } => {
            let oom = if *oom { " (out of memory)" } else { "" };
            let ended = format!("{status}{oom}");
            exit(
                &who(worker, slot, pid),
                &ended,
                (*reason, *forced),
                *voluntary,
                *uptime,
            )
        }
        Event::Respawn { slot, delay, death } => respawn(slot.0, *delay, *death),
        Event::Error {
            worker: Some(worker),
            slot,
            pid,
            what,
        } => {
            let (worker, slot, pid) = (*worker, *slot, *pid);
            format!("{}: {what}", named(Who { worker, slot, pid }))
        }
        Event::Error {
            worker: None, what, ..
        } => what.clone(),
        Event::Stopping => "stopping".into(),
        Event::Stopped { outcome } => match outcome {
            Outcome::Stopped => "stopped".into(),
            Outcome::Killed { workers } => format!("stopped; {} had to be killed", count(*workers, "worker")),
            Outcome::Done { failures: 0, .. } => "done".into(),
            Outcome::Done { failures, .. } => format!("done; {} failed", count(*failures, "worker")),
            _ => "gave up".into(),
        },
        Event::Skipped { events } => format!(
            "{} not shown: this output is read too slowly",
            count(*events, "event")
        ),
        other => return supervision::human(other, named),
    })
}

fn exit(
    who: &str,
    status: &str,
    (reason, forced): (ExitReason, bool),
    voluntary: bool,
    uptime: Duration,
) -> String {
    let after = show(uptime);
    match reason {
        ExitReason::Replaced(cause) if forced => {
            format!("{who} killed after {after} ({cause}): it did not stop within the kill timeout")
        }
        ExitReason::Replaced(cause) => format!("{who} stopped with {status} after {after} ({cause})"),
        ExitReason::KillTimeout => {
            format!("{who} killed after {after}: it did not stop within the kill timeout")
        }
        ExitReason::ListenTimeout => {
            format!("{who} killed after {after}: it did not listen within the limit")
        }
        ExitReason::Protocol => format!("{who} killed after {after}: it broke the channel's protocol"),
        ExitReason::Killed => format!("{who} killed after {after}"),
        ExitReason::Stopped => format!("{who} stopped with {status} after {after}"),
        _ if voluntary => format!("{who} left with {status} after {after}"),
        _ => format!("{who} died with {status} after {after}"),
    }
}

fn respawn(slot: u32, delay: Duration, death: Death) -> String {
    let when = if delay.is_zero() {
        "now".into()
    } else {
        format!("in {}", show(delay))
    };
    let why = match death {
        Death::Early { in_a_row: 2.. } => format!(": {} early deaths in a row", number(death)),
        Death::Frequent { .. } => format!(": {} deaths within 10 s", number(death)),
        _ => String::new(),
    };
    format!("slot {slot} gets a new worker {when}{why}")
}

/// Also who is in the way, the first time.
pub(super) fn bind_failed(who: Who, failure: &BindFailure, first: bool) -> String {
    let line = format!(
        "{} could not listen on {}: {}",
        named(who),
        failure.address,
        failure.reason()
    );
    match failure.hint().filter(|_| first) {
        Some(hint) => format!("{line}\nhint: {hint}"),
        None => line,
    }
}

fn named(who: Who) -> String {
    match who.pid {
        Some(pid) => format!("worker {} (pid {pid})", who.worker),
        None => format!("worker {}", who.worker),
    }
}

fn count(number: impl TryInto<u64> + Copy + std::fmt::Display, thing: &str) -> String {
    let one = number.try_into().is_ok_and(|number: u64| number == 1);
    format!("{number} {thing}{}", if one { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port_owner::Owner;
    use everup::cpus::Cpus;
    use everup::{Address, ExitStatus};

    fn lines(events: &[Event]) -> Vec<String> {
        events.iter().filter_map(event).collect()
    }

    const WORKER: WorkerId = WorkerId(2);
    const SLOT: Slot = Slot(1);

    #[test]
    fn a_worker_that_starts() {
        let address = Address::Tcp("0.0.0.0:3000".parse().unwrap());
        let ready = |basis| Event::Ready {
            worker: WORKER,
            slot: SLOT,
            pid: 123,
            basis,
            after: Duration::from_secs(1),
        };
        let told = lines(&[
            Event::Fork {
                worker: WORKER,
                slot: SLOT,
                pid: 123,
                generation: 1,
            },
            Event::Online {
                worker: WORKER,
                slot: SLOT,
                pid: 123,
            },
            Event::Listening {
                worker: WORKER,
                slot: SLOT,
                pid: 123,
                address: address.clone(),
            },
            Event::Bound {
                name: None,
                address: address.clone(),
            },
            Event::Bound {
                name: Some("web".into()),
                address,
            },
            ready(ReadyBasis::Listening),
            ready(ReadyBasis::Message),
            ready(ReadyBasis::Uptime),
            Event::AllReady { workers: 1 },
            Event::AllReady { workers: 4 },
        ]);
        assert_eq!(
            told,
            [
                "worker 2 (pid 123) started in slot 1",
                "worker 2 (pid 123) online",
                "worker 2 (pid 123) listening on 0.0.0.0:3000",
                "bound 0.0.0.0:3000 for the workers",
                "bound 0.0.0.0:3000 for the workers, as `web`",
                "worker 2 (pid 123) ready after 1.0 s, as it says",
                "worker 2 (pid 123) ready after 1.0 s, as it stays up and asks for no address",
                "the worker is ready",
                "all 4 workers are ready",
            ]
        );
    }

    #[test]
    fn a_worker_that_ends() {
        let exit = |status, reason, voluntary| {
            let uptime = Duration::from_millis(3_200);
            Event::Exit {
                worker: WORKER,
                slot: SLOT,
                pid: 123,
                generation: 1,
                status,
                reason,
                forced: false,
                oom: false,
                voluntary,
                uptime,
            }
        };
        let killed = ExitStatus::Signal {
            signal: 9,
            core: false,
        };
        let told = lines(&[
            Event::Disconnect {
                worker: WORKER,
                slot: SLOT,
                pid: 123,
            },
            exit(ExitStatus::Code(1), ExitReason::Own, false),
            exit(ExitStatus::Code(0), ExitReason::Own, true),
            exit(ExitStatus::Code(0), ExitReason::Stopped, true),
            exit(killed, ExitReason::KillTimeout, true),
            exit(killed, ExitReason::ListenTimeout, false),
            exit(killed, ExitReason::Protocol, false),
            Event::SpawnFailed {
                worker: WORKER,
                slot: SLOT,
                why: "no such file".into(),
            },
            Event::Respawn {
                slot: SLOT,
                delay: Duration::ZERO,
                death: Death::Early { in_a_row: 1 },
            },
            Event::Respawn {
                slot: SLOT,
                delay: Duration::from_millis(200),
                death: Death::Early { in_a_row: 3 },
            },
            Event::Respawn {
                slot: SLOT,
                delay: Duration::from_millis(100),
                death: Death::Frequent { deaths: 11 },
            },
        ]);
        assert_eq!(
            told,
            [
                "worker 2 (pid 123) disconnected",
                "worker 2 (pid 123) died with code 1 after 3.2 s",
                "worker 2 (pid 123) left with code 0 after 3.2 s",
                "worker 2 (pid 123) stopped with code 0 after 3.2 s",
                "worker 2 (pid 123) killed after 3.2 s: it did not stop within the kill timeout",
                "worker 2 (pid 123) killed after 3.2 s: it did not listen within the limit",
                "worker 2 (pid 123) killed after 3.2 s: it broke the channel's protocol",
                "worker 2 could not be started: no such file",
                "slot 1 gets a new worker now",
                "slot 1 gets a new worker in 200 ms: 3 early deaths in a row",
                "slot 1 gets a new worker in 100 ms: 11 deaths within 10 s",
            ]
        );
    }

    #[test]
    fn all_else() {
        let told = lines(&[
            Event::Message {
                worker: WORKER,
                slot: SLOT,
                pid: 123,
                message: "{}".into(),
            },
            Event::Error {
                worker: Some(WORKER),
                slot: Some(SLOT),
                pid: Some(123),
                what: "something odd".into(),
            },
            Event::Error {
                worker: Some(WorkerId(9)),
                slot: None,
                pid: None,
                what: "gone".into(),
            },
            Event::Error {
                worker: None,
                slot: None,
                pid: None,
                what: "trouble".into(),
            },
            Event::Stopping,
            Event::Stopped {
                outcome: Outcome::Stopped,
            },
            Event::Stopped {
                outcome: Outcome::Killed { workers: 1 },
            },
            Event::Stopped {
                outcome: Outcome::Failed { status: None },
            },
            Event::Skipped { events: 5 },
        ]);
        assert_eq!(
            told,
            [
                "worker 2 (pid 123): something odd",
                "worker 9: gone",
                "trouble",
                "stopping",
                "stopped",
                "stopped; 1 worker had to be killed",
                "gave up",
                "5 events not shown: this output is read too slowly",
            ]
        );
    }

    #[test]
    fn the_start() {
        let cpus = Cpus::of(8, Some(2));
        let command = "/usr/bin/node /srv/app.js".to_owned();
        let mut it = Start {
            workers: 2,
            cpus,
            policy: "round-robin",
            channel: true,
            command,
            listen: vec![],
        };
        assert_eq!(
            start("app", &it),
            "app: 2 workers, 2 CPUs of 8 by its cgroup's quota, policy round-robin: /usr/bin/node /srv/app.js"
        );
        it.cpus = Cpus::of(1, None);
        it.channel = false;
        it.workers = 1;
        it.listen = vec!["tcp://0.0.0.0:80".into()];
        assert_eq!(
            start("app", &it),
            "app: 1 worker, 1 CPU, sharing tcp://0.0.0.0:80: /usr/bin/node /srv/app.js"
        );
    }

    #[test]
    fn a_taken_port() {
        let owner = Some(Owner {
            pid: 7,
            command: "nginx".into(),
        });
        let failure = BindFailure {
            address: "0.0.0.0:3000".into(),
            errno: 98,
            owner,
        };
        let who = Who::of(WorkerId(1), SLOT, 0);
        assert_eq!(
            bind_failed(who, &failure, true),
            "worker 1 could not listen on 0.0.0.0:3000: address already in use\n\
             hint: port 3000 is held by process 7: nginx"
        );
        assert_eq!(
            bind_failed(who, &failure, false),
            "worker 1 could not listen on 0.0.0.0:3000: address already in use"
        );
    }
}
