//! What was done, as it is told: lines for people, pm2's lines for its scripts, JSON for programs; and the exit code of
//! the worst.

use super::context::Context;
use super::failure::VerbError;
use super::show;
use crate::commands::ask::receipt;
use crate::exit::Exit;
use crate::pm2;
use crate::render::amounts::ranges;
use crate::terminal::harmless;
use everup_api::v1::{App, Client, Done, DoneTo, List};
use everup_api::{ErrorCode, Outcome};
use serde_json::{Value, json};

/// What was done, in order.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(super) steps: Vec<Step>,
    /// pm2 says how variables are changed.
    pub(crate) hint_env: bool,
    /// `start` of apps that are there.
    pub(crate) started_known: bool,
}

#[derive(Debug)]
pub(super) struct Step {
    targets: Vec<String>,
    /// pm2's word for it.
    action: &'static str,
    done: Done,
}

impl Told {
    pub(crate) fn one(targets: &[String], action: &'static str, done: Done) -> Self {
        let mut told = Self::default();
        told.add(targets, action, done);
        told
    }

    pub(crate) fn add(&mut self, targets: &[String], action: &'static str, done: Done) {
        self.steps.push(Step {
            targets: targets.to_vec(),
            action,
            done,
        });
    }

    /// Whose apps were concerned.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.all().map(|one| one.app.clone())
    }

    fn all(&self) -> impl Iterator<Item = &DoneTo> {
        self.steps.iter().flat_map(|step| &step.done.apps)
    }
}

/// Tells it, and then shows the list where that is the custom.
pub(crate) fn tell(context: &Context, client: &mut Client, told: Told) -> Result<Exit, VerbError> {
    let list = if context.list_follows() {
        Some(context.list(client, &[])?)
    } else {
        None
    };
    let exit = tell_with(context, &told, list.as_ref());
    if let Some(list) = list.filter(|_| told.all().next().is_some()) {
        show::table(context, &list.apps, None);
    }
    Ok(exit)
}

/// Tells it, and nothing more.
pub(crate) fn tell_only(context: &Context, told: Told) -> Result<Exit, VerbError> {
    Ok(tell_with(context, &told, None))
}

fn tell_with(context: &Context, told: &Told, list: Option<&List>) -> Exit {
    if context.answer.json {
        let notices: Vec<&String> = told.steps.iter().flat_map(|step| &step.done.notices).collect();
        let apps: Vec<&DoneTo> = told.all().collect();
        context.print(&json!({"apps": apps, "notices": notices}).to_string());
    } else if context.pm2 {
        as_pm2(context, told, list);
        if told.all().next().is_none() {
            return Exit::Refused;
        }
    } else {
        for step in &told.steps {
            plainly(context, step);
        }
    }
    worst(told)
}

fn plainly(context: &Context, step: &Step) {
    for notice in &step.done.notices {
        context.note(&format!("note: {}", harmless(notice)));
    }
    if step.done.apps.is_empty() && step.done.notices.is_empty() {
        context.say("nothing to do: there are no apps");
    }
    for one in &step.done.apps {
        match &one.error {
            None => context.say(&line(one, context)),
            Some(_) => failed(context, one),
        }
    }
}

fn line(one: &DoneTo, context: &Context) -> String {
    if let Some(receipt) = &one.receipt {
        let verb = if one.done.starts_with("restart") {
            "restart"
        } else {
            "reload"
        };
        return format!(
            "{}: {}",
            harmless(&one.app),
            receipt::text(verb, receipt, &context.screen)
        );
    }
    let ids = match one.ids.as_slice() {
        [] => String::new(),
        [id] => format!(" (id {id})"),
        ids => format!(" (ids {})", ranges(ids.iter().copied())),
    };
    match one.done.as_str() {
        "nothing" => format!("{}: nothing to do", harmless(&one.app)),
        done => format!("{} {}{ids}", harmless(&one.app), harmless(done)),
    }
}

/// Errors are told also to those who want silence.
fn failed(context: &Context, one: &DoneTo) {
    let Some(error) = &one.error else { return };
    let hint = error
        .hint
        .as_deref()
        .map(|hint| format!("\n  hint: {}", harmless(hint)))
        .unwrap_or_default();
    let (app, message) = (harmless(&one.app), harmless(&error.message));
    // The sentence has the name already.
    let nobody = error.code == ErrorCode::UnknownApp && error.message.ends_with(&format!("`{}`", one.app));
    let text = match (nobody, context.pm2) {
        (true, true) => format!("Process or Namespace {app} not found"),
        (true, false) => format!("{message}{hint}"),
        (false, _) => format!("{app}: {message}{hint}"),
    };
    context.complain(&text);
}

/// The worst end of all.
fn worst(told: &Told) -> Exit {
    let ends = told.all().map(|one| match (&one.error, &one.receipt) {
        (Some(error), _) => Exit::of(error.code),
        (None, Some(receipt)) if receipt.outcome != Outcome::Done => Exit::Reload,
        (None, _) => Exit::Ok,
    });
    ends.max_by_key(|exit| exit.code()).unwrap_or(Exit::Ok)
}

fn as_pm2(context: &Context, told: &Told, list: Option<&List>) {
    if told.hint_env {
        context.say("Use --update-env to update environment variables");
    }
    for step in &told.steps {
        if step.done.apps.is_empty() {
            context.warn("No process found");
        }
        for line in pm2_lines(step, list.map_or(&[], |list| list.apps.as_slice())) {
            context.say(&format!("[PM2] {line}"));
        }
        for one in step.done.apps.iter().filter(|one| one.error.is_some()) {
            failed(context, one);
        }
    }
    if told.started_known && worst(told) == Exit::Ok {
        context.say("[PM2] Process successfully started");
    }
}

fn pm2_lines(step: &Step, apps: &[App]) -> Vec<String> {
    let good: Vec<&DoneTo> = step.done.apps.iter().filter(|one| one.error.is_none()).collect();
    if good.is_empty() {
        return Vec::new();
    }
    let of = |one: &DoneTo| apps.iter().find(|app| app.spec.name == one.app);
    if step.action == "start" {
        let line = |one: &&DoneTo| match of(one) {
            Some(app) => {
                let script = app.script_path.as_ref().map_or_else(
                    || app.spec.script.clone(),
                    |path| path.to_string_lossy().into_owned(),
                );
                let s = if app.instances.len() > 1 { "s" } else { "" };
                let workers = app.instances.len();
                format!(
                    "Starting {} in {} ({workers} instance{s})",
                    harmless(&script),
                    pm2::mode(app)
                )
            }
            None => format!("Starting {}", harmless(&one.app)),
        };
        return good.iter().map(line).chain(["Done.".to_owned()]).collect();
    }
    let ids: Vec<u32> = good.iter().flat_map(|one| one.ids.iter().copied()).collect();
    let target = step.targets.join(" ");
    let by_id = step.targets.len() == 1 && target.parse::<u32>().is_ok_and(|id| ids == [id]);
    let shown: Value = if by_id { json!([target]) } else { json!(ids) };
    let mut lines = vec![format!(
        "Applying action {} on app [{}](ids: {})",
        step.action,
        harmless(&target),
        pm2::inspect::inspect(&shown)
    )];
    for one in good {
        lines.extend(
            one.ids
                .iter()
                .map(|id| format!("[{}]({id}) ✓", harmless(&one.app))),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::app;
    use everup_api::{Error, ErrorCode};

    fn done(app: &str, ids: &[u32], error: Option<ErrorCode>) -> DoneTo {
        DoneTo {
            app: app.into(),
            ids: ids.to_vec(),
            done: "stopped".into(),
            error: error.map(|code| Error::new(code, "no")),
            receipt: None,
        }
    }

    fn step(targets: &[&str], action: &'static str, apps: Vec<DoneTo>) -> Step {
        Step {
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            action,
            done: Done {
                apps,
                notices: vec![],
            },
        }
    }

    #[test]
    fn lines_of_pm2() {
        let stopped = step(&["web"], "stopProcessId", vec![done("web", &[0, 1], None)]);
        assert_eq!(
            pm2_lines(&stopped, &[]),
            [
                "Applying action stopProcessId on app [web](ids: [ 0, 1 ])",
                "[web](0) ✓",
                "[web](1) ✓"
            ]
        );
        let by_id = step(&["2"], "restartProcessId", vec![done("loop", &[2], None)]);
        assert_eq!(
            pm2_lines(&by_id, &[]),
            [
                "Applying action restartProcessId on app [2](ids: [ '2' ])",
                "[loop](2) ✓"
            ]
        );
        let started = step(&["web"], "start", vec![done("web", &[0, 1], None)]);
        assert_eq!(
            pm2_lines(&started, &[app("web")]),
            ["Starting /srv/web.js in cluster_mode (2 instances)", "Done."]
        );
        let failed = step(
            &["web"],
            "start",
            vec![done("web", &[], Some(ErrorCode::Internal))],
        );
        assert!(pm2_lines(&failed, &[]).is_empty());
    }

    #[test]
    fn the_exit_code_of_the_worst() {
        let told = |codes: &[Option<ErrorCode>]| {
            let apps = codes.iter().map(|code| done("a", &[], *code)).collect();
            let mut told = Told::default();
            told.steps.push(step(&["all"], "stopProcessId", apps));
            worst(&told)
        };
        assert_eq!(told(&[None, None]), Exit::Ok);
        assert_eq!(
            told(&[None, Some(ErrorCode::Conflict), Some(ErrorCode::InvalidValue)]),
            Exit::Refused
        );
        assert_eq!(told(&[]), Exit::Ok);
    }
}
