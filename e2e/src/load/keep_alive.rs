//! Keep-alive clients that retry nothing: each asks again and again on one connection, with a short pause in between.
//!
//! Like every HTTP client they look whether the server has closed the connection before they send on it. What happens
//! after the first byte was sent is the request's fate, and is counted.

use crate::http::{Connection, get_on};
use anyhow::Result;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// After this a request has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause of a client between two requests, in microseconds.
const PAUSE: u64 = 4000;

/// Clients in threads of their own. Dropping them ends them, too.
#[derive(Debug)]
pub struct KeepAlive {
    goes_on: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Whole answers with status 200.
    pub ok: u64,
    /// Requests that were not answered so: how many for each reason.
    pub failures: BTreeMap<String, u64>,
    /// Connections made.
    pub connections: u64,
}

impl Tally {
    /// How many requests have failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    fn failure(&mut self, error: &anyhow::Error) {
        *self.failures.entry(format!("{error:#}")).or_default() += 1;
    }
}

impl KeepAlive {
    /// Begins to send, by so many clients.
    #[must_use]
    pub fn start(address: SocketAddr, clients: u64) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let client = |number: u64| {
            let goes_on = Arc::clone(&goes_on);
            thread::spawn(move || ask_while(&goes_on, address, number))
        };
        let threads = (1..=clients).map(client).collect();
        Self { goes_on, threads }
    }

    /// Sends nothing more, and waits for the answers that are on their way.
    ///
    /// # Errors
    /// When a client itself failed.
    pub fn finish(mut self) -> Result<Tally> {
        self.goes_on.store(false, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            let one = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a keep-alive client panicked"))?;
            all.ok += one.ok;
            all.connections += one.connections;
            for (reason, count) in one.failures {
                *all.failures.entry(reason).or_default() += count;
            }
        }
        Ok(all)
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
    }
}

fn ask_while(goes_on: &AtomicBool, address: SocketAddr, seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    while goes_on.load(Ordering::Relaxed) {
        tally.connections += 1;
        let mut connection = match Connection::open(address, TIMEOUT) {
            Ok(connection) => connection,
            Err(error) => {
                tally.failure(&error);
                continue;
            }
        };
        while goes_on.load(Ordering::Relaxed) && !connection.ended() {
            match get_on(&mut connection, "/") {
                Ok(stays) => {
                    tally.ok += 1;
                    if !stays {
                        break;
                    }
                }
                Err(error) => {
                    tally.failure(&error);
                    break;
                }
            }
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // wait: a client's pause between two requests, of any length
            thread::sleep(Duration::from_micros(random % PAUSE));
        }
    }
    tally
}
