//! As much of a test harness as `cargo test` and `cargo nextest` ask for.

use std::io::{self, Write as _};
use std::panic;
use std::process::ExitCode;

/// A test and its name.
pub(crate) type Case = (&'static str, fn());

/// Runs those that the arguments select, one after another.
pub(crate) fn run(cases: &[Case], arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let mut out = io::stdout();
    let says = |text: String| writeln!(&out, "{text}").expect("standard output is open");
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let words: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let selected = cases.iter().filter(|(name, _)| {
        let fits = |word: &&String| {
            if has("--exact") {
                *name == word.as_str()
            } else {
                name.contains(word.as_str())
            }
        };
        words.is_empty() || words.iter().any(fits)
    });
    if has("--list") {
        if !has("--ignored") {
            selected.for_each(|(name, _)| says(format!("{name}: test")));
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for (name, case) in selected {
        let passed = panic::catch_unwind(case).is_ok();
        failed |= !passed;
        says(format!(
            "test {name} ... {}",
            if passed { "ok" } else { "FAILED" }
        ));
    }
    out.flush().expect("standard output is open");
    ExitCode::from(u8::from(failed))
}
