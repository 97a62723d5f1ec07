//! Listening TCP and UNIX sockets of a worker.

use super::acceptor::{Accepted, Acceptor};
use super::connection::{Connection, Open};
use super::error::{AcceptError, NoSocket};
use rustix::net::getpeername;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A listening TCP socket, whatever the cluster's policy makes of it: connections that the primary hands over, or a
/// socket shared with the other workers.
///
/// Share it between tasks or threads (`&self`, or in an `Arc`). Dropping it closes it: the primary gives this worker
/// no more of its connections, and those that wait go to other workers.
#[derive(Debug)]
pub struct Listener {
    acceptor: Acceptor,
    address: SocketAddr,
}

/// A listening UNIX stream socket; otherwise as [`Listener`].
#[derive(Debug)]
pub struct UnixListener {
    acceptor: Acceptor,
    path: PathBuf,
}

impl Listener {
    pub(super) fn new(acceptor: Acceptor, address: SocketAddr) -> Self {
        Self { acceptor, address }
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether there is a real socket, so that [`into_std`](Self::into_std) works: with the policies `shared` and
    /// `reuseport`, and without a primary.
    #[must_use]
    pub fn has_socket(&self) -> bool {
        self.acceptor.socket().is_some()
    }

    /// The next connection, and the client's address. It is this worker's from now on: if the worker dies before this
    /// returns, another worker gets it. Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`AcceptError::Drained`] when there will be no more; the others are passing.
    #[cfg(feature = "tokio")]
    pub async fn accept(&self) -> Result<(Connection<tokio::net::TcpStream>, SocketAddr), AcceptError> {
        loop {
            if let Some((stream, peer, open)) = tcp(&self.acceptor, self.acceptor.accept().await?) {
                let stream = tokio::net::TcpStream::from_std(stream).map_err(AcceptError::from)?;
                return Ok((Connection::new(stream, open), peer));
            }
        }
    }

    /// The same without a runtime: waits in this thread, and the stream is a blocking one.
    ///
    /// # Errors
    /// As `accept`.
    pub fn accept_blocking(&self) -> Result<(Connection<std::net::TcpStream>, SocketAddr), AcceptError> {
        loop {
            if let Some((stream, peer, open)) = tcp(&self.acceptor, self.acceptor.accept_blocking()?) {
                stream.set_nonblocking(false).map_err(AcceptError::from)?;
                return Ok((Connection::new(stream, open), peer));
            }
        }
    }

    /// The socket itself, for servers that accept by themselves (actix-web). It is non-blocking and must stay so: the
    /// other workers have the same one. Its connections are not counted, and whoever has it must stop to accept when
    /// the worker [drains](super::Worker::on_drain).
    ///
    /// # Errors
    /// [`NoSocket::HandOver`] where the primary hands connections over ([`has_socket`](Self::has_socket) tells before).
    pub fn into_std(self) -> Result<std::net::TcpListener, NoSocket> {
        match self.acceptor.into_socket() {
            Some(Ok(socket)) => Ok(socket.into()),
            Some(Err(source)) => Err(NoSocket::System(source)),
            None => Err(NoSocket::HandOver),
        }
    }
}

/// `None`: the client is gone already.
fn tcp(acceptor: &Acceptor, accepted: Accepted) -> Option<(std::net::TcpStream, SocketAddr, Open)> {
    let open = Open::new(&acceptor.link, accepted.handed_over);
    let peer = match accepted.peer {
        Some(peer) => peer,
        None => getpeername(&accepted.connection).ok()??,
    };
    let peer = SocketAddr::try_from(peer).ok()?;
    Some((accepted.connection.into(), peer, open))
}

impl UnixListener {
    pub(super) fn new(acceptor: Acceptor, path: PathBuf) -> Self {
        Self { acceptor, path }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As [`Listener::has_socket`].
    #[must_use]
    pub fn has_socket(&self) -> bool {
        self.acceptor.socket().is_some()
    }

    /// As [`Listener::accept`].
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "tokio")]
    pub async fn accept(&self) -> Result<Connection<tokio::net::UnixStream>, AcceptError> {
        let (stream, open) = unix(&self.acceptor, self.acceptor.accept().await?);
        let stream = tokio::net::UnixStream::from_std(stream).map_err(AcceptError::from)?;
        Ok(Connection::new(stream, open))
    }

    /// As [`Listener::accept_blocking`].
    ///
    /// # Errors
    /// As there.
    pub fn accept_blocking(&self) -> Result<Connection<std::os::unix::net::UnixStream>, AcceptError> {
        let (stream, open) = unix(&self.acceptor, self.acceptor.accept_blocking()?);
        stream.set_nonblocking(false).map_err(AcceptError::from)?;
        Ok(Connection::new(stream, open))
    }

    /// As [`Listener::into_std`].
    ///
    /// # Errors
    /// As there.
    pub fn into_std(self) -> Result<std::os::unix::net::UnixListener, NoSocket> {
        match self.acceptor.into_socket() {
            Some(Ok(socket)) => Ok(socket.into()),
            Some(Err(source)) => Err(NoSocket::System(source)),
            None => Err(NoSocket::HandOver),
        }
    }
}

fn unix(acceptor: &Acceptor, accepted: Accepted) -> (std::os::unix::net::UnixStream, Open) {
    let open = Open::new(&acceptor.link, accepted.handed_over);
    let connection: OwnedFd = accepted.connection;
    (connection.into(), open)
}

/// `axum::serve(listener, app)`. Combine it with `with_graceful_shutdown(worker.on_drain())`.
#[cfg(feature = "axum")]
impl axum::serve::Listener for Listener {
    type Io = Connection<tokio::net::TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            match Self::accept(self).await {
                Ok(accepted) => return accepted,
                // The graceful shutdown ends the server; there is nothing else to come.
                Err(AcceptError::Drained) => return std::future::pending().await,
                Err(AcceptError::DescriptorLimit | AcceptError::Io(_)) => {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// `axum::serve(listener, app)` on a UNIX socket. The address is the client's, which has none.
#[cfg(feature = "axum")]
impl axum::serve::Listener for UnixListener {
    type Io = Connection<tokio::net::UnixStream>;
    type Addr = PathBuf;

    async fn accept(&mut self) -> (Self::Io, PathBuf) {
        loop {
            match Self::accept(self).await {
                Ok(accepted) => return (accepted, PathBuf::new()),
                Err(AcceptError::Drained) => return std::future::pending().await,
                Err(AcceptError::DescriptorLimit | AcceptError::Io(_)) => {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<PathBuf> {
        Ok(self.path.clone())
    }
}

/// After an error that passes: closing connections frees descriptors.
#[cfg(feature = "axum")]
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
