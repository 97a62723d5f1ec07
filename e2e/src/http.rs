//! One HTTP request at a time, over TCP or a UNIX socket.

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, connect, socket_with};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A header's value; empty where it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }
}

/// A connection that stays open between requests.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    read: Vec<u8>,
}

/// Asks once, on a fresh connection.
///
/// # Errors
/// When no whole answer comes within the limit.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<Answer> {
    Connection::open(address, limit)?.get(path)
}

impl Connection<TcpStream> {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: SocketAddr, limit: Duration) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&address, limit).with_context(|| format!("connect to {address}"))?;
        Self::over(stream, limit)
    }

    /// Connects from one of this machine's addresses.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open_from(from: Ipv4Addr, address: SocketAddr, limit: Duration) -> Result<Self> {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&socket, &SocketAddr::from((from, 0)))?;
        connect(&socket, &address).with_context(|| format!("connect to {address} from {from}"))?;
        Self::over(socket.into(), limit)
    }

    fn over(stream: TcpStream, limit: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }
}

impl Connection<TcpStream> {
    /// Whether the server has closed it, as far as has come to us.
    #[must_use]
    pub fn ended(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.stream, &mut [0; 1], flags) {
            Ok((count, _)) => count == 0,
            Err(error) => error != Errno::AGAIN,
        }
    }
}

impl Connection<UnixStream> {
    /// Connects to a UNIX socket.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open_unix(path: &Path, limit: Duration) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))?;
        stream.set_read_timeout(Some(limit))?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }
}

impl<S: Read + Write> Connection<S> {
    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(path)?;
        self.answer()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send(&mut self, path: &str) -> Result<()> {
        // In one piece: a server may answer, and close, after the first that it reads.
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream
            .write_all(request.as_bytes())
            .context("send the request")
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn answer(&mut self) -> Result<Answer> {
        let head = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.more()? {
                bail!(
                    "the connection ended in the head, after {:?}",
                    String::from_utf8_lossy(&self.read)
                );
            }
        };
        let text = String::from_utf8_lossy(&self.read[..head]).into_owned();
        self.read.drain(..head + 4);
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer {
            status: status.context("a status line")?,
            headers,
            body: String::new(),
        };
        answer.body = self.body(&answer)?;
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer) -> Result<String> {
        let mut body = Vec::new();
        if let Ok(length) = answer.header("content-length").parse() {
            body = self.exactly(length)?;
        } else if answer.header("transfer-encoding") == "chunked" {
            loop {
                let size = self.line()?;
                let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
                body.extend(self.exactly(size)?);
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            while self.more()? {}
            body = std::mem::take(&mut self.read);
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.read.len() < length {
            if !self.more()? {
                bail!("the connection ended in the body");
            }
        }
        Ok(self.read.drain(..length).collect())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                return Ok(
                    String::from_utf8_lossy(&self.read.drain(..=end).collect::<Vec<_>>()).into_owned(),
                );
            }
            if !self.more()? {
                bail!("the connection ended in the body");
            }
        }
    }

    fn more(&mut self) -> Result<bool> {
        let mut piece = [0; 4096];
        let count = self.stream.read(&mut piece).context("read the answer")?;
        self.read.extend_from_slice(&piece[..count]);
        Ok(count > 0)
    }
}
