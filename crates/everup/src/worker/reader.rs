//! The thread that reads a worker's channel, and the one that waits for signals.
//!
//! Job: hear the primary at once, however busy the app is: a handle is acknowledged, a request to leave is noted, the
//! death of the primary is seen. Taking a connection is the app's own doing.

use super::drain::DrainReason;
use super::link::{Blocked, Heard, Link};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use signal_hook::low_level::pipe;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes read at once: as many as libuv reads, which a primary may count on.
const READ_BUFFER: usize = 64 * 1024;

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
        let blocked = link.blocked();
        let wanted = match blocked {
            Blocked::Full => PollFlags::IN | PollFlags::OUT,
            Blocked::Not | Blocked::Short => PollFlags::IN,
        };
        let again = (blocked == Blocked::Short).then(|| Instant::now() + SHORT);
        let limit = again.into_iter().chain(link.leaving_until()).min();
        let mut watched = [PollFd::new(socket, wanted), PollFd::new(wake, PollFlags::IN)];
        if poll(&mut watched, limit.map(until).as_ref()).is_err() {
            continue; // Interrupted.
        }
        if limit.is_some_and(|limit| limit <= Instant::now()) {
            link.look_whether_to_drain();
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

/// When the system is short of something, writing is tried again after this.
const SHORT: Duration = Duration::from_millis(10);

/// The time until then, rounded up.
fn until(then: Instant) -> Timespec {
    let left = then.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

/// Takes SIGTERM (and SIGINT, where nobody else would see to it) as the request to leave.
pub(super) fn watch_signals(link: &Arc<Link>, interrupt: bool) -> io::Result<()> {
    let (read, write) = UnixStream::pair()?;
    let mut signals = vec![Signal::TERM];
    signals.extend(interrupt.then_some(Signal::INT));
    let mut registered = Vec::new();
    let started = signals
        .iter()
        .try_for_each(|signal| {
            registered.push(pipe::register(signal.as_raw(), write.try_clone()?)?);
            Ok(())
        })
        .and_then(|()| start_waiting(link, read));
    if started.is_err() {
        // Nobody would hear of them; so they are to kill, as ever.
        for id in registered {
            signal_hook::low_level::unregister(id);
        }
    }
    started
}

fn start_waiting(link: &Arc<Link>, mut read: UnixStream) -> io::Result<()> {
    let link = Arc::clone(link);
    std::thread::Builder::new()
        .name("everup-signals".into())
        .stack_size(128 * 1024)
        .spawn(move || {
            // The handlers keep the other end open.
            loop {
                match read.read(&mut [0; 1]) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => return,
                }
                if let Some(until) = link.leave(DrainReason::Signal) {
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    link.look_whether_to_drain();
                }
            }
        })?;
    Ok(())
}
