//! One epoll instance, with keys that say what a descriptor is.

use everup_core::id::{EndpointId, WorkerId};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// What a descriptor is to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A command was sent.
    Command,
    /// A child of this process changed.
    Child,
    /// Connections wait.
    Listener(EndpointId),
    /// A worker's channel.
    Channel(WorkerId),
    /// A worker's process ended.
    Exit(WorkerId),
    /// A worker said something by `sd_notify`.
    Notify(WorkerId),
}

impl Key {
    fn to_data(self) -> EventData {
        let (kind, id) = match self {
            Self::Command => (0, 0),
            Self::Child => (1, 0),
            Self::Listener(id) => (2, id.0),
            Self::Channel(id) => (3, id.0),
            Self::Exit(id) => (4, id.0),
            Self::Notify(id) => (5, id.0),
        };
        EventData::new_u64(kind << 32 | u64::from(id))
    }

    fn from_data(data: EventData) -> Self {
        let data = data.u64();
        let id = u32::try_from(data & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        match data >> 32 {
            0 => Self::Command,
            1 => Self::Child,
            2 => Self::Listener(EndpointId(id)),
            3 => Self::Channel(WorkerId(id)),
            4 => Self::Exit(WorkerId(id)),
            _ => Self::Notify(WorkerId(id)),
        }
    }
}

/// A descriptor's news.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) key: Key,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// How many descriptors are looked at in one turn.
const BATCH: usize = 128;

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Reports readability, each time it is asked while there is something to read.
    pub(crate) fn watch(&self, descriptor: impl AsFd, key: Key) -> Result<(), Errno> {
        epoll::add(&self.epoll, descriptor, key.to_data(), EventFlags::IN)
    }

    /// Reports readability once for each arrival. The listener is then read until nothing is left, or as far as
    /// is wanted, with no system call to switch the watching off and on.
    pub(crate) fn watch_arrivals(&self, descriptor: impl AsFd, key: Key) -> Result<(), Errno> {
        epoll::add(
            &self.epoll,
            descriptor,
            key.to_data(),
            EventFlags::IN | EventFlags::ET,
        )
    }

    /// Reports room to write as well, or no longer.
    pub(crate) fn watch_room(&self, descriptor: impl AsFd, key: Key, room: bool) -> Result<(), Errno> {
        let flags = if room {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        epoll::modify(&self.epoll, descriptor, key.to_data(), flags)
    }

    pub(crate) fn forget(&self, descriptor: impl AsFd) {
        // It may be gone already, with its last duplicate.
        epoll::delete(&self.epoll, descriptor).ok();
    }

    /// Waits for news, for at most `limit`; none after it, or after a signal.
    pub(crate) fn wait(&self, limit: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        // Milliseconds, rounded up: a wait that ends before the deadline would spin.
        let limit = limit.map(|limit| rustix::event::Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        let (events, _) = match epoll::wait(&self.epoll, &mut space, limit.as_ref()) {
            Ok(events) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        };
        let over = EventFlags::HUP | EventFlags::ERR;
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                key: Key::from_data(event.data),
                readable: flags.intersects(EventFlags::IN | over),
                writable: flags.intersects(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}
