//! Readiness and liveness with real programs: `message`, `sd_notify`, probes by HTTP, TCP and commands.

use anyhow::{Context, Result, ensure};
use e2e::http::get;
use e2e::load::{Background, Plan};
use e2e::run::wait_until;
use e2e::{Event, Everup, LIMIT, Run, Seen, Worker, binary, fixture, process};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

fn load(address: SocketAddr, per_second: f64) -> Background {
    Background::start(Plan::open(address, per_second, u64::MAX))
}

fn all_answered(load: Background) -> Result<()> {
    let report = load.finish()?;
    ensure!(report.failures.is_empty() && report.ok > 0, "{}", report.json());
    Ok(())
}

fn exit_of(run: &Run, worker: u32) -> Result<Event> {
    run.until(&format!("the end of worker {worker}"), LIMIT, |seen| {
        let mut exits = seen.named("exit");
        exits.find(|event| event.worker() == Some(worker)).cloned()
    })
}

/// Waits for an event of this name whose message holds `text`.
fn message(run: &Run, name: &str, text: &str) -> Result<Event> {
    run.until(text, LIMIT, |seen| {
        let mut named = seen.named(name);
        named.find(|event| event.text("message").contains(text)).cloned()
    })
}

/// Files that make workers sick.
struct Sick(tempfile::TempDir);

impl Sick {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn prefix(&self) -> PathBuf {
        self.0.path().join("sick")
    }

    fn file(&self, who: &str) -> PathBuf {
        self.prefix().with_extension(who)
    }

    fn falls(&self, who: &str) -> Result<()> {
        Ok(fs::write(self.file(who), "")?)
    }

    fn heals(&self, who: &str) -> Result<()> {
        Ok(fs::remove_file(self.file(who))?)
    }

    /// `health`: the probe that is made often; empty for none.
    fn app(&self, program: &str, health: &str, args: &[&str]) -> Result<Everup> {
        let often = ["--health-interval", "150ms", "--health-failures", "2"];
        let mut run = Everup::run()?.args(["--kill-timeout", "2s"]).args(args);
        if !health.is_empty() {
            run = run.args(["--health", health]).args(often);
        }
        if program.ends_with(".py") {
            run = run.args(["--listen", "tcp://127.0.0.1:0"]);
        }
        Ok(run.env("SICK", self.prefix()).arg(fixture(program)))
    }
}

fn of_slot(workers: &[Worker], slot: u32) -> Result<Worker> {
    let mut those = workers.iter().filter(|worker| worker.slot == slot);
    those
        .next()
        .cloned()
        .with_context(|| format!("nobody in slot {slot}: {workers:?}"))
}

// --- Node's message, and sd_notify -----------------------------------------------------------------------------------

#[test]
fn nobody_is_served_before_the_message_ready() -> Result<()> {
    let run = Everup::run()?
        .args(["--wait-ready", "-i", "2"])
        .arg(fixture("supervised.js"))
        .env("READY_AFTER", "400")
        .start()?;
    let address = run.address()?;
    // It waits in the queue.
    ensure!(get(address, "/", LIMIT)?.status == 200);
    run.ready(2)?;
    let seen = run.seen();
    for ready in seen.named("ready") {
        ensure!(ready.text("basis") == "message", "{}", ready.json);
        ensure!(
            ready.number("after_ms").is_some_and(|after| after >= 400),
            "{}",
            ready.json
        );
    }
    drop(seen);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

fn notifying(args: &[&str], steps: &[&str]) -> Result<Everup> {
    let run = Everup::run()?.args(["--ready", "notify"]).args(args);
    Ok(run.arg(fixture("notify.py")).arg("--").args(steps))
}

#[test]
fn a_program_says_that_it_is_ready() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let go = folder.path().join("go");
    let wait = format!("await:{}", go.display());
    let run = notifying(&[], &["say:STATUS=booting", &wait, "say:READY=1,STATUS=serving"])?.start()?;
    run.event("fork", 1)?;
    // wait: longer than a program takes that is ready after its uptime
    std::thread::sleep(Duration::from_millis(1200));
    ensure!(run.seen().ready().is_empty(), "ready too early");
    fs::write(&go, "")?;
    run.ready(1)?;
    ensure!(run.event("ready", 1)?.text("basis") == "notify");
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_stranger_is_not_listened_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let go = folder.path().join("go");
    let run = notifying(
        &[],
        &[
            "say:STATUS=booting",
            &format!("await:{}", go.display()),
            "say:READY=1",
        ],
    )?
    .start()?;
    let fork = run.event("fork", 1)?;
    let pid = fork.number("pid").context("pid")?;
    // Once it runs, the environment is its own.
    let name = wait_until("the name of its socket", LIMIT, || {
        let environment = fs::read(format!("/proc/{pid}/environ")).map_err(|error| error.to_string())?;
        let mut variables = environment.split(|&byte| byte == 0);
        let found = variables.find_map(|variable| variable.strip_prefix(b"NOTIFY_SOCKET=@"));
        found.map(<[u8]>::to_vec).ok_or_else(|| "not there".into())
    })?;
    let stranger = UnixDatagram::unbound()?;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
    stranger.send_to_addr(b"READY=1", &address)?;
    let refused = message(&run, "error", "refused")?;
    ensure!(refused.worker().is_some(), "{}", refused.json);
    ensure!(run.seen().ready().is_empty(), "a stranger made it ready");
    fs::write(&go, "")?;
    run.ready(1)?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_program_may_ask_for_more_time_to_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let go = folder.path().join("go");
    let wait = format!("await:{}", go.display());
    let limit = |time| ["--listen-timeout", time, "--max-restarts", "1"];
    let run = notifying(
        &limit("2500ms"),
        &["say:EXTEND_TIMEOUT_USEC=15000000", &wait, "say:READY=1"],
    )?
    .start()?;
    run.event("fork", 1)?;
    // wait: longer than it has without asking
    std::thread::sleep(Duration::from_millis(3000));
    fs::write(&go, "")?;
    run.ready(1)?;
    let no_effect = |seen: &Seen| {
        seen.named("notice")
            .any(|it| it.text("message").contains("no effect"))
    };
    ensure!(!no_effect(&run.seen()), "it says that the limit has no effect");
    ensure!(run.stop()?.code() == Some(0));
    let ended = notifying(&limit("300ms"), &["await:/nowhere"])?.finish()?;
    ensure!(ended.code() == Some(5), "{}", ended.all());
    let exit = ended
        .events
        .iter()
        .find(|event| event.name() == "exit")
        .context("exit")?;
    ensure!(exit.text("reason") == "listen_timeout", "{}", exit.json);
    Ok(())
}

#[test]
fn a_program_that_stops_by_itself_is_followed_by_another() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (stop, end) = (folder.path().join("stop"), folder.path().join("end"));
    let [stopping, ending] = [&stop, &end].map(|file| format!("await:{}", file.display()));
    let steps = ["say:READY=1", &stopping, "say:STOPPING=1", &ending, "exit:0"];
    let run = notifying(&["--min-uptime", "0"], &steps)?.start()?;
    let worker = run.ready(1)?[0].clone();
    fs::write(&stop, "")?;
    fs::write(&end, "")?;
    let exit = exit_of(&run, worker.id)?;
    ensure!(
        exit.number("code") == Some(0) && exit.json["voluntary"] == true,
        "{}",
        exit.json
    );
    fs::remove_file(&stop)?;
    run.event("ready", 2)?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_program_that_says_so_and_does_not_stop_is_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stop = folder.path().join("stop");
    let stopping = format!("await:{}", stop.display());
    let limits = ["--drain-timeout", "200ms", "--kill-timeout", "200ms"];
    let run = notifying(&limits, &["say:READY=1", &stopping, "say:STOPPING=1"])?.start()?;
    let worker = run.ready(1)?[0].clone();
    fs::write(&stop, "")?;
    let exit = exit_of(&run, worker.id)?;
    fs::remove_file(&stop)?;
    ensure!(exit.text("signal") == "SIGKILL", "{}", exit.json);
    ensure!(exit.text("reason") == "kill_timeout", "{}", exit.json);
    run.event("ready", 2)?;
    run.stop().map(drop)
}

#[test]
fn a_silent_watchdog_and_one_that_is_pulled() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mute = folder.path().join("mute");
    let silent: &[&str] = &["say:READY=1", "ping:0.1"];
    let await_mute = format!("await:{}", mute.display());
    let pulled: &[&str] = &["say:READY=1", &await_mute, "say:WATCHDOG=trigger"];
    for (watchdog, steps) in [("1s", silent), ("1m", pulled)] {
        let run = notifying(&["--watchdog", watchdog], steps)?
            .env("MUTE", &mute)
            .start()?;
        let worker = run.ready(1)?[0].clone();
        if watchdog == "1s" {
            // wait: longer than the watchdog, while it pings
            std::thread::sleep(Duration::from_millis(1500));
        }
        ensure!(
            run.seen().count("replacing") == 0,
            "{:?}",
            run.seen().named("error").next()
        );
        fs::write(&mute, "")?;
        let replacing = run.event("replacing", 1)?;
        ensure!(
            replacing.text("cause") == "watchdog" && replacing.worker() == Some(worker.id),
            "{}",
            replacing.json
        );
        fs::remove_file(&mute)?;
        ensure!(exit_of(&run, worker.id)?.text("reason") == "watchdog");
        run.event("ready", 2)?;
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

// --- Probes ----------------------------------------------------------------------------------------------------------

#[test]
fn a_worker_that_does_not_answer_its_probe_is_not_ready_and_gets_nothing() -> Result<()> {
    let sick = Sick::new()?;
    sick.falls("1")?;
    let run = sick
        .app("supervised.js", "", &["-i", "2", "--ready", "http=/ok"])?
        .start()?;
    run.until("one of two is ready", LIMIT, |seen| {
        (seen.ready().len() == 1).then_some(())
    })?;
    let address = run.address()?;
    for _ in 0..20 {
        ensure!(
            get(address, "/", LIMIT)?.header("x-worker") == "0",
            "the sick one serves"
        );
    }
    let ready = run.seen().ready();
    ensure!(ready.len() == 1 && ready[0].slot == 0, "{ready:?}");
    sick.heals("1")?;
    run.ready(2)?;
    ensure!(
        run.seen()
            .named("ready")
            .all(|ready| ready.text("basis") == "probe")
    );
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_sick_worker_is_replaced_and_no_other() -> Result<()> {
    const NODE: (&str, &[&str]) = ("supervised.js", &["-i", "2"]);
    const PYTHON: (&str, &[&str]) = ("probed.py", &["-i", "2", "--ready", "http=/"]);
    let cases = [
        (NODE, "http=/ok"),
        (NODE, "exec=sh -c 'test ! -e $SICK.$EVERUP_SLOT'"),
        (PYTHON, "http=/"),
    ];
    for ((program, args), health) in cases {
        let sick = Sick::new()?;
        let run = sick.app(program, health, args)?.start()?;
        let workers = run.ready(2)?;
        let load = load(run.address()?, 100.0);
        sick.falls("1")?;
        let replacing = run.event("replacing", 1).context(health)?;
        sick.heals("1")?;
        let victim = of_slot(&workers, 1)?;
        ensure!(
            replacing.worker() == Some(victim.id),
            "{health}: {}",
            replacing.json
        );
        ensure!(replacing.text("cause") == "probe", "{health}: {}", replacing.json);
        let exit = exit_of(&run, victim.id)?;
        ensure!(
            exit.text("reason") == "probe" && exit.json["forced"] == false,
            "{health}: {}",
            exit.json
        );
        let after = run.ready(2)?;
        ensure!(
            of_slot(&after, 0)? == of_slot(&workers, 0)?,
            "{health}: {after:?}"
        );
        all_answered(load).context(health)?;
        ensure!(run.seen().count("exit") == 1, "{health}");
        ensure!(run.stop()?.code() == Some(0), "{health}");
    }
    Ok(())
}

#[test]
fn everybody_sick_at_once_keeps_the_capacity() -> Result<()> {
    for workers in ["1", "3"] {
        let sick = Sick::new()?;
        let run = sick.app("supervised.js", "http=/ok", &["-i", workers])?.start()?;
        let count: usize = workers.parse()?;
        let before = run.ready(count)?;
        let load = load(run.address()?, 60.0);
        sick.falls("all")?;
        // All but one may leave at once; the last one waits for a successor, which is not ready while it is sick.
        run.event("fork", count + 1)?;
        message(&run, "error", "status 500")?;
        // wait: longer than the last one would need to be found sick once more
        std::thread::sleep(Duration::from_millis(1000));
        let ready = run.seen().ready().len();
        ensure!(ready >= 1, "nobody is left\n{:?}", run.seen().events);
        sick.heals("all")?;
        for worker in &before {
            exit_of(&run, worker.id)?;
        }
        run.ready(count)?;
        all_answered(load)?;
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

#[test]
fn a_worker_that_does_not_take_connections_fails_its_tcp_probe() -> Result<()> {
    let limits = ["-i", "2", "--health-timeout", "300ms", "--drain-timeout", "300ms"];
    for program in ["supervised.js", "probed.py"] {
        let sick = Sick::new()?;
        let run = sick.app(program, "tcp", &limits)?.start()?;
        let workers = run.ready(2)?;
        process::signal(workers[0].pid, Signal::STOP)?;
        let replacing = run.event("replacing", 1)?;
        ensure!(
            replacing.worker() == Some(workers[0].id) && replacing.text("cause") == "probe",
            "{}",
            replacing.json
        );
        let exit = exit_of(&run, workers[0].id)?;
        ensure!(
            exit.text("signal") == "SIGKILL" && exit.text("reason") == "probe",
            "{program}: {}",
            exit.json
        );
        let after = run.ready(2)?;
        ensure!(of_slot(&after, 1)? == of_slot(&workers, 1)?);
        let answered: BTreeSet<String> = (0..20)
            .filter_map(|_| {
                Some(
                    get(run.address().ok()?, "/", LIMIT)
                        .ok()?
                        .header("x-pid")
                        .to_owned(),
                )
            })
            .collect();
        ensure!(
            !answered.contains(&workers[0].pid.to_string()) && !answered.is_empty(),
            "{answered:?}"
        );
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

/// A server that has taken the socket for itself cannot be probed by a connection, and that is said.
#[test]
fn a_probe_that_reaches_nobody_says_why() -> Result<()> {
    let run = Everup::run()?
        .args(["--channel", "node", "--policy", "reuseport", "--health", "http=/"])
        .args(["--health-interval", "100ms", "--env", "PORT=0"])
        .arg(binary::example("actix-web")?)
        .start()?;
    message(&run, "error", "it accepts by itself")?;
    run.stop()?;
    Ok(())
}
