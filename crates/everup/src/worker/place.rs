//! Where a worker wants to listen, in the forms in which people write it.

use super::error::ListenError;
use everup_core::wire::AddressType;
use everup_core::wire::child::Ask;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;

/// A TCP or UDP address to listen on.
///
/// | written | is |
/// |---|---|
/// | `3000_u16`, `"3000"`, `":3000"` | all addresses, IPv6 and IPv4, as Node's `listen(3000)`; shared with a Node worker that does that |
/// | `"127.0.0.1:3000"`, `"[::1]:3000"`, a [`SocketAddr`] | this address |
/// | `"localhost:3000"` | the first of the name's addresses that can be bound |
///
/// Port 0 takes a free one, the same for all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Every address of this machine.
    Port(u16),
    /// One address.
    Address(SocketAddr),
    /// `name:port`, to be looked up. Looking up blocks the thread.
    Name(String),
}

impl From<u16> for Place {
    fn from(port: u16) -> Self {
        Self::Port(port)
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl From<(IpAddr, u16)> for Place {
    fn from(address: (IpAddr, u16)) -> Self {
        Self::Address(address.into())
    }
}

impl From<&str> for Place {
    fn from(text: &str) -> Self {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
            return Self::Port(port);
        }
        match text.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(text.to_owned()),
        }
    }
}

impl From<String> for Place {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Place {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl Place {
    /// What to ask for, one after the other until one succeeds. Never empty.
    pub(super) fn asks(&self, udp: bool) -> Result<Vec<Ask>, ListenError> {
        match self {
            Self::Port(port) => Ok(vec![Ask {
                address: None,
                port: Some(*port),
                address_type: if udp { AddressType::Udp4 } else { AddressType::Tcp4 },
                flags: 0,
                backlog: None,
            }]),
            Self::Address(address) => Ok(vec![ask(*address, udp)]),
            Self::Name(name)
                if name
                    .rsplit_once(':')
                    .is_none_or(|(_, port)| port.parse::<u16>().is_err()) =>
            {
                Err(ListenError::NoPort { text: name.clone() })
            }
            Self::Name(name) => {
                let lookup = |source| ListenError::Lookup {
                    name: name.clone(),
                    source,
                };
                let found: Vec<Ask> = name
                    .to_socket_addrs()
                    .map_err(lookup)?
                    .map(|address| ask(address, udp))
                    .collect();
                if found.is_empty() {
                    return Err(lookup(std::io::ErrorKind::NotFound.into()));
                }
                Ok(found)
            }
        }
    }
}

fn ask(address: SocketAddr, udp: bool) -> Ask {
    let address_type = match (address, udp) {
        (SocketAddr::V4(_), false) => AddressType::Tcp4,
        (SocketAddr::V6(_), false) => AddressType::Tcp6,
        (SocketAddr::V4(_), true) => AddressType::Udp4,
        (SocketAddr::V6(_), true) => AddressType::Udp6,
    };
    Ask {
        address: Some(address.ip().to_string()),
        port: Some(address.port()),
        address_type,
        flags: 0,
        backlog: None,
    }
}

/// A UNIX socket at a path, made absolute as Node does it.
pub(super) fn unix(path: &Path) -> Result<Ask, ListenError> {
    let absolute = std::path::absolute(path).map_err(|source| ListenError::Bind {
        address: format!("unix:{}", path.display()),
        source,
    })?;
    let Some(text) = absolute.to_str() else {
        return Err(ListenError::NotText {
            path: path.to_owned(),
        });
    };
    Ok(Ask {
        address: Some(text.to_owned()),
        port: None,
        address_type: AddressType::Unix,
        flags: 0,
        backlog: None,
    })
}

/// For messages.
pub(super) fn describe(ask: &Ask) -> String {
    let port = ask.port.unwrap_or_default();
    match (&ask.address, ask.address_type) {
        (Some(address), AddressType::Unix) => format!("unix:{address}"),
        (Some(address), AddressType::Tcp6 | AddressType::Udp6) => format!("[{address}]:{port}"),
        (Some(address), AddressType::Tcp4 | AddressType::Udp4 | AddressType::Descriptor) => {
            format!("{address}:{port}")
        }
        (None, _) => format!("port {port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        assert_eq!(Place::from("3000"), Place::Port(3000));
        assert_eq!(Place::from(":3000"), Place::Port(3000));
        assert_eq!(Place::from(3000), Place::Port(3000));
        let six = "[::1]:0".parse().unwrap();
        assert_eq!(Place::from("[::1]:0"), Place::Address(six));
        assert_eq!(Place::from("localhost:1"), Place::Name("localhost:1".into()));
        assert_eq!(Place::from(":70000"), Place::Name(":70000".into()));
    }

    #[test]
    fn names_are_looked_up_and_a_bad_one_is_an_error() {
        let found = Place::from("localhost:80").asks(false).unwrap();
        assert!(
            found
                .iter()
                .all(|ask| ask.port == Some(80) && ask.address.is_some())
        );
        for text in ["localhost", "127.0.0.1", "", ":99999", "[::1]"] {
            let error = Place::from(text).asks(false).unwrap_err();
            assert!(matches!(error, ListenError::NoPort { .. }), "{text}: {error}");
        }
        let error = Place::from("no such name:80").asks(false).unwrap_err();
        assert!(matches!(error, ListenError::Lookup { .. }), "{error}");
    }
}
