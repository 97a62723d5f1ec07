//! The last lines of a file, however long it is, without reading the rest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 64 * 1024;

/// Where the last `lines` lines of the file's first `end` bytes begin, but at most `most` bytes before. A piece at the end
/// without a newline is a line.
///
/// # Errors
/// The file cannot be read.
pub fn begin(file: &File, end: u64, lines: usize, most: u64) -> io::Result<u64> {
    let floor = end.saturating_sub(most);
    if lines == 0 {
        return Ok(end);
    }
    let mut block = vec![0; usize::try_from(BLOCK.min(end)).map_err(io::Error::other)?];
    let (mut at, mut found) = (end, 0);
    while at > floor {
        let start = at.saturating_sub(BLOCK).max(floor);
        let length = usize::try_from(at - start).map_err(io::Error::other)?;
        file.read_exact_at(&mut block[..length], start)?;
        for index in (0..length).rev() {
            // The newline at the very end ends the last line, and begins none.
            let position = start + u64::try_from(index).map_err(io::Error::other)?;
            if block[index] == b'\n' && position + 1 < end {
                found += 1;
                if found == lines {
                    return Ok(position + 1);
                }
            }
        }
        at = start;
    }
    Ok(floor)
}

/// The last lines, each without its newline, and at most `most` bytes of them.
///
/// # Errors
/// The file cannot be read.
pub fn last(file: &File, lines: usize, most: u64) -> io::Result<Vec<Vec<u8>>> {
    let end = file.metadata()?.len();
    let start = begin(file, end, lines, most)?;
    let mut text = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
    file.read_exact_at(&mut text, start)?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    if end == start {
        return Ok(Vec::new());
    }
    Ok(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(text: &[u8], count: usize) -> Vec<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let found = last(&file, count, u64::MAX).unwrap();
        found
            .into_iter()
            .map(|line| String::from_utf8(line).unwrap())
            .collect()
    }

    #[test]
    fn lines_are_counted_exactly() {
        assert_eq!(lines(b"", 3), Vec::<String>::new());
        assert_eq!(lines(b"\n", 3), [""]);
        assert_eq!(lines(b"a\nb\nc\n", 2), ["b", "c"]);
        assert_eq!(lines(b"a\nb\nc", 2), ["b", "c"]);
        assert_eq!(lines(b"a\n\n\n", 2), ["", ""]);
        assert_eq!(lines(b"a\nb\n", 0), Vec::<String>::new());
        assert_eq!(lines(b"a\nb\n", 9), ["a", "b"]);
        let long = [vec![b'x'; 200_000], vec![b'\n'], vec![b'y'; 100_000]].concat();
        assert_eq!(
            lines(&long, 2).iter().map(String::len).collect::<Vec<_>>(),
            [200_000, 100_000]
        );
    }

    #[test]
    fn a_huge_file_is_read_from_its_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 30).unwrap();
        file.write_all_at(b"\nlast\n", 10 << 30).unwrap();
        let end = file.metadata().unwrap().len();
        assert_eq!(begin(&file, end, 1, u64::MAX).unwrap(), end - 5);
        assert_eq!(last(&file, 2, 10).unwrap()[1], b"last");
        assert_eq!(begin(&file, end, 2, 100_000).unwrap(), end - 100_000);
    }
}
