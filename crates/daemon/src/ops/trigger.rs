//! `trigger`: an action of pm2's protocol is sent to apps, and their replies are waited for. `send`: a line for their standard input.

use super::{Deadline, Deed, Each, Failure, Host, Steps, with_missing};
use crate::axm;
use crate::daemon::{Daemon, Target};
use everup::WorkerId;
use everup_api::v1::{Done, DoneTo, Send, Trigger};
use everup_api::{Error, ErrorCode, Phase};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long replies are waited for, if nobody says.
const LIMIT: Duration = Duration::from_secs(5);

impl Daemon {
    /// Sends it to each worker; the replies are notices.
    pub(crate) async fn trigger(self: &Host, request: Trigger, steps: Steps) -> Result<Done, Error> {
        let (targets, missing) = self.targets_found(&request.targets)?;
        let limit = request.timeout_ms.map_or(LIMIT, Duration::from_millis);
        let until = Instant::now() + limit;
        let each = Each {
            targets,
            parallel: None,
            deadline: Deadline(until + Duration::from_secs(1)),
            phase: Phase::Waiting,
            steps,
        };
        let request = Arc::new(request);
        let done = each.run(|target| {
            let request = Arc::clone(&request);
            async move { trigger_one(target, &request, until).await }
        });
        Ok(with_missing(done.await, missing))
    }

    /// Writes to the standard input of workers: of an instance, or of all of an app.
    pub(crate) fn send(&self, request: &Send) -> Result<Done, Error> {
        let mut done = Done::default();
        for Target { app, id } in self.targets(std::slice::from_ref(&request.target))? {
            let kept = app.kept();
            let slot = id.and_then(|id| kept.record.slot_of(id));
            let lives = kept.record.lives.iter();
            let meant: Vec<(u32, u32)> = lives
                .filter(|(_, life)| slot.is_none_or(|slot| life.slot == slot))
                .map(|(worker, life)| {
                    (
                        *worker,
                        kept.record.places.get(&life.slot).map_or(0, |place| place.id),
                    )
                })
                .collect();
            let cluster = kept.cluster().filter(|_| !meant.is_empty());
            drop(kept);
            let Some(cluster) = cluster else {
                return Err(Error::new(
                    ErrorCode::Conflict,
                    format!("`{}` does not run", app.name),
                ));
            };
            for (worker, _) in &meant {
                let written = cluster.input(WorkerId(*worker), request.text.clone().into_bytes());
                written.map_err(|error| {
                    Error::new(
                        ErrorCode::Conflict,
                        format!("nothing was sent to `{}`: {error}", app.name),
                    )
                })?;
            }
            done.apps.push(DoneTo {
                app: app.name.clone(),
                ids: meant.into_iter().map(|(_, id)| id).collect(),
                done: "sent".into(),
                error: None,
                receipt: None,
            });
        }
        Ok(done)
    }
}

async fn trigger_one(target: Target, request: &Trigger, until: Instant) -> Result<Deed, Failure> {
    let app = target.app;
    let asked = {
        let mut kept = app.kept();
        let Some(cluster) = kept.cluster() else {
            let error = Error::new(ErrorCode::Conflict, format!("`{}` does not run", app.name));
            return Err(error.into());
        };
        kept.replies.retain(|reply| reply.action != request.action);
        let slot = target.id.and_then(|id| kept.record.slot_of(id));
        let lives = kept
            .record
            .lives
            .iter()
            .filter(|(_, life)| slot.is_none_or(|slot| life.slot == slot));
        let mut asked = Vec::new();
        for (worker, life) in lives {
            let id = kept
                .record
                .places
                .get(&life.slot)
                .map_or(life.slot, |place| place.id);
            let message = axm::ask(&request.action, request.param.as_deref(), id);
            if cluster.send(WorkerId(*worker), &message).is_ok() {
                asked.push((*worker, id));
            }
        }
        asked
    };
    if asked.is_empty() {
        let error = Error::new(
            ErrorCode::Unsupported,
            format!("`{}` has no channel for messages", app.name),
        );
        return Err(error
            .with_hint("only Node apps (and programs with `channel: node`) have one")
            .into());
    }
    let all = app.until(|kept| {
        let replied = |worker: &u32| {
            kept.replies
                .iter()
                .any(|reply| reply.is(&request.action, *worker))
        };
        asked.iter().all(|(worker, _)| replied(worker)).then_some(())
    });
    let in_time = timeout_at(until, all).await.is_ok();
    let kept = app.kept();
    let reply = |(worker, id): &(u32, u32)| {
        let reply = kept
            .replies
            .iter()
            .find(|reply| reply.is(&request.action, *worker));
        reply.map(|reply| format!("[{id}] {}", reply.value))
    };
    let notices: Vec<String> = asked.iter().filter_map(reply).collect();
    if notices.is_empty() && !in_time {
        let what = format!(
            "`{}` did not answer to the action `{}` in time",
            app.name, request.action
        );
        return Err(Error::new(ErrorCode::Timeout, what)
            .with_hint("`everup describe` names the actions that it offers")
            .into());
    }
    Ok(Deed {
        done: "triggered",
        ids: asked.iter().map(|(_, id)| *id).collect(),
        notices,
        ..Deed::default()
    })
}
