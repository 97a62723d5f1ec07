//! A worker's process: named by pidfd, reaped by pidfd, killed with everything that it started.
//!
//! Nothing here is ever killed by bare pid: a pid read from `/proc` is turned into a pidfd first, and then looked
//! at again.

mod remains;

pub(crate) use remains::{Remains, Victim};

use crate::estate::Exits;
use crate::sys::pidfd;
use everup_core::exit::ExitStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The variable by which a worker's descendants are known, whatever their parent or session is by now. Set for every
/// worker.
pub const MARK: &str = "EVERUP_WORKER";

/// The variable that tells a worker with Node's cluster channel that the primary is everup, which understands more than Node's does: a
/// worker may say how many of its connections have ended.
pub const FEEDBACK: &str = "EVERUP_CHANNEL";

/// Variables of the protocols between us and one worker: nothing of them is passed on from our own environment, and
/// they are no business of anybody else.
pub(crate) const BETWEEN_US: [&str; 11] = [
    FEEDBACK,
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Kills a process that was started as a worker, and that nobody knows of, with its descendants.
pub(crate) fn end_stray(pid: u32, mark: &str) {
    let Ok(pidfd) = as_pid(pid).and_then(|id| Ok(pidfd_open(id, PidfdFlags::NONBLOCK)?)) else {
        return;
    };
    // Looked at again, now that its pid cannot become another's unnoticed.
    if marked(pid, mark) {
        let mark = mark.to_owned();
        kill_trees(&[&Process { pid, pidfd, mark }]);
    }
}

/// Processes of the family of `of` (its children) that have the mark of a worker, with it.
pub(crate) fn marks(of: &str) -> Vec<(u32, String)> {
    let named = |pid: u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let prefix = format!("{MARK}=");
        let mark = environment
            .split(|&byte| byte == 0)
            .find_map(|variable| variable.strip_prefix(prefix.as_bytes()))?;
        Some((pid, String::from_utf8_lossy(mark).into_owned()))
    };
    children(of).into_iter().filter_map(named).collect()
}

/// A child of ours.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    #[serde(with = "crate::estate::number")]
    pidfd: OwnedFd,
    /// The value of [`MARK`] in its environment.
    mark: String,
}

impl Process {
    /// Takes charge of a child that was just started. If that cannot be done, the child is killed: nobody would
    /// know of it.
    pub(crate) fn new(pid: u32, mark: String) -> io::Result<Self> {
        let id = as_pid(pid)?;
        match pidfd_open(id, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => Ok(Self { pid, pidfd, mark }),
            Err(error) => {
                // Our own child, and not reaped: its pid is nobody else's.
                rustix::process::kill_process(id, rustix::process::Signal::KILL).ok();
                rustix::process::waitpid(Some(id), rustix::process::WaitOptions::empty()).ok();
                Err(error.into())
            }
        }
    }

    /// The value of [`MARK`] in its environment.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Readable once it is gone.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Reaps it. `None` while it lives, and while a debugger holds its remains.
    /// `exits`: who has seen the ends of those that are no children of ours. `None` also until they have.
    pub(crate) fn reap(&self, exits: Option<&Exits>) -> Option<ExitStatus> {
        match waitid(
            WaitId::PidFd(self.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(status) => status.map(|status| decode(&status)),
            Err(_) => self.seen_by_others(exits),
        }
    }

    fn seen_by_others(&self, exits: Option<&Exits>) -> Option<ExitStatus> {
        let told = exits.and_then(|exits| exits.seen(self.pid));
        let known = told.or_else(|| pidfd::exit_info(self.pidfd.as_fd()));
        match known {
            Some((Some(code), ..)) => Some(ExitStatus::Code(code)),
            Some((None, Some(signal), core)) => Some(ExitStatus::Signal { signal, core }),
            Some((None, None, _)) => Some(ExitStatus::Unknown),
            None => self.remains(exits.is_some()),
        }
    }

    /// What the kernel shows of one that nobody has reaped: its parent may be an init that does so late, or never.
    fn remains(&self, others: bool) -> Option<ExitStatus> {
        match read_stat(OsStr::new(&self.pid.to_string())) {
            Some(Seen {
                left: Some(status), ..
            }) => Some(of_wait(status)),
            // It is shown to some only: whoever is its parent reaps it in a moment.
            Some(seen) if others && seen.zombie() => None,
            _ => Some(ExitStatus::Unknown),
        }
    }

    /// Whether it has this socket open, as far as can be seen.
    pub(crate) fn has(&self, socket: &OwnedFd) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Ok(ours) = rustix::fs::fstat(socket) else {
            return false;
        };
        let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            // It cannot be seen: then it is taken for granted.
            return true;
        };
        open.flatten()
            .filter_map(|entry| std::fs::metadata(entry.path()).ok())
            .any(|found| found.ino() == ours.st_ino && found.dev() == ours.st_dev)
    }

    /// Kills it and waits for its end: for one that was started and cannot be used.
    pub(crate) fn discard(self) {
        kill_trees(&[&self]);
        waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).ok();
    }

    /// Whether its main thread waits for something: not running, not waiting to run, not stopped, not dead.
    pub(crate) fn asleep(&self) -> bool {
        read_stat(OsStr::new(&self.pid.to_string())).is_some_and(|seen| seen.state == b'S')
    }

    /// Sends a signal to it alone. A process that is gone already is no error.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        pidfd::send(self.pidfd.as_fd(), signal)
    }
}

/// SIGKILL to these and all their descendants. Gives the descendants: they end some time later.
pub(crate) fn kill_trees(roots: &[&Process]) -> Vec<Victim> {
    let family = Roots {
        pids: roots.iter().map(|root| root.pid).collect(),
        marks: roots.iter().map(|root| root.mark.as_str()).collect(),
    };
    // They first: they start no more, and their pids stay taken until we reap them. What they leave behind is
    // found by its session or mark.
    let before = processes();
    for root in roots {
        root.signal(libc::SIGKILL).ok();
    }
    let mut victims: Vec<Victim> = family.of(&before).into_iter().filter_map(end).collect();
    kill_family(&family, &mut victims);
    victims
}

/// By parentage, by session and by mark, again and again until no new one is seen, because each look can miss one
/// that is being forked.
fn kill_family(roots: &Roots<'_>, victims: &mut Vec<Victim>) {
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS {
        let all = processes();
        let family = roots.of(&all);
        let new: Vec<&Seen> = family
            .into_iter()
            .filter(|seen| killed.insert((seen.pid, seen.started)))
            .collect();
        if new.is_empty() {
            return;
        }
        victims.extend(new.into_iter().filter_map(end));
    }
}

/// SIGKILL to every child of this process that is left, and to its descendants, which come to us when their parents
/// end. Waits for their ends, but not for ever: only for the end of everything.
pub(crate) fn kill_children() {
    let limit = Instant::now() + LAST_WAIT;
    loop {
        let own = own_children();
        let all = processes();
        let left: Vec<&Seen> = all
            .iter()
            .filter(|seen| own.contains(&seen.pid) && !seen.zombie())
            .collect();
        if left.is_empty() || Instant::now() >= limit {
            break;
        }
        for victim in left.into_iter().filter_map(end) {
            ends_within(&victim, LAST_LOOK);
        }
    }
    reap_strangers(&BTreeSet::new());
}

/// Reaps every child of this process that is not in `known`.
pub(crate) fn reap_strangers(known: &BTreeSet<u32>) {
    reap_strangers_but(|| Some(known.clone()));
}

/// Reaps every child of this process that is not among those that `known` says *after* the children were listed: a
/// child that another thread has started before is in its answer then. `None` reaps nothing.
pub(crate) fn reap_strangers_but(known: impl FnOnce() -> Option<BTreeSet<u32>>) {
    let children = own_children();
    let Some(known) = known() else {
        return;
    };
    for pid in children {
        if let (false, Ok(pid)) = (known.contains(&pid), as_pid(pid)) {
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
        }
    }
}

/// How often a tree is looked at before it is given up on.
const ROUNDS: usize = 20;
/// How long the last children are waited for, in all and each.
const LAST_WAIT: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_millis(20);

/// A process as `/proc` shows it.
struct Seen {
    pid: u32,
    parent: u32,
    session: u32,
    state: u8,
    /// In clock ticks since boot: with the pid, a name that is not used twice.
    started: u64,
    /// Whether it has no memory any more: it is ending, has no environment by which it could be known, and may still
    /// have open sockets, and children that have not come to us yet.
    empty: bool,
    /// Of a zombie: how it ended, as `wait` gives it, if we may know.
    left: Option<i32>,
}

/// A status of `wait`.
fn of_wait(status: i32) -> ExitStatus {
    if libc::WIFEXITED(status) {
        return ExitStatus::Code(libc::WEXITSTATUS(status));
    }
    ExitStatus::Signal {
        signal: libc::WTERMSIG(status),
        core: libc::WCOREDUMP(status),
    }
}

/// Whether the kernel tells us of this process what it tells only some: it shows them 0 otherwise.
fn may_look_into(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let us = rustix::process::geteuid().as_raw();
    us == 0 || std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|owner| owner.uid() == us)
}

impl Seen {
    fn zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// SIGKILL, unless it is gone already.
fn end(seen: &Seen) -> Option<Victim> {
    let pidfd = pidfd_open(as_pid(seen.pid).ok()?, PidfdFlags::empty()).ok()?;
    // The pid may have changed hands before the pidfd was made; it cannot now.
    read_stat(OsStr::new(&seen.pid.to_string())).filter(|now| now.started == seen.started)?;
    pidfd::send(pidfd.as_fd(), libc::SIGKILL).ok()?;
    Some(Victim {
        pid: seen.pid,
        pidfd: Arc::new(pidfd),
    })
}

/// Whether all its threads have ended, and so all that it had open is closed.
fn ended(victim: &Victim) -> bool {
    ends_within(victim, Duration::ZERO)
}

fn ends_within(victim: &Victim, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap_or_default();
    let mut look = [PollFd::new(&victim.pidfd, PollFlags::IN)];
    poll(&mut look, Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Whose descendants are meant.
struct Roots<'a> {
    /// Of our children that are not reaped yet.
    pids: Vec<u32>,
    marks: Vec<&'a str>,
}

impl Roots<'_> {
    /// Their living descendants (zombies left out), without themselves.
    fn of<'s>(&self, all: &'s [Seen]) -> Vec<&'s Seen> {
        let reapers = ancestry(all);
        let mut family: BTreeSet<u32> = BTreeSet::new();
        loop {
            let before = family.len();
            for seen in all {
                // An orphan's parent is one of our ancestors, or we are: only there the mark must be read.
                let orphan =
                    || reapers.contains(&seen.parent) && self.marks.iter().any(|mark| marked(seen.pid, mark));
                let related = self.pids.contains(&seen.parent)
                    || self.pids.contains(&seen.session)
                    || family.contains(&seen.parent);
                let meant = !self.pids.contains(&seen.pid) && !reapers.contains(&seen.pid);
                if meant && !family.contains(&seen.pid) && (related || orphan()) {
                    family.insert(seen.pid);
                }
            }
            if family.len() == before {
                break;
            }
        }
        all.iter()
            .filter(|seen| family.contains(&seen.pid) && !seen.zombie())
            .collect()
    }
}

/// This process and its ancestors.
fn ancestry(all: &[Seen]) -> BTreeSet<u32> {
    let mut line = BTreeSet::from([std::process::id()]);
    let mut at = std::process::id();
    while let Some(seen) = all
        .iter()
        .find(|seen| seen.pid == at && !line.contains(&seen.parent))
    {
        at = seen.parent;
        line.insert(at);
    }
    // Init is everybody's reaper in the end, also where it cannot be seen as our ancestor.
    line.insert(1);
    line
}

/// The parent of a process that is there, if only as a zombie.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    read_stat(OsStr::new(&pid.to_string())).map(|seen| seen.parent)
}

/// Whether a process was started by the worker with this mark, or by one of its descendants.
pub(crate) fn marked(pid: u32, mark: &str) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let entry = format!("{MARK}={mark}");
    environment
        .split(|&byte| byte == 0)
        .any(|variable| variable == entry.as_bytes())
}

/// Whether a process is ending: not gone, and without memory.
fn ending(pid: u32) -> bool {
    read_stat(OsStr::new(&pid.to_string())).is_some_and(|seen| seen.empty && !seen.zombie())
}

fn own_children() -> Vec<u32> {
    children("self")
}

/// The children of a process (`self`, or a pid), of all its threads.
pub(crate) fn children(of: &str) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{of}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

fn processes() -> Vec<Seen> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| read_stat(&entry.file_name()))
        .collect()
}

/// `man 5 proc_pid_stat`: `pid (comm) state ppid pgrp session …`, where comm may hold anything; the 22nd field is the
/// start time, the 23rd the size, the 52nd a zombie's status.
fn read_stat(pid: &OsStr) -> Option<Seen> {
    let pid: u32 = std::str::from_utf8(pid.as_bytes()).ok()?.parse().ok()?;
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_comm = stat.iter().rposition(|&byte| byte == b')')? + 2;
    let rest = String::from_utf8_lossy(stat.get(after_comm..)?).into_owned();
    let fields: Vec<&str> = rest.split(' ').collect();
    let state = *fields.first()?.as_bytes().first()?;
    let left = || {
        fields
            .get(49)?
            .trim_end()
            .parse()
            .ok()
            .filter(|_| may_look_into(pid))
    };
    Some(Seen {
        pid,
        left: if state == b'Z' { left() } else { None },
        state,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        empty: *fields.get(20)? == "0",
    })
}

fn decode(status: &WaitIdStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal {
            signal,
            core: status.dumped(),
        },
        (None, None) => ExitStatus::Unknown,
    }
}

fn as_pid(pid: u32) -> io::Result<Pid> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
