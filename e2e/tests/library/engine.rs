//! The engine, where it is used in ways that `everup run` does not: found by reviewers, kept as tests.

use anyhow::{Context, Result, ensure};
use e2e::{LIMIT, process};
use everup::{Cluster, Event, Fork, Outcome, RestartPolicy, SendError, Spec, WorkerId};
use std::sync::mpsc::channel;

fn node(script: &str) -> Result<(tempfile::TempDir, Spec)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("worker.js");
    std::fs::write(&path, script)?;
    let mut spec = Spec::new("node");
    spec.args = vec![path.into()];
    spec.workers = 0;
    spec.restart = RestartPolicy::never();
    Ok((folder, spec))
}

/// Handles for nobody, and for a worker that dies without having read them, are closed.
#[test]
fn handles_that_cannot_be_delivered_are_closed() -> Result<()> {
    let (_folder, spec) = node("process.kill(process.pid, 'SIGSTOP'); setInterval(() => {}, 1000);")?;
    let (cluster, mut events) = Cluster::start(spec)?;
    let worker = cluster.fork(Fork::default()).context("it runs")?.id();
    let pid = loop {
        match events.recv_timeout(LIMIT)? {
            Some(Event::Fork { pid, .. }) => break pid,
            Some(_) => {}
            None => anyhow::bail!("the cluster ended"),
        }
    };
    e2e::run::wait_until("the worker stops itself", LIMIT, || match process::state(pid) {
        Some('T') => Ok(()),
        state => Err(format!("{state:?}")),
    })?;
    let before = process::descriptors(std::process::id())?;
    for to in [WorkerId(99), worker] {
        for _ in 0..200 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            let sent = cluster.send_handle(to, &(), listener);
            ensure!(
                matches!(
                    (to == worker, &sent),
                    (true, Ok(())) | (false, Err(SendError::Gone))
                ),
                "{sent:?}"
            );
        }
    }
    cluster.kill(worker, 9);
    while !matches!(events.recv_timeout(LIMIT)?, Some(Event::Exit { .. })) {}
    let after = process::descriptors(std::process::id())?;
    ensure!(after < before + 100, "{before} descriptors before, {after} after");
    cluster.stop();
    ensure!(cluster.join() == Outcome::Stopped);
    Ok(())
}

/// An owner that never reads its events can stop the cluster all the same, and finds its end in them.
#[test]
fn unread_events_do_not_keep_the_cluster() -> Result<()> {
    let (_folder, spec) = node(
        "let sent = 0;
         (function more() {
           for (let n = 0; n < 1000; n++) process.send(sent++);
           if (sent < 19000) return setImmediate(more);
           for (let n = 1; n < 1000; n++) process.send(sent++);
           process.send(sent, () => process.exit());
         })();",
    )?;
    let (cluster, mut events) = Cluster::start(spec)?;
    let _worker = cluster.fork(Fork::default()).context("it runs")?;
    e2e::run::wait_until("the worker has said everything", LIMIT, || {
        if cluster.workers().is_empty() {
            Ok(())
        } else {
            Err("it is still there".into())
        }
    })?;
    cluster.stop();
    let (ended, end) = channel();
    let joining = std::thread::spawn(move || ended.send(cluster.join()));
    ensure!(end.recv_timeout(LIMIT)? == Outcome::Stopped);
    ensure!(joining.join().is_ok_and(|sent| sent.is_ok()));
    let (mut messages, mut skipped, mut last) = (0, 0, None);
    while let Some(event) = events.recv_blocking() {
        match event {
            Event::Message { .. } => messages += 1,
            Event::Skipped { events } => skipped += events,
            other => last = Some(other),
        }
    }
    ensure!(matches!(last, Some(Event::Stopped { .. })), "{last:?}");
    ensure!(
        messages > 16_000 && messages < 20_000,
        "{messages} messages were kept"
    );
    // What is missing is counted: the other messages, and the few events after them.
    let missing = 20_000 - messages;
    ensure!(
        (missing..missing + 10).contains(&skipped),
        "{skipped} skipped, {missing} missing"
    );
    Ok(())
}

/// Two clusters in one process do not touch each other's workers.
#[test]
fn two_clusters_mind_their_own_workers() -> Result<()> {
    let script = "process.send('up'); setInterval(() => {}, 1000);";
    let ((_a, a), (_b, b)) = (node(script)?, node(script)?);
    let ((a, mut from_a), (b, mut from_b)) = (Cluster::start(a)?, Cluster::start(b)?);
    for (cluster, events) in [(&a, &mut from_a), (&b, &mut from_b)] {
        let _worker = cluster.fork(Fork::default()).context("it runs")?;
        while !matches!(events.recv_timeout(LIMIT)?, Some(Event::Message { .. })) {}
    }
    a.stop_now();
    ensure!(matches!(a.join(), Outcome::Killed { workers: 1 }));
    let left = b.workers();
    ensure!(left.len() == 1 && process::alive(left[0].pid), "{left:?}");
    b.stop();
    ensure!(b.join() == Outcome::Stopped);
    Ok(())
}
