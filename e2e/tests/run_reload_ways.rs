//! What else may happen around a reload: changed variables, another reload, a stop, another number of workers, and
//! connections that last.

use anyhow::{Result, ensure};
use e2e::http::get;
use e2e::load::{Background, Length, Plan};
use e2e::run::wait_until;
use e2e::{Ended, Everup, LIMIT, Run, fixture, process};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn app(script: &str, args: &[&str]) -> Result<Run> {
    Everup::run()?.args(args).arg(fixture(script)).start()
}

/// An app that is under load from the beginning.
fn loaded(workers: usize, args: &[&str]) -> Result<(Run, Background)> {
    let run = app("hello.js", &[&["-i", &workers.to_string()], args].concat())?;
    run.until("somebody serves", LIMIT, |seen| {
        seen.named("all_ready").next().map(drop)
    })?;
    let load = Background::start(Plan {
        length: Length::For(LIMIT * 10),
        ..Plan::open(run.address()?, 200.0, 0)
    });
    Ok((run, load))
}

fn nothing_failed(load: Background) -> Result<()> {
    let report = load.finish()?;
    ensure!(
        report.failures.is_empty() && report.ok > 0,
        "{}\n{:?}",
        report.json(),
        report.failures
    );
    Ok(())
}

fn stopped(run: &Run) -> Result<Ended> {
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    run.gone(Duration::from_secs(1))?;
    Ok(ended)
}

/// The generation of every worker that is there.
fn generations(run: &Run) -> Vec<i64> {
    let seen = run.seen();
    let alive = seen.workers();
    let of = |id| {
        let mut forks = seen.named("fork");
        forks
            .find(|fork| fork.worker() == Some(id))
            .and_then(|fork| fork.number("generation"))
    };
    alive.iter().filter_map(|worker| of(worker.id)).collect()
}

#[test]
fn an_env_file_is_read_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.env");
    fs::write(&file, "GREETING=old\n")?;
    let file_arg = file.to_string_lossy();
    let run = app(
        "greeting.js",
        &["-i", "2", "--canary", "50ms", "--env-file", &file_arg],
    )?;
    run.ready(2)?;
    let address = run.address()?;
    let says = |word: &str| -> Result<()> {
        for _ in 0..4 {
            let answer = get(address, "/", LIMIT)?.body;
            ensure!(answer == word, "{answer:?} instead of {word:?}");
        }
        Ok(())
    };
    says("old")?;
    fs::write(&file, "GREETING=new\n")?;
    says("old")?;
    run.reload()?.all_replaced(2)?;
    says("new")?;
    // A file that cannot be read changes nothing; a crash brings back what the last reload brought.
    fs::write(&file, "GREETING=\"never closed\n")?;
    let before = run.ready(2)?;
    run.signal(Signal::HUP)?;
    run.until("that nothing is changed", LIMIT, |seen| {
        seen.named("notice")
            .find(|event| event.text("message").contains("nothing is changed"))
            .map(drop)
    })?;
    ensure!(run.ready(2)? == before);
    process::signal(before[0].pid, Signal::KILL)?;
    run.event("exit", 3)?;
    run.ready(2)?;
    says("new")?;
    stopped(&run).map(drop)
}

/// All that are asked for during a reload are one, which follows.
#[test]
fn reload_during_a_reload() -> Result<()> {
    let (run, load) = loaded(2, &["--canary", "500ms"])?;
    run.signal(Signal::HUP)?;
    run.reload_phase(2, "canary")?;
    for told in 1..=3 {
        run.signal(Signal::HUP)?;
        run.until("that it waits", LIMIT, |seen| {
            let waits = |event: &&e2e::Event| event.text("message").contains("after the reload under way");
            seen.named("notice").filter(waits).nth(told - 1).map(drop)
        })?;
    }
    let (first, second) = (run.receipt(1)?, run.receipt(2)?);
    ensure!(
        first.outcome() == "done" && first.generation() == 2,
        "{}",
        first.json
    );
    second.all_replaced(2)?;
    ensure!(second.generation() == 3, "{}", second.json);
    run.ready(2)?;
    ensure!(generations(&run) == [3, 3]);
    nothing_failed(load)?;
    let ended = stopped(&run)?;
    let receipts = ended
        .events
        .iter()
        .filter(|event| event.name() == "reloaded")
        .count();
    ensure!(receipts == 2, "{}", ended.all());
    Ok(())
}

#[test]
fn stop_during_a_reload() -> Result<()> {
    // While the canary boots, while it is watched, and while the others follow.
    for (canary, events) in [("5s", 3), ("5s", 4), ("1ms", 5)] {
        let run = app("hello.js", &["-i", "2", "--canary", canary])?;
        run.ready(2)?;
        run.signal(Signal::HUP)?;
        run.until("the reload is under way", LIMIT, |seen| {
            let count = seen.count("fork") + seen.count("ready") - 2;
            (count >= events).then_some(())
        })?;
        let ended = stopped(&run)?;
        let receipts: Vec<_> = ended
            .events
            .iter()
            .filter(|event| event.name() == "reloaded")
            .collect();
        let [receipt] = receipts[..] else {
            anyhow::bail!("{}", ended.all());
        };
        // The last one may have been done a moment before.
        let known = matches!(receipt.text("outcome"), "stopped" | "done");
        ensure!(known, "{}", receipt.json);
        ensure!(
            canary != "5s" || receipt.text("outcome") == "stopped",
            "{}",
            receipt.json
        );
    }
    Ok(())
}

#[test]
fn a_killed_canary_ends_the_reload() -> Result<()> {
    let (run, load) = loaded(2, &["--canary", "30s"])?;
    let before = run.ready(2)?;
    run.signal(Signal::HUP)?;
    let canary = run.until("the canary is ready", LIMIT, |seen| {
        let ready = seen.ready();
        ready
            .into_iter()
            .find(|worker| before.iter().all(|old| old.id != worker.id))
    })?;
    process::signal(canary.pid, Signal::KILL)?;
    let receipt = run.receipt(1)?;
    ensure!(
        receipt.outcome() == "aborted" && receipt.reason().contains("signal"),
        "{}",
        receipt.json
    );
    ensure!(run.ready(2)? == before);
    // What it had in its hands when it was killed is lost, and nothing else.
    let report = load.finish()?;
    ensure!(
        report.failures.len() <= 1,
        "{}\n{:?}",
        report.json(),
        report.failures
    );
    stopped(&run).map(drop)
}

#[test]
fn more_workers_during_a_reload() -> Result<()> {
    let (run, load) = loaded(2, &["--canary", "500ms"])?;
    run.signal(Signal::HUP)?;
    run.reload_phase(2, "canary")?;
    run.signal(Signal::TTIN)?;
    run.event("scaled", 1)?;
    let receipt = run.receipt(1)?;
    receipt.all_replaced(3)?;
    run.ready(3)?;
    ensure!(generations(&run) == [2, 2, 2], "{}", receipt.json);
    nothing_failed(load)?;
    stopped(&run).map(drop)
}

#[test]
fn fewer_workers_during_a_reload() -> Result<()> {
    let (run, load) = loaded(3, &["--canary", "500ms"])?;
    run.signal(Signal::HUP)?;
    run.reload_phase(2, "canary")?;
    run.signal(Signal::TTOU)?;
    run.event("scaled", 1)?;
    let receipt = run.receipt(1)?;
    receipt.all_replaced(2)?;
    run.ready(2)?;
    ensure!(generations(&run) == [2, 2], "{}", receipt.json);
    nothing_failed(load)?;
    stopped(&run).map(drop)
}

/// An answer without an end.
struct Stream {
    connection: TcpStream,
    /// Whose it is.
    pid: u32,
}

impl Stream {
    fn open(run: &Run) -> Result<Self> {
        let mut connection = TcpStream::connect(run.address()?)?;
        connection.set_read_timeout(Some(LIMIT))?;
        connection.write_all(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut head = Vec::new();
        let mut piece = [0; 1024];
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            let count = connection.read(&mut piece)?;
            ensure!(count > 0, "no answer");
            head.extend_from_slice(&piece[..count]);
        }
        let text = String::from_utf8_lossy(&head);
        let pid = text.lines().find_map(|line| line.strip_prefix("X-Pid: "));
        Ok(Self {
            pid: pid.unwrap_or_default().parse()?,
            connection,
        })
    }

    /// Whether something more comes.
    fn flows(&mut self) -> bool {
        let mut piece = [0; 1024];
        self.connection.read(&mut piece).is_ok_and(|count| count > 0)
    }

    /// Reads until its end; gives the time of that.
    fn end(&mut self) -> Instant {
        while self.flows() {}
        Instant::now()
    }
}

/// It survives the reload up to `--drain-timeout`, and is ended by the ladder then.
#[test]
fn a_long_connection_has_the_drain_timeout() -> Result<()> {
    let drain = Duration::from_millis(1500);
    let run = app(
        "stream.js",
        &[
            "--canary",
            "10ms",
            "--drain-timeout",
            "1500ms",
            "--kill-timeout",
            "5s",
        ],
    )?;
    let [old] = &run.ready(1)?[..] else { unreachable!() };
    let mut stream = Stream::open(&run)?;
    ensure!(stream.pid == old.pid);
    run.signal(Signal::HUP)?;
    run.reload_phase(2, "draining")?;
    let left = Instant::now();
    // New clients are with the new worker, while the old one still serves this one.
    ensure!(get(run.address()?, "/", LIMIT)?.header("x-pid") != old.pid.to_string());
    ensure!(stream.flows());
    let lasted = stream.end() - left;
    ensure!(
        lasted > drain.mul_f64(0.8) && lasted < drain * 3,
        "it lasted {lasted:?}"
    );
    let receipt = run.receipt(1)?;
    receipt.all_replaced(1)?;
    let drained = receipt.workers()[0]["drain_ms"]
        .as_u64()
        .map(Duration::from_millis);
    ensure!(
        drained.is_some_and(|took| took >= drain && took < drain * 3),
        "{}",
        receipt.json
    );
    stopped(&run).map(drop)
}

/// An app that does not end on SIGTERM is killed after `--kill-timeout` more, and the receipt says so.
#[test]
fn a_worker_that_stays_is_killed() -> Result<()> {
    let run = app(
        "stubborn.js",
        &[
            "--canary",
            "10ms",
            "--drain-timeout",
            "300ms",
            "--kill-timeout",
            "500ms",
        ],
    )?;
    run.ready(1)?;
    let before = run.processes();
    let receipt = run.reload()?;
    ensure!(
        receipt.outcome() == "done" && receipt.workers()[0]["forced"] == true,
        "{}",
        receipt.json
    );
    run.ready(1)?;
    // With everything that it has started. What is killed may take a moment to be gone.
    wait_until("its child is gone", Duration::from_secs(2), || {
        let left: Vec<u32> = run
            .processes()
            .into_iter()
            .filter(|pid| *pid != run.pid && before.contains(pid))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?} of {before:?}"))
        }
    })?;
    Ok(())
}

/// Only so many old generations linger: the oldest has to hurry when there is one more.
#[test]
fn old_generations_are_capped() -> Result<()> {
    let args = [
        "--canary",
        "10ms",
        "--drain-timeout",
        "10m",
        "--max-draining",
        "2",
        "--kill-timeout",
        "1s",
    ];
    let run = app("stream.js", &args)?;
    run.ready(1)?;
    let mut streams = Vec::new();
    for generation in 2..=3 {
        streams.push(Stream::open(&run)?);
        run.signal(Signal::HUP)?;
        run.reload_phase(generation, "draining")?;
    }
    // Two linger, and both still serve.
    ensure!(streams.iter_mut().all(Stream::flows));
    ensure!(run.seen().workers().len() == 3);
    streams.push(Stream::open(&run)?);
    let asked = Instant::now();
    run.signal(Signal::HUP)?;
    run.reload_phase(4, "draining")?;
    let hurried = streams[0].end() - asked;
    ensure!(hurried < LIMIT / 2, "the oldest one lasted {hurried:?}");
    wait_until("the oldest worker is gone", LIMIT, || {
        if process::alive(streams[0].pid) {
            Err("it lives".into())
        } else {
            Ok(())
        }
    })?;
    ensure!(
        streams[1..].iter_mut().all(Stream::flows),
        "a younger one was ended, too"
    );
    // A receipt that could not wait for the end says who has not ended.
    let first = run.receipt(1)?;
    ensure!(
        first.outcome() == "done" && first.still_draining() == 1,
        "{}",
        first.json
    );
    ensure!(first.lost().is_none(), "{}", first.json);
    let ended = stopped(&run)?;
    let receipts = ended
        .events
        .iter()
        .filter(|event| event.name() == "reloaded")
        .count();
    ensure!(receipts == 3, "{}", ended.all());
    Ok(())
}

/// The reload is over, but for a connection that lasts: a stop ends that, too.
#[test]
fn stop_while_an_old_generation_drains() -> Result<()> {
    let run = app(
        "stream.js",
        &[
            "--canary",
            "10ms",
            "--drain-timeout",
            "10m",
            "--kill-timeout",
            "1s",
        ],
    )?;
    run.ready(1)?;
    let mut stream = Stream::open(&run)?;
    run.signal(Signal::HUP)?;
    run.reload_phase(2, "draining")?;
    ensure!(stream.flows());
    let asked = Instant::now();
    stopped(&run)?;
    ensure!(
        asked.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        asked.elapsed()
    );
    Ok(())
}

/// Reloads and changes of number at random times, under load: for some seconds, or for some minutes with
/// `EVERUP_SOAK=1`.
fn anything_at_any_time(policy: &str, spares: usize) -> Result<()> {
    let soak = std::env::var_os("EVERUP_SOAK").is_some();
    let steps = if soak { 1500 } else { 25 };
    let spare = spares.to_string();
    let (run, load) = loaded(2, &["--canary", "20ms", "--spare", &spare, "--policy", policy])?;
    let mut random: u64 = 0x2545_F491_4F6C_DD1D;
    let mut target = 2;
    for step in 0..steps {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let before = run.seen().count("notice");
        let signal = match random % 4 {
            0 if target < 4 => Signal::TTIN,
            1 if target > 1 => Signal::TTOU,
            _ => Signal::HUP,
        };
        match signal {
            Signal::TTIN => target += 1,
            Signal::TTOU => target -= 1,
            _ => {}
        }
        run.signal(signal)?;
        run.until(&format!("step {step} is heard"), LIMIT, |seen| {
            (seen.count("notice") > before).then_some(())
        })?;
        // wait: the next one comes at any moment
        std::thread::sleep(Duration::from_millis(random >> 32 & 127));
    }
    settled(&run, target + spares)?;
    let last = run.reload()?;
    ensure!(last.outcome() == "done", "{}", last.json);
    settled(&run, target + spares)?;
    for receipt in run.seen().named("reloaded") {
        ensure!(receipt.text("outcome") == "done", "{}", receipt.json);
    }
    nothing_failed(load)?;
    stopped(&run).map(drop)
}

#[test]
fn anything_at_any_time_with_a_spare() -> Result<()> {
    anything_at_any_time("least-connections", 1)
}

#[test]
fn anything_at_any_time_on_a_shared_socket() -> Result<()> {
    anything_at_any_time("shared", 0)
}

/// Waits until so many workers are ready, all of the newest generation, and every reload has its receipt.
fn settled(run: &Run, workers: usize) -> Result<()> {
    wait_until("every reload is over", LIMIT, || {
        let generations = generations(run);
        let seen = run.seen();
        let begun: BTreeSet<_> = seen
            .named("reloading")
            .map(|event| event.number("generation"))
            .collect();
        let newest = begun.last().copied().flatten();
        let all_new = generations.iter().all(|generation| newest == Some(*generation));
        if seen.ready().len() == workers
            && generations.len() == workers
            && all_new
            && begun.len() == seen.count("reloaded")
        {
            Ok(())
        } else {
            Err(format!(
                "{generations:?} of {workers} after {begun:?}, {} receipts",
                seen.count("reloaded")
            ))
        }
    })
}

/// Workers that are not ready yet are replaced like others.
#[test]
fn reload_while_the_first_workers_boot() -> Result<()> {
    for delay in ["0", "300"] {
        let run = Everup::run()?
            .args(["-i", "2", "--canary", "10ms"])
            .arg(fixture("app.js"))
            .env("DELAY_MS", delay)
            .start()?;
        run.event("fork", 1)?;
        let receipt = run.reload()?;
        ensure!(
            receipt.outcome() == "done" && receipt.workers().len() == 2,
            "{}",
            receipt.json
        );
        run.ready(2)?;
        ensure!(generations(&run) == [2, 2], "{}", receipt.json);
        stopped(&run)?;
    }
    Ok(())
}
