//! What the kernel knows of a connection.

use everup_core::steer::Instruction;
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

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
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
    delivered: u32,
    delivered_ce: u32,
    bytes_sent: u64,
    bytes_retrans: u64,
}

/// `linux/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const CLOSING: u8 = 11;
/// Places in [`TcpInfo::words`]: segments, and twice milliseconds.
const UNACKNOWLEDGED: usize = 4;
const LAST_DATA_SENT: usize = 9;
const LAST_DATA_RECEIVED: usize = 11;

/// How far a connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Both ways.
    Open,
    /// The client sent its end, we did not.
    HalfClosed,
    /// We sent our end first.
    Finished,
    /// Both ends were sent, or it was reset.
    Over,
    /// It is none: it listens, or was never connected.
    None,
}

/// A look at a connection, all at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) stage: Stage,
    /// Bytes of data that came.
    pub(crate) received: u64,
    /// Bytes of data that were written on our side, sent or not.
    pub(crate) written: u64,
    /// Whether all bytes that were written are acknowledged. Not known once our end was sent: that counts as well.
    pub(crate) acknowledged: Option<bool>,
    /// Segments that came without data.
    pub(crate) bare_segments: u64,
    pub(crate) received_ago: Duration,
    pub(crate) sent_ago: Duration,
}

/// What the kernel counts of a connection. `None` where it is no TCP, or the kernel is older than 4.19.
pub(crate) fn sight(connection: &OwnedFd) -> Option<Sight> {
    let (info, length) = info(connection)?;
    if length < size_of::<TcpInfo>() {
        return None;
    }
    let since = |place: usize| Duration::from_millis(info.words[place].into());
    Some(Sight {
        stage: stage(info.state),
        received: received(&info),
        written: info.bytes_sent.saturating_sub(info.bytes_retrans) + u64::from(info.notsent_bytes),
        acknowledged: matches!(info.state, ESTABLISHED | CLOSE_WAIT)
            .then_some(info.words[UNACKNOWLEDGED] == 0 && info.notsent_bytes == 0),
        bare_segments: info.segs_in.wrapping_sub(info.data_segs_in).into(),
        received_ago: since(LAST_DATA_RECEIVED),
        sent_ago: since(LAST_DATA_SENT),
    })
}

fn stage(state: u8) -> Stage {
    match state {
        ESTABLISHED => Stage::Open,
        CLOSE_WAIT => Stage::HalfClosed,
        FIN_WAIT1 | FIN_WAIT2 => Stage::Finished,
        CLOSE | LAST_ACK | CLOSING => Stage::Over,
        _ => Stage::None,
    }
}

/// The client's FIN is a number of the sequence, so the kernel counts it as received; it is nothing to read.
fn received(info: &TcpInfo) -> u64 {
    let end = matches!(info.state, CLOSE_WAIT | LAST_ACK | CLOSING);
    info.bytes_received.saturating_sub(end.into())
}

/// From now on a listening socket answers no new connection, but those that are in its queue stay there, and those
/// whose handshake has begun may finish it. A new client tries again by itself, and finds the socket closed by then.
///
/// # Errors
/// What `SO_ATTACH_FILTER` says.
pub(crate) fn admit_no_more(listener: &OwnedFd) -> io::Result<()> {
    const SYN: u32 = 0x02;
    const FLAGS: u32 = 13;
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        // All of these fit.
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    // The filter sees the segment from its TCP header on: one with SYN is dropped, others pass whole.
    let mut program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS),
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, SYN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    attach(listener, libc::SO_ATTACH_FILTER, &mut program)
}

/// From now on a program chooses among the listening sockets that share this one's address: it gives the index of
/// one, in the order in which they began to listen.
///
/// # Errors
/// What `SO_ATTACH_REUSEPORT_CBPF` says (Linux before 4.5 does not have it).
pub(crate) fn choose_by(listener: &OwnedFd, program: &[Instruction]) -> io::Result<()> {
    let step = |step: &Instruction| libc::sock_filter {
        code: step.code,
        jt: step.if_true,
        jf: step.if_false,
        k: step.operand,
    };
    let mut program: Vec<_> = program.iter().map(step).collect();
    attach(listener, libc::SO_ATTACH_REUSEPORT_CBPF, &mut program)
}

fn attach(socket: &OwnedFd, option: libc::c_int, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives until after the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const filter).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether nobody on our side has read from a connection, written to it, or shut it down. False where that cannot
/// be known (another protocol, Linux before 4.6).
pub(crate) fn untouched(connection: &OwnedFd) -> bool {
    let Some((info, _)) = info(connection) else {
        return false;
    };
    let open = info.state == ESTABLISHED || info.state == CLOSE_WAIT;
    let unwritten = info.data_segs_out == 0 && info.notsent_bytes == 0;
    let unread = rustix::io::ioctl_fionread(connection).is_ok_and(|unread| unread == received(&info));
    open && unwritten && unread
}

/// How many connections wait in a listening socket's queue to be accepted. `None` where that cannot be known.
pub(crate) fn waiting(listener: &OwnedFd) -> Option<u32> {
    // For a listener the kernel puts it where a connection has its unacknowledged segments (`tcp_get_info`).
    info(listener)
        .filter(|(info, _)| info.state == LISTEN)
        .map(|(info, _)| info.words[UNACKNOWLEDGED])
}

/// And how much of it the kernel knows.
fn info(connection: &OwnedFd) -> Option<(TcpInfo, usize)> {
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
    Some((unsafe { info.assume_init() }, length as usize))
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
    fn what_is_in_the_queue_stays_and_nobody_new_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        admit_no_more(&listener.try_clone().unwrap().into()).unwrap();
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut server = listener.accept().unwrap().0;
        early.write_all(b"request").unwrap();
        let mut heard = [0; 7];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"request");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
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
    fn a_look_tells_what_came_and_what_went() {
        let (mut client, mut server, copy) = pair();
        client.write_all(b"request").unwrap();
        server.read_exact(&mut [0; 7]).unwrap();
        server.write_all(b"answer").unwrap();
        let seen = sight(&copy).unwrap();
        assert_eq!((seen.stage, seen.received, seen.written), (Stage::Open, 7, 6));
        server.shutdown(Shutdown::Write).unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        let seen = sight(&copy).unwrap();
        assert_eq!((seen.stage, seen.received, seen.written), (Stage::Finished, 7, 6));
    }

    #[test]
    fn the_end_of_the_client_is_no_data() {
        let (mut client, mut server, copy) = pair();
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut request = Vec::new();
        server.read_to_end(&mut request).unwrap();
        let seen = sight(&copy).unwrap();
        assert_eq!(
            (seen.stage, seen.received, seen.written),
            (Stage::HalfClosed, 7, 0)
        );
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(sight(&copy).unwrap().stage, Stage::Over);
    }

    #[test]
    fn other_things_do_not_tell() {
        assert!(!untouched(&std::fs::File::open("/dev/null").unwrap().into()));
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
}
