//! What the control socket can make the cluster do.

use everup_api as api;

/// The cluster, as the control socket sees it. Called from several threads at once; a call may take as long as what
/// it does, and holds up no other one.
pub(crate) trait Operator: Send + Sync {
    /// Who we are.
    fn ping(&self) -> api::Pong;

    /// How the app is now.
    fn status(&self) -> Result<api::Status, api::Error>;

    /// Why workers ended; the newest first.
    fn why(&self, request: api::WhyRequest) -> Result<api::Why, api::Error>;

    /// Reloads, and returns when it has ended, however it ended. It goes on when nobody listens to `progress`,
    /// which never blocks for long. When the cluster ends meanwhile, it returns too.
    fn reload(
        &self,
        request: api::ReloadRequest,
        progress: &mut dyn FnMut(api::Progress),
    ) -> Result<api::Receipt, api::Error>;

    /// Gives the reload up that is going on.
    fn abort(&self) -> Result<api::Aborted, api::Error>;

    /// Has more or fewer workers; returns when they are ready, or gone.
    fn scale(&self, request: api::ScaleRequest) -> Result<api::Scaled, api::Error>;

    /// Stops all and starts anew; as [`reload`](Self::reload) does.
    fn restart(
        &self,
        request: api::RestartRequest,
        progress: &mut dyn FnMut(api::Progress),
    ) -> Result<api::Receipt, api::Error>;

    /// Begins to end; returns at once.
    fn stop(&self, request: api::StopRequest) -> Result<api::Stopping, api::Error>;

    /// Opens the log files anew.
    fn reopen(&self) -> Result<api::Reopened, api::Error>;

    /// Sends a signal, by its number, to one worker or to all.
    fn signal(&self, signal: i32, worker: Option<u32>) -> Result<api::Signalled, api::Error>;

    /// Starts the scheduled job now.
    fn launch(&self) -> Result<api::Launched, api::Error>;
}
