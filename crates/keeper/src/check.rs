//! Whether a program can take this one's place: asked before anything is given up.

use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::policy::how;

/// The argument that makes a program say what it speaks.
pub const CHECK: &str = "--keeper-check";
/// What this one speaks: the layout of memories, of `root` and of the link.
pub(crate) const ANSWER: &str = "everup-keeper 1\n";

/// Why a program cannot take over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It cannot be run at all.
    #[error("the program cannot be run")]
    Run(#[source] io::Error),
    /// It did not end in time.
    #[error("the program did not answer within {} s", .0.as_secs_f32())]
    Slow(Duration),
    /// It ended in another way than well.
    #[error("the program ended with {}", how(*.0))]
    Failed(ExitStatus),
    /// It is none of ours, or of a version that does not go with this one.
    #[error("the program is no everup that goes with this one: it answered {0:?}")]
    Answer(String),
    /// Its path is too long.
    #[error("the program's path cannot be passed on")]
    Path(#[source] io::Error),
}

/// Runs it with [`CHECK`].
pub(crate) fn check(program: &Path, limit: Duration) -> Result<(), CheckError> {
    let mut child = Command::new(program)
        .arg(CHECK)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(CheckError::Run)?;
    let status = wait(&mut child, limit).map_err(CheckError::Run)?;
    let Some(status) = status else {
        child.kill().ok();
        child.wait().ok();
        return Err(CheckError::Slow(limit));
    };
    if !status.success() {
        return Err(CheckError::Failed(ExitStatus::from_raw(status.into_raw())));
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        // No more than a pipe holds: a descendant may keep it open.
        output
            .take(100)
            .read_to_end(&mut answer)
            .map_err(CheckError::Run)?;
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if answer == ANSWER {
        Ok(())
    } else {
        Err(CheckError::Answer(answer))
    }
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn checked(script: &str) -> Result<(), CheckError> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        check(&program, Duration::from_millis(500))
    }

    #[test]
    fn only_who_speaks_the_same_may_take_over() {
        assert!(checked("echo everup-keeper 1").is_ok());
        assert!(matches!(
            checked("echo everup-keeper 2"),
            Err(CheckError::Answer(_))
        ));
        assert!(matches!(checked("exit 3"), Err(CheckError::Failed(_))));
        assert!(matches!(checked("exec sleep 60"), Err(CheckError::Slow(_))));
        let nothing = check(Path::new("/nonexistent"), Duration::from_secs(1));
        assert!(matches!(nothing, Err(CheckError::Run(_))));
    }
}
