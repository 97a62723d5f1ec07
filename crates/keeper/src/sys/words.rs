//! Words that several processes share: each is read and written as a whole.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping seen as words. A child that is cloned has it too.
#[derive(Debug)]
pub(crate) struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the mapping belongs to this value, is tied to no thread, and only atomics are handed out.
unsafe impl Send for Words {}
// SAFETY: as above: shared access is what atomics are for.
unsafe impl Sync for Words {}

impl Words {
    /// Maps the first `count` words of a file that has them.
    pub(crate) fn new(fd: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let len = count * size_of::<AtomicU64>();
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else refers to it.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, count })
    }

    /// One of them.
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.count, "outside of the mapping");
        // SAFETY: within the mapping, which starts at a page and so is aligned, and lives as long as the reference. Any
        // bytes are a valid number.
        unsafe { self.start.add(at).as_ref() }
    }

    /// The first half of one of them, for the kernel to wait on; the word is used in no other way.
    pub(crate) fn bell(&self, at: usize) -> &AtomicU32 {
        assert!(at < self.count, "outside of the mapping");
        // SAFETY: as in `word`; half a word is smaller and aligned.
        unsafe { self.start.add(at).cast().as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows it any more.
        // An error would mean that it is not mapped: then there is nothing to do.
        unsafe { munmap(self.start.as_ptr().cast(), self.count * size_of::<AtomicU64>()) }.ok();
    }
}
