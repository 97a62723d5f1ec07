//! Telling the owner what happens, without ever waiting for it.
//!
//! The queue is bounded by [`QUEUE`] events and [`QUEUE_BYTES`] of messages. When its reader is slower than that, events are counted instead, and
//! the count stands where they are missing ([`Event::Skipped`]).

use crate::cluster::Commander;
use crate::event::{Address, Event, Outcome, ReceivedHandle};
use crate::history::History;
use everup_core::app::Notice;
use everup_core::id::WorkerId;
use everup_core::wire::HandleKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, channel};

/// How many events wait for their reader.
const QUEUE: usize = 16 * 1024;
/// How many bytes of messages wait for their reader.
const QUEUE_BYTES: usize = 256 * 1024 * 1024;

/// The engine's side of the event queue.
#[derive(Debug)]
pub(crate) struct Reporter {
    events: Sender<Event>,
    /// Bytes of messages in the queue; the reader takes off what it takes out.
    queued: Arc<AtomicUsize>,
    skipped: u64,
    /// Places in the queue for the count of what is missing, and for the end.
    last: [Option<OwnedPermit<Event>>; 2],
    commander: Commander,
    history: Arc<History>,
}

/// A queue for events, and its reader.
pub(crate) fn reporter(
    commander: Commander,
    history: Arc<History>,
) -> (Reporter, Receiver<Event>, Arc<AtomicUsize>) {
    // Two places more, kept for the end, so that the engine never waits for a reader.
    let (events, receiver) = channel(QUEUE + 2);
    let last = [
        events.clone().try_reserve_owned().ok(),
        events.clone().try_reserve_owned().ok(),
    ];
    let queued = Arc::new(AtomicUsize::new(0));
    let reporter = Reporter {
        events,
        queued: Arc::clone(&queued),
        skipped: 0,
        last,
        commander,
        history,
    };
    (reporter, receiver, queued)
}

impl Reporter {
    pub(super) fn commander(&self) -> Commander {
        self.commander.clone()
    }

    pub(super) fn bound(&mut self, name: Option<String>, address: Address) {
        self.send(Event::Bound { name, address });
    }

    pub(super) fn error(&mut self, worker: Option<WorkerId>, what: String) {
        self.send(Event::Error { worker, what });
    }

    pub(super) fn handle(
        &mut self,
        worker: WorkerId,
        kind: HandleKind,
        message: String,
        descriptor: ReceivedHandle,
    ) {
        self.send(Event::Handle {
            worker,
            kind,
            message,
            descriptor,
        });
    }

    pub(super) fn opaque(&mut self, worker: WorkerId, payload: Vec<u8>) {
        self.send(Event::Opaque { worker, payload });
    }

    pub(super) fn event(&mut self, event: Event) {
        self.send(event);
    }

    /// The end: told in any case, and without waiting.
    pub(super) fn stopped(&mut self, outcome: Outcome) {
        self.history.end(matches!(outcome, Outcome::Failed { .. }));
        let [count, end] = std::mem::take(&mut self.last);
        if let Some(permit) = count.filter(|_| self.skipped > 0) {
            permit.send(Event::Skipped { events: self.skipped });
        }
        if let Some(permit) = end {
            permit.send(Event::Stopped { outcome });
        }
    }

    fn send(&mut self, event: Event) {
        self.history.note(&event);
        if self.skipped > 0
            && self
                .events
                .try_send(Event::Skipped { events: self.skipped })
                .is_ok()
        {
            self.skipped = 0;
        }
        let weight = event.weight();
        let before = self.queued.fetch_add(weight, Ordering::Relaxed);
        // One message alone may always go, whatever its size: the channel's own limit bounds it.
        let result = match weight > 0 && before > 0 && before.saturating_add(weight) > QUEUE_BYTES {
            true => Err(TrySendError::Full(event)),
            false => self.events.try_send(event),
        };
        if let Err(error) = result {
            self.queued.fetch_sub(weight, Ordering::Relaxed);
            // Nobody listens: that is the owner's choice, and nothing is missing.
            self.skipped += u64::from(matches!(error, TrySendError::Full(_)));
        }
    }
}

/// A notice as an event. `oom`: the kernel has killed somebody for want of memory since the last time.
pub(super) fn event(notice: Notice, oom: bool) -> Event {
    match notice {
        Notice::Fork {
            worker,
            slot,
            pid,
            generation,
        } => Event::Fork {
            worker,
            slot,
            pid,
            generation,
        },
        Notice::SpawnFailed { worker, slot, why } => Event::SpawnFailed { worker, slot, why },
        Notice::Online { worker } => Event::Online { worker },
        Notice::Listening { worker, address } => Event::Listening { worker, address },
        Notice::Ready { worker, basis, after } => Event::Ready { worker, basis, after },
        Notice::AllReady { workers } => Event::AllReady { workers },
        Notice::Disconnect { worker } => Event::Disconnect { worker },
        Notice::Exit {
            worker,
            slot,
            pid,
            generation,
            status,
            reason,
            forced,
            voluntary,
            uptime,
        } => Event::Exit {
            worker,
            slot,
            pid,
            generation,
            status,
            reason,
            forced,
            oom,
            voluntary,
            uptime,
        },
        Notice::Respawn { slot, delay, death } => Event::Respawn { slot, delay, death },
        Notice::Message { worker, message } => Event::Message {
            worker,
            message: String::from(Box::<str>::from(message)),
        },
        Notice::BindFailed {
            worker,
            address,
            errno,
        } => Event::BindFailed {
            worker,
            address,
            errno,
        },
        Notice::Error { worker, what } => Event::Error { worker, what },
        Notice::Replacing { worker, slot, cause } => Event::Replacing { worker, slot, cause },
        Notice::Promoted { worker, slot } => Event::Promoted { worker, slot },
        Notice::Storm { status, probe } => Event::Storm { status, probe },
        Notice::Calm => Event::Calm,
        Notice::Scaled { from, to } => Event::Scaled { from, to },
        Notice::Reloading {
            generation,
            cause,
            phase,
            done,
            total,
        } => Event::Reloading {
            generation,
            cause,
            phase,
            done,
            total,
        },
        Notice::Reloaded(receipt) => Event::Reloaded(receipt),
        Notice::Overlap => Event::Overlap,
        Notice::Finished { slot } => Event::Finished { slot },
        Notice::Stopping => Event::Stopping,
    }
}
