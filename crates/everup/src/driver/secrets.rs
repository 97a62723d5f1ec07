//! Files whose content a worker gets by descriptor: read when it is started, by us, whoever the worker runs as.
//!
//! Each is a copy in memory that nobody can change. Its variable holds a path (`/dev/fd/7`) that the worker can open and read like a
//! file; the content is in no variable, no argument and no file that the worker could be tricked into showing.

use rustix::fs::{MemfdFlags, SealFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// The longest that is passed on, in bytes.
pub(crate) const LONGEST: u64 = 1 << 20;

/// The content of one file, for one worker.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let told = |error: io::Error| {
        let what = format!("read the secret file {}: {error}", path.display());
        io::Error::new(error.kind(), what)
    };
    let mut content = Vec::new();
    let file = File::open(path).map_err(told)?;
    file.take(LONGEST + 1).read_to_end(&mut content).map_err(told)?;
    if content.len() as u64 > LONGEST {
        return Err(told(io::Error::other(format!(
            "it is longer than {LONGEST} bytes"
        ))));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create("secret", flags)?);
    copy.write_all(&content)?;
    copy.rewind()?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// What goes into a worker's table, and its variables.
pub(super) type Opened = (Vec<(OwnedFd, RawFd)>, Vec<(OsString, OsString)>);

/// All of them, from this number on.
pub(super) fn open_all(secrets: &[(OsString, PathBuf)], first: RawFd) -> io::Result<Opened> {
    let mut table = Vec::new();
    let mut variables = Vec::new();
    for (number, (name, path)) in (first..).zip(secrets) {
        table.push((open(path)?, number));
        variables.push((name.clone(), format!("/dev/fd/{number}").into()));
    }
    Ok((table, variables))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_can_be_read_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let (table, variables) = open_all(&[("KEY".into(), path)], 7).unwrap();
        assert_eq!(variables, [("KEY".into(), "/dev/fd/7".into())]);
        let mut file = File::from(table.into_iter().next().unwrap().0);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "s3cret\n");
        assert!(file.write_all(b"x").is_err());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = open(Path::new("/nowhere/key")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("read the secret file /nowhere/key: "),
            "{error}"
        );
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("long");
        File::create(&long).unwrap().set_len(LONGEST + 1).unwrap();
        let error = open(&long).unwrap_err();
        assert!(error.to_string().contains("longer than 1048576 bytes"), "{error}");
    }
}
