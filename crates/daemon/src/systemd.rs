//! Telling systemd that we are ready, and which process is the keeper now (`sd_notify`).
//!
//! Each daemon says it when it is ready: after the keeper's death the next keeper is another process, and systemd
//! would otherwise know none.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable with the socket's name.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Says it, if systemd has started the keeper. That it cannot be said is no reason not to work.
pub(crate) fn ready(keeper: u32) {
    if let Some(socket) = std::env::var_os(SOCKET) {
        send(&socket, &message(keeper)).ok();
    }
}

fn message(keeper: u32) -> String {
    format!(
        "READY=1\nMAINPID={keeper}\nSTATUS=keeper {keeper}, daemon {}\n",
        std::process::id()
    )
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    // A name that begins with @ is in the abstract namespace.
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sent = UnixDatagram::unbound()?;
    sent.set_nonblocking(true)?;
    sent.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(bound: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = bound.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn systemd_is_told_who_the_keeper_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let bound = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), &message(7)).unwrap();
        assert!(received(&bound).starts_with("READY=1\nMAINPID=7\n"));

        let name = format!("everup-test-{}", std::process::id());
        let bound = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(format!("@{name}").as_ref(), "READY=1").unwrap();
        assert_eq!(received(&bound), "READY=1");

        assert!(send("/no/such/socket".as_ref(), "READY=1").is_err());
    }
}
