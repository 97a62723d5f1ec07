//! The verbs that talk to the daemon: each asks, and tells what came of it.
//!
//! Must not know: how anything is done; whatever is decided about apps is decided in the daemon.

mod acts;
mod context;
mod failure;
mod files;
mod foreground;
mod home;
mod inherited;
mod interrupt;
mod logs;
mod plan;
mod progress;
mod settings;
mod show;
mod start;
mod told;
mod watch;

use crate::args::logs::LogsArgs;
use crate::args::manage::{AnswerArgs, ManageVerb};
use crate::exit::Exit;
use crate::output::paint;
use crate::terminal::colour_wanted;
pub(crate) use context::Context;
pub(crate) use failure::VerbError;
pub(crate) use home::Home;
pub(crate) use start::start_app;
use std::io::{self, IsTerminal, Write};

/// Does it. As pm2, whatever is not well ends with 1.
pub(crate) fn perform(verb: &ManageVerb, pm2: bool) -> Exit {
    let answer = verb.answer();
    let result = Context::new(pm2, answer).and_then(|context| call(&context, verb));
    finish(result, answer, pm2)
}

/// `logs`, which has options of its own.
pub(crate) fn logs(args: &LogsArgs, pm2: bool) -> Exit {
    let answer = AnswerArgs::default();
    let result = Context::new(pm2, &answer).and_then(|context| logs::run(&context, args));
    finish(result, &answer, pm2)
}

fn finish(result: Result<Exit, VerbError>, answer: &AnswerArgs, pm2: bool) -> Exit {
    let exit = result.unwrap_or_else(|error| {
        let text = if answer.json {
            error.json().to_string()
        } else if pm2 {
            format!("[PM2][ERROR] {}", error.message())
        } else {
            text(&error)
        };
        if answer.json {
            writeln!(io::stdout(), "{text}").ok();
        } else {
            writeln!(io::stderr(), "{text}").ok();
        }
        error.exit()
    });
    match exit {
        Exit::Ok => Exit::Ok,
        _ if pm2 => Exit::Unexpected,
        exit => exit,
    }
}

fn text(error: &VerbError) -> String {
    let colour = io::stderr().is_terminal() && colour_wanted();
    let label = |number, text: &str| {
        if colour {
            paint(number, text)
        } else {
            text.to_owned()
        }
    };
    if let VerbError::File(error) = error {
        return files::explain(error, &label);
    }
    let mut text = format!("{} {}", label(31, "error:"), error.message());
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\n  {} {hint}", label(36, "hint:")));
    }
    text
}

fn call(context: &Context, verb: &ManageVerb) -> Result<Exit, VerbError> {
    match verb {
        ManageVerb::Start(args) => start::start(context, args),
        ManageVerb::Restart(args) => start::restart(context, args, "restart"),
        ManageVerb::Reload(args) => start::restart(context, args, "reload"),
        ManageVerb::Stop(args) => acts::stop(context, args, "stop"),
        ManageVerb::Delete(args) => acts::stop(context, args, "delete"),
        ManageVerb::Scale(args) => acts::scale(context, args),
        ManageVerb::List(args) if args.watch => watch::monit(context, args),
        ManageVerb::List(args) => show::list(context, args),
        ManageVerb::Jlist(_) => show::jlist(context, false),
        ManageVerb::Prettylist(_) => show::jlist(context, true),
        ManageVerb::Describe(args) => show::describe(context, args),
        ManageVerb::Flush(args) => acts::logs(context, "flush", args),
        ManageVerb::ReloadLogs(args) => acts::logs(context, "reopen", args),
        ManageVerb::Monit(args) => watch::monit(context, args),
        ManageVerb::Env(args) => show::env(context, args),
        ManageVerb::Id(args) => show::numbers(context, args, false),
        ManageVerb::Pid(args) => show::numbers(context, args, true),
        ManageVerb::Ping(_) => show::ping(context),
        ManageVerb::Kill(_) => acts::kill(context),
        ManageVerb::Save(args) => acts::save(context, args),
        ManageVerb::Resurrect(_) => acts::resurrect(context),
        ManageVerb::SendSignal(args) => acts::signal(context, args),
        ManageVerb::Trigger(args) => acts::trigger(context, args),
        ManageVerb::Send(args) => acts::send(context, args),
        ManageVerb::Attach(args) => watch::attach(context, args),
        ManageVerb::Reset(args) => acts::simply(context, "reset", args),
        ManageVerb::Upgrade(args) => acts::upgrade(context, args),
        ManageVerb::Events(args) => watch::events(context, args),
        ManageVerb::Why(args) => show::why(context, args),
        ManageVerb::Abort(args) => acts::simply(context, "abort", args),
        ManageVerb::Launch(args) => acts::simply(context, "launch", args),
        ManageVerb::Plan(args) => plan::plan(context, args),
        ManageVerb::Apply(args) if args.dry_run => plan::plan(context, args),
        ManageVerb::Apply(args) => plan::apply(context, args),
    }
}
