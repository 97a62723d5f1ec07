//! How many may be there at once: nobody takes the places of the owner, and who finds none is told so.
//!
//! Invariants: of all connections at most [`OF_OTHERS`] are of users who do not own the daemon; of all streams of events
//! at most [`STREAMS`], of which others have at most half. Must not know: sockets, HTTP.

use everup_api::{Error, ErrorCode};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many connections are served at once, if there are descriptors for them.
pub(super) const CONNECTIONS: usize = 256;
/// So many of them are for others than the owner.
pub(super) const OF_OTHERS: usize = 64;
/// So many people who may do nothing are told so at once.
pub(super) const STRANGERS: usize = 4;
/// So many callers follow the events at once.
pub(super) const STREAMS: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Places {
    /// How many connections there are at most.
    most: usize,
    all: Arc<Semaphore>,
    others: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    streams_of_others: Arc<Semaphore>,
}

/// Given back when it is dropped.
pub(super) type Place = Vec<OwnedSemaphorePermit>;

impl Places {
    /// For a process that may have so many descriptors: most of them are for workers.
    pub(super) fn new(descriptors: Option<u64>) -> Self {
        let most = connections(descriptors);
        let places = |places| Arc::new(Semaphore::new(places));
        Self {
            most,
            all: places(most),
            others: places(OF_OTHERS.min(most / 4)),
            strangers: places(STRANGERS),
            streams: places(STREAMS.min(most / 4)),
            streams_of_others: places(STREAMS.min(most / 4) / 2),
        }
    }

    /// For a connection of the owner, or of somebody else who may do something.
    pub(super) fn connection(&self, owner: bool) -> Result<Place, Error> {
        let of_others = (!owner).then_some(&self.others);
        taken(of_others.into_iter().chain([&self.all])).ok_or_else(|| busy("connections"))
    }

    /// For somebody who may do nothing: no place of others.
    pub(super) fn stranger(&self) -> Result<Place, Error> {
        taken([&self.strangers]).ok_or_else(|| busy("connections"))
    }

    /// For somebody who follows the events.
    pub(super) fn stream(&self, owner: bool) -> Result<Place, Error> {
        let of_others = (!owner).then_some(&self.streams_of_others);
        taken(of_others.into_iter().chain([&self.streams])).ok_or_else(|| busy("streams of events"))
    }

    /// Waits until no connection is left.
    pub(super) async fn left(&self) {
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        self.all.acquire_many(all).await.ok();
    }
}

/// One of each, or none.
fn taken<'a>(places: impl IntoIterator<Item = &'a Arc<Semaphore>>) -> Option<Place> {
    let place = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
    places.into_iter().map(place).collect()
}

fn connections(descriptors: Option<u64>) -> usize {
    let quarter = descriptors.map_or(u64::MAX, |descriptors| descriptors / 4);
    usize::try_from(quarter)
        .unwrap_or(usize::MAX)
        .clamp(16, CONNECTIONS)
}

fn busy(what: &str) -> Error {
    let error = Error::new(
        ErrorCode::Busy,
        format!("there are too many {what} to this daemon"),
    );
    error.with_hint("try again when others have ended theirs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(mut take: impl FnMut() -> Result<Place, Error>) -> Vec<Place> {
        std::iter::from_fn(|| take().ok()).collect()
    }

    #[test]
    fn others_leave_room_for_the_owner() {
        let places = Places::new(None);
        let others = fill(|| places.connection(false));
        assert_eq!(others.len(), OF_OTHERS);
        assert_eq!(places.connection(false).unwrap_err().code, ErrorCode::Busy);
        let own = fill(|| places.connection(true));
        assert_eq!(own.len(), CONNECTIONS - OF_OTHERS);
        assert_eq!(places.connection(true).unwrap_err().code, ErrorCode::Busy);
        let strangers = fill(|| places.stranger());
        assert_eq!(strangers.len(), STRANGERS);
        drop(others);
        assert!(places.connection(true).is_ok());
    }

    #[test]
    fn streams_of_events() {
        let places = Places::new(None);
        let others = fill(|| places.stream(false));
        let own = fill(|| places.stream(true));
        assert_eq!((others.len(), own.len()), (STREAMS / 2, STREAMS / 2));
        drop(others);
        assert_eq!(fill(|| places.stream(true)).len(), STREAMS / 2);
    }

    #[test]
    fn few_descriptors_are_for_workers() {
        assert_eq!(connections(Some(1 << 20)), CONNECTIONS);
        assert_eq!(connections(Some(256)), 64);
        assert_eq!(connections(Some(0)), 16);
    }
}
