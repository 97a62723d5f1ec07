//! Must show 3 of the daemon: two commands at once that want different things of one app.
//!
//! Each ends in time with an answer, and the two answers are true: there is an order of the two in which they, done one
//! after the other, would have said the same and left the app as it is found. No process is left that is in no list.
//! `EVERUP_SOAK=1` makes it 1,000 rounds.

use anyhow::{Context, Result, bail, ensure};
use e2e::run::wait_until;
use e2e::{Daemon, LIMIT, Said, process};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A command is told to answer within [`TIMEOUT`]; that long after it we give up.
const GRACE: Duration = Duration::from_secs(20);
const TIMEOUT: &str = "20s";

/// What the app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Absent,
    Stopped,
    Running(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Start,
    Delete,
    Stop,
    Restart,
    Reload,
    Scale(usize),
}

/// `start` is there more often: without an app everything is refused.
const WORDS: [Word; 10] = [
    Word::Start,
    Word::Start,
    Word::Start,
    Word::Delete,
    Word::Stop,
    Word::Restart,
    Word::Reload,
    Word::Scale(1),
    Word::Scale(2),
    Word::Scale(3),
];

impl Word {
    fn args(self) -> Vec<String> {
        let text = match self {
            Self::Start => "start --name web -i 2 --interpreter none --kill-timeout 5s sleep -- 1000".into(),
            Self::Delete => "delete web".into(),
            Self::Stop => "stop web".into(),
            Self::Restart => "restart web".into(),
            Self::Reload => "reload web".into(),
            Self::Scale(workers) => format!("scale web {workers}"),
        };
        let (verb, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let mut args = vec![verb.to_owned(), "--timeout".into(), TIMEOUT.into()];
        args.extend(rest.split(' ').map(str::to_owned));
        args
    }

    /// What may come of it, and whether that is a success.
    fn outcomes(self, state: State, workers: usize) -> Vec<(bool, State)> {
        // Refused, it has changed nothing.
        let mut all = vec![(false, state)];
        match (self, state) {
            (Self::Start, State::Absent) => all.push((true, State::Running(2))),
            // It is there, and still: started as it is.
            (Self::Start | Self::Restart | Self::Reload, State::Stopped) => {
                all.push((true, State::Running(workers)));
            }
            (Self::Restart | Self::Reload, State::Running(_)) => all.push((true, state)),
            (Self::Delete, State::Stopped | State::Running(_)) => all.push((true, State::Absent)),
            (Self::Stop, State::Stopped | State::Running(_)) => all.push((true, State::Stopped)),
            (Self::Scale(to), State::Running(_)) => all.push((true, State::Running(to))),
            (Self::Scale(_), State::Stopped) => all.push((true, State::Stopped)),
            _ => {}
        }
        all
    }
}

/// A number that looks random; the same ones in each run.
struct Seed(u64);

impl Seed {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % most
    }
}

fn begin(daemon: &Daemon, word: Word) -> Result<Child> {
    daemon
        .command(word.args())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{word:?}"))
}

fn end(mut child: Child, word: Word, deadline: Instant) -> Result<Said> {
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill().ok();
            bail!(
                "{word:?} did not end in time: {:?}",
                Said::from(child.wait_with_output()?)
            );
        }
        // wait: for the end of a process, of which nothing else tells with a deadline.
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(child.wait_with_output()?.into())
}

/// The app as it is, when nothing is on its way any more; and its workers.
fn settled(daemon: &Daemon) -> Result<(State, usize)> {
    let mut found = None;
    wait_until("the app is in a state that stays", LIMIT, || {
        let list = daemon
            .json(["list", "--json"])
            .map_err(|error| format!("{error:#}"))?;
        let Some(app) = list["apps"].as_array().and_then(|apps| apps.first()) else {
            found = Some((State::Absent, BTreeSet::new(), 2));
            return Ok(());
        };
        let instances = app["instances"].as_array().cloned().unwrap_or_default();
        let pids: BTreeSet<u64> = instances.iter().filter_map(|one| one["pid"].as_u64()).collect();
        let quiet = app["others"].as_array().is_none_or(Vec::is_empty) && app["reload"].is_null();
        let state = match app["state"].as_str() {
            Some("running") if quiet && pids.len() == instances.len() => State::Running(pids.len()),
            Some("stopped") if pids.is_empty() => State::Stopped,
            _ => return Err(app.to_string()),
        };
        found = Some((state, pids, instances.len()));
        Ok(())
    })?;
    let (state, pids, places) = found.context("a state")?;
    // Whoever is in no list is on its way out.
    let pong = daemon.pong()?;
    wait_until("nobody else is left", LIMIT, || {
        let strays: Vec<u32> = daemon
            .processes()
            .into_iter()
            .filter(|pid| ![pong.pid, pong.keeper].contains(pid) && !pids.contains(&u64::from(*pid)))
            .collect();
        if strays.is_empty() {
            Ok(())
        } else {
            Err(format!("{strays:?} beside {pids:?}"))
        }
    })?;
    Ok((state, places))
}

/// Whether the answers fit, in one order or the other.
fn true_answers(before: State, places: usize, said: &[(Word, bool)], after: State) -> bool {
    (0..said.len()).any(|first| {
        let order = said[first..].iter().chain(&said[..first]);
        let start = vec![(before, places)];
        let ends = order.fold(start, |states, (word, ok)| {
            let next = states.iter().flat_map(|(state, places)| {
                word.outcomes(*state, *places)
                    .into_iter()
                    .filter(|(success, _)| success == ok)
                    .map(|(_, state)| match (word, state) {
                        (_, State::Running(workers)) => (state, workers),
                        (Word::Scale(to), State::Stopped) if *ok => (state, *to),
                        _ => (state, *places),
                    })
            });
            next.collect()
        });
        ends.iter().any(|(state, _)| *state == after)
    })
}

#[test]
fn two_at_once_say_what_is_true() -> Result<()> {
    let rounds = if std::env::var_os("EVERUP_SOAK").is_some() {
        1000
    } else {
        40
    };
    let daemon = Daemon::new()?;
    daemon.ok(Word::Start.args())?;
    let mut seed = Seed(0x2545_F491_4F6C_DD1D);
    let (mut state, mut places) = settled(&daemon)?;
    let mut refused = 0;
    for round in 0..rounds {
        let words = [(); 2].map(|()| WORDS[seed.below(WORDS.len())]);
        let deadline = Instant::now() + GRACE + Duration::from_secs(20);
        let children = words.map(|word| begin(&daemon, word));
        let mut said = Vec::new();
        for (child, word) in children.into_iter().zip(words) {
            said.push((word, end(child?, word, deadline)?));
        }
        let told = || format!("round {round}: {state:?}, {said:#?}");
        let after = settled(&daemon).with_context(told)?;
        let answers: Vec<(Word, bool)> = said
            .iter()
            .map(|(word, said)| (*word, said.code == Some(0)))
            .collect();
        ensure!(
            true_answers(state, places, &answers, after.0),
            "{}\nand then {after:?}",
            told()
        );
        for (word, said) in &said {
            let silent = said.code != Some(0) && !said.err.contains("error: ");
            ensure!(
                !silent && said.code != Some(1) && said.code.is_some(),
                "{word:?}: {}",
                told()
            );
            refused += usize::from(said.code != Some(0));
        }
        (state, places) = after;
    }
    e2e::say(&format!("{rounds} rounds, {refused} commands refused"));
    daemon.say(["delete", "all"])?;
    ensure!(settled(&daemon)?.0 == State::Absent);
    Ok(())
}

/// A script whose workers have to be killed.
fn stubborn(daemon: &Daemon, workers: &str) -> Result<Vec<u32>> {
    let script = daemon.home().join("stubborn.sh");
    std::fs::write(&script, "trap '' TERM\nwhile :; do sleep 1; done\n")?;
    let script = script.to_str().context("a path")?;
    daemon.ok([
        "start",
        script,
        "--name",
        "web",
        "-i",
        workers,
        "--kill-timeout",
        "1h",
    ])?;
    daemon.ready("web", workers.parse()?)
}

fn until_stopped(daemon: &Daemon) -> Result<serde_json::Value> {
    wait_until("it is stopped", LIMIT, || match daemon.app("web") {
        Ok(app) if app["state"] == "stopped" => Ok(()),
        app => Err(format!("{app:?}")),
    })?;
    daemon.app("web")
}

/// A scale that a stop comes before says what becomes of it, and that is so.
#[test]
fn a_scale_that_is_overtaken() -> Result<()> {
    let daemon = Daemon::new()?;
    let old = stubborn(&daemon, "3")?;
    let mut scale = daemon.command(["scale", "web", "1"]);
    let scale = scale.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait_until("the scale has begun", LIMIT, || match daemon.app("web") {
        Ok(app) if app["target"] == 1 => Ok(()),
        app => Err(format!("{app:?}")),
    })?;
    let said = daemon.say(["stop", "web", "--timeout", "300ms"])?;
    ensure!(said.code == Some(11), "{said:?}");
    for pid in old {
        process::signal(pid, Signal::KILL)?;
    }
    let said = end(scale, Word::Scale(1), Instant::now() + GRACE)?;
    ensure!(
        said.code == Some(0) && said.err.contains("workers when it runs again: 1"),
        "{said:?}"
    );
    let app = until_stopped(&daemon)?;
    ensure!(
        app["instances"].as_array().is_some_and(|all| all.len() == 1),
        "{app}"
    );
    daemon.ok(["restart", "web"])?;
    daemon.ready("web", 1)?;
    daemon.ok(["stop", "web", "--now"])?;
    Ok(())
}

/// What takes too long goes on; whoever waits is told in time, whatever is still to be heard of it.
#[test]
fn an_answer_comes_in_time() -> Result<()> {
    let daemon = Daemon::new()?;
    let old = stubborn(&daemon, "1")?;
    for word in ["restart", "stop"] {
        let mut child = daemon.command([word, "web", "--timeout", "300ms"]);
        let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let said = end(child, Word::Restart, Instant::now() + Duration::from_secs(8))?;
        ensure!(
            said.code == Some(11) && said.err.contains("error: web: not in time"),
            "{word}: {said:?}"
        );
    }
    process::signal(old[0], Signal::KILL)?;
    until_stopped(&daemon)?;
    Ok(())
}
