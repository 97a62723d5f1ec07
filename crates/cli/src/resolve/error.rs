//! Why a program cannot be run, and what to write instead.

use super::line::LineError;
use super::node::{Version, VersionError};
use crate::exit::Exit;
use std::path::PathBuf;

/// Why [`resolve`](super::resolve) found no program to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("the script's name is empty")]
    EmptyName,
    #[error("script {} not found", path.display())]
    ScriptNotFound { path: PathBuf, nearest: Option<String> },
    #[error("script {} not found", path.display())]
    ScriptElsewhere { path: PathBuf, here: PathBuf },
    #[error("`{name}` is neither a file in {} nor a program in PATH", cwd.display())]
    ProgramNotFound {
        name: String,
        cwd: PathBuf,
        nearest: Option<String>,
    },
    #[error("{} is a link to {}, which does not exist", path.display(), target.display())]
    BrokenLink { path: PathBuf, target: PathBuf },
    #[error("{} is no regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("could not read {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is a directory without a main script", path.display())]
    DirectoryWithoutMain { path: PathBuf },
    #[error("{} is neither executable nor a script of a known kind", path.display())]
    NotAProgram { path: PathBuf },
    #[error("{} is not executable", path.display())]
    NotExecutable { path: PathBuf },
    #[error("{} is a configuration file of pm2, not an app", path.display())]
    ConfigFile { path: PathBuf },
    #[error("interpreter `{name}` not found{}", if name.contains('/') { "" } else { " in PATH" })]
    InterpreterNotFound { name: String, given: bool },
    #[error("interpreter `{name}` is {what}")]
    InterpreterUnusable { name: String, what: &'static str },
    #[error("interpreter `{name}` names a version")]
    InterpreterVersion { name: String },
    #[error("{} does not run TypeScript", node.display())]
    TypeScript { node: PathBuf, version: Version },
    #[error("could not find out the version of {}, for TypeScript", node.display())]
    NodeVersion {
        node: PathBuf,
        #[source]
        why: VersionError,
    },
    #[error("{} is TypeScript with JSX, which Node does not run", path.display())]
    Tsx { path: PathBuf },
    #[error("`{command}` would swallow the cluster channel: it runs the app as a process of its own")]
    Wrapper {
        command: String,
        instead: Option<String>,
    },
    #[error("`{command}` keeps a process between everup and the app, which could then outlive everup")]
    Forker { command: String, instead: String },
    #[error("`{command}` would end at once: it leaves the app to another process")]
    Setsid { command: String, instead: String },
    #[error("`{line}` keeps a shell between everup and Node, which then gets no cluster channel")]
    BehindShell { line: String, instead: Option<String> },
    #[error("the shell cannot execute `{script}` in `{line}`")]
    ScriptInLine {
        line: String,
        script: String,
        interpreter: &'static str,
    },
    #[error("`{line}` runs Node in a way that leaves the cluster channel to more than one process")]
    SharedChannel { line: String, instead: Option<String> },
    #[error("`{command}` runs no script, so it cannot be a cluster worker")]
    NodeWithoutScript { command: String },
    #[error("`{command}` has {what}, which would not run", what = if *before { "a script to be run before it" } else { "a script to be run after it" })]
    Hooks {
        command: String,
        hook: String,
        line: String,
        before: bool,
    },
    #[error("package.json in {} has no script `{script}`", directory.display())]
    NoPackageScript {
        directory: PathBuf,
        script: String,
        known: Vec<String>,
    },
    #[error("`{command}` needs a package.json, and there is none in {} or above", cwd.display())]
    NoPackage { command: String, cwd: PathBuf },
    #[error("could not understand {}", path.display())]
    BadPackage {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("scripts in package.json call each other in a circle: {script}")]
    Circle { script: String },
    #[error("could not understand the shell line `{line}`")]
    Line { line: String, source: LineError },
    #[error("arguments after `--` have no place in `{line}`")]
    ArgumentsOfLine { line: String },
    #[error("--node-args has no place in `{line}`")]
    NodeArgsOfLine { line: String },
    #[error("--node-args needs an interpreter, and {} is run as it is", path.display())]
    NodeArgsWithoutInterpreter { path: PathBuf },
    #[error("--interpreter cannot be combined with the shell line `{line}`")]
    InterpreterOfLine { line: String },
    #[error("shell not found in PATH (bash, sh)")]
    NoShell,
}

impl ResolveError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::EmptyName
            | Self::ConfigFile { .. }
            | Self::InterpreterVersion { .. }
            | Self::Wrapper { .. }
            | Self::SharedChannel { .. }
            | Self::Forker { .. }
            | Self::Setsid { .. }
            | Self::BehindShell { .. }
            | Self::ScriptInLine { .. }
            | Self::NodeWithoutScript { .. }
            | Self::Hooks { .. }
            | Self::Line { .. }
            | Self::ArgumentsOfLine { .. }
            | Self::NodeArgsOfLine { .. }
            | Self::NodeArgsWithoutInterpreter { .. }
            | Self::InterpreterOfLine { .. } => Exit::Usage,
            Self::ScriptNotFound { .. }
            | Self::ScriptElsewhere { .. }
            | Self::ProgramNotFound { .. }
            | Self::BrokenLink { .. }
            | Self::NotAFile { .. }
            | Self::InterpreterUnusable { .. }
            | Self::NodeVersion { .. }
            | Self::Unreadable { .. }
            | Self::DirectoryWithoutMain { .. }
            | Self::NotAProgram { .. }
            | Self::NotExecutable { .. }
            | Self::InterpreterNotFound { .. }
            | Self::TypeScript { .. }
            | Self::Tsx { .. }
            | Self::NoPackageScript { .. }
            | Self::NoPackage { .. }
            | Self::BadPackage { .. }
            | Self::Circle { .. }
            | Self::NoShell => Exit::Input,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::ScriptNotFound { nearest: Some(name), .. } | Self::ProgramNotFound { nearest: Some(name), .. } => {
                Some(format!("did you mean {name}?"))
            }
            Self::ScriptElsewhere { here, .. } => {
                Some(format!("it is relative to --cwd; there is {}", here.display()))
            }
            Self::DirectoryWithoutMain { .. } => Some("name the script itself, or set `main` in package.json".into()),
            Self::NotAProgram { path } | Self::NotExecutable { path } => Some(format!(
                "name its interpreter with --interpreter, or make it executable: chmod +x {}",
                path.display()
            )),
            Self::ConfigFile { .. } => {
                Some("name the script that it starts; to run the file itself, add --interpreter node".into())
            }
            Self::InterpreterUnusable { .. } | Self::InterpreterNotFound { given: true, .. } => Some("give its path: --interpreter /opt/node/bin/node".into()),
            Self::InterpreterNotFound { name, .. } => {
                Some(format!("install {name}, or name another one with --interpreter PATH"))
            }
            Self::InterpreterVersion { .. } => {
                Some("give the path of that version: --interpreter ~/.nvm/versions/node/v20.1.0/bin/node".into())
            }
            Self::TypeScript { version, .. } => Some(typescript_hint(*version)),
            Self::Tsx { .. } => Some("use a loader: --node-args \"--import tsx\", or --interpreter bun".into()),
            Self::Wrapper { instead: Some(instead), .. }
            | Self::Forker { instead, .. }
            | Self::BehindShell { instead: Some(instead), .. } => Some(format!(
                "write `{instead}`; with --interpreter none it runs as it is, without sharing a port"
            )),
            Self::Setsid { instead, .. } => {
                Some(format!("write `{instead}`: every worker has a process group of its own"))
            }
            Self::ScriptInLine { script, interpreter, .. } => {
                Some(format!("write its interpreter in front of it: {interpreter} {script}"))
            }
            Self::Wrapper { instead: None, .. } | Self::BehindShell { instead: None, .. } => Some(
                "name the script that it runs, such as `everup run server.js`; with --interpreter none it runs as it \
                 is, without sharing a port"
                    .into(),
            ),
            Self::SharedChannel { instead: Some(instead), .. } => Some(format!("write `{instead}`")),
            Self::SharedChannel { instead: None, .. } => Some("name the script that serves: everup run server.js".into()),
            Self::NodeWithoutScript { .. } => Some("put the code into a file, and run that: everup run app.js".into()),
            Self::Hooks { hook, line, before, .. } => Some(if *before {
                format!("write `npm run {hook} && everup run \"{line}\"`")
            } else {
                format!("write `everup run \"{line}\" && npm run {hook}`")
            }),
            Self::NoPackageScript { known, .. } if !known.is_empty() => Some(format!("it has {}", known.join(", "))),
            Self::ArgumentsOfLine { .. } => Some("write them into the line itself".into()),
            Self::NodeArgsOfLine { .. } => Some("write them after `node` in the line itself".into()),
            Self::NodeArgsWithoutInterpreter { .. } => Some("name the interpreter with --interpreter".into()),
            Self::InterpreterOfLine { .. } => Some("write the interpreter into the line itself".into()),
            _ => None,
        }
    }
}

fn typescript_hint(Version(major, minor, patch): Version) -> String {
    let has = format!("this is {major}.{minor}.{patch}: ");
    format!("{has}take Node 22.6 or later, use a loader (--node-args \"--import tsx\"), or build it first")
}
