//! What JavaScript may ask of the system: files to read, commands to run, facts of the machine.

use super::super::process;
use super::{named, throw};
use crate::Options;
use crate::finding::Source;
use rquickjs::{Ctx, Function, Object, Value};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The object that the prelude gets.
pub(super) fn object<'js>(
    ctx: &Ctx<'js>,
    source: &Source,
    options: &Options,
    deadline: Instant,
) -> rquickjs::Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    let facts = facts(source, options);
    let environment = options.process_env.clone();
    let (entry, text) = (source.path.to_string_lossy().into_owned(), source.text.clone());
    host.set("info", Function::new(ctx.clone(), move || facts.clone())?)?;
    host.set("kind", Function::new(ctx.clone(), |path: String| kind(&path))?)?;
    // The file itself was read already, and TypeScript is JavaScript from here on.
    let read = move |path: String| {
        let text = if path == entry {
            Some(text.clone())
        } else {
            read_file(&path)
        };
        text.map(|text| super::loader::prepared(&path, text))
    };
    host.set("readFile", Function::new(ctx.clone(), read)?)?;
    host.set(
        "realpath",
        Function::new(ctx.clone(), |path: String| realpath(&path))?,
    )?;
    host.set(
        "readdir",
        Function::new(ctx.clone(), |path: String| readdir(&path))?,
    )?;
    host.set(
        "isModule",
        Function::new(ctx.clone(), |path: String, text: String| {
            super::loader::is_module(Path::new(&path), &text)
        })?,
    )?;
    let run = move |ctx: Ctx<'js>, shell: bool, words: Vec<String>, folder: String| {
        let left = deadline.saturating_duration_since(Instant::now());
        run(shell, &words, &folder, &environment, left).map_err(|error| throw(&ctx, &error))
    };
    host.set("exec", Function::new(ctx.clone(), run)?)?;
    let compile = |ctx: Ctx<'js>, code: String, file: String| -> rquickjs::Result<Value<'js>> {
        ctx.eval_with_options(code, named(&file))
    };
    host.set("compile", Function::new(ctx.clone(), compile)?)?;
    Ok(host)
}

/// What `process` and `os` tell.
fn facts(source: &Source, options: &Options) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kibibytes = |key: &str| {
        let line = memory
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    };
    let variable = |name: &str, otherwise: &str| {
        let value = options.process_env.get(name);
        value.map_or_else(|| otherwise.to_owned(), Clone::clone)
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "platform": "linux",
        "arch": arch,
        "hostname": read("/proc/sys/kernel/hostname").trim(),
        "release": read("/proc/sys/kernel/osrelease").trim(),
        "cwd": options.cwd,
        "home": variable("HOME", "/"),
        "tmp": variable("TMPDIR", "/tmp"),
        "user": variable("USER", "root"),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "totalmem": kibibytes("MemTotal"),
        "freemem": kibibytes("MemAvailable"),
        "uid": rustix::process::getuid().as_raw(),
        "gid": rustix::process::getgid().as_raw(),
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
        "entry": source.path,
        "env": options.process_env,
    })
    .to_string()
}

/// 0: nothing, 1: a file, 2: a folder.
fn kind(path: &str) -> i32 {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => 1,
        Ok(meta) if meta.is_dir() => 2,
        Ok(_) | Err(_) => 0,
    }
}

pub(super) fn read_file(path: &str) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn realpath(path: &str) -> String {
    std::fs::canonicalize(path).map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn readdir(path: &str) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(path).ok()?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Some(names)
}

/// Runs a command to its end, and gives its output. Killed when there is no time left.
fn run(
    shell: bool,
    words: &[String],
    folder: &str,
    environment: &std::collections::BTreeMap<String, String>,
    left: Duration,
) -> Result<String, String> {
    let (program, arguments) = match words.split_first() {
        Some((line, _)) if shell => ("/bin/sh", vec!["-c", line.as_str()]),
        Some((program, arguments)) => (program.as_str(), arguments.iter().map(String::as_str).collect()),
        None => return Err("no command".to_owned()),
    };
    let shown = words.join(" ");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(folder);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::TimedOut => format!("Command took too long: {shown}"),
        _ => format!("Command failed: {shown}: {error}"),
    };
    let ended = process::run(&mut command, left).map_err(failed)?;
    if !ended.status.success() {
        return Err(format!(
            "Command failed: {shown}: {} {}",
            ended.status,
            ended.err.trim()
        ));
    }
    Ok(ended.out)
}
