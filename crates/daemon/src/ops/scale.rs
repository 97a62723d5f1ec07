//! `scale`.

use super::{Deadline, Deed, Each, Failure, Host, Steps};
use crate::app::{Kept, Turn};
use crate::daemon::{Daemon, Target};
use everup::MAX_WORKERS;
use everup_api::v1::{Done, Scale};
use everup_api::{Error, ErrorCode, Phase};
use std::sync::Arc;

impl Daemon {
    pub(crate) async fn scale(self: &Host, request: Scale, steps: Steps) -> Result<Done, Error> {
        self.open()?;
        let targets = self.targets(std::slice::from_ref(&request.target))?;
        super::stop::whole(&targets, "scaled")?;
        let deadline = Deadline::of(request.timeout_ms);
        // A text that means nothing is told before anything is done.
        count(&request.workers, room(&request.workers))?;
        let each = Each {
            targets,
            parallel: None,
            deadline,
            phase: Phase::Starting,
            steps,
        };
        let done = each.run(|target| {
            let (daemon, workers) = (Arc::clone(self), request.workers.clone());
            async move { daemon.scale_one(target, workers, deadline).await }
        });
        Ok(done.await)
    }

    async fn scale_one(
        self: Host,
        target: Target,
        workers: String,
        deadline: Deadline,
    ) -> Result<Deed, Failure> {
        let app = target.app;
        let turn = app.claim().turn("being scaled", deadline.0).await?;
        turn.still()?;
        let from = app.kept().target;
        let to = count(&workers, from)?;
        if from == to {
            return Ok(Deed::new("nothing", &app));
        }
        let runs = app.kept().run.is_some();
        if runs && to > from {
            self.room(false, to - from)?;
        }
        {
            let mut kept = app.kept();
            if kept.job {
                let error = Error::new(
                    ErrorCode::Unsupported,
                    format!("`{}` is a job: it runs once at a time", app.name),
                );
                return Err(error.into());
            }
            if kept.spec.instances.is_none() {
                // Whose file has no number goes on with it, and so do those that come.
                kept.spec.merge_logs.get_or_insert(true);
            }
            kept.spec.instances = Some(workers_text(&workers, to));
        }
        let scaled = self.scale_to(&turn, to).await;
        self.changed(&app);
        let mut deed = Deed::new("scaled", &app);
        match scaled {
            Ok(()) => {}
            // The number is taken down: whatever runs next has so many.
            Err(error) if error.code == ErrorCode::Conflict => {
                deed.notices
                    .push(format!("{}; workers when it runs again: {to}", error.message));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(deed)
    }

    /// So many workers, if it runs; comes back when they are there, and no others.
    pub(super) async fn scale_to(self: &Host, turn: &Turn, to: u32) -> Result<(), Error> {
        let app = turn.app();
        let (cluster, from) = {
            let mut kept = app.kept();
            let (instances, merged) = (kept.spec.instances.clone(), kept.spec.merge_logs);
            if let Some(run) = &mut kept.run {
                run.spec.instances = instances;
                run.spec.merge_logs = merged;
            }
            (kept.cluster(), std::mem::replace(&mut kept.target, to))
        };
        if to > from {
            self.number(app, to);
        }
        if let Some(cluster) = cluster {
            cluster.scale(to);
            drop(cluster);
            let settled = |kept: &Kept| (kept.run.is_none() || kept.record.settled(to)).then_some(());
            turn.until(settled).await?;
        }
        self.number(app, to);
        Ok(())
    }
}

/// `max` stays `max`.
fn workers_text(text: &str, to: u32) -> String {
    if text == "max" {
        text.into()
    } else {
        to.to_string()
    }
}

/// With so many workers each amount that makes sense does.
fn room(text: &str) -> u32 {
    if text.starts_with('-') { MAX_WORKERS } else { 0 }
}

/// How many workers are meant.
fn count(text: &str, from: u32) -> Result<u32, Error> {
    let wrong = |what: String| {
        Error::new(ErrorCode::InvalidValue, what).with_hint("give a number of workers, `+1`, `-1` or `max`")
    };
    let number = |digits: &str| -> Result<u32, Error> {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = if plain { digits.parse().ok() } else { None };
        number.ok_or_else(|| wrong(format!("`{text}` is no number of workers")))
    };
    let to = match (text, text.strip_prefix('+'), text.strip_prefix('-')) {
        ("max", ..) => everup::cpus::Cpus::detect().usable,
        (_, Some(more), _) => from.saturating_add(number(more)?),
        (_, _, Some(fewer)) => from
            .checked_sub(number(fewer)?)
            .ok_or_else(|| wrong(format!("there are only {from} workers: {text} is too much")))?,
        _ => number(text)?,
    };
    if to > MAX_WORKERS {
        return Err(wrong(format!("{to} is more than {MAX_WORKERS} workers")));
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, from, to) in [
            ("4", 2, Some(4)),
            ("+2", 2, Some(4)),
            ("-1", 2, Some(1)),
            ("0", 2, Some(0)),
            ("-2", 2, Some(0)),
        ] {
            assert_eq!(count(text, from).ok(), to, "{text}");
            assert!(count(text, room(text)).is_ok(), "{text}");
        }
        for text in ["", "x", "+", "--1", "1.5", "99999", "-3"] {
            assert_eq!(
                count(text, 2).unwrap_err().code,
                ErrorCode::InvalidValue,
                "{text}"
            );
        }
    }
}
