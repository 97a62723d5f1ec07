//! `everup report`: what a bug report needs, and no secrets: no variables of apps, and nothing that apps wrote.

use super::home::home;
use super::told::{Outcome, Told, say};
use super::{doctor, system};
use crate::args::boot::ReportArgs;
use crate::exit::Exit;
use crate::terminal::{Screen, harmless};
use everup_api::v1::{Client, List, Pong, SOCKET};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// Of the daemon's log.
const LINES: usize = 20;
const TAIL: i64 = 16 * 1024;
const ANSWER: Duration = Duration::from_secs(3);

/// `everup report`.
pub(super) fn report(args: &ReportArgs) -> Outcome {
    let home = home()?;
    let (daemon, apps) = ask(&home);
    let log = tail(&home.join("daemon.log"));
    let found = doctor::findings();
    let report = json!({
        "everup": { "version": env!("CARGO_PKG_VERSION"), "program": std::env::current_exe().ok(), "home": home },
        "daemon": daemon,
        "system": system::figures(),
        "apps": apps,
        "daemon_log": log,
    });
    if args.json {
        let mut report = report;
        report["findings"] =
            serde_json::to_value(&found).map_err(|error| Told::new(Exit::Unexpected, error.to_string()))?;
        say(&format!("{report}\n"));
        return Ok(Exit::Ok);
    }
    let screen = Screen {
        width: None,
        colour: false,
    };
    say(&format!(
        "--- everup report {rule}\n{}--- findings {rule}\n{}--- daemon.log {rule}\n{}",
        harmless_lines(&system::tree(&without_log(report), 0)),
        doctor::text(&found, &screen),
        harmless_lines(&log.join("\n")),
        rule = "-".repeat(40)
    ));
    Ok(Exit::Ok)
}

fn without_log(mut report: Value) -> Value {
    if let Value::Object(entries) = &mut report {
        entries.remove("daemon_log");
    }
    report
}

fn harmless_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", harmless(line))).collect()
}

/// Who answers, and an app per line: name, state, workers, restarts, memory.
fn ask(home: &Path) -> (Option<Pong>, Value) {
    let client = Client::connect(&home.join(SOCKET), Some(ANSWER)).ok();
    let Some(mut client) = client else {
        return (None, json!({}));
    };
    let pong = client.ping().ok();
    let list: List = client.get("list", &[]).unwrap_or_default();
    let apps = list.apps.iter().map(|app| {
        let sum = |of: fn(&everup_api::v1::Instance) -> u64| app.instances.iter().map(of).sum::<u64>();
        let text = format!(
            "{} {} workers of {}, generation {}, {} restarts, {} MiB",
            serde_json::to_value(app.state)
                .ok()
                .and_then(|state| Some(state.as_str()?.to_owned()))
                .unwrap_or_default(),
            app.instances
                .iter()
                .filter(|instance| instance.pid.is_some())
                .count(),
            app.target,
            app.generation,
            sum(|instance| instance.restarts),
            sum(|instance| instance.memory.unwrap_or(0)) >> 20,
        );
        (app.spec.name.clone(), Value::String(text))
    });
    (pong, Value::Object(apps.collect()))
}

/// The last lines of a file, however long it is.
fn tail(path: &Path) -> Vec<String> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        if file.seek(SeekFrom::End(-TAIL)).is_err() {
            file.rewind()?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|&line| line.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<String> = (0..5000).map(|number| format!("line {number}")).collect();
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        assert_eq!(tail(file.path()), lines[4980..]);
        std::fs::write(file.path(), "one\ntwo\n").unwrap();
        assert_eq!(tail(file.path()), ["one", "two"]);
        assert!(tail(Path::new("/no/such/file")).is_empty());
    }
}
