//! `everup why` for people.

use super::receipt;
use crate::render::amounts::count;
use crate::render::amounts::millis;
use crate::terminal::{Screen, harmless};
use everup_api::{Exit, ExitStatus, Why};

/// The summary, then a paragraph for each exit and each reload.
pub(crate) fn text(why: &Why, screen: &Screen) -> String {
    let mut paragraphs = vec![format!("{}: {}", harmless(&why.app), harmless(&why.summary))];
    paragraphs.extend(why.exits.iter().map(|told| exit(told, screen)));
    paragraphs.extend(why.reloads.iter().map(|told| {
        let verb = format!(
            "generation {} ({}): reload",
            told.generation,
            harmless(&told.cause)
        );
        receipt::text(&verb, told, screen)
    }));
    if why.omitted > 0 {
        paragraphs.push(format!("{} more have no place here", why.omitted));
    }
    paragraphs.join("\n\n")
}

fn exit(exit: &Exit, screen: &Screen) -> String {
    let who = format!(
        "worker {} (pid {}, slot {}, generation {})",
        exit.worker, exit.pid, exit.slot, exit.generation
    );
    let mut lines = vec![
        format!(
            "{}, {}, after {}: {}",
            screen.paint(1, &who),
            harmless(&exit.at),
            millis(exit.uptime_ms),
            harmless(&exit.cause)
        ),
        format!("  {}; {}", facts(exit), harmless(&exit.then)),
    ];
    match (exit.lines_known, exit.last_lines.as_slice()) {
        (false, []) => lines.push("  what it wrote is not known".into()),
        (true, []) => lines.push("  it wrote nothing".into()),
        (_, written) => {
            lines.push(format!("  its last {}:", count(written.len() as u64, "line")));
            lines.extend(written.iter().map(|line| format!("  | {}", harmless(line))));
        }
    }
    lines.join("\n")
}

fn facts(exit: &Exit) -> String {
    let mut facts = match &exit.status {
        ExitStatus::Code { code } => format!("exit code {code}"),
        ExitStatus::Signal { signal, core: true } => format!("{}, core dumped", harmless(signal)),
        ExitStatus::Signal { signal, core: false } => harmless(signal),
        _ => "status unknown".into(),
    };
    if exit.oom {
        facts.push_str(", out of memory");
    }
    if exit.forced {
        facts.push_str(", killed because it did not end when asked");
    }
    facts
}
