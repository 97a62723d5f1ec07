//! Starting and ending an app's cluster: the two things that every operation is made of.

use super::Host;
use crate::app::{App, Kept, Phase, Run, Turn, Variables};
use crate::daemon::{Daemon, blocking};
use crate::follow::follow;
use crate::launcher::{Calls, Fired, Prepared, Purpose, Triggers};
use everup::{Cluster, Outcome};
use everup_api::{AppSpec, Error, ErrorCode};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;

/// An app as it is to be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) spec: AppSpec,
    pub(crate) inherited: Arc<Variables>,
    pub(crate) origin: Option<PathBuf>,
}

impl Wanted {
    /// As it is.
    pub(crate) fn now(kept: &Kept) -> Self {
        Self {
            spec: kept.spec.clone(),
            inherited: Arc::clone(&kept.inherited),
            origin: kept.origin.clone(),
        }
    }
}

impl Daemon {
    /// What runs of the app is stopped, and it is started as wanted. Answers when its workers are processes; gives what the
    /// user should know.
    pub(crate) async fn run_prepared(
        self: &Host,
        turn: &Turn,
        wanted: Wanted,
        prepared: Prepared,
    ) -> Result<Vec<String>, Error> {
        let app = turn.app();
        self.room_for(app, prepared.spec.workers)?;
        self.halt(turn, false).await;
        let Prepared {
            mut spec,
            triggers,
            notices,
            facts,
        } = prepared;
        let workers = spec.workers;
        spec.output = self.outputs.of(app, &wanted.spec, crate::output::owner(&spec));
        {
            let mut kept = app.kept();
            kept.phase = Phase::Starting;
            kept.wanted = true;
            kept.spec = wanted.spec.clone();
            kept.inherited = wanted.inherited;
            kept.origin = wanted.origin;
            kept.facts = facts;
            kept.target = workers;
            kept.job = spec.job;
            kept.because = None;
            kept.end = None;
            kept.record.begin();
        }
        self.number(app, workers);
        // A successor must know whose engine it finds.
        self.changed(app);
        let keeping = self.keeping(app).map_err(|error| {
            Error::new(
                ErrorCode::Internal,
                format!("could not keep what is known of `{}`: {error}", app.name),
            )
        })?;
        let start = move || match keeping {
            Some(keeping) => Cluster::start_kept(spec, keeping),
            None => Cluster::start(spec),
        };
        let started = blocking(start).await?;
        let (cluster, events) = match started {
            Ok(started) => started,
            Err(error) => {
                let error = self.launcher.explain(error);
                app.kept().because = Some(error.message.clone());
                self.changed(app);
                return Err(error);
            }
        };
        app.kept().run = Some(Run {
            cluster: Arc::new(cluster),
            firing: None,
            spec: wanted.spec,
        });
        tokio::spawn(follow(Arc::clone(self), Arc::clone(app), events));
        self.rearm(app, triggers)?;
        let result = self.forked(turn, workers).await;
        self.changed(app);
        result.map(|()| notices)
    }

    /// Whether it can have so many workers; those that it has make room.
    pub(super) fn room_for(&self, app: &App, workers: u32) -> Result<(), Error> {
        let kept = app.kept();
        let (new, there) = match &kept.run {
            None => (true, 0),
            Some(_) => (false, kept.target),
        };
        drop(kept);
        match workers.saturating_sub(there) {
            0 => Ok(()),
            more => self.room(new, more),
        }
    }

    /// Waits until the workers are processes.
    async fn forked(self: &Host, turn: &Turn, workers: u32) -> Result<(), Error> {
        let seen = turn.app().until(|kept| {
            let record = &kept.record;
            match (&kept.run, &record.not_started) {
                (_, Some(why)) => Some(Err(why.clone())),
                (None, None) => Some(Ok(())),
                (Some(_), None) => (kept.job || record.started(workers)).then_some(Ok(())),
            }
        });
        let Err(why) = seen.await else { return Ok(()) };
        self.halt(turn, true).await;
        let mut kept = turn.app().kept();
        let because = format!("could not be started: {why}");
        kept.end = Some(Outcome::Failed { status: None });
        kept.because = Some(format!("it {because}"));
        let program = kept
            .facts
            .interpreter
            .clone()
            .unwrap_or_else(|| kept.spec.script.clone());
        Err(Error::new(ErrorCode::BadInput, format!("`{program}` {because}")))
    }

    /// Ends what runs; whether anything did.
    pub(crate) async fn halt(&self, turn: &Turn, now: bool) -> bool {
        let app = turn.app();
        let Some(cluster) = app.kept().cluster() else {
            return false;
        };
        app.kept().phase = Phase::Stopping;
        if now {
            cluster.stop_now();
        } else {
            cluster.stop();
        }
        drop(cluster);
        app.changed();
        app.until(|kept| kept.run.is_none().then_some(())).await;
        true
    }

    /// Other triggers for a cluster that goes on.
    pub(crate) fn rearm(
        self: &Host,
        app: &Arc<App>,
        triggers: Option<Box<dyn Triggers>>,
    ) -> Result<(), Error> {
        let old = app.kept().run.as_mut().and_then(|run| run.firing.take());
        if let Some(old) = old {
            // It may be in the middle of a call to us.
            tokio::task::spawn_blocking(move || drop(old));
        }
        let Some(triggers) = triggers else { return Ok(()) };
        let what = format!("start a thread for `{}`", app.name);
        self.arm(app, triggers)
            .map_err(|error| Error::new(ErrorCode::Internal, format!("{what}: {error}")))
    }

    fn arm(self: &Host, app: &Arc<App>, triggers: Box<dyn Triggers>) -> io::Result<()> {
        let firing = triggers.start(self.calls(app))?;
        if let Some(run) = &mut app.kept().run {
            run.firing = Some(firing);
        }
        Ok(())
    }

    /// The triggers of an app that was taken over: what fires is found out anew.
    pub(crate) fn arm_again(self: &Host, app: &Arc<App>) {
        let (daemon, app) = (Arc::clone(self), Arc::clone(app));
        tokio::spawn(async move {
            let wanted = Wanted::now(&app.kept());
            let armed = match daemon.prepare(&wanted.spec, &wanted.inherited).await {
                Ok(Prepared {
                    triggers: Some(triggers),
                    ..
                }) => daemon.arm(&app, triggers).map_err(|error| error.to_string()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.message),
            };
            if let Err(why) = armed {
                let what = format!("its times and watched files do nothing until it is reloaded: {why}");
                daemon.tell("error", &app, serde_json::json!({"what": what}));
            }
        });
    }

    /// Starts an app that is to run, and does not: in the background.
    pub(crate) fn start_again(self: &Host, app: &Arc<App>) {
        let (daemon, app) = (Arc::clone(self), Arc::clone(app));
        app.kept().phase = Phase::Starting;
        tokio::spawn(async move {
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
            let Ok(turn) = app.claim().turn("being started", deadline).await else {
                return;
            };
            let wanted = Wanted::now(&app.kept());
            let started = match daemon.prepare(&wanted.spec, &wanted.inherited).await {
                Ok(prepared) => daemon.run_prepared(&turn, wanted, prepared).await,
                Err(error) => Err(error),
            };
            if let Err(error) = started {
                app.kept().because = Some(error.message.clone());
                daemon.tell("error", &app, serde_json::json!({"what": error.message}));
            }
            daemon.changed(&app);
        });
    }

    /// What triggers do. They call in their own threads, and wait.
    fn calls(self: &Host, app: &Arc<App>) -> Calls {
        let (daemon, runtime) = (Arc::downgrade(self), Handle::current());
        let (told, name) = (Arc::downgrade(self), app.name.clone());
        let app = Arc::downgrade(app);
        Calls {
            fire: Arc::new(move |fired| {
                let (Some(daemon), Some(app)) = (daemon.upgrade(), app.upgrade()) else {
                    return;
                };
                let (done, wait) = std::sync::mpsc::sync_channel::<()>(1);
                runtime.spawn(async move {
                    daemon.fired(&app, &fired).await;
                    drop(done);
                });
                // Disconnected when it is done.
                wait.recv().ok();
            }),
            notice: Arc::new(move |text| notice(&told, &name, &text)),
        }
    }

    async fn fired(self: &Host, app: &Arc<App>, fired: &Fired) {
        let data = serde_json::json!({"what": fired.text});
        self.tell("trigger", app, data);
        let result = match fired.purpose {
            Purpose::Cron => self.replace_by_itself(app, everup::Cause::Cron).await,
            Purpose::Watch => self.replace_by_itself(app, everup::Cause::Watch).await,
            Purpose::Launch => {
                if let Some(cluster) = app.kept().cluster() {
                    cluster.launch();
                }
                Ok(())
            }
        };
        if let Err(error) = result {
            self.tell("error", app, serde_json::json!({"what": error.message}));
        }
    }

    /// An event about an app.
    pub(crate) fn tell(&self, event: &str, app: &App, data: serde_json::Value) {
        let data = match data {
            serde_json::Value::Object(data) => data,
            _ => serde_json::Map::new(),
        };
        self.journal.tell(event, Some(&app.name), None, data);
    }
}

fn notice(daemon: &Weak<Daemon>, app: &str, text: &str) {
    let Some(daemon) = daemon.upgrade() else { return };
    let mut data = serde_json::Map::new();
    data.insert("what".into(), text.into());
    daemon.journal.tell("notice", Some(app), None, data);
}
