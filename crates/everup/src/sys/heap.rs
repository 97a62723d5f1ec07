//! The C library's heap: how it grows, and how it gives memory back. Where that is another one than glibc's, nothing is
//! done.

/// For a process with many threads that do little: a few heaps for all of them, and whatever is large comes from the
/// kernel and goes back to it. To be called before threads are started.
pub fn be_frugal() {
    #[cfg(target_env = "gnu")]
    {
        /// Threads wait for each other a moment at most; each heap of its own keeps what its busiest moment took.
        const HEAPS: i32 = 4;
        /// Of this size is the buffer that every engine has, and that most of them never touch.
        const LARGE: i32 = 64 * 1024;
        // SAFETY: no pointers; these settings may be made at any time.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, HEAPS);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}

/// Gives back to the kernel what is free. Takes up to a millisecond, in which others may wait for memory.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers of ours; it takes the heap's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_free_goes_back() {
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
            pages * rustix::param::page_size()
        };
        const SMALL: usize = 4000;
        let mut many: Vec<Vec<u8>> = (0..8000).map(|_| vec![1; SMALL]).collect();
        // Not the last one: with it free there would be nothing to be trimmed.
        let last = many.pop();
        let full = resident();
        drop(many);
        super::trim();
        assert!(resident() + 16 * 1024 * 1024 < full);
        drop(last);
    }
}
