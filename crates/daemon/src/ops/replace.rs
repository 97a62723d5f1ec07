//! `restart` and `reload`: new workers for old ones, as the app is described now.

use super::run::Wanted;
use super::{Deadline, Deed, Each, Failure, Host, Steps, with_missing};
use crate::app::{App, Kept, Turn, Variables};
use crate::daemon::{Daemon, Target, blocking};
use crate::launcher::{Facts, Prepared, Triggers};
use everup::{Cause, Reload, Rollout};
use everup_api::v1::{Done, On, StepAction};
use everup_api::{AppSpec, Error, ErrorCode, Outcome, Phase, Progress, Receipt, plan};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) cause: Cause,
    pub(crate) change: Map<String, Value>,
    pub(crate) inherited: Option<Arc<Variables>>,
    pub(crate) deadline: Deadline,
    pub(crate) steps: Option<Steps>,
}

impl Daemon {
    /// Restarts or reloads them.
    pub(crate) async fn replace(self: &Host, request: On, cause: Cause, steps: Steps) -> Result<Done, Error> {
        self.open()?;
        let (targets, missing) = self.targets_found(&request.targets)?;
        for target in &targets {
            changed(&target.app.kept().spec, &request.change)?;
        }
        let deadline = Deadline::of(request.timeout_ms);
        let order = Order {
            cause,
            change: request.change,
            inherited: request.update_env.then(|| Arc::new(request.inherited)),
            deadline,
            steps: (targets.len() == 1).then(|| steps.clone()),
        };
        let each = Each {
            targets,
            parallel: request.parallel,
            deadline,
            phase: if cause == Cause::Restart {
                Phase::Stopping
            } else {
                Phase::Rolling
            },
            steps,
        };
        let done = each.run(|target| {
            let (daemon, order) = (Arc::clone(self), order.clone());
            async move { daemon.replace_one(target, order).await }
        });
        Ok(with_missing(done.await, missing))
    }

    /// A trigger's reload.
    pub(crate) async fn replace_by_itself(self: &Host, app: &Arc<App>, cause: Cause) -> Result<(), Error> {
        let order = Order {
            cause,
            change: Map::new(),
            inherited: None,
            deadline: Deadline::of(Some(24 * 3600 * 1000)),
            steps: None,
        };
        let target = Target {
            app: Arc::clone(app),
            id: None,
        };
        let replaced = Arc::clone(self).replace_one(target, order).await;
        replaced.map(|_| ()).map_err(|failure| failure.error)
    }

    async fn replace_one(self: Host, target: Target, order: Order) -> Result<Deed, Failure> {
        if let Some(id) = target.id {
            return self.replace_instance(&target.app, id, &order).await;
        }
        let restart = order.cause == Cause::Restart;
        let (app, doing) = (
            target.app,
            if restart {
                "being restarted"
            } else {
                "being reloaded"
            },
        );
        // A restart ends whatever goes on.
        let claim = if restart { app.hurry() } else { app.claim() };
        let turn = claim.turn(doing, order.deadline.0).await?;
        if !restart {
            turn.still()?;
        }
        let by_itself = matches!(order.cause, Cause::Cron | Cause::Watch);
        if by_itself && app.kept().run.is_none() {
            return Ok(Deed::new("nothing", &app));
        }
        let mut wanted = Wanted::now(&app.kept());
        wanted.spec = changed(&wanted.spec, &order.change)?;
        if let Some(inherited) = &order.inherited {
            wanted.inherited = Arc::clone(inherited);
        }
        let result = self.replace_now(&turn, wanted, &order).await;
        self.changed(&app);
        result
    }

    /// The workers become what is wanted, in the way that the changes need; somebody has the turn.
    pub(super) async fn replace_now(
        self: &Host,
        turn: &Turn,
        wanted: Wanted,
        order: &Order,
    ) -> Result<Deed, Failure> {
        let app = turn.app();
        let restart = order.cause == Cause::Restart;
        let prepared = self.prepare(&wanted.spec, &wanted.inherited).await?;
        if can_roll(&app.kept(), &wanted.spec, restart) {
            self.room_for(app, prepared.spec.workers)?;
            return self.roll(turn, wanted, prepared, order).await;
        }
        let runs = app.kept().run.is_some();
        let mut notices = self.run_prepared(turn, wanted, prepared).await?;
        if runs {
            app.kept().record.restarted();
        }
        if runs && !restart {
            notices.push("what has changed cannot change while it runs: it was stopped and started".into());
        }
        let done = if runs { "restarted" } else { "started" };
        Ok(Deed {
            notices,
            ..Deed::new(done, app)
        })
    }

    /// The cluster replaces its workers.
    async fn roll(
        self: &Host,
        turn: &Turn,
        wanted: Wanted,
        prepared: Prepared,
        order: &Order,
    ) -> Result<Deed, Failure> {
        let app = turn.app();
        let restart = order.cause == Cause::Restart;
        let Prepared {
            mut spec,
            triggers,
            notices,
            facts,
        } = prepared;
        spec.output = self.outputs.of(app, &wanted.spec, crate::output::owner(&spec));
        let workers = spec.workers;
        let mut reload = Reload::new().cause(order.cause);
        if restart {
            reload = reload.rollout(Rollout::restart());
        }
        let cluster = app.kept().cluster();
        let name = app.name.clone();
        let before = app.kept().reloads;
        let reloading = blocking(move || cluster.map(|cluster| cluster.reload_to(spec, reload)));
        let reloading = reloading
            .await?
            .transpose()
            .map_err(|error| self.launcher.explain(error.into()))?;
        let Some(reloading) = reloading.flatten() else {
            return Err(Error::new(ErrorCode::Conflict, format!("`{name}` ended meanwhile")).into());
        };
        let generation = reloading.generation();
        let mut receipt = None;
        if restart {
            let target = app.kept().target;
            let renewed =
                |kept: &Kept| (kept.run.is_none() || kept.record.renewed(target, generation)).then_some(());
            turn.until(renewed).await?;
        } else {
            let rolled = self
                .rolled(turn, generation, before, order.steps.as_ref())
                .await?;
            if rolled.outcome != Outcome::Done {
                return Err(Failure {
                    error: not_rolled(app, rolled.outcome, rolled.reason.as_deref()),
                    receipt: Some(rolled),
                });
            }
            receipt = Some(rolled);
        }
        let counted = app.kept().spec.instances != wanted.spec.instances;
        self.take_over(app, wanted, facts, order.cause, triggers)?;
        if counted {
            self.scale_to(turn, workers).await?;
        }
        Ok(Deed {
            receipt,
            notices: if restart { Vec::new() } else { notices },
            ..Deed::new(if restart { "restarted" } else { "reloaded" }, app)
        })
    }

    /// What runs is what was wanted.
    pub(super) fn take_over(
        self: &Host,
        app: &Arc<App>,
        wanted: Wanted,
        facts: Facts,
        cause: Cause,
        triggers: Option<Box<dyn Triggers>>,
    ) -> Result<(), Error> {
        {
            let mut kept = app.kept();
            if let Some(run) = &mut kept.run {
                run.spec = wanted.spec.clone();
            }
            kept.spec = wanted.spec;
            kept.inherited = wanted.inherited;
            kept.origin = wanted.origin;
            kept.facts = facts;
            kept.wanted = true;
        }
        // A trigger that has called us is none to be replaced.
        if matches!(cause, Cause::Cron | Cause::Watch) {
            return Ok(());
        }
        self.rearm(app, triggers)
    }

    /// Waits for the receipt, and tells how it goes.
    /// `before`: how many receipts there were before it was asked for.
    async fn rolled(
        &self,
        turn: &Turn,
        generation: u32,
        before: u64,
        steps: Option<&Steps>,
    ) -> Result<Receipt, Error> {
        let mut last = None;
        let name = turn.app().name.clone();
        let receipt = turn.until(|kept| {
            let stage = kept.record.reload.filter(|stage| stage.generation == generation);
            if let (Some(stage), Some(steps)) = (stage, steps)
                && last != Some(stage)
            {
                last = Some(stage);
                steps.tell(progress(&name, stage));
            }
            let new = usize::try_from(kept.reloads - before).unwrap_or(usize::MAX);
            let found = kept
                .receipts
                .iter()
                .rev()
                .take(new)
                .find(|receipt| receipt.generation == u64::from(generation));
            match found {
                Some(receipt) => Some(Ok(receipt.clone())),
                None if kept.run.is_none() => Some(Err(())),
                None => None,
            }
        });
        receipt.await?.map_err(|()| {
            Error::new(
                ErrorCode::Conflict,
                format!("`{name}` ended before the reload did"),
            )
        })
    }

    /// One of several: its process is asked to go, and another one takes its place.
    async fn replace_instance(self: &Host, app: &Arc<App>, id: u32, order: &Order) -> Result<Deed, Failure> {
        let turn = app
            .claim()
            .turn("having an instance replaced", order.deadline.0)
            .await?;
        turn.still()?;
        let (cluster, worker, slot) = {
            let kept = app.kept();
            (kept.cluster(), kept.record.worker_of(id), kept.record.slot_of(id))
        };
        let (Some(cluster), Some(worker)) = (cluster, worker) else {
            let error = Error::new(
                ErrorCode::Conflict,
                format!("nobody runs as instance {id} of `{}`", app.name),
            );
            return Err(error
                .with_hint(format!("`everup restart {}` starts all of it", app.name))
                .into());
        };
        cluster.replace(everup::WorkerId(worker), order.cause);
        drop(cluster);
        let other = |kept: &Kept| {
            let mut lives = kept.record.lives.iter();
            let there = lives.any(|(number, life)| Some(life.slot) == slot && *number > worker);
            (kept.run.is_none() || there).then_some(())
        };
        turn.until(other).await?;
        Ok(Deed {
            done: if order.cause == Cause::Restart {
                "restarted"
            } else {
                "reloaded"
            },
            ids: vec![id],
            ..Deed::default()
        })
    }
}

fn progress(name: &str, stage: crate::record::Stage) -> Progress {
    let message = match stage.phase {
        everup::Phase::Canary => "the first new worker is tried".into(),
        everup::Phase::Rolling => format!("{} of {} replaced", stage.done, stage.total),
        everup::Phase::RollingBack => "the old generation comes back".into(),
        everup::Phase::Draining => "all replaced; old workers finish what they have".into(),
        _ => "it goes on".into(),
    };
    Progress {
        phase: crate::view::phase(stage.phase),
        done: stage.done,
        total: stage.total,
        message: format!("{name}: {message}"),
    }
}

fn not_rolled(app: &App, outcome: Outcome, reason: Option<&str>) -> Error {
    let what = match outcome {
        Outcome::Aborted => "the reload was given up, and the old workers go on",
        Outcome::RolledBack => "the reload failed, and the old generation is back",
        Outcome::Stopped => "the app was stopped before the reload was through",
        _ => "the reload was not done",
    };
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let code = match outcome {
        Outcome::Stopped => ErrorCode::Conflict,
        _ => ErrorCode::ReloadFailed,
    };
    Error::new(code, format!("{what}{reason}")).with_hint(format!("`everup why {}`", app.name))
}

/// The settings with these keys laid over them.
pub(crate) fn changed(spec: &AppSpec, change: &Map<String, Value>) -> Result<AppSpec, Error> {
    if change.contains_key("name") {
        let error = Error::new(ErrorCode::Unsupported, "an app cannot get another name");
        return Err(error.with_hint("start it under the new name, and delete the old one"));
    }
    plan::overlay(spec, change).map_err(|error| everup_api::v1::explain(&error))
}

/// Whether the cluster that runs can do it. What it cannot change while it runs needs another one; so does a restart of
/// one that is not well.
fn can_roll(kept: &Kept, wanted: &AppSpec, restart: bool) -> bool {
    let Some(run) = &kept.run else { return false };
    let well = kept.record.all_ready && kept.target > 0;
    let action = plan::action(&plan::diff(&run.spec, wanted));
    !kept.job && (well || !restart) && action != StepAction::Restart
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn only_the_keys_that_are_there() {
        let spec = AppSpec {
            name: "web".into(),
            kill_timeout: Some("5s".into()),
            env: [("A".into(), "1".into())].into(),
            ..AppSpec::default()
        };
        let new = changed(
            &spec,
            &object(json!({"kill_timeout": null, "env": {"B": "2"}, "instances": "4"})),
        )
        .unwrap();
        assert_eq!(new.kill_timeout, None);
        assert_eq!(
            new.env,
            [("A".into(), "1".into()), ("B".into(), "2".into())].into()
        );
        assert_eq!(new.instances.as_deref(), Some("4"));
        let error = changed(&spec, &object(json!({"kil_timeout": "1s"}))).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownField);
        assert_eq!(error.hint.as_deref(), Some("did you mean `kill_timeout`?"));
        assert_eq!(
            changed(&spec, &object(json!({"name": "x"}))).unwrap_err().code,
            ErrorCode::Unsupported
        );
    }
}
