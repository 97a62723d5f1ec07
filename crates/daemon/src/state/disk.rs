//! A state in a file that survives power cuts and full disks: written beside, made durable, then put in place; the one before
//! is kept as `NAME.old`.

use super::codec::{self, CodecError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How new bytes come to a disk. Another one than the real one stands for a disk that is full.
pub(crate) trait Disk {
    /// A new file with these bytes, durable when this returns.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
}

/// The real one.
pub(crate) struct Real;

impl Disk for Real {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }
}

/// Puts a state in place of the one before. When this fails, the one before is still there.
pub(crate) fn store<T: Serialize>(disk: &dyn Disk, path: &Path, state: &T) -> io::Result<()> {
    // Two at once would write into the same file.
    static ONE: Mutex<()> = Mutex::new(());
    let bytes = codec::encode(state)?;
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let new = beside(path, ".new");
    let placed = disk.write(&new, &bytes).and_then(|()| place(&new, path));
    if placed.is_err() {
        // What there is of it is of no use.
        fs::remove_file(&new).ok();
    }
    placed
}

/// Removes what a writer has left beside it who was killed. Only when nobody writes.
pub(crate) fn tidy(path: &Path) {
    fs::remove_file(beside(path, ".new")).ok();
}

fn place(new: &Path, path: &Path) -> io::Result<()> {
    let old = beside(path, ".old");
    if fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        let what = "it is a directory; remove it or give it another name";
        return Err(io::Error::new(io::ErrorKind::IsADirectory, what));
    }
    if path.exists() {
        // At no moment is there neither of them.
        fs::remove_file(&old).ok();
        fs::hard_link(path, &old)?;
    }
    fs::rename(new, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// What was found in a file.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// There is none.
    Nothing,
    /// The last one.
    Last(T),
    /// The last one is of no use, for this reason; this is the one before.
    Previous(T, String),
    /// Neither is of any use. The file is kept under this name.
    Unusable(String),
}

/// Reads the last state, or the one before.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Found<T> {
    let why = match read(path) {
        Ok(Some(state)) => return Found::Last(state),
        Ok(None) => None,
        Err(error) => Some(told(path, &error)),
    };
    match (read(&beside(path, ".old")), why) {
        (Ok(Some(state)), why) => {
            let why = why.unwrap_or_else(|| format!("{} is missing", path.display()));
            Found::Previous(state, why)
        }
        (Ok(None), None) => Found::Nothing,
        (_, why) => {
            let kept = beside(path, ".bad");
            fs::rename(path, &kept).ok();
            let why = why.unwrap_or_else(|| format!("{} cannot be read", path.display()));
            Found::Unusable(format!("{why}; it is kept as {}", kept.display()))
        }
    }
}

/// The last state, or the one before, for somebody who only looks: nothing is moved.
pub(crate) fn peek<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let used = |path: &Path| read(path).ok().flatten();
    used(path).or_else(|| used(&beside(path, ".old")))
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("could not read it")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

fn told(path: &Path, error: &ReadError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(" ({source})"));
    format!("{}: {error}{}", path.display(), source.unwrap_or_default())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReadError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(codec::decode(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A disk with room for so many bytes.
    struct Full(usize);

    impl Disk for Full {
        fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            let fits = bytes.len().min(self.0);
            fs::write(path, &bytes[..fits])?;
            if fits < bytes.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    fn last(path: &Path) -> Value {
        match load(path) {
            Found::Last(state) => state,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_disk_leaves_the_state_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert!(matches!(load::<Value>(&path), Found::Nothing));
        store(&Real, &path, &json!({"n": 1})).unwrap();
        let new = json!({"n": 2, "more": "xxxxxxxxxxxxxxxxxxxxxxxx"});
        let length = codec::encode(&new).unwrap().len();
        for room in 0..length {
            let error = store(&Full(room), &path, &new).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(last(&path), json!({"n": 1}), "room for {room}");
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );
        store(&Full(length), &path, &new).unwrap();
        assert_eq!(last(&path), new);
    }

    #[test]
    fn a_disk_that_is_really_full() {
        // `/dev/full` answers every write with "no space left".
        struct DevFull;
        impl Disk for DevFull {
            fn write(&self, _: &Path, bytes: &[u8]) -> io::Result<()> {
                OpenOptions::new().write(true).open("/dev/full")?.write_all(bytes)
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        store(&Real, &path, &json!(1)).unwrap();
        assert!(store(&DevFull, &path, &json!(2)).is_err());
        assert_eq!(last(&path), json!(1));
    }

    #[test]
    fn torn_at_every_byte_the_previous_one_is_used_and_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        store(&Real, &path, &json!({"n": 1})).unwrap();
        store(&Real, &path, &json!({"n": 2})).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).unwrap();
            match load::<Value>(&path) {
                Found::Previous(state, why) => {
                    assert_eq!(state, json!({"n": 1}));
                    assert!(why.contains("state.json"), "{why}");
                }
                other => panic!("cut at {length}: {other:?}"),
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(load::<Value>(&path), Found::Previous(_, why) if why.ends_with("is missing")));
    }

    #[test]
    fn what_cannot_be_used_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, "no state").unwrap();
        assert!(matches!(load::<Value>(&path), Found::Unusable(why) if why.contains("state.json.bad")));
        assert_eq!(
            fs::read(folder.path().join("state.json.bad")).unwrap(),
            b"no state"
        );
    }

    #[test]
    fn what_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::create_dir(&path).unwrap();
        let error = store(&Real, &path, &json!(1)).unwrap_err();
        assert!(error.to_string().starts_with("it is a directory"), "{error}");
        assert!(!beside(&path, ".new").exists());
        fs::remove_dir(&path).unwrap();
        // A link is replaced, and what it leads to is left alone.
        let elsewhere = folder.path().join("elsewhere");
        store(&Real, &elsewhere, &json!(2)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        store(&Real, &path, &json!(3)).unwrap();
        assert_eq!((last(&elsewhere), last(&path)), (json!(2), json!(3)));
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn what_a_killed_writer_has_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        store(&Real, &path, &json!(1)).unwrap();
        fs::write(beside(&path, ".new"), "{").unwrap();
        assert_eq!(peek::<Value>(&path), Some(json!(1)));
        tidy(&path);
        assert!(!beside(&path, ".new").exists());
        assert_eq!(last(&path), json!(1));
    }

    #[test]
    fn several_writers_at_once_leave_one_whole_state_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for round in 0..20 {
                        let state =
                            json!({"writer": writer, "round": round, "room": "x".repeat(writer * 5000)});
                        store(&Real, path, &state).unwrap();
                    }
                });
            }
        });
        assert_eq!(last(&path)["round"], 19);
        assert!(!beside(&path, ".new").exists());
    }
}
