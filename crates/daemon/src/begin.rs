//! How a daemon begins: with what a predecessor has left in memory, or with what the disk says.

use crate::app::{App, Run, Variables};
use crate::daemon::Daemon;
use crate::follow::follow;
use crate::ledger::AppLedger;
use crate::ops::start;
use crate::proc;
use crate::state::disk::{self, Found};
use crate::state::recall::Recalled;
use crate::state::stored::{Present, State, Stored};
use everup::estate::{Heirloom, Keeping};
use everup::{Cluster, Spec, Status};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};

/// What a dead daemon has left in the table of descriptors.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) recalled: Recalled,
    /// Engines, by app.
    pub(crate) estates: BTreeMap<String, (AppLedger, Heirloom)>,
    /// Connections that were accepted, and belong to nobody that we know of.
    pub(crate) strangers: Vec<OwnedFd>,
    /// Children with the mark of a worker.
    pub(crate) marked: Vec<(u32, String)>,
}

impl Daemon {
    /// Goes on where a predecessor was.
    pub(crate) fn adopt(self: &Arc<Self>, left: Left) {
        let Left {
            recalled,
            mut estates,
            strangers,
            marked,
        } = left;
        let marked = Arc::new(marked);
        let mut strangers = Strangers::of(strangers);
        let mut restart = Vec::new();
        for stored in recalled.apps.into_values() {
            let present = stored.present.clone().unwrap_or_default();
            let inherited = recalled
                .variables
                .get(&present.inherited)
                .cloned()
                .unwrap_or_default();
            let wanted = stored.wanted;
            let app = stored.revive(inherited);
            self.admit(&app);
            let estate = estates.remove(&app.name);
            let adopted = estate.is_some_and(|(ledger, left)| {
                let connections = strangers.for_engine(&left);
                self.adopt_one(&app, &present, ledger, left, &marked, connections)
            });
            self.changed(&app);
            match (adopted, wanted) {
                (false, true) if present.runs => restart.push(app),
                // It was being stopped.
                (true, false) => stop(&app),
                _ => {}
            }
        }
        // Engines of apps that nobody knows: they were being started.
        drop(estates);
        self.start_again(restart);
    }

    fn adopt_one(
        self: &Arc<Self>,
        app: &Arc<App>,
        present: &Present,
        ledger: AppLedger,
        left: Heirloom,
        marked: &Arc<Vec<(u32, String)>>,
        connections: Vec<OwnedFd>,
    ) -> bool {
        let (spec, keeping) = (app.kept().spec.clone(), self.keeping(ledger));
        let output = self.outputs.of(app, &spec, left.limits());
        let adopted = Cluster::adopt(left, output, keeping, Arc::clone(marked));
        let (cluster, events) = match adopted {
            Ok(adopted) => adopted,
            Err(error) => {
                self.warn(format!(
                    "{}: what ran could not be taken over, and is started again: {error}",
                    app.name
                ));
                return false;
            }
        };
        for connection in connections {
            cluster.take_in(connection);
        }
        {
            let mut kept = app.kept();
            if let Some(status) = cluster.ask_status().wait() {
                survey(&mut kept.record, &status, present.all_ready);
            }
            kept.run = Some(Run {
                cluster: Arc::new(cluster),
                firing: None,
                spec: present.running_spec.clone().unwrap_or(spec),
            });
        }
        tokio::spawn(follow(Arc::clone(self), Arc::clone(app), events));
        self.rearm_later(app);
        true
    }

    /// Cron and watches begin again; what they need is looked for in another thread.
    fn rearm_later(self: &Arc<Self>, app: &Arc<App>) {
        let (daemon, app) = (Arc::clone(self), Arc::clone(app));
        tokio::spawn(async move {
            let (spec, inherited) = {
                let kept = app.kept();
                (kept.spec.clone(), Arc::clone(&kept.inherited))
            };
            if spec.cron_restart.is_none() && spec.schedule.is_none() && spec.watch.is_empty() {
                return;
            }
            let armed = match daemon.prepare(&spec, &inherited).await {
                Ok(prepared) => daemon.rearm(&app, prepared.triggers),
                Err(error) => Err(error),
            };
            if let Err(error) = armed {
                daemon.tell("error", &app, serde_json::json!({"what": error.message}));
            }
        });
    }

    /// What makes an engine one that outlives us, where there is a keeper.
    pub(crate) fn keeping(&self, ledger: AppLedger) -> Keeping {
        Keeping {
            ledger: Box::new(ledger),
            exits: self.exits.clone(),
        }
    }

    /// Starts an engine: one that outlives us, if there is somebody who keeps it.
    pub(crate) fn engine(&self, spec: Spec) -> Result<(Cluster, everup::Events), everup::StartError> {
        if self.exits.is_none() {
            return Cluster::start(spec);
        }
        let ledger = AppLedger::create(&spec.name).map_err(|source| everup::StartError::System {
            what: "make a memory",
            source,
        })?;
        Cluster::start_kept(spec, self.keeping(ledger))
    }

    /// Begins with what the disk says: apps that ran are started again.
    pub(crate) fn restore(self: &Arc<Self>) {
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
        let mut wanted = Vec::new();
        for stored in apps {
            let inherited = saved.get(&stored.spec.name).unwrap_or(&bare);
            let app = stored.revive(Arc::clone(inherited));
            if self.admit(&app) && app.kept().wanted && app.kept().spec.autostart != Some(false) {
                wanted.push(app);
            }
        }
        self.start_again(wanted);
    }

    /// Starts apps that are known, in the background.
    pub(crate) fn start_again(self: &Arc<Self>, apps: Vec<Arc<App>>) {
        for app in apps {
            let daemon = Arc::clone(self);
            // Known to be wanted before anybody can ask.
            app.kept().phase = crate::app::Phase::Starting;
            tokio::spawn(async move {
                if let Err(error) = start::again(&daemon, &app).await {
                    app.kept().because = Some(error.message.clone());
                    daemon.tell("error", &app, serde_json::json!({"what": error.message}));
                }
                daemon.changed(&app);
            });
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

fn stop(app: &App) {
    if let Some(cluster) = app.kept().cluster() {
        cluster.stop();
    }
}

/// Who is there, as the engine says.
fn survey(record: &mut crate::record::Record, status: &Status, all_ready: bool) {
    let now = crate::view::now();
    let lives = status.workers.iter().map(|worker| {
        let life = crate::record::Life {
            slot: worker.slot.0,
            pid: worker.pid,
            generation: worker.generation,
            started_at: now.saturating_sub(crate::view::millis(worker.uptime)),
            ready: worker.state == everup::State::Online,
            born: proc::born(worker.pid),
        };
        (worker.id.0, life)
    });
    record.resume(lives.collect(), all_ready);
}

/// Connections that nobody knows, each for the engine that serves its address.
struct Strangers(Vec<(OwnedFd, std::net::SocketAddr)>);

impl Strangers {
    fn of(connections: Vec<OwnedFd>) -> Self {
        let local = |connection: OwnedFd| {
            let local = rustix::net::getsockname(connection.as_fd()).ok()?;
            Some((connection, local.try_into().ok()?))
        };
        Self(connections.into_iter().filter_map(local).collect())
    }

    fn for_engine(&mut self, left: &Heirloom) -> Vec<OwnedFd> {
        let (mine, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(_, local)| left.serves(*local));
        self.0 = others;
        let mine: Vec<_> = mine;
        mine.into_iter().map(|(connection, _)| connection).collect()
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
