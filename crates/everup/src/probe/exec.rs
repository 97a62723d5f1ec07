//! A probe that runs a command.
//!
//! ```text
//! running ──ended──▶ answered, over
//!    └──limit──▶ answered; killed with all that it has started ──ended──▶ over
//! ```
//!
//! The command is reaped here and nowhere else ([`Children`]). It has a session of its own, and ends with the thread
//! that started it.

use super::{Children, Exec, Step, plain};
use crate::process::{BETWEEN_US, MARK, Process, kill_trees};
use crate::program;
use crate::sys::confine::Confinement;
use crate::sys::spawn::{Spawn, SpawnError, spawn};
use everup_core::exit::ExitStatus;
use everup_core::health::Probed;
use everup_core::id::WorkerId;
use everup_core::time::short;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Bytes of output that are kept, to find its last line in.
const TAIL: usize = 1024;
/// Bytes of output that are read in one go, and after the command has ended: something that it has left behind may
/// write on and on.
const MOST: usize = 64 * 1024;
/// Characters of the last line that are shown.
const SHOWN: usize = 200;

#[derive(Debug)]
pub(super) struct Running {
    process: Process,
    output: Option<OwnedFd>,
    tail: Vec<u8>,
    children: Children,
    reaped: bool,
    killed: bool,
}

impl Running {
    /// `mark` is this command's alone.
    pub(super) fn begin(
        exec: &Exec,
        worker: WorkerId,
        mark: String,
        children: Children,
    ) -> Result<Self, Probed> {
        let begun = Self::start(exec, worker, mark, children);
        begun.map_err(|error| {
            let command = exec.argv.first().cloned().unwrap_or_default();
            Probed::Unknown(format!(
                "could not run `{}`: {}",
                command.display(),
                plain(&error)
            ))
        })
    }

    fn start(exec: &Exec, worker: WorkerId, mark: String, children: Children) -> io::Result<Self> {
        let command = exec
            .argv
            .first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (output, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        let env = environment(exec, worker, &mark);
        let program = program::find(Path::new(command), &env);
        let pid = children.start(|| {
            spawn(&Spawn {
                program: &program,
                args: &exec.argv,
                env: &env,
                pid_variable: None,
                cwd: exec.cwd.as_deref(),
                descriptors: &[(theirs.as_fd(), 1), (theirs.as_fd(), 2)],
                confinement: &Confinement::default(),
                outlives: false,
            })
        });
        let pid = pid.map_err(|error| match error {
            SpawnError::System(error) => error,
            SpawnError::Refused(refusal) => io::Error::from_raw_os_error(refusal.errno),
        })?;
        let process = Process::new(pid, mark).inspect_err(|_| children.ended(pid))?;
        Ok(Self {
            process,
            output: Some(output),
            tail: Vec::new(),
            children,
            reaped: false,
            killed: false,
        })
    }

    pub(super) fn watch(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let output = self.output.as_ref().map(AsFd::as_fd);
        let both = output.into_iter().chain([self.process.descriptor()]);
        both.map(|descriptor| (descriptor, PollFlags::IN))
    }

    pub(super) fn step(&mut self) -> Step {
        self.read();
        let Some(status) = self.end() else {
            return Step::Wait;
        };
        if self.killed {
            return Step::Over;
        }
        Step::Done(match status {
            ExitStatus::Code(0) => Probed::Ok,
            ExitStatus::Unknown => Probed::Unknown("how its command ended is not known".into()),
            status => Probed::Failed(self.with_last_line(format!("its command ended with {status}"))),
        })
    }

    /// Kills it; it is over when it is reaped.
    pub(super) fn expire(&mut self, limit: Duration) -> Step {
        self.read();
        kill_trees(&[&self.process]);
        self.killed = true;
        self.output = None;
        let why = format!("its command did not end within {}", short(limit));
        Step::Answered(Probed::Failed(self.with_last_line(why)))
    }

    /// How it ended, once it has. What is left of its process group goes with it.
    fn end(&mut self) -> Option<ExitStatus> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if let Ok(None) = waitid(WaitId::PidFd(self.process.descriptor()), look) {
            return None;
        }
        // Not reaped, so the number is still its own.
        if let Some(group) = i32::try_from(self.process.pid).ok().and_then(Pid::from_raw) {
            kill_process_group(group, Signal::KILL).ok();
        }
        let status = self.process.reap(None)?;
        self.reaped = true;
        self.children.ended(self.process.pid);
        self.read();
        Some(status)
    }

    fn read(&mut self) {
        let mut chunk = [0; 4096];
        let mut total = 0;
        while let Some(output) = self.output.as_ref().filter(|_| total < MOST) {
            match rustix::io::read(output, &mut chunk) {
                Ok(0) => self.output = None,
                Ok(read) => {
                    total += read;
                    self.tail.extend_from_slice(&chunk[..read]);
                    let over = self.tail.len().saturating_sub(TAIL);
                    self.tail.drain(..over);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.output = None,
            }
        }
    }

    /// `why`, and the last thing that it wrote.
    fn with_last_line(&self, why: String) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        match last {
            Some(line) => {
                let shown: String = line.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
                format!("{why}: {shown}")
            }
            None => why,
        }
    }
}

impl Drop for Running {
    /// The prober ends while the command runs.
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        kill_trees(&[&self.process]);
        // Killed, so it ends at once; unless the kernel is stuck, which is not waited for.
        let limit = rustix::event::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let mut news = [rustix::event::PollFd::from_borrowed_fd(
            self.process.descriptor(),
            PollFlags::IN,
        )];
        rustix::event::poll(&mut news, Some(&limit)).ok();
        self.process.reap(None);
        self.children.ended(self.process.pid);
    }
}

/// The given one, and who is meant. The mark is not the worker's: the command does not belong to it.
fn environment(exec: &Exec, worker: WorkerId, mark: &str) -> Vec<(OsString, OsString)> {
    let ours: [(&str, String); 4] = [
        ("EVERUP_WORKER_ID", worker.to_string()),
        ("EVERUP_WORKER_PID", exec.pid.to_string()),
        ("EVERUP_SLOT", exec.slot.to_string()),
        (MARK, mark.into()),
    ];
    let given = exec.env.iter().filter(|(name, _)| {
        !ours.iter().any(|(own, _)| name == own) && !BETWEEN_US.iter().any(|own| name == own)
    });
    let mut all: Vec<(OsString, OsString)> = given.cloned().collect();
    all.extend(ours.map(|(name, value)| (name.into(), value.into())));
    all
}
