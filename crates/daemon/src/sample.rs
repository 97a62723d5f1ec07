//! How much CPU time and memory workers use: once a second, as long as somebody looks.
//!
//! Owner: one task. `/proc/PID/stat` stays open for each worker, so that a sample is one `pread`. Nobody has looked for
//! [`WATCHED`]: nothing is read, and the files are closed.

use crate::daemon::{Daemon, Ending};
use crate::proc;
use rustix::param::{clock_ticks_per_second, page_size};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// So long after somebody has looked, it is still worth it.
const WATCHED: Duration = Duration::from_secs(60);
/// A sample that is older is taken once more for whoever looks.
const FRESH: Duration = Duration::from_millis(1500);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    looked: Option<Instant>,
    taken: Option<Instant>,
    workers: BTreeMap<u32, Worker>,
}

#[derive(Debug)]
struct Worker {
    stat: File,
    last: Option<(Instant, u64)>,
    usage: Usage,
}

/// What a worker uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Resident memory, in bytes.
    pub(crate) memory: Option<u64>,
    /// In percent of one CPU, between the last two samples.
    pub(crate) cpu: Option<f64>,
}

impl Samples {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody looks at these processes: a sample is taken if the last one is old.
    pub(crate) fn look(&self, pids: impl Iterator<Item = u32>) {
        let mut inner = self.lock();
        let now = Instant::now();
        inner.looked = Some(now);
        if inner.taken.is_none_or(|taken| now.duration_since(taken) > FRESH) {
            inner.sample(pids, now);
        }
    }

    /// What a process uses.
    pub(crate) fn of(&self, pid: u32) -> Usage {
        let mut inner = self.lock();
        let now = Instant::now();
        let worker = inner.worker(pid);
        let Some(worker) = worker else {
            return Usage::default();
        };
        if worker.last.is_none() {
            worker.read(now);
        }
        worker.usage
    }

    fn tick(&self, daemon: &Daemon) {
        let mut inner = self.lock();
        let now = Instant::now();
        if inner
            .looked
            .is_none_or(|looked| now.duration_since(looked) > WATCHED)
        {
            inner.workers.clear();
            return;
        }
        let pids: Vec<u32> = daemon
            .apps()
            .iter()
            .flat_map(|app| {
                app.kept()
                    .record
                    .lives
                    .values()
                    .map(|life| life.pid)
                    .collect::<Vec<_>>()
            })
            .collect();
        inner.sample(pids.into_iter(), now);
    }
}

impl Inner {
    fn worker(&mut self, pid: u32) -> Option<&mut Worker> {
        use std::collections::btree_map::Entry;
        match self.workers.entry(pid) {
            Entry::Occupied(there) => Some(there.into_mut()),
            Entry::Vacant(place) => {
                let stat = File::open(format!("/proc/{pid}/stat")).ok()?;
                Some(place.insert(Worker {
                    stat,
                    last: None,
                    usage: Usage::default(),
                }))
            }
        }
    }

    fn sample(&mut self, pids: impl Iterator<Item = u32>, now: Instant) {
        let mut gone: Vec<u32> = self.workers.keys().copied().collect();
        for pid in pids {
            gone.retain(|known| *known != pid);
            let read = self.worker(pid).is_some_and(|worker| worker.read(now));
            if !read {
                self.workers.remove(&pid);
            }
        }
        for pid in gone {
            self.workers.remove(&pid);
        }
        self.taken = Some(now);
    }
}

impl Worker {
    /// False when it is gone.
    fn read(&mut self, now: Instant) -> bool {
        let mut buffer = [0; 1024];
        let Ok(length) = self.stat.read_at(&mut buffer, 0) else {
            return false;
        };
        let Some((ticks, pages)) = parse(&buffer[..length]) else {
            return false;
        };
        self.usage.memory = Some(pages.saturating_mul(u64::try_from(page_size()).unwrap_or(4096)));
        if let Some((then, before)) = self.last {
            self.usage.cpu = percent(ticks.saturating_sub(before), now.duration_since(then));
        }
        self.last = Some((now, ticks));
        true
    }
}

/// CPU time in ticks, and resident pages.
fn parse(stat: &[u8]) -> Option<(u64, u64)> {
    let mut fields = proc::fields(stat)?;
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let pages: u64 = fields.nth(8)?.parse().ok()?;
    Some((user + system, pages))
}

/// To a tenth.
fn percent(ticks: u64, elapsed: Duration) -> Option<f64> {
    let elapsed = elapsed.as_millis();
    if elapsed < 50 {
        return None;
    }
    let tenths = u128::from(ticks) * 1_000_000 / u128::from(clock_ticks_per_second()) / elapsed;
    Some(f64::from(u32::try_from(tenths).ok()?) / 10.0)
}

/// Samples for as long as the daemon lives.
pub(crate) async fn sample(daemon: Arc<Daemon>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => daemon.samples.tick(&daemon),
            () = daemon.ended(Ending::Over) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_line() {
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 11 22 0 0 20 0 1 0 500 1000000 77 18446744073709551615 1";
        assert_eq!(parse(stat), Some((33, 77)));
        assert_eq!(parse(b"7 (a"), None);
    }

    #[test]
    fn shares_of_time() {
        let ticks = clock_ticks_per_second();
        assert_eq!(percent(ticks, Duration::from_secs(1)), Some(100.0));
        assert_eq!(percent(ticks / 4, Duration::from_secs(2)), Some(12.5));
        assert_eq!(percent(5, Duration::from_millis(1)), None);
    }

    #[test]
    fn ourselves() {
        let samples = Samples::default();
        samples.look([std::process::id()].into_iter());
        assert!(samples.of(std::process::id()).memory.unwrap() > 100_000);
        assert_eq!(samples.of(u32::MAX), Usage::default());
    }
}
