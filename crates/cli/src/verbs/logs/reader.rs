//! One file that is read while others write, empty, rename or remove it.
//!
//! Invariant: lines come out whole and once each, those of a renamed file before those of the one that took its name.

use super::source::Source;
use everup_daemon::logs::tail;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::SystemTime;

const BLOCK: usize = 64 * 1024;
/// So much at once: then it is another file's turn.
const TURN: u64 = 4 << 20;
/// A line without an end is shown in pieces of this size.
const LONGEST: usize = 1 << 20;
/// So much is searched for the last lines.
const TAIL: u64 = 64 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) source: Source,
    file: Option<File>,
    position: u64,
    /// A line that has not ended.
    begun: Vec<u8>,
}

impl Reader {
    /// From the last so many lines on; a file that is not there yet from its beginning.
    pub(super) fn open(source: Source, lines: usize) -> Self {
        let file = open(&source).ok();
        let position = file.as_ref().map_or(0, |file| {
            let end = file.metadata().map_or(0, |status| status.len());
            tail::begin(file, end, lines, TAIL).unwrap_or(end)
        });
        Self {
            source,
            file,
            position,
            begun: Vec::new(),
        }
    }

    /// When it was written last.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.file.as_ref()?.metadata().ok()?.modified().ok()
    }

    /// Gives the lines that are there now. True if there is more.
    pub(super) fn read(
        &mut self,
        give: &mut dyn FnMut(&Source, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        if self.drain(give)? {
            return Ok(true);
        }
        if !self.replaced() {
            return Ok(false);
        }
        self.end(give)?;
        self.file = open(&self.source).ok();
        self.position = 0;
        self.drain(give)
    }

    /// What is left of a line is one.
    pub(super) fn end(&mut self, give: &mut dyn FnMut(&Source, &[u8]) -> io::Result<()>) -> io::Result<()> {
        if !self.begun.is_empty() {
            give(&self.source, &self.begun)?;
            self.begun.clear();
        }
        Ok(())
    }

    fn drain(&mut self, give: &mut dyn FnMut(&Source, &[u8]) -> io::Result<()>) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        if file
            .metadata()
            .is_ok_and(|status| status.is_file() && status.len() < self.position)
        {
            // Emptied: what comes now is new.
            self.position = 0;
            self.begun.clear();
        }
        let mut block = vec![0; BLOCK];
        let mut budget = TURN;
        loop {
            let count = match file.read_at(&mut block, self.position) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A file that cannot be read is not worth more than the others.
                Err(_) => 0,
            };
            if count == 0 {
                return Ok(false);
            }
            let step = u64::try_from(count).map_err(io::Error::other)?;
            self.position += step;
            for piece in block[..count].split_inclusive(|byte| *byte == b'\n') {
                match piece.strip_suffix(b"\n") {
                    Some(end) if self.begun.is_empty() => give(&self.source, end)?,
                    Some(end) => {
                        self.begun.extend_from_slice(end);
                        give(&self.source, &self.begun)?;
                        self.begun.clear();
                    }
                    None => self.begun.extend_from_slice(piece),
                }
            }
            if self.begun.len() >= LONGEST {
                give(&self.source, &self.begun)?;
                self.begun.clear();
            }
            budget = budget.saturating_sub(step);
            if budget == 0 {
                return Ok(true);
            }
        }
    }

    /// Whether another file has the name now.
    fn replaced(&self) -> bool {
        let Ok(named) = std::fs::metadata(&self.source.path) else {
            return false;
        };
        let same = |file: &File| {
            file.metadata()
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (named.dev(), named.ino()))
        };
        !self.file.as_ref().is_some_and(same)
    }
}

/// Opens a file, and nothing else: a pipe would make us wait, or take what is somebody else's.
fn open(source: &Source) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    if !std::fs::metadata(&source.path)?.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(&source.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::logs::source::Kind;
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    fn reader(path: &Path, lines: usize) -> Reader {
        let source = Source {
            path: path.to_owned(),
            kind: Kind::Out,
            app: "a".into(),
            id: None,
            first: 0,
        };
        Reader::open(source, lines)
    }

    fn read(reader: &mut Reader) -> Vec<String> {
        let mut lines = Vec::new();
        let mut give = |_: &Source, line: &[u8]| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        };
        while reader.read(&mut give).unwrap() {}
        lines
    }

    #[test]
    fn a_file_that_lives() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.log");
        let mut reader = reader(&path, 2);
        assert_eq!(read(&mut reader), [""; 0]);
        let mut file = File::create(&path).unwrap();
        file.write_all(b"1\n2\n3").unwrap();
        assert_eq!(read(&mut reader), ["1", "2"]);
        file.write_all(b"3\n").unwrap();
        assert_eq!(read(&mut reader), ["33"]);
        file.set_len(0).unwrap();
        file.write_at(b"4\n", 0).unwrap();
        assert_eq!(read(&mut reader), ["4"]);
        fs::rename(&path, home.path().join("old")).unwrap();
        file.write_at(b"5\n6", 2).unwrap();
        assert_eq!(read(&mut reader), ["5"]);
        fs::write(&path, "7\n").unwrap();
        assert_eq!(read(&mut reader), ["6", "7"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&mut reader), [""; 0]);
    }

    #[test]
    fn the_last_lines_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.log");
        fs::write(&path, "1\n2\n3\n4").unwrap();
        let mut two = reader(&path, 2);
        assert_eq!(read(&mut two), ["3"]);
        assert_eq!(read(&mut reader(&path, 0)), [""; 0]);
        let mut rest = Vec::new();
        two.end(&mut |_, line| {
            rest.extend_from_slice(line);
            Ok(())
        })
        .unwrap();
        assert_eq!(rest, b"4");
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_memory() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.log");
        fs::write(&path, vec![b'x'; 10 << 20]).unwrap();
        let mut reader = reader(&path, 1);
        reader.position = 0;
        let lines = read(&mut reader);
        assert!(lines.len() >= 9 && lines.iter().all(|line| line.len() < LONGEST + BLOCK));
    }
}
