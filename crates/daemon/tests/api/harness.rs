//! The daemon under test.

use everup::signals::Signals;
use everup::{Channel, ReadySign, Rollout, Spec, StartError};
use everup_api::v1::{App, CallError, Client, Done, List, SOCKET};
use everup_api::{AppSpec, Error, ErrorCode};
use everup_daemon::{Config, Facts, Launcher, Prepared};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Until a test gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// In the environment of everything that a daemon of these tests starts.
const MARK: &str = "EVERUP_DAEMON_TEST";

/// Understands `script` as a program, and a few settings.
#[derive(Debug)]
pub(crate) struct Plain {
    mark: String,
}

impl Launcher for Plain {
    fn prepare(&self, app: &AppSpec, inherited: &Arc<BTreeMap<String, String>>) -> Result<Prepared, Error> {
        if !Path::new(&app.script).exists() {
            return Err(Error::new(
                ErrorCode::BadInput,
                format!("{} not found", app.script),
            ));
        }
        let mut spec = Spec::new(&app.script);
        spec.name.clone_from(&app.name);
        spec.args = app.args.iter().map(Into::into).collect();
        spec.cwd = Some("/".into());
        spec.channel = Channel::None;
        spec.clear_env = true;
        spec.ends_when_done = true;
        spec.workers = app.instances.as_deref().map_or(1, |text| text.parse().unwrap());
        spec.ready = vec![ReadySign::Uptime(Duration::from_millis(1))];
        spec.rollout = Rollout::default().canary(Duration::ZERO);
        if app.autorestart == Some(false) {
            spec.restart = everup::RestartPolicy::never();
        }
        if let Some(most) = &app.max_restarts {
            spec.restart.budget.early = most.parse().unwrap();
            spec.restart.budget.delay = Duration::from_millis(1);
            // It dies before.
            spec.ready = vec![ReadySign::Uptime(LIMIT)];
        }
        let variables = inherited.iter().chain(&app.env);
        spec.env = variables
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        spec.env.push((MARK.into(), self.mark.clone().into()));
        Ok(Prepared {
            spec,
            triggers: None,
            notices: Vec::new(),
            facts: Facts::default(),
        })
    }

    fn explain(&self, error: StartError) -> Error {
        Error::new(ErrorCode::Internal, error.to_string())
    }
}

/// A running daemon. Dropping it ends it with all that it has started.
pub(crate) struct Daemon {
    pub(crate) home: PathBuf,
    mark: String,
    thread: Option<JoinHandle<()>>,
    /// Removed at the end.
    _folder: Option<TempDir>,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut daemon = Self::at(folder.path());
        daemon._folder = Some(folder);
        daemon
    }

    /// In a home that may have been somebody's before.
    pub(crate) fn at(home: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let config = Config {
            home: home.into(),
            launcher: Arc::new(Plain { mark: mark.clone() }),
        };
        let thread = std::thread::spawn(move || {
            // A signal that nobody sends.
            let signals = Signals::block(&[12]).unwrap();
            everup_daemon::main(config, signals).unwrap();
        });
        let daemon = Self {
            home: home.into(),
            mark,
            thread: Some(thread),
            _folder: None,
        };
        until("the daemon answers", || daemon.try_client().is_some());
        daemon
    }

    fn try_client(&self) -> Option<Client> {
        let mut client = Client::connect(&self.home.join(SOCKET), Some(LIMIT)).ok()?;
        client.ping().ok()?;
        Some(client)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.home.join(SOCKET), Some(LIMIT)).unwrap()
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, call: &str, body: &impl Serialize) -> Result<T, Error> {
        refused(self.client().ask(call, body))
    }

    pub(crate) fn done(&self, call: &str, body: &Value) -> Done {
        self.post(call, body).unwrap()
    }

    /// Starts an app; what came of it.
    pub(crate) fn start_app(&self, app: Value) -> Result<String, Error> {
        let done = self.post("start", &json!({"apps": [app]}))?;
        only(done)
    }

    pub(crate) fn list(&self) -> Vec<App> {
        let list: List = self.client().get("list", &[]).unwrap();
        list.apps
    }

    pub(crate) fn app(&self, name: &str) -> Option<App> {
        self.list().into_iter().find(|app| app.spec.name == name)
    }

    pub(crate) fn pids(&self, name: &str) -> Vec<u32> {
        let app = self.app(name).unwrap();
        app.instances.iter().filter_map(|instance| instance.pid).collect()
    }

    /// Processes that this daemon has started, and that are not over.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let wanted = format!("{MARK}={}", self.mark);
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == wanted.as_bytes())
        };
        pids.filter(ours).collect()
    }

    /// Ends it as the verb does.
    pub(crate) fn kill(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.post::<Done>("kill", &json!({})).unwrap();
            thread.join().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for pid in self.processes() {
                let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
            return;
        }
        self.kill();
    }
}

/// An app that sleeps.
pub(crate) fn sleeper(name: &str, workers: u32) -> Value {
    json!({"name": name, "script": "/bin/sleep", "args": ["1000"], "cwd": "/", "instances": workers.to_string()})
}

/// A shell line.
pub(crate) fn shell(name: &str, line: &str) -> Value {
    json!({"name": name, "script": "/bin/sh", "args": ["-c", line], "cwd": "/"})
}

/// What was done to the only app.
pub(crate) fn only(done: Done) -> Result<String, Error> {
    let [app] = <[_; 1]>::try_from(done.apps).unwrap();
    app.error.map_or(Ok(app.done), Err)
}

pub(crate) fn refused<T>(answer: Result<T, CallError>) -> Result<T, Error> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(CallError::Refused(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// Waits for a state.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "not in time: {what}");
        // wait: until it is looked at once more
        std::thread::sleep(Duration::from_millis(5));
    }
}
