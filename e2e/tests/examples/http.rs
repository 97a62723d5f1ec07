//! HTTP/1.1: axum, hyper, actix-web.

use crate::{TIMEOUT, alone, stands};
use anyhow::{Context, Result, ensure};
use e2e::http::{Connection, get};
use e2e::load::{Answer, Session};
use e2e::{Everup, Example, LIMIT, binary};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

fn server(name: &str, policy: &str) -> Result<()> {
    let _alone = alone();
    let example = Example::start(name, &[("POLICY", policy)])?;
    let address = example.address;
    stands(&example, move |_| Connection::open(address, TIMEOUT))?;
    stands(&example, move |_| Once::open(address)).context("on fresh connections")?;
    example.end()
}

/// A client that makes a connection for each request.
struct Once(Connection<TcpStream>);

impl Once {
    fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self(Connection::open(address, TIMEOUT)?))
    }
}

impl Session for Once {
    fn exchange(&mut self) -> Result<Answer> {
        let answer = self.0.exchange()?;
        Ok(Answer {
            stays: false,
            ..answer
        })
    }
}

#[test]
fn axum_handed_over() -> Result<()> {
    server("axum", "least-connections")
}

#[test]
fn axum_reuseport() -> Result<()> {
    server("axum", "reuseport")
}

#[test]
fn axum_shared() -> Result<()> {
    server("axum", "shared")
}

#[test]
fn hyper_handed_over() -> Result<()> {
    server("hyper", "round-robin")
}

#[test]
fn actix_web_shared() -> Result<()> {
    server("actix-web", "shared")
}

#[test]
fn actix_web_reuseport() -> Result<()> {
    server("actix-web", "reuseport")
}

/// The same `serve` without a primary.
#[test]
fn axum_alone() -> Result<()> {
    let program = Everup::program(binary::example("axum")?).arg("alone");
    let run = program.env("PORT", "0").start()?;
    let address = run.until("its address", LIMIT, |seen| {
        let mut said = seen
            .out
            .iter()
            .filter_map(|line| line.strip_prefix("listening on "));
        said.find_map(|address| address.parse().ok())
    })?;
    ensure!(get(address, "/", LIMIT)?.status == 200);
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    run.gone(Duration::from_secs(2))
}
