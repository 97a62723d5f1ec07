//! Simple blocking clients, and free ports.

use crate::support::LIMIT;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port that nobody has, TCP and UDP, IPv4 and IPv6. It is not from the range out of which the kernel takes
/// ports for `listen(0)`, and no other test of this process gets it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    let start = u16::try_from(std::process::id() * 331 % u32::from(COUNT)).expect("below the count");
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        if TcpListener::bind(any).is_ok()
            && UdpSocket::bind(any).is_ok()
            && TcpListener::bind((HERE, port)).is_ok()
        {
            return port;
        }
    }
    panic!("no free port");
}

/// Whether a port can be bound: nobody listens there any more.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((HERE, port)).is_ok()
}

pub(crate) fn connect(port: u16) -> TcpStream {
    connect_to(SocketAddr::new(HERE, port))
}

pub(crate) fn connect_to(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT)
        .unwrap_or_else(|error| panic!("connect {address}: {error}"));
    stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
    stream.set_write_timeout(Some(LIMIT)).expect("set a limit");
    stream
}

/// All that a stream has to say.
pub(crate) fn read_all(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read to the end");
    text
}

/// One byte's worth of answer, from a connection that stays.
pub(crate) fn read_one(mut stream: impl Read) -> String {
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("read a byte");
    String::from_utf8(byte.to_vec()).expect("text")
}

/// The id of the worker that answers on a port.
pub(crate) fn greet(port: u16) -> u32 {
    parse(&read_all(connect(port)))
}

pub(crate) fn greet_at(address: SocketAddr) -> u32 {
    parse(&read_all(connect_to(address)))
}

pub(crate) fn connect_unix(path: &Path) -> UnixStream {
    let stream =
        UnixStream::connect(path).unwrap_or_else(|error| panic!("connect {}: {error}", path.display()));
    stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
    stream
}

pub(crate) fn greet_unix(path: &Path) -> u32 {
    parse(&read_all(connect_unix(path)))
}

pub(crate) fn parse(text: &str) -> u32 {
    text.parse()
        .unwrap_or_else(|_| panic!("not a worker's id: {text:?}"))
}

/// An HTTP request on an open connection, and the whole answer.
pub(crate) fn http(mut stream: impl Read + Write) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        .expect("send a request");
    read_all(stream)
}

pub(crate) fn udp() -> UdpSocket {
    let socket = UdpSocket::bind((HERE, 0)).expect("bind UDP");
    socket.set_read_timeout(Some(LIMIT)).expect("set a limit");
    socket
}

/// The answer to one packet: who, and from where.
pub(crate) fn udp_greet(socket: &UdpSocket, port: u16) -> u32 {
    socket.send_to(b"hello", (HERE, port)).expect("send a packet");
    udp_receive(socket).0
}

pub(crate) fn udp_receive(socket: &UdpSocket) -> (u32, SocketAddr) {
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).expect("a packet");
    (parse(&String::from_utf8_lossy(&buffer[..length])), from)
}

/// Connects if the other side's queue has room.
pub(crate) fn try_connect(port: u16, limit: Duration) -> Option<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(HERE, port), limit).ok()
}
