//! Must show 3 and 4: no connection is lost that had not reached the app.

use anyhow::{Context, Result, ensure};
use e2e::load::{self, Failure, Kind, Length, Plan, Report};
use e2e::{Everup, LIMIT, Run, Seen, fixture, process};
use rustix::process::Signal;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const WORKERS: usize = 4;
const KILL_EVERY: Duration = Duration::from_millis(200);

/// What a storm of kills did.
struct Storm {
    kills: u32,
    report: Report,
    /// Failures that never were in an app.
    losses: Vec<Failure>,
}

/// One storm at a time: they need the machine for themselves.
static STORM: Mutex<()> = Mutex::new(());

/// Sends requests and kills a random ready worker every 200 ms meanwhile.
fn storm(run: &Run, log: &Path, plan: Plan) -> Result<Storm> {
    let _alone = STORM.lock().unwrap_or_else(PoisonError::into_inner);
    run.ready(WORKERS)?;
    let (done, finished) = channel::<()>();
    let loader = thread::spawn(move || {
        let report = load::run(&plan);
        drop(done);
        report
    });
    let mut kills = 0;
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    while finished.recv_timeout(KILL_EVERY) == Err(RecvTimeoutError::Timeout) {
        let ready = run.seen().ready();
        let Some(victim) = random.below(ready.len()).and_then(|index| ready.get(index)) else {
            continue;
        };
        // It may have gone by itself meanwhile; that is not what is counted.
        if process::signal(victim.pid, Signal::KILL).is_ok() {
            kills += 1;
        }
    }
    let report = loader
        .join()
        .map_err(|_| anyhow::anyhow!("the load client panicked"))??;
    let reached = connections(log)?;
    let lost = |failure: &&Failure| {
        let times = reached.get(&failure.port).map_or(&[][..], Vec::as_slice);
        !times
            .iter()
            .any(|time| (failure.began..=failure.ended).contains(time))
    };
    let losses = report.failures.iter().filter(lost).copied().collect();
    Ok(Storm {
        kills,
        report,
        losses,
    })
}

/// What the workers wrote down: when connections from each port reached the app.
fn connections(log: &Path) -> Result<HashMap<u16, Vec<Duration>>> {
    let mut ports: HashMap<u16, Vec<Duration>> = HashMap::new();
    for line in fs::read_to_string(log)?.lines() {
        let (time, port) = line
            .split_once(' ')
            .with_context(|| format!("the line {line:?}"))?;
        // A client that was gone already has no port any more; it is no loss either.
        let Ok(port) = port.parse() else { continue };
        ports
            .entry(port)
            .or_default()
            .push(Duration::from_nanos(time.parse()?));
    }
    Ok(ports)
}

/// Enough to choose victims.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> Option<usize> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).ok()?.checked_rem(end)
    }
}

impl Storm {
    fn line(&self, who: &str) -> String {
        let mut lost: BTreeMap<Kind, u32> = BTreeMap::new();
        for loss in &self.losses {
            *lost.entry(loss.kind).or_default() += 1;
        }
        format!(
            "{who:<28} {} requests, {} kills, {} answered, {} failed in an app, {} lost {lost:?}, p99 {:?}, max {:?}",
            self.report.sent,
            self.kills,
            self.report.ok,
            self.report.failures.len() - self.losses.len(),
            self.losses.len(),
            self.report.percentile(0.99),
            self.report.percentile(1.0),
        )
    }
}

fn everup(policy: &str, log: &Path) -> Result<Run> {
    Everup::run()?
        .args(["-i", &WORKERS.to_string(), "--policy", policy])
        .arg(fixture("port-log.js"))
        .env("PORT_LOG", log)
        .start()
}

#[test]
fn kills_under_load_lose_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut lines = Vec::new();
    let mut lost = 0;
    for policy in ["round-robin", "least-connections"] {
        let log = folder.path().join(policy);
        let run = everup(policy, &log)?;
        let storm = storm(&run, &log, Plan::open(run.address()?, 1000.0, 10_000))?;
        ensure!(storm.kills >= 30, "only {} kills", storm.kills);
        ensure!(storm.report.sent == 10_000, "only {} requests", storm.report.sent);
        lost += storm.losses.len();
        lines.push(storm.line(&format!("everup {policy}")));
        ensure!(run.stop()?.code() == Some(0), "{}", lines.join("\n"));
    }
    // Node's primary gives up a port that no worker listens on, and any port means another one then.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let log = folder.path().join("node");
    let node = Everup::program("node")
        .arg(fixture("node-primary.js"))
        .arg(fixture("port-log.js"));
    let node = node
        .args([&WORKERS.to_string(), "rr"])
        .env("PORT_LOG", &log)
        .env("PORT", port.to_string())
        .start()?;
    // What Node's primary has lost never ends: it need not be waited for as long.
    let plan = Plan {
        timeout: Duration::from_secs(3),
        ..Plan::open(node.address()?, 1000.0, 10_000)
    };
    lines.push(storm(&node, &log, plan)?.line("Node's own primary"));
    e2e::say(&lines.join("\n"));
    ensure!(
        lost == 0,
        "{lost} connections lost that had not reached the app:\n{}",
        lines.join("\n")
    );
    Ok(())
}

/// The same with as many connections as the workers can take: windows are full and answers late.
#[test]
fn kills_under_full_load_lose_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for policy in ["round-robin", "least-connections"] {
        let log = folder.path().join(policy);
        let run = everup(policy, &log)?;
        let storm = storm(&run, &log, Plan::fresh(run.address()?, 64, 20_000))?;
        let line = storm.line(&format!("everup {policy}, full load"));
        e2e::say(&line);
        ensure!(storm.losses.is_empty(), "{line}\n{:?}", storm.losses);
        ensure!(run.stop()?.code() == Some(0), "{line}");
    }
    Ok(())
}

/// Where workers accept by themselves, one that is killed may have accepted one connection that its app has not seen
/// yet. What waits in its queue, and what comes while its place is empty, is served by others.
#[test]
fn kills_lose_no_queue_where_each_worker_has_its_own() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("ports");
    let run = everup("reuseport", &log)?;
    let storm = storm(&run, &log, Plan::fresh(run.address()?, 64, 20_000))?;
    let line = storm.line("everup reuseport, full load");
    e2e::say(&line);
    ensure!(
        storm.losses.len() <= storm.kills as usize,
        "{line}\n{:?}",
        storm.losses
    );
    ensure!(run.stop()?.code() == Some(0), "{line}");
    Ok(())
}

/// The same again, with the primary's memory and descriptors looked at: for some seconds, or for ten minutes with
/// `EVERUP_SOAK=1` (or for as many seconds as it says).
#[test]
fn kills_for_long_leak_nothing() -> Result<()> {
    let seconds = match std::env::var("EVERUP_SOAK") {
        Ok(soak) => soak.parse().ok().filter(|&seconds| seconds > 1).unwrap_or(600),
        Err(_) => 8,
    };
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("ports");
    let run = everup("least-connections", &log)?;
    let address = run.address()?;
    let part = |seconds| Plan {
        length: Length::For(Duration::from_secs(seconds)),
        ..Plan::open(address, 500.0, 0)
    };
    // The first storm lets every buffer grow to its size.
    let warm = storm(&run, &log, part(10))?;
    let before = settled(&run)?;
    let storm = storm(&run, &log, part(seconds))?;
    let after = settled(&run)?;
    e2e::say(&format!(
        "{}\n{}\nbefore {before:?}\nafter  {after:?}",
        warm.line("warm-up"),
        storm.line("soak")
    ));
    ensure!(
        storm.losses.is_empty() && warm.losses.is_empty(),
        "lost {:?}",
        storm.losses
    );
    ensure!(
        after.0 <= before.0,
        "descriptors grew from {} to {}",
        before.0,
        after.0
    );
    ensure!(
        after.1 <= before.1 + 1024,
        "memory grew from {} to {} KiB",
        before.1,
        after.1
    );
    Ok(())
}

/// Descriptors and resident KiB of the primary with all workers ready and nobody connected.
fn settled(run: &Run) -> Result<(usize, u64)> {
    run.ready(WORKERS)?;
    let mut least = process::descriptors(run.pid)?;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        // wait: between two looks; the least of a span is meant
        thread::sleep(Duration::from_millis(50));
        least = least.min(process::descriptors(run.pid)?);
    }
    Ok((least, process::memory(run.pid)?.rss))
}

/// A client may be refused once nobody listens any more, but none that was let in is turned away.
#[test]
fn stop_under_load_turns_nobody_away() -> Result<()> {
    for policy in ["round-robin", "least-connections", "reuseport"] {
        let run = Everup::run()?
            .args(["-i", "2", "--policy", policy])
            .arg(fixture("hello.js"))
            .start()?;
        run.ready(2)?;
        let address = run.address()?;
        let _alone = STORM.lock().unwrap_or_else(PoisonError::into_inner);
        let loader = thread::spawn(move || load::run(&Plan::fresh(address, 32, 5000)));
        // wait: the load is to be under way; any moment will do
        thread::sleep(Duration::from_millis(300));
        let ended = run.stop()?;
        let report = loader
            .join()
            .map_err(|_| anyhow::anyhow!("the load client panicked"))??;
        ensure!(ended.code() == Some(0), "{}", ended.all());
        ensure!(
            report.ok > 0 && report.ok < 5000,
            "the load was over before the stop: {}",
            report.json()
        );
        ensure!(
            report
                .failures
                .iter()
                .all(|failure| failure.kind == Kind::Refused),
            "{policy}: {}",
            report.json()
        );
    }
    Ok(())
}

#[test]
fn clients_wait_while_no_worker_is_up() -> Result<()> {
    for policy in ["round-robin", "least-connections", "shared", "reuseport"] {
        let folder = tempfile::tempdir()?;
        let run = Everup::run()?
            .args(["--policy", policy])
            .arg(fixture("late-successor.js"))
            .env("FIRST", folder.path().join("first"))
            .start()?;
        let [worker] = &run.ready(1)?[..] else {
            unreachable!()
        };
        let address = run.address()?;
        process::signal(worker.pid, Signal::KILL)?;
        run.event("exit", 1)?;
        let nobody_since = Instant::now();
        let loader = thread::spawn(move || load::run(&Plan::open(address, 50.0, 75)));
        let somebody = run.until("the successor listens", LIMIT, |seen: &Seen| {
            seen.named("listening").nth(1).map(|event| event.at)
        })?;
        let gap = somebody - nobody_since;
        let report = loader
            .join()
            .map_err(|_| anyhow::anyhow!("the load client panicked"))??;
        ensure!(
            gap > Duration::from_millis(1500),
            "{policy}: nobody was up only for {gap:?}"
        );
        ensure!(report.ok == 75, "{policy}: {}", report.json());
        let waited = report.percentile(1.0);
        ensure!(waited > gap / 2, "{policy}: nobody waited longer than {waited:?}");
    }
    Ok(())
}
