//! The listening sockets of one endpoint, where each slot has its own ([`Policy::ReusePort`](crate::Policy)).
//!
//! Job: bind them, tell the kernel which of them get new connections, and name those that we accept from: a socket
//! whose slot nobody serves is *rescued*, so what is in its queue goes to other workers, or is turned away if nobody will
//! ever take it. Which slots are served is decided in [`everup_core::steer`].
//!
//! Invariants: the place of a socket in `members` is its index in the kernel's group, which counts them in the order in
//! which they began to listen, so none is closed before all are.

use super::{ACCEPT_BATCH, Driver};
use crate::bind;
use crate::poller::Key;
use crate::sys;
use everup_core::endpoint::BindRequest;
use everup_core::id::{EndpointId, Slot, Token};
use everup_core::steer::selector;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

/// See the module's documentation.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Group {
    request: BindRequest,
    members: Vec<Member>,
    /// Whether the operator was told that the kernel does not let us choose.
    complained: bool,
}

/// A socket of one slot.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Member {
    slot: Slot,
    #[serde(with = "crate::estate::number")]
    socket: OwnedFd,
    token: Token,
    /// We accept from it.
    rescued: bool,
    /// Whether connections may wait in its queue, if we do.
    ready: bool,
}

impl Member {
    /// Accepts and closes what waits here, so many at most. How many there were.
    fn turn_away(&mut self, most: usize) -> usize {
        let mut turned = 0;
        while turned < most {
            match rustix::net::accept_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(_) => turned += 1,
                Err(Errno::AGAIN) => {
                    self.ready = false;
                    break;
                }
                // One that is gone already, or no descriptor is free: the next round sees.
                Err(_) => break,
            }
        }
        turned
    }
}

impl Group {
    pub(super) fn new(request: BindRequest) -> Self {
        Self {
            request,
            members: Vec::new(),
            complained: false,
        }
    }

    /// A socket that we are to accept from, and whether connections may still wait there.
    pub(super) fn source(&mut self) -> Option<(&OwnedFd, &mut bool)> {
        let mut members = self.members.iter_mut();
        let member = members.find(|member| member.rescued && member.ready)?;
        Some((&member.socket, &mut member.ready))
    }

    /// Connections came to a socket that we accept from.
    pub(super) fn news(&mut self) {
        for member in &mut self.members {
            member.ready = member.rescued;
        }
    }

    pub(super) fn find(&self, token: Token) -> Option<&OwnedFd> {
        let mut members = self.members.iter();
        Some(&members.find(|member| member.token == token)?.socket)
    }

    pub(super) fn rescued(&self) -> impl Iterator<Item = &OwnedFd> {
        let members = self.members.iter().filter(|member| member.rescued);
        members.map(|member| &member.socket)
    }

    fn indices(&self, active: &BTreeSet<Slot>) -> Vec<u32> {
        let members = (0..).zip(&self.members);
        members
            .filter(|(_, member)| active.contains(&member.slot))
            .map(|(index, _)| index)
            .collect()
    }
}

impl Driver {
    /// A socket for one slot: the first gets that which holds the address.
    pub(super) fn bind_slot(&mut self, endpoint: EndpointId, slot: Slot) -> Result<Token, Errno> {
        let token = self.descriptors.token();
        let listener = self.listeners.get_mut(&endpoint).ok_or(Errno::BADF)?;
        let group = listener.group.as_mut().ok_or(Errno::INVAL)?;
        let socket = match group.members.is_empty() {
            true => rustix::io::fcntl_dupfd_cloexec(&listener.socket.descriptor, 3)?,
            false => bind::sibling(&listener.socket, &group.request)?,
        };
        group.members.push(Member {
            slot,
            socket,
            token,
            rescued: false,
            ready: false,
        });
        Ok(token)
    }

    /// New connections go to these slots only; we accept what waits for the others.
    pub(super) fn steer(&mut self, endpoint: EndpointId, active: &BTreeSet<Slot>) {
        let Some(listener) = self.listeners.get_mut(&endpoint) else {
            return;
        };
        let Some(group) = &mut listener.group else { return };
        let mut trouble = None;
        if let Some(program) = selector(&group.indices(active)) {
            // Without it the kernel chooses among all, and we accept from those that nobody serves.
            let chosen = sys::tcp::choose_by(&listener.socket.descriptor, &program);
            trouble = chosen.err().filter(|_| !group.complained);
            group.complained |= trouble.is_some();
        }
        let mut unwatched = None;
        for member in &mut group.members {
            let rescued = !active.contains(&member.slot);
            if std::mem::replace(&mut member.rescued, rescued) == rescued {
                continue;
            }
            member.ready = rescued;
            if rescued {
                let watched = self
                    .poller
                    .watch_arrivals(&member.socket, Key::Listener(endpoint));
                unwatched = unwatched.or(watched.err());
            } else {
                self.poller.forget(&member.socket);
            }
        }
        if let Some(error) = trouble {
            self.reporter
                .error(None, format!("choose who gets new connections: {error}"));
        }
        if let Some(error) = unwatched {
            self.reporter
                .error(None, format!("watch a socket that nobody serves: {error}"));
        }
    }

    /// What waits for a slot that is gone has its end, if nobody will ever take it. True if more may wait.
    pub(super) fn turn_away(&mut self, endpoint: EndpointId) -> bool {
        let listener = self.listeners.get_mut(&endpoint);
        let Some(group) = listener.and_then(|listener| listener.group.as_mut()) else {
            return false;
        };
        let app = &self.app;
        let members = group.members.iter_mut();
        let waiting = members.filter(|member| member.rescued && member.ready);
        let mut turned = 0;
        for member in waiting.filter(|member| app.forsaken(endpoint, member.slot)) {
            turned += member.turn_away(ACCEPT_BATCH - turned);
        }
        if turned > 0 {
            let what =
                format!("turned away {turned} connections that waited for a worker that was scaled away");
            self.reporter.error(None, what);
        }
        turned == ACCEPT_BATCH
    }

    /// The cluster stops: what is in the queues is ours from now on, and nobody new is let in.
    pub(super) fn admit_no_more_to_group(&mut self, endpoint: EndpointId) {
        // Where nobody takes what is handed over, the workers themselves empty the queues.
        let ours = self.app.takes(endpoint);
        let listener = self.listeners.get_mut(&endpoint);
        let Some(group) = listener.and_then(|listener| listener.group.as_mut()) else {
            return;
        };
        for member in &mut group.members {
            // If that is not possible, the gap is a few microseconds.
            sys::tcp::admit_no_more(&member.socket).ok();
            member.rescued |= ours;
            member.ready |= ours;
        }
    }
}
