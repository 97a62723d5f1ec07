//! Letting a worker go without losing what its clients send meanwhile: see [`crate::drain`].
//!
//! ```text
//! Action::Hold ──nothing unanswered──▶ taking copies ──taken, or impossible──▶ it is asked to go ──▶ gone, all ended ──▶ Drained
//! ```
//!
//! What the machine wants to tell the worker waits until the copies are taken: a few milliseconds, at most [`PATIENCE`].

use super::{Driver, Later};
use crate::drain::{Holder, News, Plan};
use crate::spec::Channel as Dialect;
use everup_core::app::{Action, Input};
use everup_core::drain::{Gone, Rules};
use everup_core::id::{EndpointId, WorkerId};
use everup_core::reload::Drained;
use everup_core::time::Time;
use everup_core::wire::{Session, SharedKind};
use rustix::net::getpeername;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long a worker may take to answer its last hand-overs, and we to take the copies, before it is asked to go.
const PATIENCE: Duration = Duration::from_millis(500);

/// A worker whose connections are watched.
#[derive(Debug)]
pub(super) struct Holding {
    /// Whether it accepts nothing any more by itself.
    quiet: bool,
    /// `None` until its last hand-overs are answered.
    holder: Option<Holder>,
    /// What it is to be told as soon as the copies are taken.
    waiting: Vec<Postponed>,
    taken: bool,
    missed: usize,
    /// Connections with a request that no worker serves any more.
    unplaced: u64,
    until: Time,
    gone: Option<Gone>,
}

/// What a worker is to be told later.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) enum Postponed {
    Disconnect,
    Shutdown,
    Signal(i32),
}

impl Postponed {
    pub(super) fn of(self, worker: WorkerId) -> Action {
        match self {
            Self::Disconnect => Action::Disconnect { worker },
            Self::Shutdown => Action::Shutdown { worker },
            Self::Signal(signal) => Action::Signal { worker, signal },
        }
    }
}

impl Holding {
    /// What a successor has to tell the worker: copies of its connections he cannot go on with.
    pub(super) fn postponed(&self) -> Vec<Postponed> {
        self.waiting.clone()
    }
}

impl Driver {
    /// Watches what becomes of the connections of a worker that leaves.
    pub(super) fn hold(&mut self, worker: WorkerId) {
        let quiet = self.spec.policy.hands_over();
        if !matches!(self.spec.channel, Dialect::Node(_)) || !(quiet || self.app.obeys(worker)) {
            let why = "the workers accept connections themselves";
            return self.drained(worker, unknown(why.into()));
        }
        if self.tcp_endpoints().is_empty() {
            let why = "there is no TCP endpoint, and others do not tell";
            return self.drained(worker, unknown(why.into()));
        }
        if !quiet {
            self.with_session(worker, Session::quiet);
        }
        let holding = Holding {
            quiet,
            holder: None,
            waiting: Vec::new(),
            taken: false,
            missed: 0,
            unplaced: 0,
            until: self.now + PATIENCE,
            gone: None,
        };
        self.holdings.insert(worker, holding);
        self.take_copies(worker);
    }

    /// Once the worker has answered its hand-overs: what it says yes to later would not be among the copies.
    pub(super) fn take_copies(&mut self, worker: WorkerId) {
        let unanswered = self.app.unanswered(worker) > 0;
        let Some(holding) = self.holdings.get(&worker).filter(|holding| !holding.taken) else {
            return;
        };
        let late = holding.until <= self.now;
        if holding.holder.is_some() {
            if late {
                return self.copies_taken(worker);
            }
            return self.later(Later::Hold(worker));
        }
        let quiet = holding.quiet;
        if (unanswered || !quiet) && !late {
            return self.later(Later::Hold(worker));
        }
        if !quiet {
            return self.not_held(worker, "it did not stop to accept in time".into());
        }
        match self.start_holder(worker) {
            Ok(holder) => {
                if let Some(holding) = self.holdings.get_mut(&worker) {
                    holding.holder = Some(holder);
                }
                self.later(Later::Hold(worker));
            }
            Err(why) => self.not_held(worker, why),
        }
    }

    fn start_holder(&self, worker: WorkerId) -> Result<Holder, String> {
        let io = self.workers.get(&worker).ok_or("it is gone")?;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let plan = Plan {
            process: io
                .process
                .descriptor()
                .try_clone_to_owned()
                .map_err(|e| e.to_string())?,
            pid: io.process.pid,
            endpoints: self
                .tcp_endpoints()
                .into_iter()
                .map(|(_, address)| address)
                .collect(),
            rules: Rules::default(),
            at_most: usize::try_from(limit.unwrap_or(1 << 20) / 4).unwrap_or(1 << 20),
            wake: self.wake.try_clone().map_err(|e| e.to_string())?,
        };
        Holder::start(plan).map_err(|error| error.to_string())
    }

    fn tcp_endpoints(&self) -> Vec<(EndpointId, SocketAddr)> {
        let address = |listener: &super::Listener| {
            let name = listener.socket.sockname.as_ref()?;
            let tcp =
                listener.socket.kind == SharedKind::Tcp && (listener.ours || !self.spec.policy.hands_over());
            let ip = name.address.parse().ok().filter(|_| tcp)?;
            Some(SocketAddr::new(ip, name.port))
        };
        let listeners = self.listeners.iter();
        listeners
            .filter_map(|(&id, listener)| Some((id, address(listener)?)))
            .collect()
    }

    /// A worker accepts nothing any more.
    pub(super) fn quiet(&mut self, worker: WorkerId) {
        if let Some(holding) = self.holdings.get_mut(&worker) {
            holding.quiet = true;
            self.take_copies(worker);
        }
    }

    /// Whether an action has to wait for the copies; it is kept then.
    pub(super) fn postponed(&mut self, worker: WorkerId, what: Postponed) -> bool {
        let Some(holding) = self.holdings.get_mut(&worker) else {
            return false;
        };
        if let Some(holder) = &holding.holder {
            holder.stir();
        }
        if !holding.taken {
            holding.waiting.push(what);
        }
        !holding.taken
    }

    fn copies_taken(&mut self, worker: WorkerId) {
        let Some(holding) = self.holdings.get_mut(&worker) else {
            return;
        };
        holding.taken = true;
        if let Some(holder) = &holding.holder {
            holder.stir();
        }
        for what in std::mem::take(&mut holding.waiting) {
            self.act(what.of(worker));
        }
    }

    fn not_held(&mut self, worker: WorkerId, why: String) {
        self.copies_taken(worker);
        self.holdings.remove(&worker);
        self.drained(worker, unknown(why));
    }

    pub(super) fn drained(&mut self, worker: WorkerId, drained: Drained) {
        self.feed(Input::Drained { worker, drained });
    }

    /// A worker's process is gone, and was reaped.
    pub(super) fn holding_gone(&mut self, worker: WorkerId, how: Gone) {
        self.copies_taken(worker);
        let Some(holding) = self.holdings.get_mut(&worker) else {
            return;
        };
        holding.gone = Some(how);
        match &holding.holder {
            Some(holder) => holder.gone(how),
            None => self.not_held(worker, "it was gone too soon".into()),
        }
    }

    /// What the threads that hold copies have to tell.
    pub(super) fn news_of_holdings(&mut self) {
        let workers: Vec<WorkerId> = self.holdings.keys().copied().collect();
        for worker in workers {
            let holder = self
                .holdings
                .get(&worker)
                .and_then(|holding| holding.holder.as_ref());
            let news: Vec<News> = holder.map(|holder| holder.news().collect()).unwrap_or_default();
            for news in news {
                self.news_of_holding(worker, news);
            }
        }
    }

    fn news_of_holding(&mut self, worker: WorkerId, news: News) {
        match news {
            News::Taken { missed } => {
                if let Some(holding) = self.holdings.get_mut(&worker) {
                    holding.missed = missed;
                }
                self.copies_taken(worker);
            }
            News::Unknown(why) => {
                let hint = why.hint().map_or_else(String::new, |hint| format!("; {hint}"));
                self.not_held(worker, format!("{why}{hint}"));
            }
            News::Moved { connection, local } => {
                let placed = self.moved(connection, local);
                if let Some(holding) = self.holdings.get_mut(&worker) {
                    holding.unplaced += u64::from(!placed);
                }
            }
            News::Over => self.all_ended(worker),
        }
    }

    /// A client's next request came when its worker had closed: another worker gets it, as a fresh connection.
    pub(super) fn moved(&mut self, connection: OwnedFd, local: SocketAddr) -> bool {
        // Its endpoint may be gone, or be one that the new generation does not serve: then it ends here.
        let Some(endpoint) = endpoint_of(&self.tcp_endpoints(), local).filter(|id| !self.app.deserted(*id))
        else {
            return false;
        };
        let client = getpeername(&connection).ok().flatten().and_then(super::address);
        let token = self.descriptors.token();
        self.descriptors.connections.insert(token, connection);
        self.feed(Input::Connection {
            endpoint,
            connection: token,
            client,
        });
        true
    }

    fn all_ended(&mut self, worker: WorkerId) {
        let Some(holding) = self.holdings.remove(&worker) else {
            return;
        };
        let counters = holding.holder.as_ref().map(Holder::counters).unwrap_or_default();
        let missed = (holding.missed > 0)
            .then(|| format!("{} connections were more than could be watched", holding.missed));
        self.drained(
            worker,
            Drained {
                moved: counters.moved.saturating_sub(holding.unplaced),
                lost: counters.lost + holding.unplaced,
                cut: counters.unsure,
                unknown: missed,
            },
        );
    }

    /// The connections that a draining worker still has.
    pub(super) fn held_open(&self, worker: WorkerId) -> Option<u64> {
        let holding = self.holdings.get(&worker)?;
        Some(holding.holder.as_ref()?.counters().open)
    }

    /// The cluster stops: nobody is left to take connections over.
    pub(super) fn immovable(&mut self) {
        for holder in self
            .holdings
            .values()
            .filter_map(|holding| holding.holder.as_ref())
        {
            holder.immovable();
        }
    }
}

/// Where a connection came in: at exactly this address, else at all addresses of this port. Two endpoints may have one
/// port, and one of them may be for other clients.
fn endpoint_of(endpoints: &[(EndpointId, SocketAddr)], local: SocketAddr) -> Option<EndpointId> {
    let ip = local.ip().to_canonical();
    let same_port = || {
        endpoints
            .iter()
            .filter(|(_, address)| address.port() == local.port())
    };
    let exact = same_port().find(|(_, address)| address.ip().to_canonical() == ip);
    let all = || {
        let family = same_port()
            .find(|(_, address)| address.ip().is_unspecified() && address.is_ipv4() == ip.is_ipv4());
        family.or_else(|| same_port().find(|(_, address)| address.ip().is_unspecified()))
    };
    exact.or_else(all).map(|(id, _)| *id)
}

pub(super) fn unknown(why: String) -> Drained {
    Drained {
        unknown: Some(why),
        ..Drained::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_back_to_where_it_came_in() {
        let endpoint = |id, text: &str| (EndpointId(id), text.parse().unwrap());
        let endpoints = [
            endpoint(1, "127.0.0.1:80"),
            endpoint(2, "127.0.0.2:80"),
            endpoint(3, "[::]:81"),
            endpoint(4, "0.0.0.0:82"),
            endpoint(5, "[::]:82"),
        ];
        let found = |text: &str| endpoint_of(&endpoints, text.parse().unwrap()).map(|id| id.0);
        assert_eq!([found("127.0.0.1:80"), found("127.0.0.2:80")], [Some(1), Some(2)]);
        assert_eq!([found("127.0.0.3:80"), found("127.0.0.1:83")], [None, None]);
        assert_eq!(
            [found("[::ffff:10.0.0.1]:81"), found("[::1]:81")],
            [Some(3), Some(3)]
        );
        assert_eq!([found("10.0.0.1:82"), found("[::1]:82")], [Some(4), Some(5)]);
    }
}
