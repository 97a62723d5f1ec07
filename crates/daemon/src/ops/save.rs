//! `save`, `resurrect` and `env`.

use super::run::Wanted;
use super::small::each;
use super::start::How;
use super::{Deadline, Each, Host, Steps};
use crate::daemon::{Daemon, Target, blocking};
use crate::state::disk::{self, Found, Real};
use crate::state::stored::{State, Stored};
use everup_api::v1::{Done, DoneTo, Environment, Save};
use everup_api::{Error, ErrorCode, Phase, redact};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

impl Daemon {
    /// Writes all apps down, with what they have inherited.
    pub(crate) async fn save(self: &Host, request: Save) -> Result<Done, Error> {
        let apps = self.apps();
        if apps.is_empty() && !request.force {
            let error = Error::new(
                ErrorCode::Unsupported,
                "there is nothing to save: no app is there",
            );
            return Err(error.with_hint("--force saves the empty list"));
        }
        let state = State {
            boot_id: crate::proc::boot_id(),
            apps: apps
                .iter()
                .map(|app| Stored::with_variables(&app.kept()))
                .collect(),
            parked: Vec::new(),
        };
        let path = self.home.saved();
        let shown = path.display().to_string();
        let stored = blocking(move || disk::store(&Real, &path, &state)).await?;
        stored
            .map_err(|error| Error::new(ErrorCode::Internal, format!("could not write {shown}: {error}")))?;
        let targets: Vec<Target> = apps.into_iter().map(|app| Target { app, id: None }).collect();
        let mut done = each(&targets, |_| Ok("saved"));
        done.notices.push(format!("saved in {shown}"));
        Ok(done)
    }

    /// Starts what was saved and is not there; without anything saved, what `kill` has put away.
    pub(crate) async fn resurrect(self: &Host, steps: Steps) -> Result<Done, Error> {
        self.open()?;
        let mut notices = Vec::new();
        let parked = || self.parked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stored = match disk::load::<State>(&self.home.saved()) {
            Found::Last(state) => state.apps,
            Found::Previous(state, why) => {
                notices.push(format!("{why}; what was saved before that is used"));
                state.apps
            }
            Found::Nothing => parked(),
            Found::Unusable(why) => {
                notices.push(why);
                parked()
            }
        };
        if stored.is_empty() && !self.apps().is_empty() {
            notices.push("nothing was saved; what was there runs".into());
            return Ok(Done {
                apps: Vec::new(),
                notices,
            });
        }
        if stored.is_empty() {
            let error = Error::new(ErrorCode::Unsupported, "nothing was saved");
            return Err(error.with_hint("`everup save` saves what is there"));
        }
        let deadline = Deadline::of(None);
        let (mut targets, mut hows, mut stopped) = (Vec::new(), BTreeMap::new(), Vec::new());
        for mut stored in stored {
            let inherited = stored.inherited.take().unwrap_or_default();
            let wanted = stored.wanted;
            let app = stored.revive(inherited);
            if !self.admit(&app) {
                continue;
            }
            if !wanted {
                self.changed(&app);
                stopped.push(done_to(&app.name, "stopped"));
                continue;
            }
            let how = How {
                wanted: Some(Wanted::now(&app.kept())),
                new: false,
                update_env: None,
                was_wanted: true,
                wait: false,
                deadline,
            };
            hows.insert(app.name.clone(), how);
            targets.push(Target { app, id: None });
        }
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let each = Each {
            targets,
            parallel: None,
            deadline,
            phase: Phase::Starting,
            steps,
        };
        let done = each.run(|target| {
            let (daemon, how) = (Arc::clone(self), hows.get(&target.app.name).cloned());
            async move {
                match how {
                    Some(how) => daemon.start_one(target.app, how).await,
                    None => Ok(super::Deed::default()),
                }
            }
        });
        let mut done = done.await;
        done.apps.extend(stopped);
        done.notices.extend(notices);
        Ok(done)
    }

    /// The variables of an app.
    pub(crate) fn environment(&self, targets: &[String], reveal: bool) -> Result<Environment, Error> {
        let targets = self.targets(targets)?;
        let [target] = targets.as_slice() else {
            let what = format!("{} apps are meant", targets.len());
            return Err(Error::new(ErrorCode::InvalidValue, what).with_hint("name one"));
        };
        let kept = target.app.kept();
        let shown = |variables: &BTreeMap<String, String>| match reveal {
            true => variables.clone(),
            false => redact::variables(variables),
        };
        Ok(Environment {
            app: target.app.name.clone(),
            stored: shown(&kept.spec.env),
            inherited: shown(&kept.inherited),
        })
    }
}

fn done_to(app: &str, done: &str) -> DoneTo {
    DoneTo {
        app: app.into(),
        ids: Vec::new(),
        done: done.into(),
        error: None,
        receipt: None,
    }
}
