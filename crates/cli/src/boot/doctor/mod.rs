//! `everup doctor`: facts are gathered ([`facts`]), judged ([`check`]) and told.

mod check;
mod facts;
#[cfg(test)]
mod tests;

use super::told::{Outcome, say};
use crate::args::boot::DoctorArgs;
use crate::exit::Exit;
use crate::terminal::{Screen, harmless};
use check::{Finding, Level};
use facts::Facts;
use serde_json::json;

/// `everup doctor`.
pub(super) fn doctor(args: &DoctorArgs) -> Outcome {
    let found = check::findings(&Facts::gather()?);
    match args.json {
        true => say(&format!("{}\n", json!({ "findings": found, "ok": good(&found) }))),
        false => say(&text(&found, &Screen::stdout())),
    }
    Ok(if good(&found) { Exit::Ok } else { Exit::Unexpected })
}

/// For `report`.
pub(super) fn findings() -> Vec<Finding> {
    Facts::gather()
        .map(|facts| check::findings(&facts))
        .unwrap_or_default()
}

fn good(found: &[Finding]) -> bool {
    found.iter().all(|finding| finding.level != Level::Bad)
}

/// A line for each, and its hint below it.
pub(super) fn text(found: &[Finding], screen: &Screen) -> String {
    let mut text = String::new();
    for finding in found {
        let (colour, word) = match finding.level {
            Level::Good => (32, "ok     "),
            Level::Warning => (33, "warning"),
            Level::Bad => (31, "bad    "),
        };
        let word = screen.paint(colour, word);
        text.push_str(&format!(
            "{word}  {:9}  {}\n",
            finding.about,
            harmless(&finding.text)
        ));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!(
                "         {:9}  {} {}\n",
                "",
                screen.paint(36, "hint:"),
                harmless(hint)
            ));
        }
    }
    text
}
