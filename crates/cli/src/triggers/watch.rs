//! Changed files: `--watch`.
//!
//! Job: call when files below the watched paths have changed and then nothing more for the delay. Owner: its thread.
//! [`tree`] says what changed, [`rules`] what does not count, [`settle`] when it is time.
//!
//! ```text
//! asleep ─a file changed─▶ collecting ─the delay has passed─▶ fire (the closure runs) ─▶ asleep, or collecting
//! ```
//!
//! Invariants: while the closure runs, or between `pause` and `resume`, nothing is fired; what changed meanwhile is
//! fired once afterwards. So a closure that waits for the reload, or an owner that pauses when a reload begins, has at
//! most one trigger per reload. Must not know: what a reload is.

mod rules;
mod settle;
mod tree;

use super::{Bell, Calls, Handle, Trigger};
use rules::Rules;
use settle::{Changes, Settle};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tree::Tree;

pub(crate) use rules::{GlobError, Globs};

/// More directories than this are a mistake: the home directory, or a data folder.
const LIMIT: usize = 10_000;

/// Why files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error("could not watch {}", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("more than {limit} directories to watch")]
    TooMany { limit: usize },
    #[error("could not watch more directories: the system's limit for this user is reached")]
    NoWatches,
    #[error("could not watch files: the system's limit of watchers for this user is reached")]
    NoInstances,
    #[error("could not watch files")]
    System { source: io::Error },
}

impl WatchError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::TooMany { .. } => Some(
                "name what is to be watched (--watch=src), or what is not (--ignore-watch data); for many directories \
                 fs.inotify.max_user_watches must be large enough too"
                    .into(),
            ),
            Self::NoWatches => Some(limit_hint("max_user_watches", "524288")),
            Self::NoInstances => Some(limit_hint("max_user_instances", "1024")),
            Self::Path { .. } | Self::System { .. } => None,
        }
    }

    /// The message with its cause and its hint, in one line.
    fn told(&self) -> String {
        let cause = match self {
            Self::Path { source, .. } | Self::System { source } => {
                format!(": {}", crate::error::reason(source))
            }
            _ => String::new(),
        };
        let hint = self.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{self}{cause}{hint}")
    }
}

fn limit_hint(name: &str, value: &str) -> String {
    let now = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
    let now = match now.trim() {
        "" => String::new(),
        now => format!(" (now {now})"),
    };
    format!("raise fs.inotify.{name}{now}: sysctl fs.inotify.{name}={value}")
}

/// What is to be watched.
#[derive(Debug, Clone)]
pub(crate) struct WatchPlan {
    /// The app's directory: names are told relative to it.
    pub(crate) base: PathBuf,
    /// Absolute paths of directories and files.
    pub(crate) roots: Vec<PathBuf>,
    /// Files of the app's command line: watched with their directory although git ignores it.
    pub(crate) commanded: Vec<PathBuf>,
    pub(crate) globs: Globs,
    /// Files and directories of everup's own, absolute: the pid file, the control socket, logs.
    pub(crate) own: Vec<PathBuf>,
    pub(crate) delay: Duration,
    /// At most so many directories.
    pub(crate) limit: usize,
}

impl WatchPlan {
    pub(crate) const LIMIT: usize = LIMIT;

    /// Never counts what happens here and below.
    pub(crate) fn exclude(&mut self, path: &Path) {
        self.own.extend(std::path::absolute(path));
    }
}

/// The files are watched, but nobody is told yet.
#[derive(Debug)]
pub(crate) struct Watch {
    base: PathBuf,
    tree: Tree,
    settle: Settle,
}

impl Watch {
    /// Begins to watch.
    pub(crate) fn open(plan: WatchPlan) -> Result<Self, WatchError> {
        let rules = Rules::new(plan.globs, plan.own);
        Ok(Self {
            base: plan.base,
            tree: Tree::open(rules, plan.roots, &plan.commanded, plan.limit)?,
            settle: Settle::new(plan.delay),
        })
    }

    /// Calls when files have changed, in a thread of its own.
    pub(super) fn start<F, N>(self, calls: Calls<F, N>) -> io::Result<Handle>
    where
        F: Fn(Trigger) + Send + 'static,
        N: Fn(String) + Send + 'static,
    {
        Handle::spawn("watch", move |bell| {
            let directories = self.tree.len();
            let plural = if directories == 1 { "y" } else { "ies" };
            (calls.notice)(format!("watching {directories} director{plural}"));
            if let Err(error) = self.run(bell, &calls) {
                (calls.notice)(format!("{}; no change is noticed any more", error.told()));
            }
        })
    }

    fn run<F, N>(mut self, bell: &Bell, calls: &Calls<F, N>) -> Result<(), WatchError>
    where
        F: Fn(Trigger),
        N: Fn(String),
    {
        self.collect(calls)?;
        while !bell.ended() {
            let due = self.settle.due();
            let limit = due.map(|due| due.saturating_duration_since(Instant::now()));
            bell.wait(Some(self.tree.news()), limit)
                .map_err(|source| WatchError::System { source })?;
            self.settle.busy(Instant::now(), bell.held());
            self.collect(calls)?;
            self.settle.busy(Instant::now(), bell.held());
            if bell.ended() {
                break;
            }
            let Some(changes) = self.settle.take(Instant::now()) else {
                continue;
            };
            let trigger = self.trigger(changes);
            self.settle.busy(Instant::now(), true);
            (calls.fire)(trigger);
            // What changed while the closure ran.
            self.collect(calls)?;
            self.settle.busy(Instant::now(), bell.held());
        }
        Ok(())
    }

    fn collect<F, N: Fn(String)>(&mut self, calls: &Calls<F, N>) -> Result<(), WatchError> {
        let (settle, now) = (&mut self.settle, Instant::now());
        self.tree.read(&mut |file| settle.changed(now, file))?;
        if let Some(trouble) = self.tree.trouble() {
            (calls.notice)(format!("{}; changes there are not noticed", trouble.told()));
        }
        Ok(())
    }

    fn trigger(&self, changes: Changes) -> Trigger {
        let short = |file: &PathBuf| match file.strip_prefix(&self.base) {
            Ok(inside) if !inside.as_os_str().is_empty() => inside.to_owned(),
            _ => file.clone(),
        };
        Trigger::Watch {
            files: changes.files.iter().map(short).collect(),
            more: changes.more,
        }
    }
}

#[cfg(test)]
mod tests;
