//! A Rust worker under Node's own primary. Each row is a function; `main.rs` has the table.

pub(crate) use crate::family::child;

use crate::node::{At, Primary, Scheduling, connect, greeted, greeted_unix, pinged, port};
use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{LIMIT, process};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Which of two workers answered how often.
fn count(answers: &[String], worker: u32) -> usize {
    let name = worker.to_string();
    answers.iter().filter(|answer| **answer == name).count()
}

fn pid(primary: &mut Primary, worker: u32) -> Result<u32> {
    primary.order(&json!({ "do": "look", "worker": worker }))?;
    let look = primary.event("look", worker)?;
    look["pid"]
        .as_u64()
        .and_then(|pid| pid.try_into().ok())
        .context("a process id")
}

/// Does something while a worker is stopped: the others are alone.
fn without<T>(primary: &mut Primary, worker: u32, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let pid = pid(primary, worker)?;
    process::signal(pid, Signal::STOP)?;
    wait_until("it is stopped", LIMIT, || match process::state(pid) {
        Some('T') => Ok(()),
        state => Err(format!("{state:?}")),
    })?;
    let done = act();
    process::signal(pid, Signal::CONT)?;
    done
}

/// Each of two workers that listen on a port serves it.
fn both_serve(at: At, primary: &mut Primary, (one, other): (u32, u32), port: u16) -> Result<()> {
    match at.scheduling {
        Scheduling::RoundRobin => {
            let answers: Vec<String> = (0..20).map(|_| greeted(port)).collect::<Result<_>>()?;
            ensure!(
                count(&answers, one) >= 5 && count(&answers, other) >= 5,
                "{answers:?}"
            );
        }
        // The kernel chooses whom it likes.
        Scheduling::None => {
            let alone = without(primary, one, || greeted(port))?;
            ensure!(alone == other.to_string(), "{alone}");
            let alone = without(primary, other, || greeted(port))?;
            ensure!(alone == one.to_string(), "{alone}");
        }
    }
    Ok(())
}

/// fork, online, listening with its address object, disconnect, exit; what `isConnected` and `isDead` say.
pub(crate) fn events(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    primary.told("setup")?;
    let worker = primary.fork()?;
    let said = primary.ask(
        worker,
        &json!({ "do": "listen", "at": "127.0.0.1:0" }),
        "listening",
    )?;
    ensure!(said["socket"] == (at.scheduling == Scheduling::None), "{said}");
    let address = primary.event("listening", worker)?["address"].clone();
    ensure!(
        address == json!({ "addressType": 4, "address": "127.0.0.1", "port": said["port"] }),
        "{address}"
    );
    primary.order(&json!({ "do": "look", "worker": worker }))?;
    let look = primary.event("look", worker)?;
    ensure!(look["connected"] == true && look["dead"] == false, "{look}");
    ensure!(
        look["voluntary"].is_null() && look["known"] == json!(["1"]),
        "{look}"
    );
    primary.order(&json!({ "do": "disconnect", "worker": worker }))?;
    primary.event("disconnect", worker)?;
    primary.exits(worker, Some(0), None, true)?;
    primary.order(&json!({ "do": "look", "worker": worker }))?;
    let look = primary.event("look", worker)?;
    ensure!(
        look["connected"] == false && look["dead"] == true && look["known"] == json!([]),
        "{look}"
    );
    let wanted = ["fork", "online", "listening"];
    let seen: Vec<String> = primary.run.seen().out.clone();
    let mut at = wanted.map(|name| {
        seen.iter()
            .position(|line| line.contains(&format!("\"event\":\"{name}\"")))
    });
    ensure!(at.iter().all(Option::is_some) && at.is_sorted(), "{seen:?}");
    at.reverse();
    primary.end()
}

/// args, cwd and the variables of `fork(env)` arrive; nothing of the channel is left in the environment.
pub(crate) fn settings(at: At) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cwd = folder.path().canonicalize()?;
    let mut primary = at.primary_with(&json!({ "args": ["one", "two"], "cwd": cwd }), &[])?;
    primary.fork_with(&json!({ "GIVEN": "value" }))?;
    let up = &primary.up;
    let args = up["args"].as_array().context("arguments")?;
    ensure!(args[args.len() - 2..] == [json!("one"), json!("two")], "{up}");
    ensure!(
        up["id"] == 1 && up["slot"].is_null() && up["left"] == json!([]),
        "{up}"
    );
    ensure!(up["given"] == "value" && up["cwd"] == json!(cwd), "{up}");
    primary.end()
}

/// Values of every kind come back as they went.
pub(crate) fn messages(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let worker = primary.fork()?;
    let long = "é中😀\u{2028}\n".repeat(20_000);
    for value in [
        json!(null),
        json!(42.5),
        json!("text"),
        json!([true, {}]),
        json!({ "cmd": "NODE_" }),
        json!(long),
    ] {
        let echo = primary.ask(worker, &value, "echo")?;
        ensure!(echo["message"] == value, "{echo:.200}, wanted {value:.200}");
    }
    let state = primary.ask(worker, &json!({ "do": "state" }), "state")?;
    ensure!(
        state["connected"] == true && state["leaving"] == false && state["alone"] == false,
        "{state}"
    );
    primary.end()
}

/// `serialization: 'advanced'`: the same, and what JSON cannot express is at least told.
pub(crate) fn advanced(at: At) -> Result<()> {
    let mut primary = at.primary_with(&json!({ "serialization": "advanced" }), &[])?;
    ensure!(primary.told("setup")?["serialization"] == "advanced");
    let worker = primary.fork()?;
    let value = json!({ "text": "é中😀", "list": [1, -1, 0.5, null, true] });
    let echo = primary.ask(worker, &value, "echo")?;
    ensure!(echo["message"] == value, "{echo}");
    primary.order(&json!({ "do": "send", "worker": worker, "special": true }))?;
    let opaque = primary.says(worker, "opaque")?;
    ensure!(
        opaque["bytes"].as_u64().is_some_and(|bytes| bytes > 10),
        "{opaque}"
    );
    let port = port(&primary.ask(worker, &json!({ "do": "listen" }), "listening")?)?;
    ensure!(greeted(port)? == "1");
    give(&mut primary, worker, "server")?;
    primary.end()
}

fn give(primary: &mut Primary, worker: u32, kind: &str) -> Result<(Value, u16)> {
    primary.order(&json!({ "do": "give", "worker": worker, "message": { "gift": kind }, "handle": kind }))?;
    let took = primary.says(worker, "took")?;
    ensure!(took["with"]["message"]["gift"] == kind, "{took}");
    let given = primary.told("given")?;
    ensure!(given["error"].is_null(), "{given}");
    Ok((took["what"]["Ok"].clone(), port(&given)?))
}

/// A server, a connection and a UDP socket of Node's work in the Rust worker.
pub(crate) fn handles_to_the_worker(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let worker = primary.fork()?;
    let (what, port) = give(&mut primary, worker, "server")?;
    ensure!(what == "listener", "{what}");
    // Node's server has it, too, and does not answer.
    wait_until("the Rust worker accepts", LIMIT, || match served(port) {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let (what, _) = give(&mut primary, worker, "socket")?;
    ensure!(what == "stream" && primary.told("client heard")?["text"] == "1");
    primary.told("server closed")?;
    let (what, port) = give(&mut primary, worker, "dgram")?;
    ensure!(what == "datagram", "{what}");
    wait_until("a packet comes to the Rust worker", LIMIT, || {
        match packet(port) {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    primary.end()
}

/// Whether the worker answers, and not the copy that Node's primary kept.
fn served(port: u16) -> Result<bool> {
    let stream = connect(port)?;
    stream.set_read_timeout(Some(std::time::Duration::from_millis(200)))?;
    Ok((&stream).read(&mut [0]).is_ok_and(|read| read == 1))
}

fn packet(port: u16) -> Result<bool> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(std::time::Duration::from_millis(200)))?;
    socket.send_to(b"ping", ("127.0.0.1", port))?;
    Ok(socket.recv(&mut [0; 8]).is_ok())
}

/// And the other way: a `net.Server`, a `net.Socket`, a `dgram.Socket` come to Node's app.
pub(crate) fn handles_from_the_worker(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let worker = primary.fork()?;
    let gift = primary.ask(worker, &json!({ "do": "give", "what": "server" }), "gift")?;
    ensure!(
        gift["type"] == "Server" && greeted(port(&gift)?)? == "node",
        "{gift}"
    );
    let gift = primary.ask(worker, &json!({ "do": "give", "what": "dgram" }), "gift")?;
    ensure!(
        gift["type"] == "Socket" && pinged(port(&gift)?)? == "node",
        "{gift}"
    );
    let gift = primary.ask(worker, &json!({ "do": "give", "what": "socket" }), "gift")?;
    ensure!(gift["type"] == "Socket", "{gift}");
    ensure!(primary.says(worker, "heard")?["text"] == "node");
    primary.end()
}

/// Every way of ending: the exit code, and `exitedAfterDisconnect`.
pub(crate) fn leaving(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let workers: Vec<u32> = (0..7).map(|_| primary.fork()).collect::<Result<_>>()?;
    for &worker in &workers {
        primary.ask(
            worker,
            &json!({ "do": "listen", "at": "127.0.0.1:0" }),
            "listening",
        )?;
    }
    primary.order(&json!({ "do": "disconnect", "worker": 1 }))?;
    primary.tell(2, &json!({ "do": "leave" }))?;
    primary.tell(3, &json!({ "do": "leave at once" }))?;
    primary.order(&json!({ "do": "kill", "worker": 4 }))?;
    primary.order(&json!({ "do": "kill", "worker": 5, "signal": "SIGKILL" }))?;
    primary.tell(6, &json!({ "do": "crash" }))?;
    primary.tell(7, &json!({ "do": "exit", "code": 7 }))?;
    for (worker, reason) in [(1, "Primary"), (2, "Worker"), (4, "Signal")] {
        let drain = primary.wrote(worker, "drain")?;
        ensure!(drain["reason"] == format!("Some({reason})"), "{drain}");
        ensure!(drain["leaving"] == (worker != 4), "{drain}");
    }
    primary.exits(1, Some(0), None, true)?;
    primary.exits(2, Some(0), None, true)?;
    primary.exits(3, Some(0), None, true)?;
    // SIGTERM is a request to it, which it obeys: Node's own worker would die of it.
    primary.exits(4, Some(0), None, false)?;
    primary.exits(5, None, Some("SIGKILL"), false)?;
    primary.exits(6, None, Some("SIGABRT"), false)?;
    primary.exits(7, Some(7), None, false)?;
    for &worker in &workers {
        primary.event("disconnect", worker)?;
    }
    primary.end()
}

/// The primary closes the channel without a word: to the worker it is gone.
pub(crate) fn cut(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let worker = primary.fork()?;
    primary.order(&json!({ "do": "cut", "worker": worker }))?;
    let drain = primary.wrote(worker, "drain")?;
    ensure!(
        drain["reason"] == "Some(PrimaryGone)" && drain["connected"] == false,
        "{drain}"
    );
    ensure!(drain["leaving"] == false, "{drain}");
    primary.exits(worker, Some(0), None, false)?;
    primary.end()
}

/// Two Rust workers, 200 connections: all are answered, by both.
pub(crate) fn shared_by_two(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let workers = (primary.fork()?, primary.fork()?);
    let listen = json!({ "do": "listen", "at": "127.0.0.1:0" });
    let first = port(&primary.ask(workers.0, &listen, "listening")?)?;
    ensure!(port(&primary.ask(workers.1, &listen, "listening")?)? == first);
    let clients: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || (0..50).map(|_| greeted(first)).collect::<Result<Vec<String>>>()))
        .collect();
    let mut answers = Vec::new();
    for client in clients {
        answers.extend(
            client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??,
        );
    }
    let shares = [workers.0, workers.1].map(|worker| count(&answers, worker));
    ensure!(shares.iter().sum::<usize>() == 200, "{shares:?} of {answers:?}");
    if at.scheduling == Scheduling::RoundRobin {
        // Node gives to whoever is free: how much each gets is luck.
        ensure!(shares.iter().all(|share| *share > 0), "{shares:?}");
    }
    both_serve(at, &mut primary, workers, first)?;
    primary.end()
}

/// A Rust and a Node worker share a port: `listen(0_u16)` is Node's `listen(0)`, an address is an address.
pub(crate) fn shared_with_node(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let (rust, node) = (primary.fork()?, primary.fork_node()?);
    let (one, other) = (
        json!({ "do": "listen", "port": 0 }),
        json!({ "do": "listen", "at": "127.0.0.1:0" }),
    );
    let any = port(&primary.ask(rust, &one, "listening")?)?;
    ensure!(port(&primary.ask(node, &one, "listening")?)? == any);
    let listening = primary.event("listening", rust)?["address"].clone();
    ensure!(
        listening == primary.event("listening", node)?["address"],
        "{listening}"
    );
    both_serve(at, &mut primary, (rust, node), any)?;
    let here = port(&primary.ask(rust, &other, "listening")?)?;
    let theirs = json!({ "do": "listen", "at": "127.0.0.1", "port": 0 });
    ensure!(here != any && port(&primary.ask(node, &theirs, "listening")?)? == here);
    both_serve(at, &mut primary, (rust, node), here)?;
    let echo = primary.ask(node, &json!("hello"), "echo")?;
    ensure!(echo["message"] == "hello" && primary.ask(rust, &json!("hello"), "echo")? == echo);
    primary.end()
}

/// A worker that closes its listener gets nothing more; when the last has closed, nobody listens.
pub(crate) fn closed_listener(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let (one, two) = (primary.fork()?, primary.fork()?);
    let listen = json!({ "do": "listen", "at": "127.0.0.1:0" });
    let port = port(&primary.ask(one, &listen, "listening")?)?;
    primary.ask(two, &listen, "listening")?;
    primary.ask(one, &json!({ "do": "close" }), "closed")?;
    for _ in 0..10 {
        ensure!(greeted(port)? == two.to_string());
    }
    primary.ask(two, &json!({ "do": "close" }), "closed")?;
    wait_until("nobody listens", LIMIT, || match connect(port) {
        Err(_) => Ok(()),
        Ok(_) => Err("somebody does".into()),
    })?;
    // It may listen again; the workers are not leaving.
    let again = crate::node::port(&primary.ask(one, &listen, "listening")?)?;
    ensure!(greeted(again)? == one.to_string());
    primary.end()
}

/// A worker that leaves gives back what it has not accepted; one that dies takes with it what Node's primary had given
/// it, at most one connection, and the others are served.
pub(crate) fn left_with_unaccepted(at: At) -> Result<()> {
    for dies in [false, true] {
        let mut primary = at.primary()?;
        let (idle, busy) = (primary.fork()?, primary.fork()?);
        let never = json!({ "do": "listen", "at": "127.0.0.1:0", "how": "never" });
        let port = port(&primary.ask(idle, &never, "listening")?)?;
        let clients: Vec<TcpStream> = (0..10).map(|_| connect(port)).collect::<Result<_>>()?;
        primary.ask(busy, &json!({ "do": "listen", "at": "127.0.0.1:0" }), "listening")?;
        match dies {
            false => primary.tell(idle, &json!({ "do": "leave" }))?,
            true => primary.order(&json!({ "do": "kill", "worker": idle, "signal": "SIGKILL" }))?,
        }
        primary.event("exit", idle)?;
        // Node's own primary forgets the one that it had handed over: the client would wait for ever.
        let lost = usize::from(dies && at.scheduling == Scheduling::RoundRobin);
        for mut client in clients.into_iter().skip(lost) {
            let mut text = String::new();
            client.read_to_string(&mut text)?;
            ensure!(text == busy.to_string(), "{text:?}");
        }
        primary.end()?;
    }
    Ok(())
}

/// A client that has not got all of its answer.
fn held(port: u16, by: u32) -> Result<TcpStream> {
    let mut client = connect(port)?;
    let mut id = [0];
    client.read_exact(&mut id)?;
    ensure!(id == by.to_string().as_bytes());
    Ok(client)
}

fn finishes(mut client: TcpStream) -> Result<()> {
    client.write_all(b"!")?;
    let mut rest = String::new();
    client.read_to_string(&mut rest)?;
    ensure!(rest == " finished", "{rest:?}");
    Ok(())
}

/// A worker that was asked to leave finishes what it has begun, and gets nothing new.
pub(crate) fn begun_is_finished(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let (one, two) = (primary.fork()?, primary.fork()?);
    let hold = json!({ "do": "listen", "at": "127.0.0.1:0", "how": "hold" });
    for ask in [
        json!({ "do": "disconnect", "worker": one }),
        json!({ "do": "send", "worker": two, "message": { "do": "leave" } }),
    ] {
        let leaver = if ask["do"] == "disconnect" { one } else { two };
        let port = port(&primary.ask(leaver, &hold, "listening")?)?;
        let client = held(port, leaver)?;
        primary.order(&ask)?;
        primary.wrote(leaver, "drain")?;
        wait_until("nobody listens", LIMIT, || match connect(port) {
            Err(_) => Ok(()),
            Ok(_) => Err("somebody does".into()),
        })?;
        ensure!(primary.none(|json| json["event"] == "exit" && json["worker"] == leaver));
        finishes(client)?;
        primary.exits(leaver, Some(0), None, true)?;
    }
    primary.end()
}

/// The primary is killed: the worker hears of it, finishes what was begun, and ends.
pub(crate) fn primary_dies(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let worker = primary.fork()?;
    let port = port(&primary.ask(
        worker,
        &json!({ "do": "listen", "at": "127.0.0.1:0", "how": "hold" }),
        "listening",
    )?)?;
    let client = held(port, worker)?;
    let pid = pid(&mut primary, worker)?;
    primary.run.signal(Signal::KILL)?;
    let drain = primary.wrote(worker, "drain")?;
    ensure!(
        drain["reason"] == "Some(PrimaryGone)" && drain["connected"] == false,
        "{drain}"
    );
    primary.wrote(worker, "no more messages")?;
    ensure!(process::alive(pid));
    finishes(client)?;
    primary.run.gone(LIMIT)
}

/// A UDP socket is shared with a Node worker, whatever the policy.
pub(crate) fn udp(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let (rust, node) = (primary.fork()?, primary.fork_node()?);
    let place = json!({ "do": "udp", "at": "127.0.0.1:0", });
    let port = port(&primary.ask(rust, &place, "bound")?)?;
    let listening = primary.event("listening", rust)?["address"].clone();
    ensure!(
        listening["addressType"] == "udp4" && listening["port"] == port,
        "{listening}"
    );
    ensure!(pinged(port)? == rust.to_string());
    let theirs = primary.ask(node, &json!({ "do": "udp", "port": 0 }), "bound")?;
    ensure!(theirs["port"] == port, "{theirs}");
    let alone = without(&mut primary, node, || pinged(port))?;
    ensure!(alone == rust.to_string());
    let alone = without(&mut primary, rust, || pinged(port))?;
    ensure!(alone == node.to_string());
    primary.end()
}

/// A UNIX socket is shared with a Node worker.
pub(crate) fn unix(at: At) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let mut primary = at.primary()?;
    let (rust, node) = (primary.fork()?, primary.fork_node()?);
    let place = json!({ "do": "unix", "path": path });
    primary.ask(rust, &place, "listening")?;
    let listening = primary.event("listening", rust)?["address"].clone();
    ensure!(
        listening == json!({ "addressType": -1, "address": path, "port": -1 }),
        "{listening}"
    );
    ensure!(greeted_unix(&path)? == rust.to_string());
    primary.ask(node, &place, "listening")?;
    let alone = match at.scheduling {
        Scheduling::None => without(&mut primary, rust, || greeted_unix(&path))?,
        Scheduling::RoundRobin => {
            primary.ask(rust, &json!({ "do": "close" }), "closed")?;
            greeted_unix(&path)?
        }
    };
    ensure!(alone == node.to_string(), "{alone}");
    primary.end()
}

/// The same without a runtime: threads that wait.
pub(crate) fn blocking(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let worker = primary.fork()?;
    let place = json!({ "do": "listen", "at": "127.0.0.1:0", "how": "blocking" });
    let port = port(&primary.ask(worker, &place, "listening")?)?;
    for _ in 0..3 {
        ensure!(greeted(port)? == worker.to_string());
    }
    primary.tell(worker, &json!({ "do": "leave" }))?;
    primary.exits(worker, Some(0), None, true)?;
    primary.end()
}

/// Places that Node's primary cannot bind: the worker has a typed error, and goes on.
pub(crate) fn refused(at: At) -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let packets = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let mut primary = at.primary()?;
    let worker = primary.fork()?;
    let at_taken = json!({ "do": "listen", "at": taken.local_addr()? });
    let failed = primary.ask(worker, &at_taken, "failed")?;
    ensure!(
        failed["error"] == format!("AddressInUse {{ address: \"{}\" }}", taken.local_addr()?),
        "{failed}"
    );
    let failed = primary.ask(
        worker,
        &json!({ "do": "udp", "at": packets.local_addr()? }),
        "failed",
    )?;
    ensure!(
        failed["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("AddressInUse")),
        "{failed}"
    );
    let failed = primary.ask(
        worker,
        &json!({ "do": "unix", "path": "/nowhere/at/all" }),
        "failed",
    )?;
    ensure!(
        failed["error"]
            .as_str()
            .is_some_and(|error| error.contains("unix:/nowhere/at/all")),
        "{failed}"
    );
    primary.ask(
        worker,
        &json!({ "do": "listen", "at": "127.0.0.1:0" }),
        "listening",
    )?;
    primary.end()
}

/// A worker's second listener on port 0 has a port of its own; a second one on its first port is refused.
pub(crate) fn twice(at: At) -> Result<()> {
    let mut primary = at.primary()?;
    let worker = primary.fork()?;
    let any = json!({ "do": "listen", "at": "127.0.0.1:0" });
    let first = port(&primary.ask(worker, &any, "listening")?)?;
    let second = port(&primary.ask(worker, &any, "listening")?)?;
    ensure!(first != second);
    let again = json!({ "do": "listen", "at": format!("127.0.0.1:{first}") });
    let failed = primary.ask(worker, &again, "failed")?;
    ensure!(
        failed["error"] == format!("AddressInUse {{ address: \"127.0.0.1:{first}\" }}"),
        "{failed}"
    );
    for port in [first, second] {
        ensure!(greeted(port)? == worker.to_string());
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let place = json!({ "do": "unix", "path": path });
    primary.ask(worker, &place, "listening")?;
    let failed = primary.ask(worker, &place, "failed")?;
    ensure!(
        failed["error"] == format!("AddressInUse {{ address: \"unix:{}\" }}", path.display()),
        "{failed}"
    );
    ensure!(greeted_unix(&path)? == worker.to_string());
    primary.end()
}
