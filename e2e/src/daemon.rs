//! A daemon of everup with a home of its own, driven by the command line as a user would.
//!
//! Dropping it ends it with everything that it has started.

use crate::run::wait_until;
use crate::{LIMIT, binary, process};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// See the module's documentation.
#[derive(Debug)]
pub struct Daemon {
    folder: TempDir,
    home: PathBuf,
    program: PathBuf,
    /// The words before every command: another program that starts ours.
    front: Vec<OsString>,
}

/// Who answers: `everup ping --json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// The daemon.
    pub pid: u32,
    /// The keeper.
    pub keeper: u32,
    /// How many daemons there were.
    pub incarnation: u64,
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Daemon {
    /// A home for one. The first command that needs a daemon starts it.
    ///
    /// # Errors
    /// When there is no binary, or no directory can be made.
    pub fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("everup-e2e-")?;
        Ok(Self {
            home: folder.path().to_owned(),
            folder,
            program: binary::everup()?,
            front: Vec::new(),
        })
    }

    /// One whose home is this path in a folder of its own, which everybody may enter. It is not made.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn at(home: impl AsRef<Path>) -> Result<Self> {
        let mut daemon = Self::new()?;
        fs::set_permissions(daemon.folder.path(), Permissions::from_mode(0o755))?;
        daemon.home = daemon.folder.path().join(home);
        Ok(daemon)
    }

    /// Every command is started by this program with these arguments: `setpriv`, `prlimit`.
    #[must_use]
    pub fn behind(mut self, words: &[&str]) -> Self {
        self.front = words.iter().map(OsString::from).collect();
        self
    }

    /// The same program, not behind anything.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The folder that is removed at the end: the home, or where it is in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The same program under the name `pm2`.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn pm2() -> Result<Self> {
        let mut daemon = Self::new()?;
        let link = daemon.home.join("pm2");
        symlink(&daemon.program, &link)?;
        daemon.program = link;
        Ok(daemon)
    }

    /// `$EVERUP_HOME`.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A command in this home, with nothing of our own environment that a daemon would pass on.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut words: Vec<&OsStr> = self.front.iter().map(OsString::as_os_str).collect();
        words.push(self.program.as_os_str());
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(args)
            .env("EVERUP_HOME", &self.home)
            .env_remove("EVERUP_CONTROL")
            .env_remove("EVERUP_SOCKET")
            .env_remove("PM2_HOME")
            .stdin(Stdio::null())
            .current_dir(self.folder.path());
        command
    }

    /// Every process that has this home in its environment: keeper, daemon, workers, commands.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        process::with_environment(&format!("EVERUP_HOME={}", self.home.display()))
    }

    /// Runs a command and waits for its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn say<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Said> {
        Ok(self.command(args).output().context("start everup")?.into())
    }

    /// The same; anything but success is an error.
    ///
    /// # Errors
    /// With what it said.
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        let said = self.say(args)?;
        ensure!(
            said.code == Some(0),
            "exit code {:?}\n{}{}",
            said.code,
            said.out,
            said.err
        );
        Ok(said.out)
    }

    /// The same, with JSON as its answer.
    ///
    /// # Errors
    /// With what it said.
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Value> {
        let out = self.ok(args)?;
        serde_json::from_str(&out).with_context(|| format!("JSON: {out}"))
    }

    /// Who is there.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn pong(&self) -> Result<Pong> {
        let pong = self.json(["ping", "--json"])?;
        let number = |key: &str| pong[key].as_u64().with_context(|| format!("{key} in {pong}"));
        Ok(Pong {
            pid: u32::try_from(number("pid")?)?,
            keeper: u32::try_from(number("keeper_pid")?)?,
            incarnation: number("incarnation")?,
        })
    }

    /// Waits until somebody answers who fits.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn until_pong(&self, what: &str, fits: impl Fn(&Pong) -> bool) -> Result<Pong> {
        let mut found = None;
        wait_until(what, LIMIT, || match self.pong() {
            Ok(pong) if fits(&pong) => {
                found = Some(pong);
                Ok(())
            }
            Ok(pong) => Err(format!("{pong:?}")),
            Err(error) => Err(format!("{error:#}")),
        })?;
        found.context("a pong")
    }

    /// The app of this name in `everup list --json`.
    ///
    /// # Errors
    /// When there is none.
    pub fn app(&self, name: &str) -> Result<Value> {
        let list = self.json(["list", "--json"])?;
        let apps = list["apps"].as_array().context("apps")?;
        let app = apps.iter().find(|app| app["spec"]["name"] == name);
        app.cloned().with_context(|| format!("no app {name} in {list}"))
    }

    /// The pids of an app's workers, by slot.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn pids(&self, name: &str) -> Result<Vec<u32>> {
        let app = self.app(name)?;
        let instances = app["instances"].as_array().context("instances")?;
        let pid = |instance: &Value| u32::try_from(instance["pid"].as_u64()?).ok();
        Ok(instances.iter().filter_map(pid).collect())
    }

    /// Waits until an app has so many workers that are ready.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn ready(&self, name: &str, workers: usize) -> Result<Vec<u32>> {
        wait_until(&format!("{workers} ready workers of {name}"), LIMIT, || {
            let app = self.app(name).map_err(|error| format!("{error:#}"))?;
            let instances = app["instances"].as_array().cloned().unwrap_or_default();
            match instances.iter().filter(|one| one["state"] == "ready").count() {
                ready if ready == workers => Ok(()),
                _ => Err(app.to_string()),
            }
        })?;
        self.pids(name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pong = self.pong().ok();
        let workers = self.processes();
        self.say(["kill"]).ok();
        for pid in pong
            .iter()
            .flat_map(|pong| [pong.keeper, pong.pid])
            .chain(workers)
        {
            if process::alive(pid) {
                process::signal(pid, Signal::KILL).ok();
            }
        }
    }
}
