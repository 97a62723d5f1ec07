//! Real servers in processes of their own, drained under load by clients that retry nothing.

use super::*;
use everup_core::drain::Rules;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command as Program, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// Keep-alive. A line on stdin: what Node's own drain does. After that it asks its clients to go with each answer
/// (`polite`), or closes connections whenever they are idle.
const NODE: &str = r"
    const delay = +process.argv[1], polite = process.argv[2] === 'polite';
    let draining = false;
    const server = require('http').createServer((request, response) => {
        if (request.url === '/bye' || draining && polite) response.setHeader('connection', 'close');
        delay ? setTimeout(() => response.end('served'), Math.random() * delay) : response.end('served');
    });
    server.keepAliveTimeout = 60000;
    server.listen(0, '127.0.0.1', () => console.log(server.address().port));
    process.stdin.once('data', () => {
        draining = true;
        const again = polite ? undefined : setInterval(() => server.closeIdleConnections(), 10);
        server.close(() => clearInterval(again));
        server.closeIdleConnections();
        process.stdin.destroy();
    });
";

/// Says its answer and closes, without `shutdown()`; a request `stay` leaves the connection open.
const PYTHON: &str = r"
import asyncio
async def serve(reader, writer):
    while True:
        line = await reader.readline()
        if not line: break
        writer.write(b'served\n')
        await writer.drain()
        if b'stay' not in line: break
    writer.close()
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
";

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Program::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        Self { child, address }
    }

    fn node(delay: u32) -> Self {
        Self::start("node", &["-e", NODE, &delay.to_string()])
    }

    fn polite_node(delay: u32) -> Self {
        Self::start("node", &["-e", NODE, &delay.to_string(), "polite"])
    }

    fn plan(&self, rules: Rules, wake: &OwnedFd) -> Plan {
        let pid = Pid::from_child(&self.child);
        Plan {
            process: pidfd_open(pid, PidfdFlags::empty()).unwrap(),
            pid: self.child.id(),
            endpoints: vec![self.address],
            rules,
            at_most: 1000,
            wake: wake.try_clone().unwrap(),
        }
    }

    fn drain(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"drain\n").unwrap();
    }

    fn kill(&self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::KILL).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The engine's part.
struct Engine {
    holder: Holder,
    wake: OwnedFd,
    endpoint: SocketAddr,
    over: bool,
}

impl Engine {
    fn hold(server: &Server, rules: Rules) -> Self {
        let wake = crate::sys::spawn::waker().unwrap();
        let holder = Holder::start(server.plan(rules, &wake)).unwrap();
        let mut engine = Self {
            holder,
            wake,
            endpoint: server.address,
            over: false,
        };
        while !engine.turn() {}
        engine
    }

    /// Waits for news. Whether the copies were taken in this turn.
    fn turn(&mut self) -> bool {
        let mut fds = [rustix::event::PollFd::new(
            &self.wake,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::event::Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(
            rustix::event::poll(&mut fds, Some(&limit)),
            Ok(1),
            "{:?}",
            self.holder
        );
        crate::output::clear(&self.wake);
        let mut taken = false;
        for news in self.holder.news().collect::<Vec<_>>() {
            match news {
                News::Taken { missed } => {
                    assert_eq!(missed, 0);
                    taken = true;
                }
                News::Moved { connection, local } => {
                    assert_eq!(local, self.endpoint);
                    serve(connection);
                }
                News::Over => self.over = true,
                News::Unknown(why) => panic!("{why}"),
            }
        }
        taken
    }

    /// After the worker's end, until all connections have ended.
    fn finish(mut self, server: &mut Server, how: Gone) -> Counters {
        let begin = Instant::now();
        while server.child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < LIMIT, "{:?}", self.holder);
            // wait: until the process has ended, doing the moves meanwhile
            std::thread::sleep(Duration::from_millis(1));
            let fds = &mut [rustix::event::PollFd::new(
                &self.wake,
                rustix::event::PollFlags::IN,
            )];
            if rustix::event::poll(fds, Some(&rustix::event::Timespec::default())) == Ok(1) {
                self.turn();
            }
        }
        self.holder.gone(how);
        while !self.over {
            self.turn();
        }
        let counters = self.holder.counters();
        let ends = counters.moved + counters.closed + counters.lost + counters.unsure;
        assert_eq!(
            (counters.taken, counters.open, counters.waiting),
            (ends, 0, 0),
            "{counters:?}"
        );
        counters
    }
}

/// Another worker: serves a connection until its client ends it. Its thread ends then.
fn serve(connection: OwnedFd) {
    std::thread::spawn(move || {
        let mut stream = TcpStream::from(connection);
        stream.set_nonblocking(false).unwrap();
        let (mut buffer, mut request) = ([0; 4096], Vec::new());
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            request.extend_from_slice(&buffer[..length]);
            if request.ends_with(b"\r\n\r\n") {
                request.clear();
                if stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nserved")
                    .is_err()
                {
                    break;
                }
            }
        }
    });
}

#[derive(Debug, Default)]
struct Score {
    /// Clients that have been served once.
    started: AtomicU64,
    served: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

struct Load {
    score: Arc<Score>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Clients that have each been served once when this returns.
    fn start(address: SocketAddr, count: u64) -> Self {
        let score = Arc::new(Score::default());
        let clients = (0..count)
            .map(|seed| {
                let score = Arc::clone(&score);
                std::thread::spawn(move || client(address, &score, seed))
            })
            .collect();
        let load = Self { score, clients };
        load.wait_for(|score| score.started.load(Ordering::Relaxed) == count);
        load
    }

    fn wait_for_served(&self, more: u64) {
        let all = self.score.served.load(Ordering::Relaxed) + more;
        self.wait_for(|score| score.served.load(Ordering::Relaxed) >= all);
    }

    fn wait_for(&self, state: impl Fn(&Score) -> bool) {
        let begin = Instant::now();
        while !state(&self.score) {
            assert!(begin.elapsed() < LIMIT, "{:?}", self.score);
            std::thread::yield_now();
        }
    }

    fn stop(&self) {
        self.score.stop.store(true, Ordering::Relaxed);
    }

    fn end(self) -> (u64, u64) {
        self.stop();
        for client in self.clients {
            client.join().unwrap();
        }
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (read(&self.score.served), read(&self.score.failed))
    }
}

/// One request after the other, with pauses, on one connection, until it fails or the server ends it.
fn client(address: SocketAddr, score: &Score, seed: u64) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut first = true;
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while !score.stop.load(Ordering::Relaxed) && !ended(&stream) {
        let Ok(stays) = request(&mut stream, "/") else {
            score.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        score.served.fetch_add(1, Ordering::Relaxed);
        if std::mem::take(&mut first) {
            score.started.fetch_add(1, Ordering::Relaxed);
        }
        if !stays {
            return;
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // wait: the client's own pause between requests
        std::thread::sleep(Duration::from_micros(random % 3000));
    }
}

/// Whether the server has said the end, as far as has arrived.
fn ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    seen.map_or_else(
        |error| error.kind() != io::ErrorKind::WouldBlock,
        |length| length == 0,
    )
}

/// Whether the server lets the connection stay.
fn request(stream: &mut TcpStream, path: &str) -> io::Result<bool> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
    let (mut buffer, mut answer) = ([0; 4096], Vec::new());
    while !answer.ends_with(b"served") {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(!String::from_utf8_lossy(&answer).contains("onnection: close"))
}

fn unmovable() -> Rules {
    Rules {
        movable: false,
        ..Rules::default()
    }
}

#[test]
fn what_is_lost_is_what_clients_saw() {
    let mut server = Server::node(0);
    let load = Load::start(server.address, 40);
    let engine = Engine::hold(&server, unmovable());
    assert_eq!(engine.holder.counters().open, 40);
    server.drain();
    let counters = engine.finish(&mut server, Gone::Left);
    let (served, failed) = load.end();
    eprintln!("{counters:?}, served {served}, failed {failed}");
    assert_eq!((counters.lost, counters.moved, counters.unsure), (failed, 0, 0));
}

#[test]
fn with_somebody_to_move_to_nothing_is_lost() {
    let mut server = Server::node(0);
    let load = Load::start(server.address, 40);
    let engine = Engine::hold(&server, Rules::default());
    engine.holder.stir();
    server.drain();
    let counters = engine.finish(&mut server, Gone::Left);
    load.wait_for_served(1000);
    let (served, failed) = load.end();
    eprintln!("{counters:?}, served {served}, failed {failed}");
    assert_eq!(failed, 0, "{counters:?}");
    assert_eq!((counters.moved, counters.lost, counters.unsure), (40, 0, 0));
}

#[test]
fn an_app_that_asks_its_clients_to_go_ends_by_itself() {
    let mut server = Server::polite_node(10);
    let load = Load::start(server.address, 40);
    let engine = Engine::hold(&server, Rules::default());
    engine.holder.stir();
    server.drain();
    let counters = engine.finish(&mut server, Gone::Left);
    let (served, failed) = load.end();
    eprintln!("{counters:?}, served {served}, failed {failed}");
    assert_eq!(
        (failed, counters.lost, counters.unsure),
        (0, 0, 0),
        "{counters:?}"
    );
}

#[test]
fn a_killed_worker_loses_what_it_was_working_on_and_no_more() {
    let mut server = Server::node(30);
    let load = Load::start(server.address, 40);
    let engine = Engine::hold(&server, Rules::default());
    load.wait_for_served(400);
    server.kill();
    let counters = engine.finish(&mut server, Gone::Cut);
    let (served, failed) = load.end();
    eprintln!("{counters:?}, served {served}, failed {failed}");
    assert!(
        counters.lost <= failed && failed <= counters.lost + counters.unsure,
        "{counters:?}, {failed} failed"
    );
    assert!(counters.lost > 0, "{counters:?}");
}

#[test]
fn a_client_that_waits_for_the_end_gets_it_soon() {
    for (server, path) in [
        (Server::node(0), "/bye"),
        (Server::start("python3", &["-c", PYTHON]), ""),
    ] {
        let mut streams: Vec<_> = (0..20)
            .map(|_| TcpStream::connect(server.address).unwrap())
            .collect();
        for stream in &mut streams {
            hello(stream, path);
        }
        let engine = Engine::hold(&server, unmovable());
        assert_eq!(engine.holder.counters().open, 20);
        let slowest = streams
            .iter_mut()
            .map(|stream| until_end(stream, path))
            .max()
            .unwrap();
        eprintln!("{slowest:?} until the end of {path:?}");
        assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    }
}

/// Makes sure that the server has the connection.
fn hello(stream: &mut TcpStream, path: &str) {
    if path.is_empty() {
        stream.write_all(b"stay\n").unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
    } else {
        request(stream, "/").unwrap();
    }
}

/// From the answer to the end.
fn until_end(stream: &mut TcpStream, path: &str) -> Duration {
    if path.is_empty() {
        stream.write_all(b"go\n").unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
    } else {
        request(stream, path).unwrap();
    }
    let begin = Instant::now();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    begin.elapsed()
}

#[test]
fn a_silent_client_is_told_the_end_after_the_limit() {
    let mut server = Server::node(0);
    let mut stream = TcpStream::connect(server.address).unwrap();
    request(&mut stream, "/").unwrap();
    let idle = Duration::from_millis(200);
    let engine = Engine::hold(
        &server,
        Rules {
            idle,
            ..Rules::default()
        },
    );
    server.drain();
    let client = std::thread::spawn(move || {
        let begin = Instant::now();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        begin.elapsed()
    });
    let counters = engine.finish(&mut server, Gone::Left);
    let waited = client.join().unwrap();
    assert!(waited >= idle / 2, "{waited:?}");
    assert_eq!((counters.taken, counters.closed), (1, 1), "{counters:?}");
}

#[test]
fn a_holder_that_is_dropped_leaves_the_worker_alone() {
    let server = Server::node(0);
    let mut stream = TcpStream::connect(server.address).unwrap();
    request(&mut stream, "/").unwrap();
    let engine = Engine::hold(&server, Rules::default());
    assert_eq!(engine.holder.counters().open, 1);
    drop(engine);
    request(&mut stream, "/").unwrap();
}

#[test]
fn a_process_that_is_gone_is_unknown() {
    let mut server = Server::node(0);
    let wake = crate::sys::spawn::waker().unwrap();
    let plan = server.plan(Rules::default(), &wake);
    server.kill();
    server.child.wait().unwrap();
    let holder = Holder::start(plan).unwrap();
    let news = holder.news.recv_timeout(LIMIT).unwrap();
    assert!(matches!(news, News::Unknown(Unknown::Gone(_))), "{news:?}");
}

#[test]
fn with_nobody_left_to_move_to_silent_clients_are_told_at_once() {
    let mut server = Server::node(0);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    request(&mut stream, "/").unwrap();
    let idle = LIMIT * 2;
    let engine = Engine::hold(
        &server,
        Rules {
            idle,
            ..Rules::default()
        },
    );
    server.drain();
    let client = std::thread::spawn(move || stream.read(&mut [0; 1]).unwrap());
    engine.holder.immovable();
    let counters = engine.finish(&mut server, Gone::Left);
    assert_eq!(client.join().unwrap(), 0);
    assert_eq!((counters.taken, counters.closed), (1, 1), "{counters:?}");
}

#[test]
fn no_more_copies_are_held_than_allowed() {
    let server = Server::node(0);
    let mut streams = [(); 3].map(|()| TcpStream::connect(server.address).unwrap());
    for stream in &mut streams {
        request(stream, "/").unwrap();
    }
    let wake = crate::sys::spawn::waker().unwrap();
    let mut plan = server.plan(Rules::default(), &wake);
    plan.at_most = 2;
    let holder = Holder::start(plan).unwrap();
    let news = holder.news.recv_timeout(LIMIT).unwrap();
    assert!(matches!(news, News::Taken { missed: 1 }), "{news:?}");
    assert_eq!(holder.counters().taken, 2);
}

#[test]
fn what_is_not_permitted_says_what_to_do() {
    let unknown = Unknown::new(7, Errno::PERM);
    assert!(unknown.to_string().contains("process 7"), "{unknown}");
    assert!(unknown.hint().is_some_and(|hint| hint.contains("SYS_PTRACE")));
    assert!(Unknown::new(7, Errno::NOSYS).hint().is_none());
}
