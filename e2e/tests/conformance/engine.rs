//! What the tests need of a primary, and `everup` behind it.

use everup::cluster::Fork;
use everup::event::ReceivedHandle;
use everup::{
    Address, Cluster, Event, Events, ExitStatus, Handle, HandleKind, Line, LineSink, Outcome, SendError,
    Spec, TimedOut, WorkerId,
};
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A worker's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) voluntary: bool,
}

/// An event, as the tests see it.
#[derive(Debug)]
pub(crate) enum Seen {
    Fork {
        worker: u32,
        pid: u32,
    },
    Online {
        worker: u32,
    },
    Listening {
        worker: u32,
        address: Address,
    },
    Ready {
        worker: u32,
    },
    Disconnect {
        worker: u32,
    },
    Exit {
        worker: u32,
        exit: Exit,
    },
    Message {
        worker: u32,
        json: Value,
    },
    Handle {
        worker: u32,
        json: Value,
        kind: Option<HandleKind>,
        descriptor: Option<ReceivedHandle>,
    },
    /// What JSON cannot say.
    Opaque {
        worker: u32,
        payload: Vec<u8>,
    },
    BindFailed {
        worker: u32,
        errno: i32,
    },
    Line {
        worker: u32,
        text: String,
    },
    /// `clean`: nobody had to be killed.
    Stopped {
        clean: bool,
    },
    /// Anything else, in words.
    Other(#[expect(dead_code, reason = "for the log of a test that fails")] String),
}

impl Seen {
    /// The worker and the name of an event of its life.
    fn step(&self) -> Option<(u32, &'static str)> {
        match *self {
            Self::Fork { worker, .. } => Some((worker, "fork")),
            Self::Online { worker } => Some((worker, "online")),
            Self::Listening { worker, .. } => Some((worker, "listening")),
            Self::Disconnect { worker } => Some((worker, "disconnect")),
            Self::Exit { worker, .. } => Some((worker, "exit")),
            Self::Ready { .. }
            | Self::Message { .. }
            | Self::Handle { .. }
            | Self::Opaque { .. }
            | Self::BindFailed { .. }
            | Self::Line { .. }
            | Self::Stopped { .. }
            | Self::Other(_) => None,
        }
    }
}

/// The life of each worker so far.
#[derive(Debug, Default)]
pub(crate) struct Lives(HashMap<u32, Vec<&'static str>>);

impl Lives {
    pub(crate) fn note(&mut self, seen: &Seen) {
        if let Some((worker, step)) = seen.step() {
            self.0.entry(worker).or_default().push(step);
        }
    }

    pub(crate) fn of(&self, worker: u32) -> Vec<&'static str> {
        self.0.get(&worker).cloned().unwrap_or_default()
    }
}

/// A primary.
pub(crate) trait Engine {
    /// The new worker's id, if it is known at once.
    fn fork(&mut self, env: Vec<(OsString, OsString)>) -> Option<u32>;
    fn send(&mut self, worker: u32, json: &str);
    fn send_handle(&mut self, worker: u32, json: &str, kind: HandleKind, fd: OwnedFd);
    /// Sends back what came as [`Seen::Opaque`].
    fn send_opaque(&mut self, worker: u32, payload: Vec<u8>);
    fn disconnect(&mut self, worker: u32);
    fn cut(&mut self, worker: u32);
    fn kill(&mut self, worker: u32, signal: i32);
    fn stop(&mut self);
    fn state(&mut self, worker: u32) -> Option<(String, bool)>;
    fn next(&mut self, limit: Duration) -> Option<Seen>;
    fn order(&self, worker: u32) -> Vec<&'static str>;
    /// Waits until nothing of it is left.
    fn join(self: Box<Self>);
}

/// `everup` as the primary.
pub(crate) struct Everup {
    cluster: Cluster,
    events: Events,
    lines: Receiver<Seen>,
    lives: Lives,
}

impl Everup {
    pub(crate) fn start(spec: Spec, lines: Receiver<Seen>) -> Self {
        let (cluster, events) = Cluster::start(spec).expect("start a cluster");
        Self {
            cluster,
            events,
            lines,
            lives: Lives::default(),
        }
    }
}

impl Engine for Everup {
    fn fork(&mut self, env: Vec<(OsString, OsString)>) -> Option<u32> {
        self.cluster
            .fork(Fork::new().envs(env))
            .map(|worker| worker.id().0)
    }

    fn send(&mut self, worker: u32, json: &str) {
        told(self.cluster.send_json(WorkerId(worker), json));
    }

    fn send_handle(&mut self, worker: u32, json: &str, kind: HandleKind, fd: OwnedFd) {
        let message: &serde_json::value::RawValue = serde_json::from_str(json).expect("JSON");
        let handle = Handle::Raw(kind, fd);
        told(self.cluster.send_handle(WorkerId(worker), message, handle));
    }

    fn send_opaque(&mut self, worker: u32, payload: Vec<u8>) {
        let sent = self.cluster.send_opaque(WorkerId(worker), payload);
        sent.expect("it is sent back as it came");
    }

    fn disconnect(&mut self, worker: u32) {
        self.cluster.disconnect(WorkerId(worker));
    }

    fn cut(&mut self, worker: u32) {
        self.cluster.cut(WorkerId(worker));
    }

    fn kill(&mut self, worker: u32, signal: i32) {
        self.cluster.kill(WorkerId(worker), signal);
    }

    fn stop(&mut self) {
        self.cluster.stop();
    }

    fn state(&mut self, worker: u32) -> Option<(String, bool)> {
        let workers = self.cluster.workers();
        let info = workers.iter().find(|info| info.id == WorkerId(worker))?;
        Some((format!("{:?}", info.state), info.connected))
    }

    fn next(&mut self, limit: Duration) -> Option<Seen> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(line) = self.lines.try_recv() {
                return Some(line);
            }
            // Lines come by another way than events: look at both in turn.
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left.min(Duration::from_millis(10))) {
                Ok(Some(event)) => {
                    let seen = seen(event);
                    self.lives.note(&seen);
                    return Some(seen);
                }
                Ok(None) => return self.lines.recv_timeout(left).ok(),
                Err(TimedOut) if left.is_zero() => return None,
                Err(TimedOut) => {}
            }
        }
    }

    fn order(&self, worker: u32) -> Vec<&'static str> {
        self.lives.of(worker)
    }

    fn join(self: Box<Self>) {
        assert_eq!(self.cluster.join(), Outcome::Stopped);
    }
}

/// A worker that is gone is what some rows are about.
fn told(sent: Result<(), SendError>) {
    match sent {
        Ok(()) | Err(SendError::Gone) => {}
        Err(error) => panic!("{error:?}"),
    }
}

fn seen(event: Event) -> Seen {
    let json = |message: &str| {
        serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {message:.200}"))
    };
    match event {
        Event::Fork { worker, pid, .. } => Seen::Fork {
            worker: worker.0,
            pid,
        },
        Event::Online { worker, .. } => Seen::Online { worker: worker.0 },
        Event::Listening { worker, address, .. } => Seen::Listening {
            worker: worker.0,
            address,
        },
        Event::Ready { worker, .. } => Seen::Ready { worker: worker.0 },
        Event::Disconnect { worker, .. } => Seen::Disconnect { worker: worker.0 },
        Event::Exit {
            worker,
            status,
            voluntary,
            ..
        } => Seen::Exit {
            worker: worker.0,
            exit: Exit { status, voluntary },
        },
        Event::Message { worker, message, .. } => Seen::Message {
            worker: worker.0,
            json: json(&message),
        },
        Event::Handle {
            worker,
            kind,
            message,
            descriptor,
            ..
        } => Seen::Handle {
            worker: worker.0,
            json: json(&message),
            kind: Some(kind),
            descriptor: Some(descriptor),
        },
        Event::Opaque { worker, payload, .. } => Seen::Opaque {
            worker: worker.0,
            payload,
        },
        Event::BindFailed { worker, errno, .. } => Seen::BindFailed {
            worker: worker.0,
            errno,
        },
        Event::Stopped { outcome } => Seen::Stopped {
            clean: outcome == Outcome::Stopped,
        },
        other => Seen::Other(format!("{other:?}")),
    }
}

/// Collects the workers' lines.
pub(crate) fn lines() -> (Collect, Receiver<Seen>) {
    let (sender, receiver) = channel();
    (
        Collect {
            sender,
            partial: HashMap::new(),
        },
        receiver,
    )
}

#[derive(Debug)]
pub(crate) struct Collect {
    sender: Sender<Seen>,
    partial: HashMap<u32, String>,
}

impl LineSink for Collect {
    fn line(&mut self, line: Line<'_>) {
        let text = self.partial.entry(line.worker.0).or_default();
        text.push_str(&String::from_utf8_lossy(line.text));
        if !line.partial {
            let text = std::mem::take(text);
            // A test that has ended reads no more.
            self.sender
                .send(Seen::Line {
                    worker: line.worker.0,
                    text,
                })
                .unwrap_or(());
        }
    }

    fn flush(&mut self) {}
}
