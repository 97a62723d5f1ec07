//! From what the user wrote to what is executed: a script, a program or a shell line becomes a program with
//! arguments, and it is known whether Node's cluster channel reaches the app in it.
//!
//! Invariants: nothing is started here (but `node --version`, for TypeScript only); a program that gets the
//! channel is one Node process that runs a script, and no other process before it can take the channel.
//! What cannot be brought into that form is refused, with what to write instead; it is run as a plain program
//! when it gets its sockets by `--listen`, or with `--interpreter none`.

mod command;
mod error;
mod file;
mod line;
mod missing;
mod node;
mod package;
mod search;
mod shebang;
mod shell;
#[cfg(test)]
mod tests;
mod wrapper;

pub(crate) use error::ResolveError;
pub(crate) use search::{Search, executable};

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What the user asked to be run.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) script: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) interpreter: Option<Interpreter>,
    /// Options of the interpreter.
    pub(crate) node_args: Vec<String>,
    /// The app gets its sockets by `--listen`.
    pub(crate) listens: bool,
    pub(crate) search: Search,
    /// Our own directory.
    pub(crate) here: PathBuf,
}

/// `--interpreter`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Interpreter {
    /// `none`: the script is executed as it is.
    Direct,
    /// This program.
    Program(OsString),
}

/// What will be run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// Absolute.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Part of the command: wins over every other source.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Only for variables that are set nowhere else.
    pub(crate) env_defaults: Vec<(OsString, OsString)>,
    /// Where it must be run, if not in the directory that was asked for.
    pub(crate) cwd: Option<PathBuf>,
    /// Node's cluster channel reaches the app.
    pub(crate) channel: bool,
    /// A name for it, if the user gives none.
    pub(crate) name: String,
    /// What the user should know of how it was found.
    pub(crate) notices: Vec<String>,
}

impl Program {
    /// A program that knows nothing of Node.
    fn plain(program: PathBuf, args: Vec<OsString>) -> Self {
        let base = program.file_name().unwrap_or_default().to_string_lossy();
        let python = base.starts_with("python") || base.starts_with("pypy");
        let env_defaults = if python {
            vec![("PYTHONUNBUFFERED".into(), "1".into())]
        } else {
            vec![]
        };
        Self {
            name: stem(&program),
            program,
            args,
            env_defaults,
            ..Self::default()
        }
    }

    fn named(self, script: &Path) -> Self {
        Self {
            name: stem(script),
            ..self
        }
    }
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem.chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { "app".into() } else { name }
}

/// The circumstances of one resolution; a script of a package is resolved within a scope of its own.
#[derive(Debug, Clone)]
struct Scope {
    search: Search,
    node_args: Vec<String>,
    listens: bool,
    /// `--interpreter none`.
    direct: bool,
    /// How many scripts of packages led here.
    depth: u32,
}

impl Scope {
    /// Whether a program that would swallow the channel may run all the same, without one.
    fn plain_will_do(&self) -> bool {
        self.listens || self.direct
    }
}

/// Finds out what is to be run.
pub(crate) fn resolve(request: Request) -> Result<Program, ResolveError> {
    let Request {
        script,
        args,
        interpreter,
        node_args,
        listens,
        search,
        here,
    } = request;
    if script.is_empty() {
        return Err(ResolveError::EmptyName);
    }
    let direct = interpreter == Some(Interpreter::Direct);
    let scope = Scope {
        search,
        node_args,
        listens,
        direct,
        depth: 0,
    };
    if let Some(Interpreter::Program(interpreter)) = interpreter {
        return with_interpreter(&scope, &interpreter, &script, args, &here);
    }
    if let Some(path) = scope.search.file(&script) {
        return file::run(&scope, path, args);
    }
    if let Some(line) = shell_line(&script) {
        return command::from_line(&scope, line, args);
    }
    let path = scope.search.absolute(&script);
    if path.is_dir() {
        match package::main_of(&path)? {
            Some(main) => return file::run(&scope, main, args),
            None if is_bare(&script) && scope.search.program(&script).is_some() => {}
            None => return Err(ResolveError::DirectoryWithoutMain { path }),
        }
    }
    if is_bare(&script) && !file::has_known_extension(&path) {
        let words = std::iter::once(script).chain(args).collect();
        return command::from_words(&scope, words);
    }
    Err(not_found(path, &script, &here))
}

fn shell_line(script: &OsStr) -> Option<&str> {
    script.to_str().filter(|text| text.contains(char::is_whitespace))
}

fn is_bare(script: &OsStr) -> bool {
    !script.as_encoded_bytes().contains(&b'/')
}

fn not_found(path: PathBuf, script: &OsStr, here: &Path) -> ResolveError {
    let elsewhere = here.join(script);
    if elsewhere.is_file() {
        return ResolveError::ScriptElsewhere {
            path,
            here: elsewhere,
        };
    }
    missing::script(path, Path::new(script))
}

/// `--interpreter PATH`: the script must be a file, or a line that begins with one.
fn with_interpreter(
    scope: &Scope,
    interpreter: &OsStr,
    script: &OsStr,
    args: Vec<OsString>,
    here: &Path,
) -> Result<Program, ResolveError> {
    let name = interpreter.to_string_lossy();
    if !name.contains('/') && name.contains('@') {
        return Err(ResolveError::InterpreterVersion { name: name.into() });
    }
    let Some(program) = scope.search.program(interpreter) else {
        return Err(missing::interpreter(scope, &name, true));
    };
    let (path, args) = match (scope.search.file(script), shell_line(script)) {
        (Some(path), _) => (path, args),
        (None, Some(line)) => command::file_and_args(scope, line, args)?,
        (None, None) => {
            let path = scope.search.absolute(script);
            match package::main_of(&path)? {
                Some(main) => (main, args),
                None => return Err(not_found(path, script, here)),
            }
        }
    };
    file::check_readable(&path)?;
    file::interpreted(scope, program, vec![], path, args)
}
