//! A worker's limits and identity, as they are set between fork and exec.
//!
//! Job: do it, in the one order that works. [`Confinement::apply`] runs in the forked child of a threaded process:
//! it only makes system calls, on values that were all made before the fork.
//!
//! The order: whatever takes privileges (control group, OOM score, limits, nice, CPUs) before they are given up;
//! groups, then group, then user, because only a privileged process may set the first two; capabilities after
//! the user, because changing that clears them; nothing that gains a privilege after that.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, CpuSet};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// What is to be set; the default sets nothing.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    /// `cgroup.procs` of the worker's own control group.
    pub(crate) cgroup: Option<OwnedFd>,
    /// What `/proc/self/oom_score_adj` is to say.
    pub(crate) oom_score_adj: Option<Vec<u8>>,
    pub(crate) rlimits: Vec<(Resource, Rlimit)>,
    pub(crate) nice: Option<Nice>,
    pub(crate) cpus: Option<CpuSet>,
    pub(crate) ids: Option<Ids>,
    /// Exactly these, in all sets but the bounding one. `None` leaves what there is.
    pub(crate) caps: Option<CapabilitySet>,
    pub(crate) no_new_privs: bool,
    pub(crate) umask: Option<Mode>,
}

/// A nice value, as a number and as text.
#[derive(Debug)]
pub(crate) struct Nice {
    pub(crate) value: i32,
    pub(crate) text: Vec<u8>,
}

/// Who a worker is.
#[derive(Debug)]
pub(crate) struct Ids {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// `None` where they are the same already, which takes no privilege.
    pub(crate) groups: Option<Vec<Gid>>,
}

/// What the child was about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Session,
    ParentDeath,
    Descriptors,
    Cgroup,
    OomScore,
    /// The detail says which of [`Confinement::rlimits`].
    Rlimit,
    Nice,
    Cpus,
    KeepCapabilities,
    Groups,
    Group,
    User,
    Capabilities,
    NoNewPrivileges,
    Directory,
    Program,
    /// The detail says which of the files of a rehearsal.
    File,
}

impl Step {
    const ALL: [Self; 17] = [
        Self::Session,
        Self::ParentDeath,
        Self::Descriptors,
        Self::Cgroup,
        Self::OomScore,
        Self::Rlimit,
        Self::Nice,
        Self::Cpus,
        Self::KeepCapabilities,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::Directory,
        Self::Program,
        Self::File,
    ];
}

/// What the child could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) step: Step,
    pub(crate) detail: u8,
    pub(crate) errno: i32,
}

impl Refusal {
    /// On the pipe from the child.
    pub(crate) const SIZE: usize = 6;

    pub(crate) fn at(step: Step) -> impl FnOnce(Errno) -> Self {
        Self::of(step, 0)
    }

    fn of(step: Step, detail: u8) -> impl FnOnce(Errno) -> Self {
        move |errno| Self {
            step,
            detail,
            errno: errno.raw_os_error(),
        }
    }

    pub(crate) fn encode(self) -> [u8; Self::SIZE] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.step as u8, self.detail, a, b, c, d]
    }

    pub(crate) fn decode([step, detail, errno @ ..]: [u8; Self::SIZE]) -> Option<Self> {
        Some(Self {
            step: *Step::ALL.get(usize::from(step))?,
            detail,
            errno: i32::from_ne_bytes(errno),
        })
    }
}

impl Confinement {
    /// Sets everything, in the child. The parent-death signal has to be set again afterwards.
    pub(crate) fn apply(&self) -> Result<(), Refusal> {
        if let Some(entrance) = &self.cgroup {
            rustix::io::write(entrance, b"0").map_err(Refusal::at(Step::Cgroup))?;
        }
        if let Some(text) = &self.oom_score_adj {
            write(c"/proc/self/oom_score_adj", text).map_err(Refusal::at(Step::OomScore))?;
        }
        restore_descriptors();
        for (at, (resource, limit)) in (0..).zip(&self.rlimits) {
            rustix::process::setrlimit(*resource, *limit).map_err(Refusal::of(Step::Rlimit, at))?;
        }
        if let Some(nice) = &self.nice {
            rustix::process::setpriority_process(None, nice.value).map_err(Refusal::at(Step::Nice))?;
            // The worker is a session of its own, and so has an autogroup of its own where the kernel makes them: there
            // the nice value says nothing to other sessions, but that of the group does. It is not there on many
            // systems, and without privileges it may only be set now and then.
            write(c"/proc/self/autogroup", &nice.text).ok();
        }
        if let Some(cpus) = &self.cpus {
            choose(cpus).map_err(Refusal::at(Step::Cpus))?;
        }
        self.become_user()?;
        if self.no_new_privs {
            rustix::thread::set_no_new_privs(true).map_err(Refusal::at(Step::NoNewPrivileges))?;
        }
        if let Some(mask) = self.umask {
            rustix::process::umask(mask);
        }
        Ok(())
    }

    /// The calls of `rustix` change this thread alone, and there is no other one in the child of a fork.
    fn become_user(&self) -> Result<(), Refusal> {
        if self.caps.is_some_and(|caps| !caps.is_empty()) {
            rustix::thread::set_keep_capabilities(true).map_err(Refusal::at(Step::KeepCapabilities))?;
        }
        if let Some(ids) = &self.ids {
            if let Some(groups) = &ids.groups {
                rustix::thread::set_thread_groups(groups).map_err(Refusal::at(Step::Groups))?;
            }
            rustix::thread::set_thread_res_gid(ids.gid, ids.gid, ids.gid)
                .map_err(Refusal::at(Step::Group))?;
            rustix::thread::set_thread_res_uid(ids.uid, ids.uid, ids.uid).map_err(Refusal::at(Step::User))?;
        }
        self.caps
            .map_or(Ok(()), keep)
            .map_err(Refusal::at(Step::Capabilities))
    }
}

/// Ours is raised; a worker's is as it was. To lower it is never refused.
fn restore_descriptors() {
    if let Some(current) = crate::limits::descriptors::of_workers() {
        let mut limit = rustix::process::getrlimit(Resource::Nofile);
        limit.current = Some(limit.maximum.map_or(current, |most| most.min(current)));
        rustix::process::setrlimit(Resource::Nofile, limit).ok();
    }
}

/// Exactly these capabilities; ambient, so that they outlive the exec of a program that knows nothing of them.
fn keep(caps: CapabilitySet) -> Result<(), Errno> {
    let sets = CapabilitySets {
        effective: caps,
        permitted: caps,
        inheritable: caps,
    };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::clear_ambient_capability_set()?;
    let single = (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit));
    for cap in single.filter(|cap| caps.contains(*cap)) {
        rustix::thread::configure_capability_in_ambient_set(cap, true)?;
    }
    Ok(())
}

/// The kernel leaves out silently what it does not allow.
fn choose(cpus: &CpuSet) -> Result<(), Errno> {
    rustix::thread::sched_setaffinity(None, cpus)?;
    match rustix::thread::sched_getaffinity(None) {
        Ok(now) if now != *cpus => Err(Errno::INVAL),
        // More CPUs than a `CpuSet` can hold: nothing to compare with.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn write(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_pipe() {
        for (number, step) in (0..).zip(Step::ALL) {
            assert_eq!(step as u8, number);
            let refusal = Refusal {
                step,
                detail: 7,
                errno: libc::EPERM,
            };
            assert_eq!(Refusal::decode(refusal.encode()), Some(refusal));
        }
        assert_eq!(Refusal::decode([99, 0, 0, 0, 0, 0]), None);
    }
}
