//! A small HTTP server that takes its listening socket from whoever started it.
//!
//! ```text
//! example-hello                                                  binds PORT (3000) itself
//! everup run example-hello -i 4 --listen tcp://127.0.0.1:3000    four of these behind one port
//! ```
//!
//! The convention is systemd's `LISTEN_FDS`, read by the crate `listenfd`. One thread per connection, one request
//! per connection: enough to show the socket. A real server would also finish its requests on SIGTERM.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process;
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;

/// A request head that is longer than this is not read to its end.
const HEAD_LIMIT: u64 = 16 * 1024;

fn main() -> io::Result<()> {
    let listener = match ListenFd::from_env().take_tcp_listener(0)? {
        Some(inherited) => inherited,
        None => own_listener()?,
    };
    println!(
        "pid {} listening on http://localhost:{}",
        process::id(),
        listener.local_addr()?.port()
    );
    for connection in listener.incoming() {
        let Ok(connection) = connection else {
            // The client has gone already, or descriptors have run out; neither is a reason to end.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        thread::spawn(move || {
            // A client that goes away in the middle harms nobody.
            answer(connection).ok();
        });
    }
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
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         X-Worker-Pid: {pid}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
