//! `start`: new apps, apps that are there under another description, and apps that stand still.

use super::run::Wanted;
use super::{Deadline, Deed, Each, Failure, Host, Steps};
use crate::app::{App, Phase, Turn, Variables};
use crate::daemon::{Daemon, Target};
use everup::{MAX_WORKERS, Outcome};
use everup_api::v1::{Done, Start};
use everup_api::{AppSpec, Condition, Error, ErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How an app is to be started.
#[derive(Debug, Clone)]
pub(super) struct How {
    /// `None`: as it is.
    pub(super) wanted: Option<Wanted>,
    /// It was not there: if it cannot be started, it is gone again.
    pub(super) new: bool,
    pub(super) update_env: Option<Arc<Variables>>,
    /// What is wanted of it if it cannot be started.
    pub(super) was_wanted: bool,
    /// Until it is ready.
    pub(super) wait: bool,
    pub(super) deadline: Deadline,
}

impl Daemon {
    /// Starts them all.
    pub(crate) async fn start(self: &Host, request: Start, steps: Steps) -> Result<Done, Error> {
        self.open()?;
        let deadline = Deadline::of(request.timeout_ms);
        let inherited = Arc::new(request.inherited);
        let mut hows: BTreeMap<String, How> = BTreeMap::new();
        let how = |wanted, new| How {
            wanted,
            new,
            update_env: request.update_env.then(|| Arc::clone(&inherited)),
            was_wanted: false,
            wait: request.wait,
            deadline,
        };
        // Nothing is done before all of it is understood.
        let known = match request.targets.is_empty() {
            true if request.apps.is_empty() => {
                return Err(Error::new(
                    ErrorCode::MissingField,
                    "nothing to start: no `apps`, no `targets`",
                ));
            }
            true => Vec::new(),
            false => self.targets(&request.targets)?,
        };
        let specs = self.named(request.apps, request.fresh, request.force)?;
        self.check_dependencies(&specs)?;
        let mut targets = Vec::new();
        for spec in specs {
            let (app, new) = self.app_or_new(&spec, &inherited);
            if new {
                // Ids are in the order of the file, whoever is prepared first.
                self.number(&app, places(&spec));
            }
            let wanted = Wanted {
                spec,
                inherited: Arc::clone(&inherited),
                origin: None,
            };
            hows.insert(app.name.clone(), how(Some(wanted), new));
            targets.push(Target { app, id: None });
        }
        for target in known {
            if !hows.contains_key(&target.app.name) {
                hows.insert(target.app.name.clone(), how(None, false));
                targets.push(target);
            }
        }
        let each = Each {
            targets,
            parallel: None,
            deadline,
            phase: everup_api::Phase::Starting,
            steps,
        };
        // Those that wait for one of them must know from the beginning that it is on its way.
        for target in &each.targets {
            let was = std::mem::replace(&mut target.app.kept().wanted, true);
            if let Some(how) = hows.get_mut(&target.app.name) {
                how.was_wanted = was;
            }
        }
        let done = each.run(|target| {
            let (daemon, how) = (Arc::clone(self), hows.get(&target.app.name).cloned());
            async move {
                match how {
                    Some(how) => daemon.start_one(target.app, how).await,
                    None => Ok(Deed::default()),
                }
            }
        });
        Ok(done.await)
    }

    /// Under which names new ones are started.
    fn named(&self, mut specs: Vec<AppSpec>, fresh: bool, force: bool) -> Result<Vec<AppSpec>, Error> {
        for place in 0..specs.len() {
            let name = specs[place].name.clone();
            check_name(&name)?;
            let taken =
                |name: &str| self.app(name).is_some() || specs[..place].iter().any(|spec| spec.name == name);
            if specs[..place].iter().any(|spec| spec.name == name) && !force {
                return Err(twice(&name));
            }
            if !taken(&name) {
                continue;
            }
            if fresh && !force {
                let error = Error::new(ErrorCode::Exists, format!("an app `{name}` is there already"));
                return Err(error.with_hint(format!(
                    "`everup restart {name}`, or give another --name, or --force"
                )));
            }
            if force {
                let free = (1..)
                    .map(|n: u32| format!("{name}-{n}"))
                    .find(|name| !taken(name));
                specs[place].name = free.unwrap_or(name);
            }
        }
        Ok(specs)
    }

    /// Apps that are waited for must be there, and not wait for each other.
    pub(super) fn check_dependencies(&self, specs: &[AppSpec]) -> Result<(), Error> {
        let known: BTreeMap<String, Vec<String>> = self
            .apps()
            .iter()
            .map(|app| {
                (
                    app.name.clone(),
                    app.kept().spec.depends_on.keys().cloned().collect(),
                )
            })
            .chain(
                specs
                    .iter()
                    .map(|spec| (spec.name.clone(), spec.depends_on.keys().cloned().collect())),
            )
            .collect();
        crate::order::check(&known, specs.iter().map(|spec| spec.name.as_str()))
    }

    pub(super) async fn start_one(self: Host, app: Arc<App>, how: How) -> Result<Deed, Failure> {
        let turn = app.claim().turn("being started", how.deadline.0).await?;
        let result = self.start_now(&turn, &how).await;
        // Somebody who said stop wants it to stand still, not to be gone.
        let stopped = matches!(&result, Err(failure) if failure.error.code == ErrorCode::Conflict);
        if result.is_err() && how.new && !stopped && app.kept().run.is_none() {
            let failed = matches!(app.kept().end, Some(Outcome::Failed { status: Some(_) }));
            if !failed {
                let seen = app.kept().record.not_started.is_some();
                if seen {
                    self.forget(&app);
                } else {
                    self.unmake(&app);
                }
            }
        }
        if result.is_err() && app.kept().run.is_none() && app.kept().end.is_none() {
            app.kept().wanted = how.was_wanted;
        }
        self.changed(&app);
        result
    }

    async fn start_now(self: &Host, turn: &Turn, how: &How) -> Result<Deed, Failure> {
        let app = turn.app();
        let runs = app.kept().run.is_some();
        app.kept().wanted = true;
        let mut wanted = how.wanted.clone().unwrap_or_else(|| Wanted::now(&app.kept()));
        if let Some(inherited) = &how.update_env {
            wanted.inherited = Arc::clone(inherited);
        }
        // What cannot be started is told before anything is waited for.
        let prepared = self.prepare(&wanted.spec, &wanted.inherited).await?;
        if !runs {
            self.number(app, prepared.spec.workers);
            app.kept().spec = wanted.spec.clone();
            self.wait_for_others(turn, &wanted.spec).await?;
        }
        let notices = self.run_prepared(turn, wanted, prepared).await?;
        if how.wait {
            ready(turn).await?;
        }
        let done = if runs { "restarted" } else { "started" };
        let mut deed = Deed::new(done, app);
        deed.notices = notices;
        Ok(deed)
    }

    /// Waits for the apps that it depends on.
    async fn wait_for_others(self: &Host, turn: &Turn, spec: &AppSpec) -> Result<(), Error> {
        let name = &turn.app().name;
        for (other, condition) in &spec.depends_on {
            let missing = || {
                Error::new(
                    ErrorCode::UnknownApp,
                    format!("`{name}` depends on `{other}`, which is not there"),
                )
            };
            let other_app = self.app(other).ok_or_else(missing)?;
            turn.app().kept().phase = Phase::Waiting;
            turn.app().changed();
            let met = other_app.until(|kept| met(kept, *condition));
            let mut hurried = Box::pin(turn.until(|_| None::<()>));
            tokio::select! {
                met = met => met.map_err(|why| {
                    Error::new(ErrorCode::AppFailed, format!("`{name}` depends on `{other}`, which {why}"))
                })?,
                hurried = &mut hurried => hurried?,
            }
        }
        turn.app().kept().phase = Phase::Starting;
        Ok(())
    }
}

/// Whether an app is as far as another one wants it to be, or never will be.
fn met(kept: &crate::app::Kept, condition: Condition) -> Option<Result<(), &'static str>> {
    if kept.gone {
        return Some(Err("was deleted"));
    }
    let ended = kept.run.is_none() && kept.phase == Phase::Idle;
    let failed = ended && matches!(kept.state(), everup_api::v1::AppState::Failed);
    match condition {
        _ if failed => Some(Err("failed")),
        Condition::Started if kept.run.is_some() && (kept.job || kept.record.started(kept.target)) => {
            Some(Ok(()))
        }
        Condition::Ready if kept.run.is_some() && kept.record.all_ready => Some(Ok(())),
        Condition::Completed => match kept.end {
            Some(Outcome::Done { failures: 0, .. }) if kept.run.is_none() => Some(Ok(())),
            Some(Outcome::Done { .. }) if kept.run.is_none() => Some(Err("ended with a failure")),
            _ if ended && !kept.wanted => Some(Err("is stopped")),
            _ => None,
        },
        _ if ended && !kept.wanted => Some(Err("is stopped")),
        _ => None,
    }
}

/// Waits until all workers are ready.
async fn ready(turn: &Turn) -> Result<(), Error> {
    let name = turn.app().name.clone();
    let result = turn.until(|kept| match (&kept.run, kept.end) {
        (Some(_), _) if kept.job || kept.record.all_ready => Some(Ok(())),
        (Some(_), _) => None,
        (None, Some(Outcome::Done { failures: 0, .. })) => Some(Ok(())),
        (None, _) => Some(Err(kept.because.clone())),
    });
    result.await?.map_err(|because| {
        let because = because.unwrap_or_else(|| "it ended before it was ready".into());
        Error::new(ErrorCode::AppFailed, format!("`{name}` failed: {because}"))
            .with_hint(format!("`everup why {name}`"))
    })
}

pub(super) fn twice(name: &str) -> Error {
    Error::new(
        ErrorCode::InvalidValue,
        format!("two apps have the name `{name}`"),
    )
}

/// Files and memories are named after apps: 255 and 249 bytes is all that the kernel takes for these.
const LONGEST_NAME: usize = 200;

pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        let error = Error::new(
            ErrorCode::InvalidValue,
            format!("`{}` is no name", name.escape_debug()),
        );
        return Err(error.with_hint("a name has visible characters only, at least one"));
    }
    if name.len() > LONGEST_NAME {
        let start: String = name.chars().take(20).collect();
        let what = format!(
            "`{start}…` is no name: it has {} bytes, and may have {LONGEST_NAME}",
            name.len()
        );
        return Err(Error::new(ErrorCode::InvalidValue, what).with_hint("give a shorter --name"));
    }
    if name == "all" {
        let error = Error::new(ErrorCode::InvalidValue, "no app can have the name `all`");
        return Err(error.with_hint("`all` means all apps"));
    }
    Ok(())
}

/// How many workers it will most likely have; what was meant exactly is found out when it is prepared.
fn places(spec: &AppSpec) -> u32 {
    let cpus = everup::cpus::Cpus::detect().usable;
    let text = spec.instances.as_deref().unwrap_or("1");
    let number = match text.parse::<i32>() {
        Ok(number @ 1..) => number.unsigned_abs(),
        Ok(fewer) => cpus.saturating_sub(fewer.unsigned_abs()),
        Err(_) if text == "max" => cpus,
        Err(_) => 1,
    };
    number.clamp(1, MAX_WORKERS)
}
