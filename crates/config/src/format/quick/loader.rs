//! Modules: which files are which kind, and how `import` finds them.

use super::host::read_file;
use super::strip;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Function, Module, Object};
use std::path::Path;

/// The prelude's name among the globals: the callbacks here have nothing but the context.
pub(super) const PRELUDE: &str = "__everup";

fn prelude<'js>(ctx: &Ctx<'js>, function: &str) -> rquickjs::Result<Function<'js>> {
    ctx.globals().get::<_, Object<'_>>(PRELUDE)?.get(function)
}

/// Whether a file is a module (`import`), and not a script (`require`): by its extension, the nearest
/// `package.json`, or by what stands in it.
pub(super) fn is_module(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("mjs" | "mts") => return true,
        Some("cjs" | "cts" | "json") => return false,
        _ => {}
    }
    for folder in path.ancestors().skip(1) {
        let Ok(bytes) = std::fs::read(folder.join("package.json")) else {
            continue;
        };
        let package: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match package.get("type").and_then(serde_json::Value::as_str) {
            Some("module") => return true,
            Some("commonjs") => return false,
            _ => break,
        }
    }
    looks_like_a_module(text)
}

/// As Node does since version 22: `import` and `export` at the beginning of a line, and nothing of CommonJS.
fn looks_like_a_module(text: &str) -> bool {
    let is = |word: &str| {
        text.lines().any(|line| {
            let rest = line.strip_prefix(word);
            rest.is_some_and(|rest| rest.starts_with([' ', '{', '*', '\t', '"', '\'']))
        })
    };
    (is("export") || is("import")) && !text.contains("module.exports")
}

/// The text as the engine takes it: without types, without a `#!` line.
pub(super) fn prepared(path: &str, text: String) -> String {
    let text = text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned);
    let text = match text.strip_prefix("#!") {
        Some(rest) => format!("//{rest}"),
        None => text,
    };
    let typed = [".ts", ".mts", ".cts"]
        .iter()
        .any(|extension| path.ends_with(extension));
    if typed { strip::types(&text) } else { text }
}

/// Sets `import.meta`.
pub(super) fn describe(module: &Module<'_, Declared>, file: &str) -> rquickjs::Result<()> {
    let meta = module.meta()?;
    meta.set("url", format!("file://{file}"))?;
    meta.set("filename", file)?;
    let folder = Path::new(file).parent();
    meta.set(
        "dirname",
        folder.map(|folder| folder.to_string_lossy().into_owned()),
    )
}

pub(super) struct NodeResolver;

impl Resolver for NodeResolver {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        if let Some(path) = name.strip_prefix("file://") {
            return Ok(path.to_owned());
        }
        let folder = Path::new(base).parent().unwrap_or(Path::new("/"));
        prelude(ctx, "resolve")?.call((folder.to_string_lossy().into_owned(), name))
    }
}

pub(super) struct NodeLoader;

impl Loader for NodeLoader {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        let text = match name.strip_prefix("node:") {
            Some(builtin) => prelude(ctx, "builtinSource")?.call((builtin,))?,
            None => source_of(ctx, name)?,
        };
        let module = Module::declare(ctx.clone(), name, text)?;
        describe(&module, name)?;
        Ok(module)
    }
}

fn source_of(ctx: &Ctx<'_>, file: &str) -> rquickjs::Result<String> {
    let text = read_file(file).ok_or_else(|| super::throw(ctx, &format!("cannot read {file}")))?;
    if is_module(Path::new(file), &text) {
        return Ok(prepared(file, text));
    }
    prelude(ctx, "scriptSource")?.call((file,))
}
