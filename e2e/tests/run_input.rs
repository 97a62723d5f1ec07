//! Must show 9: bad input. Each with its exact message and exit code, and nothing left behind.

use anyhow::{Result, ensure};
use e2e::{Everup, Run, fixture};
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

/// Starts with these arguments and expects this end: exit code and standard error without its events.
fn refused(args: &[&str], code: i32, said: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = Everup::run()?.cwd(folder.path()).args(args).start()?;
    let ended = run.ended(Duration::from_secs(60))?;
    ensure!(ended.code() == Some(code), "{args:?}: {}", ended.all());
    let heard = ended.err.join("\n");
    ensure!(
        heard == said,
        "{args:?} says\n{heard}\n--- and should say\n{said}"
    );
    ensure!(ended.out.is_empty(), "{}", ended.all());
    ensure!(fs::read_dir(folder.path())?.count() == 0, "a file is left");
    nothing_left(&run)
}

fn nothing_left(run: &Run) -> Result<()> {
    run.gone(Duration::from_secs(1))
}
