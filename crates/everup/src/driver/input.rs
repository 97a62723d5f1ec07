//! Workers' standard input, where it is a pipe of ours ([`Spec::stdin`](crate::Spec::stdin)).
//!
//! A piece is written as a whole or not at all: it is not longer than what the kernel keeps together in a pipe.

use super::Driver;
use crate::message::InputError;
use everup_core::id::WorkerId;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::OwnedFd;

/// The worker's end, and ours.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&write_end, true)?;
    Ok((read_end, write_end))
}

impl Driver {
    /// Writes to a worker's standard input.
    pub(super) fn input(&self, worker: WorkerId, bytes: &[u8]) -> Result<(), InputError> {
        let io = self.workers.get(&worker).ok_or(InputError::Gone)?;
        let input = io.input.as_ref().ok_or(InputError::None)?;
        if bytes.len() > InputError::LONGEST {
            return Err(InputError::TooLong);
        }
        match rustix::io::retry_on_intr(|| rustix::io::write(input, bytes)) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN) => Err(InputError::Full),
            Err(Errno::PIPE) => Err(InputError::Closed),
            Err(errno) => Err(InputError::System(errno.into())),
        }
    }
}
