//! What every verb needs: which daemon, how to tell, how long to wait.

use super::failure::VerbError;
use super::home::Home;
use super::interrupt::Interrupt;
use super::progress::Bar;
use crate::args::manage::AnswerArgs;
use crate::duration;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::paint;
use crate::render::amounts::count;
use crate::terminal::{Screen, harmless};
use everup_api::v1::{CallError, Client, Done, List};
use everup_daemon::Remembered;
use serde::Serialize;
use std::cell::OnceCell;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// For what is answered at once.
const SOON: Duration = Duration::from_secs(10);
/// What the daemon waits for what takes its time, unless told otherwise.
const LONG: Duration = Duration::from_secs(60);
/// It answers that it was too slow; we wait longer, not to be before it.
const GRACE: Duration = Duration::from_secs(15);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Context {
    /// We speak as pm2 does.
    pub(crate) pm2: bool,
    pub(crate) home: Home,
    pub(crate) answer: AnswerArgs,
    pub(crate) screen: Screen,
    /// `--timeout`: `Some(None)` is for ever.
    timeout: Option<Option<Duration>>,
    interrupt: OnceCell<Interrupt>,
}

impl Context {
    pub(crate) fn new(pm2: bool, answer: &AnswerArgs) -> Result<Self, VerbError> {
        let timeout = match &answer.timeout {
            Some(text) => {
                let limit = duration::parse(text).map_err(|source| CliError::Value {
                    option: "--timeout",
                    value: harmless(text),
                    source: source.into(),
                })?;
                Some(Some(limit).filter(|limit| !limit.is_zero()))
            }
            None => None,
        };
        let mut screen = Screen::stdout();
        screen.colour &= !answer.no_color;
        Ok(Self {
            pm2,
            home: Home::find(pm2)?,
            answer: answer.clone(),
            screen,
            timeout,
            interrupt: OnceCell::new(),
        })
    }

    /// For reading.
    pub(crate) fn soon(&self) -> Option<Duration> {
        self.timeout.unwrap_or(Some(SOON))
    }

    /// What the daemon is told about how long something may take.
    pub(crate) fn timeout_ms(&self) -> Option<u64> {
        match self.timeout {
            None => None,
            Some(None) => Some(u64::from(u32::MAX)),
            Some(Some(limit)) => Some(duration::millis(limit)),
        }
    }

    /// For doing.
    fn long(&self) -> Option<Duration> {
        match self.timeout {
            None => Some(LONG + GRACE),
            Some(limit) => limit.map(|limit| limit + GRACE),
        }
    }

    /// Somebody else takes care of Ctrl-C.
    pub(crate) fn leave_signals(&self) {
        self.interrupt.set(Interrupt::default()).ok();
    }

    /// The daemon that is there; pm2 starts one for everything.
    pub(crate) fn reader(&self) -> Result<Client, VerbError> {
        if self.pm2 {
            return self.changer();
        }
        self.there()
    }

    /// The daemon that is there, or none.
    pub(crate) fn reader_if_any(&self) -> Result<Option<Client>, VerbError> {
        if self.pm2 {
            return self.changer().map(Some);
        }
        match self.home.connect(self.soon()) {
            Err(CallError::NotRunning { .. }) => Ok(None),
            client => Ok(client.map(Some)?),
        }
    }

    /// The daemon that is there; if none is, it is said which apps it would have.
    fn there(&self) -> Result<Client, VerbError> {
        let absent = |error| match (&error, self.asleep()) {
            (CallError::NotRunning { .. }, Some(hint)) => {
                VerbError::said(Exit::NoAnswer, VerbError::Call(error).message(), Some(hint))
            }
            _ => VerbError::Call(error),
        };
        self.home.connect(self.soon()).map_err(absent)
    }

    /// Which apps a daemon would have that does not run, in a sentence.
    pub(crate) fn asleep(&self) -> Option<String> {
        asleep(&Remembered::at(&self.home.path))
    }

    /// The daemon; it is started if there is none.
    pub(crate) fn changer(&self) -> Result<Client, VerbError> {
        let (client, started) = self.home.ensure(self.soon())?;
        if started {
            let home = self.home.path.display();
            if self.pm2 {
                self.say(&format!("[PM2] Spawning PM2 daemon with pm2_home={home}"));
                self.say("[PM2] PM2 Successfully daemonized");
            } else {
                self.note(&format!("started the daemon for {home}"));
            }
        }
        Ok(client)
    }

    /// The daemon that is there, for something that makes no sense without one.
    pub(crate) fn changer_if_any(&self) -> Result<Client, VerbError> {
        if self.pm2 { self.changer() } else { self.there() }
    }

    /// Has something done, and shows how it goes.
    pub(crate) fn act(
        &self,
        client: &mut Client,
        call: &str,
        body: &impl Serialize,
    ) -> Result<Done, VerbError> {
        let interrupt = self.interrupt.get_or_init(|| Interrupt::watch(self.pm2));
        interrupt.guard(client);
        client.set_limit(self.long());
        let mut bar = Bar::new(call, self.quiet());
        let done = client.post(call, body, &mut |step| bar.show(&step));
        bar.end();
        interrupt.release();
        client.set_limit(self.soon());
        match done {
            Err(_) if interrupt.came() => Err(VerbError::Interrupted),
            done => Ok(done?),
        }
    }

    /// Everything, or only these.
    pub(crate) fn list(&self, client: &mut Client, targets: &[String]) -> Result<List, VerbError> {
        let query: Vec<(&str, &str)> = targets.iter().map(|target| ("target", target.as_str())).collect();
        Ok(client.get("list", &query)?)
    }

    fn quiet(&self) -> bool {
        self.answer.json || self.answer.silent || self.pm2
    }

    /// To standard output, as it is. A closed output is no reason to fail.
    pub(crate) fn print(&self, text: &str) {
        writeln!(io::stdout(), "{}", text.trim_end_matches('\n')).ok();
    }

    /// What was done: not if nobody wants to hear it.
    pub(crate) fn say(&self, text: &str) {
        if self.answer.silent || self.answer.json {
            return;
        }
        match text.strip_prefix("[PM2] ").filter(|_| self.screen.colour) {
            Some(rest) => self.print(&format!("{} {rest}", paint(32, "[PM2]"))),
            None => self.print(text),
        }
    }

    /// To standard error, on the side.
    pub(crate) fn note(&self, text: &str) {
        if !self.answer.silent && !self.answer.json {
            writeln!(io::stderr(), "{text}").ok();
        }
    }

    /// To standard error, also for who reads JSON.
    pub(crate) fn aside(&self, text: &str) {
        if !self.answer.silent {
            writeln!(io::stderr(), "note: {text}").ok();
        }
    }

    /// What went wrong with one of several: to standard error, also for those who want silence.
    pub(crate) fn complain(&self, text: &str) {
        let label = if self.pm2 { "[PM2][ERROR]" } else { "error:" };
        writeln!(io::stderr(), "{label} {text}").ok();
    }

    /// pm2's warnings.
    pub(crate) fn warn(&self, text: &str) {
        if !self.answer.silent {
            writeln!(io::stderr(), "[PM2][WARN] {text}").ok();
        }
    }

    /// Whether the list follows what was done.
    pub(crate) fn list_follows(&self) -> bool {
        let wanted = self.pm2 || io::stdout().is_terminal();
        wanted && !self.answer.silent && !self.answer.json
    }
}

/// What is the matter, and what to do.
fn asleep(known: &Remembered) -> Option<String> {
    let number = |names: &[String]| count(u64::try_from(names.len()).unwrap_or(u64::MAX), "app");
    match (known.apps.as_slice(), known.parked.as_slice()) {
        ([], []) => None,
        ([], parked) => Some(format!(
            "the daemon is not running; `everup kill` has put {} away: `everup resurrect` brings back what was there",
            number(parked)
        )),
        (apps, _) => Some(format!(
            "the daemon is not running; {} {} in its state: `everup resurrect`, or `everup start NAME`, starts it and \
             what ran",
            number(apps),
            if apps.len() == 1 { "is" } else { "are" }
        )),
    }
}
