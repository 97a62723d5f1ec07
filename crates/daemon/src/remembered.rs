//! What the state of a daemon that does not run says of its apps.

use crate::home::Home;
use crate::state::disk;
use crate::state::stored::{State, Stored};
use std::path::Path;

/// The names of apps that are known although no daemon runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remembered {
    /// The next daemon has them, and starts those that are to run.
    pub apps: Vec<String>,
    /// `kill` has put them away, and nothing was saved: `resurrect` brings them back.
    pub parked: Vec<String>,
}

impl Remembered {
    /// Looks, and changes nothing. Nothing that can be used is nothing known.
    #[must_use]
    pub fn at(home: &Path) -> Self {
        let home = Home::new(home.into());
        let state: State = disk::peek(&home.state()).unwrap_or_default();
        let saved = home.saved().exists();
        let names = |stored: Vec<Stored>| stored.into_iter().map(|stored| stored.spec.name).collect();
        Self {
            apps: names(state.apps),
            parked: names(if saved { Vec::new() } else { state.parked }),
        }
    }
}
