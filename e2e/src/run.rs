//! A program under test: started, watched, and gone with everything it started when the test is over.

use crate::event::{Event, Seen, Worker};
use crate::{LIMIT, binary, process};
use anyhow::{Context, Result, bail};
use rustix::process::{PidfdFlags, Signal};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Marks every process that a test starts, through its environment.
const MARK: &str = "EVERUP_E2E_RUN";

/// A command to be started.
#[derive(Debug)]
pub struct Everup {
    command: Command,
}

impl Everup {
    /// `everup run --events json`, to be completed by [`args`](Self::args).
    ///
    /// # Errors
    /// When the binary does not build.
    pub fn run() -> Result<Self> {
        Ok(Self::program(binary::everup()?).args(["run", "--events", "json"]))
    }

    /// Any other program.
    #[must_use]
    pub fn program(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // What the surroundings of the test say about workers, interpreters or modes is not meant for it.
        for name in [
            "NODE_ENV",
            "NODE_OPTIONS",
            "NODE_CHANNEL_FD",
            "NODE_UNIQUE_ID",
            "NODE_APP_INSTANCE",
        ] {
            command.env_remove(name);
        }
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "PORT"] {
            command.env_remove(name);
        }
        Self { command }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets several variables.
    #[must_use]
    pub fn envs(mut self, variables: &[(&str, &str)]) -> Self {
        self.command.envs(variables.iter().copied());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it as another user, without further groups. Only for root.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Takes standard input from somewhere.
    #[must_use]
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.command.stdin(from);
        self
    }

    /// Sends standard output elsewhere.
    #[must_use]
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stdout(to);
        self
    }

    /// Sends standard error, and so the events, elsewhere.
    #[must_use]
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stderr(to);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut self) -> Result<Run> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.command.env(MARK, &mark);
        let started = Instant::now();
        let mut child = self
            .command
            .spawn()
            .with_context(|| format!("start {:?}", self.command))?;
        let pid = child.id();
        let raw = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("process id")?;
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).context("pidfd_open")?;
        let shared = Arc::new(Shared::default());
        if let Some(out) = child.stdout.take() {
            shared.read(out, |seen, line| seen.out.push(line));
        }
        if let Some(err) = child.stderr.take() {
            shared.read(err, Seen::error_line);
        }
        shared.wait_for(child);
        Ok(Run {
            pid,
            pidfd,
            started,
            mark: format!("{MARK}={mark}"),
            shared,
        })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time.
    pub fn finish(self) -> Result<Ended> {
        self.start()?.ended(LIMIT)
    }
}

impl Seen {
    fn error_line(&mut self, line: String) {
        match serde_json::from_str::<serde_json::Value>(&line) {
            Ok(json) if json.get("event").is_some() => self.events.push(Event {
                at: Instant::now(),
                json,
            }),
            _ => self.err.push(line),
        }
    }
}

/// A running program. Dropping it kills it and everything that it started.
#[derive(Debug)]
pub struct Run {
    /// Its process id.
    pub pid: u32,
    /// When it was started.
    pub started: Instant,
    pidfd: OwnedFd,
    mark: String,
    shared: Arc<Shared>,
}

/// How a program ended, and everything it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Lines of standard output.
    pub out: Vec<String>,
    /// Lines of standard error that are no events.
    pub err: Vec<String>,
    /// Its events.
    pub events: Vec<Event>,
}

impl Run {
    /// What it has said so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.lock()
    }

    /// Waits until `look` finds what it looks for in what the program says.
    ///
    /// # Errors
    /// When it does not within the limit, or the program has ended without it.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        let mut seen = self.shared.lock();
        loop {
            if let Some(found) = look(&seen) {
                return Ok(found);
            }
            let now = Instant::now();
            if seen.status.is_some() && seen.open_streams == 0 {
                bail!("the program ended before: {what}{}", seen.report());
            }
            if now >= end {
                bail!("not within {limit:?}: {what}{}", seen.report());
            }
            seen = self.shared.wait(seen, end - now);
        }
    }

    /// Waits until so many workers are ready, and nobody else is there.
    ///
    /// # Errors
    /// When that does not come in time.
    pub fn ready(&self, workers: usize) -> Result<Vec<Worker>> {
        self.until(&format!("{workers} workers ready"), LIMIT, |seen| {
            let there = seen.workers();
            (there.len() == workers && there.iter().all(|worker| worker.ready)).then_some(there)
        })
    }

    /// Waits for so many events of this name; gives the last of them.
    ///
    /// # Errors
    /// When they do not come in time.
    pub fn event(&self, name: &str, count: usize) -> Result<Event> {
        self.until(&format!("{count} × {name}"), LIMIT, |seen| {
            seen.named(name).nth(count - 1).cloned()
        })
    }

    /// Waits for a line of standard output that holds `text`.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn out_line(&self, text: &str) -> Result<String> {
        self.until(&format!("the line {text:?}"), LIMIT, |seen| {
            seen.out.iter().find(|line| line.contains(text)).cloned()
        })
    }

    /// Waits until a worker listens; gives the address.
    ///
    /// # Errors
    /// When none does in time.
    pub fn address(&self) -> Result<SocketAddr> {
        self.until("a worker that listens", LIMIT, Seen::address)
    }

    /// Sends a signal to the program itself.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal)
            .with_context(|| format!("signal {}", self.pid))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn ended(&self, limit: Duration) -> Result<Ended> {
        let status = self.until("its end", limit, |seen| seen.status)?;
        // Somebody who survives may keep the streams open: what was said is there all the same.
        let drained = self.until("the end of its output", Duration::from_secs(2), |seen| {
            (seen.open_streams == 0).then_some(())
        });
        drop(drained);
        let seen = self.shared.lock();
        Ok(Ended {
            status,
            out: seen.out.clone(),
            err: seen.err.clone(),
            events: seen.events.clone(),
        })
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&self) -> Result<Ended> {
        self.signal(Signal::TERM)?;
        self.ended(LIMIT)
    }

    /// Everything that it started and that lives, itself included.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        process::with_environment(&self.mark)
    }

    /// Waits until none of its processes is left.
    ///
    /// # Errors
    /// When one is, at the limit.
    pub fn gone(&self, limit: Duration) -> Result<()> {
        wait_until("none of its processes is left", limit, || {
            let left = self.processes();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}{}", self.seen().report()))
            }
        })
    }
}

impl Ended {
    /// Its exit code; `None` if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Everything it said, for the message of a failed assertion.
    #[must_use]
    pub fn all(&self) -> String {
        let events: Vec<String> = self.events.iter().map(|event| event.json.to_string()).collect();
        format!(
            "{}\n--- events\n{}\n--- out\n{}\n--- err\n{}",
            self.status,
            events.join("\n"),
            self.out.join("\n"),
            self.err.join("\n")
        )
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Again and again, because one that is killed last may have started another meanwhile.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left {
                drop(process::signal(pid, Signal::KILL));
            }
            // wait: between two looks at a state
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits for a state that nobody announces, by looking every few milliseconds.
///
/// # Errors
/// At the limit, with what `look` said last.
pub fn wait_until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(still) if Instant::now() >= end => bail!("not within {limit:?}: {what}: {still}"),
            // wait: between two looks at a state
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, seen: MutexGuard<'a, Seen>, limit: Duration) -> MutexGuard<'a, Seen> {
        self.news
            .wait_timeout(seen, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn read(
        self: &Arc<Self>,
        from: impl Read + Send + 'static,
        mut take: impl FnMut(&mut Seen, String) + Send + 'static,
    ) {
        self.lock().open_streams += 1;
        let shared = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                take(&mut shared.lock(), String::from_utf8_lossy(&line).into_owned());
                shared.news.notify_all();
            }
            shared.lock().open_streams -= 1;
            shared.news.notify_all();
        });
    }

    fn wait_for(self: &Arc<Self>, mut child: Child) {
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let status = child.wait();
            shared.lock().status = status.ok();
            shared.news.notify_all();
        });
    }
}
