//! The stream of a cluster's events.

use crate::driver::Told;
use crate::event::Event;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::Receiver;

/// The events of a cluster, in order. Bounded: see [`Event::Skipped`].
#[derive(Debug)]
pub struct Events {
    events: Receiver<Told>,
    /// Bytes of messages in the queue.
    queued: Arc<AtomicUsize>,
    /// When the last one that was taken out happened.
    at: SystemTime,
}

impl Events {
    pub(crate) fn new(events: Receiver<Told>, queued: Arc<AtomicUsize>) -> Self {
        let at = SystemTime::now();
        Self { events, queued, at }
    }

    /// When the event that was received last happened, by the clock of the system; before the first one, when the
    /// cluster was started. For [`Event::Skipped`] it is when there was room again.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// [`recv`](Self::recv), with the time.
    pub async fn recv_at(&mut self) -> Option<(SystemTime, Event)> {
        let event = self.recv().await?;
        Some((self.at, event))
    }

    /// The next event; `None` after [`Event::Stopped`]. Works in any async runtime; cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        let told = self.events.recv().await;
        Some(self.taken(told?))
    }

    /// The next event, waiting for it in this thread; `None` after [`Event::Stopped`].
    pub fn recv_blocking(&mut self) -> Option<Event> {
        let told = self.events.blocking_recv();
        Some(self.taken(told?))
    }

    fn taken(&mut self, told: Told) -> Event {
        self.queued.fetch_sub(told.event.weight(), Ordering::Relaxed);
        self.at = told.at;
        told.event
    }

    /// The next event if it comes within `limit`. A limit that no clock reaches is none.
    ///
    /// # Errors
    /// [`TimedOut`] at the limit.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<Option<Event>, TimedOut> {
        let deadline = Instant::now().checked_add(limit);
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut next = pin!(self.recv());
        loop {
            if let Poll::Ready(event) = next.as_mut().poll(&mut context) {
                return Ok(event);
            }
            let Some(deadline) = deadline else {
                std::thread::park();
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TimedOut);
            }
            std::thread::park_timeout(left);
        }
    }
}

/// Nothing happened within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing happened within the limit")]
pub struct TimedOut;

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
