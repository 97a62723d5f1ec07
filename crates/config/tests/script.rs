//! Files in JavaScript: what they may use, what stops them, where their errors are.

#![cfg_attr(
    feature = "js",
    expect(clippy::unwrap_used, reason = "a failed test is the answer to each of them")
)]
#![cfg(feature = "js")]

use everup_config::{ConfigError, Loaded, Options, load, sample_ecosystem, sample_simple};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    fn options(&self, node: bool) -> Options {
        let path = std::env::var("PATH").unwrap();
        let env = [("HOME", "/home/me"), ("STAGE", "test"), ("PATH", &path)];
        Options {
            node,
            cwd: self.path(),
            process_env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Options::default()
        }
    }

    fn load(&self, name: &str) -> Result<Loaded, ConfigError> {
        load(Path::new(name), &self.options(false))
    }

    /// The only app's variables, by the embedded engine and by Node.
    fn both(&self, name: &str) -> Vec<String> {
        let env = |node| {
            let loaded =
                load(Path::new(name), &self.options(node)).unwrap_or_else(|error| panic!("{node}: {error}"));
            let env = &loaded.apps[0].env;
            env.iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        };
        let embedded = env(false);
        assert_eq!(embedded, env(true), "the embedded engine, and Node");
        embedded
    }
}

const PACKAGE: (&str, &str) = (
    "node_modules/labels/package.json",
    r#"{"name": "labels", "main": "lib/main.js"}"#,
);
const LABELS: (&str, &str) = (
    "node_modules/labels/lib/main.js",
    "exports.label = (x) => `<${x}>`;",
);

#[test]
fn commonjs_with_what_such_files_use() {
    let text = r#"#!/usr/bin/env node
'use strict';
const path = require('path');
const os = require('node:os');
const fs = require('fs');
const { name, version } = require('./package.json');
const base = require('./base.config');
const { label } = require('labels');
const { execSync, execFileSync } = require('child_process');
class Deploy { #host = 'h'; get host() { return this.#host; } }
module.exports = {
  apps: [{
    ...base.defaults,
    name: `${name}-api`,
    script: path.resolve(__dirname, 'dist', 'api.js'),
    ignore_watch: [/node_modules/, '\\.git'],
    env: {
      A: path.join('a', '..', 'b', './c'), B: path.relative('/a/b', '/a/c/d'), C: path.parse('/x/y.tar.gz').name,
      D: os.cpus().length === os.availableParallelism(), E: fs.existsSync(path.join(__dirname, 'nothing')),
      F: version, G: label('x'), H: execSync('echo $STAGE', { encoding: 'utf8' }).trim(),
      I: execFileSync('echo', ['a b']).toString().trim(), J: process.env.STAGE ?? 'none', K: process?.versions?.node !== undefined,
      L: new Deploy().host, M: path.basename(__filename), N: JSON.parse(fs.readFileSync('./package.json', 'utf8')).version,
      O: fs.readdirSync(__dirname + '/node_modules').join(), P: process.cwd() === __dirname, Q: process.platform,
      R: new URL('postgres://u:p@h:5432/db?x=1').hostname, S: 10n, T: undefined,
    },
  }],
};
"#;
    let folder = Folder::new(&[
        ("ecosystem.config.js", text),
        ("package.json", r#"{"name": "shop", "version": "1.2.3"}"#),
        (
            "base.config.js",
            "module.exports.defaults = { kill_timeout: 5000 };",
        ),
        PACKAGE,
        LABELS,
    ]);
    let env = folder.both("ecosystem.config.js");
    let wanted = [
        "A=b/c",
        "B=../c/d",
        "C=y.tar",
        "D=true",
        "E=false",
        "F=1.2.3",
        "G=<x>",
        "H=test",
        "I=a b",
        "J=test",
        "K=true",
        "L=h",
        "M=ecosystem.config.js",
        "N=1.2.3",
        "O=labels",
        "P=true",
        "Q=linux",
        "R=h",
        "S=10",
    ];
    assert_eq!(env, wanted);
    let app = &folder.load("ecosystem.config.js").unwrap().apps[0];
    assert_eq!(
        (app.name.as_str(), app.kill_timeout.as_deref()),
        ("shop-api", Some("5000"))
    );
    assert_eq!(app.ignore_watch, ["*node_modules*", "\\.git"]);
    assert_eq!(Path::new(&app.script), folder.path().join("dist/api.js"));
}

#[test]
fn modules() {
    let text = r"
import path, { join } from 'node:path';
import { readFileSync } from 'fs';
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';
import pkg from './package.json' with { type: 'json' };
import { defaults } from './base.config.cjs';
import helper, { port } from './helper.mjs';
const require = createRequire(import.meta.url);
const here = path.dirname(fileURLToPath(import.meta.url));
const late = await Promise.resolve('late');
const { port: again } = await import('./helper.mjs');
export default {
  apps: [{ ...defaults, name: pkg.name, script: join(here, 'app.js'), env: {
    A: port, B: late, C: again, D: helper(), E: require('labels').label(1), F: import.meta.dirname === here,
    G: readFileSync(new URL('./package.json', import.meta.url), 'utf8').length,
  } }],
};
";
    let folder = Folder::new(&[
        ("ecosystem.config.mjs", text),
        ("package.json", r#"{"name": "shop"}"#),
        ("base.config.cjs", "module.exports.defaults = { umask: '027' };"),
        (
            "helper.mjs",
            "export const port = 8080; export default () => 'helper';",
        ),
        PACKAGE,
        LABELS,
    ]);
    let env = folder.both("ecosystem.config.mjs");
    assert_eq!(
        env,
        [
            "A=8080", "B=late", "C=8080", "D=helper", "E=<1>", "F=true", "G=16"
        ]
    );
}

#[test]
fn all_ways_to_export_apps() {
    let esm = r#"{"type": "module"}"#;
    for (name, text, package) in [
        (
            "a.config.js",
            "module.exports = { apps: [{ name: 'a', script: 'a.js' }] }",
            "{}",
        ),
        (
            "a.config.js",
            "module.exports = [{ name: 'a', script: 'a.js' }]",
            "{}",
        ),
        (
            "a.config.js",
            "exports.apps = [{ name: 'a', script: 'a.js' }]",
            "{}",
        ),
        (
            "a.config.js",
            "module.exports = async () => ({ name: 'a', script: 'a.js' })",
            "{}",
        ),
        (
            "a.config.js",
            "exports.__esModule = true; exports.default = { apps: [{ name: 'a', script: 'a.js' }] }",
            "{}",
        ),
        (
            "a.config.js",
            "export default { apps: [{ name: 'a', script: 'a.js' }] }",
            "{}",
        ),
        (
            "a.config.js",
            "export const apps = [{ name: 'a', script: 'a.js' }]",
            esm,
        ),
        (
            "a.config.mjs",
            "export const apps = [{ name: 'a', script: 'a.js' }];\nexport const deploy = {};",
            "{}",
        ),
        (
            "a.config.ts",
            "import type { X } from 'x';\ninterface A { b: string }\nconst apps: A[] = [{ name: 'a', script: 'a.js' }];\nexport default { apps } satisfies X;",
            "{}",
        ),
    ] {
        let loaded = Folder::new(&[(name, text), ("package.json", package)]).load(name);
        let loaded = loaded.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(loaded.apps[0].name, "a", "{text}");
    }
}

#[test]
fn what_a_file_prints_is_kept_apart() {
    let text = "console.log('hello', { a: 1 }); module.exports = { apps: [{ name: 'a', script: 'a.js' }] };";
    let folder = Folder::new(&[("a.config.js", text)]);
    assert_eq!(folder.load("a.config.js").unwrap().printed, [r#"hello {"a":1}"#]);
    let loaded = load(Path::new("a.config.js"), &folder.options(true)).unwrap();
    assert_eq!(loaded.printed, ["hello { a: 1 }"]);
}

#[test]
fn errors_have_the_place_in_the_file() {
    for (name, text, wanted) in [
        (
            "a.config.js",
            "const a = 1;\nfunction boom() {\n  return nothing.foo;\n}\nmodule.exports = boom();\n",
            ":3:",
        ),
        ("a.config.js", "module.exports = boom();", ":1:18: ReferenceError"),
        (
            "a.config.js",
            "module.exports = {\n  apps: [{{ oops }]\n};\n",
            ":2:",
        ),
        ("a.config.mjs", "export default {\n  a: nothing,\n};\n", ":2:"),
        (
            "a.config.js",
            "require('./not-there');\n",
            "Cannot find module './not-there'",
        ),
        ("a.config.js", "throw 'a text'", "it throws a text"),
        ("a.config.js", "process.exit(3)", "process.exit(3)"),
        (
            "a.config.js",
            "module.exports = new Promise(() => {})",
            "never comes",
        ),
        (
            "a.config.js",
            "const a = {}; a.a = a; module.exports = a",
            "circular",
        ),
    ] {
        for node in [false, true] {
            let folder = Folder::new(&[(name, text)]);
            let error = load(Path::new(name), &folder.options(node))
                .unwrap_err()
                .to_string();
            // Node has its own words for what is no error of the file's.
            let own = node && !wanted.starts_with(':') && !wanted.contains("Cannot find");
            assert!(
                own || error.contains(wanted) || (node && error.contains(":1:")),
                "{node} {text}: {error}"
            );
        }
    }
}

#[test]
fn what_is_not_there_says_what_to_do() {
    let text = "const crypto = require('crypto');\nmodule.exports = { apps: [{ name: 'a', script: 'a.js', env: { ID: crypto.randomUUID() } }] };";
    let folder = Folder::new(&[("a.config.js", text)]);
    let error = folder.load("a.config.js").unwrap_err();
    assert!(error.to_string().contains("a.config.js:2:"), "{error}");
    assert!(error.to_string().contains("crypto.randomUUID"), "{error}");
    assert!(error.hint().unwrap().contains("--node"), "{error}");
    assert!(load(Path::new("a.config.js"), &folder.options(true)).is_ok());
}

#[test]
fn nothing_runs_for_ever_or_takes_all_memory() {
    for (text, wanted) in [
        (
            "const a = []; for (;;) a.push(new Array(1e5).fill(1));",
            "more than 128 MiB",
        ),
        ("function f() { f(); } f();", "stack"),
        ("while (true) {}", "more than 5 s"),
        ("require('child_process').execSync('sleep 1000')", "too long"),
    ] {
        let begun = Instant::now();
        let error = Folder::new(&[("a.config.js", text)])
            .load("a.config.js")
            .unwrap_err();
        assert!(
            error.to_string().contains(wanted) || error.to_string().contains("more than 5 s"),
            "{text}: {error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
    }
}

#[test]
fn unknown_keys_are_found_in_the_text() {
    let text = "module.exports = {\n  apps: [{ name: 'a', script: 'a.js', max_memory_restrat: '1G' }],\n};\n";
    let loaded = Folder::new(&[("a.config.js", text)]).load("a.config.js").unwrap();
    let place = loaded.warnings[0].place.as_ref().unwrap();
    assert_eq!((place.line, place.column), (2, 39));
    assert_eq!(
        loaded.warnings[0].hint.as_deref(),
        Some("did you mean `max_memory_restart`?")
    );
}

#[test]
fn the_samples_are_files() {
    for text in [sample_ecosystem(), sample_simple()] {
        let loaded = Folder::new(&[("ecosystem.config.js", text)])
            .load("ecosystem.config.js")
            .unwrap();
        assert!(loaded.warnings.is_empty() && !loaded.apps.is_empty());
    }
}
