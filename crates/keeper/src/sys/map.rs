//! A file mapped into memory and shared: what was stored stays when the process is killed.

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap, mremap, munmap};

use crate::memory::Store;

/// Some bytes of a file. One owner, who writes; a successor maps the file again.
pub(crate) struct Map {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is tied to no thread.
unsafe impl Send for Map {}

impl Map {
    /// Maps the first `len` bytes. Not seen by children: those are other programs, which should not pay for it.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else refers to it.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0) }?;
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = Self { start, len };
        // SAFETY: the range is the mapping just made; the advice changes no byte of it.
        unsafe { madvise(start.as_ptr(), len, Advice::LinuxDontFork) }?;
        Ok(map)
    }

    /// Maps more of the file.
    pub(crate) fn grow(&mut self, len: usize) -> io::Result<()> {
        // SAFETY: the old range is this mapping, no reference into it is alive (`&mut self`), and only the new
        // address is used from now on.
        let start = unsafe { mremap(self.start.as_ptr(), self.len, len, MremapFlags::MAYMOVE) }?;
        self.start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        self.len = len;
        Ok(())
    }

    /// Bytes of it to be filled in.
    pub(crate) fn slice_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        let start = self.checked(at, len);
        // SAFETY: within the mapping (checked), and borrowed mutably for as long as the slice lives. Nobody else writes:
        // a Memory has one owner, and whoever wrote before is dead.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    fn checked(&self, at: usize, len: usize) -> *mut u8 {
        assert!(
            at.checked_add(len).is_some_and(|end| end <= self.len),
            "outside of the mapping"
        );
        // SAFETY: `at` is within the mapping.
        unsafe { self.start.as_ptr().cast::<u8>().add(at) }
    }
}

impl Store for Map {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let target = self.checked(at, bytes.len());
        // SAFETY: the target has room (checked); the source is a slice from elsewhere, since this mapping is
        // borrowed mutably.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    fn zero(&mut self, at: usize, len: usize) {
        let target = self.checked(at, len);
        // SAFETY: the target has room (checked).
        unsafe { ptr::write_bytes(target, 0, len) };
    }

    // A killed thread has done all its stores up to some instruction and none behind it, on every processor. So only
    // the compiler has to be kept from moving stores across this one.
    fn publish(&mut self, at: usize, word: u64) {
        assert!(at.is_multiple_of(align_of::<u64>()), "a word that is not aligned");
        let target = self.checked(at, size_of::<u64>()).cast::<u64>();
        // SAFETY: within the mapping (checked), aligned (checked; the mapping starts at a page), and alive as long as
        // the reference.
        let target = unsafe { AtomicU64::from_ptr(target) };
        compiler_fence(Ordering::SeqCst);
        target.store(word, Ordering::Release);
        compiler_fence(Ordering::SeqCst);
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows it any more.
        // An error would mean that it is not mapped: then there is nothing to do.
        unsafe { munmap(self.start.as_ptr(), self.len) }.ok();
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
