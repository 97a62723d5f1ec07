//! From [`Limits`] to what the child of a fork sets.
//!
//! Job: find out before anything is started whether the system allows the limits, make them ready for each worker,
//! and say in words what was refused. Owner: the engine.
//!
//! Nothing here guesses what is allowed: [`Confiner::new`] starts a child that does everything a worker's child will
//! do, and ends instead of executing the program. So containers, security modules and file systems have their say
//! too.
//!
//! Must not know: how it is set ([`crate::sys::confine`]), what the workers are for.

use crate::cgroup::{Base, Leaf};
use crate::limits::{Affinity, Limits, LimitsError, Resource};
use crate::sys::confine::{Confinement, Ids, Nice, Refusal, Step};
use crate::sys::spawn::{Reach, SpawnError, rehearse};
use everup_core::id::{Slot, WorkerId};
use rustix::fs::Mode;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CpuSet};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Makes every worker's limits ready.
#[derive(Debug)]
pub(crate) struct Confiner {
    limits: Limits,
    /// For [`Affinity::OneEach`]: the CPUs that we may use.
    cpus: Vec<u32>,
    base: Option<Base>,
    cwd: Option<PathBuf>,
    program: PathBuf,
}

impl Confiner {
    /// Tries them out.
    ///
    /// # Errors
    /// With what is not allowed.
    pub(crate) fn new(limits: &Limits, cwd: Option<&Path>, program: &Path) -> Result<Self, LimitsError> {
        let confiner = Self::again(limits, cwd, program)?;
        if *limits == Limits::default() {
            return Ok(confiner);
        }
        let confinement = confiner.confinement(Slot(0));
        let confinement = confinement.map_err(unknown("find out the groups of everup"))?;
        match rehearse(&confinement, &confiner.reach()) {
            Ok(()) => confiner.check_power().map(|()| confiner),
            Err(error) => Err(confiner.refused(error)),
        }
    }

    /// For a cluster that was started with these limits before: they are not tried out, for the program may be gone
    /// meanwhile.
    ///
    /// # Errors
    /// With what is not possible at all.
    pub(crate) fn again(limits: &Limits, cwd: Option<&Path>, program: &Path) -> Result<Self, LimitsError> {
        let mut confiner = Self {
            limits: limits.clone(),
            cpus: Vec::new(),
            base: None,
            cwd: cwd.map(Into::into),
            program: program.into(),
        };
        if *limits == Limits::default() {
            return Ok(confiner);
        }
        if limits.affinity == Some(Affinity::OneEach) {
            confiner.cpus = own_cpus().map_err(unknown("find out the CPUs of everup"))?;
        }
        if !limits.keep_caps.is_empty() && confiner.uid() == 0 {
            return Err(LimitsError::RootKeepsAll);
        }
        if limits.cgroup.any() {
            confiner.base = Some(Base::prepare(limits.cgroup)?);
        }
        Ok(confiner)
    }

    /// Without another identity all is as much in reach as it ever was; a bare name is looked up in `PATH` later.
    fn reach(&self) -> Reach<'_> {
        let path = self.program.as_os_str().as_encoded_bytes().contains(&b'/');
        match self.limits.identity {
            Some(_) => Reach {
                cwd: self.cwd.as_deref(),
                program: path.then_some(self.program.as_path()),
                files: &self.limits.readable,
            },
            None => Reach::default(),
        }
    }

    /// What the rehearsal cannot show.
    fn check_power(&self) -> Result<(), LimitsError> {
        let Some(identity) = &self.limits.identity else {
            return Ok(());
        };
        let may_kill = rustix::thread::capabilities(None)
            .map_or(true, |sets| sets.effective.contains(CapabilitySet::KILL));
        if identity.uid != own_uid() && !may_kill {
            return Err(LimitsError::NoKill {
                user: identity.shown(),
            });
        }
        Ok(())
    }

    /// Of the worker.
    fn uid(&self) -> u32 {
        self.limits
            .identity
            .as_ref()
            .map_or_else(own_uid, |identity| identity.uid)
    }

    /// For one worker; its control group lives as long as the leaf.
    pub(crate) fn prepare(&self, worker: WorkerId, slot: Slot) -> io::Result<(Confinement, Option<Leaf>)> {
        let mut confinement = self.confinement(slot)?;
        let leaf = self.base.as_ref().map(|base| base.leaf(worker)).transpose()?;
        if let Some(leaf) = &leaf {
            confinement.cgroup = Some(leaf.entrance()?);
        }
        Ok((confinement, leaf))
    }

    fn confinement(&self, slot: Slot) -> io::Result<Confinement> {
        let limits = &self.limits;
        let rlimits = limits.rlimits.iter().map(|(resource, limit)| {
            let limit = rustix::process::Rlimit {
                current: limit.soft,
                maximum: limit.hard,
            };
            (number(*resource), limit)
        });
        Ok(Confinement {
            cgroup: None,
            oom_score_adj: limits.oom_score_adj.map(|score| score.to_string().into_bytes()),
            rlimits: rlimits.collect(),
            nice: limits.nice.map(|value| Nice {
                value,
                text: value.to_string().into_bytes(),
            }),
            cpus: self.cpus_of(slot),
            ids: self.ids()?,
            caps: self.caps(),
            no_new_privs: limits.no_new_privs,
            umask: limits.umask.map(Mode::from_raw_mode),
        })
    }

    fn cpus_of(&self, slot: Slot) -> Option<CpuSet> {
        let mut set = CpuSet::new();
        let mut add = |cpu: &u32| set.set(usize::try_from(*cpu).unwrap_or_default());
        match self.limits.affinity.as_ref()? {
            Affinity::OneEach => {
                let turn = usize::try_from(slot.0).unwrap_or_default();
                add(self.cpus.get(turn.checked_rem(self.cpus.len())?)?);
            }
            Affinity::Cpus(cpus) => cpus.iter().for_each(add),
        }
        Some(set)
    }

    fn ids(&self) -> io::Result<Option<Ids>> {
        let Some(identity) = &self.limits.identity else {
            return Ok(None);
        };
        let ours: BTreeSet<u32> = rustix::process::getgroups()?
            .iter()
            .map(|gid| gid.as_raw())
            .collect();
        let theirs: BTreeSet<u32> = identity.groups.iter().copied().collect();
        Ok(Some(Ids {
            uid: Uid::from_raw(identity.uid),
            gid: Gid::from_raw(identity.gid),
            groups: (ours != theirs).then(|| theirs.into_iter().map(Gid::from_raw).collect()),
        }))
    }

    /// A worker that is root has all of them anyway. Another user than ours has none but the kept ones, also if we are
    /// no root but may change users.
    fn caps(&self) -> Option<CapabilitySet> {
        let kept = self.limits.keep_caps.iter().fold(0, |set, cap| set | cap.bit());
        let changes = self.uid() != own_uid();
        (self.uid() != 0 && (changes || kept != 0)).then(|| CapabilitySet::from_bits_retain(kept))
    }

    /// Another user cannot open `/dev/stdout` if that is a pipe of ours.
    pub(crate) fn owner(&self) -> Option<(Uid, Gid)> {
        let identity = self.limits.identity.as_ref()?;
        Some((Uid::from_raw(identity.uid), Gid::from_raw(identity.gid)))
    }

    /// Why a worker was not started, in one line.
    pub(crate) fn explain(&self, error: &SpawnError) -> String {
        match error {
            SpawnError::System(error) => error.to_string(),
            SpawnError::Refused(refusal) => {
                let source = io::Error::from_raw_os_error(refusal.errno);
                match refusal.step {
                    Step::Program => source.to_string(),
                    _ => format!("{}: {}", self.what(*refusal), plain(&source)),
                }
            }
        }
    }

    fn refused(&self, error: SpawnError) -> LimitsError {
        let refusal = match error {
            SpawnError::Refused(refusal) => refusal,
            SpawnError::System(source) => {
                return unknown("try them out")(source);
            }
        };
        let source = io::Error::from_raw_os_error(refusal.errno);
        let what = self.what(refusal);
        match (refusal.step, &self.limits.identity) {
            (Step::Directory | Step::Program | Step::File, Some(identity)) => LimitsError::OutOfReach {
                user: identity.shown(),
                what,
                source,
            },
            _ => LimitsError::Refused {
                what,
                needs: self.needs(refusal),
                source,
            },
        }
    }

    fn what(&self, refusal: Refusal) -> String {
        let limits = &self.limits;
        let user = || {
            limits
                .identity
                .as_ref()
                .map_or_else(String::new, |user| user.shown())
        };
        match refusal.step {
            Step::Session => "start a session".into(),
            Step::ParentDeath => "let it end with everup".into(),
            Step::Descriptors => "place its descriptors".into(),
            Step::Cgroup => "enter its control group".into(),
            Step::OomScore => format!(
                "set the OOM score to {}",
                limits.oom_score_adj.unwrap_or_default()
            ),
            Step::Rlimit => self.rlimit(refusal).map_or_else(
                || "set a limit".into(),
                |(resource, limit)| format!("set the limit {resource} to {limit}"),
            ),
            Step::Nice => format!("set the nice value to {}", limits.nice.unwrap_or_default()),
            Step::Cpus => format!("restrict workers to the CPUs {}", self.cpu_list()),
            Step::Groups => format!("set the groups of {}", user()),
            Step::Group => {
                let gid = limits.identity.as_ref().map_or(0, |identity| identity.gid);
                format!("set the group to {gid}")
            }
            Step::User => format!("become {}", user()),
            Step::KeepCapabilities | Step::Capabilities => match limits.keep_caps.is_empty() {
                true => "give up all capabilities".into(),
                false => format!("keep the capabilities {}", list(&limits.keep_caps)),
            },
            Step::NoNewPrivileges => "forbid new privileges".into(),
            Step::Directory => match &self.cwd {
                Some(cwd) => format!("enter {}", cwd.display()),
                None => "enter the directory".into(),
            },
            Step::Program => format!("execute {}", self.program.display()),
            Step::File => match limits.readable.get(usize::from(refusal.detail)) {
                Some(file) => format!("read {}", file.display()),
                None => "read a file".into(),
            },
        }
    }

    fn needs(&self, refusal: Refusal) -> Option<String> {
        Some(match refusal.step {
            Step::OomScore => "a score lower than everup's own needs root or CAP_SYS_RESOURCE".into(),
            Step::Rlimit => rlimit_needs(self.rlimit(refusal)?.0),
            Step::Nice => {
                "a lower value than everup's own needs root, CAP_SYS_NICE or the limit `nice`".into()
            }
            Step::Cpus => format!(
                "this system lets everup use the CPUs {}",
                list(own_cpus().unwrap_or_default())
            ),
            Step::Groups | Step::Group => "run everup as root, or give it CAP_SETGID".into(),
            Step::User => "run everup as root, or give it CAP_SETUID".into(),
            Step::KeepCapabilities | Step::Capabilities => {
                "everup can only pass on what it has itself: run it as root".into()
            }
            Step::Directory
            | Step::Program
            | Step::File
            | Step::Session
            | Step::ParentDeath
            | Step::Descriptors
            | Step::Cgroup
            | Step::NoNewPrivileges => return None,
        })
    }

    fn rlimit(&self, refusal: Refusal) -> Option<(Resource, crate::limits::Rlimit)> {
        let nth = self.limits.rlimits.iter().nth(usize::from(refusal.detail));
        nth.map(|(resource, limit)| (*resource, *limit))
    }

    fn cpu_list(&self) -> String {
        match &self.limits.affinity {
            Some(Affinity::Cpus(cpus)) => list(cpus),
            Some(Affinity::OneEach) | None => list(&self.cpus),
        }
    }
}

fn rlimit_needs(resource: Resource) -> String {
    let hard = rustix::process::getrlimit(number(resource)).maximum;
    let hard = hard.map_or_else(|| "not limited".into(), |hard| hard.to_string());
    let most = (resource == Resource::Nofile)
        .then(|| std::fs::read_to_string("/proc/sys/fs/nr_open").ok())
        .flatten()
        .map(|most| format!("; nobody gets more than {} (/proc/sys/fs/nr_open)", most.trim()));
    format!(
        "the hard limit is {hard}, and raising it needs root or CAP_SYS_RESOURCE{}",
        most.unwrap_or_default()
    )
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(",")
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The CPUs that this thread may use.
fn own_cpus() -> io::Result<Vec<u32>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let all = (0..).take(CpuSet::MAX_CPU);
    Ok(all
        .filter(|cpu| usize::try_from(*cpu).is_ok_and(|cpu| set.is_set(cpu)))
        .collect())
}

/// A failure that has nothing to do with what was asked for.
fn unknown(what: &'static str) -> impl FnOnce(io::Error) -> LimitsError {
    move |source| LimitsError::Refused {
        what: what.into(),
        needs: None,
        source,
    }
}

/// An error of the system, as part of a line.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

fn number(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Number;
    match resource {
        Resource::Cpu => Number::Cpu,
        Resource::Fsize => Number::Fsize,
        Resource::Data => Number::Data,
        Resource::Stack => Number::Stack,
        Resource::Core => Number::Core,
        Resource::Rss => Number::Rss,
        Resource::Nproc => Number::Nproc,
        Resource::Nofile => Number::Nofile,
        Resource::Memlock => Number::Memlock,
        Resource::As => Number::As,
        Resource::Locks => Number::Locks,
        Resource::Sigpending => Number::Sigpending,
        Resource::Msgqueue => Number::Msgqueue,
        Resource::Nice => Number::Nice,
        Resource::Rtprio => Number::Rtprio,
        Resource::Rttime => Number::Rttime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Rlimit;

    fn confiner(limits: Limits) -> Result<Confiner, LimitsError> {
        Confiner::new(&limits, None, Path::new("/bin/true"))
    }

    #[test]
    fn slots_take_turns_among_our_cpus() {
        let limits = Limits {
            affinity: Some(Affinity::OneEach),
            ..Limits::default()
        };
        let confiner = confiner(limits).unwrap();
        let ours = own_cpus().unwrap();
        for slot in 0..10 {
            let set = confiner.cpus_of(Slot(slot)).unwrap();
            assert_eq!(set.count(), 1);
            let cpu = ours[usize::try_from(slot).unwrap() % ours.len()];
            assert!(set.is_set(usize::try_from(cpu).unwrap()));
        }
    }

    #[test]
    fn a_cpu_that_is_not_ours_is_refused_by_name() {
        let limits = Limits {
            affinity: Some(Affinity::Cpus([0, 1023].into())),
            ..Limits::default()
        };
        let error = confiner(limits).unwrap_err();
        assert_eq!(error.to_string(), "restrict workers to the CPUs 0,1023");
        assert!(
            error
                .hint()
                .unwrap()
                .starts_with("this system lets everup use the CPUs ")
        );
    }

    #[test]
    fn a_limit_that_nobody_gets_is_refused_by_name() {
        let unlimited = Rlimit {
            soft: None,
            hard: None,
        };
        let limits = Limits {
            rlimits: [
                (
                    Resource::Core,
                    Rlimit {
                        soft: Some(0),
                        hard: Some(0),
                    },
                ),
                (Resource::Nofile, unlimited),
            ]
            .into(),
            ..Limits::default()
        };
        let error = confiner(limits).unwrap_err();
        assert_eq!(error.to_string(), "set the limit nofile to unlimited:unlimited");
    }

    /// What is refused later than at the start is said in the same words.
    #[test]
    fn a_refusal_at_the_spawn_names_the_step() {
        let limits = Limits {
            oom_score_adj: Some(-5),
            ..Limits::default()
        };
        let confiner = Confiner {
            limits,
            cpus: Vec::new(),
            base: None,
            cwd: Some("/gone".into()),
            program: "/bin/true".into(),
        };
        let said = |step, errno| {
            confiner.explain(&SpawnError::Refused(Refusal {
                step,
                detail: 0,
                errno,
            }))
        };
        assert_eq!(
            said(Step::OomScore, libc::EACCES),
            "set the OOM score to -5: permission denied"
        );
        assert_eq!(
            said(Step::Directory, libc::ENOENT),
            "enter /gone: no such file or directory"
        );
        assert_eq!(
            said(Step::Program, libc::EACCES),
            "Permission denied (os error 13)"
        );
    }
}
