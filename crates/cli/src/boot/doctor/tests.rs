//! Each fault of a machine is found as what it is, and nothing else.

use super::check::{Level, findings};
use super::facts::{Cgroup, Daemon, Facts, Feature, Home, Limits, Taken, There, Unit};
use super::*;
use crate::boot::startup::service::Service;
use everup_api::v1::Pong;

fn pong(version: &str) -> Pong {
    Pong {
        pid: 8,
        keeper_pid: 7,
        version: version.into(),
        protocol: 1,
        home: "/h/.everup".into(),
        uptime_ms: 1,
        incarnation: 1,
        fell_back: None,
    }
}

fn unit() -> Unit {
    let expected = Service {
        name: "everup-alice".into(),
        user: "alice".into(),
        home: "/h/.everup".into(),
        program: "/usr/bin/everup".into(),
        path: "/usr/bin".into(),
        wait_ip: false,
        harden: false,
        of_user: false,
    };
    Unit {
        path: "/etc/systemd/system/everup-alice.service".into(),
        text: expected.unit(),
        of_user: false,
        enabled: true,
        linger: false,
        missing_path: Vec::new(),
        expected,
    }
}

/// A machine where all is well.
fn well() -> Facts {
    Facts {
        home: Home {
            path: "/h/.everup".into(),
            there: Some(There {
                directory: true,
                ours: true,
                uid: 1000,
                mode: 0o700,
                writable: true,
                free_bytes: 1 << 30,
                free_inodes: None,
            }),
            can_be_made: true,
        },
        daemon: Daemon {
            our_version: "1.0.0",
            answers: Some(pong("1.0.0")),
            socket: true,
            lock_held: Some(7),
        },
        orphans: Vec::new(),
        unit: Some(unit()),
        init_system: true,
        limits: Limits {
            soft: Some(1024),
            hard: None,
        },
        kernel: "6.18.5-amd64".into(),
        features: vec![Feature {
            name: "pidfd_open",
            needed_for: "x",
            there: true,
        }],
        somaxconn: Some(4096),
        cgroup: Cgroup {
            unified: true,
            writable: true,
        },
        node: Some(("/usr/bin/node".into(), "v20.0.0".into())),
        taken_ports: Vec::new(),
    }
}

/// What a change of the facts makes of the findings that are not good.
fn wrong(change: impl FnOnce(&mut Facts)) -> Wrong {
    let mut facts = well();
    change(&mut facts);
    let found = findings(&facts)
        .into_iter()
        .filter(|finding| finding.level != Level::Good);
    found
        .map(|finding| {
            assert!(finding.hint.is_some(), "{finding:?}");
            (finding.level, finding.text)
        })
        .collect()
}

#[test]
fn nothing_is_wrong_where_all_is_well() {
    assert_eq!(wrong(|_| ()), []);
    let text = text(
        &findings(&well()),
        &Screen {
            width: None,
            colour: false,
        },
    );
    assert!(
        text.starts_with("ok       home       /h/.everup, 1024 MiB free\n"),
        "{text}"
    );
}

/// What is found, of all that is not good.
type Wrong = Vec<(Level, String)>;

/// Each change is found as this, and nothing else.
fn check(cases: Vec<(Level, &str, Wrong)>) {
    for (level, expected, found) in cases {
        let [(found_level, text)] = &found[..] else {
            panic!("{expected}: {found:?}")
        };
        assert!(
            *found_level == level && text.contains(expected),
            "{expected}: {found:?}"
        );
    }
}

#[test]
fn faults_of_the_home() {
    let there = |change: fn(&mut There)| wrong(|facts| facts.home.there.as_mut().map(change).unwrap());
    let long = wrong(|f| f.home.path = format!("/{}", "x".repeat(100)).into());
    let none = wrong(|f| (f.home.there, f.home.can_be_made) = (None, false));
    check(vec![
        (
            Level::Warning,
            "open to others (mode 755)",
            there(|t| t.mode = 0o755),
        ),
        (
            Level::Bad,
            "belongs to uid 5",
            there(|t| (t.ours, t.uid) = (false, 5)),
        ),
        (Level::Bad, "cannot be written", there(|t| t.writable = false)),
        (Level::Bad, "9 MiB are free", there(|t| t.free_bytes = 9 << 20)),
        (Level::Bad, "MiB are free", there(|t| t.free_inodes = Some(3))),
        (Level::Bad, "is no directory", there(|t| t.directory = false)),
        (Level::Bad, "may have 107", long),
        (Level::Bad, "cannot be made", none),
    ]);
}

#[test]
fn faults_of_the_daemon() {
    let old = wrong(|f| f.daemon.answers = Some(pong("0.9.0")));
    let deaf = wrong(|f| f.daemon.answers = None);
    let gone = wrong(|f| (f.daemon.answers, f.daemon.lock_held) = (None, None));
    let left = wrong(|f| f.orphans = vec![(20, "node".into())]);
    let taken = wrong(|f| {
        f.taken_ports = vec![Taken {
            app: "web".into(),
            address: "tcp://0.0.0.0:80".into(),
            pid: 9,
            command: "nginx".into(),
        }];
    });
    check(vec![
        (Level::Warning, "the daemon is 0.9.0", old),
        (Level::Bad, "process 7 holds the lock", deaf),
        (Level::Warning, "its socket is still there", gone),
        (Level::Bad, "gone: 20 (node)", left),
        (
            Level::Bad,
            "web wants tcp://0.0.0.0:80, which process 9 has: nginx",
            taken,
        ),
    ]);
}

#[test]
fn faults_of_the_machine() {
    let few = Limits {
        soft: Some(256),
        hard: Some(1024),
    };
    check(vec![
        (Level::Warning, "nothing starts everup", wrong(|f| f.unit = None)),
        (
            Level::Warning,
            "descriptors: 256 (at most 1024)",
            wrong(|f| f.limits = few),
        ),
        (
            Level::Bad,
            "pidfd_open is not there",
            wrong(|f| f.features[0].there = false),
        ),
        (
            Level::Warning,
            "no PIDFD_GET_INFO",
            wrong(|f| f.kernel = "6.1.0-25".into()),
        ),
        (
            Level::Warning,
            "at most 128 connections",
            wrong(|f| f.somaxconn = Some(128)),
        ),
        (
            Level::Warning,
            "not ours to divide",
            wrong(|f| f.cgroup.writable = false),
        ),
        (Level::Warning, "node is not in PATH", wrong(|f| f.node = None)),
    ]);
}

#[test]
fn a_unit_must_be_current() {
    let change = |change: fn(&mut Unit)| wrong(|facts| facts.unit.as_mut().map(change).unwrap());
    for (expected, found) in [
        (
            "this is /opt/everup",
            change(|unit| unit.expected.program = "/opt/everup".into()),
        ),
        (
            "another EVERUP_HOME",
            change(|unit| unit.expected.home = "/other".into()),
        ),
        (
            "another version",
            change(|unit| unit.text = unit.text.replace("form 1.", "form 0.")),
        ),
        ("is not enabled", change(|unit| unit.enabled = false)),
        ("ends when alice logs out", change(|unit| unit.of_user = true)),
        (
            "looks for programs in /nvm",
            change(|unit| unit.missing_path = vec!["/nvm".into()]),
        ),
    ] {
        let [(_, text)] = &found[..] else {
            panic!("{expected}: {found:?}")
        };
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn this_machine_can_be_looked_at() {
    let facts = Facts::gather().unwrap();
    assert!(facts.features.iter().all(|feature| feature.there));
}
