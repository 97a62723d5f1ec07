//! What a new daemon gets: the predecessor's descriptors, how processes ended meanwhile, the means to say that it is ready
//! or wants another program.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::check::{self, CheckError};
use crate::exits::Exits;
use crate::link::Link;
use crate::memory;
use crate::policy::UPGRADE;
use crate::root::Root;
use crate::sys::{process, table};

/// What the keeper hands to a daemon.
#[derive(Debug)]
#[non_exhaustive]
pub struct Handoff {
    /// `$EVERUP_HOME`.
    pub home: PathBuf,
    /// There is no predecessor: nothing to adopt.
    pub first: bool,
    /// Which daemon under this home this is, from 1, since the first keeper was started.
    pub incarnation: u64,
    /// The keeper's pid: of interest to who shows it. Its death is taken care of.
    pub keeper_pid: u32,
    /// How many keepers there were, this one included.
    pub keepers: u64,
    /// How the predecessor ended, in words.
    pub previous: Option<String>,
    /// Why the last upgrade was taken back.
    pub fell_back: Option<String>,
    /// The soft limit of descriptors that the first keeper was started with: that of the workers. Ours is the hard one.
    pub soft_limit: Option<u64>,
    /// How processes ended that the keeper reaped.
    pub exits: Exits,
    /// To say that the daemon is ready.
    pub ready: Ready,
    /// To ask for another program.
    pub upgrade: Upgrade,
    /// Descriptors that the predecessors left.
    pub inherited: Inherited,
}

impl Handoff {
    pub(crate) fn new(root: &Root, root_fd: RawFd, link: &Arc<Link>) -> io::Result<Self> {
        Ok(Self {
            home: root.home.clone(),
            first: root.incarnation == 1,
            incarnation: root.incarnation,
            keeper_pid: rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs()),
            keepers: root.keepers,
            previous: root.previous.clone(),
            fell_back: root.fell_back.clone(),
            soft_limit: root.soft_limit,
            exits: Exits(Arc::clone(link)),
            ready: Ready {
                link: Arc::clone(link),
                incarnation: root.incarnation,
                pipe: root.descriptors.pipe,
            },
            upgrade: Upgrade(Arc::clone(link)),
            inherited: Inherited::list(root, root_fd, link.told())?,
        })
    }
}

/// To be used once: the daemon answers, or it cannot.
#[derive(Debug)]
pub struct Ready {
    link: Arc<Link>,
    incarnation: u64,
    pipe: Option<RawFd>,
}

impl Ready {
    /// The daemon answers. An upgrade stays; whoever started the keeper goes on.
    pub fn report(self) {
        self.link.set_ready(self.incarnation);
        tell(&self.link, self.pipe, "ready");
    }

    /// It cannot, for this reason, which whoever started the keeper is told. The daemon should end with an exit code.
    pub fn fail(self, reason: &str) {
        tell(&self.link, self.pipe, &format!("failed: {reason}"));
    }
}

/// Tells whoever started the keeper, once.
pub(crate) fn tell(link: &Link, pipe: Option<RawFd>, text: &str) {
    let Some(pipe) = pipe.filter(|_| !link.told()) else {
        return;
    };
    // Nobody may be listening any more.
    rustix::io::write(table::lend(pipe), text.as_bytes()).ok();
    // From here on the number may be somebody else's. Killed in between, it is left to be closed by a successor.
    link.set_told();
    drop(table::take(pipe));
}

/// To ask for another program in the place of this one.
#[derive(Debug, Clone)]
pub struct Upgrade(Arc<Link>);

impl Upgrade {
    /// Looks whether the program can take over, by running it with `--keeper-check`.
    ///
    /// # Errors
    /// The program cannot be run, takes longer than `limit`, or speaks another version.
    pub fn check(&self, program: &Path, limit: Duration) -> Result<Checked, CheckError> {
        check::check(program, limit)?;
        self.0
            .set_program(program.as_os_str())
            .map_err(CheckError::Path)?;
        Ok(Checked(()))
    }
}

/// A program that can take over.
#[derive(Debug)]
#[must_use = "nothing is replaced until it goes"]
pub struct Checked(());

impl Checked {
    /// Ends this daemon at once, as if it was killed: nothing is dropped, so nothing is closed. The new program's daemon
    /// adopts. If it does not become ready, this program comes back, and [`Handoff::fell_back`] says why.
    pub fn go(self) -> ! {
        process::exit_now(UPGRADE)
    }
}

/// Descriptors that were open before this daemon opened any, but for the keeper's own and the first three. Each is given out
/// once.
#[derive(Debug)]
pub struct Inherited {
    numbers: BTreeSet<RawFd>,
}

impl Inherited {
    fn list(root: &Root, root_fd: RawFd, told: bool) -> io::Result<Self> {
        let mut numbers = BTreeSet::new();
        table::each(&mut |fd| {
            numbers.insert(fd);
        })?;
        let mut own = root.descriptors.clone();
        if told {
            // Its number means nothing any more, or something else.
            own.pipe = None;
        }
        for own in own.numbers().chain([0, 1, 2, root_fd]) {
            numbers.remove(&own);
        }
        Ok(Self { numbers })
    }

    /// The memories among them, by name.
    ///
    /// # Errors
    /// What the system says of `/proc/self/fd`.
    pub fn memories(&mut self) -> io::Result<Vec<(String, OwnedFd)>> {
        let found = memory::find()?;
        Ok(found
            .into_iter()
            .filter_map(|(name, fd)| Some((name, self.take(fd)?)))
            .collect())
    }

    /// One of them by its number: a predecessor has written down what it is.
    pub fn take(&mut self, fd: RawFd) -> Option<OwnedFd> {
        self.numbers.remove(&fd).then(|| table::take(fd))
    }

    /// The numbers that were not taken.
    pub fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.numbers.iter().copied()
    }

    /// Closes what was not taken. Says how many those were.
    pub fn close_rest(self) -> usize {
        for &fd in &self.numbers {
            drop(table::take(fd));
        }
        self.numbers.len()
    }
}
