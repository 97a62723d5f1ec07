//! The receipt of a reload or restart for people.

use crate::render::amounts::count;
use crate::render::amounts::millis;
use crate::terminal::{Screen, harmless};
use everup_api::{Outcome, Receipt, Replaced};

/// A line of summary, then what is worth knowing. `verb` is `reload` or `restart`.
pub(crate) fn text(verb: &str, receipt: &Receipt, screen: &Screen) -> String {
    let mut lines = vec![screen.paint(colour(receipt.outcome), &summary(verb, receipt))];
    let draining = receipt.still_draining > 0;
    lines.extend(receipt.workers.iter().map(|replaced| slot(replaced, draining)));
    if receipt.outcome == Outcome::Done
        || receipt.connections_moved > 0
        || receipt.requests_lost > Some(0)
        || receipt.connections_cut > 0
    {
        lines.push(connections(receipt));
    }
    if let Some(overflows @ 1..) = receipt.queue_overflows {
        lines.push(format!(
            "  the kernel dropped {}: a queue was full",
            count(overflows, "connection")
        ));
    }
    if receipt.still_draining > 0 {
        let old = count(u64::from(receipt.still_draining), "old worker");
        lines.push(format!("  {old} still to finish: see `everup status`"));
    }
    lines.join("\n")
}

fn colour(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Done => 32,
        Outcome::Stopped => 33,
        _ => 31,
    }
}

fn summary(verb: &str, receipt: &Receipt) -> String {
    let took = millis(receipt.duration_ms);
    let why = receipt
        .reason
        .as_deref()
        .map(|why| format!(": {}", harmless(why)))
        .unwrap_or_default();
    match receipt.outcome {
        Outcome::Done => format!(
            "{verb} done in {took}: generation {} serves{why}",
            receipt.generation
        ),
        Outcome::Aborted => format!("{verb} aborted after {took}{why}; the old workers are as they were"),
        Outcome::RolledBack => {
            format!("{verb} rolled back after {took}{why}; the old generation serves again")
        }
        Outcome::Stopped => format!("{verb} ended after {took}: the app was stopped{why}"),
        _ => format!("{verb} ended after {took}{why}"),
    }
}

/// `draining` says whether any old worker is still there.
fn slot(replaced: &Replaced, draining: bool) -> String {
    let who = |worker: Option<u32>, pid: Option<u32>| match (worker, pid) {
        (Some(worker), Some(pid)) => format!("worker {worker} (pid {pid})"),
        (Some(worker), None) => format!("worker {worker}"),
        (None, _) => "nobody".into(),
    };
    let mut line = format!(
        "  slot {}: {} → {}",
        replaced.slot,
        who(replaced.old_worker, replaced.old_pid),
        who(replaced.new_worker, replaced.new_pid)
    );
    if let Some(boot) = replaced.boot_ms {
        line.push_str(&format!(", ready after {}", millis(boot)));
    }
    match (replaced.old_worker, replaced.drain_ms) {
        (Some(_), Some(drain)) if replaced.forced => {
            line.push_str(&format!(", the old one killed after {}", millis(drain)));
        }
        (Some(_), Some(drain)) => line.push_str(&format!(", the old one gone after {}", millis(drain))),
        (Some(_), None) if draining => line.push_str(", the old one still finishes"),
        (Some(_), None) | (None, _) => {}
    }
    if replaced.reverted {
        line.push_str(", given up again");
    }
    line
}

fn connections(receipt: &Receipt) -> String {
    let moved = count(receipt.connections_moved, "connection");
    let lost = match (receipt.requests_lost, &receipt.lost_unknown_because) {
        (Some(lost), _) => format!("{} lost", count(lost, "request")),
        (None, Some(why)) => format!("lost requests unknown: {}", harmless(why)),
        (None, None) => "lost requests unknown".into(),
    };
    let cut = match receipt.connections_cut {
        0 => String::new(),
        cut => format!(", {} cut (ended with a killed worker)", count(cut, "connection")),
    };
    format!("  {moved} moved, {lost}{cut}")
}
