//! The worker's side: a server that a primary runs several times.
//!
//! Job: take the place that the environment names, listen whatever the policy is, talk with the primary, and say when it
//! is time to leave. Works under an everup primary, under Node's own (`cluster.fork` with `exec` set to this program),
//! with sockets by `LISTEN_FDS`, and alone.
//!
//! Parts: `env` (how we were started), `link` (the channel's state), `reader` (its thread), `open` (sockets),
//! `acceptor` (connections), `leaving` (what is still taken), `idle` (what may be closed without a word), `drain`, `messages`.
//!
//! Must not know: how a primary decides.

mod acceptor;
mod connection;
mod drain;
mod env;
mod error;
#[cfg(feature = "tokio")]
mod idle;
mod leaving;
mod link;
mod listener;
mod messages;
mod open;
mod parent;
mod place;
mod reader;
#[cfg(all(test, feature = "tokio"))]
mod tests;

pub use connection::{Connection, Open};
pub use drain::DrainReason;
pub use error::{AcceptError, EnvError, ListenError, NoSocket};
pub use listener::{Listener, UnixListener};
pub use messages::{HANDLE_WEIGHT, INBOX_LIMIT, Message, Messages, Received};
pub use parent::Parent;
pub use place::Place;

use crate::message::{self, Handle, SendError};
use crate::notify;
use env::Start;
use everup_core::id::WorkerId;
use everup_core::wire::Serialization;
use link::Link;
use open::Origin;
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// This process as a worker. A cheap handle: clone it as you like.
///
/// ```no_run
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// use everup::Worker;
///
/// // The same program runs as a worker and, started by hand, alone.
/// let worker = Worker::from_env()?.unwrap_or_else(Worker::alone);
/// let listener = worker.listen("127.0.0.1:3000").await?;
/// # #[cfg(feature = "tokio")]
/// while let Ok((stream, client)) = listener.accept().await {
///     // ...
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    link: Arc<Link>,
    origin: Origin,
    id: Option<WorkerId>,
    slot: Option<u32>,
    signals: OnceLock<()>,
}

impl Worker {
    /// This process as the worker that its environment says it is; `None` when it was not started as one.
    ///
    /// Call it first in `main`. The environment variables of the channel are removed if no other thread is running yet;
    /// otherwise (`#[tokio::main]`) they stay, and a program that this one starts (Node, or this same one) would take them for its own:
    /// use [`Worker::scrub`].
    ///
    /// # Errors
    /// The variables are there and make no sense, or it was called before ([`EnvError::Taken`]).
    pub fn from_env() -> Result<Option<Self>, EnvError> {
        let Some(start) = env::worker()? else {
            return Ok(None);
        };
        Ok(Some(match start {
            Start::Channel(channel, id) => {
                let link = Link::new(Some(channel.socket), channel.serialization, channel.everup);
                link.online();
                start_reading(&link)?;
                Self::new(link, Origin::Primary, Some(id))
            }
            Start::Inherited(sockets) => {
                let link = Link::new(None, Serialization::Json, false);
                Self::new(link, Origin::Inherited(sockets), None)
            }
        }))
    }

    /// The same for a program that makes no sense alone.
    ///
    /// # Errors
    /// [`EnvError::NotAWorker`] too.
    pub fn required() -> Result<Self, EnvError> {
        Self::from_env()?.ok_or(EnvError::NotAWorker)
    }

    /// A worker without a primary: it binds its sockets by itself, and leaves at SIGTERM or SIGINT.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Link::new(None, Serialization::Json, false), Origin::Own, None)
    }

    fn new(link: Arc<Link>, origin: Origin, id: Option<WorkerId>) -> Self {
        Self {
            shared: Arc::new(Shared {
                link,
                slot: match origin {
                    Origin::Own => None,
                    Origin::Primary | Origin::Inherited(_) => env::slot(),
                },
                origin,
                id,
                signals: OnceLock::new(),
            }),
        }
    }

    /// Its number, Node's `cluster.worker.id`: 1, 2, 3, … in the order of forking. `None` without a channel.
    #[must_use]
    pub fn id(&self) -> Option<WorkerId> {
        self.shared.id
    }

    /// Its place, from 0 to the number of workers: its successor has the same. `None` where the primary does not tell
    /// (in `NODE_APP_INSTANCE`).
    #[must_use]
    pub fn slot(&self) -> Option<u32> {
        self.shared.slot
    }

    /// Whether there is no primary: made by [`alone`](Self::alone).
    #[must_use]
    pub fn is_alone(&self) -> bool {
        matches!(self.shared.origin, Origin::Own)
    }

    /// Whether the channel to the primary is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.link.is_connected()
    }

    /// Whether this worker leaves on purpose: by [`disconnect`](Self::disconnect), or because the primary asked. Node's
    /// `exitedAfterDisconnect`.
    #[must_use]
    pub fn exited_after_disconnect(&self) -> bool {
        self.shared.link.is_leaving()
    }

    /// Listens for TCP connections, in common with the other workers that listen there. See [`Place`] for what can be
    /// given.
    ///
    /// # Errors
    /// See [`ListenError`]. Cancelling it closes what would have come of it.
    pub async fn listen(&self, place: impl Into<Place>) -> Result<Listener, ListenError> {
        let place = place.into();
        let asks = place.asks(false)?;
        let opened = open::stream(&self.shared.link, &self.shared.origin, asks).await?;
        match opened.address {
            Some(address) => Ok(Listener::new(opened.acceptor, address)),
            None => Err(ListenError::WrongSocket {
                address: format!("{place:?}"),
            }),
        }
    }

    /// The same, waiting in this thread. Not within an async runtime.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn listen_blocking(&self, place: impl Into<Place>) -> Result<Listener, ListenError> {
        crate::wait::block_on(self.listen(place))
    }

    /// The TCP socket that this process was started with under this name (`LISTEN_FDNAMES`: `everup run
    /// --listen NAME=ADDRESS`, or systemd's `FileDescriptorName=`).
    ///
    /// # Errors
    /// [`ListenError::NoSuchName`], [`ListenError::WrongSocket`].
    pub fn listen_named(&self, name: &str) -> Result<Listener, ListenError> {
        let opened = open::named(&self.shared.link, &self.shared.origin, name)?;
        match opened.address {
            Some(address) => Ok(Listener::new(opened.acceptor, address)),
            None => Err(ListenError::WrongSocket {
                address: name.to_owned(),
            }),
        }
    }

    /// Listens on a UNIX stream socket. A file that is left there by a process that died makes it fail
    /// ([`ListenError::AddressInUse`]), as in Node.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn listen_unix(&self, path: impl AsRef<Path>) -> Result<UnixListener, ListenError> {
        let path = path.as_ref();
        let asks = vec![place::unix(path)?];
        let opened = open::stream(&self.shared.link, &self.shared.origin, asks).await?;
        Ok(UnixListener::new(opened.acceptor, path.to_owned()))
    }

    /// The same, waiting in this thread. Not within an async runtime.
    ///
    /// # Errors
    /// As [`listen_unix`](Self::listen_unix).
    pub fn listen_unix_blocking(&self, path: impl AsRef<Path>) -> Result<UnixListener, ListenError> {
        crate::wait::block_on(self.listen_unix(path))
    }

    /// A UDP socket, which all workers share: each datagram goes to one of them, as the kernel chooses.
    ///
    /// # Errors
    /// See [`ListenError`].
    #[cfg(feature = "tokio")]
    pub async fn bind_udp(&self, place: impl Into<Place>) -> Result<tokio::net::UdpSocket, ListenError> {
        let place = place.into();
        let failed = |source| ListenError::Bind {
            address: format!("{place:?}"),
            source,
        };
        let socket = self.bind_udp_std(place.clone()).await?;
        tokio::net::UdpSocket::from_std(socket).map_err(failed)
    }

    /// The same as a socket of std. It is non-blocking and must stay so: the other workers have the same one.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind_udp_std(&self, place: impl Into<Place>) -> Result<std::net::UdpSocket, ListenError> {
        let asks = place.into().asks(true)?;
        open::datagram(&self.shared.link, &self.shared.origin, asks).await
    }

    /// Says that this worker can serve: what pm2's apps do by `process.send('ready')`, and by `sd_notify` where there
    /// is no channel. Needed only where the cluster waits for it
    /// ([`ReadySign::Message`](crate::ReadySign::Message)); else a worker is ready when it listens.
    ///
    /// # Errors
    /// The primary is gone.
    pub fn ready(&self) -> Result<(), SendError> {
        match self.shared.origin {
            Origin::Primary => self.send_json("\"ready\""),
            Origin::Inherited(_) => notify::say("READY=1").map_err(SendError::Descriptor),
            Origin::Own => Ok(()),
        }
    }

    /// Done when it is time to leave: the primary asked, SIGTERM came (without a primary SIGINT, too), or the primary
    /// is gone. Listeners give nothing more from then on. Finish what was begun, and let `main` return; the primary
    /// kills a worker that takes too long.
    ///
    /// The first call installs handlers for these signals; until then they kill, as ever. Should that fail, they go on
    /// doing so.
    pub fn on_drain(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        self.shared.signals.get_or_init(|| {
            let interrupt = !matches!(self.shared.origin, Origin::Primary);
            reader::watch_signals(&self.shared.link, interrupt).ok();
        });
        self.shared.link.drain.begun()
    }

    /// The same, waiting in this thread.
    pub fn wait_for_drain(&self) {
        crate::wait::block_on(self.on_drain());
    }

    /// Why it is time to leave; `None` as long as it is not.
    #[must_use]
    pub fn drain_reason(&self) -> Option<DrainReason> {
        self.shared.link.drain.reason()
    }

    /// Leaves on purpose, as Node's `cluster.worker.disconnect()`: the primary is told, listeners close,
    /// [`on_drain`](Self::on_drain) is done, and when the last connection that came from a [`Listener`] has ended the
    /// channel is closed. This is done then; end the program. Node's worker tells the primary only at the end; here it
    /// knows at once, so a `main` that returns as soon as [`on_drain`](Self::on_drain) is done has not died.
    pub async fn disconnect(&self) {
        self.shared.link.leave_on_purpose();
        self.shared.link.idle().await;
        self.goodbye().await;
    }

    /// The same without waiting for connections, as Node's `cluster.worker.kill()`, which ends the program, too.
    pub async fn disconnect_now(&self) {
        self.shared.link.leave_on_purpose();
        self.goodbye().await;
    }

    async fn goodbye(&self) {
        if self.is_connected() {
            self.shared.link.say_goodbye().await;
        }
    }

    /// Sends a message to the primary's app, as JSON. It is queued, in order, and written at once if the primary reads;
    /// see [`flushed`](Self::flushed) for the end.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, message: &impl Serialize) -> Result<(), SendError> {
        self.shared.link.send(&message::json(message)?)
    }

    /// Sends a JSON text.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_json(&self, message: &str) -> Result<(), SendError> {
        self.shared.link.send(&message::text(message)?)
    }

    /// Done when everything that was [sent](Self::send) is written, or the channel is closed. What is not written when
    /// `main` returns is lost with the process; so await this before, if the last messages count.
    pub async fn flushed(&self) {
        self.shared.link.written().await;
    }

    /// The same, waiting in this thread.
    pub fn flush_blocking(&self) {
        crate::wait::block_on(self.flushed());
    }

    /// Sends a message and a socket, which is closed here once it has arrived.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_handle(&self, message: &impl Serialize, handle: impl Into<Handle>) -> Result<(), SendError> {
        let message = message::json(message)?;
        self.shared.link.send_handle(&message, handle.into())
    }

    /// How many sockets that were [sent](Self::send_handle) did not arrive, because the primary was out of descriptors.
    /// Their messages did not arrive either. (Node sends them three times more, at once, and then prints a warning.)
    #[must_use]
    pub fn handles_lost(&self) -> u64 {
        self.shared.link.handles_lost()
    }

    /// The messages of the primary's app; `None` if somebody has them already.
    #[must_use]
    pub fn messages(&self) -> Option<Messages> {
        Messages::of(&self.shared.link)
    }

    /// Calls this for each message of the primary's app, in a thread of its own. False if somebody has them already.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn on_message(&self, act: impl FnMut(Message) + Send + 'static) -> std::io::Result<bool> {
        Messages::each(&self.shared.link, act)
    }

    /// Takes the channel's variables out of the environment of a program that is to be started, so that it does not
    /// take itself for this worker.
    pub fn scrub(command: &mut std::process::Command) -> &mut std::process::Command {
        for variable in env::VARIABLES {
            command.env_remove(variable);
        }
        command
    }
}

fn start_reading(link: &Arc<Link>) -> Result<(), EnvError> {
    let what = "start the thread that reads the channel";
    reader::start(link).map_err(|source| EnvError::System { what, source })
}
