//! The daemon's side of the keeper's death: the daemon becomes the keeper.
//!
//! Runs in the daemon's main thread, which does nothing else: the C library does not know it by its number.
//! When the keeper is dead, all other threads are stopped where they are, which is to them as if the daemon had been
//! killed; then the same program takes this process's place as keeper, with all descriptors and children, and starts
//! a daemon, which adopts.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::arguments::{KILLED, resume};
use crate::log;
use crate::root::Root;
use crate::sys::process::Image;
use crate::sys::{signals, table};

/// Threads that sleep in the kernel for longer are not waited for.
const FREEZE: Duration = Duration::from_secs(2);

/// All that is needed, made ready beforehand.
#[derive(Debug)]
pub(crate) struct Successor {
    keeper: RawFd,
    executable: RawFd,
    dropped: [RawFd; 2],
    image: Image,
}

impl Successor {
    pub(crate) fn new(root: &Root) -> Option<Self> {
        let descriptors = &root.descriptors;
        Some(Self {
            keeper: descriptors.keeper?,
            executable: descriptors.executable?,
            dropped: [descriptors.keeper?, descriptors.signals?],
            image: Image::new(CString::default(), resume(&root.program, KILLED)?),
        })
    }

    /// Waits for the keeper's death and takes its place. If that is not possible, the daemon goes on without a keeper.
    pub(crate) fn watch(&self) -> io::Result<Infallible> {
        let keeper = table::lend(self.keeper);
        loop {
            let mut descriptors = [PollFd::new(&keeper, PollFlags::IN)];
            match poll(&mut descriptors, None) {
                Ok(_) => return Err(self.take_over()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_over(&self) -> io::Error {
        log::line(format_args!("was killed; the daemon takes its place"));
        // From here on no memory is asked for: a stopped thread may hold the lock.
        // If not all stop in time, those that do not are asleep in the kernel and open nothing.
        signals::freeze(FREEZE).ok();
        let error = match table::keep_on_exec_from(3, &self.dropped) {
            Ok(()) => self.image.exec(self.executable),
            Err(error) => error,
        };
        table::close_on_exec_from(3);
        signals::thaw();
        error
    }
}
