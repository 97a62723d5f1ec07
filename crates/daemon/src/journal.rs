//! What happened, for those who want to hear of it: the last [`KEPT`] events, numbered.
//!
//! Owner: the daemon. Invariants: numbers go up by one; a slow reader costs nobody anything: it finds its place again by
//! number, and is told how many it missed. Must not know: HTTP.

use everup_api::v1::Event;
use everup_keeper::Memory;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// So many events are kept.
pub(crate) const KEPT: usize = 4096;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Journal {
    ring: Mutex<Ring>,
    news: watch::Sender<u64>,
    /// Where a successor finds the next number, and the number of the API's socket, which is kept beside it.
    memory: Mutex<Option<(Memory, RawFd)>>,
}

#[derive(Debug)]
struct Ring {
    /// Of the next event.
    next: u64,
    kept: VecDeque<Kept>,
}

/// An event as it is kept. As text it needs a tenth of the memory, and few are ever read.
#[derive(Debug)]
struct Kept {
    seq: u64,
    json: Box<str>,
}

/// What a reader gets.
#[derive(Debug, PartialEq)]
pub(crate) struct Read {
    /// So many before them are gone.
    pub(crate) skipped: u64,
    pub(crate) events: Vec<Event>,
    /// The number to go on after.
    pub(crate) last: u64,
}

impl Journal {
    /// The first event gets the number `next`.
    pub(crate) fn new(next: u64) -> Self {
        let ring = Ring {
            next,
            kept: VecDeque::new(),
        };
        Self {
            ring: Mutex::new(ring),
            news: watch::Sender::new(next),
            memory: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub(crate) fn tell(&self, event: &str, app: Option<&str>, id: Option<u32>, data: Map<String, Value>) {
        let mut ring = self.lock();
        let seq = ring.next;
        ring.next += 1;
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        let event = Event {
            seq,
            at: crate::view::now(),
            event: event.into(),
            app: app.map(Into::into),
            id,
            data,
        };
        // There is nothing in it that cannot be written.
        let json = serde_json::to_string(&event).unwrap_or_default().into_boxed_str();
        ring.kept.push_back(Kept { seq, json });
        drop(ring);
        self.remember();
        self.news.send_replace(seq);
    }

    /// From now on the next number is written there, too.
    pub(crate) fn keep_in(&self, memory: Memory, socket: RawFd) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some((memory, socket));
        self.remember();
    }

    fn remember(&self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((memory, socket)) = &mut *memory {
            // Numbers may be skipped if there is no room: they never come twice while there is some.
            let blob = crate::adopt::common(*socket, self.lock().next);
            memory.snapshot(&blob).unwrap_or_default();
        }
    }

    /// The number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.lock().next.saturating_sub(1)
    }

    /// At most `most` of the events after this number.
    pub(crate) fn after(&self, seq: u64, most: usize) -> Read {
        let ring = self.lock();
        let oldest = ring.kept.front().map_or(ring.next, |event| event.seq);
        let skipped = oldest.saturating_sub(seq.saturating_add(1));
        let start = usize::try_from(seq.saturating_add(1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        let found: Vec<&Kept> = ring.kept.iter().skip(start).take(most).collect();
        let last = found
            .last()
            .map_or(seq.max(oldest.saturating_sub(1)), |event| event.seq);
        let events = found
            .into_iter()
            .filter_map(|kept| serde_json::from_str(&kept.json).ok())
            .collect();
        Read {
            skipped,
            events,
            last,
        }
    }

    /// Wakes whoever waits for the next one.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(events: u64) -> Journal {
        let journal = Journal::new(1);
        for _ in 0..events {
            journal.tell("start", Some("web"), None, Map::new());
        }
        journal
    }

    fn seqs(read: &Read) -> Vec<u64> {
        read.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn what_was_told_is_read() {
        let journal = Journal::new(7);
        let data: Map<String, Value> = [("pid".into(), 12.into()), ("why".into(), "\"x\"\n".into())]
            .into_iter()
            .collect();
        journal.tell("exit", Some("web"), Some(3), data.clone());
        let events = journal.after(0, 9).events;
        let [event] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!((event.seq, event.event.as_str(), event.id), (7, "exit", Some(3)));
        assert_eq!((event.app.as_deref(), &event.data), (Some("web"), &data));
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let journal = journal(5);
        assert_eq!(journal.last(), 5);
        let read = journal.after(2, 2);
        assert_eq!((seqs(&read), read.skipped, read.last), (vec![3, 4], 0, 4));
        assert_eq!(seqs(&journal.after(4, 10)), [5]);
        let nothing = journal.after(5, 10);
        assert_eq!((nothing.events.len(), nothing.skipped, nothing.last), (0, 0, 5));
        // Of a daemon that was ahead of us: it waits until we are there.
        assert_eq!(journal.after(99, 10).skipped, 0);
    }

    #[test]
    fn what_is_gone_is_counted() {
        let kept = u64::try_from(KEPT).unwrap();
        let journal = journal(kept + 10);
        let read = journal.after(4, 1);
        assert_eq!((read.skipped, seqs(&read)), (6, vec![11]));
        assert_eq!(journal.after(0, usize::MAX).events.len(), KEPT);
    }
}
