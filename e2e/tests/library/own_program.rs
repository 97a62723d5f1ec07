//! A program whose workers are itself: `e2e-primary`, which has the three lines of a primary.

use anyhow::{Context, Result, ensure};
use e2e::{LIMIT, process};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The running program; killed when it is dropped.
struct Primary {
    child: Child,
    lines: Receiver<String>,
}

impl Primary {
    fn start(program: &Path, args: &[&str]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .context("start it")?;
        let out = child.stdout.take().context("its output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn line(&self) -> Result<String> {
        Ok(self.lines.recv_timeout(LIMIT)?)
    }

    fn expect(&self, line: &str, times: usize) -> Result<()> {
        for _ in 0..times {
            let real = self.line()?;
            ensure!(real == line, "{real:?}, not {line:?}");
        }
        Ok(())
    }

    /// Once it has a handler: before that it has the system's default, as every program.
    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id();
        e2e::run::wait_until("it handles signals", LIMIT, || match handled(pid) {
            Some(mask) if mask >> (signal.as_raw() - 1) & 1 == 1 => Ok(()),
            mask => Err(format!("{mask:x?}")),
        })?;
        process::signal(pid, signal)
    }

    fn end(mut self, told: &str) -> Result<()> {
        self.expect(told, 1)?;
        ensure!(self.child.wait()?.success());
        Ok(())
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The signals that a process has handlers for: the lowest bit is signal 1.
fn handled(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// By a process of its own: were a file open for writing here while another test starts a process, nobody could execute
/// the file until that has got to its program.
fn install(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("install")
        .args(["-m", "755"])
        .args([from, to])
        .status()?;
    ensure!(done.success(), "install: {done}");
    Ok(())
}

/// A program that does this, and stays.
fn script(what: &str, at: &Path) -> Result<()> {
    let text = at.with_extension("text");
    std::fs::write(&text, format!("#!/bin/sh\n{what}\nexec sleep 3600\n"))?;
    install(&text, at)
}

/// A new file at the program's path is what a reload starts.
#[test]
fn a_reload_starts_the_new_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("app");
    install(Path::new(env!("CARGO_BIN_EXE_e2e-primary")), &program)?;
    let primary = Primary::start(&program, &["an argument"])?;
    primary.expect("worker [\"an argument\"]", 2)?;
    let new = folder.path().join("new");
    script("echo new code: $1", &new)?;
    std::fs::rename(&new, &program)?;
    primary.signal(Signal::HUP)?;
    primary.expect("new code: an argument", 2)?;
    primary.signal(Signal::TERM)?;
    primary.end("Stopped")
}

/// A symbolic link by which the program was started is followed anew.
#[test]
fn a_reload_follows_the_link() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    install(Path::new(env!("CARGO_BIN_EXE_e2e-primary")), &old)?;
    script("echo new code", &new)?;
    let link = folder.path().join("current");
    std::os::unix::fs::symlink("old", &link)?;
    let primary = Primary::start(&link, &[])?;
    primary.expect("worker []", 2)?;
    let next = folder.path().join("next");
    std::os::unix::fs::symlink("new", &next)?;
    std::fs::rename(&next, &link)?;
    primary.signal(Signal::HUP)?;
    primary.expect("new code", 2)?;
    primary.signal(Signal::INT)?;
    primary.end("Stopped")
}

/// The second signal kills who did not obey the first.
#[test]
fn the_second_signal_kills() -> Result<()> {
    let primary = Primary::start(Path::new(env!("CARGO_BIN_EXE_e2e-primary")), &["stubborn"])?;
    primary.expect("worker [\"stubborn\"]", 2)?;
    primary.signal(Signal::TERM)?;
    primary.expect("asked to stop", 2)?;
    // wait: signals within 50 ms are one request
    std::thread::sleep(Duration::from_millis(60));
    primary.signal(Signal::TERM)?;
    primary.end("Killed { workers: 2 }")
}

/// `Builder::run` obeys from the moment on when there is a worker: nobody waits for a handler here.
#[test]
fn run_obeys_from_the_first_worker_on() -> Result<()> {
    let primary = Primary::start(Path::new(env!("CARGO_BIN_EXE_e2e-primary")), &["run"])?;
    primary.expect("worker [\"run\"]", 1)?;
    process::signal(primary.child.id(), Signal::TERM)?;
    let last = loop {
        let line = primary.line()?;
        if line != "worker [\"run\"]" {
            break line;
        }
    };
    ensure!(last == "Stopped", "{last:?}");
    Ok(())
}

/// The handlers are installed before the start, so there is no gap after it.
#[test]
fn run_installs_its_handlers_before_it_starts_anything() -> Result<()> {
    let primary = Primary::start(Path::new(env!("CARGO_BIN_EXE_e2e-primary")), &["unstartable"])?;
    primary.end("it lives")
}

/// `Builder::run_with` tells of every event until the last one, and takes commands meanwhile.
#[test]
fn run_with_tells_and_obeys() -> Result<()> {
    let primary = Primary::start(Path::new(env!("CARGO_BIN_EXE_e2e-primary")), &["run_with"])?;
    primary.expect("worker [\"run_with\"]", 2)?;
    primary.expect("2 are ready", 1)?;
    primary.expect("told Stopped", 1)?;
    primary.end("Stopped")
}

/// One cluster of a process may reap orphans, one after the other.
#[test]
fn a_second_init_is_refused() -> Result<()> {
    let primary = Primary::start(Path::new(env!("CARGO_BIN_EXE_e2e-primary")), &["init"])?;
    primary.expect("Err(SecondInit)", 1)?;
    primary.end("Ok(Stopped)")
}

/// A worker that does not ask whether it is one is kept from starting workers without end.
#[test]
fn a_worker_does_not_start_itself() -> Result<()> {
    let primary = Primary::start(Path::new(env!("CARGO_BIN_EXE_e2e-primary")), &["bomb"])?;
    primary.expect("Some(IsWorker)", 1)?;
    primary.end("Stopped")
}
