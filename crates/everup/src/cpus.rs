//! How many CPUs this process may use.
//!
//! The affinity mask and the quotas of all control groups above us are counted, version 1 and 2; a quota is
//! rounded up (1.5 CPUs can keep two workers busy) and there is always at least one.

use std::fs;
use std::path::{Path, PathBuf};

/// CPUs as this process sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cpus {
    /// How many it may use.
    pub usable: u32,
    /// How many its affinity mask has.
    pub affinity: u32,
    /// How many CPUs' time its control groups allow, rounded up.
    pub quota: Option<u32>,
}

impl Cpus {
    /// Asks the system: this thread's affinity mask and the control groups.
    #[must_use]
    pub fn detect() -> Self {
        let affinity = match rustix::thread::sched_getaffinity(None) {
            Ok(set) => set.count(),
            // More CPUs than the set can hold.
            Err(_) => std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        };
        Self::of(affinity, quota(Path::new("/")))
    }

    /// From an affinity mask of so many CPUs and a quota of so many CPUs' time.
    #[must_use]
    pub fn of(affinity: u32, quota: Option<u32>) -> Self {
        let affinity = affinity.max(1);
        Self {
            usable: affinity.min(quota.unwrap_or(u32::MAX)).max(1),
            affinity,
            quota,
        }
    }
}

/// The tightest CPU quota of our control groups. `root` is `/`, but for tests.
fn quota(root: &Path) -> Option<u32> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
    let mut tightest: Option<u32> = None;
    for (controllers, path) in groups.lines().filter_map(group) {
        let read = match controllers {
            "" => quota_v2,
            _ if has(controllers, "cpu") => quota_v1,
            _ => continue,
        };
        for mount in mounts.iter().filter(|mount| mount.serves(controllers)) {
            for directory in mount.directories(root, path) {
                tightest = read(&directory).into_iter().chain(tightest).min();
            }
        }
    }
    tightest
}

/// `(controllers, path)` of a line of `/proc/self/cgroup`; no controllers is version 2.
fn group(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

fn has(list: &str, name: &str) -> bool {
    list.split(',').any(|item| item == name)
}

/// A mounted control group hierarchy.
#[derive(Debug)]
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    version2: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `id parent dev root point options… - type source super-options`
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1).unwrap_or("");
        matches!(kind, "cgroup" | "cgroup2").then_some(Self {
            root,
            point,
            version2: kind == "cgroup2",
            options,
        })
    }

    fn serves(&self, controllers: &str) -> bool {
        if controllers.is_empty() {
            self.version2
        } else {
            !self.version2 && has(self.options, "cpu")
        }
    }

    /// Our group's directory below this mount, and all above it up to the mount.
    fn directories(&self, root: &Path, path: &str) -> Vec<PathBuf> {
        let inside = path.strip_prefix(self.root.trim_end_matches('/')).unwrap_or("");
        let top = root.join(self.point.trim_start_matches('/'));
        let own = top.join(inside.trim_start_matches('/'));
        own.ancestors()
            .take_while(|directory| directory.starts_with(&top))
            .map(Path::to_path_buf)
            .collect()
    }
}

fn quota_v2(directory: &Path) -> Option<u32> {
    let text = fs::read_to_string(directory.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    rounded_up(quota, period)
}

fn quota_v1(directory: &Path) -> Option<u32> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    rounded_up(
        read("cpu.cfs_quota_us")?.trim(),
        read("cpu.cfs_period_us")?.trim(),
    )
}

/// `None` without a limit (`max`, `-1`).
fn rounded_up(quota: &str, period: &str) -> Option<u32> {
    let quota: u64 = quota.parse().ok()?;
    let period: u64 = period.parse().ok().filter(|period| *period > 0)?;
    Some(u32::try_from(quota.div_ceil(period)).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<u32> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        quota(root.path())
    }

    const V2: (&str, &str) = (
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    );

    #[test]
    fn version_2_takes_the_tightest_on_the_way_up() {
        let own = ("proc/self/cgroup", "0::/a.slice/b.service\n");
        assert_eq!(machine(&[V2, own]), None);
        assert_eq!(
            machine(&[
                V2,
                own,
                ("sys/fs/cgroup/a.slice/b.service/cpu.max", "max 100000\n")
            ]),
            None
        );
        let files = [
            V2,
            own,
            ("sys/fs/cgroup/a.slice/b.service/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/a.slice/cpu.max", "150000 100000\n"),
        ];
        assert_eq!(machine(&files), Some(2), "1.5 CPUs are rounded up");
        assert_eq!(
            machine(&[
                V2,
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/cpu.max", "20000 100000\n")
            ]),
            Some(1)
        );
    }

    #[test]
    fn version_1_in_a_container_without_namespace() {
        let mounts = "33 31 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                      34 31 0:31 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n";
        let files = [
            ("proc/self/mountinfo", mounts),
            (
                "proc/self/cgroup",
                "4:cpuset:/docker/abc\n3:cpuacct,cpu:/docker/abc\n0::/\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(machine(&files), Some(3));
        let unlimited = [
            files[0],
            files[1],
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            files[3],
        ];
        assert_eq!(machine(&unlimited), None);
    }

    #[test]
    fn the_smaller_of_both_counts() {
        assert_eq!(Cpus::of(8, Some(3)).usable, 3);
        assert_eq!(Cpus::of(2, Some(3)).usable, 2);
        assert_eq!(Cpus::of(0, None).usable, 1);
        assert!(Cpus::detect().usable >= 1);
    }
}
