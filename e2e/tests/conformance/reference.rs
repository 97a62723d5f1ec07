//! Node's own cluster primary in our place, to check the tests themselves: `conformance/reference-primary.js`,
//! commanded by JSON lines. It cannot send descriptors of ours.

use crate::engine::{Engine, Exit, Lives, Seen};
use crate::support::{At, Mode, script};
use everup::{Address, Channel, ExitStatus, HandleKind, Serialization, Spec, signal_number};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

pub(crate) struct Reference {
    child: Child,
    commands: ChildStdin,
    events: Receiver<Value>,
    lives: Lives,
}

impl Reference {
    pub(crate) fn start(at: &At, spec: &Spec) -> Self {
        let policy = if at.mode == Mode::Shared { "none" } else { "rr" };
        let mut child = Command::new(&at.node)
            .arg(script("reference-primary.js"))
            .env("NODE_CLUSTER_SCHED_POLICY", policy)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start Node's primary");
        let commands = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut reference = Self {
            child,
            commands,
            events,
            lives: Lives::default(),
        };
        let text = |value: &OsString| value.to_str().expect("UTF-8").to_owned();
        reference.command(&json!({
            "do": "setup",
            "script": text(&spec.args[0]),
            "args": spec.args[1..].iter().map(text).collect::<Vec<_>>(),
            "cwd": spec.cwd,
            "env": pairs(&spec.env),
            "advanced": spec.channel == Channel::Node(Serialization::Advanced),
        }));
        reference
    }

    fn command(&mut self, command: &Value) {
        writeln!(self.commands, "{command}").expect("Node's primary is there");
    }
}

impl Engine for Reference {
    fn fork(&mut self, env: Vec<(OsString, OsString)>) -> Option<u32> {
        self.command(&json!({ "do": "fork", "env": pairs(&env) }));
        None
    }

    fn send(&mut self, worker: u32, message: &str) {
        let message: Value = serde_json::from_str(message).expect("JSON");
        self.command(&json!({ "do": "send", "worker": worker, "message": message }));
    }

    fn send_handle(&mut self, _worker: u32, _json: &str, _kind: HandleKind, _fd: OwnedFd) {
        panic!("not possible with Node's primary");
    }

    fn send_opaque(&mut self, _worker: u32, _payload: Vec<u8>) {
        panic!("not asked of Node's primary");
    }

    fn disconnect(&mut self, worker: u32) {
        self.command(&json!({ "do": "disconnect", "worker": worker }));
    }

    fn cut(&mut self, worker: u32) {
        self.command(&json!({ "do": "cut", "worker": worker }));
    }

    fn kill(&mut self, worker: u32, signal: i32) {
        self.command(&json!({ "do": "kill", "worker": worker, "signal": signal }));
    }

    fn stop(&mut self) {
        self.command(&json!({ "do": "stop" }));
    }

    fn state(&mut self, _worker: u32) -> Option<(String, bool)> {
        panic!("not asked of Node's primary");
    }

    fn next(&mut self, limit: Duration) -> Option<Seen> {
        let event = self.events.recv_timeout(limit).ok()?;
        let seen = seen(&event);
        self.lives.note(&seen);
        Some(seen)
    }

    fn order(&self, worker: u32) -> Vec<&'static str> {
        self.lives.of(worker)
    }

    fn join(self: Box<Self>) {}
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.child.kill().expect("kill Node's primary");
        self.child.wait().expect("reap Node's primary");
    }
}

fn pairs(env: &[(OsString, OsString)]) -> Value {
    let text = |value: &OsString| value.to_str().expect("UTF-8").to_owned();
    env.iter()
        .map(|(name, value)| (text(name), Value::from(text(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn seen(event: &Value) -> Seen {
    let number = |name: &str| event[name].as_u64().and_then(|number| u32::try_from(number).ok());
    let worker = number("worker").unwrap_or(0);
    match event["event"].as_str().expect("a name") {
        "fork" => Seen::Fork {
            worker,
            pid: number("pid").expect("a pid"),
        },
        "online" => Seen::Online { worker },
        "listening" => Seen::Listening {
            worker,
            address: address(event),
        },
        "disconnect" => Seen::Disconnect { worker },
        "exit" => {
            let status = match event["signal"].as_str() {
                Some(name) => ExitStatus::Signal {
                    signal: signal_number(name).expect("a signal"),
                    core: false,
                },
                None => ExitStatus::Code(
                    event["code"]
                        .as_i64()
                        .and_then(|code| i32::try_from(code).ok())
                        .expect("a code"),
                ),
            };
            Seen::Exit {
                worker,
                exit: Exit {
                    status,
                    voluntary: event["voluntary"] == true,
                },
            }
        }
        "message" => Seen::Message {
            worker,
            json: event["message"].clone(),
        },
        "handle" => Seen::Handle {
            worker,
            json: event["message"].clone(),
            kind: None,
            descriptor: None,
        },
        "line" => Seen::Line {
            worker,
            text: event["text"].as_str().expect("text").to_owned(),
        },
        "stopped" => Seen::Stopped { clean: true },
        _ => Seen::Other(event.to_string()),
    }
}

fn address(event: &Value) -> Address {
    if let Some(fd) = event["fd"].as_i64().filter(|fd| *fd >= 0) {
        return Address::Descriptor(i32::try_from(fd).expect("a descriptor"));
    }
    let kind = &event["addressType"];
    let text = event["address"].as_str();
    if kind == -1 {
        return Address::Unix(text.unwrap_or_default().to_owned());
    }
    let six = *kind == 6 || kind == "udp6" || (*kind == 4 && text.is_none());
    let any = if six {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let host = text.map_or(any, |text| text.parse().expect("an address"));
    let port = event["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .expect("a port");
    let address = SocketAddr::new(host, port);
    if kind.is_string() {
        Address::Udp(address)
    } else {
        Address::Tcp(address)
    }
}
