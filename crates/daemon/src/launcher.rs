//! From an app's description to something that an engine can run. The daemon does not know how: the one who started
//! it does, with the same code as for `everup run`.

use everup::{Spec, StartError};
use everup_api::{AppSpec, Error};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// See the module's documentation. Called in threads that may wait.
pub trait Launcher: fmt::Debug + Send + Sync + 'static {
    /// Looks at the system as it is now: nothing is started, but changes of watched files are noticed from now on.
    /// `inherited` is all that workers get beside what the app says itself.
    ///
    /// # Errors
    /// In the words of `everup run`; the app is not named in them.
    fn prepare(&self, app: &AppSpec, inherited: &Arc<BTreeMap<String, String>>) -> Result<Prepared, Error>;

    /// Why a cluster could not be started, with a hint.
    fn explain(&self, error: StartError) -> Error;

    /// Why an address could not be had, and who has it, in words. It may take its time.
    fn explain_bind(&self, address: &str, errno: i32) -> String {
        format!("it could not listen on {address}: error {errno}")
    }
}

/// An app that can be started.
#[derive(Debug)]
pub struct Prepared {
    /// What the engine gets; where output goes is added by the daemon.
    pub spec: Spec,
    /// What fires by itself.
    pub triggers: Option<Box<dyn Triggers>>,
    /// What the user should know.
    pub notices: Vec<String>,
    /// What was found out.
    pub facts: Facts,
}

/// What was found out of an app, to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// The program that runs it, if it is an interpreter.
    pub interpreter: Option<String>,
    /// The absolute path of its script.
    pub script_path: Option<PathBuf>,
    /// Whether its workers share what they listen on by Node's cluster.
    pub clustered: bool,
    /// The user whom its workers run as.
    pub user: String,
    /// The version in the nearest `package.json`.
    pub version: Option<String>,
}

/// Times and files that make an app reload or a job start; they wait for [`start`](Self::start).
pub trait Triggers: fmt::Debug + Send {
    /// From now on they call.
    ///
    /// # Errors
    /// The system gives no thread.
    fn start(self: Box<Self>, calls: Calls) -> io::Result<Box<dyn Firing>>;
}

/// Triggers at work. Dropping it stops them.
pub trait Firing: fmt::Debug + Send {
    /// A reload has begun (`true`) or is over: what changes meanwhile is fired once afterwards.
    fn hold(&self, held: bool);
}

/// Whom triggers call, in their own threads.
#[derive(Clone)]
pub struct Calls {
    /// Does what the trigger is for; comes back when it is done.
    pub fire: Arc<dyn Fn(Fired) + Send + Sync>,
    /// Tells the user something.
    pub notice: Arc<dyn Fn(String) + Send + Sync>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

/// A trigger has fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// What is to be done.
    pub purpose: Purpose,
    /// For people: `cron \`0 3 * * *\``.
    pub text: String,
}

/// What a trigger is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reload: it is time.
    Cron,
    /// Reload: files changed.
    Watch,
    /// Start the job.
    Launch,
}
