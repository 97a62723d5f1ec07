//! Processes, seen from outside through `/proc`.

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use std::fs;
use std::time::Duration;

/// Whether a process is there and not a zombie.
#[must_use]
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The letter of `/proc/PID/stat`.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The CPU time of all threads that a process has now, to the nanosecond.
///
/// # Errors
/// When the process is gone.
pub fn cpu(pid: u32) -> Result<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))? {
        // A thread may end between the listing and the look.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        total += line
            .split(' ')
            .next()
            .unwrap_or_default()
            .parse::<u64>()
            .context("schedstat")?;
    }
    Ok(Duration::from_nanos(total))
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub rss: u64,
    /// The most that was ever resident.
    pub peak: u64,
    /// Its private pages and its share of the shared ones.
    pub pss: u64,
}

/// How much memory a process has.
///
/// # Errors
/// When the process is gone.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("status")?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("smaps_rollup")?;
    let field = |text: &str, name: &str| -> Result<u64> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    };
    Ok(Memory {
        rss: field(&status, "VmRSS:")?,
        peak: field(&status, "VmHWM:")?,
        pss: field(&rollup, "Pss:")?,
    })
}

/// How many descriptors a process has open.
///
/// # Errors
/// When the process is gone.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))
        .with_context(|| format!("process {pid}"))?
        .count())
}

/// The children of a process, zombies included.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Sends a signal to a process that the caller knows to be there.
///
/// # Errors
/// When it is gone.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    rustix::process::kill_process(number(pid)?, signal).with_context(|| format!("signal process {pid}"))
}

/// Sets how many descriptors a process may have (its soft limit).
///
/// # Errors
/// When it is gone.
pub fn limit_descriptors(pid: u32, most: u64) -> Result<()> {
    let old = rustix::process::prlimit(
        Some(number(pid)?),
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            maximum: None,
        },
    );
    match old {
        Ok(_) => Ok(()),
        // Without privileges the hard limit may not be raised to infinity: keep it.
        Err(_) => {
            let keep = rustix::process::getrlimit(Resource::Nofile).maximum;
            let limit = Rlimit {
                current: Some(most),
                maximum: keep,
            };
            rustix::process::prlimit(Some(number(pid)?), Resource::Nofile, limit)
                .map(drop)
                .context("prlimit")
        }
    }
}

/// Lets a process have no descriptor beyond those that it has.
///
/// # Errors
/// When it is gone.
pub fn starve(pid: u32) -> Result<()> {
    let mut taken: Vec<u64> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).with_context(|| format!("process {pid}"))? {
        taken.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok()),
        );
    }
    let free = (0..).find(|number| !taken.contains(number)).unwrap_or_default();
    limit_descriptors(pid, free)
}

/// Every process whose environment holds `NAME=value`, zombies not included (they have no environment any more).
#[must_use]
pub fn with_environment(variable: &str) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|&byte| byte == 0).any(|one| one == variable.as_bytes()))
    })
    .collect()
}

fn number(pid: u32) -> Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .with_context(|| format!("{pid} is no process id"))
}
