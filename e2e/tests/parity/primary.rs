//! Our own primary: what Node's has, with Rust workers, and with Node workers beside them.

use crate::node::{Primary, RUST, connect, connect_unix, greeted, pinged, port, script};
use crate::rust::{Crew, node_worker, rust, with_env};
use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, process};
use everup::{
    Address, Channel, Event, ExitStatus, Fork, Listen, ListenAddress, Outcome, Policy, ReadyBasis, State,
    Worker, WorkerHandle, signal_number,
};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

/// `isPrimary`, `isWorker`, `cluster.worker`: a process that nobody started as a worker has none, and may be one alone.
#[test]
fn this_process_is_no_worker() -> Result<()> {
    ensure!(Worker::from_env()?.is_none());
    let alone = Worker::alone();
    ensure!(alone.is_alone() && alone.id().is_none() && alone.slot().is_none() && !alone.is_connected());
    ensure!(alone.ready().is_ok() && alone.send(&1).is_err() && alone.drain_reason().is_none());
    let listener = alone.listen_blocking("127.0.0.1:0")?;
    let client = connect(listener.local_addr().port())?;
    let (mut connection, from) = listener.accept_blocking()?;
    ensure!(from == client.local_addr()?);
    connection.write_all(b"alone")?;
    drop(connection);
    let mut text = String::new();
    (&client).read_to_string(&mut text)?;
    ensure!(text == "alone", "{text:?}");
    Ok(())
}

/// `cluster.worker.id`, and what the worker knows of itself; nothing of the channel is left in its environment.
#[test]
fn a_worker_knows_who_it_is() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    for (id, slot) in [(1, 0), (2, 1)] {
        let worker = crew
            .cluster
            .fork(with_env(&[("GIVEN", "mine")]))
            .context("it runs")?;
        let up = crew.says(worker.id(), "up")?;
        ensure!(
            up["id"] == id && up["slot"] == slot && up["left"] == json!([]) && up["given"] == "mine",
            "{up}"
        );
        ensure!(worker.id().0 == id && worker.slot().0 == slot);
        let state = crew.ask(&worker, &json!({ "do": "state" }), "state")?;
        ensure!(
            state["connected"] == true && state["leaving"] == false && state["alone"] == false,
            "{state}"
        );
    }
    crew.end()
}

/// `cluster.workers`: by id, as long as they live.
#[test]
fn workers_are_found_by_id() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    ensure!(crew.cluster.handles().is_empty());
    let (one, two) = (crew.fork()?, crew.fork()?);
    let ids = |crew: &Crew| {
        crew.cluster
            .handles()
            .iter()
            .map(WorkerHandle::id)
            .collect::<Vec<_>>()
    };
    ensure!(ids(&crew) == [one.id(), two.id()]);
    ensure!(
        crew.cluster
            .worker(two.id())
            .is_some_and(|found| found.pid() == two.pid())
    );
    one.send(&json!({ "do": "exit", "code": 0 }))?;
    crew.exit(one.id())?;
    ensure!(crew.cluster.worker(one.id()).is_none() && ids(&crew) == [two.id()]);
    crew.end()
}

/// fork, online, listening, ready, disconnect, exit: in this order, with who and where.
#[test]
fn events_of_a_life() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let worker = crew.cluster.fork(Fork::default()).context("it runs")?;
    let (id, mut steps) = (worker.id(), Vec::new());
    crew.says(id, "up")?;
    let at = crew.listen(&worker, "greet")?;
    worker.disconnect();
    loop {
        // The messages were taken; what is left is in order.
        let (step, _) = crew.take("an event of its", |event| {
            Some(match event {
                Event::Fork { worker, pid, .. } if *worker == id && *pid > 0 => "fork",
                Event::Online { worker, .. } if *worker == id => "online",
                Event::Listening {
                    worker,
                    address: Address::Tcp(address),
                    ..
                } if *worker == id && address.port() == at => "listening",
                Event::Ready {
                    worker,
                    basis: ReadyBasis::Listening,
                    ..
                } if *worker == id => "ready",
                Event::Disconnect { worker, .. } if *worker == id => "disconnect",
                Event::Exit {
                    worker,
                    voluntary: true,
                    ..
                } if *worker == id => "exit",
                _ => return None,
            })
        })?;
        steps.push(step);
        if step == "exit" {
            break;
        }
    }
    ensure!(
        steps == ["fork", "online", "listening", "ready", "disconnect", "exit"],
        "{steps:?}"
    );
    ensure!(worker.is_dead() && !worker.is_connected() && worker.exited_after_disconnect());
    crew.end()
}

/// Nothing is told of the settings: who starts a cluster knows them.
#[test]
fn the_first_event_is_the_fork() -> Result<()> {
    let (cluster, mut events) = rust(Policy::RoundRobin).workers(1).start()?;
    let first = events.recv_timeout(LIMIT)?;
    ensure!(matches!(first, Some(Event::Fork { .. })), "{first:?}");
    cluster.stop();
    ensure!(cluster.join() == Outcome::Stopped);
    Ok(())
}

/// Every way of ending: the status, and `exitedAfterDisconnect`.
#[test]
fn leaving() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let workers: Vec<WorkerHandle> = (0..7).map(|_| crew.fork()).collect::<Result<_>>()?;
    for worker in &workers {
        crew.listen(worker, "greet")?;
        ensure!(worker.state() == Some(State::Online) && worker.is_connected() && !worker.is_dead());
        ensure!(!worker.exited_after_disconnect());
    }
    let number = |name: &str| signal_number(name).context("a signal");
    workers[0].disconnect();
    workers[1].send(&json!({ "do": "leave" }))?;
    workers[2].send(&json!({ "do": "leave at once" }))?;
    workers[3].kill(number("TERM")?);
    workers[4].kill(number("KILL")?);
    workers[5].send(&json!({ "do": "crash" }))?;
    workers[6].send(&json!({ "do": "exit", "code": 7 }))?;
    let by = |name: &str| number(name).map(|signal| ExitStatus::Signal { signal, core: false });
    let ends = [
        (ExitStatus::Code(0), true),
        (ExitStatus::Code(0), true),
        (ExitStatus::Code(0), true),
        // SIGTERM is a request to it, which it obeys.
        (ExitStatus::Code(0), false),
        (by("KILL")?, false),
        (by("ABRT")?, false),
        (ExitStatus::Code(7), false),
    ];
    for (worker, wanted) in workers.iter().zip(ends) {
        let Event::Exit {
            status, voluntary, ..
        } = crew.exit(worker.id())?
        else {
            unreachable!();
        };
        let plain = match status {
            ExitStatus::Signal { signal, .. } => ExitStatus::Signal { signal, core: false },
            other => other,
        };
        ensure!(
            (plain, voluntary) == wanted,
            "{}: {status:?} {voluntary}",
            worker.id()
        );
        ensure!(worker.is_dead() && worker.exit_status() == Some(status));
        ensure!(worker.exited_after_disconnect() == voluntary && worker.state().is_none());
    }
    crew.end()
}

/// Values of every kind, both ways.
#[test]
fn messages() -> Result<()> {
    for serialization in [everup::Serialization::Json, everup::Serialization::Advanced] {
        let mut crew = Crew::start(rust(Policy::RoundRobin).channel(Channel::Node(serialization)))?;
        for fork in [Fork::default(), node_worker()] {
            let worker = crew.fork_as(fork)?;
            for value in [
                json!(null),
                json!(-1.5),
                json!("é中😀\u{2028}"),
                json!([[], { "a": true }]),
            ] {
                let echo = crew.ask(&worker, &value, "echo")?;
                ensure!(echo["message"] == value, "{echo}");
            }
        }
        crew.end()?;
    }
    Ok(())
}

/// While one is stopped, the other is alone.
fn without<T>(worker: &WorkerHandle, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let pid = worker.pid().context("a process")?;
    worker.kill(signal_number("STOP").context("a signal")?);
    wait_until("it is stopped", LIMIT, || match process::state(pid) {
        Some('T') => Ok(()),
        state => Err(format!("{state:?}")),
    })?;
    let done = act();
    worker.kill(signal_number("CONT").context("a signal")?);
    done
}

/// Rust and Node workers share a TCP port, a UDP port and a UNIX socket, under each policy.
#[test]
fn rust_and_node_share_a_port() -> Result<()> {
    for policy in [
        Policy::RoundRobin,
        Policy::LeastConnections,
        Policy::Shared,
        Policy::ReusePort,
    ] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("socket");
        let mut crew = Crew::start(rust(policy))?;
        let (rust, node) = (crew.fork()?, crew.fork_as(node_worker())?);
        let any = json!({ "do": "listen", "port": 0 });
        let tcp = port(&crew.ask(&rust, &any, "listening")?)?;
        ensure!(port(&crew.ask(&node, &any, "listening")?)? == tcp);
        let unix = json!({ "do": "unix", "path": path });
        crew.ask(&rust, &unix, "listening")?;
        crew.ask(&node, &unix, "listening")?;
        let udp = port(&crew.ask(&rust, &json!({ "do": "udp", "at": "127.0.0.1:0" }), "bound")?)?;
        ensure!(crew.ask(&node, &json!({ "do": "udp", "port": 0 }), "bound")?["port"] == udp);
        for (stopped, other) in [(&rust, &node), (&node, &rust)] {
            let served = without(stopped, || {
                Ok([
                    answered(|| Ok(connect(tcp)?.into()))?,
                    answered(|| Ok(connect_unix(&path)?.into()))?,
                    pinged(udp)?,
                ])
            })?;
            ensure!(
                served.iter().all(|id| *id == other.id().0.to_string()),
                "{policy:?}: {served:?}"
            );
        }
        crew.end()?;
    }
    Ok(())
}

/// Who answers, while some connections may be under way to a worker that is stopped.
fn answered(connect: impl Fn() -> Result<OwnedFd>) -> Result<String> {
    let mut clients: Vec<File> = Vec::new();
    wait_until("an answer", LIMIT, || {
        let client = connect().map_err(|error| format!("{error:#}"))?;
        rustix::io::ioctl_fionbio(&client, true).map_err(|error| error.to_string())?;
        clients.push(client.into());
        for client in &mut clients {
            let mut id = [0; 8];
            if let Ok(read) = client.read(&mut id) {
                return Ok(String::from_utf8_lossy(&id[..read]).into_owned());
            }
        }
        Err("none yet".into())
    })
}

/// Sockets go both ways, to Rust and to Node workers.
#[test]
fn handles() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    for (fork, name) in [(Fork::default(), "1"), (node_worker(), "2")] {
        let worker = crew.fork_as(fork)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        worker.send_handle(&json!({ "gift": 1 }), listener.accept()?.0)?;
        ensure!(
            crew.says(worker.id(), "took")?["with"]
                .to_string()
                .contains("gift")
        );
        let mut text = String::new();
        client.read_to_string(&mut text)?;
        ensure!(text == name, "{text:?}");

        worker.send(&json!({ "do": "give", "what": "server" }))?;
        let from = worker.id();
        let handle =
            |event: &Event| matches!(event, Event::Handle { worker, .. } if *worker == from).then_some(());
        let (_, event) = crew.take("a socket", handle)?;
        let Event::Handle {
            message, descriptor, ..
        } = event
        else {
            unreachable!();
        };
        let everup::Handle::Listener(given) = descriptor.into_handle() else {
            anyhow::bail!("something else");
        };
        let said: Value = serde_json::from_str(&message)?;
        ensure!(given.local_addr()?.port() == port(&said)?, "{said}");
    }
    crew.end()
}

/// `keepOpen`: who sends a clone keeps his own.
#[test]
fn a_clone_is_kept() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let worker = crew.fork()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let client = connect(listener.local_addr()?.port())?;
    let (mut kept, _) = listener.accept()?;
    worker.send_handle(&json!({}), kept.try_clone()?)?;
    crew.says(worker.id(), "took")?;
    let mut id = [0];
    (&client).read_exact(&mut id)?;
    // The worker has shut its side down for writing, but ours still reads.
    (&client).write_all(b"!")?;
    kept.set_nonblocking(false)?;
    kept.read_exact(&mut id)?;
    ensure!(id == *b"!");
    crew.end()
}

/// A worker that is killed before it accepted: nothing is lost, unlike with Node's own primary.
#[test]
fn unaccepted_connections_go_to_another() -> Result<()> {
    for policy in [
        Policy::RoundRobin,
        Policy::LeastConnections,
        Policy::Shared,
        Policy::ReusePort,
    ] {
        let mut crew = Crew::start(rust(policy))?;
        let (idle, busy) = (crew.fork()?, crew.fork()?);
        let port = crew.listen(&idle, "never")?;
        let clients: Vec<TcpStream> = (0..10).map(|_| connect(port)).collect::<Result<_>>()?;
        crew.listen(&busy, "greet")?;
        idle.kill(signal_number("KILL").context("a signal")?);
        crew.exit(idle.id())?;
        for mut client in clients {
            let mut text = String::new();
            client.read_to_string(&mut text)?;
            ensure!(text == busy.id().0.to_string(), "{policy:?}: {text:?}");
        }
        crew.end()?;
    }
    Ok(())
}

/// `execArgv`, and `inspectPort`: arguments of the interpreter come before the script; `--inspect=0` gives each worker a
/// port of its own.
#[test]
fn arguments_of_the_interpreter() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let mut ports = Vec::new();
    for _ in 0..2 {
        let (read, write) = std::io::pipe()?;
        let fork = node_worker().args(["--inspect=0".into(), script("worker.js")]);
        crew.fork_as(fork.stderr(OwnedFd::from(write)))?;
        let lines: Vec<String> = BufReader::new(read).lines().take(1).collect::<Result<_, _>>()?;
        ensure!(
            lines[0].contains("Debugger listening on ws://127.0.0.1:"),
            "{lines:?}"
        );
        ports.push(lines[0].clone());
    }
    ensure!(ports[0] != ports[1], "{ports:?}");
    crew.end()
}

/// Without a channel a worker has the sockets that it was started with.
#[test]
fn a_socket_by_its_name() -> Result<()> {
    let listen = Listen::new(ListenAddress::Tcp("127.0.0.1:0".parse()?)).name("web");
    let builder = rust(Policy::RoundRobin).channel(Channel::None).listen(listen);
    let mut crew = Crew::start(builder.env("ORDER", r#"{"do": "named"}"#))?;
    let (at, _) = crew.take("a bound socket", |event| match event {
        Event::Bound {
            address: Address::Tcp(at),
            ..
        } => Some(at.port()),
        _ => None,
    })?;
    let worker = crew.cluster.fork(Fork::default()).context("it runs")?;
    ensure!(greeted(at)? == "0");
    // It obeys SIGTERM.
    worker.kill(signal_number("TERM").context("a signal")?);
    let exit = crew.exit(worker.id())?;
    ensure!(
        matches!(
            exit,
            Event::Exit {
                status: ExitStatus::Code(0),
                ..
            }
        ),
        "{exit:?}"
    );
    crew.end()
}

/// `NODE_CLUSTER_SCHED_POLICY` is not heard: the builder says which policy it is.
#[test]
fn the_policy_is_the_builders() -> Result<()> {
    let mut primary = Primary::ours_with(&[("NODE_CLUSTER_SCHED_POLICY", "rr")])?;
    let worker = primary.fork()?;
    let listening = primary.ask(
        worker,
        &json!({ "do": "listen", "at": "127.0.0.1:0" }),
        "listening",
    )?;
    ensure!(listening["socket"] == true, "{listening}");
    primary.end()
}

/// Our workers die with their primary, also Rust ones: only a closed channel lets them finish.
#[test]
fn workers_die_with_the_primary() -> Result<()> {
    let mut primary = Primary::ours()?;
    primary.fork()?;
    primary.fork()?;
    primary.run.signal(rustix::process::Signal::KILL)?;
    primary.run.gone(LIMIT)?;

    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let worker = crew.fork()?;
    let at = crew.listen(&worker, "hold")?;
    let mut client = connect(at)?;
    client.read_exact(&mut [0])?;
    worker.cut();
    wait_until("it is closed", LIMIT, || match worker.is_connected() {
        false => Ok(()),
        true => Err("not yet".into()),
    })?;
    client.write_all(b"!")?;
    let mut rest = String::new();
    client.read_to_string(&mut rest)?;
    ensure!(rest == " finished", "{rest:?}");
    let exit = crew.exit(worker.id())?;
    ensure!(
        matches!(
            exit,
            Event::Exit {
                status: ExitStatus::Code(0),
                voluntary: false,
                ..
            }
        ),
        "{exit:?}"
    );
    crew.end()
}

/// What is not started as a worker says so, and ends.
#[test]
fn a_worker_by_hand() -> Result<()> {
    let ended = Everup::program(RUST).finish()?;
    ensure!(
        ended.code() == Some(1) && ended.err.join("\n").contains("not a worker"),
        "{}",
        ended.all()
    );
    Ok(())
}

/// All have taken their sockets and accept by themselves: nobody gets what waits for a slot that is scaled away. Such
/// clients hear of it; those of the slot that stays wait on.
#[test]
fn nobody_waits_for_ever_in_the_queue_of_a_slot_that_is_gone() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::ReusePort))?;
    let workers = [crew.fork()?, crew.fork()?];
    let mut at = 0;
    for worker in &workers {
        let socket = crew.ask(worker, &json!({ "do": "socket" }), "socket")?;
        let address = socket["at"].as_str().context("an address")?;
        at = address.parse::<SocketAddr>()?.port();
    }
    // Nobody accepts.
    let mut waiting: Vec<TcpStream> = (0..32).map(|_| connect(at)).collect::<Result<_>>()?;
    for client in &waiting {
        client.set_nonblocking(true)?;
    }
    crew.cluster.scale(1);
    crew.exit(workers[1].id())?;
    wait_until("some hear of their end", LIMIT, || {
        waiting.retain_mut(|client| {
            client
                .read(&mut [0])
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        if waiting.len() < 32 {
            Ok(())
        } else {
            Err("all wait".to_owned())
        }
    })?;
    ensure!(!waiting.is_empty(), "one slot is still there");
    crew.end()
}
