//! Which daemon is meant, and how it is reached.

use super::failure::VerbError;
use crate::keeper;
use everup_api::v1::{CallError, Client, SOCKET};
use everup_keeper::{EnsureError, Place, Started};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// `$EVERUP_HOME`, and where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Home {
    /// The one of this environment. A script that was written for pm2 names its home by `PM2_HOME`.
    pub(crate) fn find(pm2: bool) -> Result<Self, VerbError> {
        Self::named(
            pm2,
            |name| std::env::var_os(name).filter(|value| !value.is_empty()),
            passwd_home,
        )
    }

    fn named(
        pm2: bool,
        variable: impl Fn(&str) -> Option<OsString>,
        user: impl FnOnce() -> Option<PathBuf>,
    ) -> Result<Self, VerbError> {
        let ours = variable("EVERUP_HOME");
        let given = ours
            .or_else(|| variable("PM2_HOME").filter(|_| pm2))
            .map(PathBuf::from);
        let path = match given {
            Some(path) => path,
            None => variable("HOME")
                .map(PathBuf::from)
                .or_else(user)
                .ok_or(VerbError::NoHome)?
                .join(".everup"),
        };
        let path = std::path::absolute(&path).unwrap_or(path);
        let socket = variable("EVERUP_SOCKET").map_or_else(|| path.join(SOCKET), PathBuf::from);
        let socket = std::path::absolute(&socket).unwrap_or(socket);
        Ok(Self { path, socket })
    }

    /// The daemon that is there.
    pub(crate) fn connect(&self, limit: Option<Duration>) -> Result<Client, CallError> {
        Client::connect(&self.socket, limit)
    }

    /// The daemon; if there is none, it is started. `true` if it was.
    pub(crate) fn ensure(&self, limit: Option<Duration>) -> Result<(Client, bool), VerbError> {
        match self.connect(limit) {
            Err(CallError::NotRunning { .. }) => {}
            result => return Ok((result?, false)),
        }
        let place = Place {
            home: self.path.clone(),
            socket: self.socket.clone(),
        };
        let started = keeper::ensure(&place).map_err(|error| not_started(&error))?;
        Ok((self.connect(limit)?, started == Started::Now))
    }
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error
            .downcast_ref()
            .map_or_else(|| error.to_string(), crate::error::reason);
        text.push_str(&format!(": {words}"));
        cause = error.source();
    }
    text
}

fn not_started(error: &EnsureError) -> VerbError {
    let of_home = matches!(
        error,
        EnsureError::Create { .. }
            | EnsureError::NotAFolder(_)
            | EnsureError::Owner { .. }
            | EnsureError::NotWritable { .. }
    );
    VerbError::NotStarted {
        why: chain(error),
        home: of_home,
    }
}

/// The home of our user, by the user database's file.
fn passwd_home() -> Option<PathBuf> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let home = fields.get(5).filter(|home| home.starts_with('/'))?;
        (fields.get(2) == Some(&uid.as_str())).then(|| PathBuf::from(home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn home(pm2: bool, variables: &[(&str, &str)], user: Option<&str>) -> Option<(String, String)> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let home = Home::named(pm2, variable, || user.map(PathBuf::from)).ok()?;
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        Some((text(&home.path), text(&home.socket)))
    }

    #[test]
    fn whose_home() {
        let at = |path: &str| Some((path.to_owned(), format!("{path}/everup.sock")));
        let both = [("EVERUP_HOME", "/e"), ("PM2_HOME", "/p"), ("HOME", "/h")];
        assert_eq!(home(false, &both, None), at("/e"));
        assert_eq!(home(true, &both, None), at("/e"));
        assert_eq!(home(true, &both[1..], None), at("/p"));
        assert_eq!(home(false, &both[1..], None), at("/h/.everup"));
        assert_eq!(home(true, &both[2..], None), at("/h/.everup"));
        assert_eq!(home(false, &[], Some("/root")), at("/root/.everup"));
        assert_eq!(home(false, &[], None), None);
        let elsewhere = [("EVERUP_HOME", "/e"), ("EVERUP_SOCKET", "/run/s")];
        assert_eq!(
            home(false, &elsewhere, None),
            Some(("/e".into(), "/run/s".into()))
        );
    }
}
