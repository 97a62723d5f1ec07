//! Meanings, and exact messages for what means nothing.

use super::*;
use crate::exit::Exit;

/// The arguments with one option set by `set`.
fn with(set: impl FnOnce(&mut LimitsArgs)) -> LimitsArgs {
    let mut args = LimitsArgs::default();
    set(&mut args);
    args
}

fn refused(set: impl FnOnce(&mut LimitsArgs)) -> (String, String) {
    let error = parse(&with(set)).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    (error.message(), error.hint().unwrap_or_default())
}

#[test]
fn nothing_is_the_default() {
    assert_eq!(parse(&LimitsArgs::default()).unwrap(), Limits::default());
}

#[test]
fn values() {
    let args = with(|args| {
        args.umask = Some("0027".into());
        args.nice = Some("-5".into());
        args.rlimit = ["nofile=1024:65536", "core=unlimited", "AS=2G"]
            .map(Into::into)
            .into();
        args.keep_cap = ["net_bind_service", "CAP_SYS_NICE"].map(Into::into).into();
        args.memory_max = Some("512M".into());
        args.cpus = Some("1.5".into());
        args.pids_max = Some("64".into());
    });
    let limits = parse(&args).unwrap();
    assert_eq!((limits.umask, limits.nice), (Some(0o27), Some(-5)));
    let shown: Vec<String> = limits
        .rlimits
        .iter()
        .map(|(name, limit)| format!("{name}={limit}"))
        .collect();
    assert_eq!(
        shown,
        [
            "core=unlimited:unlimited",
            "nofile=1024:65536",
            "as=2147483648:2147483648"
        ]
    );
    assert_eq!(limits.keep_caps.len(), 2);
    let cgroup = limits.cgroup;
    assert_eq!(
        (cgroup.memory_max, cgroup.milli_cpus, cgroup.pids_max),
        (Some(512 << 20), Some(1500), Some(64))
    );
}

#[test]
fn lists_of_cpus() {
    let set = |cpus: &[u32]| Some(cpus.iter().copied().collect());
    assert_eq!(cpu_list("0-3,5"), set(&[0, 1, 2, 3, 5]));
    assert_eq!(cpu_list("7"), set(&[7]));
    for text in ["", ",", "3-1", "a", "1-", "-1", "1024", "0,,1", "+1"] {
        assert_eq!(cpu_list(text), None, "{text}");
    }
    assert_eq!(affinity("auto").unwrap(), Affinity::OneEach);
    let (message, _) = refused(|args| args.cpu_affinity = Some("0,1023".into()));
    assert!(
        message.starts_with(
            "invalid value `0,1023` for --cpu-affinity: there is no CPU 1023; this machine has 0"
        ),
        "{message}"
    );
}

#[test]
fn parts_of_cpus() {
    for (text, expected) in [
        ("1", Some(1000)),
        ("0.5", Some(500)),
        ("0.01", Some(10)),
        ("2.2509", Some(2250)),
        ("0.001", None),
        ("0", None),
        ("", None),
        ("1.", None),
        ("-1", None),
        ("9999999999", None),
    ] {
        assert_eq!(milli_cpus(text).ok(), expected, "{text}");
    }
}

#[test]
fn exact_messages() {
    type Set = fn(&mut LimitsArgs);
    let cases: [(Set, &str, &str); 13] = [
        (
            |args| args.uid = Some("no-such-user".into()),
            "invalid value `no-such-user` for --uid: no such user",
            "`getent passwd` lists the users; a number may be given too",
        ),
        (
            |args| args.uid = Some("4000123".into()),
            "invalid value `4000123` for --uid: this user is not in the user database, so its group is not known",
            "name the group too, with --gid",
        ),
        (
            |args| {
                args.uid = Some("root".into());
                args.gid = Some("no-such-group".into());
            },
            "invalid value `no-such-group` for --gid: no such group",
            "`getent group` lists the groups; a number may be given too",
        ),
        (
            |args| args.umask = Some("088".into()),
            "invalid value `088` for --umask: not an octal number of at most three digits",
            "write it as in a shell: 022, 027, 077",
        ),
        (
            |args| args.nice = Some("20".into()),
            "invalid value `20` for --nice: not a number from -20 to 19",
            "",
        ),
        (
            |args| args.oom_score_adj = Some("x".into()),
            "invalid value `x` for --oom-score-adj: not a number from -1000 to 1000",
            "",
        ),
        (
            |args| args.rlimit = vec!["nofile".into()],
            "invalid value `nofile` for --rlimit: no `=` in it",
            "write --rlimit NAME=SOFT or NAME=SOFT:HARD, such as nofile=65536",
        ),
        (
            |args| args.rlimit = vec!["files=1".into()],
            "invalid value `files=1` for --rlimit: there is no resource `files`",
            "the names are cpu, fsize, data, stack, core, rss, nproc, nofile, memlock, as, locks, sigpending, \
             msgqueue, nice, rtprio, rttime",
        ),
        (
            |args| args.rlimit = vec!["nofile=2:1".into()],
            "invalid value `nofile=2:1` for --rlimit: the soft limit is above the hard one",
            "write SOFT:HARD with the smaller one first",
        ),
        (
            |args| args.rlimit = vec!["nofile=2".into(), "nofile=3".into()],
            "invalid value `nofile=3` for --rlimit: it is given twice",
            "give each resource once",
        ),
        (
            |args| args.rlimit = vec!["nofile=1K".into()],
            "invalid value `nofile=1K` for --rlimit: `1K` is no amount",
            "write a number, a size (2G) where bytes are limited, or `unlimited`",
        ),
        (
            |args| args.keep_cap = vec!["root".into()],
            "invalid value `root` for --keep-cap: there is no such capability",
            "the names are those of `man 7 capabilities`, such as net_bind_service",
        ),
        (
            |args| args.memory_high = Some("lots".into()),
            "invalid value `lots` for --memory-high: not a size",
            "write bytes or a number with a unit: 512M, 1.5G",
        ),
    ];
    for (set, message, hint) in cases {
        assert_eq!(refused(set), (message.into(), hint.into()));
    }
}
