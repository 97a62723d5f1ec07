//! Several callers at once who want different things of the same apps.

use crate::harness::{Daemon, LIMIT, refused, sleeper, until};
use everup_api::v1::{AppState, Done};
use everup_api::{Error, ErrorCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A source of numbers that is the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// So many interleavings; `EVERUP_INTERLEAVINGS` asks for more.
fn interleavings() -> u64 {
    let asked = std::env::var("EVERUP_INTERLEAVINGS").ok();
    asked.map_or(60, |text| text.parse().unwrap())
}

fn call(random: &mut Random) -> (&'static str, Value) {
    let on = json!({"targets": ["web"]});
    match random.below(7) {
        0 => ("start", json!({"apps": [sleeper("web", 2)]})),
        1 => ("start", json!({"apps": [sleeper("web", 1)], "wait": true})),
        2 => ("delete", on),
        3 => ("reload", on),
        4 => {
            let workers = ["0", "1", "3", "+1"][usize::try_from(random.below(4)).unwrap()];
            ("scale", json!({"target": "web", "workers": workers}))
        }
        5 => ("stop", on),
        _ => ("restart", on),
    }
}

/// An answer that can be true when others interfere.
fn truthful(call: &str, answer: &Result<Done, Error>) {
    let error = match answer {
        Ok(done) => {
            assert!(done.apps.len() <= 1, "{call}: {done:?}");
            let Some(app) = done.apps.first() else { return };
            let Some(error) = &app.error else {
                assert_ne!(app.done, "", "{call}");
                return;
            };
            error
        }
        Err(error) => error,
    };
    let expected = [
        ErrorCode::UnknownApp,
        ErrorCode::Conflict,
        ErrorCode::ReloadFailed,
        ErrorCode::InvalidValue,
    ];
    assert!(expected.contains(&error.code), "{call}: {error:?}");
}

#[test]
fn every_call_ends_with_a_truthful_answer_and_nothing_is_left() {
    let daemon = Daemon::start();
    for seed in 1..=interleavings() {
        let callers: Vec<_> = (0..2)
            .map(|caller| {
                let mut random = Random(seed * 1000 + caller + 0x9e37_79b9_7f4a_7c15);
                let mut client = daemon.client();
                std::thread::spawn(move || {
                    for _ in 0..3 {
                        let (name, body) = call(&mut random);
                        let begun = Instant::now();
                        let answer: Result<Done, Error> = refused(client.ask(name, &body));
                        truthful(name, &answer);
                        assert!(begun.elapsed() < LIMIT, "seed {seed}: {name}");
                        // wait: callers drift apart
                        std::thread::sleep(Duration::from_millis(random.below(4)));
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap_or_else(|_| panic!("seed {seed}"));
        }
        as_it_says(&daemon, seed);
        daemon
            .post::<Done>("delete", &json!({"targets": ["all"]}))
            .unwrap();
        assert_eq!(daemon.list(), [], "seed {seed}");
        until(&format!("seed {seed}: no process is left"), || {
            daemon.processes().is_empty()
        });
    }
}

/// What the list says is what runs.
fn as_it_says(daemon: &Daemon, seed: u64) {
    until(&format!("seed {seed}: what runs is what is told"), || {
        let Some(app) = daemon.app("web") else {
            return daemon.processes().is_empty();
        };
        let mut told: Vec<u32> = app
            .instances
            .iter()
            .chain(&app.others)
            .filter_map(|one| one.pid)
            .collect();
        let mut there = daemon.processes();
        told.sort_unstable();
        there.sort_unstable();
        let wanted = match app.state {
            AppState::Running => usize::try_from(app.target).unwrap(),
            _ => 0,
        };
        told == there && there.len() == wanted
    });
}

#[test]
fn a_stop_ends_what_only_waits() {
    let daemon = Daemon::start();
    let waits = json!({"apps": [{"name": "late", "script": "/bin/sh", "args": ["-c", "exit 0"], "cwd": "/",
        "autorestart": false, "depends_on": {"base": "completed"}}, sleeper("base", 1)]});
    let mut client = daemon.client();
    let start = std::thread::spawn(move || refused(client.ask::<Done>("start", &waits)));
    until("it waits", || {
        daemon
            .app("late")
            .is_some_and(|app| app.state == AppState::Waiting)
    });
    let done = daemon.done("stop", &json!({"targets": ["late"]}));
    assert_eq!(done.apps[0].error, None);
    let started = start.join().unwrap().unwrap();
    let late = started.apps.iter().find(|app| app.app == "late").unwrap();
    assert_eq!(late.error.as_ref().unwrap().code, ErrorCode::Conflict, "{late:?}");
}

#[test]
fn what_is_not_in_time_says_what_goes_on() {
    let daemon = Daemon::start();
    // Deaf to SIGTERM: it is killed after the kill timeout of 5 s.
    daemon
        .start_app(crate::harness::shell(
            "deaf",
            "trap '' TERM; while :; do sleep 1; done",
        ))
        .unwrap();
    until("it is deaf", || {
        daemon.app("deaf").unwrap().instances[0].uptime_ms > 300
    });
    let error = crate::harness::only(daemon.done("stop", &json!({"targets": ["deaf"], "timeout_ms": 100})))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Timeout);
    assert!(error.message.contains("it goes on"), "{error}");
    assert!(error.message.contains("stopping"), "{error}");
    let error = crate::harness::only(daemon.done(
        "scale",
        &json!({"target": "deaf", "workers": "2", "timeout_ms": 50}),
    ))
    .unwrap_err();
    assert_eq!(
        (error.code, error.message.contains("nothing was done")),
        (ErrorCode::Timeout, true),
        "{error}"
    );
    // Killed at once.
    let done = daemon.done("stop", &json!({"targets": ["deaf"], "now": true}));
    assert_eq!(done.apps[0].error, None);
    assert_eq!(daemon.app("deaf").unwrap().state, AppState::Stopped);
}
