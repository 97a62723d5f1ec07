//! What the kernel knows of a connection.

use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, OwnedFd};

/// The beginning of Linux's `struct tcp_info` (`linux/tcp.h`), as far as it is needed here: the C library's own
/// ends before it.
#[repr(C)]
struct TcpInfo {
    state: u8,
    flags: [u8; 7],
    words: [u32; 24],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
}

/// Open, or half-closed by the client (`linux/tcp_states.h`).
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
/// A listening socket.
const LISTEN: u8 = 10;

/// Whether nobody on our side has read from a connection, written to it, or shut it down. False where that cannot
/// be known (another protocol, Linux before 4.6).
pub(crate) fn untouched(connection: &OwnedFd) -> bool {
    let Some(info) = info(connection) else {
        return false;
    };
    let open = info.state == ESTABLISHED || info.state == CLOSE_WAIT;
    let unwritten = info.data_segs_out == 0 && info.notsent_bytes == 0;
    // The client's FIN is a number of the sequence, so it counts as received; it is nothing to read.
    let end = u64::from(info.state == CLOSE_WAIT);
    let unread =
        rustix::io::ioctl_fionread(connection).is_ok_and(|unread| unread + end == info.bytes_received);
    open && unwritten && unread
}

/// How many connections wait in a listening socket's queue to be accepted. `None` where that cannot be known.
pub(crate) fn waiting(listener: &OwnedFd) -> Option<u32> {
    // For a listener the kernel puts it where a connection has its unacknowledged segments (`tcp_get_info`).
    const UNACKED: usize = 4;
    info(listener)
        .filter(|info| info.state == LISTEN)
        .map(|info| info.words[UNACKED])
}

fn info(connection: &OwnedFd) -> Option<TcpInfo> {
    let mut info = MaybeUninit::<TcpInfo>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<TcpInfo>()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `info`.
    let result = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let enough = offset_of!(TcpInfo, data_segs_out) + size_of::<u32>();
    if result != 0 || (length as usize) < enough {
        return None;
    }
    // SAFETY: plain numbers, zeroed before, and filled by the kernel.
    Some(unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let copy = server.try_clone().unwrap().into();
        (client, server, copy)
    }

    #[test]
    fn a_connection_is_untouched_until_the_server_reads_or_writes() {
        let (mut client, mut server, copy) = pair();
        assert!(untouched(&copy));
        client.write_all(b"request").unwrap();
        server.peek(&mut [0; 7]).unwrap();
        assert!(untouched(&copy), "arrived, and not read");
        server.read_exact(&mut [0; 3]).unwrap();
        assert!(!untouched(&copy));
    }

    #[test]
    fn writing_and_shutting_down_are_touches() {
        let (_client, mut server, copy) = pair();
        server.write_all(b"hello").unwrap();
        assert!(!untouched(&copy));
        let (_client, server, copy) = pair();
        server.shutdown(Shutdown::Write).unwrap();
        assert!(!untouched(&copy));
    }

    #[test]
    fn a_half_closed_request_is_untouched_still() {
        let (mut client, server, copy) = pair();
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        while server.peek(&mut [0; 7]).unwrap() < 7 {}
        assert!(untouched(&copy));
    }

    #[test]
    fn a_listener_tells_how_many_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let copy = listener.try_clone().unwrap().into();
        assert_eq!(waiting(&copy), Some(0));
        let _clients = [(); 2].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        while waiting(&copy) != Some(2) {}
        drop(listener.accept().unwrap());
        assert_eq!(waiting(&copy), Some(1));
        let (client, ..) = pair();
        assert_eq!(waiting(&client.into()), None);
    }

    #[test]
    fn other_things_do_not_tell() {
        assert!(!untouched(&std::fs::File::open("/dev/null").unwrap().into()));
    }
}
