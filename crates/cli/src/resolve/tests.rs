//! What is run for what is written: tables over a directory with one file of each kind and a `PATH` of fakes.

mod refusals;

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

struct World {
    directory: tempfile::TempDir,
}

const SHELLS: [&str; 3] = ["bash", "sh", "env"];
const FAKES: [&str; 13] = [
    "python3", "ruby", "php", "perl", "deno", "bun", "npm", "npx", "nodemon", "tsx", "nice", "myprog",
    "ts-node",
];

impl World {
    fn new() -> Self {
        let world = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        world.program("bin/node", "#!/bin/sh\necho v20.1.0\n");
        world.program("bin/node22", "#!/bin/sh\necho v22.10.0\n");
        world.program("bin/node24", "#!/bin/sh\necho v24.1.0\n");
        for name in SHELLS.iter().chain(&FAKES) {
            world.program(&format!("bin/{name}"), "\u{7f}ELF\0");
        }
        for name in [
            "app.js", "app.cjs", "app.mjs", "app.ts", "app.tsx", "app.py", "app.rb", "app.php", "app.pl",
        ] {
            world.file(name, "");
        }
        world.file("app.sh", "");
        world.file("my app.js", "");
        world.file("notes.txt", "some text");
        world.file("ecosystem.config.js", "");
        world.file("www", "#!/usr/bin/env -S node --no-warnings\n");
        world.program("www-x", "#!/usr/bin/env node\n");
        world.program("tool", "#!/usr/bin/env python3\n");
        world.file("tool-n", "#!/usr/bin/env python3\n");
        world.program("tool-tsx", "#!/usr/bin/env tsx\n");
        world.program("plain-sh", "echo hello\n");
        world.program("server", "\u{7f}ELF\0");
        world.file("lib/index.js", "");
        world.file("pkg/package.json", r#"{"main": "start"}"#);
        world.file("pkg/start.js", "");
        world.file("empty/x.txt", "");
        world
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.file(name, text);
        fs::set_permissions(
            self.directory.path().join(name),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
    }

    fn request(&self, script: &str) -> Request {
        let root = self.directory.path();
        let search = Search {
            cwd: root.into(),
            path: root.join("bin").into(),
            node_options: None,
        };
        Request {
            script: script.into(),
            search,
            here: root.into(),
            ..Request::default()
        }
    }

    /// The command as text, with the directory cut away, `+` in front if it has the channel; or the error and hint.
    fn show(&self, result: Result<Program, ResolveError>) -> String {
        let root = format!("{}/", self.directory.path().display());
        let text = match result {
            Ok(program) => {
                let env = program
                    .env
                    .iter()
                    .map(|(k, v)| format!("{}={} ", k.display(), v.display()));
                let words =
                    std::iter::once(program.program.as_os_str()).chain(program.args.iter().map(|a| &**a));
                let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
                let channel = if program.channel { "+" } else { "" };
                format!("{channel}{}{}", env.collect::<String>(), words.join(" "))
            }
            Err(error) => format!("! {error} | {}", error.hint().unwrap_or_default()),
        };
        text.replace(&root, "")
            .replace(root.trim_end_matches('/'), "ROOT")
    }

    fn run(&self, script: &str) -> String {
        self.show(resolve(self.request(script)))
    }

    fn check(&self, table: &[(&str, &str)]) {
        for (script, expected) in table {
            assert_eq!(self.run(script), *expected, "everup run {script:?}");
        }
    }
}

const RUNS_APART: &str = "; with --interpreter none it runs as it is, without sharing a port";

fn wrapped(command: &str, instead: &str) -> String {
    format!(
        "! `{command}` would swallow the cluster channel: it runs the app as a process of its own | \
         {instead}{RUNS_APART}"
    )
}

const NAME_IT: &str = "name the script that it runs, such as `everup run server.js`";

#[test]
fn files() {
    World::new().check(&[
        ("app.js", "+bin/node app.js"),
        ("./app.cjs", "+bin/node app.cjs"),
        ("app.mjs", "+bin/node app.mjs"),
        ("my app.js", "+bin/node my app.js"),
        ("app.py", "bin/python3 app.py"),
        ("app.rb", "bin/ruby app.rb"),
        ("app.php", "bin/php app.php"),
        ("app.pl", "bin/perl app.pl"),
        ("app.sh", "bin/bash app.sh"),
        ("www", "+bin/node --no-warnings www"),
        ("www-x", "+bin/node www-x"),
        ("tool", "tool"),
        ("tool-n", "bin/python3 tool-n"),
        ("plain-sh", "bin/sh plain-sh"),
        ("server", "server"),
        ("lib", "+bin/node lib/index.js"),
        ("./pkg/", "+bin/node pkg/start.js"),
        ("myprog", "bin/myprog"),
    ]);
}

#[test]
fn refused_files() {
    World::new().check(&[
        ("", "! the script's name is empty | "),
        ("ap.js", "! script ap.js not found | did you mean app.js?"),
        ("./lib/indx.js", "! script lib/indx.js not found | did you mean ./lib/index.js?"),
        ("nothing.js", "! script nothing.js not found | "),
        ("./nothing", "! script nothing not found | "),
        ("www-", "! `www-` is neither a file in ROOT nor a program in PATH | did you mean www?"),
        ("frobnicate", "! `frobnicate` is neither a file in ROOT nor a program in PATH | "),
        (
            "notes.txt",
            "! notes.txt is neither executable nor a script of a known kind | name its interpreter with \
             --interpreter, or make it executable: chmod +x notes.txt",
        ),
        (
            "ecosystem.config.js",
            "! ecosystem.config.js is a configuration file of pm2, not an app | name the script that it starts; to \
             run the file itself, add --interpreter node",
        ),
        (
            "empty",
            "! empty is a directory without a main script | name the script itself, or set `main` in package.json",
        ),
    ]);
}

#[test]
fn typescript() {
    let world = World::new();
    let with = |interpreter: Option<&str>, node_args: &[&str], script: &str| {
        let interpreter = interpreter.map(|name| Interpreter::Program(name.into()));
        let node_args = node_args.iter().map(ToString::to_string).collect();
        world.show(resolve(Request {
            interpreter,
            node_args,
            ..world.request(script)
        }))
    };
    assert_eq!(
        with(None, &[], "app.ts"),
        "! bin/node does not run TypeScript | this is 20.1.0: take Node 22.6 or later, use a loader (--node-args \
         \"--import tsx\"), or build it first"
    );
    assert_eq!(
        with(Some("node22"), &[], "app.ts"),
        "+bin/node22 --experimental-strip-types app.ts"
    );
    assert_eq!(
        with(Some("node24"), &["-C", "x"], "app.ts"),
        "+bin/node24 -C x app.ts"
    );
    assert_eq!(
        with(None, &["--import", "tsx"], "app.ts"),
        "+bin/node --import tsx app.ts"
    );
    assert_eq!(
        world.run("node22 app.ts --x"),
        "+bin/node22 --experimental-strip-types app.ts --x"
    );
    assert_eq!(
        with(Some("node24"), &[], "app.tsx"),
        "! app.tsx is TypeScript with JSX, which Node does not run | use a loader: --node-args \"--import tsx\", or \
         --interpreter bun"
    );
    assert_eq!(with(Some("bun"), &[], "app.tsx"), "+bin/bun app.tsx");
    assert_eq!(with(Some("deno"), &["-A"], "app.ts"), "+bin/deno run -A app.ts");
    assert_eq!(
        with(Some("deno"), &["run", "-A"], "app.ts"),
        "+bin/deno run -A app.ts"
    );

    let node_options = Some("--import=tsx".into());
    let request = world.request("app.ts");
    let request = Request {
        search: Search {
            node_options,
            ..request.search
        },
        ..request
    };
    assert_eq!(world.show(resolve(request)), "+bin/node app.ts");
}

#[test]
fn interpreters() {
    let world = World::new();
    let by = |interpreter: &str, script: &str| {
        let interpreter = Some(Interpreter::Program(interpreter.into()));
        world.show(resolve(Request {
            interpreter,
            args: vec!["-x".into()],
            ..world.request(script)
        }))
    };
    assert_eq!(by("node", "notes.txt"), "+bin/node notes.txt -x");
    assert_eq!(
        by("./bin/node", "app.py --a 'b c'"),
        "+bin/node app.py --a b c -x"
    );
    assert_eq!(by("python3", "app.js"), "bin/python3 app.js -x");
    assert_eq!(
        by("node", "ecosystem.config.js"),
        "+bin/node ecosystem.config.js -x"
    );
    assert_eq!(by("node", "lib"), "+bin/node lib/index.js -x");
    assert_eq!(
        by("node", "ap.js"),
        "! script ap.js not found | did you mean app.js?"
    );
    assert_eq!(
        by("nod", "app.js"),
        "! interpreter `nod` not found in PATH | give its path: --interpreter /opt/node/bin/node"
    );
    assert_eq!(
        by("/no/node", "app.js"),
        "! interpreter `/no/node` not found | give its path: --interpreter /opt/node/bin/node"
    );
    assert!(by("node@18", "app.js").starts_with("! interpreter `node@18` names a version | "));
    assert_eq!(
        by("tsx", "app.ts"),
        wrapped(
            "tsx app.ts",
            "write `everup run app.ts --node-args \"--import tsx\"`"
        )
    );

    let direct = |script: &str| {
        world.show(resolve(Request {
            interpreter: Some(Interpreter::Direct),
            ..world.request(script)
        }))
    };
    assert_eq!(direct("www-x"), "www-x");
    assert_eq!(direct("npm start"), "bin/npm start");
    assert_eq!(direct("node -e 1"), "bin/node -e 1");
    assert_eq!(
        direct("app.js"),
        "! app.js is not executable | name its interpreter with --interpreter, or make it executable: chmod +x app.js"
    );
}

#[test]
fn a_missing_interpreter() {
    let world = World::new();
    fs::remove_file(world.directory.path().join("bin/ruby")).unwrap();
    assert_eq!(
        world.run("app.rb"),
        "! interpreter `ruby` not found in PATH | install ruby, or name another one with --interpreter PATH"
    );
}

#[test]
fn lines() {
    World::new().check(&[
        ("node app.js", "+bin/node app.js"),
        ("node app", "+bin/node app"),
        ("node .", "! ROOT is a directory without a main script | name the script itself, or set `main` in package.json"),
        ("node lib", "+bin/node lib"),
        ("A=1 B='x y' node --inspect app.js 'a b'", "+A=1 B=x y bin/node --inspect app.js a b"),
        ("env A=1 node app.js", "+A=1 bin/node app.js"),
        ("A=1 exec cross-env B=2 node app.js", "+A=1 B=2 bin/node app.js"),
        ("nice -n 5 node app.js", "+bin/nice -n 5 node app.js"),
        ("app.js --port 1", "+bin/node app.js --port 1"),
        ("python3 -m http.server", "bin/python3 -m http.server"),
        ("./server -v", "server -v"),
        ("www-x a", "+bin/node www-x a"),
        ("deno run -A app.ts", "+bin/deno run -A app.ts"),
        ("bun run app.ts", "+bin/bun run app.ts"),
        ("node app.js --port $PORT", "+bin/bash -c exec node app.js --port $PORT"),
        ("A=$B node app.js 2>/dev/null", "+bin/bash -c A=$B exec node app.js 2>/dev/null"),
        ("cd lib && node index.js", "+bin/bash -c cd lib && exec node index.js"),
        ("sh -c 'A=1 exec node app.js'", "+A=1 bin/node app.js"),
        ("bash -c 'cd lib; node index.js'", "+bin/bash -c cd lib; exec node index.js"),
        ("python3 app.py | tool", "bin/bash -c python3 app.py | tool"),
        ("npm run build; myprog a", "bin/bash -c npm run build; exec myprog a"),
    ]);
}

#[test]
fn refused_lines() {
    World::new().check(&[
        ("node ap.js", "! script ap.js not found | did you mean app.js?"),
        ("frob app.js", "! `frob` is neither a file in ROOT nor a program in PATH | "),
        ("node 'app.js", "! could not understand the shell line `node 'app.js` | "),
        (
            "node -e 1",
            "! `node -e` runs no script, so it cannot be a cluster worker | put the code into a file, and run that: \
             everup run app.js",
        ),
        (
            "node --inspect",
            "! `node --inspect` runs no script, so it cannot be a cluster worker | put the code into a file, and run \
             that: everup run app.js",
        ),
        ("node --watch app.js", &wrapped("node --watch", "write `everup run app.js`")),
        ("npx serve", &wrapped("npx serve", NAME_IT)),
        ("nodemon -w . app.js", &wrapped("nodemon -w . app.js", NAME_IT)),
        ("nodemon app.js", &wrapped("nodemon app.js", "write `everup run app.js`")),
        ("tsx app.ts", &wrapped("tsx app.ts", "write `everup run app.ts --node-args \"--import tsx\"`")),
        (
            "ts-node app.ts",
            &wrapped("ts-node app.ts", "write `everup run app.ts --node-args \"-r ts-node/register\"`"),
        ),
        ("nice nodemon app.js", &wrapped("nodemon app.js", "write `everup run app.js`")),
        ("tool-tsx", &wrapped("tsx tool-tsx", "write `everup run tool-tsx --node-args \"--import tsx\"`")),
        ("npm install", &wrapped("npm install", NAME_IT)),
        ("deno task start", &wrapped("deno task start", NAME_IT)),
        ("npm start --port $X", &wrapped("npm start --port $X", NAME_IT)),
        (
            "node app.js | tool --x",
            "! `node app.js | tool --x` runs Node in a way that leaves the cluster channel to more than one process | \
             write `everup run \"node app.js\" | tool --x`",
        ),
        (
            "node build.js && A=1 node app.js \"$X\"",
            "! `node build.js && A=1 node app.js \"$X\"` runs Node in a way that leaves the cluster channel to more \
             than one process | write `node build.js && everup run \"A=1 node app.js \\\"$X\\\"\"`",
        ),
        (
            "node app.js & wait",
            "! `node app.js & wait` runs Node in a way that leaves the cluster channel to more than one process | \
             name the script that serves: everup run server.js",
        ),
    ]);
}

#[test]
fn listening_programs_may_be_anything() {
    let world = World::new();
    for (script, expected) in [
        ("npm start", "bin/npm start"),
        ("node -e 1", "bin/node -e 1"),
        ("node app.js | tool", "bin/bash -c node app.js | tool"),
        ("app.js", "+bin/node app.js"),
        ("node app.js", "+bin/node app.js"),
    ] {
        let request = Request {
            listens: true,
            ..world.request(script)
        };
        assert_eq!(world.show(resolve(request)), expected, "{script}");
    }
}

#[test]
fn arguments_and_node_args() {
    let world = World::new();
    let with = |script: &str, args: &[&str], node_args: &[&str]| {
        let args = args.iter().map(OsString::from).collect();
        let node_args = node_args.iter().map(ToString::to_string).collect();
        world.show(resolve(Request {
            args,
            node_args,
            ..world.request(script)
        }))
    };
    assert_eq!(
        with("app.js", &["-i", "1"], &["--inspect"]),
        "+bin/node --inspect app.js -i 1"
    );
    assert_eq!(
        with("node", &["-r", "x", "app.js", "y"], &["-z"]),
        "+bin/node -r x -z app.js y"
    );
    assert_eq!(
        with("node -- app.js", &["y"], &["-z"]),
        "+bin/node -z -- app.js y"
    );
    assert_eq!(
        with("nice -n 1 node app.js", &[], &["-z"]),
        "+bin/nice -n 1 node -z app.js"
    );
    assert_eq!(with("npm", &["install"], &[]), wrapped("npm install", NAME_IT));
    assert_eq!(with("app.py", &[], &["-u"]), "bin/python3 -u app.py");
    assert_eq!(with("tool", &[], &["-u"]), "bin/python3 -u tool");
    assert_eq!(
        with("node app.js $X", &["a b"], &[]),
        "+bin/bash -c exec node app.js $X \"$@\" everup a b"
    );
    assert_eq!(
        with("python3 app.py | tool", &["a"], &[]),
        "! arguments after `--` have no place in `python3 app.py | tool` | write them into the line itself"
    );
    assert_eq!(
        with("node app.js $X", &[], &["-z"]),
        "! --node-args has no place in `node app.js $X` | write them after `node` in the line itself"
    );
    assert_eq!(
        with("server", &[], &["-z"]),
        "! --node-args needs an interpreter, and server is run as it is | name the interpreter with --interpreter"
    );
    assert_eq!(
        with("app.js", &[], &["--watch"]),
        wrapped("node --watch", "write `everup run app.js`")
    );
    assert!(with("app.js", &[], &["-e", "1"]).starts_with("! `node -e` runs no script"));
}

#[test]
fn scripts_of_packages() {
    let world = World::new();
    world.file(
        "package.json",
        r#"{"name": "shop", "version": "1.2.3", "scripts": {
            "start": "NODE_ENV=production node app.js",
            "again": "npm run start",
            "round": "npm run round",
            "both": "npm run build && node app.js",
            "dev": "nodemon app.js",
            "py": "python3 app.py",
            "bin": "serve -l 80",
            "var": "node app.js $X",
            "hooked": "node app.js", "prehooked": "tsc"
        }}"#,
    );
    world.program("node_modules/.bin/serve", "#!/usr/bin/env node\n");
    world.program("bin/yarn", "");
    world.program("bin/pnpm", "");
    world.check(&[
        ("npm start", "+NODE_ENV=production bin/node app.js"),
        ("npm run start -- --port 1", "+NODE_ENV=production bin/node app.js --port 1"),
        ("A=1 npm -s run start", "+A=1 NODE_ENV=production bin/node app.js"),
        ("yarn start --port 1", "+NODE_ENV=production bin/node app.js --port 1"),
        ("pnpm py", "bin/python3 app.py"),
        ("npm run again", "+NODE_ENV=production bin/node app.js"),
        ("npm run bin", "+bin/node node_modules/.bin/serve -l 80"),
        ("npm run var", "+bin/bash -c exec node app.js $X"),
        ("bun run start", "+NODE_ENV=production bin/node app.js"),
        ("npx serve", &wrapped("npx serve", "write `everup run node_modules/.bin/serve`")),
        ("npm run dev", &wrapped("nodemon app.js", "write `everup run app.js`")),
        ("npm start --port 1", &wrapped("npm start --port 1", NAME_IT)),
        ("npm run round", "! scripts in package.json call each other in a circle: round | "),
        (
            "npm run both",
            "! `npm run build && node app.js` runs Node in a way that leaves the cluster channel to more than one \
             process | write `npm run build && everup run \"node app.js\"`",
        ),
        (
            "npm run hooked",
            "! `npm run hooked` has a script to be run before it, which would not run | write `npm run prehooked && \
             everup run \"node app.js\"`",
        ),
        ("pnpm run hooked", "+bin/node app.js"),
        (
            "npm run nope",
            "! package.json in ROOT has no script `nope` | it has start, again, round, both, dev, py, bin, var, \
             hooked, prehooked",
        ),
    ]);
}

#[test]
fn a_package_above() {
    let world = World::new();
    world.file("package.json", r#"{"name": "shop", "version": "1.2.3"}"#);
    world.file("server.js", "");
    let root = world.directory.path();
    let request = world.request("npm start");
    let request = Request {
        search: Search {
            cwd: root.join("lib"),
            ..request.search
        },
        ..request
    };
    let program = resolve(request).unwrap();
    assert_eq!(program.cwd.as_deref(), Some(root));
    assert_eq!(program.name, "server");
    assert_eq!(
        program.notices,
        [
            "`npm start` is `node server.js`: running that, without the package manager, which would swallow the \
          cluster channel"
        ]
    );
    let default = |name: &str| {
        program
            .env_defaults
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(default("npm_package_name").unwrap(), "shop");
    assert_eq!(default("npm_package_version").unwrap(), "1.2.3");
    assert_eq!(default("npm_lifecycle_event").unwrap(), "start");
}

#[test]
fn names_and_python() {
    let world = World::new();
    let of = |script: &str| resolve(world.request(script)).unwrap();
    for (script, name) in [
        ("app.js", "app"),
        ("node --inspect lib", "index"),
        ("python3 -m http.server", "python3"),
        ("server", "server"),
        ("node app.js $X", "app"),
        ("pkg", "start"),
    ] {
        assert_eq!(of(script).name, name, "{script}");
    }
    for (script, python) in [
        ("app.py", true),
        ("python3 app.py", true),
        ("tool", true),
        ("app.js", false),
    ] {
        assert_eq!(!of(script).env_defaults.is_empty(), python, "{script}");
    }
}

#[test]
fn a_script_where_we_are_but_not_where_it_runs() {
    let world = World::new();
    let request = world.request("app.js");
    let request = Request {
        search: Search {
            cwd: world.directory.path().join("empty"),
            ..request.search
        },
        ..request
    };
    assert_eq!(
        world.show(resolve(request)),
        "! script empty/app.js not found | it is relative to --cwd; there is app.js"
    );
}
