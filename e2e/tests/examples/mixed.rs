//! A Rust worker and a Node worker behind one port.

use crate::{CLIENTS, TIMEOUT, alone, nothing_failed};
use anyhow::{Result, ensure};
use e2e::http::get;
use e2e::load::KeepAlive;
use e2e::{Example, LIMIT};
use std::collections::BTreeSet;

/// What kinds of workers answer.
fn kinds(example: &Example) -> Result<BTreeSet<String>> {
    let mut kinds = BTreeSet::new();
    for _ in 0..20 {
        let answer = get(example.address, "/", TIMEOUT)?;
        let kind = answer.header("x-worker").split('-').next();
        kinds.insert(kind.unwrap_or_default().to_owned());
    }
    Ok(kinds)
}

fn both() -> BTreeSet<String> {
    BTreeSet::from(["node".to_owned(), "rust".to_owned()])
}

#[test]
fn node_mixed() -> Result<()> {
    let _alone = alone();
    let example = Example::start("node-mixed", &[])?;
    ensure!(kinds(&example)? == both());
    for worker in example.ready()? {
        let heard = format!("\"heard\":{{\"hello\":{}}}}}", worker.id);
        let said = format!("worker {} says ", worker.id);
        example.run.until("its answer", LIMIT, |seen| {
            let mut lines = seen.out.iter();
            lines
                .any(|line| line.starts_with(&said) && line.ends_with(&heard))
                .then_some(())
        })?;
    }

    let clients = KeepAlive::start(example.address, CLIENTS);
    clients.answered(100)?;
    example.reload()?;
    clients.answered(100)?;
    nothing_failed(&clients.finish()?)?;
    ensure!(kinds(&example)? == both());

    // Each comes back as what it was.
    for worker in example.ready()? {
        example.kill(&worker)?;
        example.ready()?;
        ensure!(kinds(&example)? == both());
    }
    example.end()
}
