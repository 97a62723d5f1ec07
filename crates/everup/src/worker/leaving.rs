//! How a worker leaves: it takes what is there already, then the app is told.
//!
//! ```text
//! serving ──asked, a signal, on its own──▶ leaving ──nothing waits, or LAST is over──▶ draining
//! ```
//!
//! A connection may have been handed over an instant before, or lie in the kernel's queue, or be with the app, which has
//! not read from it yet: a server that is told to end now would turn its client away (hyper closes such a connection
//! without a word). So before the app is told, connections that wait are taken, sockets are emptied and each connection is
//! read from once; at most for [`LAST`], because an app that takes nothing, or a client that says nothing, is not to hold
//! this up. What is left then goes to other workers.
//!
//! Must not know: who waits for the drain, and what the primary makes of it.

use super::drain::DrainReason;
use super::link::{Link, State};
use std::time::{Duration, Instant};

/// How long the beginning of a drain is put off at most.
pub(super) const LAST: Duration = Duration::from_millis(250);

/// A drain that is about to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    until: Instant,
    reason: DrainReason,
}

impl Link {
    /// Begins to leave; nothing new is handed over from now on. When to [look again](Self::look_whether_to_drain), unless
    /// the reader does.
    pub(super) fn leave(&self, reason: DrainReason) -> Option<Instant> {
        let mut state = self.lock();
        state.child.close_all();
        self.begin_to_leave(&mut state, reason, LAST);
        self.flush(&mut state);
        self.wake_reader();
        state.leaving.map(|leaving| leaving.until)
    }

    /// Begins to leave, and tells the primary first that it is on purpose: the app may end as soon as it hears of it.
    pub(super) fn leave_on_purpose(&self) {
        let mut state = self.lock();
        if !state.gone && !state.child.leave() {
            state.let_go = true;
        }
        self.flush(&mut state);
        // Without a channel nobody would look when the time is over.
        let last = if state.gone { Duration::ZERO } else { LAST };
        self.begin_to_leave(&mut state, DrainReason::Worker, last);
        self.wake_reader();
    }

    pub(super) fn begin_to_leave(&self, state: &mut State, reason: DrainReason, last: Duration) {
        if state.leaving.is_none() && self.drain.reason().is_none() {
            let until = Instant::now() + last;
            state.leaving = Some(Leaving { until, reason });
            self.drain_if_settled(state);
        }
    }

    /// When the drain is to begin at the latest.
    pub(super) fn leaving_until(&self) -> Option<Instant> {
        self.lock().leaving.map(|leaving| leaving.until)
    }

    /// The time may be over.
    pub(super) fn look_whether_to_drain(&self) {
        let mut state = self.lock();
        self.drain_if_settled(&mut state);
        self.flush(&mut state);
    }

    pub(super) fn drain_if_settled(&self, state: &mut State) {
        let Some(leaving) = state.leaving else { return };
        if state.is_settled() || leaving.until <= Instant::now() {
            state.leaving = None;
            state.close_servers();
            self.drain.begin(leaving.reason);
        }
    }

    /// Whether an everup primary may hold copies of our connections, so that only their end in the worker is to be said.
    #[cfg(feature = "tokio")]
    pub(super) fn copies_are_held(&self) -> bool {
        self.reports && self.drain.reason() == Some(DrainReason::Primary)
    }

    pub(super) fn is_quiet(&self) -> bool {
        *self.accepting_lock()
    }

    /// Nothing is accepted from sockets any more, also by those who are about to.
    pub(super) fn become_quiet(&self, state: &mut State) {
        *self.accepting_lock() = true;
        state.child.quiet();
    }

    /// Accepts from a socket of our own, which must not wait: `Ok(None)` if there is nothing, or we accept no more.
    pub(super) fn accept<T, E>(&self, accept: impl FnOnce() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
        let accepted = {
            // Of its own, so that the channel is heard even if somebody has made the socket a blocking one.
            let quiet = self.accepting_lock();
            if *quiet { None } else { accept()? }
        };
        let mut state = self.lock();
        state.dry = accepted.is_none();
        if accepted.is_some() {
            state.open += 1;
            state.unread += 1;
        }
        self.drain_if_settled(&mut state);
        Ok(accepted)
    }

    /// There is one socket more, or less, from which connections are accepted here.
    pub(super) fn count_socket(&self, more: bool) {
        let mut state = self.lock();
        state.dry &= !more;
        state.sockets = match more {
            true => state.sockets + 1,
            false => state.sockets.saturating_sub(1),
        };
        self.drain_if_settled(&mut state);
    }

    /// The app has read from a connection for the first time.
    pub(super) fn read_from(&self) {
        let mut state = self.lock();
        state.unread = state.unread.saturating_sub(1);
        self.drain_if_settled(&mut state);
    }

    /// A connection has ended. `fresh`: nothing was read from it.
    pub(super) fn ended(&self, handed_over: bool, fresh: bool) {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(1);
        state.unread = state.unread.saturating_sub(u64::from(fresh));
        if state.open == 0 {
            self.settled.notify_waiters();
        }
        if handed_over {
            state.closed += 1;
            if self.reports && !state.gone {
                let total = state.closed;
                state.child.closed_connections(total);
            }
        }
        self.drain_if_settled(&mut state);
        self.flush(&mut state);
    }

    /// Waits until every connection has ended.
    pub(super) async fn idle(&self) {
        self.drain.begun().await;
        self.settle(|state| state.open == 0).await;
    }

    /// Waits until the primary knows that we leave on purpose, and closes the channel.
    pub(super) async fn say_goodbye(&self) {
        self.settle(|state| state.let_go || state.gone).await;
        self.shut();
    }
}

impl State {
    /// Whether nothing waits here that would be turned away.
    fn is_settled(&self) -> bool {
        let queues = self.servers.values().all(|server| server.waiting.is_empty());
        queues && (self.sockets == 0 || self.dry) && self.unread == 0
    }
}
