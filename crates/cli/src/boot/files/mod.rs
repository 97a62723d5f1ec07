//! `everup serve-files`: a static server, as pm2's `serve`. In the daemon it is an app like others, with as many workers
//! as are wanted; started by hand it is alone.
//!
//! Parts: `options` (from arguments and `PM2_SERVE_*`), `find` (which file is meant, the only part that looks at
//! directories), `select` (which part of it, or none: pure), `listing`, `mime`, `base64` (pure), `body` (the file in
//! pieces), `server` (connections).
//!
//! Invariants: nothing outside the directory is named by a path (a symbolic link in it may lead out: it is the owner's);
//! no file or folder whose name begins with a dot is served, but `.well-known`; a file is read in pieces.

mod base64;
mod body;
mod find;
mod listing;
mod mime;
mod options;
mod select;
mod server;
#[cfg(test)]
mod tests;

use super::told::{Outcome, Told};
use crate::args::boot::ServeFilesArgs;
use crate::exit::Exit;
use crate::port_owner;
use everup::{ListenError, Worker};
pub(super) use options::Options;
use std::error::Error;

/// Serves until it is asked to stop.
pub(super) fn serve_files(args: &ServeFilesArgs) -> Outcome {
    // First of all: while no other thread runs.
    let worker = Worker::from_env()
        .map_err(|error| Told::new(Exit::Unexpected, chain(&error)))?
        .unwrap_or_else(Worker::alone);
    let options = Options::new(args, |name| std::env::var(name).ok())?;
    server::run(worker, options)
}

fn cannot_listen(error: &ListenError, options: &Options) -> Told {
    let told = Told::new(Exit::Bind, chain(error));
    let owner = port_owner::find(&format!("tcp://{}:{}", options.host, options.port));
    match owner {
        Some(owner) => told.hint(format!(
            "port {} is held by process {}: {}",
            options.port, owner.pid, owner.command
        )),
        None => told,
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
