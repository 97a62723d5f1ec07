//! Repository chores, as `cargo xtask <task>`.
//!
//! - `tidy`: the house rules that a compiler cannot check (see [`tidy`]).

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

mod tidy;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

const USAGE: &str = "usage: cargo xtask tidy";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => run_tidy().unwrap_or_else(|error| {
            eprintln!("xtask tidy could not run: {error:#}");
            ExitCode::from(2)
        }),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run_tidy() -> anyhow::Result<ExitCode> {
    let report = tidy::check(&repository_root()?)?;
    for finding in &report.warnings {
        println!("warning: {finding}");
    }
    for finding in &report.errors {
        println!("error: {finding}");
    }
    println!(
        "tidy: {} files, {} errors, {} warnings",
        report.files,
        report.errors.len(),
        report.warnings.len()
    );
    Ok(if report.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The folder above this crate, as cargo tells it at run time.
fn repository_root() -> anyhow::Result<PathBuf> {
    let manifest = env::var("CARGO_MANIFEST_DIR").context("start it as `cargo xtask`")?;
    let root = PathBuf::from(manifest).join("..");
    root.canonicalize()
        .with_context(|| format!("no folder {}", root.display()))
}
