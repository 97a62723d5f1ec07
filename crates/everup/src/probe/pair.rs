//! How a probe reaches one worker and no other.
//!
//! A Node worker gets one end of a TCP connection that we have made with ourselves, as it gets every connection. A
//! program that takes `LISTEN_FDS` gets a listening socket of its own on the loopback address, which no other worker has.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, getpeername, getsockname, listen,
    socket_with, sockopt,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

/// The name in `LISTEN_FDNAMES` of a worker's private socket.
pub(crate) const NAME: &str = "probe";
/// Strangers that may be quicker than we are, before it is given up.
const STRANGERS: usize = 16;
/// Nothing is waited for on the loopback device, unless it is under attack.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Both ends of a TCP connection over the loopback device: ours, and the one that looks to a worker like any other that
/// was accepted. Neither waits when it is read or written.
///
/// # Errors
/// What the system says; `TimedOut` or `ConnectionAborted` when somebody else is in the way.
pub(crate) fn loopback_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let listener = tcp(SocketFlags::NONBLOCK)?;
    bind(&listener, &loopback())?;
    listen(&listener, 16)?;
    let address = getsockname(&listener)?;
    let client = tcp(SocketFlags::NONBLOCK)?;
    match connect(&client, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let server = accept_own(&listener, &client)?;
    Ok((client, server))
}

/// A listening socket on the loopback address, and where it is. Blocking, as the others that are passed.
///
/// # Errors
/// What the system says.
pub(crate) fn private_listener() -> io::Result<(OwnedFd, SocketAddr)> {
    let listener = tcp(SocketFlags::empty())?;
    bind(&listener, &loopback())?;
    listen(&listener, 128)?;
    let address = SocketAddr::try_from(getsockname(&listener)?)?;
    Ok((listener, address))
}

/// Anybody on this machine may connect to the listener while it is there: only our own connection counts.
fn accept_own(listener: &OwnedFd, client: &OwnedFd) -> io::Result<OwnedFd> {
    let own = getsockname(client)?;
    for _ in 0..STRANGERS {
        await_flags(listener, PollFlags::IN)?;
        let server = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(server) => server,
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if getpeername(&server).is_ok_and(|peer| peer.as_ref() == Some(&own)) {
            await_flags(client, PollFlags::OUT)?;
            sockopt::socket_error(client)??;
            return Ok(server);
        }
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}

fn await_flags(descriptor: &OwnedFd, flags: PollFlags) -> io::Result<()> {
    let mut news = [PollFd::from_borrowed_fd(descriptor.as_fd(), flags)];
    match rustix::io::retry_on_intr(|| poll(&mut news, Some(&PATIENCE)))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn tcp(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | flags,
        None,
    )
}

fn loopback() -> SocketAddr {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_pair_is_connected_with_itself() {
        for _ in 0..100 {
            let (client, server) = loopback_pair().unwrap();
            let (mut client, mut server) = (TcpStream::from(client), TcpStream::from(server));
            assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
            client.write_all(b"?").unwrap();
            server.set_nonblocking(false).unwrap();
            server.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn strangers_in_the_queue_are_sent_away() {
        let listener = tcp(SocketFlags::NONBLOCK).unwrap();
        bind(&listener, &loopback()).unwrap();
        listen(&listener, 16).unwrap();
        let address: SocketAddr = getsockname(&listener).unwrap().try_into().unwrap();
        let mut strangers = [(); 3].map(|()| TcpStream::connect(address).unwrap());
        let client = TcpStream::connect(address).unwrap();
        let own = client.local_addr().unwrap();
        let server = accept_own(&listener, &client.into()).unwrap();
        assert_eq!(TcpStream::from(server).peer_addr().unwrap(), own);
        for stranger in &mut strangers {
            assert_eq!(stranger.read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_private_listener_is_on_the_loopback_only() {
        let (listener, address) = private_listener().unwrap();
        assert!(address.ip().is_loopback() && address.port() != 0);
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = TcpListener::from(listener).accept().unwrap();
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    }
}
