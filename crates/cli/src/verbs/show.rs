//! Verbs that look.

use super::context::Context;
use super::failure::VerbError;
use crate::args::manage::{EnvArgs, ListArgs, NameArgs, TargetArgs, WhyArgs};
use crate::commands::ask::why;
use crate::exit::Exit;
use crate::pm2;
use crate::render::amounts::millis;
use crate::render::{describe, list};
use crate::terminal::{Screen, harmless};
use everup_api::v1::{App, AppState, CallError, Environment, Instance, List};
use everup_api::{ErrorCode, Why};
use serde_json::json;

/// `everup list`.
pub(crate) fn list(context: &Context, args: &ListArgs) -> Result<Exit, VerbError> {
    let Some(list) = read_if_any(context, &chosen(args))? else {
        let asleep = context.asleep();
        if context.answer.json {
            context.print(&json!(List::default()).to_string());
            asleep.into_iter().for_each(|text| context.aside(&text));
        } else {
            context.print(asleep.as_deref().unwrap_or(list::empty()));
        }
        return Ok(Exit::Ok);
    };
    if context.answer.json {
        context.print(&json!(list).to_string());
    } else {
        table(context, &list.apps, args.app.as_deref());
    }
    Ok(Exit::Ok)
}

/// What is asked for.
pub(super) fn chosen(args: &ListArgs) -> Vec<String> {
    args.targets.iter().chain(&args.app).cloned().collect()
}

/// All apps, or those; none if no daemon runs, which is said on the side.
pub(super) fn read(context: &Context, targets: &[String]) -> Result<List, VerbError> {
    let list = read_if_any(context, targets)?;
    if list.is_none() {
        context.asleep().into_iter().for_each(|text| context.aside(&text));
    }
    Ok(list.unwrap_or_default())
}

/// The same; `None` if no daemon runs.
fn read_if_any(context: &Context, targets: &[String]) -> Result<Option<List>, VerbError> {
    match context.reader_if_any()? {
        Some(mut client) => context.list(&mut client, targets).map(Some),
        None => Ok(None),
    }
}

/// The list as a table.
pub(crate) fn table(context: &Context, apps: &[App], only: Option<&str>) {
    context.print(&table_text(context, apps, only, &context.screen));
}

pub(super) fn table_text(context: &Context, apps: &[App], only: Option<&str>, screen: &Screen) -> String {
    let args = &context.answer.table;
    if args.mini_list {
        return pm2::table::mini(apps);
    }
    if context.pm2 {
        return pm2::table::table(apps, args.sort.as_deref(), screen);
    }
    if apps.is_empty() {
        return list::empty().to_owned();
    }
    let choice = list::Choice {
        app: only.map(str::to_owned),
        sort: args.sort.clone(),
    };
    list::text(apps, &choice, screen)
}

/// `everup jlist`, `everup prettylist`.
pub(crate) fn jlist(context: &Context, pretty: bool) -> Result<Exit, VerbError> {
    let list = read(context, &[])?;
    let value = pm2::element::list(&list.apps);
    context.print(&if pretty {
        pm2::inspect::inspect(&value)
    } else {
        value.to_string()
    });
    Ok(Exit::Ok)
}

/// `everup describe`.
pub(crate) fn describe(context: &Context, args: &TargetArgs) -> Result<Exit, VerbError> {
    let list = match of(context, &args.target) {
        Err(error) if context.pm2 && unknown(&error) => {
            context.warn(&format!("{} doesn't exist", harmless(&args.target)));
            return Ok(Exit::Refused);
        }
        list => list?,
    };
    if context.answer.json {
        context.print(&json!(list).to_string());
    } else if context.pm2 {
        for (app, instance) in meant(&list, &args.target) {
            context.print(&pm2::describe::describe(app, instance, &context.screen));
        }
    } else {
        let texts: Vec<String> = list
            .apps
            .iter()
            .map(|app| describe::text(app, &context.screen))
            .collect();
        context.print(&texts.join("\n"));
    }
    Ok(Exit::Ok)
}

/// One target of a running daemon.
fn of(context: &Context, target: &str) -> Result<List, VerbError> {
    let mut client = context.reader()?;
    context.list(&mut client, std::slice::from_ref(&target.to_owned()))
}

/// The instances that a target means: all of an app, or that of an id.
fn meant<'a>(list: &'a List, target: &str) -> Vec<(&'a App, &'a Instance)> {
    let all = pm2::processes(&list.apps);
    let named = list
        .apps
        .iter()
        .any(|app| app.spec.name == target || app.spec.namespace() == target);
    match target.parse::<u32>() {
        Ok(id) if !named => all
            .into_iter()
            .filter(|(_, instance)| instance.id == id)
            .collect(),
        _ => all,
    }
}

fn unknown(error: &VerbError) -> bool {
    matches!(error, VerbError::Call(CallError::Refused(error)) if error.code == ErrorCode::UnknownApp)
}

/// `everup id`, `everup pid`.
pub(crate) fn numbers(context: &Context, args: &NameArgs, pids: bool) -> Result<Exit, VerbError> {
    let list = match &args.name {
        Some(name) => match of(context, name) {
            Err(error) if context.pm2 && unknown(&error) => List::default(),
            list => list?,
        },
        None => read(context, &[])?,
    };
    let all = match &args.name {
        Some(name) => meant(&list, name),
        None => pm2::processes(&list.apps),
    };
    if !pids {
        let ids: Vec<u32> = all.iter().map(|(_, instance)| instance.id).collect();
        let json = context.answer.json;
        context.print(&if json {
            json!(ids).to_string()
        } else {
            pm2::inspect::inspect(&json!(ids))
        });
        return Ok(Exit::Ok);
    }
    let pids: Vec<u32> = all
        .iter()
        .map(|(_, instance)| instance.pid.unwrap_or(0))
        .collect();
    if context.answer.json {
        context.print(&json!(pids).to_string());
    } else {
        let lines: Vec<String> = pids.iter().map(u32::to_string).collect();
        context.print(&lines.join("\n"));
    }
    Ok(Exit::Ok)
}

/// `everup env`.
pub(crate) fn env(context: &Context, args: &EnvArgs) -> Result<Exit, VerbError> {
    let mut client = context.reader()?;
    let mut query = vec![("target", args.target.as_str())];
    if args.reveal {
        query.push(("reveal", "1"));
    }
    let found = client.get::<Environment>("env", &query);
    let env = match found.map_err(VerbError::Call) {
        Err(error) if context.pm2 && unknown(&error) => {
            let text = format!("Modules with id {} not found", harmless(&args.target));
            return Err(VerbError::said(Exit::Refused, text, None));
        }
        env => env?,
    };
    if context.answer.json {
        context.print(&json!(env).to_string());
        return Ok(Exit::Ok);
    }
    let mut all = env.inherited.clone();
    all.extend(env.stored.clone());
    let mark = if context.pm2 { ": " } else { "=" };
    let lines: Vec<String> = all
        .iter()
        .map(|(name, value)| format!("{}{mark}{}", harmless(name), harmless(value)))
        .collect();
    context.print(&lines.join("\n"));
    Ok(Exit::Ok)
}

/// `everup ping`.
pub(crate) fn ping(context: &Context) -> Result<Exit, VerbError> {
    let mut client = context.reader()?;
    let pong = client.ping()?;
    if context.answer.json {
        context.print(&json!(pong).to_string());
    } else if context.pm2 {
        context.print("{ msg: 'pong' }");
    } else {
        context.print(&format!(
            "the daemon answers: everup {}, pid {}, up for {}, home {}",
            harmless(&pong.version),
            pong.pid,
            millis(pong.uptime_ms),
            harmless(&pong.home.to_string_lossy())
        ));
    }
    Ok(Exit::Ok)
}

/// `everup why`.
pub(crate) fn why(context: &Context, args: &WhyArgs) -> Result<Exit, VerbError> {
    let mut client = context.reader()?;
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.push(("target", args.target.as_deref().unwrap_or("all")));
    let all: Vec<Why> = client.get("why", &query)?;
    if context.answer.json {
        context.print(&json!(all).to_string());
        return Ok(Exit::Ok);
    }
    let texts: Vec<String> = all.iter().map(|one| why::text(one, &context.screen)).collect();
    context.print(&texts.join("\n\n"));
    Ok(Exit::Ok)
}

/// Whether any app has failed: a colour for `monit`.
pub(super) fn any_failed(apps: &[App]) -> bool {
    apps.iter().any(|app| app.state == AppState::Failed)
}
