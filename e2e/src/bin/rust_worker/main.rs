//! A worker that does what messages tell it, written with the library: `{"do": WHAT, …}`, answered by `{"say": …}`.
//!
//! It is the same program under an everup primary and under Node's own, and, with `FIXTURE=parent` in its environment,
//! a child of `child_process.fork`; with `FIXTURE=primary` its own primary. `FIXTURE=required` (or `threaded`, with another thread) only says what `Worker::required` says, twice. What is to be
//! heard when the channel is closed goes as a line of JSON to standard output.

mod primary;

use anyhow::{Context, Result};
use everup::message::MESSAGE_LIMIT;
use everup::worker::Message;
use everup::{Connection, Handle, Listener, Parent, SendError, UnixListener, Worker};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, watch};

fn main() -> Result<()> {
    let role = std::env::var("FIXTURE").unwrap_or_default();
    match role.as_str() {
        "required" | "threaded" => {
            if role == "threaded" {
                std::thread::spawn(std::thread::park);
            }
            for _ in 0..2 {
                line(&json!({ "required": format!("{:?}", Worker::required().map(|worker| worker.id())) }));
            }
            Ok(())
        }
        "primary" => primary::run(),
        // Ends with its channel open.
        "brief" => Parent::from_env()?.context("no parent").map(drop),
        "parent" => {
            let parent = Parent::from_env()?.context("no parent")?;
            runtime()?.block_on(as_child(parent));
            Ok(())
        }
        _ => {
            // Before there are threads: then the variables are taken out of the environment.
            let worker = Worker::required()?;
            runtime()?.block_on(as_worker(worker));
            Ok(())
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_io().build();
    built.context("a runtime")
}

fn line(json: &Value) {
    e2e::say(&json.to_string());
}

/// What all tasks have.
#[derive(Debug, Clone)]
struct Stage {
    worker: Worker,
    /// Listeners that nobody accepts from, and the tasks that do.
    kept: Arc<Mutex<Vec<Kept>>>,
    /// Told when there may be descriptors again.
    again: Arc<Notify>,
    /// How much is to be finished before the end.
    busy: Arc<watch::Sender<usize>>,
}

/// Something that is to be finished before the end.
#[derive(Debug)]
struct Busy(Arc<watch::Sender<usize>>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
    }
}

#[derive(Debug)]
enum Kept {
    Tcp { _listener: Listener },
    Unix { _listener: UnixListener },
    Task(tokio::task::JoinHandle<()>),
}

async fn as_worker(worker: Worker) {
    let (busy, mut unfinished) = watch::channel(0);
    let stage = Stage {
        worker: worker.clone(),
        kept: Arc::default(),
        again: Arc::default(),
        busy: Arc::new(busy),
    };
    let left: Vec<String> = std::env::vars()
        .map(|(name, _)| name)
        .filter(|name| {
            name.starts_with("NODE_CHANNEL") || name == "NODE_UNIQUE_ID" || name == "EVERUP_CHANNEL"
        })
        .collect();
    let drain = worker.on_drain();
    stage.say(json!({
        "say": "up", "id": worker.id().map(|id| id.0), "slot": worker.slot(), "left": left,
        "args": std::env::args().skip(1).collect::<Vec<_>>(), "given": std::env::var("GIVEN").ok(),
        "cwd": std::env::current_dir().ok(),
    }));
    // For a worker without a channel.
    if let Some(order) = std::env::var("ORDER")
        .ok()
        .and_then(|order| serde_json::from_str(&order).ok())
    {
        stage.follow(&order).await;
    }
    if let Some(mut messages) = worker.messages() {
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                let (stage, busy) = (stage.clone(), stage.busy());
                tokio::spawn(async move {
                    stage.obey(message).await;
                    drop(busy);
                });
            }
            line(&json!({ "worker": stage.id(), "line": "no more messages" }));
        });
    }
    drain.await;
    let late = worker
        .listen("127.0.0.1:0")
        .await
        .map(|listener| listener.local_addr());
    let unsent = match worker.is_connected() {
        true => Ok(()),
        false => worker.send(&"too late"),
    };
    line(&json!({
        "late": format!("{late:?}"), "unsent": format!("{unsent:?}"),
        "worker": worker.id().map(|id| id.0), "line": "drain", "reason": format!("{:?}", worker.drain_reason()),
        "connected": worker.is_connected(), "leaving": worker.exited_after_disconnect(),
    }));
    // The one who counts lives as long as this.
    unfinished.wait_for(|busy| *busy == 0).await.ok();
}

impl Stage {
    fn id(&self) -> u32 {
        self.worker.id().map_or(0, |id| id.0)
    }

    fn busy(&self) -> Busy {
        self.busy.send_modify(|busy| *busy += 1);
        Busy(Arc::clone(&self.busy))
    }

    fn say(&self, what: Value) {
        if self.worker.send(&what).is_err() {
            line(&json!({ "worker": self.id(), "line": "unsaid", "what": what }));
        }
    }

    fn failed(&self, error: &(impl std::error::Error + 'static)) {
        let source = std::error::Error::source(error).map(ToString::to_string);
        let (name, text) = (format!("{error:?}"), error.to_string());
        self.say(json!({ "say": "failed", "error": name, "text": text, "source": source }));
    }

    async fn obey(&self, mut message: Message) {
        let order: Value = message.parse().unwrap_or_default();
        if let Some(received) = message.take_handle() {
            let kind = format!("{:?}", received.kind());
            if let Some(handle) = received.into_handle() {
                self.take(handle, json!({ "kind": kind, "message": order }));
            }
            return;
        }
        if let Some(payload) = message.opaque() {
            return self.say(json!({ "say": "opaque", "bytes": payload.len() }));
        }
        self.follow(&order).await;
    }

    async fn follow(&self, order: &Value) {
        match order["do"].as_str() {
            Some("listen") => self.listen(order).await,
            Some("unix") => self.listen_unix(order).await,
            Some("udp") => self.udp(order).await,
            Some("close") => self.close(),
            Some("again") => self.again.notify_one(),
            Some("give") => self.give(order).await,
            Some("leave") => self.worker.disconnect().await,
            Some("leave at once") => {
                self.worker.disconnect_now().await;
                std::process::exit(0);
            }
            Some("exit") => std::process::exit(
                order["code"]
                    .as_i64()
                    .map_or(9, |code| code.try_into().unwrap_or(9)),
            ),
            Some("crash") => std::process::abort(),
            Some("send badly") => self.send_badly(),
            Some("named") => match self.worker.listen_named("web") {
                Ok(listener) => self.keep(self.serving(listener, false)),
                Err(error) => self.failed(&error),
            },
            Some("socket") => match self.worker.listen("127.0.0.1:0").await.map(Listener::into_std) {
                Ok(Ok(socket)) => self.say(json!({ "say": "socket", "at": socket.local_addr().ok() })),
                Ok(Err(error)) => self.failed(&error),
                Err(error) => self.failed(&error),
            },
            Some("state") => self.say(json!({
                "say": "state", "connected": self.worker.is_connected(),
                "leaving": self.worker.exited_after_disconnect(), "alone": self.worker.is_alone(),
            })),
            _ => self.say(json!({ "say": "echo", "message": order })),
        }
    }

    fn keep(&self, kept: Kept) {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(kept);
    }

    fn close(&self) {
        for kept in std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner)) {
            match kept {
                Kept::Task(task) => task.abort(),
                Kept::Tcp { .. } | Kept::Unix { .. } => {}
            }
        }
        self.say(json!({ "say": "closed" }));
    }

    async fn listen(&self, order: &Value) {
        let opened = match (order["port"].as_u64(), order["at"].as_str()) {
            (Some(port), _) => self.worker.listen(u16::try_from(port).unwrap_or(0)).await,
            (None, at) => self.worker.listen(at.unwrap_or("127.0.0.1:0")).await,
        };
        let listener = match opened {
            Ok(listener) => listener,
            Err(error) => return self.failed(&error),
        };
        let said = json!({
            "say": "listening", "port": listener.local_addr().port(), "ip": listener.local_addr().ip(),
            "socket": listener.has_socket(),
        });
        let stage = self.clone();
        self.keep(match order["how"].as_str() {
            Some("never") => Kept::Tcp { _listener: listener },
            Some("blocking") => {
                std::thread::spawn(move || stage.accept_blocking(&listener));
                return self.say(said);
            }
            _ => self.serving(listener, order["how"] == "hold"),
        });
        self.say(said);
    }

    fn serving(&self, listener: Listener, hold: bool) -> Kept {
        let stage = self.clone();
        Kept::Task(tokio::spawn(async move { stage.accept(listener, hold).await }))
    }

    async fn accept(&self, listener: Listener, hold: bool) {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    tokio::spawn(self.clone().serve(connection, hold));
                }
                Err(everup::AcceptError::Drained) => return,
                Err(error) => {
                    self.failed(&error);
                    // It passes when the test lifts the limit, and says so.
                    self.again.notified().await;
                }
            }
        }
    }

    fn accept_blocking(&self, listener: &Listener) {
        use std::io::Write;
        while let Ok((mut connection, _)) = listener.accept_blocking() {
            // A client that is gone does not matter here.
            connection.write_all(self.id().to_string().as_bytes()).ok();
        }
        self.say(json!({ "say": "accepted the last" }));
    }

    /// The worker's number; and where the connection is held, the rest when the client has said something.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut connection: Connection<S>, hold: bool) {
        let busy = self.busy();
        connection.write_all(self.id().to_string().as_bytes()).await.ok();
        if hold && connection.read_u8().await.is_ok() {
            connection.write_all(b" finished").await.ok();
        }
        drop(connection);
        drop(busy);
    }

    async fn listen_unix(&self, order: &Value) {
        let path = PathBuf::from(order["path"].as_str().unwrap_or_default());
        let listener = match self.worker.listen_unix(path).await {
            Ok(listener) => listener,
            Err(error) => return self.failed(&error),
        };
        let said = json!({ "say": "listening", "path": listener.path(), "socket": listener.has_socket() });
        if order["how"] == "never" {
            self.keep(Kept::Unix { _listener: listener });
            return self.say(said);
        }
        let stage = self.clone();
        self.keep(Kept::Task(tokio::spawn(async move {
            while let Ok(connection) = listener.accept().await {
                tokio::spawn(stage.clone().serve(connection, false));
            }
        })));
        self.say(said);
    }

    async fn udp(&self, order: &Value) {
        let opened = match (order["port"].as_u64(), order["at"].as_str()) {
            (Some(port), _) => self.worker.bind_udp(u16::try_from(port).unwrap_or(0)).await,
            (None, at) => self.worker.bind_udp(at.unwrap_or("127.0.0.1:0")).await,
        };
        match opened {
            Ok(socket) => {
                let port = socket
                    .local_addr()
                    .map(|address| address.port())
                    .unwrap_or_default();
                self.answer(socket);
                self.say(json!({ "say": "bound", "port": port }));
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Answers every packet with the worker's number.
    fn answer(&self, socket: UdpSocket) {
        let id = self.id().to_string();
        self.keep(Kept::Task(tokio::spawn(async move {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]).await {
                socket.send_to(id.as_bytes(), from).await.ok();
            }
        })));
    }

    /// A socket that came is used.
    fn take(&self, handle: Handle, with: Value) {
        let what = match handle {
            Handle::Listener(listener) => {
                let stage = self.clone();
                TcpListener::from_std(listener).map(|listener| {
                    self.keep(Kept::Task(tokio::spawn(async move {
                        while let Ok((stream, _)) = listener.accept().await {
                            stage.write(stream).await;
                        }
                    })));
                    "listener"
                })
            }
            Handle::Stream(stream) => TcpStream::from_std(stream).map(|stream| {
                let stage = self.clone();
                tokio::spawn(async move { stage.write(stream).await });
                "stream"
            }),
            Handle::Datagram(socket) => UdpSocket::from_std(socket).map(|socket| {
                self.answer(socket);
                "datagram"
            }),
            other => Err(std::io::Error::other(format!("{other:?}"))),
        };
        self.say(json!({ "say": "took", "what": what.map_err(|error| error.to_string()), "with": with }));
    }

    async fn write(&self, mut stream: impl AsyncWrite + Unpin) {
        stream.write_all(self.id().to_string().as_bytes()).await.ok();
        stream.shutdown().await.ok();
    }

    /// Sends a socket of its own.
    async fn give(&self, order: &Value) {
        if let Err(error) = self.try_to_give(order).await {
            self.say(json!({ "say": "failed", "error": format!("{error:?}") }));
        }
    }

    async fn try_to_give(&self, order: &Value) -> Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let gift = |port: u16| json!({ "say": "gift", "port": port });
        match order["what"].as_str() {
            Some("server") => self.worker.send_handle(&gift(address.port()), listener)?,
            Some("dgram") => {
                let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
                self.worker
                    .send_handle(&gift(socket.local_addr()?.port()), socket)?;
            }
            _ => {
                let client = std::net::TcpStream::connect(address)?;
                let (ours, _) = listener.accept()?;
                self.worker.send_handle(&gift(address.port()), ours)?;
                client.set_nonblocking(true)?;
                let mut text = String::new();
                TcpStream::from_std(client)?.read_to_string(&mut text).await?;
                self.say(json!({ "say": "heard", "text": text }));
            }
        }
        Ok(())
    }

    /// Messages that cannot be sent: what each is refused with.
    fn send_badly(&self) {
        let long = format!("\"{}\"", "x".repeat(MESSAGE_LIMIT));
        let attempts = [self.worker.send_json("{not json"), self.worker.send_json(&long)];
        for refused in attempts {
            match refused {
                Ok(()) => self.say(json!({ "say": "sent" })),
                Err(error) => self.failed(&error),
            }
        }
    }
}

/// As a child of `child_process.fork`: the same in small.
async fn as_child(parent: Parent) {
    let told = |what: Value| {
        if let Err(SendError::Gone) = parent.send(&what) {
            line(&json!({ "line": "unsaid", "what": what }));
        }
    };
    told(json!({ "say": "up", "worker": Worker::from_env().is_ok_and(|worker| worker.is_some()) }));
    let Some(mut messages) = parent.messages() else {
        return;
    };
    while let Some(mut message) = messages.recv().await {
        let order: Value = message.parse().unwrap_or_default();
        if let Some(Handle::Stream(stream)) = message.take_handle().and_then(|handle| handle.into_handle()) {
            if let Ok(mut stream) = TcpStream::from_std(stream) {
                stream.write_all(b"child").await.ok();
            }
            told(json!({ "say": "took", "with": order }));
            continue;
        }
        match order["do"].as_str() {
            Some("leave") => parent.disconnect().await,
            Some("give") => give(&parent),
            _ => told(json!({ "say": "echo", "message": order, "opaque": message.opaque().is_some() })),
        }
    }
    parent.on_disconnect().await;
    line(&json!({ "line": "disconnected", "connected": parent.is_connected() }));
}

fn give(parent: &Parent) {
    let given = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| {
        let port = listener.local_addr()?.port();
        Ok(parent.send_handle(&json!({ "say": "gift", "port": port }), listener))
    });
    if let Ok(Err(error)) | Err(error) = given.map_err(|_| SendError::Gone) {
        line(&json!({ "line": "failed", "error": error.to_string() }));
    }
}
