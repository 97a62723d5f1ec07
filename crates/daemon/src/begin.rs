//! How a first daemon begins: with what the disk says.

use crate::app::Variables;
use crate::daemon::Daemon;
use crate::proc;
use crate::state::disk::{self, Found};
use crate::state::stored::{State, Stored};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// The variable by which each worker knows whose it is.
pub(crate) const HOME: &str = "EVERUP_HOME";

impl Daemon {
    /// Begins with what the disk says: apps that ran are started again.
    pub(crate) fn restore(self: &Arc<Self>) {
        self.end_orphans();
        let state = match disk::load::<State>(&self.home.state()) {
            Found::Nothing => return,
            Found::Last(state) => state,
            Found::Previous(state, why) => {
                self.warn(format!("{why}; the state before that is used"));
                state
            }
            Found::Unusable(why) => {
                self.warn(format!("{why}; nothing is known of the apps that ran"));
                return;
            }
        };
        let same_boot = state.boot_id == proc::boot_id();
        let State {
            mut apps, mut parked, ..
        } = state;
        if same_boot {
            apps.iter().for_each(end_leftovers);
        } else if apps.is_empty() {
            // They were put away, but this is another day.
            apps = std::mem::take(&mut parked);
        }
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = parked;
        let saved: BTreeMap<String, Arc<Variables>> = match disk::load::<State>(&self.home.saved()) {
            Found::Last(state) | Found::Previous(state, _) => {
                state.apps.into_iter().filter_map(variables).collect()
            }
            Found::Nothing | Found::Unusable(_) => BTreeMap::new(),
        };
        let bare = Arc::new(bare());
        for stored in apps {
            let inherited = saved.get(&stored.spec.name).unwrap_or(&bare);
            let app = stored.revive(Arc::clone(inherited));
            if self.admit(&app) && app.kept().wanted && app.kept().spec.autostart != Some(false) {
                self.start_again(&app);
            }
        }
    }

    /// Workers of a daemon and a keeper of this home that were killed together, and that no state knows: nobody else would
    /// ever end them.
    fn end_orphans(&self) {
        let home = self.home.path().to_string_lossy();
        // Whoever started us may have been a worker himself.
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
        let ours = [std::process::id(), parent];
        for pid in proc::all().into_iter().filter(|pid| !ours.contains(pid)) {
            if proc::variable(pid, HOME).is_some_and(|of| of == home)
                && let Some(mark) = proc::variable(pid, everup::spec::MARK)
            {
                everup::cluster::end_stray(pid, &mark);
            }
        }
    }

    /// For whoever asks for something next, and for the journal.
    pub(crate) fn warn(&self, what: String) {
        let mut data = serde_json::Map::new();
        data.insert("what".into(), what.as_str().into());
        self.journal.tell("notice", None, None, data);
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }
}

fn variables(stored: Stored) -> Option<(String, Arc<Variables>)> {
    Some((stored.spec.name, stored.inherited?))
}

/// Workers of a daemon and a keeper that were killed together: they are still the same processes.
fn end_leftovers(stored: &Stored) {
    for (pid, born) in &stored.processes {
        if proc::born(*pid) == Some(*born)
            && let Some(mark) = proc::variable(*pid, everup::spec::MARK)
        {
            everup::cluster::end_stray(*pid, &mark);
        }
    }
}

/// What apps get whose starter's variables nobody knows any more.
fn bare() -> Variables {
    const KEPT: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"];
    let kept = |name: &str| KEPT.contains(&name) || name.starts_with("LC_");
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| kept(name))
        .collect()
}
