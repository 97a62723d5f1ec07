//! Runs a program to its end, or kills it, with all that it started, when there is no time left.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What came of a program.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: std::process::ExitStatus,
    pub(super) out: String,
    pub(super) err: String,
}

/// Runs it in a process group of its own, nothing to read, and waits for both of its outputs.
pub(super) fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let (done, ends) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        let err = std::thread::spawn(move || read(err));
        let out = read(out);
        done.send((out, err.join().unwrap_or_default())).ok();
    });
    let Ok((out, err)) = ends.recv_timeout(limit) else {
        kill(&mut child)?;
        return Err(io::ErrorKind::TimedOut.into());
    };
    let status = child.wait()?;
    Ok(Ended { status, out, err })
}

/// The child is not waited for yet, so its number is still its own: the group's, too.
fn kill(child: &mut Child) -> io::Result<()> {
    let group = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
    }
    child.wait().map(drop)
}

fn read(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What came until then counts.
        from.read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str, limit: Duration) -> io::Result<Ended> {
        run(Command::new("/bin/sh").args(["-c", line]), limit)
    }

    #[test]
    fn both_outputs_and_the_status() {
        let ended = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60)).unwrap();
        assert_eq!((ended.out.as_str(), ended.err.as_str()), ("out\n", "err\n"));
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let line = format!("sleep 1000 & echo $! > {} ; wait", file.display());
        let error = shell(&line, Duration::from_millis(500)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let Ok(pid) = std::fs::read_to_string(&file) else {
            return;
        };
        let status = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // A dead child of a dead child may be a zombie until somebody reaps it.
        while status().is_ok_and(|status| !status.contains(") Z")) {
            std::thread::yield_now();
        }
    }
}
