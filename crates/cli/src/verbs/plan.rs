//! `plan` and `apply`: a file, against what runs.

use super::context::Context;
use super::failure::VerbError;
use super::files::{self, FileApps};
use super::start::{here, take};
use super::told::{Told, tell};
use crate::args::manage::{ApplyArgs, FileArgs};
use crate::exit::Exit;
use crate::output::paint;
use crate::terminal::harmless;
use everup_api::v1::{Apply, Change, Plan, Step, StepAction};
use serde_json::{Value, json};

/// `everup plan`: what would be done.
pub(crate) fn plan(context: &Context, args: &ApplyArgs) -> Result<Exit, VerbError> {
    let body = request(context, args)?;
    let plan = match context.reader_if_any()? {
        Some(mut client) => client.post("plan", &body, &mut |_| {})?,
        None => from_nothing(&body),
    };
    if context.answer.json {
        context.print(&json!(plan).to_string());
    } else {
        context.print(&render(&plan, context.screen.colour));
    }
    Ok(Exit::Ok)
}

/// `everup apply`: does it.
pub(crate) fn apply(context: &Context, args: &ApplyArgs) -> Result<Exit, VerbError> {
    let body = request(context, args)?;
    let names: Vec<String> = body.apps.iter().map(|app| app.name.clone()).collect();
    let mut client = context.changer()?;
    let done = context.act(&mut client, "apply", &body)?;
    tell(context, &mut client, Told::one(&names, "applied", done))
}

fn request(context: &Context, args: &ApplyArgs) -> Result<Apply, VerbError> {
    let here = here()?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => files::default_file(&here)?.to_string_lossy().into_owned(),
    };
    let how = FileArgs {
        only: args.only.clone(),
        node: args.node,
        ..FileArgs::default()
    };
    let found = files::load(&file, &how, args.env.as_deref(), &here)?;
    found.remark(context);
    let FileApps { apps, origin, .. } = found;
    Ok(Apply {
        // Of a part of the file it cannot be told what is gone from it.
        origin: origin.filter(|_| args.only.is_empty()),
        apps,
        inherited: take(context),
        update_env: args.update_env,
        timeout_ms: context.timeout_ms(),
    })
}

/// Without a daemon everything is new.
fn from_nothing(body: &Apply) -> Plan {
    let start = |app: &everup_api::AppSpec| Step {
        app: app.name.clone(),
        action: StepAction::Start,
        changes: Vec::new(),
    };
    Plan {
        steps: body.apps.iter().map(start).collect(),
    }
}

/// A sign, its colour, and what is done, in words.
fn words(action: StepAction) -> (&'static str, u8, &'static str) {
    match action {
        StepAction::Start => ("+", 32, "start"),
        StepAction::Reload => ("~", 33, "reload: new workers, no request lost"),
        StepAction::Scale => ("~", 33, "scale: more or fewer workers"),
        StepAction::Update => ("~", 33, "update: no worker is touched"),
        StepAction::Restart => ("!", 31, "restart: stopped and started"),
        StepAction::Delete => ("-", 31, "delete: no longer in the file"),
        StepAction::Nothing => (" ", 2, "nothing"),
        _ => ("?", 33, "something that this version does not know"),
    }
}

fn render(plan: &Plan, colour: bool) -> String {
    let painted = |number: u8, text: &str| {
        if colour {
            paint(number, text)
        } else {
            text.to_owned()
        }
    };
    let (same, different): (Vec<&Step>, Vec<&Step>) = plan
        .steps
        .iter()
        .partition(|step| step.action == StepAction::Nothing);
    let width = different
        .iter()
        .map(|step| step.app.chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    let mut lines = Vec::new();
    for step in &different {
        let (sign, number, text) = words(step.action);
        lines.push(painted(
            number,
            &format!("{sign} {:width$}  {text}", harmless(&step.app)),
        ));
        lines.extend(step.changes.iter().map(|change| format!("    {}", shown(change))));
    }
    lines.push(match (different.len(), same.len()) {
        (0, _) => "nothing to do: all is as the file says".to_owned(),
        (change, 0) => format!("{change} to change: `everup apply` does it"),
        (change, same) => format!("{change} to change, {same} as the file says: `everup apply` does it"),
    });
    lines.join("\n")
}

fn shown(change: &Change) -> String {
    let value = |value: Option<&Value>| match value {
        None => "(none)".to_owned(),
        Some(value) => harmless(&value.to_string()),
    };
    let (from, to) = (value(change.from.as_ref()), value(change.to.as_ref()));
    format!("{}: {from} -> {to}", harmless(&change.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(app: &str, action: StepAction, changes: Vec<Change>) -> Step {
        Step {
            app: app.to_owned(),
            action,
            changes,
        }
    }

    #[test]
    fn a_plan_for_people() {
        let change = |key: &str, from: Option<Value>, to: Option<Value>| Change {
            key: key.to_owned(),
            from,
            to,
        };
        let changes = vec![
            change("env.PORT", Some(json!("80")), Some(json!("8080"))),
            change("env.TOKEN", Some(json!("[redacted]")), Some(json!("[redacted]"))),
            change("umask", None, Some(json!("027"))),
            change("args", Some(json!(["\u{1b}[31m"])), None),
        ];
        let plan = Plan {
            steps: vec![
                step("web", StepAction::Reload, changes),
                step("worker", StepAction::Start, Vec::new()),
                step("same", StepAction::Nothing, Vec::new()),
                step("old", StepAction::Delete, Vec::new()),
            ],
        };
        let wanted = "\
~ web     reload: new workers, no request lost
    env.PORT: \"80\" -> \"8080\"
    env.TOKEN: \"[redacted]\" -> \"[redacted]\"
    umask: (none) -> \"027\"
    args: [\"\\u001b[31m\"] -> (none)
+ worker  start
- old     delete: no longer in the file
3 to change, 1 as the file says: `everup apply` does it";
        assert_eq!(render(&plan, false), wanted);
        assert!(render(&plan, true).contains("\u{1b}[33m"));
    }

    #[test]
    fn nothing_to_do() {
        let plan = Plan {
            steps: vec![step("same", StepAction::Nothing, Vec::new())],
        };
        assert_eq!(render(&plan, false), "nothing to do: all is as the file says");
    }
}
