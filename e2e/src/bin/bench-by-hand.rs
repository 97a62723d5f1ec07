//! One listening socket, shared by hand: binds, starts N programs that inherit it, and does nothing more.
//!
//! The measure for "no primary in the way". `bench-by-hand PORT N PROGRAM ARGS…`: each program finds the descriptor's
//! number in `LISTEN_FD`. Ends, with its children, when its standard input ends.

use anyhow::{Context, Result};
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{Child, Command};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let mut number = || args.next()?.to_str()?.parse::<u16>().ok();
    let (port, count) = number()
        .zip(number())
        .context("usage: bench-by-hand PORT N PROGRAM ARGS…")?;
    let program = args.next().context("no program")?;
    let args: Vec<_> = args.collect();

    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).context("bind")?;
    rustix::net::listen(&socket, 511)?;
    rustix::io::fcntl_setfd(&socket, FdFlags::empty())?;

    let start = |slot: u16| {
        let mut command = Command::new(&program);
        command
            .args(&args)
            .env("LISTEN_FD", socket.as_raw_fd().to_string());
        command
            .env("NODE_APP_INSTANCE", slot.to_string())
            .stdin(std::process::Stdio::null())
            .spawn()
    };
    let mut children = (0..count)
        .map(start)
        .collect::<Result<Vec<Child>, _>>()
        .context("start")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
