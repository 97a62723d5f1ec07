//! A small HTTP server that takes its listening socket from whoever started it.
//!
//! ```text
//! example-hello                                                  binds PORT (3000) itself
//! everup run example-hello -i 4 --listen tcp://127.0.0.1:3000    four of these behind one port
//! ... --ready notify                                             and everup knows when each of them is ready
//! ```
//!
//! The convention is systemd's `LISTEN_FDS`, read by the crate `listenfd`. One thread per connection, one request
//! per connection: enough to show the socket. On SIGTERM it takes no more connections, finishes its requests and ends,
//! so that a reload loses nothing.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process;
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

/// A request head that is longer than this is not read to its end.
const HEAD_LIMIT: u64 = 16 * 1024;

fn main() -> io::Result<()> {
    let listener = match ListenFd::from_env().take_tcp_listener(0)? {
        Some(inherited) => inherited,
        None => own_listener()?,
    };
    // Other workers wait on the same socket: whoever comes second must get WouldBlock, not sleep in accept().
    listener.set_nonblocking(true)?;
    // A signal writes a byte into this pair, so that waiting for connections is also waiting for signals.
    let (stop, signalled) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, signalled.try_clone()?)?;
    }
    println!(
        "pid {} listening on http://localhost:{}",
        process::id(),
        listener.local_addr()?.port()
    );
    notify("READY=1")?;
    // The scope ends when all of its threads have ended: the open requests are finished.
    thread::scope(|requests| {
        while more(&listener, &stop)? {
            let connection = match listener.accept() {
                Ok((connection, _)) => connection,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => {
                    // The client has gone already, or descriptors have run out; neither is a reason to end.
                    thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            requests.spawn(move || {
                // A client that goes away in the middle harms nobody.
                answer(connection).ok();
            });
        }
        Ok(())
    })
}

/// Waits for a connection; false when a signal came, even if there are connections: they are for the other workers.
fn more(listener: &TcpListener, stop: &UnixStream) -> io::Result<bool> {
    let mut both = [
        PollFd::new(listener, PollFlags::IN),
        PollFd::new(stop, PollFlags::IN),
    ];
    match poll(&mut both, None) {
        Ok(_) => Ok(both[1].revents().is_empty()),
        // The signal has written its byte by now.
        Err(rustix::io::Errno::INTR) => more(listener, stop),
        Err(error) => Err(error.into()),
    }
}

/// Tells whoever started us how we are (`sd_notify`), if they want to know.
fn notify(text: &str) -> io::Result<()> {
    let Ok(path) = env::var("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

/// A listening socket of our own, for a start without everup.
fn own_listener() -> io::Result<TcpListener> {
    let port = match env::var("PORT") {
        Ok(text) => text
            .parse()
            .map_err(|_| io::Error::other(format!("PORT is not a port: {text}")))?,
        Err(_) => 3000,
    };
    TcpListener::bind(("0.0.0.0", port))
}

/// Reads one request head and answers it.
fn answer(mut connection: TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = BufReader::new(connection.try_clone()?.take(HEAD_LIMIT));
    let mut line = String::new();
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let pid = process::id();
    let body = format!("Hello from Rust, pid {pid}\n");
    // In one piece, so that it is one packet.
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         X-Worker-Pid: {pid}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(answer.as_bytes())
}
