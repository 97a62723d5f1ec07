//! Waiting until one of many files may have more.
//!
//! Directories are watched by inotify, for names come and go in them; each second all files are looked at in any case: a
//! renamed file is still written to, a directory may be made later, a watch may be refused.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);
/// Without inotify.
const SHORT_TICK: Duration = Duration::from_millis(100);

/// The directories of the files.
#[derive(Debug, Default)]
pub(super) struct Watch {
    inotify: Option<OwnedFd>,
    directories: BTreeMap<i32, PathBuf>,
    known: BTreeSet<PathBuf>,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Look at these.
    Some(BTreeSet<PathBuf>),
    /// Look at all.
    All,
    /// Nobody reads what we write any more.
    Closed,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            inotify: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(),
            ..Self::default()
        }
    }

    /// A file is of interest.
    pub(super) fn add(&mut self, file: &Path) {
        let (Some(inotify), Some(directory)) = (&self.inotify, file.parent()) else {
            return;
        };
        if self.known.contains(directory) {
            return;
        }
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        // Not there, or one watch too many: there is the tick.
        if let Ok(watch) = add_watch(inotify, directory, what) {
            self.directories.insert(watch, directory.to_owned());
            self.known.insert(directory.to_owned());
        }
    }

    /// Waits, a second at most.
    pub(super) fn wait(&self, output: BorrowedFd<'_>) -> News {
        let tick = match self.inotify {
            Some(_) => TICK,
            None => SHORT_TICK,
        };
        // Only an error is of interest at the output: a pipe without a reader.
        let mut polled = vec![PollFd::from_borrowed_fd(output, PollFlags::empty())];
        polled.extend(
            self.inotify
                .iter()
                .map(|inotify| PollFd::new(inotify, PollFlags::IN)),
        );
        let limit = Timespec::try_from(tick).ok();
        let happened = poll(&mut polled, limit.as_ref()).unwrap_or(0);
        let closed = polled[0].revents().intersects(PollFlags::ERR);
        match (closed, happened, &self.inotify) {
            (true, _, _) => News::Closed,
            (false, 1.., Some(inotify)) => self.read(inotify),
            (false, ..) => News::All,
        }
    }

    fn read(&self, inotify: &OwnedFd) -> News {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(inotify.as_fd(), &mut buffer);
        let mut files = BTreeSet::new();
        while let Ok(event) = reader.next() {
            let directory = self.directories.get(&event.wd());
            let (Some(directory), Some(name)) = (directory, event.file_name()) else {
                return News::All;
            };
            files.insert(directory.join(OsStr::from_bytes(name.to_bytes())));
        }
        News::Some(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_changed() {
        let home = tempfile::tempdir().unwrap();
        let (out, other) = (home.path().join("out"), home.path().join("other"));
        let mut watch = Watch::new();
        watch.add(&out);
        watch.add(&other);
        fs::write(&out, "x").unwrap();
        let output = fs::File::create("/dev/null").unwrap();
        assert_eq!(
            watch.wait(output.as_fd()),
            News::Some(BTreeSet::from([out.clone()]))
        );
        fs::rename(&out, &other).unwrap();
        assert_eq!(watch.wait(output.as_fd()), News::Some(BTreeSet::from([other])));
    }

    #[test]
    fn nobody_reads() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(Watch::new().wait(writer.as_fd()), News::Closed);
    }

    #[test]
    fn without_a_directory_there_is_the_tick() {
        let mut watch = Watch::new();
        watch.add(Path::new("/nowhere/x"));
        let output = fs::File::create("/dev/null").unwrap();
        assert_eq!(watch.wait(output.as_fd()), News::All);
    }
}
