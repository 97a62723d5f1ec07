//! The stage on which a row plays: a Node binary, a mode, a primary without workers, and events with a limit.
//!
//! Everything waits for a *state* with [`LIMIT`]; nothing sleeps in the hope that something has happened. A wait
//! that fails prints all that was seen until then.

use crate::engine::{Engine, Everup, Seen};
use crate::reference::Reference;
use everup::{
    Address, Channel, ExitStatus, HandleKind, Output, Policy, RestartPolicy, Serialization, Spec,
    signal_number,
};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) use crate::engine::Exit;

/// How long a state may take that normally takes a tenth of a second.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Set in a process that runs one row alone.
const ALONE: &str = "EVERUP_CONFORMANCE_ALONE";

/// Set to `node`, the tests run with Node's own cluster primary: a check of the tests.
const PRIMARY: &str = "EVERUP_CONFORMANCE_PRIMARY";

/// How connections come to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    RoundRobin,
    Shared,
}

/// Where a row runs.
#[derive(Debug)]
pub(crate) struct At {
    /// Node's major version.
    pub(crate) version: u32,
    /// Its binary.
    pub(crate) node: PathBuf,
    pub(crate) mode: Mode,
    /// The full name of the test.
    test: &'static str,
}

/// Runs a row. `test` is the path of its module, with the crate.
pub(crate) fn run(version: u32, mode: Mode, test: &'static str, row: fn(&At)) {
    let at = At {
        version,
        node: node(version),
        mode,
        test,
    };
    row(&at);
}

/// The binary of a version: Node 20 is the one in `PATH`, the others are installed by `e2e/setup`.
fn node(version: u32) -> PathBuf {
    let node = if version == 20 {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|directory| directory.join("node"))
            .find(|node| node.is_file())
    } else {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("node-versions/node_modules");
        Some(root.join(format!("node{version}/bin/node"))).filter(|node| node.is_file())
    };
    node.unwrap_or_else(|| match version {
        20 => panic!("no node in PATH: install Node 20, then run e2e/setup"),
        _ => panic!("no Node {version}: run e2e/setup"),
    })
}

/// A file of `e2e/conformance`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conformance")
        .join(name)
}

impl At {
    /// What to start: `script` with its case, no workers yet, nothing restarted.
    pub(crate) fn spec(&self, name: &str, case: &str) -> Spec {
        let mut spec = Spec::new(&self.node);
        spec.args = vec![script(name).into(), case.into()];
        spec.workers = 0;
        spec.restart = RestartPolicy::never();
        spec.policy = match self.mode {
            Mode::RoundRobin => Policy::RoundRobin,
            Mode::Shared => Policy::Shared,
        };
        spec.channel = Channel::Node(Serialization::Json);
        spec
    }

    pub(crate) fn primary(&self, name: &str, case: &str) -> Primary {
        self.start(self.spec(name, case))
    }

    /// Starts a primary; the workers' output is always collected.
    pub(crate) fn start(&self, mut spec: Spec) -> Primary {
        let engine: Box<dyn Engine> = if self.reference() {
            Box::new(Reference::start(self, &spec))
        } else {
            let (sink, lines) = crate::engine::lines();
            spec.output = Output::Lines(Box::new(sink));
            Box::new(Everup::start(spec, lines))
        };
        Primary {
            engine,
            backlog: VecDeque::new(),
            log: String::new(),
            started: Instant::now(),
            forked: 0,
            pids: HashMap::new(),
        }
    }

    /// Whether Node's own primary is in our place.
    pub(crate) fn reference(&self) -> bool {
        std::env::var_os(PRIMARY).is_some_and(|primary| primary == "node")
    }

    /// True in a process that runs nothing but this row. Elsewhere it starts one (in `directory`), asserts
    /// that the row passed there, and is false.
    pub(crate) fn alone(&self, directory: Option<&Path>) -> bool {
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let output = self.command(directory).output().expect("run this test alone");
        assert!(
            output.status.success(),
            "{} alone: {}\n{}{}",
            self.test,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        false
    }

    /// Whether this is such a process.
    pub(crate) fn is_alone(&self) -> bool {
        std::env::var_os(ALONE).is_some()
    }

    /// The command that runs this row in a process of its own.
    pub(crate) fn command(&self, directory: Option<&Path>) -> Command {
        let (_, name) = self.test.split_once("::").expect("a test has a module");
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.args(["--exact", name, "--nocapture"]).env(ALONE, "1");
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        command
    }
}

/// A primary and what was seen of it.
pub(crate) struct Primary {
    engine: Box<dyn Engine>,
    /// Seen, but not asked for yet.
    backlog: VecDeque<Seen>,
    log: String,
    started: Instant,
    forked: u32,
    pids: HashMap<u32, u32>,
}

impl Primary {
    pub(crate) fn fork(&mut self) -> u32 {
        self.fork_with(&[])
    }

    /// Starts a worker with these variables; waits for nothing.
    pub(crate) fn fork_with(&mut self, env: &[(&str, &str)]) -> u32 {
        let env: Vec<(OsString, OsString)> = env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        self.forked += 1;
        let worker = self.engine.fork(env);
        worker.unwrap_or(self.forked)
    }

    /// Starts `count` workers and waits until each listens.
    pub(crate) fn fork_listening(&mut self, count: u32, env: &[(&str, &str)]) -> Vec<(u32, u16)> {
        let workers: Vec<u32> = (0..count).map(|_| self.fork_with(env)).collect();
        workers
            .into_iter()
            .map(|worker| (worker, self.port(worker)))
            .collect()
    }

    pub(crate) fn tell(&mut self, worker: u32, message: &Value) {
        self.engine.send(worker, &message.to_string());
    }

    pub(crate) fn tell_text(&mut self, worker: u32, json: &str) {
        self.engine.send(worker, json);
    }

    pub(crate) fn send_handle(
        &mut self,
        worker: u32,
        message: &Value,
        kind: HandleKind,
        fd: impl Into<OwnedFd>,
    ) {
        self.engine
            .send_handle(worker, &message.to_string(), kind, fd.into());
    }

    pub(crate) fn disconnect(&mut self, worker: u32) {
        self.engine.disconnect(worker);
    }

    /// Closes a worker's channel without a word.
    pub(crate) fn cut(&mut self, worker: u32) {
        self.engine.cut(worker);
    }

    pub(crate) fn kill(&mut self, worker: u32, signal: i32) {
        self.engine.kill(worker, signal);
    }

    pub(crate) fn stop(&mut self) {
        self.engine.stop();
    }

    /// The worker's state in words, `None` when it is gone, and whether its channel is open.
    pub(crate) fn state(&mut self, worker: u32) -> Option<(String, bool)> {
        self.engine.state(worker)
    }

    /// Takes the first event that fits, whether it came already or is yet to come.
    pub(crate) fn take(&mut self, what: &str, mut fits: impl FnMut(&Seen) -> bool) -> Seen {
        if let Some(index) = self.backlog.iter().position(&mut fits) {
            return self.backlog.remove(index).expect("just found");
        }
        let deadline = Instant::now() + LIMIT;
        while let Some(seen) = self.next(deadline) {
            if fits(&seen) {
                return seen;
            }
            self.backlog.push_back(seen);
        }
        panic!("no {what} within {LIMIT:?}; seen:\n{}", self.log);
    }

    /// Asserts that nothing that fits comes within `limit`: only for what must *not* happen.
    pub(crate) fn quiet(&mut self, limit: Duration, what: &str, mut unwanted: impl FnMut(&Seen) -> bool) {
        let deadline = Instant::now() + limit;
        while let Some(seen) = self.next(deadline) {
            self.backlog.push_back(seen);
        }
        assert!(
            !self.backlog.iter().any(&mut unwanted),
            "{what}; seen:\n{}",
            self.log
        );
    }

    fn next(&mut self, deadline: Instant) -> Option<Seen> {
        let seen = self
            .engine
            .next(deadline.saturating_duration_since(Instant::now()))?;
        let after = self.started.elapsed().as_millis();
        writeln!(self.log, "  {after:>6} ms {seen:.200?}").expect("write to a string");
        Some(seen)
    }

    pub(crate) fn pid(&mut self, worker: u32) -> u32 {
        if let Some(pid) = self.pids.get(&worker) {
            return *pid;
        }
        match self.take(
            &format!("fork of {worker}"),
            |seen| matches!(seen, Seen::Fork { worker: w, .. } if *w == worker),
        ) {
            Seen::Fork { pid, .. } => {
                self.pids.insert(worker, pid);
                pid
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn online(&mut self, worker: u32) {
        self.take(
            &format!("online of {worker}"),
            |seen| matches!(seen, Seen::Online { worker: w } if *w == worker),
        );
    }

    pub(crate) fn listening(&mut self, worker: u32) -> Address {
        let what = format!("listening of {worker}");
        match self.take(
            &what,
            |seen| matches!(seen, Seen::Listening { worker: w, .. } if *w == worker),
        ) {
            Seen::Listening { address, .. } => address,
            other => panic!("{other:?}"),
        }
    }

    /// The port on which a worker says that it listens.
    pub(crate) fn port(&mut self, worker: u32) -> u16 {
        match self.listening(worker) {
            Address::Tcp(address) | Address::Udp(address) => {
                assert_ne!(address.port(), 0, "the real port is reported");
                address.port()
            }
            other => panic!("worker {worker} listens at {other:?}"),
        }
    }

    /// The next message of a worker's.
    pub(crate) fn message(&mut self, worker: u32) -> Value {
        let what = format!("message of {worker}");
        match self.take(
            &what,
            |seen| matches!(seen, Seen::Message { worker: w, .. } if *w == worker),
        ) {
            Seen::Message { json, .. } => json,
            other => panic!("{other:?}"),
        }
    }

    /// The next message `{"say": what, …}` of a worker's.
    pub(crate) fn says(&mut self, worker: u32, what: &str) -> Value {
        let wanted = format!("{what:?} said by {worker}");
        let fits = |seen: &Seen| matches!(seen, Seen::Message { worker: w, json } if *w == worker && json["say"] == what);
        match self.take(&wanted, fits) {
            Seen::Message { json, .. } => json,
            other => panic!("{other:?}"),
        }
    }

    /// The next message of a worker's with a descriptor; dropping it closes our copy.
    pub(crate) fn handle(&mut self, worker: u32) -> Seen {
        self.take(
            &format!("handle of {worker}"),
            |seen| matches!(seen, Seen::Handle { worker: w, .. } if *w == worker),
        )
    }

    /// Waits for a message of a worker's that JSON cannot say, and sends it back.
    pub(crate) fn return_opaque(&mut self, worker: u32) {
        let what = format!("opaque message of {worker}");
        match self.take(
            &what,
            |seen| matches!(seen, Seen::Opaque { worker: w, .. } if *w == worker),
        ) {
            Seen::Opaque { payload, .. } => self.engine.send_opaque(worker, payload),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a line on a worker's standard output.
    pub(crate) fn line(&mut self, worker: u32, text: &str) {
        let what = format!("line {text:?} of {worker}");
        self.take(
            &what,
            |seen| matches!(seen, Seen::Line { worker: w, text: t } if *w == worker && t == text),
        );
    }

    /// The next line of a worker's.
    pub(crate) fn any_line(&mut self, worker: u32) -> String {
        match self.take(
            &format!("line of {worker}"),
            |seen| matches!(seen, Seen::Line { worker: w, .. } if *w == worker),
        ) {
            Seen::Line { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn disconnected(&mut self, worker: u32) {
        let what = format!("disconnect of {worker}");
        self.take(
            &what,
            |seen| matches!(seen, Seen::Disconnect { worker: w } if *w == worker),
        );
    }

    pub(crate) fn exit(&mut self, worker: u32) -> Exit {
        let what = format!("exit of {worker}");
        match self.take(
            &what,
            |seen| matches!(seen, Seen::Exit { worker: w, .. } if *w == worker),
        ) {
            Seen::Exit { exit, .. } => exit,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a worker's end and asserts how it was.
    pub(crate) fn exits(&mut self, worker: u32, code: i32, voluntary: bool) {
        let exit = self.exit(worker);
        let wanted = Exit {
            status: ExitStatus::Code(code),
            voluntary,
        };
        assert_eq!(exit, wanted, "worker {worker}; seen:\n{}", self.log);
    }

    /// The names of a worker's events so far, in order (messages and output left out).
    pub(crate) fn order(&self, worker: u32) -> Vec<&'static str> {
        self.engine.order(worker)
    }

    /// Disconnects these workers and waits until they have left in good order.
    pub(crate) fn leave(&mut self, workers: &[u32]) {
        for &worker in workers {
            self.disconnect(worker);
        }
        for &worker in workers {
            self.disconnected(worker);
            self.exits(worker, 0, true);
        }
    }

    /// Ends workers that a disconnect does not, because they have servers of their own.
    pub(crate) fn terminate(&mut self, workers: &[u32]) {
        for &worker in workers {
            self.kill(worker, signal_number("TERM").expect("a signal"));
        }
        for &worker in workers {
            self.exit(worker);
        }
    }

    /// Stops the cluster in good order: nobody had to be killed, and nobody exits twice.
    pub(crate) fn end(mut self) {
        self.engine.stop();
        match self.take("end of the cluster", |seen| matches!(seen, Seen::Stopped { .. })) {
            Seen::Stopped { clean } => assert!(clean, "workers had to be killed; seen:\n{}", self.log),
            other => panic!("{other:?}"),
        }
        for worker in 1..=self.forked {
            let exits = self
                .order(worker)
                .iter()
                .filter(|event| **event == "exit")
                .count();
            assert_eq!(exits, 1, "exits of worker {worker}; seen:\n{}", self.log);
        }
        self.engine.join();
    }
}

/// `{"do": what}`.
pub(crate) fn order_to(what: &str) -> Value {
    json!({ "do": what })
}

/// Waits until `state` holds.
pub(crate) fn until(what: &str, mut state: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !state() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        // wait: between two looks at a state
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The state letter of a process, as `/proc` has it.
pub(crate) fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process exists (a zombie does not count).
pub(crate) fn alive(pid: u32) -> bool {
    process_state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

impl Primary {
    /// Stops a worker with SIGSTOP and waits until it is stopped; or lets it go on.
    pub(crate) fn freeze(&mut self, worker: u32, frozen: bool) {
        let name = if frozen { "STOP" } else { "CONT" };
        self.kill(worker, signal_number(name).expect("a signal"));
        let pid = self.pid(worker);
        until("the signal has come", || {
            (process_state(pid) == Some('T')) == frozen
        });
    }
}
