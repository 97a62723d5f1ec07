//! `plan` and `apply`: apps become what a file says, and what is no longer in the file goes.

use super::replace::Order;
use super::run::Wanted;
use super::start::How;
use super::stop::Left;
use super::{Deadline, Deed, Each, Failure, Host, Steps};
use crate::app::{App, Variables};
use crate::daemon::{Daemon, Target};
use everup::Cause;
use everup_api::v1::{Apply, Done, Plan, Step, StepAction};
use everup_api::{AppSpec, Error, Phase, plan};
use serde_json::Map;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

impl Daemon {
    /// What [`apply`](Self::apply) would do.
    pub(crate) fn plan(self: &Host, request: &Apply) -> Result<Plan, Error> {
        self.check(&request.apps)?;
        let mut steps: Vec<Step> = request.apps.iter().map(|spec| self.step(spec)).collect();
        steps.extend(
            self.left_over(request.origin.as_deref(), &request.apps)
                .iter()
                .map(|app| Step {
                    app: app.name.clone(),
                    action: StepAction::Delete,
                    changes: Vec::new(),
                }),
        );
        Ok(Plan { steps })
    }

    /// Does it. What is no longer described goes last, when everything else has worked.
    pub(crate) async fn apply(self: &Host, request: Apply, steps: Steps) -> Result<Done, Error> {
        self.open()?;
        self.check(&request.apps)?;
        let deadline = Deadline::of(request.timeout_ms);
        let inherited = Arc::new(request.inherited);
        let over = self.left_over(request.origin.as_deref(), &request.apps);
        let mut work = BTreeMap::new();
        let mut targets = Vec::new();
        for spec in request.apps {
            let (app, new) = self.app_or_new(&spec, &inherited);
            let wanted = Wanted {
                spec,
                inherited: match new || request.update_env {
                    true => Arc::clone(&inherited),
                    false => Arc::clone(&app.kept().inherited),
                },
                origin: request.origin.clone().or_else(|| app.kept().origin.clone()),
            };
            if new {
                // Those that wait for it must know from the beginning that it is on its way.
                app.kept().wanted = true;
            }
            work.insert(app.name.clone(), (wanted, new));
            targets.push(Target { app, id: None });
        }
        let one = targets.len() == 1;
        let each = Each {
            targets,
            parallel: None,
            deadline,
            phase: Phase::Rolling,
            steps: steps.clone(),
        };
        let renewed = request.update_env.then_some(inherited);
        let done = each.run(|target| {
            let (daemon, work) = (Arc::clone(self), work.get(&target.app.name).cloned());
            let (steps, renewed) = (one.then(|| steps.clone()), renewed.clone());
            async move {
                match work {
                    Some((wanted, true)) => daemon.start_new(target.app, wanted, deadline).await,
                    Some((wanted, false)) => {
                        daemon
                            .apply_one(target.app, wanted, renewed, deadline, steps)
                            .await
                    }
                    None => Ok(Deed::default()),
                }
            }
        });
        let mut done = done.await;
        if done.apps.iter().all(|app| app.error.is_none()) {
            let over = over.into_iter().map(|app| Target { app, id: None }).collect();
            let gone = self
                .stop_these(over, Left::Nothing, false, None, deadline, steps)
                .await;
            done.apps.extend(gone.apps);
        } else if !over.is_empty() {
            let names: Vec<&str> = over.iter().map(|app| app.name.as_str()).collect();
            done.notices.push(format!(
                "not deleted, because not everything worked: {}",
                names.join(", ")
            ));
        }
        Ok(done)
    }

    fn check(&self, apps: &[AppSpec]) -> Result<(), Error> {
        for (place, spec) in apps.iter().enumerate() {
            super::start::check_name(&spec.name)?;
            if apps[..place].iter().any(|other| other.name == spec.name) {
                return Err(super::start::twice(&spec.name));
            }
        }
        self.check_dependencies(apps)
    }

    fn step(&self, spec: &AppSpec) -> Step {
        let app = spec.name.clone();
        let Some(there) = self.app(&app) else {
            return Step {
                app,
                action: StepAction::Start,
                changes: Vec::new(),
            };
        };
        let kept = there.kept();
        let changes = plan::diff(&kept.spec, spec);
        let action = match kept.run {
            Some(_) => plan::action(&changes),
            None if kept.wanted => StepAction::Start,
            // Somebody has stopped it: so it stays.
            None if changes.is_empty() => StepAction::Nothing,
            None => StepAction::Update,
        };
        Step { app, action, changes }
    }

    /// Apps of the same file that are not in it any more.
    fn left_over(&self, origin: Option<&Path>, apps: &[AppSpec]) -> Vec<Arc<App>> {
        let Some(origin) = origin else { return Vec::new() };
        let described = |app: &App| apps.iter().any(|spec| spec.name == app.name);
        let mut all = self.apps();
        all.retain(|app| app.kept().origin.as_deref() == Some(origin) && !described(app));
        all
    }

    async fn start_new(
        self: Host,
        app: Arc<App>,
        wanted: Wanted,
        deadline: Deadline,
    ) -> Result<Deed, Failure> {
        let how = How {
            wanted: Some(wanted),
            new: true,
            update_env: None,
            was_wanted: false,
            wait: false,
            deadline,
        };
        self.start_one(app, how).await
    }

    async fn apply_one(
        self: Host,
        app: Arc<App>,
        wanted: Wanted,
        renewed: Option<Arc<Variables>>,
        deadline: Deadline,
        steps: Option<Steps>,
    ) -> Result<Deed, Failure> {
        let turn = app.claim().turn("being changed", deadline.0).await?;
        turn.still()?;
        let new_env = renewed.is_some_and(|renewed| renewed != app.kept().inherited);
        let action = match self.step(&wanted.spec).action {
            StepAction::Nothing | StepAction::Update | StepAction::Scale
                if new_env && app.kept().run.is_some() =>
            {
                StepAction::Reload
            }
            action => action,
        };
        let order = |cause| Order {
            cause,
            change: Map::new(),
            inherited: None,
            deadline,
            steps: steps.clone(),
        };
        let deed = match action {
            StepAction::Nothing => {
                app.kept().origin = wanted.origin;
                Deed::new("nothing", &app)
            }
            StepAction::Update => {
                let prepared = self.prepare(&wanted.spec, &wanted.inherited).await?;
                let stopped = app.kept().run.is_none();
                self.take_over(&app, wanted, prepared.facts, Cause::Reload, prepared.triggers)?;
                app.kept().wanted = !stopped;
                Deed::new("updated", &app)
            }
            StepAction::Scale => {
                let prepared = self.prepare(&wanted.spec, &wanted.inherited).await?;
                let workers = prepared.spec.workers;
                self.take_over(&app, wanted, prepared.facts, Cause::Reload, prepared.triggers)?;
                self.scale_to(&turn, workers).await?;
                Deed::new("scaled", &app)
            }
            StepAction::Reload => self.replace_now(&turn, wanted, &order(Cause::Reload)).await?,
            _ => self.replace_now(&turn, wanted, &order(Cause::Restart)).await?,
        };
        self.changed(&app);
        Ok(deed)
    }
}
