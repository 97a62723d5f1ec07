//! When changes have settled: a burst of them is one trigger.
//!
//! Job: collect what changed and say when it is time. Owner: the thread of `watch`. Pure: time is passed in.
//!
//! ```text
//! Quiet ─changed─▶ Burst ─nothing more for the delay, or PATIENCE delays in all─▶ taken ─▶ Quiet
//!                    └─ while busy (a reload runs) nothing is due; it is counted from the end of that
//! ```
//!
//! An app that writes where we watch would reload for ever. A burst that began during a reload or within [`ECHO`] of
//! its end is taken for such an echo, and each echo in a row doubles the delay, up to [`LONGEST`].
//!
//! Invariants: nothing is due while busy; at most one burst at a time; it holds at most [`MOST`] names.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Changes so soon after a reload may be its own doing.
const ECHO: Duration = Duration::from_secs(2);
/// The delay after many echoes.
const LONGEST: Duration = Duration::from_secs(60);
/// What a delay of an echo is at least.
const SHORTEST: Duration = Duration::from_millis(100);
/// A burst without an end is taken after so many delays.
const PATIENCE: u32 = 10;
/// So many files are named.
const NAMED: usize = 5;
/// So many files are told apart.
const MOST: usize = 10_000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Settle {
    delay: Duration,
    /// What the delay of an echo is at most.
    pub(super) longest: Duration,
    burst: Option<Burst>,
    busy: bool,
    /// When the last reload ended.
    ended: Option<Instant>,
    /// How many bursts in a row were echoes.
    echoes: u32,
}

#[derive(Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    echo: bool,
    /// In the order in which they changed first.
    named: Vec<PathBuf>,
    all: HashSet<PathBuf>,
}

/// What changed: some by name, and how many others (up to [`MOST`]).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) files: Vec<PathBuf>,
    pub(super) more: usize,
}

impl Settle {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            delay,
            longest: LONGEST,
            burst: None,
            busy: false,
            ended: None,
            echoes: 0,
        }
    }

    /// A file changed.
    pub(super) fn changed(&mut self, now: Instant, file: PathBuf) {
        let echo = self.busy || self.ended.is_some_and(|end| now.duration_since(end) < ECHO);
        let burst = self.burst.get_or_insert_with(|| Burst {
            first: now,
            last: now,
            echo,
            named: Vec::new(),
            all: HashSet::new(),
        });
        if burst.echo && !echo {
            // From here on it is somebody else's.
            burst.first = now;
        }
        burst.last = now;
        burst.echo &= echo;
        burst.add(file);
    }

    /// Whether a reload runs.
    pub(super) fn busy(&mut self, now: Instant, busy: bool) {
        if self.busy && !busy {
            self.ended = Some(now);
            if let Some(burst) = &mut self.burst {
                (burst.first, burst.last) = (now, now);
            }
        }
        self.busy = busy;
    }

    /// When there is something to take, if nothing happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        let burst = self.burst.as_ref().filter(|_| !self.busy)?;
        let delay = if burst.echo { self.echo_delay() } else { self.delay };
        Some((burst.last + delay).min(burst.first + delay * PATIENCE))
    }

    /// What changed, when it is time.
    pub(super) fn take(&mut self, now: Instant) -> Option<Changes> {
        self.due().filter(|due| *due <= now)?;
        let burst = self.burst.take()?;
        self.echoes = if burst.echo { self.echoes + 1 } else { 0 };
        let more = burst.all.len() - burst.named.len();
        Some(Changes {
            files: burst.named,
            more,
        })
    }

    fn echo_delay(&self) -> Duration {
        if self.echoes == 0 {
            return self.delay;
        }
        let doubled = self.delay.max(SHORTEST) * 2_u32.pow(self.echoes.min(16));
        doubled.min(self.longest.max(self.delay))
    }
}

impl Burst {
    fn add(&mut self, file: PathBuf) {
        if self.all.len() >= MOST || self.all.contains(&file) {
            return;
        }
        if self.named.len() < NAMED {
            self.named.push(file.clone());
        }
        self.all.insert(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(200);

    fn settle() -> (Settle, Instant) {
        (Settle::new(DELAY), Instant::now())
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn files(changes: Option<Changes>) -> Vec<PathBuf> {
        changes.unwrap().files
    }

    #[test]
    fn a_burst_is_one() {
        let (mut settle, start) = settle();
        assert_eq!(settle.due(), None);
        for index in 0..1000 {
            settle.changed(start + ms(index / 2), format!("{}", index % 300).into());
        }
        let last = start + ms(499);
        assert_eq!(settle.due(), Some(last + DELAY));
        assert_eq!(settle.take(last + ms(199)), None);
        let changes = settle.take(last + DELAY).unwrap();
        assert_eq!((changes.files.len(), changes.more), (5, 295));
        assert_eq!(changes.files[0], PathBuf::from("0"));
        assert_eq!((settle.due(), settle.take(last + ms(9999))), (None, None));
    }

    #[test]
    fn a_burst_without_an_end_is_taken() {
        let (mut settle, start) = settle();
        let mut taken = None;
        for step in 0..100 {
            let now = start + ms(step * 100);
            settle.changed(now, "a".into());
            taken = taken.or(settle.take(now).map(|_| step));
        }
        assert_eq!(taken, Some(20));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut settle, start) = settle();
        for index in 0..MOST * 2 {
            settle.changed(start, format!("{index}").into());
        }
        let changes = settle.take(start + DELAY).unwrap();
        assert_eq!(changes.files.len() + changes.more, MOST);
    }

    #[test]
    fn nothing_is_due_during_a_reload_and_once_after_it() {
        let (mut settle, start) = settle();
        settle.busy(start, true);
        settle.changed(start + ms(10), "a".into());
        settle.changed(start + ms(900), "b".into());
        assert_eq!((settle.due(), settle.take(start + ms(5000))), (None, None));
        settle.busy(start + ms(5000), false);
        assert_eq!(settle.due(), Some(start + ms(5200)));
        let taken = files(settle.take(start + ms(5200)));
        assert_eq!(taken, [PathBuf::from("a"), PathBuf::from("b")]);
    }

    #[test]
    fn an_app_that_changes_its_own_files_reloads_ever_slower() {
        let (mut settle, mut now) = settle();
        let mut waits = Vec::new();
        settle.changed(now, "by hand".into());
        for _ in 0..12 {
            let due = settle.due().unwrap();
            waits.push(due.duration_since(now).as_millis());
            settle.take(due).unwrap();
            settle.busy(due, true);
            settle.busy(due + ms(50), false);
            now = due + ms(60);
            settle.changed(now, "by the app".into());
        }
        assert_eq!(
            waits,
            [
                200, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        // Somebody else's change is as fast as ever.
        let due = settle.due().unwrap();
        settle.changed(now + ECHO, "by hand".into());
        assert!(settle.due().unwrap() < due);
        assert_eq!(settle.due(), Some(now + ECHO + DELAY));
        settle.take(now + ECHO + DELAY).unwrap();
        assert_eq!(settle.echoes, 0);
    }

    #[test]
    fn without_a_delay_it_is_due_at_once() {
        let mut settle = Settle::new(Duration::ZERO);
        let now = Instant::now();
        settle.changed(now, "a".into());
        assert_eq!(files(settle.take(now)), [PathBuf::from("a")]);
    }
}
