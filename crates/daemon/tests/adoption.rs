//! An engine is killed again and again under load, and its successor goes on: nothing is lost, no worker ends.
//!
//! Without the keeper: this program is the one that shares its descriptors with the engine's process. It is a `main` of
//! its own, because a process that clones itself must have one thread only.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that is a program of its own"
)]

use everup::estate::Keeping;
use everup::{Channel, Cluster, Output, Spec};
use everup_daemon::ledger::{AppLedger, Part, owner};
use everup_keeper::Memory;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const APP: &str = r#"
const http = require('http');
http.createServer((req, res) => { res.end(`${process.pid}\n`); }).listen(process.env.PORT);
"#;
const KILLS: u64 = 25;
const LIMIT: Duration = Duration::from_secs(20);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--load") {
        return load(args[at + 1].parse().unwrap());
    }
    // `cargo test NAME` is about other tests.
    if args
        .iter()
        .skip(1)
        .any(|arg| arg == "--list" || !arg.starts_with('-'))
    {
        return;
    }
    for policy in [
        everup::Policy::LeastConnections,
        everup::Policy::RoundRobin,
        everup::Policy::ReusePort,
    ] {
        survive(policy);
    }
}

fn survive(policy: everup::Policy) {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app.js");
    std::fs::write(&app, APP).unwrap();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut engine = engine(&app, port, policy);
    let workers = await_workers(port, 2);
    let mut load = Command::new(std::env::current_exe().unwrap())
        .args(["--load", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pause = match random % 3 {
            // The successor has hardly begun.
            0 => random % 40,
            _ => 20 + random % 150,
        };
        // wait: a kill at any instant
        std::thread::sleep(Duration::from_millis(pause));
        kill(engine);
        engine = self::engine(&app, port, policy);
    }
    let report = finish(&mut load);
    let after = await_workers(port, 2);
    println!("{policy:?}: {report}; workers {workers:?} -> {after:?}");
    assert_eq!(workers, after, "a worker was restarted");
    assert!(report.contains("failed 0"), "{report}");
    kill(engine);
    for pid in workers {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    for (_, fd) in everup_keeper::find().unwrap() {
        drop(own(fd));
    }
}

fn finish(load: &mut Child) -> String {
    drop(load.stdin.take());
    let mut report = String::new();
    load.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    load.wait().unwrap();
    report.trim().to_owned()
}

fn await_workers(port: u16, count: usize) -> BTreeSet<u32> {
    let begun = Instant::now();
    let mut seen = BTreeSet::new();
    while seen.len() < count && begun.elapsed() < LIMIT {
        seen.extend(get(port).ok());
    }
    seen
}

fn get(port: u16) -> Result<u32, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    ask(&mut stream, "close")
}

fn ask(stream: &mut TcpStream, connection: &str) -> Result<u32, String> {
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n"
    )
    .map_err(|e| format!("write: {e}"))?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"\n") && !answer.ends_with(b"0\r\n\r\n")
        || answer.ends_with(b"\r\n\r\n") && !answer.ends_with(b"0\r\n\r\n")
    {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(format!("closed after {} bytes", answer.len())),
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) => return Err(format!("read: {error}")),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    body.split_whitespace()
        .find_map(|word| word.parse().ok())
        .ok_or_else(|| format!("no pid in {text:?}"))
}

/// Fresh connections and one kept alive, until standard input ends.
fn load(port: u16) {
    let stop = Arc::new(AtomicBool::new(false));
    let (done, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut threads = Vec::new();
    for kind in 0..6 {
        let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
        threads.push(std::thread::spawn(move || {
            let mut kept: Option<TcpStream> = None;
            while !stop.load(Ordering::Relaxed) {
                let result = if kind < 4 {
                    get(port)
                } else {
                    let stream = kept.get_or_insert_with(|| {
                        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                        stream.set_read_timeout(Some(LIMIT)).unwrap();
                        stream
                    });
                    ask(stream, "keep-alive")
                };
                match result {
                    Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        kept = None;
                        eprintln!("kind {kind}: {error}");
                        failed.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
        }));
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    println!(
        "done {} failed {}",
        done.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed)
    );
}

/// Starts a process that shares our descriptors and is the engine's.
fn engine(app: &std::path::Path, port: u16, policy: everup::Policy) -> i32 {
    // SAFETY: this process has one thread; the child goes on with a copy of its memory.
    #[expect(unsafe_code, reason = "there is no other way to share a table of descriptors")]
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let app = app.to_owned();
        let thread = std::thread::spawn(move || serve(&app, port, policy));
        thread.join().ok();
        std::process::abort();
    }
    i32::try_from(pid).unwrap()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
}

fn own(fd: i32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: it was found in the table, and its owner is dead.
    #[expect(unsafe_code, reason = "a descriptor by number")]
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}

fn serve(app: &std::path::Path, port: u16, policy: everup::Policy) {
    let mut parts = BTreeMap::new();
    for (name, fd) in everup_keeper::find().unwrap() {
        if let Some((part, _)) = owner(&name) {
            parts.insert(part == Part::State, Memory::open(own(fd)).unwrap());
        }
    }
    let (cluster, mut events) = match (parts.remove(&false), parts.remove(&true)) {
        (Some(settings), Some(state)) => {
            let (ledger, estate) = AppLedger::inherit(settings, state);
            let before: Vec<i32> = open_numbers();
            let left = estate.open().unwrap();
            let strays: Vec<OwnedFd> = before
                .into_iter()
                .filter(|number| *number > 2 && !left.numbers().contains(number))
                .filter(|number| is_tcp_stream(*number))
                .map(own)
                .collect();
            let marks = everup::cluster::marked_children(
                &rustix::process::getppid().unwrap().as_raw_nonzero().to_string(),
            );
            let adopted = Cluster::adopt(left, Output::Null, keeping(ledger), Arc::new(marks)).unwrap();
            strays.into_iter().for_each(|stray| adopted.0.take_in(stray));
            adopted
        }
        _ => {
            let mut spec = Spec::new("node");
            spec.args = vec![app.into()];
            spec.env = vec![("PORT".into(), port.to_string().into())];
            spec.workers = 2;
            spec.channel = Channel::default();
            spec.policy = policy;
            spec.output = Output::Null;
            Cluster::start_kept(spec, keeping(AppLedger::create("test").unwrap())).unwrap()
        }
    };
    while let Some(event) = events.recv_blocking() {
        if std::env::var_os("SHOW").is_some() {
            eprintln!("{event:?}");
        }
    }
    drop(cluster);
}

fn keeping(ledger: AppLedger) -> Keeping {
    Keeping {
        ledger: Box::new(ledger),
        exits: None,
    }
}

fn open_numbers() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// A connection of a client's.
fn is_tcp_stream(number: i32) -> bool {
    let borrowed = {
        // SAFETY: only to ask what it is.
        #[expect(unsafe_code, reason = "a descriptor by number")]
        unsafe {
            std::os::fd::BorrowedFd::borrow_raw(number)
        }
    };
    let connected = rustix::net::getpeername(borrowed).ok().flatten();
    connected.is_some_and(|peer| std::net::SocketAddr::try_from(peer).is_ok()) && borrowed.as_raw_fd() > 2
}
