//! Exact messages for what can be known to be wrong, and what a plan holds.

use super::*;
use crate::args::{Cli, Verb};
use crate::exit::Exit;
use clap::Parser;

fn parse(words: &[&str]) -> Result<Plan, CliError> {
    let words = ["everup", "run"].iter().chain(words);
    match Cli::try_parse_from(words).unwrap().verb {
        Verb::Run(args) => Plan::parse(*args),
        _ => unreachable!(),
    }
}

fn refused(words: &[&str]) -> (String, String, Exit) {
    let error = parse(words).unwrap_err();
    (error.message(), error.hint().unwrap_or_default(), error.exit())
}

#[test]
fn exact_messages_for_bad_values() {
    for (words, message, hint) in [
        (
            &["-i", "abc", "x.js"][..],
            "invalid value `abc` for --instances: not a number",
            "give a count such as 4, `max` (one per CPU) or -1 (one fewer than CPUs)",
        ),
        (
            &["-i", "2000", "x.js"],
            "invalid value `2000` for --instances: more than 1024 workers",
            "`max` starts one per CPU; more rarely helps",
        ),
        (
            &["--kill-timeout", "soon", "x.js"],
            "invalid value `soon` for --kill-timeout: not a duration",
            "write milliseconds (1500) or a number with a unit: 500ms, 5s, 1m, 1h",
        ),
        (
            &["--kill-signal", "SIGNOPE", "x.js"],
            "invalid value `SIGNOPE` for --kill-signal: not a signal",
            "write a name or a number: TERM, SIGINT, 10",
        ),
        (
            &["--listen", "localhost:http", "x.js"],
            "invalid value `localhost:http` for --listen: `http` is not a port (0 to 65535)",
            "write [name=]tcp://HOST:PORT, HOST:PORT, :PORT, udp://HOST:PORT or unix:/PATH",
        ),
        (
            &["--listen", ":80", "--listen", "a=0.0.0.0:80", "x.js"],
            "invalid value `a=0.0.0.0:80` for --listen: it is given twice",
            "give each address once; all workers share it",
        ),
        (
            &["--env", "production", "x.js"],
            "invalid value `production` for --env: no `=` in it",
            "write --env NODE_ENV=production",
        ),
        (
            &["--env", "=x", "x.js"],
            "invalid value `=x` for --env: not the name of a variable",
            "a name has letters, digits and `_`, and no digit first",
        ),
        (
            &["--instance-var", "A B", "x.js"],
            "invalid value `A B` for --instance-var: not the name of a variable",
            "a name has letters, digits and `_`, and no digit first",
        ),
        (
            &["--node-args", "-r 'x", "x.js"],
            "invalid value `-r 'x` for --node-args: a ' quote is not closed",
            "quotes and backslashes work as in a shell",
        ),
        (
            &["--name", " ", "x.js"],
            "invalid value ` ` for --name: a name has visible characters only, at least one",
            "",
        ),
    ] {
        assert_eq!(
            refused(words),
            (message.into(), hint.into(), Exit::Usage),
            "{words:?}"
        );
    }
}

#[test]
fn exact_messages_for_values_that_almost_are_some() {
    for (words, message, hint) in [
        (
            &["--kill-timeout", "-1", "x.js"][..],
            "invalid value `-1` for --kill-timeout: not a duration",
            "write milliseconds (1500) or a number with a unit: 500ms, 5s, 1m, 1h",
        ),
        (
            &["--listen-timeout", "-1", "x.js"],
            "invalid value `-1` for --listen-timeout: not a duration",
            "write milliseconds (1500) or a number with a unit: 500ms, 5s, 1m, 1h",
        ),
        (
            &["--kill-signal", "-9", "x.js"],
            "invalid value `-9` for --kill-signal: not a signal",
            "write a name or a number: TERM, SIGINT, 10",
        ),
        (
            &["--instance-var", "NODE_UNIQUE_ID", "x.js"],
            "invalid value `NODE_UNIQUE_ID` for --instance-var: everup sets this variable itself",
            "choose another name, such as NODE_APP_INSTANCE",
        ),
        (
            &["--interpreter", "", "x.js"],
            "invalid value `` for --interpreter: it is empty",
            "give a path, the name of a program in PATH, or `none`",
        ),
    ] {
        assert_eq!(
            refused(words),
            (message.into(), hint.into(), Exit::Usage),
            "{words:?}"
        );
    }
}

#[test]
fn exact_messages_for_missing_things() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let file = format!("{path}/server.js");
    std::fs::write(&file, "").unwrap();
    let cwd = format!("{path}/no");
    assert_eq!(
        refused(&["--cwd", &cwd, "x.js"]).0,
        format!("could not use {path}/no as the working directory: no such file or directory")
    );
    assert_eq!(
        refused(&["--cwd", &file, "x.js"]).0,
        format!("could not use {file} as the working directory: not a directory")
    );
    assert_eq!(
        refused(&["--env-file", &cwd, &file]),
        (
            format!("could not read env file {path}/no: no such file or directory"),
            String::new(),
            Exit::Input
        )
    );
    assert_eq!(
        refused(&[&format!("{path}/sever.js")]),
        (
            format!("script {path}/sever.js not found"),
            format!("did you mean {file}?"),
            Exit::Input
        )
    );
    assert_eq!(
        refused(&["--pid-file", &format!("{path}/no/x.pid"), "sleep", "--", "1"]).2,
        Exit::Input
    );
}

#[test]
fn a_plan_for_a_program() {
    let plan = parse(&[
        "sleep",
        "-i",
        "3",
        "--listen",
        "web=:0",
        "--kill-timeout",
        "1500",
        "--kill-signal",
        "int",
        "--env",
        "A=1",
        "--env",
        "A=2=3",
        "--name",
        "web",
        "--listen-timeout",
        "0",
        "--",
        "60",
    ])
    .unwrap();
    let spec = plan.spec;
    assert_eq!((spec.name.as_str(), spec.workers, spec.init), ("web", 3, true));
    assert_eq!(spec.channel, Channel::None);
    assert_eq!(
        (spec.stop.ask, spec.stop.kill_timeout),
        (Ask::Signal(2), Duration::from_millis(1500))
    );
    assert_eq!(spec.listen_timeout, None);
    assert_eq!(spec.env, [("A".into(), "2=3".into())]);
    assert_eq!(
        (spec.program.file_name().unwrap(), &spec.args),
        (OsStr::new("sleep"), &vec!["60".into()])
    );
    assert!(spec.program.is_absolute());
}

#[test]
fn doubts_are_told() {
    let plan = parse(&[
        "sleep",
        "-i",
        "2",
        "--policy",
        "round-robin",
        "--listen-timeout",
        "1",
        "--",
        "60",
    ])
    .unwrap();
    assert_eq!(
        plan.notices,
        [
            "2 workers of a program without Node's channel share no port; pass them one with --listen ADDR, or, if it starts Node \
             itself, run that: everup run \"node app.js\"; if it is built with the everup crate, give it the channel: \
             --channel node",
            "--policy has no effect: all workers accept from the sockets of --listen themselves",
            "--listen-timeout has no effect: nobody can tell when this program listens",
        ]
    );
    assert_eq!(
        refused(&["--shutdown-with-message", "sleep", "--", "1"]).1,
        "use --kill-signal"
    );
}

#[test]
fn the_later_variable_wins_and_defaults_lose() {
    let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    let merged = environment(
        vec![
            pair("PATH", "default"),
            pair("EVERUP_NOT_SET", "default"),
            pair("EVERUP_OURS", "default"),
        ],
        vec![pair("EVERUP_OURS", "1"), pair("X", "1"), pair("X", "2")],
        vec![pair("X", "3")],
        &Outer::Own,
    );
    assert_eq!(
        merged,
        [
            pair("EVERUP_NOT_SET", "default"),
            pair("EVERUP_OURS", "1"),
            pair("X", "3")
        ]
    );
}

#[test]
fn the_workers_path_is_searched() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.js"), "").unwrap();
    let script = directory.path().join("a.js").display().to_string();
    let empty = format!("PATH={}", directory.path().display());
    let (message, hint, exit) = refused(&["--env", &empty, &script]);
    assert_eq!(message, "interpreter `node` not found in PATH");
    assert_eq!(
        (hint.as_str(), exit),
        (
            "install node, or name another one with --interpreter PATH",
            Exit::Input
        )
    );
}

#[test]
fn variables_that_do_not_get_through_are_told() {
    let plan = parse(&[
        "sleep",
        "--env",
        "NODE_CHANNEL_FD=99",
        "--env",
        "LISTEN_FDS=1",
        "--listen",
        ":0",
        "--env",
        "NODE_APP_INSTANCE=7",
        "--env",
        "A=1",
    ]);
    assert_eq!(
        plan.unwrap().notices,
        [
            "the value given for LISTEN_FDS has no effect: everup sets it",
            "the value given for NODE_APP_INSTANCE has no effect: everup sets it",
        ]
    );
}

#[test]
fn a_deleted_directory() {
    let gone = || Err(io::ErrorKind::NotFound.into());
    assert_eq!(here(gone(), Some(Path::new("/tmp"))).unwrap(), Path::new("/tmp"));
    for cwd in [None, Some(Path::new("tmp"))] {
        let error = here(Err(io::Error::from_raw_os_error(2)), cwd).unwrap_err();
        assert_eq!(
            (error.message(), error.hint().unwrap(), error.exit()),
            (
                "could not find out the current directory: no such file or directory".into(),
                "it has been deleted: go to another one, or give --cwd with an absolute path".into(),
                Exit::Input
            )
        );
    }
}

#[test]
fn the_directory_is_in_pwd() {
    let env = |more: &[&str]| {
        let words = ["sleep", "--cwd", "/"].iter().chain(more).copied();
        parse(&words.collect::<Vec<_>>()).unwrap().spec.env
    };
    assert_eq!(env(&[]), [("PWD".into(), "/".into())]);
    assert_eq!(env(&["--env", "PWD=/x"]), [("PWD".into(), "/x".into())]);
}

#[test]
fn a_directory_that_was_entered_by_a_link_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap().join("release-1");
    let link = real.with_file_name("current");
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let entered = |pwd: &Path| as_it_was_entered(&real, Some(pwd.into()));
    assert_eq!(entered(&link), Some(link.clone()));
    assert_eq!(entered(&real), None);
    assert_eq!(entered(Path::new("/")), None, "a PWD that is not true");
    assert_eq!(entered(Path::new("current")), None);
}

#[test]
fn the_channel_is_given_and_taken_by_hand() {
    let plan = parse(&["--channel", "node", "sleep", "--", "60"]).unwrap();
    assert!(matches!(plan.spec.channel, Channel::Node(_)));
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("app.js");
    std::fs::write(&script, "").unwrap();
    let plan = parse(&["--channel", "none", script.to_str().unwrap()]).unwrap();
    assert_eq!(plan.spec.channel, Channel::None);
}
