//! `child_process.fork`'s channel: with our primary (`Channel::Ipc`) Rust and Node children, with Node's a Rust child.

use crate::node::{At, Primary, connect, greeted, port};
use crate::rust::{Crew, node_worker, rust, with_env};
use anyhow::{Context, Result, ensure};
use everup::{Channel, Event, ExitStatus, Fork, Policy, Serialization, WorkerHandle};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpListener;

const CHILD: [(&str, &str); 1] = [("FIXTURE", "parent")];

fn crew(serialization: Serialization) -> Result<Crew> {
    Crew::start(rust(Policy::RoundRobin).channel(Channel::Ipc(serialization)))
}

fn children() -> [(&'static str, Fork); 2] {
    [("child", with_env(&CHILD)), ("child", node_worker())]
}

/// A child is in no cluster, and messages go both ways.
#[test]
fn messages() -> Result<()> {
    for serialization in [Serialization::Json, Serialization::Advanced] {
        let mut crew = crew(serialization)?;
        for (_, fork) in children() {
            let child = crew.fork_as(fork)?;
            for value in [json!(null), json!("é中😀"), json!({ "list": [1, 2.5, true] })] {
                let echo = crew.ask(&child, &value, "echo")?;
                ensure!(echo["message"] == value, "{echo}");
            }
        }
        crew.end()?;
    }
    Ok(())
}

/// Sockets go both ways.
#[test]
fn handles() -> Result<()> {
    let mut crew = crew(Serialization::Json)?;
    for (name, fork) in children() {
        let child = crew.fork_as(fork)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut client = connect(listener.local_addr()?.port())?;
        child.send_handle(&json!("take it"), listener.accept()?.0)?;
        ensure!(crew.says(child.id(), "took")?["with"] == "take it");
        let mut text = String::new();
        client.read_to_string(&mut text)?;
        ensure!(text == name, "{text:?}");

        child.send(&json!({ "do": "give" }))?;
        let from = child.id();
        let gift =
            |event: &Event| matches!(event, Event::Handle { worker, .. } if *worker == from).then_some(());
        let (_, event) = crew.take("a socket", gift)?;
        let Event::Handle {
            message, descriptor, ..
        } = event
        else {
            unreachable!();
        };
        let said: Value = serde_json::from_str(&message)?;
        let everup::Handle::Listener(given) = descriptor.into_handle() else {
            anyhow::bail!("something else");
        };
        ensure!(given.local_addr()?.port() == port(&said)?, "{said}");
    }
    crew.end()
}

/// Either side may close the channel; the child ends then because it has nothing more to do.
#[test]
fn disconnect() -> Result<()> {
    let mut crew = crew(Serialization::Json)?;
    for by_itself in [false, true] {
        for (_, fork) in children() {
            let child = crew.fork_as(fork)?;
            match by_itself {
                true => child.send(&json!({ "do": "leave" }))?,
                false => child.disconnect(),
            }
            ended(&mut crew, &child)?;
        }
    }
    crew.end()
}

fn ended(crew: &mut Crew, child: &WorkerHandle) -> Result<()> {
    let from = child.id();
    let gone =
        |event: &Event| matches!(event, Event::Disconnect { worker, .. } if *worker == from).then_some(());
    crew.take("a closed channel", gone)?;
    let exit = crew.exit(from)?;
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
    ensure!(!child.is_connected() && child.send(&"too late").is_err());
    Ok(())
}

/// `channel.unref()`: an open channel does not keep a Rust program from ending, and nothing has to be said for that.
#[test]
fn the_channel_keeps_nobody() -> Result<()> {
    let mut crew = crew(Serialization::Json)?;
    let child = crew
        .cluster
        .fork(with_env(&[("FIXTURE", "brief")]))
        .context("it runs")?;
    let exit = crew.exit(child.id())?;
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

/// `child_process.fork` with `execPath`: messages, sockets, `disconnect` from either side.
pub(crate) fn child(at: At) -> Result<()> {
    for serialization in ["json", "advanced"] {
        let mut primary = at.primary()?;
        for by_itself in [false, true] {
            child_of_node(&mut primary, serialization, by_itself)?;
        }
        primary.end()?;
    }
    Ok(())
}

fn child_of_node(primary: &mut Primary, serialization: &str, by_itself: bool) -> Result<()> {
    let says = |primary: &Primary, what: &str| {
        primary.line(what, |json| {
            json["child"] == true && json["message"]["say"] == what
        })
    };
    primary.order(&json!({ "do": "child", "serialization": serialization }))?;
    ensure!(says(primary, "up")?["message"]["worker"] == false);
    let value = json!({ "list": [1, "é", null] });
    primary.order(&json!({ "do": "child send", "message": value }))?;
    ensure!(says(primary, "echo")?["message"]["message"] == value);
    primary.order(&json!({ "do": "child send", "special": true }))?;
    let echo = says(primary, "echo")?;
    ensure!(
        echo["message"]["opaque"] == (serialization == "advanced"),
        "{echo}"
    );
    primary.order(&json!({ "do": "child give", "message": "take it", "handle": "socket" }))?;
    ensure!(says(primary, "took")?["message"]["with"] == "take it");
    ensure!(primary.told("client heard")?["text"] == "child");
    primary.told("server closed")?;
    primary.order(&json!({ "do": "child send", "message": { "do": "give" } }))?;
    let gift = says(primary, "gift")?;
    ensure!(
        gift["type"] == "Server" && greeted(port(&gift["message"])?)? == "node",
        "{gift}"
    );
    match by_itself {
        true => primary.order(&json!({ "do": "child send", "message": { "do": "leave" } }))?,
        false => primary.order(&json!({ "do": "child disconnect" }))?,
    }
    primary.told("child disconnect")?;
    let end = primary.line("disconnected", |json| json["line"] == "disconnected")?;
    ensure!(end["connected"] == false, "{end}");
    let exit = primary.told("child exit")?;
    ensure!(exit["code"] == 0, "{exit}");
    Ok(())
}
