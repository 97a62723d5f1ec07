//! `--listen`: `[name=]address`, where an address is `tcp://host:port`, `host:port`, `:port`, `port`,
//! `udp://host:port` or `unix:/path`.
//!
//! A missing host means all IPv4 addresses. A name is looked up here, once; IPv4 is preferred, because that is
//! what a client that was told `localhost` can always reach.

use everup::{Listen, ListenAddress};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// The longest path that fits a UNIX socket's address.
const MAX_UNIX_PATH: usize = 107;

/// Which part of an address is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("the address is empty")]
    Empty,
    #[error("`{0}` is not a name for a socket")]
    Name(String),
    #[error("unknown scheme `{0}`")]
    Scheme(String),
    #[error("no port")]
    NoPort,
    #[error("`{0}` is not a port (0 to 65535)")]
    Port(String),
    #[error("`{0}` is not an IPv6 address")]
    Ipv6(String),
    #[error("an IPv6 address needs brackets")]
    Brackets(String),
    #[error("`{0}` is not a host name")]
    HostName(String),
    #[error("host `{host}` is not known")]
    Host { host: String, source: std::io::Error },
    #[error("a path is not an address")]
    BarePath(String),
    #[error("the socket's path is empty")]
    EmptyPath,
    #[error("the socket's path has {0} bytes, more than the {MAX_UNIX_PATH} that the system allows")]
    LongPath(usize),
    #[error("abstract sockets cannot be bound yet")]
    Abstract,
    #[error("it is given twice")]
    Twice,
}

impl ListenError {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Name(_) => "a name has letters, digits, `-`, `_` and `.`, at most 255".into(),
            Self::Brackets(text) => format!("write tcp://[{text}]:PORT"),
            Self::BarePath(path) => format!("write unix:{path}"),
            Self::LongPath(_) => "use a shorter path, or one relative to the current directory".into(),
            Self::Abstract => "use a path: unix:/run/app.sock".into(),
            Self::Twice => "give each address once; all workers share it".into(),
            Self::Empty
            | Self::Scheme(_)
            | Self::NoPort
            | Self::Port(_)
            | Self::Ipv6(_)
            | Self::HostName(_)
            | Self::Host { .. }
            | Self::EmptyPath => {
                "write [name=]tcp://HOST:PORT, HOST:PORT, :PORT, udp://HOST:PORT or unix:/PATH".into()
            }
        }
    }
}

/// Reads one `--listen`.
pub(crate) fn parse(text: &str) -> Result<Listen, ListenError> {
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) if !name.contains(['/', ':']) => (Some(socket_name(name)?), rest),
        _ => (None, text),
    };
    let mut listen = Listen::new(address(rest)?);
    listen.name = name;
    Ok(listen)
}

fn socket_name(name: &str) -> Result<String, ListenError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 255 || !name.chars().all(good) {
        return Err(ListenError::Name(name.into()));
    }
    Ok(name.into())
}

fn address(text: &str) -> Result<ListenAddress, ListenError> {
    if text.is_empty() {
        return Err(ListenError::Empty);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path.strip_prefix("//").unwrap_or(path));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return match scheme {
            "tcp" => host_port(rest).map(ListenAddress::Tcp),
            "udp" => host_port(rest).map(ListenAddress::Udp),
            _ => Err(ListenError::Scheme(scheme.into())),
        };
    }
    if text.starts_with(['/', '.']) {
        return Err(ListenError::BarePath(text.into()));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(ListenAddress::Tcp((Ipv4Addr::UNSPECIFIED, port(text)?).into()));
    }
    host_port(text).map(ListenAddress::Tcp)
}

fn unix(path: &str) -> Result<ListenAddress, ListenError> {
    match path {
        "" => Err(ListenError::EmptyPath),
        _ if path.starts_with('@') => Err(ListenError::Abstract),
        _ if path.len() > MAX_UNIX_PATH => Err(ListenError::LongPath(path.len())),
        _ => Ok(ListenAddress::Unix(PathBuf::from(path))),
    }
}

fn host_port(text: &str) -> Result<SocketAddr, ListenError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or_else(|| ListenError::Ipv6(text.into()))?;
        let ip: IpAddr = host
            .parse()
            .ok()
            .filter(IpAddr::is_ipv6)
            .ok_or(ListenError::Ipv6(host.into()))?;
        return Ok((ip, port(after.strip_prefix(':').ok_or(ListenError::NoPort)?)?).into());
    }
    if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return Err(ListenError::Brackets(text.into()));
    }
    let (host, number) = text.rsplit_once(':').ok_or(ListenError::NoPort)?;
    let number = port(number)?;
    let ip = match host {
        "" | "*" => Ipv4Addr::UNSPECIFIED.into(),
        _ => match host.parse() {
            Ok(ip) => ip,
            Err(_) => look_up(host)?,
        },
    };
    Ok((ip, number).into())
}

fn port(text: &str) -> Result<u16, ListenError> {
    if text.is_empty() {
        return Err(ListenError::NoPort);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| ListenError::Port(text.into()))
}

fn look_up(host: &str) -> Result<IpAddr, ListenError> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !host.chars().all(good) {
        return Err(ListenError::HostName(host.into()));
    }
    let unknown = |source| ListenError::Host {
        host: host.into(),
        source,
    };
    let found: Vec<IpAddr> = (host, 0)
        .to_socket_addrs()
        .map_err(unknown)?
        .map(|a| a.ip())
        .collect();
    let v4 = found.iter().find(|ip| ip.is_ipv4());
    v4.or(found.first())
        .copied()
        .ok_or_else(|| ListenError::HostName(host.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(Listen {
                name: Some(name),
                address,
                ..
            }) => format!("{name} {address}"),
            Ok(Listen {
                name: None, address, ..
            }) => address.to_string(),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn each_form() {
        for (text, expected) in [
            ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80"),
            ("tcp://127.0.0.1:80/", "tcp://127.0.0.1:80"),
            ("tcp://[::1]:80", "tcp://[::1]:80"),
            ("[::]:0", "tcp://[::]:0"),
            ("localhost:3000", "tcp://127.0.0.1:3000"),
            (":3000", "tcp://0.0.0.0:3000"),
            ("*:3000", "tcp://0.0.0.0:3000"),
            ("3000", "tcp://0.0.0.0:3000"),
            ("udp://:53", "udp://0.0.0.0:53"),
            ("unix:/run/a=b.sock", "unix:/run/a=b.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
            ("unix:a.sock", "unix:a.sock"),
            ("web=:80", "web tcp://0.0.0.0:80"),
            ("dns.v4=udp://127.0.0.1:53", "dns.v4 udp://127.0.0.1:53"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn the_bad_part_is_named() {
        for (text, expected) in [
            ("", "! the address is empty"),
            ("web=", "! the address is empty"),
            ("a b=:80", "! `a b` is not a name for a socket"),
            ("=:80", "! `` is not a name for a socket"),
            ("http://:80", "! unknown scheme `http`"),
            ("tcp://localhost", "! no port"),
            ("localhost:", "! no port"),
            ("localhost", "! no port"),
            (":http", "! `http` is not a port (0 to 65535)"),
            ("99999", "! `99999` is not a port (0 to 65535)"),
            (":+80", "! `+80` is not a port (0 to 65535)"),
            ("[::g]:80", "! `::g` is not an IPv6 address"),
            ("[::1]80", "! no port"),
            ("tcp://::1", "! an IPv6 address needs brackets"),
            ("what is this:80", "! `what is this` is not a host name"),
            (
                "no-such-host.invalid:80",
                "! host `no-such-host.invalid` is not known",
            ),
            ("/run/a.sock", "! a path is not an address"),
            ("unix:", "! the socket's path is empty"),
            ("unix:@abstract", "! abstract sockets cannot be bound yet"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        let long = format!("unix:/{}", "a".repeat(107));
        assert_eq!(
            shown(&long),
            "! the socket's path has 108 bytes, more than the 107 that the system allows"
        );
    }
}
