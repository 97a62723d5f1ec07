//! Measuring how much memory each worker's process tree uses, in a thread of its own.
//!
//! A process alone is measured by its resident set. In a tree, where pages are shared, each counts with its proportional
//! share (PSS), which the kernel adds up from all mappings; that is slow for large processes, and so this is no work
//! for the engine's thread. Every [`INTERVAL`], and more often when somebody has come near the limit.

use everup_core::id::WorkerId;
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same when somebody uses more than three quarters of the limit.
const CLOSE_INTERVAL: Duration = Duration::from_millis(100);

/// Who is to be measured; `None` as the pid: no longer.
type Order = (WorkerId, Option<u32>);

/// The thread's handle. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    orders: Sender<Order>,
}

impl Meter {
    /// `tell` gets each measurement in bytes.
    pub(crate) fn start(limit: u64, tell: impl Fn(WorkerId, u64) + Send + 'static) -> io::Result<Self> {
        let (orders, received) = channel();
        std::thread::Builder::new()
            .name("everup-meter".into())
            .spawn(move || run(limit, &received, tell))?;
        Ok(Self { orders })
    }

    pub(crate) fn watch(&self, worker: WorkerId, pid: u32) {
        // The thread ends only after us.
        self.orders.send((worker, Some(pid))).ok();
    }

    pub(crate) fn forget(&self, worker: WorkerId) {
        self.orders.send((worker, None)).ok();
    }
}

fn run(limit: u64, orders: &Receiver<Order>, tell: impl Fn(WorkerId, u64)) {
    let mut watched: BTreeMap<WorkerId, u32> = BTreeMap::new();
    let mut next = Instant::now() + INTERVAL;
    loop {
        // Until that time, however many workers come and go meanwhile.
        match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok((worker, Some(pid))) => {
                watched.insert(worker, pid);
                continue;
            }
            Ok((worker, None)) => {
                watched.remove(&worker);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut wait = INTERVAL;
        for (&worker, &pid) in &watched {
            let Some(bytes) = tree(pid) else { continue };
            if bytes > limit / 4 * 3 {
                wait = CLOSE_INTERVAL;
            }
            tell(worker, bytes);
        }
        next = Instant::now() + wait;
    }
}

/// What a process and its descendants use, in bytes; `None` when it is gone.
pub(crate) fn tree(pid: u32) -> Option<u64> {
    let below = children(pid);
    if below.is_empty() {
        return resident(pid);
    }
    let own = proportional(pid).or_else(|| resident(pid))?;
    let mut all = own;
    let mut next = below;
    let mut seen = 0;
    while let Some(pid) = next.pop() {
        all += proportional(pid).or_else(|| resident(pid)).unwrap_or(0);
        next.extend(children(pid));
        seen += 1;
        if seen > MOST {
            break;
        }
    }
    Some(all)
}

/// A tree with more processes is not measured to its end.
const MOST: usize = 4096;

fn children(pid: u32) -> Vec<u32> {
    crate::process::children(&pid.to_string())
}

/// `man 5 proc_pid_statm`: the second field is the resident set, in pages.
fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn proportional(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_come_and_go_do_not_keep_it_from_measuring() {
        let (told, heard) = channel();
        let meter = Meter::start(u64::MAX, move |worker, _| {
            told.send(worker).ok();
        })
        .unwrap();
        meter.watch(WorkerId(1), std::process::id());
        let end = Instant::now() + Duration::from_secs(20);
        while heard.recv_timeout(Duration::from_millis(50)).is_err() {
            meter.watch(WorkerId(2), u32::MAX);
            meter.forget(WorkerId(2));
            assert!(Instant::now() < end, "nothing is measured");
        }
    }

    #[test]
    fn this_process_uses_something_and_a_child_adds_to_it() {
        let own = tree(std::process::id()).unwrap();
        assert!((1 << 20..1 << 34).contains(&own), "{own}");
        assert_eq!(tree(u32::MAX), None);
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & read x"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while children(shell.id()).is_empty() && Instant::now() < end {
            std::thread::yield_now();
        }
        let sleeper = children(shell.id())[0];
        assert!(tree(shell.id()).unwrap() >= proportional(shell.id()).unwrap());
        let sleeper = rustix::process::Pid::from_raw(i32::try_from(sleeper).unwrap()).unwrap();
        rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).unwrap();
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
