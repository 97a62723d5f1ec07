//! `everup cleardump`: nothing is saved any more. What runs, and what is started with the daemon, stays as it is.

use super::home::home;
use super::told::{Outcome, Told, say};
use crate::exit::Exit;
use std::fs;
use std::io;

/// What `save` writes.
const SAVED: &str = "saved.json";

pub(super) fn cleardump() -> Outcome {
    let path = home()?.join(SAVED);
    match fs::remove_file(&path) {
        Ok(()) => say(&format!("removed {}\n", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => say("nothing was saved\n"),
        Err(error) => return Err(Told::file("remove", &path, &error)),
    }
    Ok(Exit::Ok)
}
