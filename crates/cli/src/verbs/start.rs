//! `start`, `restart`, `reload`: what the words mean, and what the daemon is asked for.

use super::context::Context;
use super::failure::VerbError;
use super::inherited::{Inherited, inherited};
use super::settings::{app, section, settings, texts};
use super::told::{Told, tell};
use super::{acts, files, foreground};
use crate::args::app::AppArgs;
use crate::args::logs::LogsArgs;
use crate::args::manage::{FileArgs, RestartArgs, StartArgs};
use crate::error::CliError;
use crate::exit::Exit;
use everup_api::AppSpec;
use everup_api::v1::{App, AppState, Client, Done, List, On, Start, StepAction};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What a word of `start` means, in pm2's order.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// The apps of a file.
    File(String),
    /// An app of the list, or several.
    Known(String),
    /// Something new.
    New,
    /// It is there, and runs.
    Running(String),
    /// A number that is nobody's.
    NoId(String),
}

/// Decides. `exists` says whether a path is there.
fn meaning(
    word: &OsStr,
    list: &List,
    keys: &Map<String, Value>,
    here: &Path,
    exists: impl Fn(&Path) -> bool,
) -> Meaning {
    let Some(text) = word.to_str() else {
        return Meaning::New;
    };
    if files::is_file(text) {
        return Meaning::File(text.to_owned());
    }
    let named = |app: &App| app.spec.name == text || app.spec.namespace() == text;
    let id = |app: &App| {
        app.instances
            .iter()
            .any(|instance| text.parse() == Ok(instance.id))
    };
    if (text == "all" && !list.apps.is_empty()) || list.apps.iter().any(named) || list.apps.iter().any(id) {
        return Meaning::Known(text.to_owned());
    }
    let path = here.join(text);
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !exists(&path) {
        return Meaning::NoId(text.to_owned());
    }
    let name = keys
        .get("name")
        .and_then(Value::as_str)
        .map_or_else(|| super::settings::name_of(text), str::to_owned);
    let same =
        |app: &&App| app.spec.name == name && app.script_path.as_deref() == Some(normal(&path).as_path());
    match list.apps.iter().find(same) {
        Some(app)
            if matches!(
                app.state,
                AppState::Stopped | AppState::Stopping | AppState::Failed
            ) =>
        {
            Meaning::Known(app.spec.name.clone())
        }
        Some(app) => Meaning::Running(app.spec.name.clone()),
        None => Meaning::New,
    }
}

/// Without `.` and `..`, by text.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// What is asked for.
#[derive(Debug, Default)]
struct Wanted {
    new: Vec<AppSpec>,
    of_files: Vec<AppSpec>,
    known: Vec<String>,
}

/// What is said about options that are taken and not followed.
fn remark(context: &Context, app: &AppArgs) {
    let unused = app.unused.given();
    if !unused.is_empty() && !context.pm2 {
        context.note(&format!(
            "note: {} of pm2 means nothing here: docs/pm2-compat.md",
            unused.join(", ")
        ));
    }
}

/// Starts one app that another verb describes, or changes and restarts the one of its name.
pub(crate) fn start_app(context: &Context, app: AppSpec) -> Result<Exit, VerbError> {
    let inherited = take(context);
    let mut client = context.changer()?;
    let names = [app.name.clone()];
    let body = Start {
        apps: vec![app],
        inherited,
        update_env: true,
        timeout_ms: context.timeout_ms(),
        ..Start::default()
    };
    let mut told = Told::default();
    told.add(&names, "start", context.act(&mut client, "start", &body)?);
    tell(context, &mut client, told)
}

/// `everup start`.
pub(crate) fn start(context: &Context, args: &StartArgs) -> Result<Exit, VerbError> {
    if args.file.no_daemon {
        return foreground::stay(context, || started(context, args));
    }
    started(context, args)
}

fn started(context: &Context, args: &StartArgs) -> Result<Exit, VerbError> {
    remark(context, &args.app);
    let here = here()?;
    let inherited = take(context);
    let mut words = args.what.clone();
    if words.is_empty() {
        words.push(files::default_file(&here)?.into());
    }
    let mut client = context.changer()?;
    let list = context.list(&mut client, &[])?;
    let keys = settings(&args.app, &here)?;
    let wanted = wanted(context, args, &words, &keys, &list, &here)?;
    let mut told = Told::default();
    if !wanted.known.is_empty() {
        let body = change(context, &wanted.known, keys, &args.args, &args.file, &inherited)?;
        let done = context.act(&mut client, "restart", &body)?;
        told.add(&wanted.known, "restartProcessId", done);
        told.started_known = true;
    }
    for (apps, fresh) in [(wanted.new, !args.force), (wanted.of_files, false)] {
        if apps.is_empty() {
            continue;
        }
        let names: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
        let body = Start {
            apps,
            inherited: inherited.clone(),
            update_env: true,
            fresh,
            force: args.force,
            wait: args.wait,
            timeout_ms: context.timeout_ms(),
            ..Start::default()
        };
        told.add(&names, "start", context.act(&mut client, "start", &body)?);
    }
    finish(context, &mut client, told, &args.file)
}

fn wanted(
    context: &Context,
    args: &StartArgs,
    words: &[OsString],
    keys: &Map<String, Value>,
    list: &List,
    here: &Path,
) -> Result<Wanted, VerbError> {
    let mut wanted = Wanted::default();
    for word in words {
        let meant = match args.force {
            true if !is_file(word) => Meaning::New,
            _ => meaning(word, list, keys, here, Path::exists),
        };
        match meant {
            Meaning::File(file) => wanted
                .of_files
                .extend(of_file(context, &file, &args.file, &args.app, here)?),
            Meaning::Known(target) => wanted.known.push(target),
            Meaning::New => {
                plain_environment(&args.app)?;
                wanted.new.push(app(word, &args.args, keys.clone(), here)?);
            }
            Meaning::Running(name) => return Err(running(context, &name)),
            Meaning::NoId(id) => return Err(acts::unknown(context, &id, list)),
        }
    }
    Ok(wanted)
}

fn is_file(word: &OsStr) -> bool {
    word.to_str().is_some_and(files::is_file)
}

fn running(context: &Context, name: &str) -> VerbError {
    if context.pm2 {
        let text = "Script already launched, add -f option to force re-execution";
        return VerbError::said(Exit::Refused, text, None);
    }
    VerbError::said(
        Exit::Refused,
        format!("{name} runs already, with this script"),
        Some(format!(
            "`everup restart {name}`, or `-f` to run it once more, or another --name"
        )),
    )
}

/// Without a file, `--env` needs a value.
fn plain_environment(args: &AppArgs) -> Result<(), VerbError> {
    match section(args) {
        Some(value) => Err(VerbError::Usage(CliError::Value {
            option: "--env",
            value: value.clone(),
            source: crate::error::ValueError::EnvWithoutEquals { value },
        })),
        None => Ok(()),
    }
}

/// The apps of a file, with the options that pm2 lays over them.
fn of_file(
    context: &Context,
    file: &str,
    args: &FileArgs,
    settings_of: &AppArgs,
    here: &Path,
) -> Result<Vec<AppSpec>, VerbError> {
    let section = section(settings_of);
    let found = files::load(file, args, section.as_deref(), here)?;
    found.remark(context);
    let keys = settings(settings_of, here)?;
    let laid = |app: AppSpec| laid_over(app, &keys);
    let apps: Result<Vec<AppSpec>, VerbError> = found.apps.into_iter().map(laid).collect();
    let apps = apps?;
    if apps.is_empty() {
        let hint = "--only names apps by their `name`".to_owned();
        return Err(VerbError::said(
            Exit::Input,
            format!("{file} has no such app"),
            Some(hint),
        ));
    }
    Ok(apps)
}

/// An app of a file with the options of the command line: what they name wins; variables are added.
fn laid_over(app: AppSpec, keys: &Map<String, Value>) -> Result<AppSpec, VerbError> {
    if keys.is_empty() {
        return Ok(app);
    }
    let bug = |error: serde_json::Error| {
        VerbError::usage(
            format!("these options make no app: {error}"),
            "this is a bug of everup",
        )
    };
    let Value::Object(mut all) = serde_json::to_value(&app).map_err(bug)? else {
        return Ok(app);
    };
    for (key, value) in keys {
        match (all.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
            _ => {
                all.insert(key.clone(), value.clone());
            }
        }
    }
    serde_json::from_value(Value::Object(all)).map_err(bug)
}

/// `everup restart` and `everup reload`.
pub(crate) fn restart(context: &Context, args: &RestartArgs, call: &'static str) -> Result<Exit, VerbError> {
    remark(context, &args.app);
    let here = here()?;
    let mut words = texts(&args.targets)?;
    if words.is_empty() {
        words.push(files::default_file(&here)?.to_string_lossy().into_owned());
    }
    let (of_files, targets): (Vec<String>, Vec<String>) =
        words.into_iter().partition(|word| files::is_file(word));
    let keys = settings(&args.app, &here)?;
    let inherited = take(context);
    let mut told = Told {
        hint_env: !args.file.update_env && of_files.is_empty(),
        ..Told::default()
    };
    let mut client = if of_files.is_empty() {
        context.changer_if_any()?
    } else {
        context.changer()?
    };
    let action = if call == "reload" {
        "reloadProcessId"
    } else {
        "restartProcessId"
    };
    if of_files.is_empty() {
        plain_environment(&args.app)?;
    }
    let groups = groups(context, targets);
    let many = groups.len() > 1;
    for group in groups {
        let body = change(context, &group, keys.clone(), &args.args, &args.file, &inherited)?;
        let result = context.act(&mut client, call, &body);
        let done = acts::or_missing(context, &group, many, result)?;
        told.add(&group, action, done);
    }
    for file in of_files {
        let apps = of_file(context, &file, &args.file, &args.app, &here)?;
        let names: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
        let done = match call {
            "reload" => reload_file(context, &mut client, apps, &inherited)?,
            _ => {
                let body = Start {
                    apps,
                    inherited: inherited.clone(),
                    update_env: true,
                    timeout_ms: context.timeout_ms(),
                    ..Start::default()
                };
                context.act(&mut client, "start", &body)?
            }
        };
        told.add(&names, action, done);
    }
    finish(context, &mut client, told, &args.file)
}

/// pm2 does and tells each target by itself.
fn groups(context: &Context, targets: Vec<String>) -> Vec<Vec<String>> {
    if targets.is_empty() {
        Vec::new()
    } else if context.pm2 {
        targets.into_iter().map(|target| vec![target]).collect()
    } else {
        vec![targets]
    }
}

/// What differs is changed by a reload, and what does not differ is reloaded all the same.
fn reload_file(
    context: &Context,
    client: &mut Client,
    apps: Vec<AppSpec>,
    inherited: &BTreeMap<String, String>,
) -> Result<Done, VerbError> {
    let body = everup_api::v1::Apply {
        origin: None,
        apps,
        inherited: inherited.clone(),
        update_env: true,
        timeout_ms: context.timeout_ms(),
    };
    let plan: everup_api::v1::Plan = client.ask("plan", &body)?;
    let same = plan
        .steps
        .into_iter()
        .filter(|step| step.action == StepAction::Nothing);
    let same: Vec<String> = same.map(|step| step.app).collect();
    let mut done = context.act(client, "apply", &body)?;
    if !same.is_empty() {
        let on = On {
            targets: same.clone(),
            inherited: inherited.clone(),
            update_env: true,
            timeout_ms: context.timeout_ms(),
            ..On::default()
        };
        let more = context.act(client, "reload", &on)?;
        done.apps.retain(|app| !same.contains(&app.app));
        done.apps.extend(more.apps);
        done.notices.extend(more.notices);
    }
    Ok(done)
}

fn change(
    context: &Context,
    targets: &[String],
    mut keys: Map<String, Value>,
    args: &[OsString],
    file: &FileArgs,
    inherited: &BTreeMap<String, String>,
) -> Result<On, VerbError> {
    if !args.is_empty() {
        keys.insert("args".into(), json!(texts(args)?));
    }
    Ok(On {
        targets: targets.to_vec(),
        change: keys,
        inherited: if file.update_env {
            inherited.clone()
        } else {
            BTreeMap::new()
        },
        update_env: file.update_env,
        parallel: file.parallel,
        timeout_ms: context.timeout_ms(),
        ..On::default()
    })
}

/// Tells it; then follows the logs, if that is wanted.
fn finish(context: &Context, client: &mut Client, told: Told, file: &FileArgs) -> Result<Exit, VerbError> {
    let names: Vec<String> = told.names().collect();
    let exit = tell(context, client, told)?;
    if !file.attach || exit != Exit::Ok {
        return Ok(exit);
    }
    let target = match names.as_slice() {
        [name] => name.clone(),
        _ => "all".to_owned(),
    };
    super::logs::run(
        context,
        &LogsArgs {
            target,
            ..LogsArgs::default()
        },
    )
}

/// The caller's variables.
pub(super) fn take(context: &Context) -> BTreeMap<String, String> {
    let Inherited { variables, skipped } = inherited(std::env::vars_os());
    if !skipped.is_empty() {
        context.note(&format!(
            "warning: not passed on, because they are no UTF-8: {}",
            skipped.join(", ")
        ));
    }
    variables
}

pub(super) fn here() -> Result<PathBuf, VerbError> {
    std::env::current_dir().map_err(|source| VerbError::Usage(CliError::Here { source }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use everup_api::v1::Instance;

    fn known(name: &str, state: AppState, id: u32) -> App {
        let spec = AppSpec {
            name: name.into(),
            namespace: Some("shop".into()),
            ..AppSpec::default()
        };
        let mut app = crate::render::samples::app(name);
        app.spec = spec;
        app.state = state;
        app.script_path = Some(format!("/srv/{name}.js").into());
        app.instances = vec![Instance {
            id,
            ..Instance::default()
        }];
        app
    }

    #[test]
    fn words_in_pm2s_order() {
        let list = List {
            apps: vec![
                known("web", AppState::Running, 0),
                known("job", AppState::Stopped, 7),
            ],
        };
        let meant = |word: &str, keys: Value| {
            let Value::Object(keys) = keys else { unreachable!() };
            meaning(OsStr::new(word), &list, &keys, Path::new("/srv"), |path| {
                path == Path::new("/srv/5")
            })
        };
        let plain = || json!({});
        let known = |name: &str| Meaning::Known(name.into());
        assert_eq!(meant("web", plain()), known("web"));
        assert_eq!(meant("shop", plain()), known("shop"));
        assert_eq!(meant("7", plain()), known("7"));
        assert_eq!(meant("all", plain()), known("all"));
        assert_eq!(meant("8", plain()), Meaning::NoId("8".into()));
        assert_eq!(meant("5", plain()), Meaning::New);
        assert_eq!(meant("web.js", plain()), Meaning::Running("web".into()));
        assert_eq!(meant("./x/../web.js", plain()), Meaning::Running("web".into()));
        assert_eq!(meant("web.js", json!({"name": "other"})), Meaning::New);
        assert_eq!(meant("job.js", plain()), known("job"));
        assert_eq!(meant("node app.js", plain()), Meaning::New);
        assert_eq!(
            meant("process.json", plain()),
            Meaning::File("process.json".into())
        );
    }

    #[test]
    fn options_over_a_file() {
        let app = AppSpec {
            name: "a".into(),
            env: BTreeMap::from([("A".into(), "1".into())]),
            ..AppSpec::default()
        };
        let Value::Object(keys) = json!({"instances": "4", "env": {"B": "2"}}) else {
            unreachable!()
        };
        let app = laid_over(app, &keys).unwrap();
        assert_eq!(app.instances.as_deref(), Some("4"));
        assert_eq!(app.env.len(), 2);
    }
}
