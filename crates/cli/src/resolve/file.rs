//! A file that is to be run: by its extension, its `#!` line, or as it is.

use super::node::{self, Invocation, Runtime, TypeScript};
use super::search::{base, executable};
use super::shebang::{self, Head, Shebang};
use super::wrapper::refuse_wrapper;
use super::{Program, ResolveError, Scope, missing};
use crate::words;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Runs a file.
pub(super) fn run(scope: &Scope, path: PathBuf, args: Vec<OsString>) -> Result<Program, ResolveError> {
    if scope.direct {
        return directly(scope, path, args);
    }
    if is_pm2_config(&path) {
        return Err(ResolveError::ConfigFile { path });
    }
    match interpreters_of(&path) {
        Some(names) => {
            check_readable(&path)?;
            let Some(program) = scope.search.first_program(names) else {
                return Err(missing::interpreter(scope, names[0], false));
            };
            interpreted(scope, program, vec![], path, args)
        }
        None => by_content(scope, path, args),
    }
}

pub(super) fn has_known_extension(path: &Path) -> bool {
    interpreters_of(path).is_some()
}

/// The program that runs files of this extension.
pub(super) fn interpreter_name(path: &Path) -> Option<&'static str> {
    interpreters_of(path)?.first().copied()
}

/// The programs that run files of this extension, the preferred one first.
fn interpreters_of(path: &Path) -> Option<&'static [&'static str]> {
    Some(match path.extension()?.to_str()? {
        "js" | "cjs" | "mjs" | "ts" | "mts" | "cts" | "tsx" | "jsx" => &["node", "nodejs"],
        "py" => &["python3", "python"],
        "rb" => &["ruby"],
        "php" => &["php"],
        "pl" => &["perl"],
        "sh" | "bash" => &["bash", "sh"],
        _ => return None,
    })
}

fn is_pm2_config(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = ["js", "cjs", "mjs", "json", "yml", "yaml"]
        .iter()
        .find_map(|e| name.strip_suffix(e)?.strip_suffix('.'));
    matches!(
        stem,
        Some("ecosystem.config" | "pm2.config" | "ecosystem" | "process")
    ) && !matches!(name.as_ref(), "ecosystem.js" | "process.js")
}

pub(super) fn check_readable(path: &Path) -> Result<(), ResolveError> {
    match std::fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(ResolveError::Unreadable {
            path: path.into(),
            source,
        }),
    }
}

/// Executes the file itself, and lets the system find out how.
fn directly(scope: &Scope, path: PathBuf, args: Vec<OsString>) -> Result<Program, ResolveError> {
    if !scope.node_args.is_empty() {
        return Err(ResolveError::NodeArgsWithoutInterpreter { path });
    }
    if !executable(&path) {
        return Err(ResolveError::NotExecutable { path });
    }
    Ok(Program::plain(path, args))
}

fn by_content(scope: &Scope, path: PathBuf, args: Vec<OsString>) -> Result<Program, ResolveError> {
    match shebang::look(&path) {
        Ok(Head::Shebang(shebang)) => by_shebang(scope, shebang, path, args),
        Ok(Head::Text) if executable(&path) => {
            // The system would not know how; shells take such a file for a script of theirs.
            let shell = scope.search.first_program(&["sh"]).ok_or(ResolveError::NoShell)?;
            interpreted(scope, shell, vec![], path, args)
        }
        Ok(_) | Err(_) if executable(&path) => directly(scope, path, args),
        Ok(_) => Err(ResolveError::NotAProgram { path }),
        Err(source) => Err(ResolveError::Unreadable { path, source }),
    }
}

fn by_shebang(
    scope: &Scope,
    shebang: Shebang,
    path: PathBuf,
    args: Vec<OsString>,
) -> Result<Program, ResolveError> {
    let Shebang {
        program: name,
        args: options,
    } = shebang;
    let Some(program) = scope.search.program(&name) else {
        return Err(missing::interpreter(scope, &name, false));
    };
    let is_runtime = Runtime::of(&name).is_some();
    if !is_runtime && executable(&path) && scope.node_args.is_empty() {
        refuse_wrapper(scope, &[base(&name).into(), path.clone().into()])?;
        let plain = Program::plain(path.clone(), args);
        return Ok(Program {
            env_defaults: Program::plain(program, vec![]).env_defaults,
            ..plain
        }
        .named(&path));
    }
    interpreted(scope, program, options, path, args)
}

/// Runs a script by an interpreter. `options` come before those of `--node-args`.
pub(super) fn interpreted(
    scope: &Scope,
    program: PathBuf,
    mut options: Vec<String>,
    script: PathBuf,
    args: Vec<OsString>,
) -> Result<Program, ResolveError> {
    options.extend(scope.node_args.iter().cloned());
    let runtime = Runtime::of_file(&program);
    if runtime.is_none() {
        refuse_wrapper(
            scope,
            &[
                program.file_name().unwrap_or_default().into(),
                script.clone().into(),
            ],
        )?;
    }
    if let Some(runtime) = runtime {
        prepare(scope, runtime, &program, &mut options, &script)?;
    }
    let options = options.into_iter().map(OsString::from);
    let all = options
        .chain([script.clone().into_os_string()])
        .chain(args)
        .collect();
    Ok(Program {
        channel: runtime.is_some(),
        ..Program::plain(program, all)
    }
    .named(&script))
}

/// Checks the options of a runtime, and completes them for this script.
fn prepare(
    scope: &Scope,
    runtime: Runtime,
    program: &Path,
    options: &mut Vec<String>,
    script: &Path,
) -> Result<(), ResolveError> {
    let shown = |option: &str| {
        format!(
            "{} {option}",
            program.file_name().unwrap_or_default().to_string_lossy()
        )
    };
    match runtime {
        Runtime::Deno if !options.iter().any(|o| o == "run" || o == "serve") => {
            options.insert(0, "run".into())
        }
        Runtime::Node => match node::invocation(options) {
            Invocation::Watch(option) => return Err(watch(&shown(&option), script)),
            Invocation::NoScript(option) => {
                return Err(ResolveError::NodeWithoutScript {
                    command: shown(&option),
                });
            }
            Invocation::Script(_) | Invocation::Nothing => {}
        },
        Runtime::Deno | Runtime::Bun => {}
    }
    if options.iter().any(|option| option == "--watch") {
        return Err(watch(&shown("--watch"), script));
    }
    if runtime == Runtime::Node
        && let Some(flag) = typescript_flag(scope, program, options, script)?
    {
        options.insert(0, flag.into());
    }
    Ok(())
}

/// The refusal of `--watch`.
pub(super) fn watch(command: &str, script: &Path) -> ResolveError {
    let name = script.file_name().unwrap_or_default().to_string_lossy();
    ResolveError::Wrapper {
        command: command.into(),
        instead: Some(format!("everup run {name}")),
    }
}

/// The option that this Node needs for this script, if it is TypeScript.
pub(super) fn typescript_flag(
    scope: &Scope,
    node: &Path,
    options: &[String],
    script: &Path,
) -> Result<Option<&'static str>, ResolveError> {
    let extension = script.extension().unwrap_or_default();
    let jsx = extension == "tsx" || extension == "jsx";
    if !jsx && !["ts", "mts", "cts"].iter().any(|known| extension == *known) {
        return Ok(None);
    }
    let by_environment = scope
        .search
        .node_options
        .as_ref()
        .map(|options| options.to_string_lossy().into_owned());
    let by_environment = words::split(&by_environment.unwrap_or_default()).unwrap_or_default();
    if node::has_loader(options.iter().chain(&by_environment).map(String::as_str)) {
        return Ok(None);
    }
    if jsx {
        return Err(ResolveError::Tsx { path: script.into() });
    }
    let version = node::version(node).map_err(|why| ResolveError::NodeVersion {
        node: node.into(),
        why,
    })?;
    match version.typescript() {
        TypeScript::Native => Ok(None),
        TypeScript::Flag => Ok(Some("--experimental-strip-types")),
        TypeScript::No => Err(ResolveError::TypeScript {
            node: node.into(),
            version,
        }),
    }
}
