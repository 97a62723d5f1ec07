//! What callers may have done to apps. Each operation goes on to its end, whoever still waits for its answer; the answer
//! says what is true when it is given.

pub(crate) mod apply;
pub(crate) mod kill;
mod logs;
pub(crate) mod replace;
mod run;
pub(crate) mod save;
pub(crate) mod scale;
pub(crate) mod small;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod trigger;
mod upgrade;

use crate::app::App;
use crate::daemon::{Daemon, Target};
use crate::target::Missing;
use everup_api::v1::{Done, DoneTo};
use everup_api::{Error, ErrorCode, Phase, Progress, Receipt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How long a call may take, if nobody says.
const LIMIT: Duration = Duration::from_secs(60);
/// Nobody waits longer.
const MOST: Duration = Duration::from_secs(24 * 3600);

/// When a call is to be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(pub(crate) Instant);

impl Deadline {
    pub(crate) fn of(timeout_ms: Option<u64>) -> Self {
        let limit = timeout_ms.map_or(LIMIT, Duration::from_millis).min(MOST);
        Self(Instant::now() + limit)
    }
}

/// Where progress goes; nobody may be there any more.
#[derive(Debug, Clone)]
pub(crate) struct Steps(mpsc::Sender<Progress>);

impl Steps {
    pub(crate) fn new(sender: mpsc::Sender<Progress>) -> Self {
        Self(sender)
    }

    /// A reader that is slow misses some.
    pub(crate) fn tell(&self, step: Progress) {
        self.0.try_send(step).ok();
    }
}

/// What was done to one app.
#[derive(Debug, Default)]
pub(crate) struct Deed {
    pub(crate) done: &'static str,
    pub(crate) ids: Vec<u32>,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) notices: Vec<String>,
}

impl Deed {
    pub(crate) fn new(done: &'static str, app: &App) -> Self {
        Self {
            done,
            ids: app.kept().record.ids(),
            ..Self::default()
        }
    }
}

/// An error, and the receipt that explains it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) receipt: Option<Receipt>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, receipt: None }
    }
}

/// One operation on each of these apps, at most `parallel` at a time.
pub(crate) struct Each {
    pub(crate) targets: Vec<Target>,
    pub(crate) parallel: Option<u32>,
    pub(crate) deadline: Deadline,
    pub(crate) phase: Phase,
    /// What is said of each: `stopped`.
    pub(crate) steps: Steps,
}

impl Each {
    /// Does it; the operations go on when the deadline has passed.
    pub(crate) async fn run<F, O>(self, operation: F) -> Done
    where
        F: Fn(Target) -> O,
        O: Future<Output = Result<Deed, Failure>> + Send + 'static,
    {
        let most = self
            .parallel
            .map_or(Semaphore::MAX_PERMITS, |most| most.max(1) as usize);
        let permits = Arc::new(Semaphore::new(most));
        let total = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
        let mut tasks = JoinSet::new();
        for (place, target) in self.targets.into_iter().enumerate() {
            let (permits, deadline) = (Arc::clone(&permits), self.deadline);
            let app = Arc::clone(&target.app);
            let work = operation(target);
            tasks.spawn(async move {
                let result = within(&app, permits, deadline, work).await;
                (place, done_to(&app, result))
            });
        }
        let mut all = Vec::new();
        let mut count = 0;
        while let Some(result) = tasks.join_next().await {
            let Ok((place, (done, notices))) = result else {
                continue;
            };
            count += 1;
            self.steps.tell(Progress {
                phase: self.phase,
                done: count,
                total,
                message: match &done.error {
                    None => format!("{}: {}", done.app, done.done),
                    Some(error) => format!("{}: {error}", done.app),
                },
            });
            all.push((place, done, notices));
        }
        all.sort_by_key(|(place, ..)| *place);
        let mut answer = Done::default();
        for (_, done, notices) in all {
            answer
                .notices
                .extend(notices.iter().map(|notice| format!("{}: {notice}", done.app)));
            answer.apps.push(done);
        }
        answer
    }
}

/// The work goes on in a task of its own; its result by the deadline.
async fn within(
    app: &Arc<App>,
    permits: Arc<Semaphore>,
    deadline: Deadline,
    work: impl Future<Output = Result<Deed, Failure>> + Send + 'static,
) -> Result<Deed, Failure> {
    let Ok(Ok(permit)) = timeout_at(deadline.0, permits.acquire_owned()).await else {
        return Err(late(app, "nothing was done").into());
    };
    let task = tokio::spawn(async move {
        let result = work.await;
        drop(permit);
        result
    });
    match timeout_at(deadline.0 + Duration::from_millis(50), task).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(Error::new(
            ErrorCode::Internal,
            format!("a task of the daemon failed: {error}"),
        )
        .into()),
        Err(_) => Err(late(app, "it goes on").into()),
    }
}

fn late(app: &App, what: &str) -> Error {
    let kept = app.kept();
    let doing = match kept.doing {
        "" => String::new(),
        doing => format!("`{}` is still {doing}; ", app.name),
    };
    let message = format!(
        "not in time: {doing}{what}, and the app is {} now",
        kept.state_name()
    );
    Error::new(ErrorCode::Timeout, message)
        .with_hint("`everup list` shows how it goes; --timeout may be longer")
}

fn done_to(app: &App, result: Result<Deed, Failure>) -> (DoneTo, Vec<String>) {
    let app = app.name.clone();
    match result {
        Ok(deed) => {
            let done = DoneTo {
                app,
                ids: deed.ids,
                done: deed.done.into(),
                error: None,
                receipt: deed.receipt,
            };
            (done, deed.notices)
        }
        Err(failure) => {
            let done = DoneTo {
                app,
                ids: Vec::new(),
                done: "nothing".into(),
                error: Some(failure.error),
                receipt: failure.receipt,
            };
            (done, Vec::new())
        }
    }
}

/// What could be done is done; each target that is nobody's is named with it.
pub(crate) fn with_missing(mut done: Done, missing: Missing) -> Done {
    done.apps.extend(missing.into_iter().map(|(app, error)| DoneTo {
        app,
        ids: Vec::new(),
        done: "nothing".into(),
        error: Some(error),
        receipt: None,
    }));
    done
}

/// A daemon, for operations.
pub(crate) type Host = Arc<Daemon>;
