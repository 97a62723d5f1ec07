//! What `/proc` says of a process.

use std::fs;

/// When the kernel started it, in ticks since the boot; `None` if it is gone.
pub(crate) fn born(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    fields(&stat)?.nth(19)?.parse().ok()
}

/// The fields of a `stat` after the name, which may have anything in it: the first is the state.
pub(crate) fn fields(stat: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
    Some(rest.split_ascii_whitespace())
}

/// The value of a variable in the environment that a process was started with.
pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// All processes that can be seen.
pub(crate) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The kernel's name of this boot.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ourselves() {
        let me = std::process::id();
        assert!(born(me).unwrap() > 0);
        assert_eq!(born(0), None);
        assert_eq!(boot_id().len(), 36);
        assert_eq!(variable(me, "EVERUP_NO_SUCH_VARIABLE"), None);
    }

    #[test]
    fn names_may_have_anything_in_them() {
        let stat = b"12 (a) b (c) R 1 2 3";
        assert_eq!(fields(stat).unwrap().collect::<Vec<_>>(), ["R", "1", "2", "3"]);
    }
}
