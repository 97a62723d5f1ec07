//! The thread that reads a worker's channel, and the one that waits for signals.
//!
//! Job: hear the primary at once, however busy the app is: a handle is acknowledged, a request to leave is noted, the
//! death of the primary is seen. Taking a connection is the app's own doing.

use super::drain::DrainReason;
use super::link::{Heard, Link};
use crate::channel::READ_BUFFER;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Starts to read.
pub(super) fn start(link: &Arc<Link>) -> io::Result<()> {
    if link.wake_descriptor().is_none() {
        return Err(rustix::io::Errno::MFILE.into());
    }
    let link = Arc::clone(link);
    std::thread::Builder::new()
        .name("everup-channel".into())
        .stack_size(256 * 1024)
        .spawn(move || run(&link))?;
    Ok(())
}

fn run(link: &Arc<Link>) {
    let (Some(socket), Some(wake)) = (link.socket(), link.wake_descriptor()) else {
        return;
    };
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        let wanted = if link.is_full() {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        let mut watched = [PollFd::new(socket, wanted), PollFd::new(wake, PollFlags::IN)];
        if poll(&mut watched, None).is_err() {
            continue; // Interrupted.
        }
        let (news, woken) = (watched[0].revents(), !watched[1].revents().is_empty());
        if woken {
            rustix::io::read(wake, &mut [0_u8; 8]).ok();
        }
        if news.contains(PollFlags::OUT) {
            link.write();
        }
        if !(news - PollFlags::OUT).is_empty() && link.hear(&mut buffer) == Heard::End {
            return;
        }
    }
}

/// Takes SIGTERM (and SIGINT, where nobody else would see to it) as the request to leave.
pub(super) fn watch_signals(link: &Arc<Link>, interrupt: bool) -> io::Result<()> {
    let (mut read, write) = UnixStream::pair()?;
    let mut signals = vec![rustix::process::Signal::TERM];
    signals.extend(interrupt.then_some(rustix::process::Signal::INT));
    for signal in signals {
        signal_hook::low_level::pipe::register(signal.as_raw(), write.try_clone()?)?;
    }
    let link = Arc::clone(link);
    std::thread::Builder::new()
        .name("everup-signals".into())
        .stack_size(128 * 1024)
        .spawn(move || {
            // The handlers keep the other end open.
            while read.read(&mut [0; 1]).is_ok_and(|read| read > 0) {
                link.leave(DrainReason::Signal);
            }
        })?;
    Ok(())
}
