//! Stands by while another program becomes the keeper: a copy of the old keeper, with a copy of its descriptor table.
//!
//! Between the exec and the first daemon of the new program nobody else has the descriptors: a program that ends or hangs
//! there would take all with it. The guard shares the table until the exec, which gives the new program a copy. Then it
//! watches:
//!
//! - A new daemon is ready: it ends, and with it the last other holder of what was closed since.
//! - The new keeper has ended: its daemon takes its place, if there is one; then that is watched. Else the guard becomes
//!   the keeper, by the old program.
//! - Too late: it kills the new keeper and its daemon, then the same.
//!
//! One thread, no signal handlers; opens nothing before the exec. Must not know how a keeper works.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};
use rustix::thread::Timespec;

use crate::arguments::{FELL_BACK, resume};
use crate::link::Link;
use crate::log;
use crate::memory::Memory;
use crate::policy::how;
use crate::root::Root;
use crate::sys::process::{Image, exit_by_pidfd, name_thread};
use crate::sys::table;

/// Between two looks whether there is a daemon that is ready.
const LOOK: Duration = Duration::from_millis(2);
/// Who was killed is waited for so long.
const DEATH: Duration = Duration::from_secs(5);

/// What is known at one moment.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// A daemon of the new program (or of one after it) answers.
    ready: bool,
    /// The new keeper has ended.
    ended: bool,
    /// The time is over.
    late: bool,
    /// The new program has not given way by itself.
    trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Watch,
    Leave,
    Succeed,
    Kill,
}

fn judge(seen: Seen) -> Verdict {
    match seen {
        Seen { ready: true, .. } => Verdict::Leave,
        Seen {
            ended: false,
            late: false,
            ..
        } => Verdict::Watch,
        // The old program is back, and has ended or takes its time: as if there had been no upgrade.
        Seen { trial: false, .. } => Verdict::Leave,
        Seen { late: true, .. } => Verdict::Kill,
        Seen { .. } => Verdict::Succeed,
    }
}

/// A daemon that is, or may become, the keeper.
#[derive(Debug)]
struct Heir {
    pid: u32,
    pidfd: OwnedFd,
}

/// The guard at work.
#[derive(Debug)]
pub(crate) struct Guard {
    /// As it was before the exec: its numbers are those of our table.
    root: Root,
    memory: RawFd,
    link: Arc<Link>,
    /// Pidfd of the process that becomes another program.
    keeper: RawFd,
    executable: RawFd,
    /// In the keeper's place, after its death.
    heir: Option<Heir>,
    limit: Duration,
}

impl Guard {
    /// For the keeper whose state this is, when all is ready for the exec.
    pub(crate) fn new(root: &Root, memory: RawFd, link: &Arc<Link>, limit: Duration) -> Option<Self> {
        Some(Self {
            keeper: root.descriptors.keeper?,
            executable: root.descriptors.old?,
            root: root.clone(),
            memory,
            link: Arc::clone(link),
            heir: None,
            limit,
        })
    }

    /// Gives an exit code when it is not needed any more.
    pub(crate) fn stand_by(mut self) -> i32 {
        name_thread(c"everup-guard");
        let deadline = Instant::now() + self.limit;
        loop {
            let ended = has_ended(self.watched(), LOOK);
            let seen = Seen {
                ready: self.link.ready() > self.root.incarnation,
                ended,
                late: deadline <= Instant::now(),
                trial: true,
            };
            // The memory is looked at only when it matters.
            let first = judge(seen);
            let trial = || self.now().is_none_or(|now| now.record.trial);
            let verdict = match first {
                Verdict::Succeed | Verdict::Kill => judge(Seen {
                    trial: trial(),
                    ..seen
                }),
                Verdict::Watch | Verdict::Leave => first,
            };
            match verdict {
                Verdict::Watch => {}
                Verdict::Leave => return 0,
                Verdict::Succeed if self.follow() => {}
                Verdict::Succeed => {
                    let why = self.how_it_ended();
                    return self.take_over(&why);
                }
                Verdict::Kill if self.kill() => {
                    let why = format!("the new program was not ready within {:?}", self.limit);
                    return self.take_over(&why);
                }
                Verdict::Kill => return 1,
            }
        }
    }

    fn watched(&self) -> BorrowedFd<'_> {
        match &self.heir {
            Some(heir) => heir.pidfd.as_fd(),
            None => table::lend(self.keeper),
        }
    }

    /// What the root memory says now.
    fn now(&self) -> Option<Root> {
        let copy = table::lend(self.memory).try_clone_to_owned().ok()?;
        let (_, contents) = Memory::open(copy).ok()?;
        Some(Root::decode(&contents.snapshot))
    }

    /// The new program's daemon, if it lives.
    fn daemon(&self) -> Option<Heir> {
        let (incarnation, pid) = self.link.daemon();
        let known = self.heir.as_ref().map(|heir| heir.pid);
        if incarnation <= low(self.root.incarnation) || known == Some(pid) {
            return None;
        }
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // Its number may be somebody else's by now: the keeper's child goes where we go when the keeper ends.
        let parent = parent(pid)?;
        let ours = getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
        (parent == ours || Some(parent) == known)
            .then_some(Heir { pid, pidfd })
            .filter(|heir| !has_ended(heir.pidfd.as_fd(), Duration::ZERO))
    }

    /// Is there a daemon that takes the dead keeper's place? If not, none will from here on.
    fn follow(&mut self) -> bool {
        let mut daemon = self.daemon();
        if daemon.is_none() {
            self.claim();
            // One that was cloned in the last moment has said so before it looks, or sees the claim.
            daemon = self.daemon();
            if daemon.is_none() {
                return false;
            }
            self.link.claim(0);
        }
        self.heir = daemon;
        true
    }

    /// Daemons that were started until now are not to be.
    fn claim(&self) {
        // A keeper counts before it clones; the next one, which is ours, is not meant.
        let incarnation = self.now().map_or(0, |now| now.incarnation);
        self.link.claim(incarnation.max(self.root.incarnation));
    }

    /// Ends the new keeper, and its daemons. `false`: they live on.
    fn kill(&mut self) -> bool {
        // Not a second one: whoever takes a killed keeper's place starts one more at most.
        for _ in 0..8 {
            pidfd_send_signal(self.watched(), Signal::KILL).ok();
            if !has_ended(self.watched(), DEATH) {
                log::line(format_args!("the new program cannot be killed"));
                return false;
            }
            self.claim();
            let Some(daemon) = self.daemon() else {
                return true;
            };
            self.heir = Some(daemon);
        }
        false
    }

    fn how_it_ended(&self) -> String {
        let how =
            exit_by_pidfd(self.watched()).map_or_else(String::new, |status| format!(" with {}", how(status)));
        format!("the new program ended before it was ready{how}")
    }

    /// The old program becomes the keeper in this process. Comes back with an exit code if that is not possible.
    fn take_over(mut self, why: &str) -> i32 {
        log::line(format_args!(
            "the guard brings back the program from before: {why}"
        ));
        self.heir = None;
        let root = self.root_of_ours(why);
        let Some(arguments) = resume(&root.program, FELL_BACK) else {
            return 1;
        };
        let saved = Memory::open(table::take(self.memory)).and_then(|(mut memory, _)| {
            let saved = memory.snapshot(&root.encode());
            std::mem::forget(memory);
            saved
        });
        if let Err(error) = saved {
            log::line(format_args!("cannot write down its state: {error}"));
        }
        let dropped: Vec<RawFd> = [self.root.descriptors.keeper, self.root.descriptors.signals]
            .into_iter()
            .flatten()
            .collect();
        if let Err(error) = table::keep_on_exec_from(3, &dropped) {
            log::line(format_args!("cannot keep the descriptors: {error}"));
        }
        let error = Image::new(CString::default(), arguments).exec(self.executable);
        log::line(format_args!("cannot bring back the program from before: {error}"));
        1
    }

    /// What the old program goes on with: numbers of our table, counts of those who came after.
    fn root_of_ours(&self, why: &str) -> Root {
        let now = self.now().unwrap_or_else(|| self.root.clone());
        let mut root = self.root.clone();
        root.incarnation = root.incarnation.max(now.incarnation);
        root.keepers = root.keepers.max(now.keepers);
        root.program = std::mem::take(&mut root.old_program);
        root.descriptors.executable = root.descriptors.old.take();
        root.record.trial = false;
        root.record.unready = 0;
        root.fell_back = Some(why.to_owned());
        root.previous = Some("an upgrade that was taken back".to_owned());
        root
    }
}

/// As much of an incarnation's number as the link has.
fn low(incarnation: u64) -> u32 {
    u32::try_from(incarnation & u64::from(u32::MAX)).unwrap_or(0)
}

fn has_ended(pidfd: BorrowedFd<'_>, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).ok();
    let mut descriptors = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut descriptors, limit.as_ref()).is_ok_and(|ready| ready > 0)
}

/// `man 5 proc_pid_stat`: the second field behind the name, which may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    const NOTHING: Seen = Seen {
        ready: false,
        ended: false,
        late: false,
        trial: true,
    };

    #[test]
    fn it_watches_until_something_happens() {
        assert_eq!(judge(NOTHING), Verdict::Watch);
        assert_eq!(
            judge(Seen {
                trial: false,
                ..NOTHING
            }),
            Verdict::Watch
        );
        assert_eq!(
            judge(Seen {
                ended: true,
                ..NOTHING
            }),
            Verdict::Succeed
        );
        for ended in [false, true] {
            assert_eq!(
                judge(Seen {
                    late: true,
                    ended,
                    ..NOTHING
                }),
                Verdict::Kill
            );
        }
    }

    #[test]
    fn it_leaves_when_another_is_at_work() {
        for (ended, late) in [(false, false), (false, true), (true, false), (true, true)] {
            let ready = Seen {
                ready: true,
                ended,
                late,
                ..NOTHING
            };
            assert_eq!(judge(ready), Verdict::Leave);
            let back = Seen {
                trial: false,
                ended,
                late,
                ..NOTHING
            };
            assert_eq!(judge(back) == Verdict::Leave, ended || late);
        }
    }

    #[test]
    fn the_old_program_goes_on_with_our_numbers_and_their_counts() {
        let before = Root {
            program: "/new".into(),
            old_program: "/old".into(),
            incarnation: 4,
            keepers: 2,
            descriptors: crate::root::Descriptors {
                old: Some(9),
                keeper: Some(7),
                ..Default::default()
            },
            ..Root::default()
        };
        let mut memory = Memory::create("root of a guard").unwrap();
        let now = Root {
            incarnation: 6,
            keepers: 3,
            descriptors: crate::root::Descriptors {
                executable: Some(77),
                ..Default::default()
            },
            ..before.clone()
        };
        memory.snapshot(&now.encode()).unwrap();
        let link = Arc::new(Link::create().unwrap().0);
        let guard = Guard::new(&before, memory.fd().as_raw_fd(), &link, LOOK).unwrap();
        let root = guard.root_of_ours("because");
        assert_eq!((root.incarnation, root.keepers), (6, 3));
        assert_eq!(root.program, "/old");
        assert_eq!(
            (root.descriptors.executable, root.descriptors.old),
            (Some(9), None)
        );
        assert_eq!(root.fell_back.as_deref(), Some("because"));
    }
}
