//! A datagram with what the kernel says of its sender.
//!
//! `rustix` reads such credentials as a pid that is never 0. The kernel says 0 for a sender in a pid namespace that we
//! cannot see into, so they are read by hand here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A datagram, but for its bytes.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes were put into the buffer; what did not fit is lost.
    pub(crate) length: usize,
    /// The sender's pid as we see it. `None`: not known, or not to be seen from here.
    pub(crate) sender: Option<u32>,
    /// What came along; the kernel has closed what is more than [`DESCRIPTORS`] or so.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// How many descriptors there is room for.
const DESCRIPTORS: usize = 2;
/// `CMSG_SPACE` for the credentials and for the descriptors, each with its header.
const CONTROL: usize = 32 + 16 + DESCRIPTORS * size_of::<RawFd>();

/// Aligned as the kernel's headers want it.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Receives one, without waiting. The socket has `SO_PASSCRED`.
///
/// # Errors
/// `WouldBlock` when there is none; else what the system says.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; CONTROL]);
    let mut bytes = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: plain numbers and null pointers are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut bytes;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header names the buffer and the control room, with their lengths; both outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut received = Received {
        length,
        sender: None,
        descriptors: Vec::new(),
    };
    // SAFETY: the kernel has just filled the header and its control room.
    unsafe { read_control(&header, &mut received) };
    Ok(received)
}

/// # Safety
/// `header` was filled by `recvmsg`, its control room is there still, and was not read before: the descriptors in it
/// are nobody else's.
unsafe fn read_control(header: &libc::msghdr, received: &mut Received) {
    // SAFETY: the macros walk over what the kernel wrote, within the length that it set.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let data = libc::CMSG_DATA(next);
            let length = message.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
            if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
                for nth in 0..length / size_of::<RawFd>() {
                    let descriptor = data.cast::<RawFd>().add(nth).read_unaligned();
                    received.descriptors.push(OwnedFd::from_raw_fd(descriptor));
                }
            } else if message.cmsg_level == libc::SOL_SOCKET
                && message.cmsg_type == libc::SCM_CREDENTIALS
                && length >= size_of::<libc::ucred>()
            {
                let sender = data.cast::<libc::ucred>().read_unaligned();
                received.sender = u32::try_from(sender.pid).ok().filter(|pid| *pid != 0);
            }
            next = libc::CMSG_NXTHDR(header, next);
        }
    }
}

/// The reading of what a kernel would have written, without one: also what Miri can run
/// (`cargo +nightly miri test -p everup --lib sys::datagram`).
#[cfg(test)]
mod tests {
    use super::*;

    /// As `recvmsg` would leave it: one control message of this kind, with a length that the kernel says.
    fn heard(kind: libc::c_int, data: &[u8], said: usize) -> Received {
        let mut control = Control([0; CONTROL]);
        let header = libc::cmsghdr {
            cmsg_len: said,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: kind,
        };
        // SAFETY: a header is plain data, the room is larger than one, and aligned for it.
        unsafe { control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
        control.0[16..16 + data.len()].copy_from_slice(data);
        // SAFETY: plain numbers and null pointers are a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = 16 + data.len();
        let mut received = Received {
            length: 0,
            sender: None,
            descriptors: Vec::new(),
        };
        // SAFETY: as the kernel fills it; no descriptor is in it.
        unsafe { read_control(&header, &mut received) };
        received
    }

    fn credentials(pid: i32) -> Vec<u8> {
        [pid, 1000, 1000]
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect()
    }

    #[test]
    fn a_sender_is_a_pid_that_can_be_seen() {
        assert_eq!(heard(libc::SCM_CREDENTIALS, &credentials(7), 28).sender, Some(7));
        assert_eq!(heard(libc::SCM_CREDENTIALS, &credentials(0), 28).sender, None);
    }

    #[test]
    fn what_is_cut_short_is_not_read() {
        for said in [16, 20, 27] {
            assert_eq!(heard(libc::SCM_CREDENTIALS, &credentials(7), said).sender, None);
        }
        let none = heard(libc::SCM_RIGHTS, &[], 16);
        assert!(none.descriptors.is_empty());
        // Less than a header: nothing follows.
        assert_eq!(heard(libc::SCM_CREDENTIALS, &credentials(7), 3).sender, None);
    }
}
