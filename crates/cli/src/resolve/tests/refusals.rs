//! What is in the way of a script, and lines in which the channel would not reach the app.

use super::*;

const APART: &str = "; with --interpreter none it runs as it is, without sharing a port";

#[test]
fn links_and_special_files() {
    let world = World::new();
    let root = world.directory.path();
    std::os::unix::fs::symlink("nowhere", root.join("dangling.js")).unwrap();
    std::os::unix::fs::symlink("loop.js", root.join("loop.js")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(root.join("sock")).unwrap();
    world.check(&[
        (
            "dangling.js",
            "! dangling.js is a link to nowhere, which does not exist | ",
        ),
        (
            "node ./dangling.js",
            "! dangling.js is a link to nowhere, which does not exist | ",
        ),
        ("./loop.js", "! could not read loop.js | "),
        ("./sock", "! sock is no regular file | "),
        ("app.js/x.js", "! script app.js/x.js not found | "),
    ]);
    drop(socket);
}

/// Root may enter every directory: then there is nothing to see here.
#[test]
fn a_directory_that_may_not_be_entered() {
    let world = World::new();
    world.file("secret/app.js", "");
    let secret = world.directory.path().join("secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&secret).is_err() {
        world.check(&[
            ("secret/app.js", "! could not read secret/app.js | "),
            ("secret", "! could not read secret/package.json | "),
            ("node secret/app.js", "! could not read secret/app.js | "),
        ]);
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn packages_that_cannot_be_read() {
    let world = World::new();
    world.file("bad/package.json", "{nope");
    world.file("bad/index.js", "");
    world.file(
        "package.json",
        r#"{"scripts": {"start": "node app.js", "num": 5}}"#,
    );
    world.check(&[
        ("bad", "! could not understand bad/package.json | "),
        ("node bad", "! could not understand bad/package.json | "),
        (
            "npm run num",
            "! package.json in ROOT has no script `num` | it has start",
        ),
    ]);
}

#[test]
fn interpreters_that_are_none() {
    let world = World::new();
    let by = |interpreter: &str, script: &str| {
        let interpreter = Some(Interpreter::Program(interpreter.into()));
        world.show(resolve(Request {
            interpreter,
            ..world.request(script)
        }))
    };
    let give = "give its path: --interpreter /opt/node/bin/node";
    assert_eq!(
        by("./notes.txt", "app.js"),
        format!("! interpreter `./notes.txt` is not executable | {give}")
    );
    assert_eq!(
        by("./lib", "app.js"),
        format!("! interpreter `./lib` is a directory | {give}")
    );
    for line in ["node app.js", "node app.js $X"] {
        assert_eq!(
            by("node", line),
            format!(
                "! --interpreter cannot be combined with the shell line `{line}` | write the interpreter into the \
                 line itself"
            )
        );
    }
}

#[test]
fn a_process_between_us_and_the_app() {
    let world = World::new();
    for name in ["timeout", "strace", "tini", "setsid"] {
        world.program(&format!("bin/{name}"), "\u{7f}ELF\0");
    }
    let forker = |command: &str, instead: &str| {
        format!(
            "! `{command}` keeps a process between everup and the app, which could then outlive everup | write \
             `{instead}`{APART}"
        )
    };
    let run = "everup run \"node app.js\"";
    world.check(&[
        ("timeout 5 node app.js", &forker("timeout 5 node app.js", run)),
        ("strace -f node app.js", &forker("strace -f node app.js", run)),
        ("tini -- node app.js", &forker("tini -- node app.js", run)),
        ("setsid -w node app.js", &forker("setsid -w node app.js", run)),
        ("timeout 5 npm start", &forker("timeout 5 npm start", "everup run \"npm start\"")),
        (
            "timeout 5 node app.js $X",
            &forker("timeout 5 node app.js $X", "everup run \"node app.js $X\""),
        ),
        ("timeout 5 python3 app.py", "bin/timeout 5 python3 app.py"),
        (
            "setsid ./server -v",
            "! `setsid ./server -v` would end at once: it leaves the app to another process | write `everup run \
             \"./server -v\"`: every worker has a process group of its own",
        ),
        ("setsid -w ./server", "bin/setsid -w ./server"),
    ]);
    let direct = Request {
        interpreter: Some(Interpreter::Direct),
        ..world.request("timeout 5 node app.js")
    };
    assert_eq!(world.show(resolve(direct)), "bin/timeout 5 node app.js");
}

fn behind(line: &str, instead: &str) -> String {
    format!(
        "! `{line}` keeps a shell between everup and Node, which then gets no cluster channel | {instead}{APART}"
    )
}

#[test]
fn a_shell_between_us_and_node() {
    let world = World::new();
    let write = "write `everup run \"node app.js\"`";
    for line in [
        "node app.js && echo x",
        "cd . ; node app.js; frobnicate",
        "time node app.js",
        "if true; then node app.js; fi",
        "while true; do node app.js; done",
        "bash -lc 'node app.js'",
        "sh -e -c 'node app.js'",
    ] {
        let shown = line.replace('\'', "");
        let shown = if line.contains("sh ") { &shown } else { line };
        assert_eq!(world.run(line), behind(shown, write), "{line}");
    }
    world.check(&[
        (
            "if true; then node app.js; else nodemon app.js; fi",
            &behind("if true; then node app.js; else nodemon app.js; fi", NAME_IT),
        ),
        (
            "node build.js && myprog a",
            "bin/bash -c node build.js && exec myprog a",
        ),
        ("bash -lc 'python3 app.py'", "bin/bash -lc python3 app.py"),
        (
            "while true; do python3 app.py; done",
            "bin/bash -c while true; do python3 app.py; done",
        ),
    ]);
    let line = "node build.js && myprog a";
    assert_eq!(
        resolve(world.request(line)).unwrap().notices,
        ["`node build.js` gets no cluster channel: the last command of the line is taken for the app"]
    );
    for line in [
        "time node app.js",
        "node app.js && echo x",
        "bash -lc 'node app.js'",
    ] {
        let listens = Request {
            listens: true,
            ..world.request(line)
        };
        assert!(!resolve(listens).unwrap().channel, "{line}");
    }
}

#[test]
fn scripts_in_shell_lines() {
    let world = World::new();
    world.program("bin/serve", "#!/usr/bin/env node\n");
    world.check(&[
        ("serve -l $PORT", "+bin/bash -c exec serve -l $PORT"),
        ("./www-x $PORT", "+bin/bash -c exec ./www-x $PORT"),
        (
            "app.js -x \"$HOME\"",
            "! the shell cannot execute `app.js` in `app.js -x \"$HOME\"` | write its interpreter in front of it: node \
             app.js",
        ),
        (
            "cd lib && ./app.py",
            "! the shell cannot execute `./app.py` in `cd lib && ./app.py` | write its interpreter in front of it: \
             python3 ./app.py",
        ),
        (
            "serve x && node app.js",
            "! `serve x && node app.js` runs Node in a way that leaves the cluster channel to more than one process | \
             write `serve x && everup run \"node app.js\"`",
        ),
    ]);
}

#[test]
fn names_of_shell_lines() {
    let world = World::new();
    world.program("bin/serve", "#!/usr/bin/env node\n");
    for (script, name) in [
        ("node $(echo app.js)", "node"),
        ("node ap*.cjs", "node"),
        ("node -r ./x.js app.js $X", "app"),
        ("serve -l $PORT", "serve"),
        ("if true; then python3 app.py; fi", "app"),
        ("$X $Y", "app"),
    ] {
        assert_eq!(resolve(world.request(script)).unwrap().name, name, "{script}");
    }
}

#[test]
fn a_node_that_does_not_tell_its_version() {
    let world = World::new();
    world.program("bin/node", "#!/bin/sh\necho hello\n");
    assert_eq!(
        world.run("app.ts"),
        "! could not find out the version of bin/node, for TypeScript | "
    );
}
