//! Control groups of version 2: one per worker, below the group that we are in ourselves.
//!
//! Job: find our own group, make it divisible, make a leaf per worker with its limits, and take it away again. That
//! works where the group was given to us (delegated); nowhere else, and that is said.
//!
//! ```text
//! own group ── everup-primary      we, if the kernel wants it: a group with processes has no limited children
//!           ├─ everup-4000-1       worker 1
//!           └─ everup-4000-2       worker 2
//! ```
//!
//! Invariants: a leaf is removed with everything that lives in it; what could not be removed at once is tried again
//! with the next leaf and at the end.
//!
//! Must not know: workers' lives. Version 1 is not used: its hierarchies are nobody's to delegate.

use crate::limits::{CgroupLimits, LimitsError};
use everup_core::id::WorkerId;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The group that is divided.
#[derive(Debug)]
pub(crate) struct Base {
    directory: PathBuf,
    limits: CgroupLimits,
    /// The names of our leaves begin so.
    prefix: String,
}

/// A worker's group. Dropping it kills who is left in it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Leaf {
    directory: PathBuf,
}

/// Where we go, so that our own group has no processes of its own.
const PRIMARY: &str = "everup-primary";
/// `cpu.max` counts in this period, in microseconds.
const PERIOD: u64 = 100_000;

impl Base {
    /// # Errors
    /// When a controller is missing, or the group is not ours to divide.
    pub(crate) fn prepare(limits: CgroupLimits) -> Result<Self, LimitsError> {
        Self::below(Path::new("/"), limits)
    }

    /// `root` is `/`, but for tests.
    fn below(root: &Path, limits: CgroupLimits) -> Result<Self, LimitsError> {
        let needed = controllers(limits);
        let first = needed.first().copied().unwrap_or("cgroup");
        let directory = own_group(root).ok_or(LimitsError::NoController {
            controller: first,
            why: "no control groups of version 2 are mounted here",
        })?;
        let there = words(&directory.join("cgroup.controllers"));
        if let Some(controller) = needed
            .iter()
            .find(|name| !there.iter().any(|there| there == *name))
        {
            let why = if in_version_1(root, controller) {
                "here this controller belongs to control groups of version 1"
            } else {
                "the control group of everup was not given this controller"
            };
            return Err(LimitsError::NoController { controller, why });
        }
        enable(&directory, &needed)?;
        let base = Self {
            prefix: format!("everup-{}-", std::process::id()),
            directory,
            limits,
        };
        match base.make("trial") {
            Ok(_) => Ok(base),
            Err(source) => Err(LimitsError::NotDelegated {
                group: base.directory.clone(),
                source,
            }),
        }
    }

    /// A new group with its limits.
    pub(crate) fn leaf(&self, worker: WorkerId) -> io::Result<Leaf> {
        self.make(&worker.to_string())
    }

    fn make(&self, name: &str) -> io::Result<Leaf> {
        self.sweep();
        let directory = self.directory.join(format!("{}{name}", self.prefix));
        fs::create_dir(&directory)?;
        let leaf = Leaf { directory };
        for (file, value) in settings(self.limits) {
            fs::write(leaf.directory.join(file), value)?;
        }
        Ok(leaf)
    }

    /// Removes groups whose last process took its time to go. One that is in use cannot be removed.
    fn sweep(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for entry in entries {
            if entry.file_name().to_string_lossy().starts_with(&self.prefix) {
                fs::remove_dir(entry.path()).ok();
            }
        }
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        self.sweep();
    }
}

impl Leaf {
    /// Whoever writes `0` there enters the group.
    pub(crate) fn entrance(&self) -> io::Result<OwnedFd> {
        let file = fs::File::options()
            .write(true)
            .open(self.directory.join("cgroup.procs"))?;
        Ok(file.into())
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        // Linux 5.14 and later; before that, who is left keeps the group.
        fs::write(self.directory.join("cgroup.kill"), "1").ok();
        fs::remove_dir(&self.directory).ok();
    }
}

/// Lets the children of a group have these controllers.
fn enable(group: &Path, needed: &[&'static str]) -> Result<(), LimitsError> {
    let file = group.join("cgroup.subtree_control");
    let enabled = words(&file);
    let missing: Vec<String> = needed
        .iter()
        .filter(|name| !enabled.iter().any(|enabled| enabled == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let denied = |source| LimitsError::NotDelegated {
        group: group.into(),
        source,
    };
    match fs::write(&file, missing.join(" ")) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        other => return other.map_err(denied),
    }
    // It has processes. If it is only us, we step aside.
    let aside = group.join(PRIMARY);
    if let Err(error) = fs::create_dir(&aside)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(denied(error));
    }
    enter(&aside).map_err(denied)?;
    fs::write(&file, missing.join(" ")).map_err(|source| {
        enter(group).ok();
        fs::remove_dir(&aside).ok();
        match source.kind() {
            io::ErrorKind::ResourceBusy => LimitsError::Occupied { group: group.into() },
            _ => denied(source),
        }
    })
}

/// Moves this process, with all its threads.
fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}

fn controllers(limits: CgroupLimits) -> Vec<&'static str> {
    let CgroupLimits {
        memory_max,
        memory_high,
        milli_cpus,
        pids_max,
    } = limits;
    let needed = [
        ("memory", memory_max.is_some() || memory_high.is_some()),
        ("cpu", milli_cpus.is_some()),
        ("pids", pids_max.is_some()),
    ];
    let asked = needed.into_iter().filter(|(_, asked)| *asked);
    asked.map(|(name, _)| name).collect()
}

fn settings(limits: CgroupLimits) -> Vec<(&'static str, String)> {
    let quota = |milli| format!("{} {PERIOD}", u64::from(milli) * PERIOD / 1000);
    let all = [
        ("memory.high", limits.memory_high.map(|bytes| bytes.to_string())),
        ("memory.max", limits.memory_max.map(|bytes| bytes.to_string())),
        ("cpu.max", limits.milli_cpus.map(quota)),
        ("pids.max", limits.pids_max.map(|count| count.to_string())),
    ];
    all.into_iter()
        .filter_map(|(file, value)| Some((file, value?)))
        .collect()
}

/// The directory of our own group in version 2.
fn own_group(root: &Path) -> Option<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    mounts.lines().find_map(|line| {
        // `id parent dev root point options… - type source super-options`
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut left = left.split(' ').skip(3);
        let (top, point) = (left.next()?, left.next()?);
        let inside = path.strip_prefix(top.trim_end_matches('/'))?;
        let point = root.join(point.trim_start_matches('/'));
        Some(point.join(inside.trim_start_matches('/')))
    })
}

fn in_version_1(root: &Path, controller: &str) -> bool {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let names = |line: &str| line.split(':').nth(1).unwrap_or_default().to_owned();
    groups
        .lines()
        .any(|line| names(line).split(',').any(|name| name == controller))
}

fn words(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::confine::Confinement;
    use crate::sys::spawn::{Spawn, spawn};

    /// A tree of plain files in the shape of the kernel's.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const V2: (&str, &str) = (
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    );
    const OWN: (&str, &str) = ("proc/self/cgroup", "0::/a.service\n");

    fn memory() -> CgroupLimits {
        CgroupLimits {
            memory_max: Some(1 << 20),
            ..CgroupLimits::default()
        }
    }

    #[test]
    fn a_leaf_has_its_limits() {
        let group = "sys/fs/cgroup/a.service";
        let root = machine(&[
            V2,
            OWN,
            (&format!("{group}/cgroup.controllers"), "cpu memory pids\n"),
            (&format!("{group}/cgroup.subtree_control"), "memory\n"),
        ]);
        let limits = CgroupLimits {
            memory_high: Some(500),
            milli_cpus: Some(1500),
            pids_max: Some(64),
            ..memory()
        };
        let base = Base::below(root.path(), limits).unwrap();
        let group = root.path().join(group);
        let asked = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap();
        assert_eq!(asked, "+cpu +pids", "what is enabled already is not asked for");
        let leaf = base.leaf(WorkerId(7)).unwrap();
        let read = |file: &str| fs::read_to_string(leaf.directory.join(file)).unwrap();
        assert_eq!(
            ["memory.max", "memory.high", "cpu.max", "pids.max"].map(read),
            ["1048576", "500", "150000 100000", "64"]
        );
        assert!(
            leaf.directory
                .ends_with(format!("everup-{}-7", std::process::id()))
        );
    }

    #[test]
    fn hybrid_systems_are_told_so() {
        let root = machine(&[
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            ("proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/\n0::/\n"),
            ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
        ]);
        let said = Base::below(root.path(), memory()).unwrap_err().to_string();
        assert_eq!(
            said,
            "limit a worker's memory: here this controller belongs to control groups of version 1"
        );
        let none = machine(&[OWN, ("proc/self/mountinfo", "")]);
        let said = Base::below(none.path(), memory()).unwrap_err().to_string();
        assert_eq!(
            said,
            "limit a worker's memory: no control groups of version 2 are mounted here"
        );
        let kept = machine(&[V2, OWN, ("sys/fs/cgroup/a.service/cgroup.controllers", "pids")]);
        let said = Base::below(kept.path(), memory()).unwrap_err().to_string();
        assert_eq!(
            said,
            "limit a worker's memory: the control group of everup was not given this controller"
        );
    }

    #[test]
    fn a_namespace_and_a_bind_mount_are_seen_through() {
        let mount = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let root = machine(&[
            ("proc/self/mountinfo", mount),
            ("proc/self/cgroup", "0::/docker/abc/x\n"),
        ]);
        assert_eq!(own_group(root.path()), Some(root.path().join("sys/fs/cgroup/x")));
    }

    #[test]
    fn a_group_that_is_not_ours() {
        let root = machine(&[
            V2,
            OWN,
            ("sys/fs/cgroup/a.service/cgroup.controllers", "memory"),
            // No file that could be written, whoever we are.
            ("sys/fs/cgroup/a.service/cgroup.subtree_control/x", ""),
        ]);
        let error = Base::below(root.path(), memory()).unwrap_err();
        assert!(matches!(&error, LimitsError::NotDelegated { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("Delegate=yes"));
    }

    /// In the kernel's own tree, if this machine lets us: without limits, which need controllers.
    #[test]
    fn a_process_lives_in_its_leaf_and_is_taken_away_with_it() {
        let Some(directory) = own_group(Path::new("/")) else {
            return;
        };
        let base = Base {
            directory,
            limits: CgroupLimits::default(),
            prefix: format!("everup-test-{}-", std::process::id()),
        };
        let Ok(leaf) = base.leaf(WorkerId(1)) else {
            return;
        };
        let confinement = Confinement {
            cgroup: Some(leaf.entrance().unwrap()),
            ..Confinement::default()
        };
        let args = ["sleep", "1000"].map(std::ffi::OsString::from);
        let spec = Spawn {
            program: Path::new("/bin/sleep"),
            args: &args,
            env: &[],
            pid_variable: None,
            cwd: None,
            descriptors: &[],
            confinement: &confinement,
            outlives: false,
        };
        let pid = spawn(&spec).unwrap();
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let name = format!("{}1", base.prefix);
        assert!(
            group
                .lines()
                .any(|line| line.starts_with("0::") && line.ends_with(&name))
        );
        let directory = leaf.directory.clone();
        drop(leaf);
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
        let (_, status) = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())
            .unwrap()
            .unwrap();
        assert_eq!(status.terminating_signal(), Some(libc::SIGKILL));
        drop(base);
        assert!(!directory.exists(), "what was busy at first is swept");
    }
}
