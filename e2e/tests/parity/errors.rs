//! Every typed error, provoked for real.

use crate::node::{At, Primary, RUST, Scheduling, connect, greeted, port};
use crate::rust::{Crew, rust, with_env};
use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, process};
use everup::message::MESSAGE_LIMIT;
use everup::{Event, Policy, SendError, WorkerId};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

/// Where it has nothing to do with the version.
const AT: At = At {
    version: 20,
    scheduling: Scheduling::None,
};

/// What a program that wants to be a worker is told, with these variables.
fn required(env: &[(&str, &str)]) -> Result<Vec<String>> {
    let ended = Everup::program(RUST)
        .env("FIXTURE", "required")
        .envs(env)
        .finish()?;
    let said = ended.out.iter().map(|line| {
        let json: Value = serde_json::from_str(line)?;
        Ok(json["required"].as_str().context("a line")?.to_owned())
    });
    said.collect()
}

#[test]
fn not_a_worker() -> Result<()> {
    ensure!(required(&[])? == ["Err(NotAWorker)", "Err(NotAWorker)"]);
    // A child of `child_process.fork`, and sockets that are for another process.
    ensure!(required(&[("NODE_CHANNEL_FD", "3")])? == ["Err(NotAWorker)", "Err(NotAWorker)"]);
    ensure!(required(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")])?[0] == "Err(NotAWorker)");
    Ok(())
}

#[test]
fn variables_that_make_no_sense() -> Result<()> {
    let cases: [(&str, &str, &str); 5] = [
        (
            "NODE_CHANNEL_FD",
            "three",
            "Err(Invalid { variable: \"NODE_CHANNEL_FD\"",
        ),
        (
            "NODE_UNIQUE_ID",
            "-1",
            "Err(Invalid { variable: \"NODE_UNIQUE_ID\"",
        ),
        (
            "NODE_CHANNEL_SERIALIZATION_MODE",
            "xml",
            "Err(Invalid { variable: \"NODE_CHANNEL_SERIALIZATION_MODE\"",
        ),
        // Not open, and one that is never ours.
        (
            "NODE_CHANNEL_FD",
            "777",
            "Err(Descriptor { fd: 777, variable: \"NODE_CHANNEL_FD\"",
        ),
        (
            "NODE_CHANNEL_FD",
            "1",
            "Err(Descriptor { fd: 1, variable: \"NODE_CHANNEL_FD\"",
        ),
    ];
    for (name, value, error) in cases {
        let said = required(&[("NODE_CHANNEL_FD", "7"), ("NODE_UNIQUE_ID", "1"), (name, value)])?;
        ensure!(
            said.iter().all(|said| said.starts_with(error)),
            "{said:?}, wanted {error}"
        );
    }
    Ok(())
}

/// The channel has one owner; who asks again is not told that this is no worker.
#[test]
fn taken() -> Result<()> {
    let mut primary = AT.primary()?;
    // With another thread the variables cannot be taken out of the environment, so the second look finds them.
    for (worker, role) in [(1, "required"), (2, "threaded")] {
        primary.order(&json!({ "do": "fork", "env": { "FIXTURE": role } }))?;
        for said in [format!("Ok(Some(WorkerId({worker})))"), "Err(Taken)".to_owned()] {
            primary.line(&said, |json| json["required"] == said)?;
        }
        primary.exits(worker, Some(0), None, false)?;
    }
    primary.end()
}

#[test]
fn primary_gone() -> Result<()> {
    let mut primary = AT.primary()?;
    let worker = primary.fork()?;
    primary.run.signal(Signal::KILL)?;
    let drain = primary.wrote(worker, "drain")?;
    ensure!(
        drain["late"] == "Err(PrimaryGone)" && drain["unsent"] == "Err(Gone)",
        "{drain}"
    );
    primary.run.gone(LIMIT)
}

/// A worker that leaves gets no new listener.
#[test]
fn draining() -> Result<()> {
    let mut primary = AT.primary()?;
    for order in ["disconnect", "kill"] {
        let worker = primary.fork()?;
        primary.order(&json!({ "do": order, "worker": worker }))?;
        let drain = primary.wrote(worker, "drain")?;
        ensure!(drain["late"] == "Err(Draining)", "{drain}");
    }
    primary.end()
}

#[test]
fn address_in_use() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let packets = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("taken");
    let _unix = std::os::unix::net::UnixListener::bind(&path)?;
    for policy in [Policy::RoundRobin, Policy::Shared, Policy::ReusePort] {
        let mut crew = Crew::start(rust(policy))?;
        let worker = crew.fork()?;
        let at = taken.local_addr()?;
        crew.fails(&worker, &json!({ "do": "listen", "at": at }), "AddressInUse")?;
        // The primary's owner hears of it, too.
        let bind_failed = |event: &Event| match event {
            Event::BindFailed { errno, .. } => Some(*errno),
            _ => None,
        };
        let (errno, _) = crew.take("a bind that failed", bind_failed)?;
        ensure!(errno == rustix::io::Errno::ADDRINUSE.raw_os_error(), "{errno}");
        crew.fails(
            &worker,
            &json!({ "do": "udp", "at": packets.local_addr()? }),
            "AddressInUse",
        )?;
        crew.fails(&worker, &json!({ "do": "unix", "path": path }), "AddressInUse")?;
        crew.end()?;
    }
    Ok(())
}

/// Runs this in a thread that lacks these rights: the cluster that it starts and its workers lack them, too.
fn without_rights(rights: CapabilitySet, run: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None)?;
            sets.effective.remove(rights);
            sets.permitted.remove(rights);
            sets.inheritable.remove(rights);
            set_capabilities(None, sets)?;
            run()
        });
        thread.join().map_err(|_| anyhow::anyhow!("the test panicked"))?
    })
}

#[test]
fn permission_denied() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o555))?;
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    // In some containers everybody may have these ports.
    let low_ports = first.trim().parse().map_or(1024, |first: u32| first) > 42;
    let path = folder.path().join("socket");
    without_rights(
        CapabilitySet::DAC_OVERRIDE | CapabilitySet::NET_BIND_SERVICE,
        || {
            let mut crew = Crew::start(rust(Policy::RoundRobin))?;
            let worker = crew.fork()?;
            crew.fails(
                &worker,
                &json!({ "do": "unix", "path": path }),
                "PermissionDenied",
            )?;
            if low_ports {
                crew.fails(
                    &worker,
                    &json!({ "do": "listen", "at": "127.0.0.1:42" }),
                    "PermissionDenied",
                )?;
            }
            crew.end()
        },
    )
}

#[test]
fn places_that_do_not_exist() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let worker = crew.fork()?;
    crew.fails(
        &worker,
        &json!({ "do": "listen", "at": "no port at all" }),
        "NoPort",
    )?;
    crew.fails(
        &worker,
        &json!({ "do": "listen", "at": "no such name:80" }),
        "Lookup",
    )?;
    crew.fails(
        &worker,
        &json!({ "do": "unix", "path": "/nowhere/at/all" }),
        "Bind",
    )?;
    // An address of nobody's (RFC 5737).
    crew.fails(&worker, &json!({ "do": "listen", "at": "192.0.2.1:0" }), "Bind")?;
    crew.fails(&worker, &json!({ "do": "named" }), "NoSuchName")?;
    crew.end()
}

/// Where connections are handed over there is no socket to be had; elsewhere there is.
#[test]
fn no_socket() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let worker = crew.fork()?;
    crew.fails(&worker, &json!({ "do": "socket" }), "HandOver")?;
    crew.end()?;
    for policy in [Policy::Shared, Policy::ReusePort] {
        let mut crew = Crew::start(rust(policy))?;
        let worker = crew.fork()?;
        ensure!(crew.ask(&worker, &json!({ "do": "socket" }), "socket")?["at"].is_string());
        crew.end()?;
    }
    Ok(())
}

/// A worker out of descriptors: what it cannot accept waits, a listener that it cannot have is said so.
#[test]
fn worker_out_of_descriptors() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::Shared))?;
    let worker = crew.fork()?;
    let port = crew.listen(&worker, "greet")?;
    ensure!(greeted(port)? == "1");
    let pid = worker.pid().context("a process")?;
    let room = u64::try_from(process::descriptors(pid)?)?;
    process::starve(pid)?;
    crew.fails(
        &worker,
        &json!({ "do": "listen", "at": "127.0.0.1:0" }),
        "DescriptorLimit",
    )?;
    let mut client = connect(port)?;
    let failed = crew.says(worker.id(), "failed")?;
    ensure!(failed["error"] == "DescriptorLimit", "{failed}");
    process::limit_descriptors(pid, room + 64)?;
    worker.send(&json!({ "do": "again" }))?;
    let mut text = String::new();
    client.read_to_string(&mut text)?;
    ensure!(text == "1", "{text:?}");
    crew.end()
}

/// A primary out of descriptors cannot bind for its workers: they are told, and it goes on. Limits belong to processes,
/// so ours is a program of its own here.
#[test]
fn primary_out_of_descriptors() -> Result<()> {
    for ours in [false, true] {
        let mut primary = if ours { Primary::ours()? } else { AT.primary()? };
        let worker = primary.fork()?;
        let room = u64::try_from(process::descriptors(primary.run.pid)?)?;
        process::starve(primary.run.pid)?;
        let failed = primary.ask(worker, &json!({ "do": "listen", "at": "127.0.0.1:0" }), "failed")?;
        ensure!(failed["error"] == "DescriptorLimit", "{failed}");
        process::limit_descriptors(primary.run.pid, room + 64)?;
        let listening = primary.ask(
            worker,
            &json!({ "do": "listen", "at": "127.0.0.1:0" }),
            "listening",
        )?;
        ensure!(greeted(port(&listening)?)? == "1");
        primary.end()?;
    }
    Ok(())
}

/// Too long, or not JSON: refused before anything of it is sent, on both sides, and the channel goes on.
#[test]
fn messages_that_cannot_be_sent() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let worker = crew.fork()?;
    worker.send(&json!({ "do": "send badly" }))?;
    for error in ["NotJson", "FrameTooLarge { size: 67108610, limit: 67108608 }"] {
        let failed = crew.says(worker.id(), "failed")?;
        ensure!(
            failed["error"]
                .as_str()
                .is_some_and(|text| text.starts_with(error)),
            "{failed}"
        );
    }
    let refused = worker.send_json("{not json");
    ensure!(matches!(refused, Err(SendError::NotJson(_))), "{refused:?}");
    let long = format!("\"{}\"", "x".repeat(MESSAGE_LIMIT));
    let refused = worker.send_json(&long);
    ensure!(
        matches!(refused, Err(SendError::FrameTooLarge { size, limit }) if size == long.len() && limit == MESSAGE_LIMIT)
    );
    let refused = worker.send_opaque(vec![0xFF, 0x0F, b'T']);
    ensure!(matches!(refused, Err(SendError::WrongFormat)), "{refused:?}");
    ensure!(crew.ask(&worker, &json!("still there"), "echo")?["message"] == "still there");
    crew.end()
}

/// Node sends more than a channel takes: to the worker it is gone, and it leaves in good order.
#[test]
fn more_than_a_channel_takes() -> Result<()> {
    let mut primary = AT.primary()?;
    let worker = primary.fork()?;
    primary.order(&json!({ "do": "send", "worker": worker, "long": MESSAGE_LIMIT + 1024 }))?;
    let drain = primary.wrote(worker, "drain")?;
    ensure!(
        drain["reason"] == "Some(PrimaryGone)" && drain["unsent"] == "Err(Gone)",
        "{drain}"
    );
    primary.exits(worker, Some(0), None, false)?;
    primary.end()
}

/// Nobody is there: no such worker, one that has ended.
#[test]
fn nobody_to_send_to() -> Result<()> {
    let mut crew = Crew::start(rust(Policy::RoundRobin))?;
    let worker = crew.fork_as(with_env(&[("GIVEN", "1")]))?;
    let refused = crew.cluster.send(WorkerId(99), &"hello");
    ensure!(matches!(refused, Err(SendError::Gone)), "{refused:?}");
    worker.send(&json!({ "do": "exit", "code": 3 }))?;
    crew.exit(worker.id())?;
    let refused = worker.send(&"hello");
    ensure!(matches!(refused, Err(SendError::Gone)), "{refused:?}");
    wait_until("the table knows", LIMIT, || {
        match crew.cluster.worker(worker.id()) {
            None => Ok(()),
            Some(_) => Err("it is there".into()),
        }
    })?;
    crew.end()
}
