//! Keep-alive clients of HTTP/1.1.

use super::crowd::{Answer, Crowd, Session, Tally};
use crate::http::Connection;
use anyhow::{Result, ensure};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// After this a request has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A [`Crowd`] that speaks HTTP/1.1.
#[derive(Debug)]
pub struct KeepAlive(Crowd);

impl KeepAlive {
    /// Begins to send, by so many clients.
    #[must_use]
    pub fn start(address: SocketAddr, clients: u64) -> Self {
        Self(Crowd::start(clients, move |_| Connection::open(address, TIMEOUT)))
    }

    /// See [`Crowd::answered`].
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn answered(&self, more: u64) -> Result<()> {
        self.0.answered(more)
    }

    /// See [`Crowd::finish`].
    ///
    /// # Errors
    /// When a client itself failed.
    pub fn finish(self) -> Result<Tally> {
        self.0.finish()
    }
}

impl Session for Connection<TcpStream> {
    fn exchange(&mut self) -> Result<Answer> {
        let answer = self.get("/")?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(Answer {
            worker: answer.header("x-worker").to_owned(),
            stays: !answer.header("connection").eq_ignore_ascii_case("close"),
        })
    }

    fn ended(&self) -> bool {
        Connection::ended(self)
    }
}
