//! `stop` and `delete`.

use super::{Deadline, Deed, Each, Failure, Host, Steps, with_missing};
use crate::app::App;
use crate::daemon::{Daemon, Target};
use everup_api::v1::{Done, On};
use everup_api::{Error, ErrorCode, Phase};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to be left of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It stands still.
    Stopped,
    /// It stands still as long as the daemon does.
    Parked,
    /// Nothing.
    Nothing,
}

impl Daemon {
    /// Stops them, those first that need others.
    pub(crate) async fn stop(self: &Host, request: On, left: Left, steps: Steps) -> Result<Done, Error> {
        let (targets, missing) = self.targets_found(&request.targets)?;
        whole(
            &targets,
            if left == Left::Nothing {
                "deleted"
            } else {
                "stopped"
            },
        )?;
        let deadline = Deadline::of(request.timeout_ms);
        let done = self
            .stop_these(targets, left, request.now, request.parallel, deadline, steps)
            .await;
        Ok(with_missing(done, missing))
    }

    pub(crate) async fn stop_these(
        self: &Host,
        targets: Vec<Target>,
        left: Left,
        now: bool,
        parallel: Option<u32>,
        deadline: Deadline,
        steps: Steps,
    ) -> Done {
        let needs: BTreeMap<String, Vec<String>> = targets
            .iter()
            .map(|Target { app, .. }| {
                (
                    app.name.clone(),
                    app.kept().spec.depends_on.keys().cloned().collect(),
                )
            })
            .collect();
        let mut answer = Done::default();
        for group in crate::order::stops(&needs) {
            let targets = targets.iter().filter(|target| group.contains(&target.app.name));
            let each = Each {
                targets: targets.cloned().collect(),
                parallel,
                deadline,
                phase: Phase::Stopping,
                steps: steps.clone(),
            };
            let done = each.run(|target| {
                let daemon = Arc::clone(self);
                async move { daemon.stop_one(target.app, left, now, deadline).await }
            });
            let done = done.await;
            answer.apps.extend(done.apps);
            answer.notices.extend(done.notices);
        }
        answer
    }

    async fn stop_one(
        self: Host,
        app: Arc<App>,
        left: Left,
        now: bool,
        deadline: Deadline,
    ) -> Result<Deed, Failure> {
        let doing = if left == Left::Nothing {
            "being deleted"
        } else {
            "being stopped"
        };
        if now && let Some(cluster) = app.kept().cluster() {
            // Also for a stop that is under way.
            cluster.stop_now();
        }
        let turn = app.hurry().turn(doing, deadline.0).await?;
        let ran = self.halt(&turn, now).await;
        // Of a scale that was overtaken by this.
        let target = app.kept().target;
        self.number(&app, target);
        let mut deed = Deed::new(if ran { "stopped" } else { "nothing" }, &app);
        {
            let mut kept = app.kept();
            kept.wanted &= left == Left::Parked;
            // It is stopped now, and not failed.
            kept.because = None;
            kept.end = kept
                .end
                .filter(|end| !matches!(end, everup::Outcome::Failed { .. }));
        }
        if left == Left::Nothing {
            self.forget(&app);
            self.tell("delete", &app, serde_json::json!({}));
            deed.done = "deleted";
        }
        self.changed(&app);
        app.changed();
        Ok(deed)
    }
}

/// An instance among several has no life of its own.
pub(crate) fn whole(targets: &[Target], done: &str) -> Result<(), Error> {
    let Some(target) = targets.iter().find(|target| target.id.is_some()) else {
        return Ok(());
    };
    let (name, id) = (&target.app.name, target.id.unwrap_or_default());
    let workers = target.app.kept().target;
    let what = format!("{id} is one of {workers} instances of `{name}`: one alone cannot be {done}");
    let hint = format!(
        "name the app (`{name}`), or `everup scale {name} {}`",
        workers.saturating_sub(1)
    );
    Err(Error::new(ErrorCode::Unsupported, what).with_hint(hint))
}
