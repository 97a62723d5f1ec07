//! A small daemon: it echoes lines on a TCP port, starts children, and answers questions on its control socket. A successor
//! finds everything by the memory `state` (`kind number` per record).

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use everup_keeper::{Exits, Handoff, Memory, Upgrade};

struct Host {
    exits: Exits,
    upgrade: Upgrade,
    memory: Mutex<Memory>,
    /// What `info` says.
    info: String,
}

/// What the memory's records say: a descriptor by kind, children.
#[derive(Default)]
struct Found {
    tcp: Option<TcpListener>,
    control: Option<UnixListener>,
}

/// Programs that say that they can take over, and cannot.
/// Gives an exit code for one that ends at once.
pub(crate) fn fails_as_keeper(command: &everup_keeper::Command) -> Option<u8> {
    let program = std::env::args().next().unwrap_or_default();
    let resumes = matches!(command, everup_keeper::Command::Resume { .. });
    while resumes && program.ends_with("hangs") {
        thread::park();
    }
    (resumes && program.ends_with("ends")).then_some(3)
}

pub(crate) fn daemon(handoff: Handoff) -> i32 {
    let program = std::env::args().next().unwrap_or_default();
    if program.ends_with("broken") {
        return 3;
    }
    if handoff.home.join("refuse").exists() {
        handoff.ready.fail("told to refuse");
        return 4;
    }
    let Handoff {
        home,
        incarnation,
        keeper_pid,
        keepers,
        previous,
        fell_back,
        exits,
        ready,
        upgrade,
        mut inherited,
        ..
    } = handoff;
    let memories = inherited.memories().expect("/proc is there");
    let (memory, found) = match memories.into_iter().find(|(name, _)| name == "state") {
        Some((_, fd)) => {
            let (memory, contents) = Memory::open(fd).expect("a predecessor's memory");
            let found = adopt(&contents.records, &mut |fd| inherited.take(fd));
            (memory, found)
        }
        None => (Memory::create("state").expect("a memory"), Found::default()),
    };
    // Connections that were accepted, and nobody lived to write it down, are there all the same.
    let connections: Vec<TcpStream> = inherited
        .numbers()
        .collect::<Vec<_>>()
        .into_iter()
        .filter(|fd| is_connection(*fd))
        .filter_map(|fd| inherited.take(fd))
        .map(TcpStream::from)
        .collect();
    let closed = inherited.close_rest();
    let me = std::process::id();
    let host = Host {
        exits,
        upgrade,
        memory: Mutex::new(memory),
        info: format!(
            "incarnation={incarnation} pid={me} keeper={keeper_pid} keepers={keepers} connections={} \
             closed={closed} program={program} previous={previous:?} fell_back={fell_back:?}",
            connections.len()
        ),
    };
    if program.ends_with("mute") {
        loop {
            thread::park();
        }
    }
    serve(Arc::new(host), found, connections, &home, || ready.report())
}

fn adopt(records: &[Vec<u8>], take: &mut dyn FnMut(RawFd) -> Option<OwnedFd>) -> Found {
    let mut found = Found::default();
    for record in records {
        let text = String::from_utf8_lossy(record);
        let (kind, number) = text.split_once(' ').expect("two words");
        let fd = take(number.parse().expect("a number"));
        match kind {
            "tcp" => found.tcp = fd.map(TcpListener::from),
            _ => found.control = fd.map(UnixListener::from),
        }
    }
    found
}

fn is_connection(fd: RawFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    let socket = link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:"));
    // The listeners were taken before; what is left of the control socket has no TCP peer.
    socket && connected(fd)
}

fn connected(fd: RawFd) -> bool {
    let inode = std::fs::metadata(format!("/proc/self/fd/{fd}"))
        .map(|file| std::os::unix::fs::MetadataExt::ino(&file));
    let (Ok(table), Ok(inode)) = (std::fs::read_to_string("/proc/self/net/tcp"), inode) else {
        return false;
    };
    let inode = inode.to_string();
    table
        .lines()
        .any(|line| line.split_whitespace().nth(9) == Some(&inode))
}

fn serve(
    host: Arc<Host>,
    found: Found,
    connections: Vec<TcpStream>,
    home: &Path,
    ready: impl FnOnce(),
) -> i32 {
    let tcp = found.tcp.unwrap_or_else(|| {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        host.remember("tcp", tcp.as_raw_fd());
        tcp
    });
    let control = found.control.unwrap_or_else(|| {
        let path = home.join("everup.sock");
        std::fs::remove_file(&path).ok();
        let control = UnixListener::bind(path).expect("a control socket");
        host.remember("control", control.as_raw_fd());
        control
    });
    for connection in connections {
        thread::spawn(move || echo(connection));
    }
    let port = tcp.local_addr().expect("bound").port();
    let listener = tcp.as_raw_fd();
    thread::spawn(move || {
        for connection in tcp.incoming() {
            let connection = connection.expect("accept");
            thread::spawn(move || echo(connection));
        }
    });
    // Other threads that a take-over has to stop: busy ones, and ones that start and end.
    thread::spawn(|| {
        loop {
            thread::spawn(|| drop(vec![0_u8; 10_000])).join().ok();
            // wait: not to take the processor from others
            thread::sleep(Duration::from_micros(500));
        }
    });
    ready();
    loop {
        let (stream, _) = control.accept().expect("accept");
        if let Some(code) = host.answer(stream, &format!("port={port} listener={listener}")) {
            return code;
        }
    }
}

/// Looks before it takes: a line is consumed after it was answered.
fn echo(mut connection: TcpStream) -> Option<()> {
    let mut buffer = [0; 256];
    loop {
        let seen = connection.peek(&mut buffer).ok().filter(|seen| *seen > 0)?;
        let Some(end) = buffer[..seen].iter().position(|byte| *byte == b'\n') else {
            thread::yield_now();
            continue;
        };
        connection.write_all(&buffer[..=end]).ok()?;
        connection.read_exact(&mut buffer[..=end]).ok()?;
    }
}

impl Host {
    fn remember(&self, kind: &str, fd: RawFd) {
        let mut memory = self.memory.lock().expect("no panic");
        memory.append(format!("{kind} {fd}").as_bytes()).expect("room");
    }

    /// One question per connection. Gives the exit code when that was the last.
    fn answer(&self, mut stream: UnixStream, more: &str) -> Option<i32> {
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).ok()?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut code = None;
        let answer = match words.as_slice() {
            ["info"] => format!("{} {more}", self.info),
            // The mark first, then the child: so its end is found whatever its pid was before.
            ["spawn", script @ ..] => {
                let mark = self.exits.mark();
                let child = Command::new("/bin/sh").args(["-c", &script.join(" ")]).spawn();
                let mut child = child.expect("a shell");
                let pid = child.id();
                thread::spawn(move || child.wait());
                format!("mark={mark} child={pid}")
            }
            // Nobody here waits for this one.
            ["leave", script @ ..] => {
                let child = Command::new("/bin/sh").args(["-c", &script.join(" ")]).spawn();
                format!("child={}", child.expect("a shell").id())
            }
            ["end", mark, pid] => {
                let (mark, pid) = (mark.parse().expect("a mark"), pid.parse().expect("a pid"));
                let status = self.exits.wait(mark, pid, Duration::from_secs(20));
                format!("status={:?}", status.and_then(|status| status.code()))
            }
            ["open", path] => {
                // Kept open by its number alone.
                let file = OwnedFd::from(File::open(path).expect("a file"));
                let copy = file.as_fd().try_clone_to_owned().expect("a copy");
                let number = copy.as_raw_fd();
                std::mem::forget(copy);
                format!("fd={number}")
            }
            ["upgrade", path] => match self.upgrade.check(Path::new(path), Duration::from_secs(10)) {
                Ok(checked) => {
                    stream.write_all(b"asked=yes").ok();
                    checked.go()
                }
                Err(error) => format!("asked=no {error}"),
            },
            ["end-with", number] => {
                code = number.parse().ok();
                "ends=yes".to_owned()
            }
            _ => "what?".to_owned(),
        };
        stream.write_all(answer.as_bytes()).ok();
        code
    }
}
