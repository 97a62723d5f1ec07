//! What is done at once, whoever has the turn: signals, counters, jobs, aborted reloads.

use super::{Host, with_missing};
use crate::app::App;
use crate::daemon::{Daemon, Target};
use everup::WorkerId;
use everup_api::v1::{Done, DoneTo, On, Signal};
use everup_api::{Error, ErrorCode};

impl Daemon {
    /// A signal to each worker.
    pub(crate) fn signal(self: &Host, request: &Signal) -> Result<Done, Error> {
        let number = everup::signal_number(&request.signal).ok_or_else(|| {
            let error = Error::new(
                ErrorCode::InvalidValue,
                format!("`{}` is no signal", request.signal),
            );
            error.with_hint("give a name or a number: USR2, SIGHUP, 12")
        })?;
        let (targets, missing) = self.targets_found(&request.targets)?;
        let done = each(&targets, |target| {
            let kept = target.app.kept();
            let Some(cluster) = kept.cluster() else {
                let error = Error::new(ErrorCode::Conflict, format!("`{}` does not run", target.app.name));
                return Err(error.with_hint(format!("`everup start {}`", target.app.name)));
            };
            let slot = target.id.and_then(|id| kept.record.slot_of(id));
            for (worker, _) in kept
                .record
                .lives
                .iter()
                .filter(|(_, life)| slot.is_none_or(|slot| life.slot == slot))
            {
                cluster.kill(WorkerId(*worker), number);
            }
            Ok("signalled")
        });
        Ok(with_missing(done, missing))
    }

    /// Counters begin anew.
    pub(crate) fn reset(self: &Host, request: &On) -> Result<Done, Error> {
        let (targets, missing) = self.targets_found(&request.targets)?;
        let done = each(&targets, |target| {
            target.app.kept().record.reset();
            self.changed(&target.app);
            Ok("reset")
        });
        Ok(with_missing(done, missing))
    }

    /// Reloads are given up.
    pub(crate) fn abort(self: &Host, request: &On) -> Result<Done, Error> {
        let (targets, missing) = self.targets_found(&request.targets)?;
        let done = each(&targets, |target| {
            let kept = target.app.kept();
            let under_way = kept
                .record
                .reload
                .is_some_and(|stage| stage.phase != everup::Phase::Draining);
            match kept.cluster().filter(|_| under_way) {
                Some(cluster) => {
                    cluster.abort_reload();
                    Ok("aborted")
                }
                None => Ok("nothing"),
            }
        });
        Ok(with_missing(done, missing))
    }

    /// Jobs are run now.
    pub(crate) fn launch(self: &Host, request: &On) -> Result<Done, Error> {
        self.open()?;
        let (targets, missing) = self.targets_found(&request.targets)?;
        let done = each(&targets, |target| launch_one(&target.app));
        Ok(with_missing(done, missing))
    }
}

fn launch_one(app: &App) -> Result<&'static str, Error> {
    let kept = app.kept();
    if !kept.job {
        let error = Error::new(
            ErrorCode::Unsupported,
            format!("`{}` is no scheduled job", app.name),
        );
        return Err(error.with_hint("start it with --schedule"));
    }
    match kept.cluster() {
        Some(_) if !kept.record.lives.is_empty() => Ok("nothing"),
        Some(cluster) => {
            cluster.launch();
            Ok("launched")
        }
        None => Err(
            Error::new(ErrorCode::Conflict, format!("`{}` is stopped", app.name))
                .with_hint(format!("`everup start {}`", app.name)),
        ),
    }
}

pub(crate) fn each(targets: &[Target], mut work: impl FnMut(&Target) -> Result<&'static str, Error>) -> Done {
    let apps = targets.iter().map(|target| {
        let result = work(target);
        DoneTo {
            app: target.app.name.clone(),
            ids: target
                .id
                .map_or_else(|| target.app.kept().record.ids(), |id| vec![id]),
            done: result.as_ref().copied().unwrap_or("nothing").into(),
            error: result.err(),
            receipt: None,
        }
    });
    Done {
        apps: apps.collect(),
        notices: Vec::new(),
    }
}
