//! A cluster's life: events in their order, graceful stop, kills, replacement, final failure.

use anyhow::{Context, Result, ensure};
use e2e::http::{Connection, get};
use e2e::run::wait_until;
use e2e::{Everup, LIMIT, Run, Seen, fixture, process};
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use std::net::TcpListener;
use std::time::{Duration, Instant};

fn app(args: &[&str]) -> Result<Everup> {
    Ok(Everup::run()?.args(args).arg(fixture("app.js")))
}

/// The names of one worker's events.
fn life(seen: &Seen, worker: u32) -> Vec<String> {
    let own = seen.events.iter().filter(|event| event.worker() == Some(worker));
    own.map(|event| event.name().to_owned()).collect()
}

#[test]
fn events_come_in_order() -> Result<()> {
    let run = app(&["-i", "2"])?.start()?;
    let workers = run.ready(2)?;
    let address = run.address()?;
    run.event("all_ready", 1)?;
    ensure!(workers.iter().all(|worker| process::alive(worker.pid)));
    ensure!(workers.iter().map(|worker| worker.slot).collect::<Vec<_>>() == [0, 1]);
    ensure!(get(address, "/", LIMIT)?.status == 200);
    let listening = run.event("listening", 1)?;
    ensure!(
        listening
            .number("port")
            .is_none_or(|port| port == i64::from(address.port())),
        "{}",
        listening.json
    );
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    let seen = run.seen();
    for worker in &workers {
        let life = life(&seen, worker.id);
        ensure!(
            life == ["fork", "online", "listening", "ready", "disconnect", "exit"],
            "{life:?}"
        );
    }
    for exit in seen.named("exit") {
        ensure!(exit.number("code") == Some(0), "{}", exit.json);
        ensure!(
            exit.number("pid").is_some() && exit.number("slot").is_some(),
            "{}",
            exit.json
        );
    }
    let last: Vec<&str> = seen.events.iter().rev().take(1).map(e2e::Event::name).collect();
    ensure!(last == ["stopped"], "{}", ended.all());
    ensure!(seen.count("stopping") == 1);
    drop(seen);
    run.gone(Duration::from_secs(1))
}

#[test]
fn sigterm_and_sigint_let_requests_finish() -> Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let run = app(&["-i", "2"])?.start()?;
        run.ready(2)?;
        let address = run.address()?;
        let mut client = Connection::open(address, LIMIT)?;
        client.send("/slow?ms=1000")?;
        // The app has the request when another one that came later on the same worker is answered; with two workers
        // and one busy connection, several are needed to be sure of both.
        for _ in 0..8 {
            get(address, "/", LIMIT)?;
        }
        run.signal(signal)?;
        run.event("stopping", 1)?;
        let answer = client.answer().context("the request under way")?;
        ensure!(answer.body == "late\n");
        let ended = run.ended(LIMIT)?;
        ensure!(ended.code() == Some(0), "{}", ended.all());
        ensure!(get(address, "/", LIMIT).is_err(), "somebody still listens");
        run.gone(Duration::from_secs(1))?;
    }
    Ok(())
}

#[test]
fn second_signal_kills() -> Result<()> {
    let run = app(&["-i", "2", "--kill-timeout", "1m"])?.start()?;
    run.ready(2)?;
    let mut client = Connection::open(run.address()?, LIMIT)?;
    client.send("/slow?ms=60000")?;
    for _ in 0..8 {
        get(run.address()?, "/", LIMIT)?;
    }
    run.signal(Signal::TERM)?;
    run.event("stopping", 1)?;
    run.event("exit", 1)?;
    ensure!(run.seen().status.is_none(), "it did not wait for the request");
    // Signals within 50 ms are one request (process managers signal a process and its group).
    // wait: the CLI takes signals within 50 ms for one
    std::thread::sleep(Duration::from_millis(100));
    run.signal(Signal::TERM)?;
    let ended = run.ended(Duration::from_secs(5))?;
    ensure!(ended.code() == Some(6), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

#[test]
fn stubborn_worker_is_killed_with_its_tree() -> Result<()> {
    let run = Everup::run()?
        .args(["--kill-timeout", "500ms", "--no-prefix"])
        .arg(fixture("stubborn.js"))
        .start()?;
    run.ready(1)?;
    let child: u32 = run.out_line("child ")?.trim_start_matches("child ").parse()?;
    ensure!(process::alive(child));
    let began = Instant::now();
    let ended = run.stop()?;
    let took = began.elapsed();
    ensure!(ended.code() == Some(6), "{}", ended.all());
    ensure!(
        took >= Duration::from_millis(500) && took < Duration::from_secs(5),
        "after {took:?}"
    );
    let exit = ended
        .events
        .iter()
        .find(|event| event.name() == "exit")
        .context("no exit event")?;
    ensure!(exit.text("signal") == "SIGKILL", "{}", exit.json);
    run.gone(Duration::from_secs(1))
}

#[test]
fn spinning_worker_is_killed() -> Result<()> {
    let run = app(&["--kill-timeout", "300ms"])?.start()?;
    run.ready(1)?;
    let mut client = Connection::open(run.address()?, LIMIT)?;
    client.send("/spin")?;
    let pid = run.seen().ready()[0].pid;
    wait_until("the worker spins", LIMIT, || {
        let cpu = process::cpu(pid).map_err(|error| error.to_string())?;
        // wait: the span over which CPU time is measured
        std::thread::sleep(Duration::from_millis(100));
        let more = process::cpu(pid).map_err(|error| error.to_string())? - cpu;
        if more > Duration::from_millis(30) {
            Ok(())
        } else {
            Err(format!("{more:?}"))
        }
    })?;
    let ended = run.stop()?;
    // Asked by Node's disconnect it hears nothing; SIGTERM, if that comes before the kill, would end it as well.
    ensure!(matches!(ended.code(), Some(0 | 6)), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

#[test]
fn crashed_worker_is_replaced_at_once() -> Result<()> {
    let run = app(&["-i", "2"])?.start()?;
    let before = run.ready(2)?;
    let address = run.address()?;
    ensure!(
        get(address, "/exit?code=7", LIMIT).is_err(),
        "a dead worker answered"
    );
    let exit = run.event("exit", 1)?;
    ensure!(exit.number("code") == Some(7), "{}", exit.json);
    let fork = run.event("fork", 3)?;
    ensure!(
        fork.number("slot") == exit.number("slot"),
        "{} after {}",
        fork.json,
        exit.json
    );
    ensure!(
        fork.at - exit.at < Duration::from_millis(500),
        "only after {:?}",
        fork.at - exit.at
    );
    run.event("respawn", 1)?;
    let after = run.ready(2)?;
    ensure!(
        after.iter().filter(|worker| before.contains(worker)).count() == 1,
        "{after:?}"
    );
    ensure!(get(address, "/throw", LIMIT).is_err(), "a dead worker answered");
    let exit = run.event("exit", 2)?;
    ensure!(exit.number("code") == Some(1), "{}", exit.json);
    run.ready(2)?;
    ensure!(run.address()? == address, "the port changed");
    ensure!(
        run.seen()
            .err
            .iter()
            .any(|line| line.contains("thrown on request")),
        "its last words are missing"
    );
    ensure!(run.stop()?.code() == Some(0));
    run.gone(Duration::from_secs(1))
}

#[test]
fn slot_of_a_successor_is_its_predecessors() -> Result<()> {
    let run = app(&["-i", "2", "--instance-var", "MY_SLOT"])?.start()?;
    let workers = run.ready(2)?;
    process::signal(workers[1].pid, Signal::KILL)?;
    run.event("exit", 1)?;
    run.ready(2)?;
    let address = run.address()?;
    let mut found = std::collections::BTreeSet::new();
    wait_until("both slots have answered", LIMIT, || {
        let answer = get(address, "/env?name=MY_SLOT", LIMIT).map_err(|error| format!("{error:#}"))?;
        found.insert(answer.body);
        if found.len() == 2 {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })?;
    ensure!(found.iter().eq([r#""0""#, r#""1""#]), "{found:?}");
    ensure!(get(address, "/env?name=NODE_APP_INSTANCE", LIMIT)?.body == "null");
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn budget_of_early_deaths_ends_in_failure() -> Result<()> {
    let run = Everup::run()?
        .args(["-i", "2"])
        .arg(fixture("dies-early.js"))
        .start()?;
    let ended = run.ended(Duration::from_secs(60))?;
    ensure!(ended.code() == Some(5), "{}", ended.all());
    let count = |name| ended.events.iter().filter(|event| event.name() == name).count();
    ensure!(
        count("exit") == count("fork") && (4..=20).contains(&count("fork")),
        "{}",
        ended.all()
    );
    ensure!(
        ended
            .events
            .iter()
            .filter(|event| event.name() == "exit")
            .all(|exit| exit.number("code") == Some(3))
    );
    let delays: Vec<i64> = ended
        .events
        .iter()
        .filter(|event| event.name() == "respawn")
        .filter_map(|event| event.number("delay_ms"))
        .collect();
    ensure!(
        delays.first() == Some(&0) && delays.iter().max() > Some(&100),
        "delays {delays:?}\n{}",
        ended.all()
    );
    let last: Vec<&str> = ended.events.iter().rev().take(2).map(e2e::Event::name).collect();
    ensure!(last == ["fatal", "stopped"], "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

#[test]
fn one_that_never_listens_has_failed() -> Result<()> {
    let run = app(&["--listen-timeout", "300ms"])?
        .env("LISTEN", "none")
        .start()?;
    let exit = run.event("exit", 1)?;
    ensure!(exit.text("signal") == "SIGKILL", "{}", exit.json);
    ensure!(
        exit.json.to_string().contains("listen"),
        "no reason: {}",
        exit.json
    );
    run.event("fork", 2)?;
    run.signal(Signal::TERM)?;
    run.ended(LIMIT)?;
    run.gone(Duration::from_secs(1))
}

#[test]
fn shutdown_message_asks_the_app() -> Result<()> {
    let run = Everup::run()?
        .args(["-i", "2", "--shutdown-with-message"])
        .arg(fixture("shutdown-message.js"))
        .start()?;
    run.ready(2)?;
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    ensure!(
        ended
            .out
            .iter()
            .filter(|line| line.ends_with("got shutdown"))
            .count()
            == 2,
        "{}",
        ended.all()
    );
    Ok(())
}

#[test]
fn kill_signal_asks_the_app() -> Result<()> {
    let run = Everup::run()?
        .args(["--kill-signal", "SIGQUIT"])
        .arg(fixture("signal-log.js"))
        .start()?;
    run.ready(1)?;
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    ensure!(
        ended.out.iter().any(|line| line.ends_with("got SIGQUIT")),
        "{}",
        ended.all()
    );
    Ok(())
}

#[test]
fn dead_primary_leaves_nobody() -> Result<()> {
    // One serves, one spins, one is stopped.
    let run = app(&["-i", "3", "--policy", "round-robin"])?.start()?;
    let workers = run.ready(3)?;
    let address = run.address()?;
    let mut spinner = Connection::open(address, LIMIT)?;
    spinner.send("/spin")?;
    let spins = |pid| {
        let cpu = process::cpu(pid).ok()?;
        // wait: the span over which CPU time is measured
        std::thread::sleep(Duration::from_millis(60));
        (process::cpu(pid).ok()? - cpu > Duration::from_millis(15)).then_some(pid)
    };
    let busy = wait_until("a worker spins", LIMIT, || {
        workers
            .iter()
            .find_map(|worker| spins(worker.pid))
            .ok_or_else(|| "none does".into())
    })?;
    let idle = workers
        .iter()
        .find(|worker| worker.pid != busy)
        .context("an idle worker")?;
    process::signal(idle.pid, Signal::STOP)?;
    run.signal(Signal::KILL)?;
    run.gone(Duration::from_secs(1))
        .context("after the primary's death")?;
    TcpListener::bind(address).context("the port is not free")?;
    Ok(())
}

#[test]
fn dead_primary_leaves_no_other_program() -> Result<()> {
    let run = Everup::run()?
        .args(["-i", "2", "--listen", "tcp://127.0.0.1:0"])
        .arg(fixture("sockets.py"))
        .start()?;
    // `python3` may be a shell script, whose children are none of ours: not before it has become Python.
    run.until("both listen", LIMIT, |seen| {
        let listening = seen.out.iter().filter(|line| line.contains("listening"));
        (listening.count() == 2).then_some(())
    })?;
    run.signal(Signal::KILL)?;
    run.gone(Duration::from_secs(1))
        .context("after the primary's death")
}

#[test]
fn signal_while_workers_start() -> Result<()> {
    let run = app(&["-i", "2"])?.env("DELAY_MS", "60000").start()?;
    run.event("fork", 2)?;
    let ended = run.stop()?;
    ensure!(matches!(ended.code(), Some(0 | 6)), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

#[test]
fn free_signals_do_not_end_it() -> Result<()> {
    let run = app(&[])?.start()?;
    run.ready(1)?;
    for signal in [Signal::HUP, Signal::USR2, Signal::PIPE] {
        run.signal(signal)?;
    }
    ensure!(get(run.address()?, "/", LIMIT)?.status == 200);
    ensure!(run.seen().status.is_none() && run.seen().count("exit") == 0);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

/// Two clusters on one port: the second app sees what it would see without us.
#[test]
fn twice_at_once() -> Result<()> {
    let first: Run = app(&["-i", "2"])?.start()?;
    first.ready(2)?;
    let port = first.address()?.port();
    let second = app(&["-i", "2"])?.env("PORT", port.to_string()).start()?;
    let failed = second.event("bind_failed", 1)?;
    ensure!(
        failed.json.to_string().contains(&port.to_string()),
        "{}",
        failed.json
    );
    ensure!(second.ended(Duration::from_secs(60))?.code() == Some(5));
    ensure!(
        second
            .seen()
            .err
            .iter()
            .any(|line| line.ends_with("server error EADDRINUSE"))
    );
    second.gone(Duration::from_secs(1))?;
    ensure!(get(first.address()?, "/", LIMIT)?.status == 200);
    ensure!(first.stop()?.code() == Some(0));
    Ok(())
}

/// Ctrl-C in a terminal goes to the whole foreground group: workers must not take it for their own.
#[test]
fn interrupt_of_the_whole_group_is_graceful() -> Result<()> {
    let everup = e2e::binary::everup()?;
    // A session and so a group of its own, under the same process id.
    let run = Everup::program("setsid")
        .arg(everup)
        .args(["run", "--events", "json", "-i", "2"])
        .arg(fixture("app.js"));
    let run = run.start()?;
    run.ready(2)?;
    let address = run.address()?;
    let mut client = Connection::open(address, LIMIT)?;
    client.send("/slow?ms=1000")?;
    for _ in 0..8 {
        get(address, "/", LIMIT)?;
    }
    let group = rustix::process::Pid::from_raw(i32::try_from(run.pid)?).context("process id")?;
    rustix::process::kill_process_group(group, Signal::INT)?;
    ensure!(client.answer().context("the request under way")?.body == "late\n");
    let ended = run.ended(LIMIT)?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    ensure!(run.seen().count("respawn") == 0, "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

/// A terminal that is paused, a log collector that hangs: the app serves, crashes are mended, and a stop is a stop.
#[test]
fn reader_that_hangs_holds_up_nobody() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("app.sock");
    let (reader, writer) = std::io::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&writer, 4096)?;
    let run = app(&["-i", "2"])?.env("LISTEN", &socket).stderr(writer).start()?;
    let ask = |path: &str| {
        let mut client = Connection::open_unix(&socket, LIMIT)?;
        client.get(path)
    };
    let served = || {
        wait_until("an answer", LIMIT, || {
            ask("/").map(drop).map_err(|error| format!("{error:#}"))
        })
    };
    served()?;
    // Each death is told in several events; soon the pipe is full.
    for _ in 0..12 {
        drop(ask("/exit?code=1"));
        served()?;
    }
    let mut full = [PollFd::new(&reader, PollFlags::IN)];
    ensure!(rustix::event::poll(&mut full, None)? == 1);
    run.signal(Signal::TERM)?;
    wait_until("the workers are gone", LIMIT, || {
        let left: Vec<u32> = run
            .processes()
            .into_iter()
            .filter(|&pid| pid != run.pid)
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })?;
    // What is still to be said is left unsaid.
    ensure!(run.ended(LIMIT)?.code() == Some(0));
    drop(reader);
    run.gone(Duration::from_secs(1))
}
