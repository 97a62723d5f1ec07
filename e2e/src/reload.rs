//! Reloads, asked for as an operator does, and their receipts.

use crate::{LIMIT, Run};
use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

/// What everup said at the end of a reload.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The whole object.
    pub json: Value,
}

impl Receipt {
    /// How it ended: `done`, `aborted`, …
    #[must_use]
    pub fn outcome(&self) -> &str {
        self.json["outcome"].as_str().unwrap_or_default()
    }

    /// Why it did not go as asked; empty if it did.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.json["reason"].as_str().unwrap_or_default()
    }

    /// The new generation's number.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.json["generation"].as_u64().unwrap_or_default()
    }

    /// What changed, a place each.
    #[must_use]
    pub fn workers(&self) -> &[Value] {
        self.json["workers"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Requests lost, as far as that is certain; `None` if it could not be known.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.json["requests_lost"].as_u64()
    }

    /// Connections of killed workers of which nobody can tell whether an answer was owed.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.json["connections_cut"].as_u64().unwrap_or_default()
    }

    /// Connections that went on with another worker.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.json["connections_moved"].as_u64().unwrap_or_default()
    }

    /// Old workers that had not ended.
    #[must_use]
    pub fn still_draining(&self) -> u64 {
        self.json["still_draining"].as_u64().unwrap_or_default()
    }

    /// Expects that every one of so many places has a new worker, whose predecessor has ended by itself.
    ///
    /// # Errors
    /// When it is not so.
    pub fn all_replaced(&self, workers: usize) -> Result<()> {
        let whole = self.outcome() == "done" && self.workers().len() == workers && self.still_draining() == 0;
        let graceful = self.workers().iter().all(|worker| worker["forced"] == false);
        ensure!(whole && graceful, "{}", self.json);
        Ok(())
    }
}

impl Run {
    /// Asks for a reload (SIGHUP) and waits for its receipt.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn reload(&self) -> Result<Receipt> {
        let before = self.seen().count("reloaded");
        self.signal(Signal::HUP)?;
        self.receipt(before + 1)
    }

    /// Waits for the receipt of this number, from 1.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn receipt(&self, number: usize) -> Result<Receipt> {
        let json = self.event("reloaded", number)?.json;
        Ok(Receipt { json })
    }

    /// Waits until a reload to this generation has come to this phase.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn reload_phase(&self, generation: i64, phase: &str) -> Result<()> {
        let what = format!("generation {generation} is {phase}");
        self.until(&what, LIMIT, |seen| {
            let mut all = seen.named("reloading");
            all.find(|event| event.number("generation") == Some(generation) && event.text("phase") == phase)
                .map(drop)
        })
    }
}
