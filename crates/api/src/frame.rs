//! Lines: reading them with a limit, writing a value as one.
//!
//! [`LineReader`] never holds more than its limit. A line that is longer is an error, after which nothing can be
//! read any more: where the next one begins is not known.

use serde::Serialize;
use std::io::{self, Read};

/// How long a request may be, with its end of line.
pub const REQUEST_LIMIT: usize = 64 * 1024;

/// How long a reply may be, with its end of line: the status of a thousand workers fits.
pub const REPLY_LIMIT: usize = 1024 * 1024;

/// Why there is no line.
#[derive(Debug)]
#[non_exhaustive]
pub enum LineError {
    /// It is longer than the limit.
    TooLong,
    /// The stream ended within a line.
    Cut,
    /// Reading failed. After a timeout (`WouldBlock`) reading may go on: nothing is lost.
    Io(io::Error),
}

/// What was read of a stream, up to the end of a line.
#[derive(Debug)]
pub struct LineReader {
    buffer: Vec<u8>,
    limit: usize,
    /// Up to here no end of line was found.
    searched: usize,
}

impl LineReader {
    /// Nothing read yet.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            limit,
            searched: 0,
        }
    }

    /// Whether a line has begun and not ended.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next line that is already here, without its end. An `Err` says that it is too long.
    ///
    /// # Errors
    /// [`LineError::TooLong`] only.
    pub fn buffered(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        let end = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        match end.map(|end| end + self.searched) {
            Some(end) if end < self.limit => {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(end);
                self.searched = 0;
                Ok(Some(line))
            }
            None if self.buffer.len() < self.limit => {
                self.searched = self.buffer.len();
                Ok(None)
            }
            _ => Err(LineError::TooLong),
        }
    }

    /// Reads once. `false` at the end of the stream.
    ///
    /// # Errors
    /// When reading fails or times out.
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let read = loop {
            match stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read > 0)
    }

    /// The next line, without its end; `None` at the end of the stream. What `stream` does between two pieces (a
    /// deadline, say) is its own affair.
    ///
    /// # Errors
    /// See [`LineError`].
    pub fn next(&mut self, stream: &mut impl Read) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            if let Some(line) = self.buffered()? {
                return Ok(Some(line));
            }
            if !self.fill(stream).map_err(LineError::Io)? {
                return if self.has_begun() {
                    Err(LineError::Cut)
                } else {
                    Ok(None)
                };
            }
        }
    }
}

/// A value as a line with its end. JSON has no line break of its own in it.
///
/// # Errors
/// When the value cannot be JSON; those of this crate can.
pub fn line<T: Serialize + ?Sized>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(mut input: &[u8], limit: usize) -> (Vec<Vec<u8>>, Option<LineError>) {
        let (mut reader, mut lines) = (LineReader::new(limit), Vec::new());
        loop {
            match reader.next(&mut input) {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error)),
            }
        }
    }

    #[test]
    fn lines_and_their_ends() {
        let (lines, end) = all(b"a\n\nbc\n", 10);
        assert_eq!(lines, [b"a".to_vec(), b"".to_vec(), b"bc".to_vec()]);
        assert!(end.is_none());
        assert!(matches!(all(b"a\nb", 10), (lines, Some(LineError::Cut)) if lines.len() == 1));
    }

    #[test]
    fn the_limit_counts_the_end_of_line() {
        assert!(matches!(all(b"abc\n", 4), (lines, None) if lines == [b"abc"]));
        assert!(matches!(all(b"abcd\n", 4), (_, Some(LineError::TooLong))));
        assert!(matches!(all(b"abcd", 4), (_, Some(LineError::TooLong))));
        let endless = vec![b'x'; 10_000_000];
        let mut stream = endless.as_slice();
        let mut reader = LineReader::new(REQUEST_LIMIT);
        assert!(matches!(reader.next(&mut stream), Err(LineError::TooLong)));
        assert!(endless.len() - stream.len() <= REQUEST_LIMIT + 4096);
    }

    /// Gives the bytes in pieces of this size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(buffer.len()).min(self.0.len());
            buffer[..size].copy_from_slice(&self.0[..size]);
            self.0 = &self.0[size..];
            Ok(size)
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
                                size in 1_usize..20) {
            let mut reader = LineReader::new(1000);
            let (mut pieces, mut lines) = (Pieces(&input, size), Vec::new());
            while let Ok(Some(line)) = reader.next(&mut pieces) {
                lines.push(line);
            }
            prop_assert_eq!(lines, all(&input, 1000).0);
        }
    }
}
