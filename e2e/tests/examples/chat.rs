//! The WebSocket chat: sticky, over all workers, at least once.

use crate::{TIMEOUT, alone, stands};
use anyhow::{Context, Result, bail, ensure};
use e2e::Example;
use e2e::load::{Answer, Session};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// A client of `ws-chat`.
struct Member {
    socket: WebSocket<TcpStream>,
    server: SocketAddr,
    client: u8,
    worker: String,
    said: u64,
}

impl Member {
    /// Each client has an address of its own: 127.0.0.2 and so on.
    fn open(server: SocketAddr, client: u8) -> Result<Self> {
        let (socket, worker) = join(server, client)?;
        Ok(Self {
            socket,
            server,
            client,
            worker,
            said: 0,
        })
    }

    fn say(&mut self, line: &str) -> Result<()> {
        Ok(self.socket.send(line.into())?)
    }

    /// Hears what is said until it is `line`. False if it has to come again.
    fn hears(&mut self, line: &str) -> Result<bool> {
        loop {
            match self.socket.read()? {
                Message::Text(heard) if heard.as_str() == line => return Ok(true),
                Message::Close(Some(why)) if why.code == CloseCode::Restart => return Ok(false),
                Message::Close(why) => bail!("sent away: {why:?}"),
                _ => {}
            }
        }
    }
}

fn join(server: SocketAddr, client: u8) -> Result<(WebSocket<TcpStream>, String)> {
    let flags = SocketFlags::CLOEXEC;
    let stream = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(
        &stream,
        &SocketAddr::from((Ipv4Addr::new(127, 0, 0, client + 1), 0)),
    )?;
    connect(&stream, &server).with_context(|| format!("connect to {server}"))?;
    let stream = TcpStream::from(stream);
    stream.set_read_timeout(Some(TIMEOUT))?;
    let (mut socket, _) = tungstenite::client(format!("ws://{server}/"), stream)?;
    let greeting = socket.read()?;
    let worker = greeting
        .to_text()?
        .strip_prefix("* worker ")
        .context("a greeting")?;
    let worker = worker.to_owned();
    Ok((socket, worker))
}

impl Session for Member {
    fn exchange(&mut self) -> Result<Answer> {
        self.said += 1;
        let line = format!("{} of client {}", self.said, self.client);
        // Said again wherever it is sent to, until it is heard.
        loop {
            self.say(&line)?;
            if self.hears(&line)? {
                let worker = self.worker.clone();
                return Ok(Answer { worker, stays: true });
            }
            (self.socket, self.worker) = join(self.server, self.client)?;
        }
    }
}

#[test]
fn ws_chat() -> Result<()> {
    let _alone = alone();
    let example = Example::start("ws-chat", &[])?;
    let address = example.address;
    stands(&example, move |client| {
        Member::open(address, u8::try_from(client)?)
    })?;
    example.end()
}

/// An address comes to the same worker, all addresses together to all workers, and everyone hears everyone.
#[test]
fn ws_chat_is_sticky_and_one_room() -> Result<()> {
    let _alone = alone();
    let example = Example::start("ws-chat", &[])?;
    let mut members = Vec::new();
    for client in 1..=16 {
        let first = Member::open(example.address, client)?;
        for _ in 0..3 {
            let again = Member::open(example.address, client)?;
            ensure!(
                first.worker == again.worker,
                "client {client} came to two workers"
            );
        }
        members.push(first);
    }
    let workers: BTreeSet<_> = members.iter().map(|member| member.worker.clone()).collect();
    ensure!(workers.len() == 2, "all clients came to {workers:?}");
    members[0].say("hello everybody")?;
    for member in &mut members {
        ensure!(member.hears("hello everybody")?, "sent away");
    }
    drop(members);
    example.end()
}
