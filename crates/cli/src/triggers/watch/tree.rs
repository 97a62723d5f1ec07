//! The directories that are watched, by inotify.
//!
//! Job: keep a watch on each directory below the roots that counts, and say which files changed. Owner: the thread of
//! `watch`. Must not know: when that matters.
//!
//! Why inotify itself and not the crate `notify`: that one also asks for each opening and each write, so a server of
//! static files or one that logs would wake us for each request. We ask for what is done with a file when it is done
//! (closed after writing, created, deleted, moved), so a log that stays open costs nothing.
//!
//! Invariants: a directory is watched before it is read, so nothing new in it is missed; links below a root are not
//! followed, so there are no loops; at most `limit` directories. The directory above a root is watched for the root's
//! own name: it may be a file that is replaced, a link that is turned, or a directory that is made anew.

use super::WatchError;
use super::rules::{GITIGNORE, Git, Rules};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// So many events are looked at before others get a turn.
const BATCH: usize = 4096;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Tree {
    inotify: OwnedFd,
    rules: Rules,
    roots: Vec<PathBuf>,
    /// By the number of the watch.
    watched: HashMap<i32, Directory>,
    limit: usize,
    /// What went wrong since the user was told.
    trouble: Option<WatchError>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    git: Git,
    /// All of it counts; else only these names.
    whole: bool,
    names: Vec<OsString>,
}

/// An event of the kernel.
#[derive(Debug)]
struct News {
    watch: i32,
    what: ReadFlags,
    name: Option<OsString>,
}

/// Takes the files that changed.
type Changed<'a> = &'a mut dyn FnMut(PathBuf);

impl Tree {
    /// Watches the roots. `commanded` are files that the app is started with: they count although git ignores them,
    /// as what a build made does.
    pub(super) fn open(
        rules: Rules,
        roots: Vec<PathBuf>,
        commanded: &[PathBuf],
        limit: usize,
    ) -> Result<Self, WatchError> {
        let mut tree = Self {
            inotify: init()?,
            rules,
            roots: Vec::new(),
            watched: HashMap::new(),
            limit,
            trouble: None,
        };
        for root in roots {
            tree.add_root(&root, &mut |_| {})?;
            tree.roots.push(root);
        }
        for file in commanded {
            let hidden = tree.roots.iter().find_map(|root| tree.hidden(root, file));
            if let Some(root) = hidden.filter(|root| !tree.roots.contains(root)) {
                tree.add_root(&root, &mut |_| {})?;
                tree.roots.push(root);
            }
        }
        match tree
            .trouble
            .take_if(|trouble| !matches!(trouble, WatchError::Path { .. }))
        {
            Some(error) => Err(error),
            None => Ok(tree),
        }
    }

    /// Readable when there is news.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// How many directories are watched.
    pub(super) fn len(&self) -> usize {
        self.watched.values().filter(|directory| directory.whole).count()
    }

    /// What went wrong meanwhile: not all is watched.
    pub(super) fn trouble(&mut self) -> Option<WatchError> {
        self.trouble.take()
    }

    /// Takes the news; never blocks.
    pub(super) fn read(&mut self, changed: Changed<'_>) -> Result<(), WatchError> {
        for news in read(&self.inotify)? {
            if news.what.contains(ReadFlags::QUEUE_OVERFLOW) {
                // Nobody knows what changed.
                self.roots.iter().cloned().for_each(&mut *changed);
                return self.rebuild();
            }
            if self.take(&news, changed) {
                self.rebuild()?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// True if the rules have changed.
    fn take(&mut self, news: &News, changed: Changed<'_>) -> bool {
        if news.what.contains(ReadFlags::IGNORED) {
            self.watched.remove(&news.watch);
            return false;
        }
        let (Some(directory), Some(name)) = (self.watched.get(&news.watch), &news.name) else {
            return false;
        };
        let path = directory.path.join(name);
        let is_dir = news.what.contains(ReadFlags::ISDIR);
        let is_root = directory.names.contains(name);
        if directory.whole && name == GITIGNORE {
            changed(path);
            return true;
        }
        let counts = directory.whole && !self.rules.ignored(&path, is_dir, &directory.git);
        let git = directory.git.clone();
        let came = news.what.intersects(ReadFlags::CREATE.union(ReadFlags::MOVED_TO));
        match (is_root, counts) {
            (true, _) => self.root_changed(path, came, changed),
            (false, true) if is_dir => self.directory_changed(path, &git, news.what, came, changed),
            (false, true) => changed(path),
            (false, false) => {}
        }
        false
    }

    fn root_changed(&mut self, path: PathBuf, came: bool, changed: Changed<'_>) {
        if came {
            self.forget(&path);
            if let Err(error) = self.add_root(&path, changed) {
                // It may have gone again.
                self.complain(error);
            }
        }
        changed(path);
    }

    fn directory_changed(
        &mut self,
        path: PathBuf,
        git: &Git,
        what: ReadFlags,
        came: bool,
        changed: Changed<'_>,
    ) {
        if came {
            self.add(path, git, changed);
        } else if what.contains(ReadFlags::MOVED_FROM) {
            self.forget(&path);
            changed(path);
        }
        // What was in a deleted one has been told of.
    }

    /// Watches all anew, because the rules changed or events were lost.
    fn rebuild(&mut self) -> Result<(), WatchError> {
        let fresh = init()?;
        self.inotify = fresh;
        self.watched.clear();
        for root in self.roots.clone() {
            if let Err(error) = self.add_root(&root, &mut |_| {}) {
                self.complain(error);
            }
        }
        Ok(())
    }

    fn complain(&mut self, error: WatchError) {
        self.trouble.get_or_insert(error);
    }

    fn add_root(&mut self, root: &Path, changed: Changed<'_>) -> Result<(), WatchError> {
        let failed = |source| WatchError::Path {
            path: root.into(),
            source,
        };
        self.rules.add_root(root);
        let metadata = fs::metadata(root);
        let is_dir = metadata.as_ref().is_ok_and(fs::Metadata::is_dir);
        // Also for a root that is not there: it may come.
        let above = self.watch_name(root, if is_dir { FLAGS_ABOVE } else { FLAGS });
        metadata.map_err(failed)?;
        if !is_dir {
            return above;
        }
        // What is unreadable above a directory only keeps us from seeing it being replaced.
        above.or_else(|error| match error {
            WatchError::Path { .. } => Ok(()),
            other => Err(other),
        })?;
        fs::read_dir(root).map_err(failed)?;
        self.add(root.into(), &Git::of_root(root), changed);
        Ok(())
    }

    /// Watches the directory above for this name.
    fn watch_name(&mut self, path: &Path, flags: WatchFlags) -> Result<(), WatchError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        // All of it may be watched already: what is asked for there stays.
        let watch = self.watch(parent, flags.union(WatchFlags::MASK_ADD))?;
        let directory = self.watched.entry(watch).or_insert_with(|| Directory {
            path: parent.into(),
            git: Git::default(),
            whole: false,
            names: Vec::new(),
        });
        if !directory.names.iter().any(|known| known == name) {
            directory.names.push(name.into());
        }
        Ok(())
    }

    /// Watches a directory and those below it. The files that are there have changed: they came with it.
    fn add(&mut self, top: PathBuf, git: &Git, changed: Changed<'_>) {
        // The top may be a link, if it is a root.
        let mut open = vec![(top, git.clone(), FLAGS)];
        while let Some((path, git, flags)) = open.pop() {
            let git = git.enter(&path);
            match self.watch(&path, flags) {
                Ok(watch) => self.remember(watch, &path, &git),
                Err(WatchError::Path { source, .. }) if gone(&source) => continue,
                Err(error @ WatchError::Path { .. }) => {
                    self.complain(error);
                    continue;
                }
                Err(error) => return self.complain(error),
            }
            let Ok(entries) = fs::read_dir(&path) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                match (self.rules.ignored(&path, is_dir, &git), is_dir) {
                    (true, _) => {}
                    (false, true) => open.push((path, git.clone(), FLAGS.union(WatchFlags::DONT_FOLLOW))),
                    (false, false) => changed(path),
                }
            }
        }
    }

    fn remember(&mut self, watch: i32, path: &Path, git: &Git) {
        // The same directory may be above another root.
        let names = self
            .watched
            .remove(&watch)
            .map(|known| known.names)
            .unwrap_or_default();
        let directory = Directory {
            path: path.into(),
            git: git.clone(),
            whole: true,
            names,
        };
        self.watched.insert(watch, directory);
    }

    fn watch(&self, path: &Path, flags: WatchFlags) -> Result<i32, WatchError> {
        if self.watched.len() >= self.limit {
            return Err(WatchError::TooMany { limit: self.limit });
        }
        inotify::add_watch(&self.inotify, path, flags).map_err(|errno| match errno {
            Errno::NOSPC => WatchError::NoWatches,
            _ => WatchError::Path {
                path: path.into(),
                source: errno.into(),
            },
        })
    }

    /// Stops watching what was here and below.
    fn forget(&mut self, path: &Path) {
        let inotify = &self.inotify;
        self.watched.retain(|watch, directory| {
            let below = directory.path.starts_with(path);
            if below {
                // It may be gone already.
                inotify::remove_watch(inotify, *watch).ok();
            }
            !below
        });
    }

    /// The outermost directory (or the file itself) between a root and a file that git ignores, and nobody else.
    fn hidden(&self, root: &Path, file: &Path) -> Option<PathBuf> {
        let inside = file.strip_prefix(root).ok()?;
        let mut git = Git::of_root(root);
        let mut path = root.to_owned();
        let mut found = None;
        for name in inside {
            git = git.enter(&path);
            path.push(name);
            let is_dir = path != file;
            match self.rules.verdict(&path, is_dir) {
                Some(true) => return None,
                Some(false) => {}
                None if found.is_none() && self.rules.ignored(&path, is_dir, &git) => {
                    found = Some(path.clone());
                }
                None => {}
            }
        }
        found
    }
}

/// What is done with a file when it is done, and what happens to directories.
const FLAGS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

/// That another directory or link takes the name of a root. A neighbour that is written to wakes nobody.
const FLAGS_ABOVE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

fn init() -> Result<OwnedFd, WatchError> {
    inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|errno| match errno {
        Errno::MFILE => WatchError::NoInstances,
        _ => WatchError::System { source: errno.into() },
    })
}

fn gone(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}

fn read(inotify: &OwnedFd) -> Result<Vec<News>, WatchError> {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut all = Vec::new();
    // What was read must be taken: the rest can stay in the kernel.
    while all.len() < BATCH || !reader.is_buffer_empty() {
        match reader.next() {
            Ok(event) => all.push(News {
                watch: event.wd(),
                what: event.events(),
                name: event
                    .file_name()
                    .map(|name| OsStr::from_bytes(name.to_bytes()).into()),
            }),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(WatchError::System { source: errno.into() }),
        }
    }
    Ok(all)
}
