//! Clients of any protocol that retry nothing: each asks again and again on one connection, with a short pause in
//! between.
//!
//! Like every sensible client they look whether the server has closed the connection before they send on it. What
//! happens after the first byte was sent is the request's fate, and is counted.

use crate::LIMIT;
use crate::run::wait_until;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The longest pause of a client between two requests, in microseconds.
const PAUSE: u64 = 4000;

/// A client's connection.
pub trait Session {
    /// Asks once, and waits for the whole answer.
    ///
    /// # Errors
    /// When there is none, or not the right one.
    fn exchange(&mut self) -> Result<Answer>;

    /// Whether the server has closed the connection, as far as has come to us.
    fn ended(&self) -> bool {
        false
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which worker it is from; empty if it does not say.
    pub worker: String,
    /// Whether the connection may be used again.
    pub stays: bool,
}

/// Clients in threads of their own. Dropping them ends them, too.
#[derive(Debug)]
pub struct Crowd {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What the clients and their owner tell each other.
#[derive(Debug)]
struct Counts {
    goes_on: AtomicBool,
    connecting: AtomicU64,
    answered: AtomicU64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Good answers.
    pub ok: u64,
    /// Requests that were not answered so.
    pub failures: Vec<Failed>,
    /// Connections made.
    pub connections: u64,
}

/// A request without a good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What happened.
    pub reason: String,
    /// Who had answered on the same connection before; `None` if nobody had.
    pub worker: Option<String>,
}

impl Tally {
    /// How many requests have failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.len() as u64
    }

    fn failed_at(&mut self, error: &anyhow::Error, worker: Option<String>) {
        let reason = format!("{error:#}");
        self.failures.push(Failed { reason, worker });
    }
}

impl Crowd {
    /// Begins to send, by so many clients. `open` makes a connection; it gets the number of the client, from 1.
    #[must_use]
    pub fn start<S: Session>(clients: u64, open: impl Fn(u64) -> Result<S> + Clone + Send + 'static) -> Self {
        let counts = Arc::new(Counts {
            goes_on: AtomicBool::new(true),
            connecting: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let client = |number: u64| {
            let (counts, open) = (Arc::clone(&counts), open.clone());
            thread::spawn(move || counts.ask_while(number, open))
        };
        let threads = (1..=clients).map(client).collect();
        Self { counts, threads }
    }

    /// Waits until so many connections are on their way, or were.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn connecting(&self, connections: u64) -> Result<()> {
        wait_until(&format!("{connections} connections"), LIMIT, || {
            match self.counts.connecting.load(Ordering::Relaxed) {
                now if now >= connections => Ok(()),
                now => Err(format!("only {now}")),
            }
        })
    }

    /// Waits until so many more requests have been answered.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn answered(&self, more: u64) -> Result<()> {
        let before = self.counts.answered.load(Ordering::Relaxed);
        wait_until(&format!("{more} more answers"), LIMIT, || {
            let now = self.counts.answered.load(Ordering::Relaxed) - before;
            if now >= more {
                Ok(())
            } else {
                Err(format!("only {now}"))
            }
        })
    }

    /// Sends nothing more, and waits for the answers that are on their way.
    ///
    /// # Errors
    /// When a client itself failed.
    pub fn finish(mut self) -> Result<Tally> {
        self.counts.goes_on.store(false, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            let one = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
            all.ok += one.ok;
            all.connections += one.connections;
            all.failures.extend(one.failures);
        }
        Ok(all)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.counts.goes_on.store(false, Ordering::Relaxed);
    }
}

impl Counts {
    fn goes_on(&self) -> bool {
        self.goes_on.load(Ordering::Relaxed)
    }

    fn ask_while<S: Session>(&self, number: u64, open: impl Fn(u64) -> Result<S>) -> Tally {
        let mut tally = Tally::default();
        let mut random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        while self.goes_on() {
            tally.connections += 1;
            self.connecting.fetch_add(1, Ordering::Relaxed);
            let mut session = match open(number) {
                Ok(session) => session,
                Err(error) => {
                    tally.failed_at(&error, None);
                    continue;
                }
            };
            let mut worker = None;
            while self.goes_on() && !session.ended() {
                match session.exchange() {
                    Ok(answer) => {
                        tally.ok += 1;
                        self.answered.fetch_add(1, Ordering::Relaxed);
                        if !answer.stays {
                            break;
                        }
                        worker = Some(answer.worker);
                    }
                    Err(error) => {
                        tally.failed_at(&error, worker.take());
                        break;
                    }
                }
                pause(&mut random);
            }
        }
        tally
    }
}

fn pause(random: &mut u64) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    // wait: a client's pause between two requests, of any length
    thread::sleep(Duration::from_micros(*random % PAUSE));
}
