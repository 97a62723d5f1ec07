//! State that outlives its writer: a named memfd that is written in memory, without a system call.
//!
//! Owner: whoever writes, alone. The descriptor is in the table that keeper and daemon share, so it stays open when
//! either is killed; the successor finds it by its name ([`find`]) and goes on ([`Memory::open`]).
//!
//! A memory holds one *snapshot* and the *records* added since. Whenever the writer is killed, the successor sees
//! all of an operation or nothing of it (the invariant of `layout`). At most one *reservation* is open: space that is
//! filled by something that cannot be repeated (a `recvmsg` consumes), so that what arrived is found even if nobody
//! lived to say how much.
//!
//! Must not know: what the bytes mean.

mod layout;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{FallocateFlags, MemfdFlags};

use crate::sys::map::Map;
pub(crate) use layout::Store;
use layout::{Parsed, TooLarge, Writer, used};

/// In front of all our names.
const PREFIX: &str = "everup:";
/// As `/proc/self/fd` shows them.
const LINK: &str = "/memfd:everup:";
const LINK_END: &str = " (deleted)";

/// A named memory with one writer.
#[derive(Debug)]
pub struct Memory {
    name: String,
    fd: OwnedFd,
    map: Map,
    writer: Writer,
}

/// What a memory held when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The memory's name.
    pub name: String,
    /// The last snapshot.
    pub snapshot: Vec<u8>,
    /// The records since then, oldest first.
    pub records: Vec<Vec<u8>>,
    /// A reservation that was not committed: its head, and the bytes of its space up to the last that is not zero.
    pub reserved: Option<(Vec<u8>, Vec<u8>)>,
}

impl Memory {
    /// An empty one, called `everup:NAME`, closed on exec.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for a name of more than 242 bytes or with a zero byte in it.
    pub fn create(name: &str) -> io::Result<Self> {
        let fd = rustix::fs::memfd_create(format!("{PREFIX}{name}"), MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&fd, bytes(layout::INITIAL)?)?;
        let mut map = Map::new(fd.as_fd(), layout::INITIAL)?;
        let writer = Writer::create(&mut map);
        Ok(Self {
            name: name.to_owned(),
            fd,
            map,
            writer,
        })
    }

    /// A predecessor's, who is dead: what it holds, and the means to go on with it. An open reservation stays open:
    /// the successor can [`Self::commit`] it.
    ///
    /// # Errors
    /// `InvalidData` when it is none of ours, or of another layout; else what the system says.
    pub fn open(fd: OwnedFd) -> io::Result<(Self, Contents)> {
        let name = name_of(fd.as_fd())?.ok_or_else(|| invalid("not a memory of everup"))?;
        if rustix::fs::fstat(&fd)?.st_size == 0 {
            // Killed just after it was made.
            rustix::fs::ftruncate(&fd, bytes(layout::INITIAL)?)?;
        }
        let image = read_all(fd.as_fd())?;
        let parsed = parse(&image)?;
        let contents = contents(name.clone(), &image, &parsed);
        let memory = Self {
            name,
            map: Map::new(fd.as_fd(), image.len())?,
            writer: Writer::resume(&image, &parsed),
            fd,
        };
        Ok((memory, contents))
    }

    /// Replaces everything, records and reservation too.
    ///
    /// # Errors
    /// What the system says when the memory has to grow; `FileTooLarge` at 1 GiB. Then nothing has changed.
    pub fn snapshot(&mut self, blob: &[u8]) -> io::Result<()> {
        let growth = self.writer.growth_for_snapshot(blob.len());
        self.grow(growth)?;
        self.writer.snapshot(&mut self.map, blob);
        Ok(())
    }

    /// Adds a record. A reservation that was not committed is gone.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let growth = self.writer.growth_for_entry(record.len());
        self.grow(growth)?;
        self.writer.append(&mut self.map, record);
        Ok(())
    }

    /// Space of `len` zeros, to be filled from its beginning. From now on a successor finds `head` and what was filled in.
    /// A reservation that was not committed is gone.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn reserve(&mut self, head: &[u8], len: usize) -> io::Result<&mut [u8]> {
        let growth = self.writer.growth_for_entry(head.len().saturating_add(len));
        self.grow(growth)?;
        let start = self.writer.reserve(&mut self.map, head, len);
        Ok(self.map.slice_mut(start, len))
    }

    /// The first `n` bytes of the reserved space, with the head in front, become a record. The bytes behind must have been
    /// left alone. Does nothing if nothing is reserved.
    pub fn commit(&mut self, n: usize) {
        self.writer.commit(&mut self.map, n);
    }

    /// Gives pages back that hold nothing any more. Costs system calls: for when there is nothing to do.
    ///
    /// # Errors
    /// What the system says; nothing is lost.
    pub fn trim(&mut self) -> io::Result<()> {
        const WORTH: usize = 16 * 1024;
        let (waste, used) = self.writer.waste();
        if used < WORTH {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for range in waste.into_iter().filter(|range| !range.is_empty()) {
            rustix::fs::fallocate(&self.fd, flags, bytes(range.start)?, bytes(range.len())?)?;
        }
        self.writer.wasted();
        Ok(())
    }

    /// Its name, without the `everup:`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn grow(&mut self, growth: Result<Option<usize>, TooLarge>) -> io::Result<()> {
        let growth = growth.map_err(|TooLarge| io::ErrorKind::FileTooLarge)?;
        if let Some(size) = growth {
            rustix::fs::ftruncate(&self.fd, bytes(size)?)?;
            self.map.grow(size)?;
            self.writer.grow(size);
        }
        Ok(())
    }
}

impl Contents {
    /// Reads a memory that somebody else may be writing, without taking part: a moment's view.
    ///
    /// # Errors
    /// As [`Memory::open`].
    pub fn read(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let name = name_of(fd)?.ok_or_else(|| invalid("not a memory of everup"))?;
        let image = read_all(fd)?;
        if image.is_empty() {
            return Ok(Self {
                name,
                ..Self::default()
            });
        }
        Ok(contents(name, &image, &parse(&image)?))
    }
}

/// All memories in this process's descriptor table, by name: who owns the numbers is not said. Only those that a process of
/// this user made: a descriptor that a worker under another identity sent is none of ours.
///
/// # Errors
/// What the system says of `/proc/self/fd`.
pub fn find() -> io::Result<Vec<(String, RawFd)>> {
    let me = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // A descriptor that was closed meanwhile is not of interest.
        let Ok(link) = entry.path().read_link() else {
            continue;
        };
        let (Some(name), Some(fd)) = (name_in(&link.to_string_lossy()), number(&entry)) else {
            continue;
        };
        if rustix::fs::stat(entry.path()).is_ok_and(|file| file.st_uid == me) {
            found.push((name, fd));
        }
    }
    found.sort();
    Ok(found)
}

fn number(entry: &std::fs::DirEntry) -> Option<RawFd> {
    entry.file_name().to_str()?.parse().ok()
}

fn name_of(fd: BorrowedFd<'_>) -> io::Result<Option<String>> {
    use std::os::fd::AsRawFd as _;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(name_in(&link.to_string_lossy()))
}

fn name_in(link: &str) -> Option<String> {
    let name = link.strip_prefix(LINK)?;
    Some(name.strip_suffix(LINK_END).unwrap_or(name).to_owned())
}

/// By system calls, not through a mapping: holes stay holes.
fn read_all(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let size =
        usize::try_from(rustix::fs::fstat(fd)?.st_size).map_err(|_| invalid("a size that is no size"))?;
    let mut image = vec![0; size];
    let mut at = 0;
    while at < size {
        match rustix::io::pread(fd, &mut image[at..], bytes(at)?) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(image)
}

fn parse(image: &[u8]) -> io::Result<Parsed> {
    layout::parse(image).map_err(|broken| {
        invalid(match broken {
            layout::Broken::Magic => "a memory of another version",
            layout::Broken::Size | layout::Broken::Bounds => "a memory that is damaged",
        })
    })
}

fn contents(name: String, image: &[u8], parsed: &Parsed) -> Contents {
    Contents {
        name,
        snapshot: image[parsed.snapshot.clone()].to_vec(),
        records: parsed
            .records
            .iter()
            .map(|record| image[record.clone()].to_vec())
            .collect(),
        reserved: parsed.reserved.clone().map(|(head, space)| {
            let space = &image[space];
            (image[head].to_vec(), space[..used(space)].to_vec())
        }),
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn bytes(len: usize) -> io::Result<u64> {
    u64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput.into())
}
