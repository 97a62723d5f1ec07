//! Harness for end-to-end tests with real processes.
//!
//! [`Everup`] builds a command line and starts it, [`Run`] is the running program: its events, its output, its
//! workers, its end. [`load`] is the load client, [`Example`] a running program of `examples/rust`, [`http`] asks one question at a time, [`reload`] asks for reloads, [`process`] looks at
//! processes from outside. Every wait is for a state and has a limit.

pub mod binary;
pub mod daemon;
pub mod event;
pub mod example;
pub mod http;
pub mod load;
pub mod process;
pub mod reload;
pub mod run;

pub use daemon::{Daemon, Said};
pub use event::{Event, Seen, Worker};
pub use example::Example;
pub use reload::Receipt;
pub use run::{Ended, Everup, Run};

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a test waits for something that takes milliseconds on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A program of `e2e/fixtures`.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A file or folder of the repository, from its root.
#[must_use]
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("/"))
        .join(path)
}

/// Writes to standard output past the test runner, which shows only what failing tests print.
pub fn say(text: &str) {
    // There is nobody to tell that nobody listens.
    writeln!(std::io::stdout(), "{text}").ok();
}
