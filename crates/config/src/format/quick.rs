//! JavaScript in this process: QuickJS with as much of Node around it as configuration files use.
//!
//! Job: `require` and `import` of files, packages and built-in modules ([`PRELUDE`]), limits of time and memory, errors
//! with the place in the user's own file. What is not there says so, and names `--node`.
//!
//! Invariant: no file makes this process hang, or take more than [`MEMORY`].

mod host;
mod loader;
mod strip;

use super::Parsed;
use crate::Options;
use crate::finding::{Finding, Source};
use crate::tree::Node;
use rquickjs::context::EvalOptions;
use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Exception, Function, Module, Object, Promise, Runtime, Value,
};
use std::time::{Duration, Instant};

const MEMORY: usize = 128 << 20;
const STACK: usize = 1 << 20;
const TIME: Duration = Duration::from_secs(5);
const PRELUDE: &str = include_str!("../js/prelude.js");
/// What the CommonJS function is called with: it stands before the first line of the file.
pub(super) const WRAPPER: &str = "(function (exports, require, module, __filename, __dirname) {";

/// Evaluates a file, and gives what it exports.
pub(super) fn evaluate(source: &Source, options: &Options) -> Result<Parsed, Finding> {
    let engine = Engine::new(source, options)?;
    engine.run(|ctx, prelude| {
        let file = source.path.to_string_lossy().into_owned();
        let promise: Promise<'_> = if loader::is_module(&source.path, &source.text) {
            let module = Module::declare(
                ctx.clone(),
                file.as_str(),
                loader::prepared(&file, source.text.clone()),
            )?;
            loader::describe(&module, &file)?;
            let (module, evaluated) = module.eval()?;
            evaluated.finish::<()>()?;
            prelude
                .get::<_, Function<'_>>("finishModule")?
                .call((module.namespace()?,))?
        } else {
            prelude.get::<_, Function<'_>>("load")?.call((file,))?
        };
        promise.finish::<String>()
    })
}

/// Evaluates the text as one expression, as pm2 does with JSON files.
pub(super) fn expression(source: &Source, options: &Options) -> Result<Parsed, Finding> {
    let engine = Engine::new(source, options)?;
    engine.run(|ctx, prelude| {
        let value: Value<'_> = ctx.eval_with_options(
            format!("({}\n)", source.text),
            named(&source.path.to_string_lossy()),
        )?;
        let promise: Promise<'_> = prelude.get::<_, Function<'_>>("finish")?.call((value,))?;
        promise.finish::<String>()
    })
}

/// Options to evaluate sloppy code under a file's name.
pub(super) fn named(file: &str) -> EvalOptions {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(file.to_owned());
    options
}

/// What the prelude gives in the end.
#[derive(serde::Deserialize)]
struct Finished {
    value: serde_json::Value,
    printed: Vec<String>,
}

struct Engine<'a> {
    source: &'a Source,
    options: &'a Options,
    deadline: Instant,
    context: Context,
    // Dropped after the context.
    _runtime: Runtime,
}

impl<'a> Engine<'a> {
    fn new(source: &'a Source, options: &'a Options) -> Result<Self, Finding> {
        let failed = |error: rquickjs::Error| source.finding(None, format!("no JavaScript engine: {error}"));
        let runtime = Runtime::new().map_err(failed)?;
        runtime.set_memory_limit(MEMORY);
        runtime.set_max_stack_size(STACK);
        let deadline = Instant::now() + TIME;
        runtime.set_interrupt_handler(Some(Box::new(move || Instant::now() > deadline)));
        runtime.set_loader(loader::NodeResolver, loader::NodeLoader);
        let context = Context::full(&runtime).map_err(failed)?;
        Ok(Self {
            source,
            options,
            deadline,
            context,
            _runtime: runtime,
        })
    }

    /// Runs something that gives JSON.
    fn run(
        &self,
        evaluate: impl for<'js> FnOnce(&Ctx<'js>, &Object<'js>) -> rquickjs::Result<String>,
    ) -> Result<Parsed, Finding> {
        let json = self.context.with(|ctx| {
            let prelude = self.prelude(&ctx);
            let json = prelude.and_then(|prelude| evaluate(&ctx, &prelude));
            json.catch(&ctx).map_err(|error| self.thrown(&error))
        })?;
        let finished: Finished =
            serde_json::from_str(&json).map_err(|error| self.source.finding(None, error.to_string()))?;
        Ok(Parsed {
            root: Node::from(finished.value),
            printed: finished.printed,
        })
    }

    fn prelude<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
        let mut options = EvalOptions::default();
        options.filename = Some("everup:prelude".to_owned());
        let prelude: Function<'_> = ctx.eval_with_options(PRELUDE, options)?;
        let host = host::object(ctx, self.source, self.options, self.deadline)?;
        let prelude: Object<'_> = prelude.call((host, WRAPPER))?;
        ctx.globals().set(loader::PRELUDE, prelude.clone())?;
        Ok(prelude)
    }

    fn thrown(&self, error: &CaughtError<'_>) -> Finding {
        if Instant::now() > self.deadline {
            let message = format!("it took more than {} s", TIME.as_secs());
            return self
                .source
                .finding(None, message)
                .hint("it may take 30 s with --node, in your own Node");
        }
        let CaughtError::Exception(exception) = error else {
            return self.other(error);
        };
        let text = |key: &str| exception.get::<_, Option<String>>(key).ok().flatten();
        let name = text("name").unwrap_or_else(|| "Error".to_owned());
        let message = exception.message().unwrap_or_default();
        if message == "out of memory" {
            let message = format!("it took more than {} MiB", MEMORY >> 20);
            return self
                .source
                .finding(None, message)
                .hint("--node evaluates it in your own Node");
        }
        let first = message.lines().next().unwrap_or_default();
        let mut finding = self.source.finding(None, format!("{name}: {first}"));
        finding.place = self.place(&exception.stack().unwrap_or_default()).map(Box::new);
        finding.hint = hint(text("code").as_deref(), &name);
        finding
    }

    /// Something was thrown that is no error; or the engine has one.
    fn other(&self, error: &CaughtError<'_>) -> Finding {
        let message = match error {
            CaughtError::Value(value) => {
                let text = value.as_string().and_then(|text| text.to_string().ok());
                format!(
                    "it throws {}",
                    text.unwrap_or_else(|| "something that is no error".to_owned())
                )
            }
            CaughtError::Error(rquickjs::Error::WouldBlock) => {
                "it waits for something that never comes".to_owned()
            }
            other => other.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        self.source
            .finding(None, message)
            .hint("--node evaluates it in your own Node")
    }

    /// The first place in the user's own file of a stack.
    fn place(&self, stack: &str) -> Option<crate::Place> {
        let (line, column) = super::node::place(&self.source.path, stack)?;
        let wrapped = line == 1 && !loader::is_module(&self.source.path, &self.source.text);
        let column = if wrapped {
            column.saturating_sub(WRAPPER.len()).max(1)
        } else {
            column
        };
        Some(self.source.at(line, column))
    }
}

fn hint(code: Option<&str>, name: &str) -> Option<String> {
    match code {
        Some("ERR_UNSUPPORTED") => {
            Some("--node evaluates the file in your own Node, which has it".to_owned())
        }
        Some("MODULE_NOT_FOUND") => Some("is it installed? Paths begin with ./".to_owned()),
        Some("ERR_PROCESS_EXIT") => Some("throw an error instead".to_owned()),
        _ if name == "SyntaxError" => {
            Some("newer syntax, or more of TypeScript: --node evaluates it in your own Node".to_owned())
        }
        _ => None,
    }
}

/// An error for JavaScript to catch.
pub(super) fn throw(ctx: &Ctx<'_>, message: &str) -> rquickjs::Error {
    Exception::throw_message(ctx, message)
}
