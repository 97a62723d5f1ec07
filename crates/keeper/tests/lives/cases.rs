//! What is killed or replaced, and what must be as before.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use everup_keeper::{EnsureError, Place, Started, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::Case;

pub(crate) const ALL: &[Case] = &[
    ("several_starters_get_one_keeper", several_starters_get_one_keeper),
    ("a_daemon_that_refuses_is_heard", a_daemon_that_refuses_is_heard),
    (
        "nothing_is_lost_whoever_is_killed",
        nothing_is_lost_whoever_is_killed,
    ),
    ("an_end_that_nobody_saw_is_known", an_end_that_nobody_saw_is_known),
    (
        "who_ends_while_the_keeper_is_replaced_is_reaped",
        who_ends_while_the_keeper_is_replaced_is_reaped,
    ),
    (
        "a_program_that_does_not_come_up_gives_way",
        a_program_that_does_not_come_up_gives_way,
    ),
    (
        "a_program_that_never_becomes_a_keeper_gives_way",
        a_program_that_never_becomes_a_keeper_gives_way,
    ),
    (
        "whoever_dies_while_on_trial_the_old_program_comes_back",
        whoever_dies_while_on_trial_the_old_program_comes_back,
    ),
    ("a_guard_leaves_nothing_behind", a_guard_leaves_nothing_behind),
    (
        "children_get_no_descriptor_after_a_take_over",
        children_get_no_descriptor_after_a_take_over,
    ),
    ("what_nobody_claims_is_closed", what_nobody_claims_is_closed),
    (
        "signals_are_passed_on_and_the_end_too",
        signals_are_passed_on_and_the_end_too,
    ),
];

const LIMIT: Duration = Duration::from_secs(30);

struct Home {
    folder: TempDir,
    place: Place,
    program: PathBuf,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home of ü");
        Self {
            place: Place {
                socket: home.join("everup.sock"),
                home,
            },
            program: std::env::current_exe().expect("this program"),
            folder,
        }
    }

    fn started() -> Self {
        let home = Self::new();
        assert_eq!(home.ensure().expect("it starts"), Started::Now);
        home
    }

    fn ensure(&self) -> Result<Started, EnsureError> {
        ensure(&self.place, &self.program, LIMIT)
    }

    /// This program under another name.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        if !path.exists() {
            // Copying would leave a descriptor to be written to in a child of another thread: "text file busy".
            fs::hard_link(&self.program, &path)
                .or_else(|_| fs::copy(&self.program, &path).map(drop))
                .expect("a copy");
        }
        path
    }

    fn ask_once(&self, question: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.place.socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        writeln!(stream, "{question}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Who dies while answering is asked again.
    fn ask(&self, question: &str) -> String {
        wait_for(question, || {
            self.ask_once(question).ok().filter(|answer| !answer.is_empty())
        })
    }

    fn info(&self, key: &str) -> String {
        field(&self.ask("info"), key)
    }

    fn number(&self, key: &str) -> i32 {
        self.info(key).parse().expect("a number")
    }

    /// Waits for a daemon after this one.
    fn after(&self, incarnation: i32) {
        wait_for("the next daemon", || {
            (self.number("incarnation") > incarnation).then_some(())
        });
    }

    fn spawn(&self, script: &str) -> (String, i32) {
        let answer = self.ask(&format!("spawn {script}"));
        (
            field(&answer, "mark"),
            field(&answer, "child").parse().expect("a pid"),
        )
    }

    fn upgrade(&self, program: &Path) {
        let before = self.number("incarnation");
        // The answer may come no more.
        let answer = self.ask(&format!("upgrade {}", program.display()));
        assert_eq!(answer, "asked=yes");
        self.after(before);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.home.join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if thread::panicking() {
            eprint(&format!("daemon.log:\n{}", self.log()));
        }
        if let Ok(answer) = self.ask_once("info") {
            let [keeper, daemon] = ["keeper", "pid"].map(|key| field(&answer, key).parse().unwrap_or(0));
            // The keeper first, stopped: so the daemon does not take its place and no other is started.
            kill(keeper, Signal::STOP);
            kill(daemon, Signal::KILL);
            kill(keeper, Signal::KILL);
        }
    }
}

fn eprint(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}

fn field(answer: &str, key: &str) -> String {
    let found = answer
        .split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found
        .unwrap_or_else(|| panic!("no {key} in {answer:?}"))
        .to_owned()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited in vain: {what}");
        // wait: between two looks
        thread::sleep(Duration::from_millis(5));
    }
}

fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        kill_process(pid, signal).ok();
    }
}

/// The third field of `/proc/PID/stat`.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn several_starters_get_one_keeper() {
    let home = Home::new();
    let started: Vec<Started> = thread::scope(|scope| {
        let starters: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| home.ensure().expect("it starts")))
            .collect();
        starters
            .into_iter()
            .map(|starter| starter.join().expect("no panic"))
            .collect()
    });
    assert_eq!(
        started.iter().filter(|started| **started == Started::Now).count(),
        1
    );
    assert_eq!(home.number("incarnation"), 1);
    assert_eq!(home.ensure().expect("it runs"), Started::Before);
    let keeper = home.number("keeper");
    let lock = fs::read_to_string(home.place.home.join("keeper.lock")).expect("a lock");
    assert_eq!(lock, format!("{keeper}\n"));
    let environment = fs::read(format!("/proc/{keeper}/environ")).expect("our process");
    assert!(
        !String::from_utf8_lossy(&environment).contains("CARGO"),
        "the caller's environment is not the keeper's"
    );
}

fn a_daemon_that_refuses_is_heard() {
    let home = Home::new();
    fs::create_dir(&home.place.home).expect("a folder");
    fs::write(home.place.home.join("refuse"), "").expect("a file");
    let error = home.ensure().expect_err("it refuses");
    assert!(
        error.to_string().contains("did not start: told to refuse"),
        "{error}"
    );
    fs::remove_file(home.place.home.join("refuse")).expect("it was there");
    assert_eq!(home.ensure().expect("the lock is free again"), Started::Now);
}

/// Echo, one line per connection; counts what went wrong.
fn load(port: u16, stop: &AtomicBool, done: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) && failures.len() < 10 {
        let one = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(LIMIT))?;
            let line = format!("{}\n", done.load(Ordering::Relaxed));
            stream.write_all(line.as_bytes())?;
            let mut answer = String::new();
            BufReader::new(&stream).read_line(&mut answer)?;
            stream.shutdown(Shutdown::Both).ok();
            if answer == line {
                Ok(())
            } else {
                Err(std::io::Error::other(format!("{answer:?} for {line:?}")))
            }
        };
        match one() {
            Ok(()) => done.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                failures.push(error.to_string());
                0
            }
        };
    }
    failures
}

/// Also when a test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn exchange(stream: &mut TcpStream, line: &str) {
    writeln!(stream, "{line}").expect("it is open");
    let mut answer = String::new();
    let mut reader = BufReader::new(&*stream);
    // A line may be answered twice, when the daemon was killed between answer and consumption.
    while answer.trim() != line {
        answer.clear();
        assert!(
            reader.read_line(&mut answer).expect("an answer") > 0,
            "the connection was closed"
        );
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Blow {
    Daemon,
    Keeper,
    Upgrade,
}

/// 20 daemons and 5 keepers killed, 5 upgrades, in an order that looks random.
fn blows() -> Vec<Blow> {
    let mut left = [(Blow::Daemon, 20_u64), (Blow::Keeper, 5), (Blow::Upgrade, 5)];
    let mut seed = 7_u64;
    let mut order = Vec::new();
    loop {
        let total: u64 = left.iter().map(|(_, count)| count).sum();
        if total == 0 {
            return order;
        }
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut choice = (seed >> 33) % total;
        for (blow, count) in &mut left {
            if choice < *count {
                *count -= 1;
                order.push(*blow);
                break;
            }
            choice -= *count;
        }
    }
}

fn nothing_is_lost_whoever_is_killed() {
    let home = Home::started();
    let port = home.info("port").parse().expect("a port");
    let listener = home.info("listener");
    let mut kept: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("it listens"))
        .collect();
    let children: Vec<i32> = (0..3).map(|_| home.spawn("exec sleep 1000").1).collect();
    for stream in &mut kept {
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        exchange(stream, "hello");
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let failures = thread::scope(|scope| {
        let stop_it = StopAtEnd(&stop);
        let loads: Vec<_> = (0..2).map(|_| scope.spawn(|| load(port, &stop, &done))).collect();
        for (number, blow) in blows().into_iter().enumerate() {
            let before = home.number("incarnation");
            let keeper = home.number("keeper");
            match blow {
                Blow::Daemon => kill(home.number("pid"), Signal::KILL),
                Blow::Keeper => kill(keeper, Signal::KILL),
                Blow::Upgrade => home.upgrade(&home.copy(&format!("everup-{number}"))),
            }
            home.after(before);
            assert_eq!(home.number("keeper") == keeper, blow != Blow::Keeper);
            assert_eq!(home.info("listener"), listener, "the same number");
            for stream in &mut kept {
                exchange(stream, &format!("after {number}"));
            }
            for &child in &children {
                assert_eq!(state(child), Some('S'), "a child is gone");
            }
            let seen = done.load(Ordering::Relaxed);
            wait_for("load", || (done.load(Ordering::Relaxed) > seen).then_some(()));
        }
        drop(stop_it);
        loads
            .into_iter()
            .flat_map(|load| load.join().expect("no panic"))
            .collect::<Vec<_>>()
    });
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(
        home.number("keepers"),
        11,
        "one, five after a death, five after an upgrade"
    );
    assert_eq!(home.number("incarnation"), 31);
    assert_eq!(home.info("fell_back"), "None");
    children.iter().for_each(|&child| kill(child, Signal::KILL));
}

fn an_end_that_nobody_saw_is_known() {
    let home = Home::started();
    for by in ["daemon", "keeper"] {
        let (mark, child) = home.spawn("trap 'exit 7' TERM; while :; do sleep 0.02; done");
        if by == "keeper" {
            // From a daemon that is dead: it is the keeper's child then.
            let before = home.number("incarnation");
            kill(home.number("pid"), Signal::KILL);
            home.after(before);
        }
        let before = home.number("incarnation");
        let daemon = home.number("pid");
        // The daemon sees nothing any more, the child ends, the daemon is killed.
        kill(daemon, Signal::STOP);
        wait_for("stopped", || (state(daemon) == Some('T')).then_some(()));
        kill(child, Signal::TERM);
        wait_for("ended", || {
            (state(child).is_none_or(|state| state == 'Z')).then_some(())
        });
        kill(daemon, Signal::KILL);
        home.after(before);
        assert_eq!(home.ask(&format!("end {mark} {child}")), "status=Some(7)");
        assert_eq!(state(child), None, "it was reaped");
    }
}

fn who_ends_while_the_keeper_is_replaced_is_reaped() {
    let home = Home::started();
    for round in 0..20 {
        let answer = home.ask("leave exec sleep 1000");
        let child = field(&answer, "child").parse().expect("a pid");
        let before = home.number("incarnation");
        kill(home.number("keeper"), Signal::KILL);
        // wait: so that each falls into another part of the take-over
        thread::sleep(Duration::from_micros(200 * round));
        kill(child, Signal::KILL);
        home.after(before);
        wait_for(&format!("no zombie in round {round}"), || {
            state(child).is_none().then_some(())
        });
    }
}

fn a_program_that_does_not_come_up_gives_way() {
    let home = Home::started();
    let port = home.info("port").parse().expect("a port");
    let mut kept = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let keeper = home.number("keeper");
    for (name, why) in [("broken", "exit code 3"), ("mute", "not ready within")] {
        home.upgrade(&home.copy(name));
        let answer = home.ask("info");
        assert!(answer.contains(why), "{answer}");
        assert!(
            field(&answer, "program").ends_with(home.program.to_str().expect("text")),
            "{answer}"
        );
        exchange(&mut kept, name);
        assert_eq!(home.number("keeper"), keeper);
    }
    let nothing = home.ask("upgrade /nonexistent");
    assert!(nothing.starts_with("asked=no"), "{nothing}");
    exchange(&mut kept, "still there");
    // The one that came back can be upgraded in earnest.
    home.upgrade(&home.copy("good"));
    assert_eq!(home.info("fell_back"), "None");
    exchange(&mut kept, "and on");
}

fn a_program_that_never_becomes_a_keeper_gives_way() {
    let home = Home::started();
    let (port, listener) = (home.info("port").parse().expect("a port"), home.info("listener"));
    let mut kept = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    kept.set_read_timeout(Some(LIMIT)).expect("a socket");
    exchange(&mut kept, "hello");
    let child = home.spawn("exec sleep 1000").1;
    for (name, why) in [
        ("ends", "ended before it was ready"),
        ("hangs", "was not ready within 3s"),
    ] {
        let (before, keeper) = (home.number("incarnation"), home.number("keeper"));
        home.upgrade(&home.copy(name));
        let answer = home.ask("info");
        assert!(answer.contains(why), "{answer}");
        assert!(
            field(&answer, "program").ends_with(home.program.to_str().expect("text")),
            "{answer}"
        );
        assert_eq!(
            home.number("incarnation"),
            before + 1,
            "the first daemon after it is the one"
        );
        assert_ne!(field(&answer, "keeper"), keeper.to_string());
        wait_for("the hanging program's end", || {
            state(keeper).is_none_or(|state| state == 'Z').then_some(())
        });
        assert_eq!(home.info("listener"), listener, "the same number");
        exchange(&mut kept, name);
        let mut new = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        new.set_read_timeout(Some(LIMIT)).expect("a socket");
        exchange(&mut new, "new");
        assert_eq!(state(child), Some('S'), "the child is gone");
        let error = home.ensure().expect("it runs");
        assert_eq!(error, Started::Before, "the lock is held");
    }
    // Whoever is killed now, it goes on; and it can be upgraded in earnest.
    for key in ["pid", "keeper"] {
        let before = home.number("incarnation");
        kill(home.number(key), Signal::KILL);
        home.after(before);
        exchange(&mut kept, key);
    }
    home.upgrade(&home.copy("good"));
    assert_eq!(home.info("fell_back"), "None");
    exchange(&mut kept, "and on");
    kill(child, Signal::KILL);
}

/// Pids of children, zombies too.
fn children_of(pid: i32) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

fn is_named(pid: &str, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

fn whoever_dies_while_on_trial_the_old_program_comes_back() {
    let home = Home::started();
    let port = home.info("port").parse().expect("a port");
    let mut kept = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    kept.set_read_timeout(Some(LIMIT)).expect("a socket");
    let mute = home.copy("mute");
    for (keeper_gets, daemon_gets) in [
        (Signal::KILL, None),
        (Signal::STOP, None),
        (Signal::STOP, Some(Signal::STOP)),
        (Signal::KILL, Some(Signal::KILL)),
    ] {
        let (before, keeper) = (home.number("incarnation"), home.number("keeper"));
        // The end of the answer comes late: the guard has the connection, too.
        let mut control = UnixStream::connect(&home.place.socket).expect("it answers");
        writeln!(control, "upgrade {}", mute.display()).expect("it is open");
        let daemon = wait_for("a daemon of the new program", || {
            let program = fs::read_to_string(format!("/proc/{keeper}/cmdline")).ok()?;
            program.contains("/mute\0").then_some(())?;
            children_of(keeper)
                .into_iter()
                .find(|child| is_named(child, "everup"))
        });
        let daemon: i32 = daemon.parse().expect("a pid");
        kill(keeper, keeper_gets);
        if let Some(signal) = daemon_gets {
            kill(daemon, signal);
        }
        home.after(before);
        let answer = home.ask("info");
        assert!(!answer.contains("fell_back=None"), "{answer}");
        assert!(
            field(&answer, "program").ends_with(home.program.to_str().expect("text")),
            "{answer}"
        );
        exchange(&mut kept, "back");
        let now = field(&answer, "keeper").parse().expect("a pid");
        wait_for("one daemon alone", || {
            (children_of(now) == [home.info("pid")]).then_some(())
        });
        for gone in [keeper, daemon].into_iter().filter(|pid| *pid != now) {
            wait_for("the end of the new program", || {
                state(gone).is_none_or(|state| state == 'Z').then_some(())
            });
        }
    }
}

fn a_guard_leaves_nothing_behind() {
    let home = Home::started();
    let keeper = home.number("keeper");
    for number in 0..5 {
        home.upgrade(&home.copy(&format!("everup-{number}")));
        assert_eq!(home.number("keeper"), keeper);
        wait_for("the daemon alone", || {
            (children_of(keeper) == [home.info("pid")]).then_some(())
        });
        assert_eq!(home.info("fell_back"), "None");
    }
}

fn children_get_no_descriptor_after_a_take_over() {
    let home = Home::started();
    for _ in 0..5 {
        let before = home.number("incarnation");
        kill(home.number("keeper"), Signal::KILL);
        home.after(before);
        let (_, child) = home.spawn("exec sleep 1000");
        wait_for("exec", || {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name.trim() == "sleep").then_some(())
        });
        // It opens its libraries at first.
        wait_for("no more than the first three", || {
            let open = fs::read_dir(format!("/proc/{child}/fd")).expect("our child");
            let open: BTreeSet<_> = open
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect();
            open.iter().eq(["0", "1", "2"]).then_some(())
        });
        kill(child, Signal::KILL);
    }
}

fn what_nobody_claims_is_closed() {
    let home = Home::started();
    let file = home.folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let count = || {
        let keeper = home.number("keeper");
        let entries = fs::read_dir(format!("/proc/{keeper}/fd")).expect("our process");
        entries
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|link| *link == file)
            .count()
    };
    home.ask(&format!("open {}", file.display()));
    assert_eq!(count(), 1, "the keeper has what the daemon opens");
    let before = home.number("incarnation");
    kill(home.number("pid"), Signal::KILL);
    home.after(before);
    assert_eq!(count(), 0);
}

fn signals_are_passed_on_and_the_end_too() {
    let home = Home::started();
    let (daemon, keeper) = (home.number("pid"), home.number("keeper"));
    kill(keeper, Signal::TERM);
    wait_for("SIGTERM at the daemon", || {
        let status = fs::read_to_string(format!("/proc/{daemon}/status")).ok()?;
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"))?;
        let pending = u64::from_str_radix(pending.trim(), 16).ok()?;
        (pending & (1 << 14) != 0).then_some(())
    });
    home.ask("end-with 0");
    wait_for("the keeper's end", || {
        state(keeper).is_none_or(|state| state == 'Z').then_some(())
    });
    assert_eq!(home.ensure().expect("the lock is free"), Started::Now);
    assert_eq!(home.number("incarnation"), 1);
}
