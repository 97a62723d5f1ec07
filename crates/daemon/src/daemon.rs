//! The daemon's parts, and the list of its apps.
//!
//! Lock order: the list, then an app. No lock is held over a wait.

use crate::app::{App, Variables};
use crate::audit::Audit;
use crate::home::Home;
use crate::ids::Ids;
use crate::journal::Journal;
use crate::launcher::{Launcher, Prepared};
use crate::output::Outputs;
use crate::sample::Samples;
use crate::saving::Saving;
use crate::state::stored::Stored;
use crate::target::{self, Meant, Missing, Named};
use crate::thrift::Thrift;
use everup_api::{AppSpec, Error, ErrorCode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) home: Home,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) journal: Journal,
    pub(crate) outputs: Outputs,
    pub(crate) saving: Saving,
    pub(crate) samples: Samples,
    pub(crate) thrift: Thrift,
    pub(crate) audit: Audit,
    /// Apps that `kill` has put away.
    pub(crate) parked: Mutex<Vec<Stored>>,
    /// What everybody shall know who asks for something next.
    pub(crate) warnings: Mutex<Vec<String>>,
    /// What is wrong with `access.json`, as it was told.
    pub(crate) wrong_access: Mutex<Option<String>>,
    pub(crate) begun: Instant,
    pub(crate) keeper_pid: u32,
    pub(crate) incarnation: u64,
    /// Who buries workers whose parent is dead; `None` without a keeper.
    pub(crate) exits: Option<everup::estate::Exits>,
    /// The way to another program; `None` without a keeper.
    pub(crate) upgrade: Option<everup_keeper::Upgrade>,
    /// Why the last upgrade was taken back.
    pub(crate) fell_back: Option<String>,
    /// The program that takes over when this process ends.
    successor: Mutex<Option<everup_keeper::Checked>>,
    list: Mutex<List>,
    /// Whether nothing new may begin: the daemon ends.
    ending: watch::Sender<Ending>,
}

/// How far the end of the daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Ending {
    No,
    /// Everything is being stopped.
    Stopping,
    /// Nothing is left: the process ends.
    Over,
    /// The process ends, and a successor goes on with everything.
    HandOver,
}

/// All apps, by name.
#[derive(Debug, Default)]
pub(crate) struct List {
    apps: BTreeMap<String, Arc<App>>,
    ids: Ids,
}

/// An app, and one of its instances if an id was given.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) app: Arc<App>,
    pub(crate) id: Option<u32>,
}

/// What a daemon is made of.
pub(crate) struct Parts {
    pub(crate) home: Home,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) journal: Journal,
    pub(crate) outputs: Outputs,
    pub(crate) keeper_pid: u32,
    pub(crate) incarnation: u64,
    pub(crate) exits: Option<everup::estate::Exits>,
    pub(crate) upgrade: Option<everup_keeper::Upgrade>,
    pub(crate) fell_back: Option<String>,
}

impl Daemon {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let audit = Audit::new(parts.home.audit());
        Arc::new(Self {
            home: parts.home,
            launcher: parts.launcher,
            journal: parts.journal,
            outputs: parts.outputs,
            saving: Saving::default(),
            samples: Samples::default(),
            thrift: Thrift::default(),
            audit,
            parked: Mutex::default(),
            warnings: Mutex::default(),
            wrong_access: Mutex::default(),
            begun: Instant::now(),
            keeper_pid: parts.keeper_pid,
            incarnation: parts.incarnation,
            exits: parts.exits,
            upgrade: parts.upgrade,
            fell_back: parts.fell_back,
            successor: Mutex::default(),
            list: Mutex::default(),
            ending: watch::Sender::new(Ending::No),
        })
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All apps, by their lowest id.
    pub(crate) fn apps(&self) -> Vec<Arc<App>> {
        let mut apps: Vec<_> = self.list().apps.values().cloned().collect();
        apps.sort_by_cached_key(|app| app.kept().record.ids().into_iter().min().unwrap_or(u32::MAX));
        apps
    }

    /// The app of this name.
    pub(crate) fn app(&self, name: &str) -> Option<Arc<App>> {
        self.list().apps.get(name).cloned()
    }

    /// The app of this name, new if there is none; whether it is new.
    pub(crate) fn app_or_new(&self, spec: &AppSpec, inherited: &Arc<Variables>) -> (Arc<App>, bool) {
        let mut list = self.list();
        if let Some(app) = list.apps.get(&spec.name) {
            return (Arc::clone(app), false);
        }
        let app = App::new(spec.name.clone(), spec.clone(), Arc::clone(inherited));
        list.apps.insert(spec.name.clone(), Arc::clone(&app));
        (app, true)
    }

    /// Gives each of the first places an id, and takes those of the others back.
    pub(crate) fn number(&self, app: &App, places: u32) {
        let mut list = self.list();
        let record = &mut app.kept().record;
        for slot in 0..places {
            record.places.entry(slot).or_insert_with(|| crate::record::Place {
                id: list.ids.take(),
                ..Default::default()
            });
        }
        for place in record.places.split_off(&places).into_values() {
            list.ids.release(place.id);
        }
    }

    /// Its ids are taken: it was taken over.
    pub(crate) fn claim_ids(&self, app: &App) {
        let mut list = self.list();
        for id in app.kept().record.ids() {
            list.ids.claim(id);
        }
    }

    /// An event about no app.
    pub(crate) fn note(&self, event: &str, data: serde_json::Value) {
        let data = match data {
            serde_json::Value::Object(data) => data,
            _ => serde_json::Map::new(),
        };
        self.journal.tell(event, None, None, data);
    }

    /// The app was never started: it has not been there. Only for who has its turn.
    pub(crate) fn unmake(&self, app: &App) {
        let ids = self.remove(app);
        self.list().ids.give_back(&ids);
        app.changed();
    }

    /// The app is in no list any more. Only for who has its turn.
    pub(crate) fn forget(&self, app: &App) {
        let ids = self.remove(app);
        let mut list = self.list();
        for id in ids {
            list.ids.release(id);
        }
        drop(list);
        app.changed();
    }

    fn remove(&self, app: &App) -> Vec<u32> {
        let mut list = self.list();
        list.apps.remove(&app.name);
        let mut kept = app.kept();
        kept.gone = true;
        kept.record.ids()
    }

    /// Whom the targets mean; each must be somebody's.
    pub(crate) fn targets(&self, targets: &[String]) -> Result<Vec<Target>, Error> {
        let (found, mut missing) = self.targets_found(targets)?;
        match missing.pop() {
            Some((_, error)) => Err(error),
            None => Ok(found),
        }
    }

    /// Whom the targets mean, and which mean nobody; an error if all do.
    pub(crate) fn targets_found(&self, targets: &[String]) -> Result<(Vec<Target>, Missing), Error> {
        if targets.is_empty() {
            let error = Error::new(ErrorCode::MissingField, "no target is named");
            return Err(error.with_hint("give a name, an id, a namespace, /a regular expression/ or `all`"));
        }
        let apps = self.apps();
        let parts: Vec<_> = apps.iter().map(|app| parts(app)).collect();
        let named: Vec<Named<'_>> = parts
            .iter()
            .map(|(name, namespace, script, ids)| Named {
                name,
                namespace,
                script: script.as_deref(),
                ids,
            })
            .collect();
        let target = |Meant { app, id }| Target {
            app: Arc::clone(&apps[app]),
            id,
        };
        let (found, missing) = target::meant(&named, targets)?;
        Ok((found.into_iter().map(target).collect(), missing))
    }

    /// Looks at the system for what an app needs, in a thread that may wait.
    pub(crate) async fn prepare(
        &self,
        spec: &AppSpec,
        inherited: &Arc<Variables>,
    ) -> Result<Prepared, Error> {
        let (launcher, spec, inherited) = (Arc::clone(&self.launcher), spec.clone(), Arc::clone(inherited));
        let mut prepared = blocking(move || launcher.prepare(&spec, &inherited)).await??;
        let home = self.home.path().as_os_str().to_owned();
        prepared.spec.env.push((crate::begin::HOME.into(), home));
        Ok(prepared)
    }

    /// The app is different from what is written down.
    pub(crate) fn changed(&self, app: &App) {
        app.changed();
        self.saving.now();
    }

    /// A worker came or went.
    pub(crate) fn worker_changed(&self) {
        self.saving.soon();
    }

    /// Puts an app of another time into the list. False if the name is taken.
    pub(crate) fn admit(&self, app: &Arc<App>) -> bool {
        let mut list = self.list();
        if list.apps.contains_key(&app.name) {
            return false;
        }
        for place in app.kept().record.places.values_mut() {
            if !list.ids.claim(place.id) {
                place.id = list.ids.take();
            }
        }
        list.apps.insert(app.name.clone(), Arc::clone(app));
        drop(list);
        // Without memory a successor does not know it; the disk does.
        self.remember(app).ok();
        true
    }

    pub(crate) fn ending(&self) -> Ending {
        *self.ending.borrow()
    }

    pub(crate) fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|now| {
            let further = ending > *now;
            if further {
                *now = ending;
            }
            further
        });
    }

    /// This process ends when all answers are given, and another program goes on.
    pub(crate) fn hand_over(&self, to: everup_keeper::Checked) {
        *self.successor.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        self.end(Ending::HandOver);
    }

    /// Who goes on, if this process is to be replaced.
    pub(crate) fn successor(&self) -> Option<everup_keeper::Checked> {
        self.successor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Waits until it is that far.
    pub(crate) async fn ended(&self, ending: Ending) {
        let mut news = self.ending.subscribe();
        // The sender is ours.
        news.wait_for(|now| *now >= ending).await.ok();
    }

    /// An error when the daemon is about to end.
    pub(crate) fn open(&self) -> Result<(), Error> {
        match self.ending() {
            Ending::No => Ok(()),
            _ => Err(Error::new(ErrorCode::Stopping, "the daemon is being stopped")),
        }
    }
}

type Names = (String, String, Option<String>, Vec<u32>);

fn parts(app: &App) -> Names {
    let kept = app.kept();
    let script = kept.facts.script_path.as_ref();
    (
        app.name.clone(),
        kept.spec.namespace().to_owned(),
        script.map(|path| path.to_string_lossy().into_owned()),
        kept.record.ids(),
    )
}

/// Does something that may take its time, in another thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        Error::new(
            ErrorCode::Internal,
            format!("a thread of the daemon failed: {error}"),
        )
    })
}
