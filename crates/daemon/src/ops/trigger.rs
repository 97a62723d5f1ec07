//! `trigger`: an action of pm2's protocol is sent to apps, and their replies are waited for. `send`: what cannot be done.

use super::{Deadline, Deed, Each, Failure, Host, Steps};
use crate::axm;
use crate::daemon::{Daemon, Target};
use everup::WorkerId;
use everup_api::v1::{Done, Send, Trigger};
use everup_api::{Error, ErrorCode, Phase};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long replies are waited for, if nobody says.
const LIMIT: Duration = Duration::from_secs(5);

impl Daemon {
    /// Sends it to each worker; the replies are notices.
    pub(crate) async fn trigger(self: &Host, request: Trigger, steps: Steps) -> Result<Done, Error> {
        let targets = self.targets(&request.targets)?;
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
        Ok(done.await)
    }

    /// Workers have no standard input of ours.
    pub(crate) fn send(&self, request: &Send) -> Result<Done, Error> {
        self.targets(std::slice::from_ref(&request.target))?;
        let what = "workers have no standard input: it is /dev/null";
        let error = Error::new(ErrorCode::Unsupported, what);
        Err(error.with_hint("send a signal, an action (`trigger`), or a message through a socket of the app"))
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
