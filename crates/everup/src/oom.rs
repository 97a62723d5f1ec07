//! Whether the kernel kills for want of memory: counters of the control group that we are in.
//!
//! A process killed so ends by SIGKILL like any other. All the kernel tells us without privileges is that the number
//! of such kills in our group (and those below) has grown. Version 2: `memory.events`; version 1:
//! `memory.oom_control`.

use std::path::{Path, PathBuf};

/// A counter that is looked at now and then.
#[derive(Debug)]
pub(crate) struct Counter {
    file: Option<PathBuf>,
    seen: u64,
}

impl Counter {
    /// The counter of this process's group, as it is now.
    pub(crate) fn new() -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let file = files(&groups).into_iter().find(|file| count(file).is_some());
        let seen = file.as_deref().and_then(count).unwrap_or(0);
        Self { file, seen }
    }

    /// Whether it has grown since the last look.
    pub(crate) fn grown(&mut self) -> bool {
        let now = self.file.as_deref().and_then(count).unwrap_or(self.seen);
        std::mem::replace(&mut self.seen, now) < now
    }
}

/// Where the counter may be, by `/proc/self/cgroup` (`man 7 cgroups`).
fn files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.push(Path::new("/sys/fs/cgroup").join(path).join("memory.events"));
        } else if controllers.split(',').any(|name| name == "memory") {
            let group = Path::new("/sys/fs/cgroup/memory").join(path);
            files.push(group.join("memory.oom_control"));
        }
    }
    files
}

/// The line `oom_kill N`.
fn count(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let found = files("12:memory:/a/b\n1:name=systemd:/x\n0::/c\n");
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.oom_control",
            "/sys/fs/cgroup/c/memory.events",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn growth_is_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.events");
        let write = |n: u64| {
            std::fs::write(
                &file,
                format!("low 0\nmax 3\noom 1\noom_kill {n}\noom_group_kill 0\n"),
            )
            .unwrap()
        };
        write(3);
        let mut counter = Counter {
            file: Some(file.clone()),
            seen: 3,
        };
        assert!(!counter.grown());
        write(4);
        assert!(counter.grown());
        assert!(!counter.grown());
    }
}
