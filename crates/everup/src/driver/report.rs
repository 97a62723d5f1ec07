//! Telling the owner what happens, without ever waiting for it.
//!
//! The queue is bounded by [`QUEUE`] events and [`QUEUE_BYTES`] of messages. When its reader is slower than that, events are counted instead, and
//! the count stands where they are missing ([`Event::Skipped`]).

use crate::cluster::{Commander, Events};
use crate::event::{Address, Event, Outcome, ReceivedHandle};
use crate::history::History;
use crate::roster::{End, Roster};
use everup_core::app::Notice;
use everup_core::exit::ExitStatus;
use everup_core::id::{Slot, WorkerId};
use everup_core::wire::HandleKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{OwnedPermit, Sender, channel};

/// How many events wait for their reader.
const QUEUE: usize = 16 * 1024;
/// How many bytes of messages wait for their reader.
const QUEUE_BYTES: usize = 256 * 1024 * 1024;

/// An event on its way to its reader.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) at: SystemTime,
    pub(crate) event: Event,
}

impl Told {
    fn now(event: Event) -> Self {
        let at = SystemTime::now();
        Self { at, event }
    }
}

/// The engine's side of the event queue.
#[derive(Debug)]
pub(crate) struct Reporter {
    events: Sender<Told>,
    /// Bytes of messages in the queue; the reader takes off what it takes out.
    queued: Arc<AtomicUsize>,
    skipped: u64,
    /// Places in the queue for the count of what is missing, and for the end.
    last: [Option<OwnedPermit<Told>>; 2],
    commander: Commander,
    history: Arc<History>,
    roster: Arc<Roster>,
}

/// A queue for events, and its reader.
pub(crate) fn reporter(
    commander: Commander,
    history: Arc<History>,
    roster: Arc<Roster>,
) -> (Reporter, Events) {
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
        roster,
    };
    (reporter, Events::new(receiver, queued))
}

impl Reporter {
    pub(super) fn commander(&self) -> Commander {
        self.commander.clone()
    }

    pub(super) fn bound(&mut self, name: Option<String>, address: Address) {
        self.send(Event::Bound { name, address });
    }

    pub(super) fn error(&mut self, worker: Option<WorkerId>, what: String) {
        self.send(Event::error(
            worker,
            worker.and_then(|id| self.roster.place(id)),
            what,
        ));
    }

    pub(super) fn handle(
        &mut self,
        worker: WorkerId,
        kind: HandleKind,
        message: String,
        descriptor: ReceivedHandle,
    ) {
        let (slot, pid) = self.place(worker);
        self.send(Event::Handle {
            worker,
            slot,
            pid,
            kind,
            message,
            descriptor,
        });
    }

    pub(super) fn opaque(&mut self, worker: WorkerId, payload: Vec<u8>) {
        let (slot, pid) = self.place(worker);
        self.send(Event::Opaque {
            worker,
            slot,
            pid,
            payload,
        });
    }

    /// Tells a notice. `oom`: the kernel has killed somebody for want of memory since the last time.
    pub(super) fn notice(&mut self, notice: Notice, oom: bool) {
        let event = self.event(notice, oom);
        if let Event::Exit {
            worker,
            status,
            voluntary,
            ..
        } = event
        {
            self.roster.ended(worker, End { status, voluntary });
        }
        if let Event::SpawnFailed { worker, .. } = event {
            let status = ExitStatus::Unknown;
            self.roster.ended(
                worker,
                End {
                    status,
                    voluntary: false,
                },
            );
        }
        self.send(event);
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Where a worker is that has not ended: nobody else is spoken of.
    fn place(&self, worker: WorkerId) -> (Slot, u32) {
        let place = self.roster.place(worker);
        debug_assert!(place.is_some(), "worker {worker} is not in the roster");
        place.unwrap_or((Slot(0), 0))
    }

    /// The end: told in any case, and without waiting.
    pub(super) fn stopped(&mut self, outcome: Outcome) {
        self.roster.close();
        self.history.end(matches!(outcome, Outcome::Failed { .. }));
        let [count, end] = std::mem::take(&mut self.last);
        if let Some(permit) = count.filter(|_| self.skipped > 0) {
            permit.send(Told::now(Event::Skipped { events: self.skipped }));
        }
        if let Some(permit) = end {
            permit.send(Told::now(Event::Stopped { outcome }));
        }
    }

    fn send(&mut self, event: Event) {
        self.history.note(&event);
        let skipped = || Told::now(Event::Skipped { events: self.skipped });
        if self.skipped > 0 && self.events.try_send(skipped()).is_ok() {
            self.skipped = 0;
        }
        let weight = event.weight();
        let before = self.queued.fetch_add(weight, Ordering::Relaxed);
        let told = Told::now(event);
        // One message alone may always go, whatever its size: the channel's own limit bounds it.
        let result = match weight > 0 && before > 0 && before.saturating_add(weight) > QUEUE_BYTES {
            true => Err(TrySendError::Full(told)),
            false => self.events.try_send(told),
        };
        if let Err(error) = result {
            self.queued.fetch_sub(weight, Ordering::Relaxed);
            // Nobody listens: that is the owner's choice, and nothing is missing.
            self.skipped += u64::from(matches!(error, TrySendError::Full(_)));
        }
    }

    /// A notice as an event.
    #[expect(clippy::too_many_lines, reason = "one arm per notice")]
    fn event(&self, notice: Notice, oom: bool) -> Event {
        let place = |worker| self.place(worker);
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
            Notice::Online { worker } => {
                let (slot, pid) = place(worker);
                Event::Online { worker, slot, pid }
            }
            Notice::Listening { worker, address } => {
                let (slot, pid) = place(worker);
                Event::Listening {
                    worker,
                    slot,
                    pid,
                    address,
                }
            }
            Notice::Ready { worker, basis, after } => {
                let (slot, pid) = place(worker);
                Event::Ready {
                    worker,
                    slot,
                    pid,
                    basis,
                    after,
                }
            }
            Notice::AllReady { workers } => Event::AllReady { workers },
            Notice::Disconnect { worker } => {
                let (slot, pid) = place(worker);
                Event::Disconnect { worker, slot, pid }
            }
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
            Notice::Message { worker, message } => {
                let (slot, pid) = place(worker);
                let message = String::from(Box::<str>::from(message));
                Event::Message {
                    worker,
                    slot,
                    pid,
                    message,
                }
            }
            Notice::BindFailed {
                worker,
                address,
                errno,
            } => {
                let (slot, pid) = place(worker);
                Event::BindFailed {
                    worker,
                    slot,
                    pid,
                    address,
                    errno,
                }
            }
            Notice::Error { worker, what } => {
                let place = worker.and_then(|id| self.roster.place(id));
                Event::error(worker, place, what)
            }
            Notice::Replacing { worker, slot, cause } => {
                let (_, pid) = place(worker);
                Event::Replacing {
                    worker,
                    slot,
                    pid,
                    cause,
                }
            }
            Notice::Promoted { worker, slot } => {
                let (_, pid) = place(worker);
                Event::Promoted { worker, slot, pid }
            }
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
}
