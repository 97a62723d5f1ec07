//! What is to be known about Node's command line, its versions and its kin.

use crate::duration::show;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A JavaScript runtime that speaks Node's cluster protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Node,
    Deno,
    Bun,
}

impl Runtime {
    /// By the name of its program: `node`, `nodejs`, `node22`, `node-v20`, `deno`, `bun`.
    pub(crate) fn of(program: &str) -> Option<Self> {
        match super::search::base(program) {
            "deno" => Some(Self::Deno),
            "bun" => Some(Self::Bun),
            "nodejs" => Some(Self::Node),
            name => {
                let rest = name.strip_prefix("node")?;
                let version = rest.trim_start_matches(['-', 'v']);
                let good = rest.is_empty() || version.starts_with(|c: char| c.is_ascii_digit());
                good.then_some(Self::Node)
            }
        }
    }

    /// The same, also through a link with another name.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        let by_name = |path: &Path| Self::of(path.file_name()?.to_str()?);
        by_name(path).or_else(|| by_name(&path.canonicalize().ok()?))
    }
}

/// What a list of arguments makes Node do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// It runs the script at this place in the list.
    Script(usize),
    /// It runs none, because of this option.
    NoScript(String),
    /// It watches files, and runs the script as a process of its own.
    Watch(String),
    /// There is nothing to run in the list.
    Nothing,
}

/// Options of Node (14 to 26) whose value may be the next word.
const WITH_VALUE: [&str; 57] = [
    "-r",
    "--require",
    "--import",
    "-C",
    "--conditions",
    "--loader",
    "--experimental-loader",
    "--env-file",
    "--env-file-if-exists",
    "--title",
    "--input-type",
    "--inspect-port",
    "--debug-port",
    "--allow-fs-read",
    "--allow-fs-write",
    "--build-snapshot-config",
    "--cpu-prof-dir",
    "--cpu-prof-interval",
    "--cpu-prof-name",
    "--diagnostic-dir",
    "--disable-proto",
    "--disable-warning",
    "--dns-result-order",
    "--experimental-default-type",
    "--experimental-policy",
    "--experimental-sea-config",
    "--heap-prof-dir",
    "--heap-prof-interval",
    "--heap-prof-name",
    "--heapsnapshot-near-heap-limit",
    "--heapsnapshot-signal",
    "--icu-data-dir",
    "--inspect-publish-uid",
    "--localstorage-file",
    "--max-http-header-size",
    "--network-family-autoselection-attempt-timeout",
    "--openssl-config",
    "--policy-integrity",
    "--redirect-warnings",
    "--report-dir",
    "--report-directory",
    "--report-filename",
    "--report-signal",
    "--secure-heap",
    "--secure-heap-min",
    "--snapshot-blob",
    "--tls-cipher-list",
    "--tls-keylog",
    "--tls-max-v1.2",
    "--trace-event-categories",
    "--trace-event-file-pattern",
    "--trace-require-module",
    "--unhandled-rejections",
    "--use-largepages",
    "--v8-pool-size",
    "--max-old-space-size-percentage",
    "--experimental-config-file",
];

/// Options with which Node runs no script, or none that becomes a cluster worker.
const WITHOUT_SCRIPT: [&str; 20] = [
    "-",
    "-e",
    "--eval",
    "-p",
    "--print",
    "-pe",
    "-c",
    "--check",
    "-i",
    "--interactive",
    "-v",
    "--version",
    "-h",
    "--help",
    "--test",
    "--run",
    "--v8-options",
    "--prof-process",
    "--build-snapshot",
    "--completion-bash",
];

/// Finds the script among the arguments of Node.
pub(crate) fn invocation<S: AsRef<str>>(args: &[S]) -> Invocation {
    let mut at = 0;
    while let Some(arg) = args.get(at).map(AsRef::as_ref) {
        let name = arg.split_once('=').map_or(arg, |(name, _)| name);
        if arg == "--" {
            return if at + 1 < args.len() {
                Invocation::Script(at + 1)
            } else {
                Invocation::Nothing
            };
        }
        if !arg.starts_with('-') {
            return if arg == "inspect" {
                Invocation::NoScript("inspect".into())
            } else {
                Invocation::Script(at)
            };
        }
        if WITHOUT_SCRIPT.contains(&name) {
            return Invocation::NoScript(name.into());
        }
        if name == "--watch" || name == "--watch-path" {
            return Invocation::Watch(name.into());
        }
        at += if name == arg && WITH_VALUE.contains(&name) {
            2
        } else {
            1
        };
    }
    Invocation::Nothing
}

/// How a Node of some version takes TypeScript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TypeScript {
    /// As it is.
    Native,
    /// With `--experimental-strip-types`.
    Flag,
    /// Not at all.
    No,
}

/// A Node's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().strip_prefix('v')?.split(['.', '-']);
        let mut part = || parts.next()?.parse().ok();
        Some(Self(part()?, part()?, part()?))
    }

    /// Type stripping came with 22.6 behind a flag; the flag went with 22.18 and 23.6.
    pub(crate) fn typescript(self) -> TypeScript {
        if self >= Self(23, 6, 0) || (Self(22, 18, 0)..Self(23, 0, 0)).contains(&self) {
            TypeScript::Native
        } else if self >= Self(22, 6, 0) {
            TypeScript::Flag
        } else {
            TypeScript::No
        }
    }
}

/// Why the version of a Node is not known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VersionError {
    #[error("it did not tell within {0}")]
    Late(String),
    #[error("`--version` gave no version")]
    Unclear,
}

/// Asks a Node for its version.
pub(crate) fn version(node: &Path) -> Result<Version, VersionError> {
    version_within(node, Duration::from_secs(10))
}

fn version_within(node: &Path, limit: Duration) -> Result<Version, VersionError> {
    let mut command = Command::new(node);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.env_remove("NODE_OPTIONS");
    // A file that somebody is just writing cannot be executed; that passes.
    let mut spawned = command.spawn();
    for _ in 0..20 {
        let busy = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ExecutableFileBusy;
        if !spawned.as_ref().is_err_and(busy) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        spawned = command.spawn();
    }
    let mut child = spawned.map_err(|_| VersionError::Unclear)?;
    let deadline = Instant::now() + limit;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            child.kill().ok();
            child.wait().ok();
            return Err(VersionError::Late(show(limit)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut text = String::new();
    let output = child.stdout.take();
    let read = output.map(|output| output.take(100).read_to_string(&mut text));
    let version = read.and_then(Result::ok).and_then(|_| Version::parse(&text));
    version.ok_or(VersionError::Unclear)
}

/// Whether a list of Node options loads something that may well understand TypeScript itself.
pub(crate) fn has_loader<'a>(options: impl IntoIterator<Item = &'a str>) -> bool {
    const LOADERS: [&str; 8] = [
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "--experimental-strip-types",
        "--experimental-transform-types",
        "--strip-types",
    ];
    options
        .into_iter()
        .any(|option| LOADERS.contains(&option.split('=').next().unwrap_or(option)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_of_runtimes() {
        for name in [
            "node",
            "/usr/bin/node",
            "nodejs",
            "node22",
            "node-v20.1",
            "node-18",
        ] {
            assert_eq!(Runtime::of(name), Some(Runtime::Node), "{name}");
        }
        assert_eq!(Runtime::of("/opt/deno"), Some(Runtime::Deno));
        assert_eq!(Runtime::of("bun"), Some(Runtime::Bun));
        for name in ["nodemon", "node_exporter", "python3", "ts-node", ""] {
            assert_eq!(Runtime::of(name), None, "{name}");
        }
    }

    #[test]
    fn where_the_script_is() {
        let of = |line: &str| invocation(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(of("app.js"), Invocation::Script(0));
        assert_eq!(
            of("--inspect -r ./x.js --max-old-space-size=9 app.js -e"),
            Invocation::Script(4)
        );
        assert_eq!(of("--env-file .env app.js"), Invocation::Script(2));
        assert_eq!(of("--env-file=.env app.js"), Invocation::Script(1));
        assert_eq!(of("-- -x.js"), Invocation::Script(1));
        assert_eq!(of("-e 1"), Invocation::NoScript("-e".into()));
        assert_eq!(of("--eval=1"), Invocation::NoScript("--eval".into()));
        assert_eq!(of("-"), Invocation::NoScript("-".into()));
        assert_eq!(of("--test"), Invocation::NoScript("--test".into()));
        assert_eq!(of("inspect app.js"), Invocation::NoScript("inspect".into()));
        assert_eq!(of("--watch app.js"), Invocation::Watch("--watch".into()));
        assert_eq!(of("--inspect"), Invocation::Nothing);
        assert_eq!(of(""), Invocation::Nothing);
    }

    #[test]
    fn typescript_by_version() {
        for (text, expected) in [
            ("v18.20.8", TypeScript::No),
            ("v22.5.1", TypeScript::No),
            ("v22.6.0", TypeScript::Flag),
            ("v22.17.1", TypeScript::Flag),
            ("v22.18.0", TypeScript::Native),
            ("v23.0.0", TypeScript::Flag),
            ("v23.5.0", TypeScript::Flag),
            ("v23.6.0", TypeScript::Native),
            ("v26.0.0-nightly2026", TypeScript::Native),
        ] {
            assert_eq!(Version::parse(text).unwrap().typescript(), expected, "{text}");
        }
        assert_eq!(Version::parse("20.1.1"), None);
    }

    #[test]
    fn a_version_that_is_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let ask = |text: &str| {
            let path = directory.path().join("node");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            version_within(&path, Duration::from_millis(300))
        };
        assert_eq!(
            ask("#!/bin/sh\nexec sleep 60\n"),
            Err(VersionError::Late("300 ms".into()))
        );
        assert_eq!(ask("#!/bin/sh\necho hello\n"), Err(VersionError::Unclear));
    }

    #[test]
    fn loaders() {
        assert!(has_loader(["--import", "tsx"]));
        assert!(has_loader(["--require=ts-node/register"]));
        assert!(!has_loader(["--inspect", "--requirex"]));
    }
}
