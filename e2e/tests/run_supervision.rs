//! Supervision: nothing is left behind, who is replaced when and why, storms, spares, scaling.

use anyhow::{Context, Result, ensure};
use e2e::http::get;
use e2e::load::{Background, Plan, Report};
use e2e::run::wait_until;
use e2e::{Event, Everup, LIMIT, Run, Seen, fixture, process};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Fresh connections, so many per second, until the test has seen enough.
fn load(address: SocketAddr, per_second: f64) -> Background {
    Background::start(Plan::open(address, per_second, u64::MAX))
}

fn all_answered(load: Background) -> Result<Report> {
    let report = load.finish()?;
    ensure!(report.failures.is_empty() && report.ok > 0, "{}", report.json());
    Ok(report)
}

fn supervised(args: &[&str]) -> Result<Everup> {
    Ok(Everup::run()?.args(args).arg(fixture("supervised.js")))
}

fn slot(event: &Event) -> i64 {
    event.number("slot").unwrap_or(-1)
}

/// Waits for an event that is as wanted.
fn wait_for(run: &Run, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
    run.until(what, LIMIT, |seen| {
        seen.events.iter().find(|event| wanted(event)).cloned()
    })
}

/// The end of a worker.
fn exit_of(run: &Run, worker: u32) -> Result<Event> {
    let what = format!("the end of worker {worker}");
    wait_for(run, &what, |it| {
        it.name() == "exit" && it.worker() == Some(worker)
    })
}

// --- Must show 4: nothing is left ------------------------------------------------------------------------------------

/// `SLOT PID` of what the workers have started and let go.
struct Descendants(tempfile::TempDir);

impl Descendants {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("descendants")
    }

    fn all(&self) -> Vec<(u32, u32)> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let parse = |line: &str| {
            let (slot, pid) = line.split_once(' ')?;
            Some((slot.parse().ok()?, pid.parse().ok()?))
        };
        text.lines().filter_map(parse).collect()
    }

    /// Waits until so many were started.
    fn started(&self, count: usize) -> Result<Vec<(u32, u32)>> {
        wait_until(&format!("{count} descendants"), LIMIT, || {
            let all = self.all();
            if all.len() >= count {
                Ok(all)
            } else {
                Err(format!("{all:?}"))
            }
        })
    }

    /// Those of a slot that live.
    fn living(&self, slot: u32) -> Vec<u32> {
        let of_slot = self.all().into_iter().filter(|(of, _)| *of == slot);
        of_slot
            .map(|(_, pid)| pid)
            .filter(|pid| process::alive(*pid))
            .collect()
    }

    fn app(&self, program: &str, args: &[&str]) -> Result<Everup> {
        let run = Everup::run()?
            .arg("--no-prefix")
            .args(args)
            .env("DESCENDANTS", self.file());
        let listen: &[&str] = if program.ends_with(".py") {
            &[
                "--listen",
                "tcp://127.0.0.1:0",
                "--ready",
                "uptime=10ms",
                "--min-uptime",
                "0",
            ]
        } else {
            &[]
        };
        Ok(run.args(listen).arg(fixture(program)))
    }
}

#[test]
fn nothing_is_left_after_a_stop() -> Result<()> {
    for program in ["forking.py", "forking.js"] {
        let descendants = Descendants::new()?;
        let run = descendants.app(program, &["-i", "2"])?.start()?;
        run.ready(2)?;
        let started = descendants.started(2)?;
        ensure!(
            started.iter().all(|(_, pid)| process::alive(*pid)),
            "{program}: {started:?}"
        );
        let ended = run.stop()?;
        ensure!(ended.code() == Some(0), "{program}: {}", ended.all());
        ensure!(
            run.processes().is_empty(),
            "{program}: {:?} are left",
            run.processes()
        );
        for (_, pid) in started {
            ensure!(!process::alive(pid), "{program}: {pid} is left");
        }
    }
    Ok(())
}

#[test]
fn nothing_is_left_of_a_killed_or_reloaded_or_surplus_worker() -> Result<()> {
    let descendants = Descendants::new()?;
    let run = descendants
        .app("forking.js", &["-i", "2", "--canary", "0"])?
        .start()?;
    let workers = run.ready(2)?;
    let first = descendants.started(2)?;
    let left = |run: &Run, slot: u32| {
        let living: Vec<u32> = descendants.living(slot);
        let of_old = first
            .iter()
            .map(|(_, pid)| *pid)
            .filter(|pid| living.contains(pid))
            .count();
        ensure!(of_old == 0, "{living:?} live on\n{:?}", run.seen().events.last());
        Ok(())
    };
    process::signal(workers[0].pid, Signal::KILL)?;
    exit_of(&run, workers[0].id)?;
    left(&run, 0)?;
    let workers = run.ready(2)?;
    descendants.started(3)?;

    run.signal(Signal::HUP)?;
    run.event("reloaded", 1)?;
    for worker in &workers {
        exit_of(&run, worker.id)?;
    }
    left(&run, 1)?;
    let workers = run.ready(2)?;
    descendants.started(5)?;
    let now: Vec<usize> = (0..2).map(|slot| descendants.living(slot).len()).collect();
    ensure!(now == [1, 1], "{now:?} living descendants after the reload");

    run.signal(Signal::TTOU)?;
    let surplus = workers.iter().find(|worker| worker.slot == 1).context("slot 1")?;
    exit_of(&run, surplus.id)?;
    ensure!(descendants.living(1).is_empty(), "of the surplus worker");
    ensure!(descendants.living(0).len() == 1, "the other one was touched");
    ensure!(run.stop()?.code() == Some(0));
    ensure!(run.processes().is_empty(), "{:?} are left", run.processes());
    Ok(())
}

#[test]
fn successors_find_nothing_of_their_predecessors() -> Result<()> {
    const ENDS: usize = 6;
    let descendants = Descendants::new()?;
    let name = format!("everup-e2e-{}", std::process::id());
    let run = descendants.app("forking.py", &[])?.env("HOLD", name).start()?;
    let address = run.until("an address", LIMIT, Seen::address)?;
    for end in 1..=ENDS {
        descendants.started(end)?;
        let worker = run.ready(1)?[0].clone();
        if end % 2 == 0 {
            process::signal(worker.pid, Signal::KILL)?;
        } else {
            // It ends by itself, so there is no answer.
            drop(get(address, "/exit", LIMIT));
        }
        exit_of(&run, worker.id)?;
        run.event("fork", end + 1)?;
    }
    descendants.started(ENDS + 1)?;
    let seen = run.seen();
    let looks = seen.out.iter().filter(|line| *line == "free").count();
    ensure!(looks == ENDS + 1, "{:?}", seen.out);
    ensure!(seen.count("error") == 0, "{:?}", seen.named("error").next());
    drop(seen);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

// --- Must show 5: stuck workers --------------------------------------------------------------------------------------

/// When connections from each port reached an app, by its `PORT_LOG`.
fn reached(log: &Path) -> Result<BTreeSet<u16>> {
    let text = fs::read_to_string(log)?;
    let port = |line: &str| line.split_once(' ')?.1.parse().ok();
    Ok(text.lines().filter_map(port).collect())
}

#[test]
fn a_stopped_worker_is_replaced_and_others_serve_its_queue() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("ports");
    let run = supervised(&["-i", "3", "--stuck-timeout", "1s", "--kill-timeout", "1s"])?
        .env("PORT_LOG", &log)
        .start()?;
    let workers = run.ready(3)?;
    let load = load(run.address()?, 150.0);
    // Some have been answered.
    wait_until("every worker serves", LIMIT, || {
        let ports = reached(&log).map_err(|error| error.to_string())?.len();
        if ports > 30 {
            Ok(())
        } else {
            Err(format!("{ports}"))
        }
    })?;
    process::signal(workers[0].pid, Signal::STOP)?;
    let stopped = Instant::now();
    let replacing = run.event("replacing", 1)?;
    ensure!(replacing.worker() == Some(workers[0].id), "{}", replacing.json);
    ensure!(replacing.text("cause") == "stuck", "{}", replacing.json);
    let detected = replacing.at - stopped;
    // No least time: what the worker had not answered when it was stopped may have been older.
    ensure!(detected < Duration::from_secs(4), "{detected:?}");
    let exit = exit_of(&run, workers[0].id)?;
    ensure!(
        exit.text("signal") == "SIGKILL" && exit.text("reason") == "stuck",
        "{}",
        exit.json
    );
    run.ready(3)?;
    let report = load.finish()?;
    let reached = reached(&log)?;
    let lost: Vec<_> = report
        .failures
        .iter()
        .filter(|it| !reached.contains(&it.port))
        .collect();
    ensure!(lost.is_empty(), "{lost:?} of {}", report.json());
    ensure!(
        report.failures.len() <= 2,
        "{:?} had reached the stopped app",
        report.failures
    );
    ensure!(
        report.percentile(1.0) < Duration::from_secs(5),
        "{}",
        report.json()
    );
    ensure!(run.seen().count("replacing") == 1);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_busy_worker_that_wakes_up_in_time_stays() -> Result<()> {
    let run = supervised(&["-i", "2", "--stuck-timeout", "3s", "--kill-timeout", "1s"])?.start()?;
    let before = run.ready(2)?;
    let address = run.address()?;
    let load = load(address, 50.0);
    for _ in 0..2 {
        ensure!(get(address, "/busy?ms=700", LIMIT)?.status == 200);
    }
    all_answered(load)?;
    ensure!(run.ready(2)? == before, "somebody was replaced");
    ensure!(run.seen().count("replacing") == 0 && run.seen().count("exit") == 0);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

// --- Must show 6: memory ---------------------------------------------------------------------------------------------

const MIB: u64 = 1024 * 1024;

/// Resident memory of the worker and its children in MiB; 0 when it is gone.
fn resident(pid: u32) -> u64 {
    let own = |pid| process::memory(pid).map_or(0, |memory| memory.rss / 1024);
    own(pid) + process::children(pid).into_iter().map(own).sum::<u64>()
}

#[test]
fn a_leak_is_replaced_before_it_is_a_fifth_over_the_limit() -> Result<()> {
    let run = supervised(&["-i", "1", "--max-memory-restart", "200M"])?
        .env("LEAK", "20")
        .start()?;
    let worker = run.ready(1)?[0].clone();
    let load = load(run.address()?, 100.0);
    let mut most = 0;
    wait_until("its replacement", Duration::from_secs(30), || {
        most = most.max(resident(worker.pid));
        if process::alive(worker.pid) {
            Err(format!("{most} MiB"))
        } else {
            Ok(())
        }
    })?;
    let exit = exit_of(&run, worker.id)?;
    ensure!(exit.text("reason") == "memory", "{}", exit.json);
    let replacing = run.event("replacing", 1)?;
    ensure!(replacing.text("cause") == "memory", "{}", replacing.json);
    ensure!(
        replacing.number("limit") == Some((200 * MIB).cast_signed()),
        "{}",
        replacing.json
    );
    all_answered(load)?;
    ensure!((160..=240).contains(&most), "it had {most} MiB in the end");
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn a_leak_of_a_child_counts() -> Result<()> {
    let run = supervised(&["-i", "1", "--max-memory-restart", "150M"])?
        .envs(&[("LEAK", "30"), ("LEAK_IN_CHILD", "1")])
        .start()?;
    let worker = run.ready(1)?[0].clone();
    let load = load(run.address()?, 50.0);
    let mut most = 0;
    wait_until("its replacement", Duration::from_secs(30), || {
        most = most.max(resident(worker.pid));
        if process::alive(worker.pid) {
            Err(format!("{most} MiB"))
        } else {
            Ok(())
        }
    })?;
    ensure!(exit_of(&run, worker.id)?.text("reason") == "memory");
    all_answered(load)?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn workers_that_leak_together_go_one_after_the_other() -> Result<()> {
    let run = supervised(&["-i", "3", "--max-memory-restart", "130M"])?
        .env("LEAK", "15")
        .start()?;
    let workers = run.ready(3)?;
    let load = load(run.address()?, 100.0);
    for worker in &workers {
        ensure!(exit_of(&run, worker.id)?.text("reason") == "memory");
    }
    all_answered(load)?;
    let seen = run.seen();
    let mut serving = 0;
    for event in &seen.events {
        match event.name() {
            "ready" => serving += 1,
            "disconnect" => serving -= 1,
            _ => continue,
        }
        // From the time when all three were ready.
        ensure!(
            serving >= 3 || seen.named("all_ready").next().is_none_or(|it| event.at <= it.at),
            "{}",
            event.json
        );
    }
    let births: Vec<_> = seen.named("fork").skip(3).take(2).collect();
    let first_ready = seen.named("ready").nth(3).context("a ready successor")?;
    ensure!(births[1].at >= first_ready.at, "two successors at a time");
    drop(seen);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

// --- Restart policy --------------------------------------------------------------------------------------------------

/// A shell script run to its end: the exit code of everup, and the codes with which its workers ended.
fn ends(args: &[&str], script: &str) -> Result<(Option<i32>, Vec<Option<i64>>)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("job.sh");
    fs::write(&path, format!("cd {}\n{script}\n", folder.path().display()))?;
    let ended = Everup::run()?.args(args).arg(&path).finish()?;
    let exits = ended.events.iter().filter(|event| event.name() == "exit");
    let codes = exits.map(|event| event.number("code")).collect();
    Ok((ended.code(), codes))
}

#[test]
fn who_is_started_again_and_what_everup_ends_with() -> Result<()> {
    // Fails at its first two runs.
    const THIRD: &str = "echo >> runs; [ $(wc -l < runs) -ge 3 ] || exit 3";
    let fast = ["--exp-backoff-restart-delay", "10ms"];
    let with = |args: &[&'static str]| [&fast[..], args].concat();
    let cases: &[(&[&str], &str, i32, &[i64])] = &[
        (&["--restart", "never"], "exit 0", 0, &[0]),
        (&["--restart", "never"], "exit 3", 5, &[3]),
        (&["--no-autorestart"], "exit 0", 0, &[0]),
        (&["--no-autorestart"], "exit 4", 5, &[4]),
        (&["--restart", "on-failure"], "exit 0", 0, &[0]),
        (&["--restart", "on-failure"], THIRD, 0, &[3, 3, 0]),
        (
            &["--restart", "on-failure", "--max-restarts", "2"],
            "exit 3",
            5,
            &[3, 3],
        ),
        (&["--stop-exit-codes", "0"], THIRD, 0, &[3, 3, 0]),
        (&["--stop-exit-codes", "3,4"], "exit 3", 0, &[3]),
        (&["--max-restarts", "3"], "exit 0", 5, &[0, 0, 0]),
    ];
    for (args, script, code, exits) in cases {
        let (ended, seen) = ends(&with(args), script)?;
        let exits: Vec<_> = exits.iter().copied().map(Some).collect();
        ensure!(
            (ended, &seen) == (Some(*code), &exits),
            "{args:?} {script}: {ended:?} after {seen:?}"
        );
    }
    let (code, exits) = ends(&["-i", "2", "--restart", "never"], "exit $NODE_APP_INSTANCE")?;
    ensure!(
        code == Some(5) && exits.len() == 2,
        "one of two failed: {code:?} {exits:?}"
    );
    Ok(())
}

#[test]
fn a_restart_waits_for_its_delay() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("fails.sh");
    fs::write(&script, "exit 1\n")?;
    let args = ["--restart-delay", "400ms", "--max-restarts", "3"];
    let ended = Everup::run()?.args(args).arg(&script).finish()?;
    ensure!(ended.code() == Some(5), "{}", ended.all());
    let times = |name: &str| -> Vec<Instant> {
        let named = ended.events.iter().filter(|event| event.name() == name);
        named.map(|event| event.at).collect()
    };
    let (forks, exits) = (times("fork"), times("exit"));
    ensure!(forks.len() == 3, "{}", ended.all());
    for (exit, fork) in exits.iter().zip(&forks[1..]) {
        let waited = *fork - *exit;
        ensure!(
            waited >= Duration::from_millis(300) && waited < Duration::from_secs(3),
            "{waited:?}"
        );
    }
    Ok(())
}

#[test]
fn what_is_early_is_a_matter_of_min_uptime() -> Result<()> {
    for (min_uptime, early) in [("10s", true), ("50ms", false)] {
        let run = supervised(&["--min-uptime", min_uptime])?.start()?;
        let pid = run.ready(1)?[0].pid;
        // wait: what this test is about, without serving anybody
        std::thread::sleep(Duration::from_millis(150));
        process::signal(pid, Signal::KILL)?;
        let respawn = run.event("respawn", 1)?;
        ensure!(
            (respawn.text("death") == "early") == early,
            "{min_uptime}: {}",
            respawn.json
        );
        run.ready(1)?;
        ensure!(run.stop()?.code() == Some(0));
    }
    Ok(())
}

#[test]
fn a_storm_is_tried_by_one_and_then_it_is_calm() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let crash = folder.path().join("crash");
    let run = supervised(&[
        "-i",
        "4",
        "--max-restarts",
        "100",
        "--exp-backoff-restart-delay",
        "20ms",
    ])?
    .env("CRASH", &crash)
    .start()?;
    run.ready(4)?;
    run.event("all_ready", 1)?;
    fs::write(&crash, "")?;
    let storm = run.event("storm", 1)?;
    ensure!(storm.number("code") == Some(1), "{}", storm.json);
    let probe = storm.number("probe").context("no probe")?;
    // It is tried a few times, and nobody else is.
    run.until("deaths of the probe", LIMIT, |seen| {
        let deaths = seen
            .named("exit")
            .filter(|it| it.at > storm.at && slot(it) == probe)
            .count();
        (deaths >= 3).then_some(())
    })?;
    // A start that was decided on before, and told afterwards, is none of the storm's.
    let tried = |seen: &Seen| -> Vec<i64> {
        let position = seen
            .events
            .iter()
            .position(|it| it.name() == "storm")
            .unwrap_or(0);
        let (before, after) = seen.events.split_at(position);
        let under_way = |of: i64| {
            let mut last = before.iter().rev().filter(|it| slot(it) == of);
            let births = ["fork", "respawn"];
            last.find(|it| births.contains(&it.name()))
                .is_some_and(|it| it.name() == "respawn")
        };
        let mut under_way: Vec<i64> = (0..4).filter(|slot| under_way(*slot)).collect();
        let until_calm = after.iter().take_while(|it| it.name() != "calm");
        let mut forks: Vec<i64> = until_calm.filter(|it| it.name() == "fork").map(slot).collect();
        forks.retain(|slot| {
            let known = under_way.iter().position(|it| it == slot);
            known.map(|at| under_way.remove(at)).is_none()
        });
        forks
    };
    fs::remove_file(&crash)?;
    run.event("calm", 1)?;
    let forks = tried(&run.seen());
    ensure!(
        forks.iter().all(|slot| *slot == probe),
        "{forks:?} were tried, not only {probe}"
    );
    run.ready(4)?;
    run.event("all_ready", 2)?;
    ensure!(run.seen().count("storm") == 1 && run.seen().count("calm") == 1);
    ensure!(get(run.address()?, "/", LIMIT)?.status == 200);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn workers_that_are_too_old_are_replaced_without_a_gap() -> Result<()> {
    let run = supervised(&["-i", "2", "--max-age", "1500ms"])?.start()?;
    let workers = run.ready(2)?;
    let load = load(run.address()?, 100.0);
    for worker in &workers {
        let exit = exit_of(&run, worker.id)?;
        ensure!(
            exit.text("reason") == "max_age" && exit.number("code") == Some(0),
            "{}",
            exit.json
        );
        let age = exit.number("uptime_ms").context("uptime_ms")?;
        ensure!(age >= 1350, "{}", exit.json);
    }
    all_answered(load)?;
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

// --- Spares ----------------------------------------------------------------------------------------------------------

#[test]
fn a_spare_takes_a_dead_workers_place_at_once() -> Result<()> {
    let run = supervised(&["-i", "1", "--spare", "1"])?.start()?;
    let workers = run.ready(2)?;
    let address = run.address()?;
    let who = || -> Result<u32> { Ok(get(address, "/", LIMIT)?.header("x-pid").parse()?) };
    let active = who()?;
    for _ in 0..10 {
        ensure!(who()? == active, "the spare serves");
    }
    let spare = workers
        .iter()
        .find(|worker| worker.pid != active)
        .context("a spare")?;
    let killed = Instant::now();
    process::signal(active, Signal::KILL)?;
    // At the start whoever is ready first takes the part: that may be told before.
    let promoted = run.until("the spare takes its place", LIMIT, |seen| {
        let mut those = seen.named("promoted").filter(|it| it.at > killed);
        those.next().cloned()
    })?;
    let took = promoted.at - killed;
    ensure!(
        promoted.worker() == Some(spare.id) && took < Duration::from_secs(1),
        "{took:?}: {}",
        promoted.json
    );
    ensure!(who()? == spare.pid, "not the spare that there was");
    // The place is filled, by one that stands by now.
    let after = run.ready(2)?;
    ensure!(after.iter().any(|worker| worker.id == spare.id), "{after:?}");
    for _ in 0..10 {
        ensure!(who()? == spare.pid, "the new spare serves");
    }
    let promoted = |it: &&Event| it.at > killed;
    ensure!(run.seen().named("promoted").filter(promoted).count() == 1);
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn spares_need_hand_over() -> Result<()> {
    let shared = supervised(&["--spare", "1", "--policy", "shared"])?.finish()?;
    let program = Everup::run()?.args(["--spare", "1"]).arg("sleep 1000").finish()?;
    for ended in [shared, program] {
        ensure!(ended.code() == Some(2), "{}", ended.all());
        ensure!(ended.all().contains("--spare"), "{}", ended.all());
        ensure!(
            ended.events.iter().all(|event| event.name() != "fork"),
            "{}",
            ended.all()
        );
    }
    Ok(())
}

// --- Scaling ---------------------------------------------------------------------------------------------------------

#[test]
fn scaling_by_signals_loses_nothing() -> Result<()> {
    let run = supervised(&["-i", "2"])?.start()?;
    run.ready(2)?;
    let load = load(run.address()?, 150.0);
    // Each step is waited for: signals of one kind that come together are one.
    let step = |signal: Signal, workers: usize, changes: usize| -> Result<()> {
        run.signal(signal)?;
        run.event("scaled", changes)?;
        run.ready(workers).map(drop)
    };
    step(Signal::TTIN, 3, 1)?;
    step(Signal::TTOU, 2, 2)?;
    step(Signal::TTOU, 1, 3)?;
    step(Signal::TTOU, 0, 4)?;
    // Clients wait while nobody is there.
    let waiting = std::thread::spawn({
        let address = run.address()?;
        move || get(address, "/", LIMIT)
    });
    run.signal(Signal::TTOU)?;
    wait_for(&run, "that there are none already", |it| {
        it.text("message").contains("already")
    })?;
    // wait: nobody may answer meanwhile
    std::thread::sleep(Duration::from_millis(300));
    ensure!(!waiting.is_finished(), "somebody answered");
    step(Signal::TTIN, 1, 5)?;
    let answer = waiting
        .join()
        .map_err(|_| anyhow::anyhow!("the client panicked"))??;
    ensure!(answer.status == 200);
    step(Signal::TTIN, 2, 6)?;
    all_answered(load)?;
    ensure!(
        run.seen()
            .named("exit")
            .all(|it| it.text("reason") == "scale" && it.number("code") == Some(0))
    );
    ensure!(run.stop()?.code() == Some(0));
    Ok(())
}

// --- Out of memory ---------------------------------------------------------------------------------------------------

/// A control group (version 1) with so much memory, for one test.
struct Group(std::path::PathBuf);

impl Group {
    fn new(limit: &str) -> Result<Self> {
        let path = Path::new("/sys/fs/cgroup/memory").join(format!("everup-e2e-{}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Self(path);
        fs::write(group.0.join("memory.limit_in_bytes"), limit)?;
        ensure!(fs::read_to_string(group.0.join("memory.oom_control"))?.contains("oom_kill "));
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = wait_until("the group is empty", LIMIT, || {
            fs::remove_dir(&self.0).map_err(|error| error.to_string())
        });
        if let Err(error) = removed {
            e2e::say(&format!("{}: {error:#}", self.0.display()));
        }
    }
}

#[test]
fn a_kill_for_want_of_memory_is_named() -> Result<()> {
    let group = match Group::new("200M") {
        Ok(group) => group,
        Err(error) => {
            e2e::say(&format!(
                "skipped: no memory control group (version 1) may be made here: {error:#}"
            ));
            return Ok(());
        }
    };
    let enter = r#"echo $$ > "$0" && exec "$@""#;
    let run = Everup::program("sh")
        .args(["-c", enter])
        .args([group.0.join("cgroup.procs"), e2e::binary::everup()?])
        .args(["run", "--events", "json", "--restart", "never", "-i", "2"])
        .arg(fixture("supervised.js"))
        .envs(&[("LEAK", "150"), ("LEAK_SLOT", "0")])
        .start()?;
    let exit = run.event("exit", 1)?;
    ensure!(
        exit.text("signal") == "SIGKILL" && exit.json["oom"] == true,
        "{}",
        exit.json
    );
    // One that somebody kills is not.
    let other = run.ready(1)?[0].clone();
    process::signal(other.pid, Signal::KILL)?;
    let exit = exit_of(&run, other.id)?;
    ensure!(exit.json.get("oom").is_none(), "{}", exit.json);
    drop(run);
    Ok(())
}
