//! Whether there are descriptors enough for more workers: said before any is missing, when nothing has been done yet.
//!
//! [`check`] looks; [`short`] decides.

use crate::daemon::Daemon;
use everup_api::{Error, ErrorCode};

/// What an app takes, beside its workers: its engine, its listeners, its memories, its logs.
const OF_AN_APP: u64 = 16;
/// What a worker takes: its process, its channel, its output.
const OF_A_WORKER: u64 = 6;
/// What is kept free: callers, files that are being written, in a reload a new worker beside one that leaves, and for an
/// instant each of its descriptors twice.
const FREE: u64 = 40;

impl Daemon {
    /// An error if there is no room for so many more workers, of an app that is new or not.
    pub(crate) fn room(&self, app: bool, workers: u32) -> Result<(), Error> {
        let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current else {
            return Ok(());
        };
        let wanted = wanted(app, workers);
        let apps = self.apps();
        let known: u64 = apps.iter().map(|app| wanted_by(app.kept().target)).sum();
        // To count costs more than to guess, and there is room enough nearly always.
        if 2 * (known + wanted + FREE) <= limit {
            return Ok(());
        }
        short(limit, open(), wanted)
    }
}

/// How many descriptors are open. From Linux 6.2 on the folder's size says it; to list them takes longer with each.
fn open() -> u64 {
    const FOLDER: &str = "/proc/self/fd";
    let size = std::fs::metadata(FOLDER).map_or(0, |folder| folder.len());
    if size > 0 {
        return size;
    }
    let listed = std::fs::read_dir(FOLDER).map_or(0, Iterator::count);
    u64::try_from(listed).unwrap_or(u64::MAX)
}

fn wanted_by(workers: u32) -> u64 {
    wanted(true, workers)
}

fn wanted(app: bool, workers: u32) -> u64 {
    u64::from(app) * OF_AN_APP + u64::from(workers) * OF_A_WORKER
}

fn short(limit: u64, open: u64, wanted: u64) -> Result<(), Error> {
    if open.saturating_add(wanted).saturating_add(FREE) <= limit {
        return Ok(());
    }
    let what = format!(
        "there are not enough descriptors: about {wanted} more are needed, and of {limit} that the daemon may have \
         {open} are open"
    );
    let hint = "raise the hard limit (`ulimit -Hn`, LimitNOFILE= of its unit), and start the daemon anew: `everup kill`, \
                `everup resurrect`";
    Err(Error::new(ErrorCode::Unsupported, what).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_ones_are_counted() {
        const MORE: u64 = 500;
        let before = open();
        let files: Vec<_> = (0..MORE)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        // Other tests open and close theirs.
        let more = open().saturating_sub(before);
        assert!((MORE / 2..MORE * 2).contains(&more), "{more} more than {before}");
        drop(files);
    }

    #[test]
    fn it_is_said_before_one_is_missing() {
        assert!(short(1024, 100, wanted(true, 4)).is_ok());
        assert!(short(102, 40, wanted(true, 1)).is_ok());
        let error = short(100, 40, wanted(true, 4)).unwrap_err();
        assert_eq!(
            error.message,
            "there are not enough descriptors: about 40 more are needed, and of 100 that the daemon may have 40 are open"
        );
        assert!(error.hint.is_some_and(|hint| hint.contains("LimitNOFILE")));
        assert!(short(u64::MAX, u64::MAX, 1).is_ok());
    }
}
