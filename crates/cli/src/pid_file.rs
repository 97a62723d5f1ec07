//! `--pid-file`: says who the primary is, once all workers are ready.
//!
//! States: [`check`](PidFile::check)ed before anything starts → [`write`](PidFile::write)n at the first
//! `AllReady` → [`remove`](PidFile::remove)d at the end, if it is still ours. It is never truncated in place:
//! a reader sees the old content, none, or ours.

use rustix::fs::{Access, Mode, OFlags};
use rustix::process::Pid;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a pid file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    #[error("pid file {} is held by process {pid} ({command})", path.display())]
    Held {
        path: PathBuf,
        pid: u32,
        command: String,
    },
    #[error("pid file {} holds no pid but `{text}`", path.display())]
    Garbage { path: PathBuf, text: String },
    #[error("pid file {} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("directory {} of the pid file does not exist", path.display())]
    NoDirectory { path: PathBuf },
    #[error("{}, where the pid file should be, is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("could not use pid file {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl PidFileError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Held { path, pid, .. } => Some(format!(
                "stop it first (kill {pid}); if that process has nothing to do with this app, remove {}",
                path.display()
            )),
            Self::Garbage { path, .. } => Some(format!(
                "if {} is meant for this, remove it and try again",
                path.display()
            )),
            Self::NoDirectory { path } => Some(format!("create it: mkdir -p {}", path.display())),
            Self::NotAFile { .. } | Self::NotADirectory { .. } | Self::Io { .. } => None,
        }
    }
}

/// A pid file that was found free.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    written: bool,
}

impl PidFile {
    /// Checks that the file may be written: no live process holds it and its directory is writable.
    pub(crate) fn check(path: &Path) -> Result<Self, PidFileError> {
        let path = std::path::absolute(path).map_err(io_error(path))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        check_directory(directory, &path)?;
        refuse_if_held(&path)?;
        rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|errno| io_error(&path)(errno.into()))?;
        Ok(Self { path, written: false })
    }

    /// Writes our pid, unless somebody else became the holder since the check.
    pub(crate) fn write(&mut self) -> Result<(), PidFileError> {
        refuse_if_held(&self.path)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self
            .path
            .with_file_name(format!(".{name}.{}", std::process::id()));
        let result = write_new(&temporary).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(source) = result {
            fs::remove_file(&temporary).ok();
            return Err(PidFileError::Io {
                path: self.path.clone(),
                source,
            });
        }
        self.written = true;
        Ok(())
    }

    /// Removes the file if we wrote it and it is still ours.
    pub(crate) fn remove(self) {
        let ours = || matches!(holder(&self.path), Ok(Holder::Pid(pid)) if pid == std::process::id());
        if self.written && ours() {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> PidFileError {
    move |source| PidFileError::Io {
        path: path.into(),
        source,
    }
}

fn check_directory(directory: &Path, file: &Path) -> Result<(), PidFileError> {
    let path = directory.to_owned();
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(PidFileError::NotADirectory { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(PidFileError::NoDirectory { path }),
        Err(error) => Err(io_error(file)(error)),
    }
}

/// The file must be new: what was left behind by a predecessor with our pid is removed first, and neither a
/// link nor somebody else's file is written through.
fn write_new(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?);
    writeln!(file, "{}", std::process::id())?;
    file.sync_all()
}

/// What a pid file holds.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    Pid(u32),
    Text(String),
}

fn holder(path: &Path) -> Result<Holder, PidFileError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(io_error(path)(error)),
        Ok(metadata) if !metadata.is_file() => return Err(PidFileError::NotAFile { path: path.into() }),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(io_error(path))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(match text.trim() {
        "" => Holder::Nobody,
        text => match text.parse::<u32>() {
            Ok(pid) if (1..=4_194_304).contains(&pid) => Holder::Pid(pid),
            _ => Holder::Text(
                text.chars()
                    .take(40)
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect(),
            ),
        },
    })
}

fn refuse_if_held(path: &Path) -> Result<(), PidFileError> {
    match holder(path)? {
        Holder::Pid(pid) if pid != std::process::id() && alive(pid) => {
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let command = command.trim();
            let command = if command.is_empty() {
                "unknown".into()
            } else {
                command.into()
            };
            Err(PidFileError::Held {
                path: path.into(),
                pid,
                command,
            })
        }
        Holder::Text(text) => Err(PidFileError::Garbage {
            path: path.into(),
            text,
        }),
        Holder::Nobody | Holder::Pid(_) => Ok(()),
    }
}

/// Whether a process of this pid exists and is not a zombie.
fn alive(pid: u32) -> bool {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    if rustix::process::test_kill_process(raw) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn ended() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn written_and_removed() {
        let directory = directory();
        let path = directory.path().join("app.pid");
        for old in [
            None,
            Some(String::new()),
            Some(ended().to_string()),
            Some(std::process::id().to_string()),
        ] {
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
            let mut file = PidFile::check(&path).unwrap();
            file.write().unwrap();
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                format!("{}\n", std::process::id())
            );
            file.remove();
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn somebody_elses_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("app.pid");
        let mut file = PidFile::check(&path).unwrap();
        file.write().unwrap();
        fs::write(&path, "1\n").unwrap();
        file.remove();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");

        fs::remove_file(&path).unwrap();
        let unwritten = PidFile::check(&path).unwrap();
        fs::write(&path, std::process::id().to_string()).unwrap();
        unwritten.remove();
        assert!(path.exists());
    }

    #[test]
    fn refused() {
        let directory = directory();
        let path = directory.path().join("app.pid");
        let shown = path.display();
        let refusal = |text: &str| {
            fs::write(&path, text).unwrap();
            let error = PidFile::check(&path).unwrap_err();
            (error.to_string(), error.hint().unwrap())
        };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (message, hint) = refusal(&format!("{}\n", child.id()));
        assert_eq!(
            message,
            format!("pid file {shown} is held by process {} (sleep)", child.id())
        );
        assert!(
            hint.starts_with(&format!("stop it first (kill {})", child.id())),
            "{hint}"
        );
        child.kill().unwrap();
        child.wait().unwrap();

        let (message, hint) = refusal("hello\n");
        assert_eq!(message, format!("pid file {shown} holds no pid but `hello`"));
        assert_eq!(
            hint,
            format!("if {shown} is meant for this, remove it and try again")
        );
        assert_eq!(refusal("-1").0, format!("pid file {shown} holds no pid but `-1`"));

        let error = PidFile::check(directory.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("pid file {} is not a regular file", directory.path().display())
        );
        let missing = directory.path().join("no/app.pid");
        assert_eq!(
            PidFile::check(&missing).unwrap_err().to_string(),
            format!(
                "directory {} of the pid file does not exist",
                directory.path().join("no").display()
            )
        );
    }

    #[test]
    fn a_directory_that_is_none() {
        let directory = directory();
        let file = directory.path().join("hello.js");
        fs::write(&file, "").unwrap();
        let error = PidFile::check(&file.join("app.pid")).unwrap_err();
        let shown = format!(
            "{}, where the pid file should be, is not a directory",
            file.display()
        );
        assert_eq!((error.to_string(), error.hint()), (shown, None));

        // Not "does not exist": that is not known.
        let file = directory.path().join("hello.js/no/app.pid");
        let error = PidFile::check(&file).unwrap_err();
        assert_eq!(
            crate::error::CliError::from(error).message(),
            format!("could not use pid file {}: not a directory", file.display())
        );
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let zombie = || {
            fs::read_to_string(format!("/proc/{}/stat", child.id()))
                .unwrap()
                .contains(") Z ")
        };
        while !zombie() {
            std::thread::yield_now();
        }
        assert!(!alive(child.id()));
        child.wait().unwrap();
    }
}
