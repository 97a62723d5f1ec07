//! A program that is replaced by another version of itself.

use crate::{CLIENTS, TIMEOUT, alone, nothing_failed};
use anyhow::{Result, ensure};
use e2e::http::get;
use e2e::load::KeepAlive;
use e2e::{Example, LIMIT, binary};
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const FIRST: &str = "the first version of the example upgrade";
const OTHER: &str = "the other version of the example upgrade";

/// The program with another version compiled in, so to speak.
fn other_version(program: &[u8]) -> Result<Vec<u8>> {
    let mut other = program.to_vec();
    let mut found = 0;
    for at in 0..=program.len() - FIRST.len() {
        if program[at..].starts_with(FIRST.as_bytes()) {
            other[at..at + OTHER.len()].copy_from_slice(OTHER.as_bytes());
            found += 1;
        }
    }
    ensure!(found > 0, "the program does not hold its version");
    Ok(other)
}

/// Puts another file in the place of the program, which runs: by rename, as installers do.
fn replace(program: &Path, content: &[u8]) -> Result<()> {
    let new = program.with_extension("new");
    fs::write(&new, content)?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    Ok(fs::rename(new, program)?)
}

fn version(address: SocketAddr) -> Result<String> {
    Ok(get(address, "/", TIMEOUT)?.header("x-version").to_owned())
}

#[test]
fn upgrade() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("server");
    let first = fs::read(binary::example("upgrade")?)?;
    replace(&program, &first)?;
    let example = Example::start_program(&program, &[])?;
    ensure!(version(example.address)? == FIRST);

    let clients = KeepAlive::start(example.address, CLIENTS);
    clients.answered(100)?;
    replace(&program, &other_version(&first)?)?;
    example.reload()?;
    // Nobody of the first version is left.
    for _ in 0..20 {
        ensure!(version(example.address)? == OTHER);
    }
    // And back, the same way.
    replace(&program, &first)?;
    example.reload()?;
    ensure!(version(example.address)? == FIRST);
    clients.answered(100)?;
    nothing_failed(&clients.finish()?)?;
    example.end()
}

/// A new version that does not come up takes nothing away.
#[test]
fn upgrade_to_a_broken_program() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("server");
    let first = fs::read(binary::example("upgrade")?)?;
    replace(&program, &first)?;
    let example = Example::start_program(&program, &[])?;
    let before = example.ready()?;

    let clients = KeepAlive::start(example.address, CLIENTS);
    clients.answered(100)?;
    replace(&program, b"#!/bin/sh\nexit 1\n")?;
    example.run.signal(Signal::HUP)?;
    example.run.until("the reload's end", LIMIT, |seen| {
        let mut lines = seen.out.iter();
        lines
            .any(|line| line.starts_with("reloaded: ") && line.ends_with(", aborted"))
            .then_some(())
    })?;
    clients.answered(100)?;
    nothing_failed(&clients.finish()?)?;
    ensure!(example.ready()? == before);
    ensure!(version(example.address)? == FIRST);
    example.end()
}
