//! TCP and UDP without a protocol.

use crate::{TIMEOUT, alone, nothing_failed, stands};
use anyhow::{Context, Result, ensure};
use e2e::Example;
use e2e::load::{Answer, Crowd, Session};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Lines that a client says before it goes.
const LINES: u64 = 20;
/// After this a datagram, or its answer, is taken for lost.
const LOST: Duration = Duration::from_millis(500);

/// A client of `tcp-echo`.
struct Lines {
    stream: BufReader<TcpStream>,
    said: u64,
}

impl Lines {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let stream = BufReader::new(stream);
        Ok(Self { stream, said: 0 })
    }
}

impl Session for Lines {
    fn exchange(&mut self) -> Result<Answer> {
        self.said += 1;
        let said = format!("line {}\n", self.said);
        self.stream.get_mut().write_all(said.as_bytes())?;
        let mut heard = String::new();
        self.stream.read_line(&mut heard)?;
        let (worker, echo) = heard.split_once(' ').context("the end, and no echo")?;
        ensure!(echo == said, "{said:?} came back as {heard:?}");
        Ok(Answer {
            worker: worker.to_owned(),
            stays: self.said < LINES,
        })
    }
}

#[test]
fn tcp_echo() -> Result<()> {
    let _alone = alone();
    for policy in ["least-connections", "shared"] {
        let example = Example::start("tcp-echo", &[("POLICY", policy)])?;
        let address = example.address;
        stands(&example, move |_| Lines::open(address)).context(policy)?;
        example.end()?;
    }
    Ok(())
}

/// A client of `udp-echo`, which asks a second time if it has heard nothing.
struct Datagrams {
    socket: UdpSocket,
    client: u64,
    said: u64,
}

impl Datagrams {
    fn open(address: SocketAddr, client: u64) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(LOST))?;
        Ok(Self {
            socket,
            client,
            said: 0,
        })
    }

    /// The worker whose echo comes in time.
    fn ask(&self, said: &str) -> Result<Option<String>> {
        self.socket.send(said.as_bytes())?;
        let mut heard = [0; 64];
        loop {
            let length = match self.socket.recv(&mut heard) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let heard = str::from_utf8(&heard[..length])?;
            let (worker, echo) = heard.split_once(' ').context("no worker")?;
            // An earlier one may have come late.
            if echo == said {
                return Ok(Some(worker.to_owned()));
            }
        }
    }
}

impl Session for Datagrams {
    fn exchange(&mut self) -> Result<Answer> {
        self.said += 1;
        let said = format!("{} of client {}", self.said, self.client);
        for _ in 0..2 {
            if let Some(worker) = self.ask(&said)? {
                let stays = true;
                return Ok(Answer { worker, stays });
            }
        }
        anyhow::bail!("no answer to {said:?}, asked twice")
    }
}

/// Datagrams may be lost by nature. Here they are not: a reload loses none (a client that asks once gets its answer),
/// and the kill of a worker at most the one in its hands, so that whoever asks twice gets an answer.
#[test]
fn udp_echo() -> Result<()> {
    let _alone = alone();
    let example = Example::start("udp-echo", &[])?;
    let address = example.address;
    let open = move |client| Datagrams::open(address, client);
    nothing_failed(&stands(&example, open)?)?;
    let crowd = Crowd::start(crate::CLIENTS, move |client| Ok(Once(open(client)?)));
    crowd.answered(100)?;
    example.reload()?;
    crowd.answered(100)?;
    nothing_failed(&crowd.finish()?)?;
    example.end()
}

/// Asks only once.
struct Once(Datagrams);

impl Session for Once {
    fn exchange(&mut self) -> Result<Answer> {
        self.0.said += 1;
        let said = format!("{} of client {}", self.0.said, self.0.client);
        let worker = self.0.ask(&said)?.context("no answer")?;
        Ok(Answer { worker, stays: true })
    }
}
