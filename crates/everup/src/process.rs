//! A worker's process: named by pidfd, reaped by pidfd, killed with everything that it started.
//!
//! Nothing here is ever killed by bare pid: a pid read from `/proc` is turned into a pidfd first, and then looked
//! at again.

use everup_core::exit::ExitStatus;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The variable by which a worker's descendants are known, whatever their parent or session is by now.
pub(crate) const MARK: &str = "EVERUP_WORKER";

/// A child of ours.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pidfd: OwnedFd,
    /// The value of [`MARK`] in its environment.
    mark: String,
}

impl Process {
    /// Takes charge of a child that was just started.
    pub(crate) fn new(pid: u32, mark: String) -> io::Result<Self> {
        let pidfd = pidfd_open(as_pid(pid)?, PidfdFlags::NONBLOCK)?;
        Ok(Self { pid, pidfd, mark })
    }

    /// Readable once it is gone.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Reaps it. `None` while it lives.
    pub(crate) fn reap(&self) -> Option<ExitStatus> {
        match waitid(
            WaitId::PidFd(self.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(status) => status.map(|status| decode(&status)),
            Err(_) => Some(ExitStatus::Unknown),
        }
    }

    /// Whether its main thread waits for something: not running, not waiting to run, not stopped, not dead.
    pub(crate) fn asleep(&self) -> bool {
        read_stat(OsStr::new(&self.pid.to_string())).is_some_and(|seen| seen.state == b'S')
    }

    /// Sends a signal to it alone. A process that is gone already is no error.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        let Some(signal) = Signal::from_named_raw(signal) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// SIGKILL to it and all its descendants: by parentage, by session and by mark, again and again until none is
    /// left, because each look can miss one that is being forked.
    pub(crate) fn kill_tree(&self) {
        // It first: it starts no more, and its pid stays taken until we reap it.
        self.signal(libc::SIGKILL).ok();
        for _ in 0..ROUNDS {
            let family = self.family();
            if family.is_empty() {
                return;
            }
            for pid in family {
                self.kill_member(pid);
            }
        }
    }

    /// Kills those children of ours that were its descendants: orphans come to us, where we are their reaper.
    pub(crate) fn kill_orphans(&self, known: &BTreeSet<u32>) {
        if own_children()
            .iter()
            .any(|pid| !known.contains(pid) && self.marked(*pid))
        {
            self.kill_tree();
        }
    }

    fn kill_member(&self, pid: u32) {
        let Ok(pidfd) = as_pid(pid).and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?)) else {
            return;
        };
        // The pid may have changed hands before the pidfd was made; it cannot now.
        if self.family().contains(&pid) {
            pidfd_send_signal(&pidfd, Signal::KILL).ok();
        }
    }

    /// Its living descendants (zombies left out), without itself.
    fn family(&self) -> BTreeSet<u32> {
        let all = processes();
        let mut family = BTreeSet::new();
        loop {
            let before = family.len();
            for process in &all {
                let related = process.parent == self.pid
                    || process.session == self.pid
                    || family.contains(&process.parent)
                    || self.marked(process.pid);
                if related && process.pid != self.pid {
                    family.insert(process.pid);
                }
            }
            if family.len() == before {
                break;
            }
        }
        family.retain(|pid| all.iter().any(|process| process.pid == *pid && !process.zombie()));
        family.remove(&std::process::id());
        family
    }

    fn marked(&self, pid: u32) -> bool {
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        let entry = format!("{MARK}={}", self.mark);
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == entry.as_bytes())
    }
}

/// How often a tree is looked at before it is given up on.
const ROUNDS: usize = 20;

/// Reaps every child of this process that is not in `known`.
pub(crate) fn reap_strangers(known: &BTreeSet<u32>) {
    for pid in own_children() {
        if let (false, Ok(pid)) = (known.contains(&pid), as_pid(pid)) {
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
        }
    }
}

fn own_children() -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
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

struct Seen {
    pid: u32,
    parent: u32,
    session: u32,
    state: u8,
}

impl Seen {
    fn zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
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

/// `man 5 proc_pid_stat`: `pid (comm) state ppid pgrp session …`, where comm may hold anything.
fn read_stat(pid: &OsStr) -> Option<Seen> {
    let pid: u32 = std::str::from_utf8(pid.as_bytes()).ok()?.parse().ok()?;
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_comm = stat.iter().rposition(|&byte| byte == b')')? + 2;
    let rest = String::from_utf8_lossy(stat.get(after_comm..)?).into_owned();
    let mut fields = rest.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Seen {
        pid,
        parent,
        session,
        state,
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
