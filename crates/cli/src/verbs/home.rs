//! Which daemon is meant, and how it is reached.

use super::failure::VerbError;
use everup_api::v1::{CallError, Client, SOCKET};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take until it answers.
const START: Duration = Duration::from_secs(20);

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
        launch(&self.path)?;
        let end = Instant::now() + START;
        loop {
            match self.connect(limit) {
                Err(CallError::NotRunning { .. }) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error @ CallError::NotRunning { .. }) => {
                    return Err(VerbError::NotStarted(format!(
                        "it does not answer after {} s: {error}; see {}",
                        START.as_secs(),
                        self.path.join("daemon.log").display()
                    )));
                }
                result => return Ok((result?, true)),
            }
        }
    }
}

/// Starts a daemon that outlives us.
fn launch(home: &Path) -> Result<(), VerbError> {
    let failed = |what: &str, error: std::io::Error| {
        VerbError::NotStarted(format!("{what}: {}", crate::error::reason(&error)))
    };
    let program = std::env::current_exe().map_err(|error| failed("could not find this program", error))?;
    std::fs::create_dir_all(home)
        .map_err(|error| failed(&format!("could not make {}", home.display()), error))?;
    let log = home.join("daemon.log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(|error| failed(&format!("could not write {}", log.display()), error))?;
    let mut command = Command::new(program);
    command
        .arg("daemon")
        .arg("--home")
        .arg(home)
        .env("EVERUP_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .current_dir("/")
        .process_group(0);
    command
        .spawn()
        .map(drop)
        .map_err(|error| failed("could not start it", error))
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
