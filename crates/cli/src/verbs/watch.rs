//! Verbs that go on until they are interrupted: `monit`, `list --watch`, `events`, `attach`.

use super::context::Context;
use super::failure::VerbError;
use super::show;
use crate::args::manage::{AttachArgs, EventsArgs, ListArgs};
use crate::events::rfc3339;
use crate::exit::Exit;
use crate::render::amounts::count;
use crate::terminal::{Screen, harmless};
use everup_api::v1::{CallError, Event, List};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two looks.
const REFRESH: Duration = Duration::from_secs(1);

/// `everup monit`, `everup list --watch`.
pub(crate) fn monit(context: &Context, args: &ListArgs) -> Result<Exit, VerbError> {
    let targets = show::chosen(args);
    let mut client = context.reader()?;
    let terminal = io::stdout().is_terminal();
    loop {
        let list = context.list(&mut client, &targets)?;
        if context.answer.json {
            if !told(&json!(list).to_string()) {
                return Ok(Exit::Ok);
            }
        } else if !told(&page(context, args, &list, terminal)) {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(REFRESH);
    }
}

/// One picture: on a terminal in place of the last one, cut to its height.
fn page(context: &Context, args: &ListArgs, list: &List, terminal: bool) -> String {
    let screen = Screen {
        width: Screen::stdout().width,
        ..context.screen
    };
    let head = heading(list);
    let table = show::table_text(context, &list.apps, args.app.as_deref(), &screen);
    if !terminal {
        return format!("{head}\n{table}");
    }
    let height = rustix::termios::tcgetwinsize(io::stdout()).map_or(24, |size| usize::from(size.ws_row));
    let lines: Vec<&str> = table.lines().collect();
    let room = height.saturating_sub(3);
    let mut text = format!("\x1b[H\x1b[2J{head}\n");
    for line in lines.iter().take(room) {
        text.push_str(line);
        text.push('\n');
    }
    if lines.len() > room {
        text.push_str(&format!(
            "… {} more\n",
            count((lines.len() - room) as u64, "line")
        ));
    }
    text
}

fn heading(list: &List) -> String {
    let workers = list
        .apps
        .iter()
        .flat_map(|app| &app.instances)
        .filter(|one| one.pid.is_some())
        .count();
    let failed = if show::any_failed(&list.apps) {
        ", some failed"
    } else {
        ""
    };
    format!(
        "{}  {}, {}{failed}",
        rfc3339(SystemTime::now()),
        count(list.apps.len() as u64, "app"),
        count(workers as u64, "worker")
    )
}

/// Writes; `false` if nobody reads any more.
fn told(text: &str) -> bool {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))
        .and_then(|()| out.flush())
        .is_ok()
}

/// `everup events`.
pub(crate) fn events(context: &Context, args: &EventsArgs) -> Result<Exit, VerbError> {
    let client = context.reader()?;
    let mut events = client.events(args.after)?;
    let result = events.each(|event| {
        let wanted = args.apps.is_empty() || event.app.as_ref().is_none_or(|app| args.apps.contains(app));
        !wanted
            || told(&if context.answer.json {
                json!(event).to_string()
            } else {
                line(&event)
            })
    });
    match result {
        // It was ended while we looked.
        Err(CallError::NotRunning { .. }) => {
            context.note("the daemon has ended");
            Ok(Exit::Ok)
        }
        result => result.map(|()| Exit::Ok).map_err(VerbError::Call),
    }
}

/// One event for people.
fn line(event: &Event) -> String {
    let at = rfc3339(UNIX_EPOCH + Duration::from_millis(event.at));
    let app = event
        .app
        .as_deref()
        .map(|app| format!(" {}", harmless(app)))
        .unwrap_or_default();
    let id = event.id.map(|id| format!(":{id}")).unwrap_or_default();
    let mut text = format!("{at} {:<8}{app}{id}", harmless(&event.event));
    for (key, value) in &event.data {
        let value = match value {
            // What has parts is for programs: --json.
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text.push_str(&format!(" {}={}", harmless(key), harmless(&value)));
    }
    text
}

/// `everup attach`: what comes on our standard input goes to the worker's.
pub(crate) fn attach(context: &Context, args: &AttachArgs) -> Result<Exit, VerbError> {
    let mut client = context.changer_if_any()?;
    let input = io::stdin();
    for text in input.lines() {
        let Ok(text) = text else { break };
        let body = everup_api::v1::Send {
            target: args.target.clone(),
            text: format!("{text}{}", args.separator.as_deref().unwrap_or("\n")),
        };
        context.act(&mut client, "send", &body)?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines() {
        let event: Event = serde_json::from_value(json!({
            "seq": 7, "at": 1_600_000_000_000_u64, "event": "exit", "app": "web", "id": 3,
            "data": {"cause": "it exited with code 1", "code": 1, "signal": null, "workers": [1]}
        }))
        .unwrap();
        assert_eq!(
            line(&event),
            "2020-09-13T12:26:40.000Z exit     web:3 cause=it exited with code 1 code=1"
        );
    }
}
