//! Verbs that change something, other than `start`, `restart` and `reload`.

use super::context::Context;
use super::failure::VerbError;
use super::files;
use super::settings::texts;
use super::told::{Told, tell, tell_only};
use crate::args::manage::{
    ForceArgs, ScaleArgs, SendArgs, SignalArgs, StopArgs, TargetsArgs, TriggerArgs, UpgradeArgs,
};
use crate::error::{CliError, ValueError};
use crate::exit::Exit;
use crate::terminal::harmless;
use everup::signal_number;
use everup_api::ErrorCode;
use everup_api::v1::{
    CallError, Client, Done, DoneTo, List, On, Pong, Save, Scale, Send, Signal, Trigger, Upgrade,
};
use rustix::fs::FlockOperation;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long it may take until another program answers.
const REPLACED: Duration = Duration::from_secs(60);
/// And each answer, while it is being replaced.
const ANSWER: Option<Duration> = Some(Duration::from_secs(2));

/// `everup stop`, `everup delete`.
pub(crate) fn stop(context: &Context, args: &StopArgs, call: &'static str) -> Result<Exit, VerbError> {
    let here = std::env::current_dir().map_err(|source| VerbError::Usage(CliError::Here { source }))?;
    let mut targets = Vec::new();
    for word in texts(&args.targets)? {
        if files::is_file(&word) {
            let file = crate::args::manage::FileArgs {
                only: args.only.clone(),
                ..Default::default()
            };
            let apps = files::load(&word, &file, None, &here)?.apps;
            targets.extend(apps.into_iter().map(|app| app.name));
        } else {
            targets.push(word);
        }
    }
    let action = if call == "stop" {
        "stopProcessId"
    } else {
        "deleteProcessId"
    };
    on(context, call, action, targets, args.now)
}

/// `reset`, `abort`, `launch`.
pub(crate) fn simply(context: &Context, call: &'static str, args: &TargetsArgs) -> Result<Exit, VerbError> {
    let targets = args.targets.clone();
    if targets.is_empty() {
        return Err(VerbError::usage(
            "no app is named",
            format!("give names, ids or `all`: everup {call} all"),
        ));
    }
    if context.pm2 && call == "reset" {
        let mut client = context.changer()?;
        let done = once(context, &mut client, call, &targets, false)?;
        for id in done.apps.iter().flat_map(|one| &one.ids) {
            context.say(&format!("[PM2] Resetting meta for process id {id}"));
        }
        let list = context.list(&mut client, &[])?;
        super::show::table(context, &list.apps, None);
        return Ok(Exit::Ok);
    }
    on(context, call, "resetMetaProcessId", targets, false)
}

/// Something is done to targets; pm2 does one after the other.
fn on(
    context: &Context,
    call: &'static str,
    action: &'static str,
    targets: Vec<String>,
    now: bool,
) -> Result<Exit, VerbError> {
    let mut client = context.changer_if_any()?;
    let groups: Vec<Vec<String>> = match context.pm2 {
        true => targets.into_iter().map(|target| vec![target]).collect(),
        false => vec![targets],
    };
    let mut told = Told::default();
    let many = groups.len() > 1;
    for group in groups {
        let result = act(context, &mut client, call, &group, now);
        let done = or_missing(context, &group, many, result)?;
        told.add(&group, action, done);
    }
    tell(context, &mut client, told)
}

/// One that is nobody's, of many, does not keep the others from being done.
pub(super) fn or_missing(
    context: &Context,
    group: &[String],
    many: bool,
    result: Result<Done, VerbError>,
) -> Result<Done, VerbError> {
    match (result, group) {
        (Err(VerbError::Call(CallError::Refused(error))), [target])
            if many && error.code == ErrorCode::UnknownApp =>
        {
            let missing = DoneTo {
                app: target.clone(),
                ids: Vec::new(),
                done: "nothing".into(),
                error: Some(error),
                receipt: None,
            };
            Ok(Done {
                apps: vec![missing],
                notices: Vec::new(),
            })
        }
        (result, _) => result.map_err(|error| in_words(context, group, error)),
    }
}

fn once(
    context: &Context,
    client: &mut Client,
    call: &'static str,
    targets: &[String],
    now: bool,
) -> Result<Done, VerbError> {
    act(context, client, call, targets, now).map_err(|error| in_words(context, targets, error))
}

fn act(
    context: &Context,
    client: &mut Client,
    call: &'static str,
    targets: &[String],
    now: bool,
) -> Result<Done, VerbError> {
    let body = On {
        targets: targets.to_vec(),
        now,
        timeout_ms: context.timeout_ms(),
        ..On::default()
    };
    let result = context.act(client, call, &body);
    match result {
        // The daemon died in the middle: what came of it can be seen.
        Err(VerbError::Call(CallError::Lost)) if matches!(call, "stop" | "delete") => {
            let left = context.list(client, targets);
            if call == "delete" && matches!(&left, Err(error) if is_unknown(error)) {
                return Ok(Done::default());
            }
            context.act(client, call, &body)
        }
        result => result,
    }
}

fn is_unknown(error: &VerbError) -> bool {
    matches!(error, VerbError::Call(CallError::Refused(error)) if error.code == ErrorCode::UnknownApp)
}

/// pm2's words for a target that is nobody's.
pub(crate) fn in_words(context: &Context, targets: &[String], error: VerbError) -> VerbError {
    if context.pm2 && is_unknown(&error) {
        let text = format!("Process or Namespace {} not found", harmless(&targets.join(" ")));
        return VerbError::said(Exit::Refused, text, None);
    }
    error
}

/// A number of `start` that is nobody's.
pub(crate) fn unknown(context: &Context, id: &str, list: &List) -> VerbError {
    let hint = match list.apps.is_empty() {
        true => "there are no apps",
        false => "`everup list` shows the ids",
    };
    let text = if context.pm2 {
        format!("Process or Namespace {id} not found")
    } else {
        format!("there is no app, namespace or id `{id}`")
    };
    VerbError::said(Exit::Refused, text, Some(hint.into()))
}

/// `everup scale`.
pub(crate) fn scale(context: &Context, args: &ScaleArgs) -> Result<Exit, VerbError> {
    let amount = args.workers.as_str();
    let digits = amount.strip_prefix(['+', '-']).unwrap_or(amount);
    if amount != "max" && (digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit())) {
        let error = args.workers.parse::<everup_api::Amount>().err();
        let source = error.map_or(ValueError::Positive, ValueError::Amount);
        return Err(value("the number of workers", amount, source));
    }
    let mut client = context.changer_if_any()?;
    let body = Scale {
        target: args.target.clone(),
        workers: amount.to_owned(),
        timeout_ms: context.timeout_ms(),
    };
    let target = vec![args.target.clone()];
    let before = if context.pm2 {
        ids(&context.list(&mut client, &[])?, &args.target)
    } else {
        Vec::new()
    };
    let done = context
        .act(&mut client, "scale", &body)
        .map_err(|error| in_words(context, &target, error))?;
    if context.pm2 {
        return scaled_as_pm2(context, &mut client, &args.target, &before, &done);
    }
    tell(context, &mut client, Told::one(&target, "scale", done))
}

/// The ids of an app's instances.
fn ids(list: &List, app: &str) -> Vec<u32> {
    let named = list.apps.iter().find(|known| known.spec.name == app);
    named
        .into_iter()
        .flat_map(|app| &app.instances)
        .map(|one| one.id)
        .collect()
}

fn scaled_as_pm2(
    context: &Context,
    client: &mut Client,
    app: &str,
    before: &[u32],
    done: &Done,
) -> Result<Exit, VerbError> {
    if let Some(error) = done.apps.iter().find_map(|one| one.error.clone()) {
        return Err(VerbError::Call(CallError::Refused(error)));
    }
    if done.apps.iter().all(|one| one.done == "nothing") {
        return Err(VerbError::said(Exit::Refused, "Nothing to do", None));
    }
    let list = context.list(client, &[])?;
    let after = ids(&list, app);
    if after.len() > before.len() {
        context.say("[PM2] Scaling up application");
    }
    for id in before.iter().filter(|id| !after.contains(id)) {
        context.say(&format!(
            "[PM2] Applying action deleteProcessId on app [{id}](ids: [ {id} ])"
        ));
        context.say(&format!("[PM2] [{}]({id}) ✓", harmless(app)));
    }
    super::show::table(context, &list.apps, None);
    Ok(Exit::Ok)
}

/// `everup sendSignal`.
pub(crate) fn signal(context: &Context, args: &SignalArgs) -> Result<Exit, VerbError> {
    if signal_number(&args.signal).is_none() {
        return Err(value("the signal", &args.signal, ValueError::Signal));
    }
    let mut client = context.changer_if_any()?;
    let body = Signal {
        targets: args.targets.clone(),
        signal: args.signal.clone(),
    };
    let names = harmless(&args.targets.join(" "));
    if context.pm2 {
        context.say(&format!("[PM2] Sending signal to process name {names}"));
    }
    let done = context.act(&mut client, "signal", &body).map_err(|error| {
        match context.pm2 && is_unknown(&error) {
            true => VerbError::said(Exit::Refused, "Unknown process name", None),
            false => error,
        }
    })?;
    if context.pm2 {
        context.say(&format!(
            "successfully sent signal {} to process name {names}",
            args.signal
        ));
        let list = context.list(&mut client, &[])?;
        super::show::table(context, &list.apps, None);
        return Ok(Exit::Ok);
    }
    tell(context, &mut client, Told::one(&args.targets, "sendSignal", done))
}

/// `everup flush`, `everup reloadLogs`.
pub(crate) fn logs(context: &Context, call: &'static str, args: &TargetsArgs) -> Result<Exit, VerbError> {
    let mut client = context.changer_if_any()?;
    let targets = match args.targets.is_empty() {
        true => vec!["all".to_owned()],
        false => args.targets.clone(),
    };
    if context.pm2 && call == "reopen" {
        context.say("Reloading all logs...");
    }
    let done = match act(context, &mut client, call, &targets, false) {
        // pm2 empties the files of nobody.
        Err(error) if context.pm2 && call == "flush" && is_unknown(&error) => Done::default(),
        done => done.map_err(|error| in_words(context, &targets, error))?,
    };
    if !context.pm2 {
        return tell_only(context, Told::one(&targets, call, done));
    }
    if call == "flush" {
        let list = context.list(&mut client, &[])?;
        for (_, instance) in crate::pm2::processes(&list.apps) {
            if done.apps.iter().any(|one| one.ids.contains(&instance.id)) {
                context.say("[PM2] Flushing:");
                for path in [&instance.out_file, &instance.error_file].into_iter().flatten() {
                    context.say(&format!("[PM2] {}", harmless(&path.to_string_lossy())));
                }
            }
        }
        context.say("[PM2] Logs flushed");
    } else {
        context.say("All logs reloaded");
    }
    Ok(Exit::Ok)
}

/// `everup save`.
pub(crate) fn save(context: &Context, args: &ForceArgs) -> Result<Exit, VerbError> {
    let mut client = context.changer_if_any()?;
    if context.pm2 {
        context.say("[PM2] Saving current process list...");
        if !args.force && context.list(&mut client, &[])?.apps.is_empty() {
            context.say("[PM2][WARN] PM2 is not managing any process, skipping save...");
            context.say("[PM2][WARN] To force saving use: pm2 save --force");
            return Ok(Exit::Ok);
        }
    }
    let done = context.act(&mut client, "save", &Save { force: args.force })?;
    let path = context.home.path.join("saved.json");
    if context.answer.json {
        context.print(&json!(done).to_string());
    } else if context.pm2 {
        context.say(&format!("[PM2] Successfully saved in {}", path.display()));
    } else {
        let apps = crate::render::amounts::count(done.apps.len() as u64, "app");
        context.say(&format!("saved {apps} in {}", harmless(&path.to_string_lossy())));
    }
    Ok(Exit::Ok)
}

/// `everup resurrect`.
pub(crate) fn resurrect(context: &Context) -> Result<Exit, VerbError> {
    let slept = !context.pm2 && context.reader_if_any()?.is_none();
    let mut client = context.changer()?;
    if context.pm2 {
        let path = context.home.path.join("saved.json");
        context.say("[PM2] Resurrecting");
        context.say(&format!(
            "[PM2] Restoring processes located in {}",
            path.display()
        ));
    }
    let done = context.act(&mut client, "resurrect", &Save::default())?;
    if context.pm2 {
        for id in done.apps.iter().flat_map(|one| &one.ids) {
            context.say(&format!("[PM2] Process {id} restored"));
        }
        let list = context.list(&mut client, &[])?;
        super::show::table(context, &list.apps, None);
        return Ok(Exit::Ok);
    }
    if slept && done.apps.is_empty() && !context.answer.json {
        let list = context.list(&mut client, &[])?;
        let names: Vec<String> = list.apps.iter().map(|app| harmless(&app.spec.name)).collect();
        context.say(&format!(
            "nothing was saved; the daemon was started, with what was in its state: {}",
            names.join(", ")
        ));
        return Ok(Exit::Ok);
    }
    tell(
        context,
        &mut client,
        Told::one(&["all".to_owned()], "start", done),
    )
}

/// `everup kill`.
pub(crate) fn kill(context: &Context) -> Result<Exit, VerbError> {
    // Whoever wants no daemon needs none started.
    let mut client = match context.home.connect(context.soon()) {
        Err(CallError::NotRunning { .. }) => {
            if context.pm2 {
                context.warn("No process found");
                context.say("[PM2] [v] PM2 Daemon Stopped");
            } else if context.answer.json {
                context.print(&json!({"apps": [], "notices": ["no daemon runs"]}).to_string());
            } else {
                context.say("no daemon runs");
            }
            return Ok(Exit::Ok);
        }
        client => client?,
    };
    let done = context.act(&mut client, "kill", &json!({}))?;
    gone(context);
    if context.pm2 {
        if done.apps.is_empty() {
            context.warn("No process found");
        }
        context.say("[PM2] [v] All Applications Stopped");
        context.say("[PM2] [v] PM2 Daemon Stopped");
        return Ok(Exit::Ok);
    }
    let exit = match done.apps.is_empty() && !context.answer.json {
        true => Exit::Ok,
        false => tell_only(context, Told::one(&["all".to_owned()], "deleteProcessId", done))?,
    };
    context.say("the daemon has ended");
    Ok(exit)
}

/// Waits until nobody listens any more, and keeper and daemon have ended: whoever starts the next daemon finds the way free,
/// and all is written down.
fn gone(context: &Context) {
    let end = Instant::now() + Duration::from_secs(10);
    let there = || locked(context) || context.home.connect(Some(Duration::from_secs(1))).is_ok();
    while Instant::now() < end && there() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether there is a keeper. Who may not look does not know.
fn locked(context: &Context) -> bool {
    let lock = std::fs::File::open(context.home.path.join("keeper.lock"));
    lock.is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// `everup trigger`.
pub(crate) fn trigger(context: &Context, args: &TriggerArgs) -> Result<Exit, VerbError> {
    let mut client = context.changer_if_any()?;
    let body = Trigger {
        targets: vec![args.target.clone()],
        action: args.action.clone(),
        param: args.param.clone(),
        timeout_ms: context.timeout_ms(),
    };
    let done = context.act(&mut client, "trigger", &body)?;
    if context.pm2 && done.apps.is_empty() {
        let text = "Not any process has received a command (offline or unexistent)";
        return Err(VerbError::said(Exit::Refused, text, None));
    }
    tell_only(
        context,
        Told::one(std::slice::from_ref(&args.target), "trigger", done),
    )
}

/// `everup send`.
pub(crate) fn send(context: &Context, args: &SendArgs) -> Result<Exit, VerbError> {
    let mut client = context.changer_if_any()?;
    let body = Send {
        target: args.target.clone(),
        text: format!("{}\n", args.line),
    };
    let done = context.act(&mut client, "send", &body)?;
    tell_only(
        context,
        Told::one(std::slice::from_ref(&args.target), "send", done),
    )
}

/// `everup upgrade`.
pub(crate) fn upgrade(context: &Context, args: &UpgradeArgs) -> Result<Exit, VerbError> {
    let mut client = context.changer_if_any()?;
    let before = client.ping()?;
    let program = match &args.program {
        Some(program) => Some(std::path::absolute(program).unwrap_or_else(|_| program.clone())),
        None => std::env::current_exe().ok(),
    };
    let done = context.act(&mut client, "upgrade", &Upgrade { program })?;
    let ask = || context.home.connect(ANSWER).and_then(|mut client| client.ping());
    let after = replaced(&before, REPLACED, ask)?;
    if let Some(why) = &after.fell_back {
        let text = format!(
            "the new program did not become ready: {}; the old one is back",
            harmless(why)
        );
        let hint = "the apps went on; daemon.log in the home says more";
        return Err(VerbError::said(Exit::Refused, text, Some(hint.into())));
    }
    if context.answer.json {
        context.print(&json!({"from": before, "to": after, "notices": done.notices}).to_string());
        return Ok(Exit::Ok);
    }
    for notice in &done.notices {
        context.note(&format!("note: {}", harmless(notice)));
    }
    let was = match before.version == after.version {
        true => String::new(),
        false => format!(" (it was {})", harmless(&before.version)),
    };
    let version = harmless(&after.version);
    context.say(&format!(
        "the daemon was replaced: it is version {version} now{was}; its apps went on"
    ));
    Ok(Exit::Ok)
}

/// Waits until another daemon answers than this one. Who does not answer is asked again.
fn replaced(
    before: &Pong,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Pong, CallError>,
) -> Result<Pong, VerbError> {
    let end = Instant::now() + limit;
    loop {
        match ask() {
            Ok(pong) if pong.incarnation != before.incarnation || pong.pid != before.pid => return Ok(pong),
            _ if Instant::now() >= end => {
                let text = format!("the daemon was not replaced within {limit:?}");
                let hint = "see daemon.log in its home";
                return Err(VerbError::said(Exit::Refused, text, Some(hint.into())));
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn value(option: &'static str, value: &str, source: ValueError) -> VerbError {
    VerbError::Usage(CliError::Value {
        option,
        value: harmless(value),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(incarnation: u64) -> Pong {
        let pong = json!({
            "pid": 8, "keeper_pid": 7, "version": "1", "protocol": 1, "home": "/h", "uptime_ms": 1,
            "incarnation": incarnation
        });
        serde_json::from_value(pong).unwrap()
    }

    #[test]
    fn another_daemon_is_waited_for_and_not_for_ever() {
        let mut answers = vec![Ok(pong(2)), Err(CallError::Lost), Ok(pong(1))];
        let ask = || answers.pop().unwrap();
        let found = replaced(&pong(1), Duration::from_secs(60), ask).unwrap();
        assert_eq!(found, pong(2));
        let silent = || Err(CallError::TimedOut(Duration::from_secs(2)));
        let error = replaced(&pong(1), Duration::from_millis(30), silent).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert!(error.message().contains("not replaced within 30ms"));
    }
}
