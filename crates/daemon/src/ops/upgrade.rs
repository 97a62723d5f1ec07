//! `upgrade`: another program takes over, with everything that runs.

use super::Host;
use crate::daemon::{Daemon, blocking};
use everup_api::v1::{Done, Upgrade};
use everup_api::{Error, ErrorCode};
use std::path::PathBuf;
use std::time::Duration;

/// How long the new program may take to say what it speaks.
const CHECK: Duration = Duration::from_secs(5);

impl Daemon {
    /// Looks whether the program can take over; if so, this process ends when the answer has been given.
    pub(crate) async fn upgrade(self: &Host, request: Upgrade) -> Result<Done, Error> {
        let Some(upgrade) = self.upgrade.clone() else {
            let error = Error::new(ErrorCode::Unsupported, "this daemon runs without a keeper");
            return Err(error.with_hint("stop it, and start it by any other command, such as `everup start`"));
        };
        let program = match request.program {
            Some(program) => program,
            None => PathBuf::from("/proc/self/exe"),
        };
        if !program.is_absolute() {
            let what = format!("`program` is {}, and no absolute path", program.display());
            return Err(Error::new(ErrorCode::InvalidValue, what));
        }
        let checked = program.clone();
        let checked = blocking(move || upgrade.check(&checked, CHECK)).await?;
        let checked = checked.map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let what = format!(
                "{} cannot take over: {error}{}",
                program.display(),
                source.unwrap_or_default()
            );
            Error::new(ErrorCode::BadInput, what)
                .with_hint("nothing has changed: the daemon goes on as it is")
        })?;
        self.note("upgrade", serde_json::json!({"program": program}));
        self.hand_over(checked);
        Ok(Done::default())
    }
}
