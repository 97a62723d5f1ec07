//! Node's own primary around the Rust worker: `e2e/parity/primary.js`, told what to do by lines of JSON; and a process of
//! its own with ours, told in the same way.

use anyhow::{Context, Result, ensure};
use e2e::{Everup, LIMIT, Run};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

/// The worker that is written with the library.
pub(crate) const RUST: &str = env!("CARGO_BIN_EXE_rust_worker");

/// How Node's primary gives connections to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheduling {
    RoundRobin,
    None,
}

/// A version of Node and a policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) version: u32,
    pub(crate) scheduling: Scheduling,
}

/// Node's own primary, running.
#[derive(Debug)]
pub(crate) struct Primary {
    pub(crate) run: Run,
    orders: UnixStream,
    /// Which lines were taken.
    taken: RefCell<Vec<bool>>,
    next: u32,
    /// What the worker that was started last said of itself.
    pub(crate) up: Value,
}

/// A script of `e2e/parity`.
pub(crate) fn script(name: &str) -> PathBuf {
    e2e::repository("e2e/parity").join(name)
}

/// A version's binary: Node 20 is the one in `PATH`, the others are installed by `e2e/setup`.
pub(crate) fn node(version: u32) -> Result<PathBuf> {
    if version == 20 {
        return Ok("node".into());
    }
    let node = e2e::repository("e2e/node-versions/node_modules").join(format!("node{version}/bin/node"));
    ensure!(node.is_file(), "no Node {version}: run e2e/setup");
    Ok(node)
}

impl At {
    pub(crate) fn primary(self) -> Result<Primary> {
        self.primary_with(&json!({}), &[])
    }

    /// With `cluster.setupPrimary(settings)`, and variables.
    pub(crate) fn primary_with(self, settings: &Value, env: &[(&str, &str)]) -> Result<Primary> {
        let policy = match self.scheduling {
            Scheduling::RoundRobin => "rr",
            Scheduling::None => "none",
        };
        let program = Everup::program(node(self.version)?)
            .arg(script("primary.js"))
            .arg(RUST)
            .env("NODE_CLUSTER_SCHED_POLICY", policy)
            .envs(env);
        let mut primary = Primary::start_program(program)?;
        primary.order(&json!({ "do": "setup", "settings": settings }))?;
        Ok(primary)
    }
}

impl Primary {
    /// A Rust program as the primary, and itself as its workers.
    pub(crate) fn ours() -> Result<Self> {
        Self::ours_with(&[])
    }

    pub(crate) fn ours_with(env: &[(&str, &str)]) -> Result<Self> {
        Self::start_program(Everup::program(RUST).env("FIXTURE", "primary").envs(env))
    }

    fn start_program(program: Everup) -> Result<Self> {
        let (orders, theirs) = UnixStream::pair()?;
        Ok(Self {
            run: program.stdin(Stdio::from(OwnedFd::from(theirs))).start()?,
            orders,
            taken: RefCell::default(),
            next: 1,
            up: Value::Null,
        })
    }

    pub(crate) fn order(&mut self, order: &Value) -> Result<()> {
        writeln!(self.orders, "{order}").context("Node's primary is there")
    }

    /// Starts a Rust worker, and waits until it is up.
    pub(crate) fn fork(&mut self) -> Result<u32> {
        self.fork_with(&json!({}))
    }

    pub(crate) fn fork_with(&mut self, env: &Value) -> Result<u32> {
        self.start(&json!({ "do": "fork", "env": env }))
    }

    /// Starts a Node worker.
    pub(crate) fn fork_node(&mut self) -> Result<u32> {
        self.start(&json!({ "do": "fork", "node": script("worker.js") }))
    }

    fn start(&mut self, order: &Value) -> Result<u32> {
        self.order(order)?;
        let worker = self.next;
        self.next += 1;
        self.event("fork", worker)?;
        self.event("online", worker)?;
        self.up = self.says(worker, "up")?;
        Ok(worker)
    }

    pub(crate) fn tell(&mut self, worker: u32, message: &Value) -> Result<()> {
        self.order(&json!({ "do": "send", "worker": worker, "message": message }))
    }

    /// Tells a worker something, and waits for what it says to that.
    pub(crate) fn ask(&mut self, worker: u32, message: &Value, answer: &str) -> Result<Value> {
        self.tell(worker, message)?;
        self.says(worker, answer)
    }

    /// The next line that fits, whether it came already or is yet to come; it is taken.
    pub(crate) fn line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        self.run.until(what, LIMIT, |seen| {
            let mut taken = self.taken.borrow_mut();
            taken.resize(seen.out.len(), false);
            let mut lines = seen.out.iter().enumerate().filter(|(index, _)| !taken[*index]);
            let (index, json) = lines.find_map(|(index, line)| {
                let json: Value = serde_json::from_str(line).ok()?;
                fits(&json).then_some((index, json))
            })?;
            taken[index] = true;
            Some(json)
        })
    }

    /// The next event of a worker's.
    pub(crate) fn event(&self, name: &str, worker: u32) -> Result<Value> {
        self.line(&format!("{name} of {worker}"), |json| {
            json["event"] == name && json["worker"] == worker
        })
    }

    /// The next event that is nobody's.
    pub(crate) fn told(&self, name: &str) -> Result<Value> {
        self.line(name, |json| json["event"] == name)
    }

    /// The next message `{"say": what, …}` of a worker's.
    pub(crate) fn says(&self, worker: u32, what: &str) -> Result<Value> {
        let json = self.line(&format!("{what:?} said by {worker}"), |json| {
            json["event"] == "message" && json["worker"] == worker && json["message"]["say"] == what
        })?;
        let mut said = json["message"].clone();
        said["type"] = json["type"].clone();
        Ok(said)
    }

    /// The next line that the worker wrote itself.
    pub(crate) fn wrote(&self, worker: u32, what: &str) -> Result<Value> {
        self.line(&format!("{what:?} written by {worker}"), |json| {
            json["worker"] == worker && json["line"] == what
        })
    }

    /// Whether no line so far fits.
    pub(crate) fn none(&self, fits: impl Fn(&Value) -> bool) -> bool {
        let seen = self.run.seen();
        let mut lines = seen.out.iter().filter_map(|line| serde_json::from_str(line).ok());
        !lines.any(|json| fits(&json))
    }

    /// Waits for a worker's end, and asserts how Node sees it.
    pub(crate) fn exits(
        &self,
        worker: u32,
        code: Option<i32>,
        signal: Option<&str>,
        voluntary: bool,
    ) -> Result<()> {
        let exit = self.event("exit", worker)?;
        let wanted = json!({ "event": "exit", "worker": worker, "code": code, "signal": signal, "voluntary": voluntary });
        ensure!(exit == wanted, "{exit}, wanted {wanted}");
        Ok(())
    }

    /// Lets all workers leave, and waits until all have.
    pub(crate) fn end(mut self) -> Result<()> {
        self.order(&json!({ "do": "all" }))?;
        self.told("all disconnected")?;
        drop(self.orders);
        self.run.gone(LIMIT)
    }
}

/// A connection to a port of this machine.
pub(crate) fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("connect {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// All that a server says.
pub(crate) fn greeted(port: u16) -> Result<String> {
    let mut text = String::new();
    connect(port)?
        .read_to_string(&mut text)
        .context("read to the end")?;
    Ok(text)
}

/// All that a server says at a UNIX socket.
pub(crate) fn greeted_unix(path: &std::path::Path) -> Result<String> {
    let mut text = String::new();
    connect_unix(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// A connection to a UNIX socket.
pub(crate) fn connect_unix(path: &std::path::Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// The answer to a packet.
pub(crate) fn pinged(port: u16) -> Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.send_to(b"ping", ("127.0.0.1", port))?;
    let mut answer = [0; 64];
    let (length, _) = socket.recv_from(&mut answer).context("an answer")?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// A port in an answer.
pub(crate) fn port(answer: &Value) -> Result<u16> {
    let port = answer["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    port.filter(|port| *port > 0)
        .with_context(|| format!("no port in {answer}"))
}
