//! The verbs that talk to a running everup: one request, one answer, for people or as JSON.

mod failure;
pub(crate) mod receipt;
mod status;
mod tell;
pub(crate) mod why;

use crate::args::control::{AskArgs, ControlVerb};
use crate::duration;
use crate::error::{CliError, ValueError};
use crate::exit::Exit;
use crate::terminal::{Screen, harmless};
use everup::signal_number;
use everup_api::{
    AbortRequest, Amount, Client, LaunchRequest, PingRequest, Progress, ReloadRequest, ReopenRequest,
    Request, RestartRequest, ScaleRequest, SignalRequest, StatusRequest, StopRequest, WhyRequest,
};
use failure::AskError;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Where the socket is, if no option says it.
const VARIABLE: &str = "EVERUP_CONTROL";
/// For what is answered at once.
const SOON: Duration = Duration::from_secs(10);

/// Asks and tells. A closed output is no reason to fail.
pub(crate) fn ask(verb: &ControlVerb) -> Exit {
    let json = verb.ask().json;
    match told(verb, std::env::var_os(VARIABLE), &Screen::stdout()) {
        Ok((text, exit)) => {
            writeln!(io::stdout(), "{}", text.trim_end()).ok();
            exit
        }
        Err(error) => {
            if json {
                writeln!(io::stdout(), "{}", error.json()).ok();
            } else {
                writeln!(io::stderr(), "{}", error.text()).ok();
            }
            error.exit()
        }
    }
}

/// What goes to standard output, and how it ends.
fn told(verb: &ControlVerb, variable: Option<OsString>, screen: &Screen) -> Result<(String, Exit), AskError> {
    let (request, answer) = exchange(verb, variable)?;
    let told = tell::answer(&request, &answer, screen)?;
    let text = if verb.ask().json {
        answer.to_string()
    } else {
        told.text
    };
    Ok((text, told.exit))
}

fn exchange(verb: &ControlVerb, variable: Option<OsString>) -> Result<(Request, Value), AskError> {
    let request = request(verb)?;
    let args = verb.ask();
    let limit = limit(args, &request)?;
    let mut client = Client::connect(&socket(args, variable)?, limit)?;
    let show = io::stderr().is_terminal() && !args.json;
    let mut progress = |step: Progress| {
        if show {
            writeln!(io::stderr(), "{}", progress_line(&step)).ok();
        }
    };
    let answer = client.exchange(&request, &mut progress)?;
    Ok((request, answer))
}

fn progress_line(step: &Progress) -> String {
    format!("[{}/{}] {}", step.done, step.total, harmless(&step.message))
}

fn socket(args: &AskArgs, variable: Option<OsString>) -> Result<PathBuf, AskError> {
    let given = args.control.clone();
    let path = given.or_else(|| variable.map(PathBuf::from));
    path.filter(|path| !path.as_os_str().is_empty())
        .ok_or(AskError::NoSocket)
}

/// `None` is for ever.
fn limit(args: &AskArgs, request: &Request) -> Result<Option<Duration>, AskError> {
    let takes_time = matches!(
        request,
        Request::Reload(_) | Request::Restart(_) | Request::Scale(_)
    );
    match &args.timeout {
        Some(text) => {
            let limit = duration::parse(text).map_err(|error| value("--timeout", text, error))?;
            Ok(Some(limit).filter(|limit| !limit.is_zero()))
        }
        None if takes_time => Ok(None),
        None => Ok(Some(SOON)),
    }
}

fn request(verb: &ControlVerb) -> Result<Request, AskError> {
    Ok(match verb {
        ControlVerb::Status(_) => StatusRequest {}.into(),
        ControlVerb::Why(args) => WhyRequest {
            worker: args.worker,
            limit: Some(args.limit),
        }
        .into(),
        ControlVerb::Reload(_) => ReloadRequest {}.into(),
        ControlVerb::Abort(_) => AbortRequest {}.into(),
        ControlVerb::Scale(args) => {
            let workers: Amount = args.workers.parse().map_err(|error: everup_api::AmountError| {
                value("the number of workers", &args.workers, error)
            })?;
            ScaleRequest { workers }.into()
        }
        ControlVerb::Restart(_) => RestartRequest {}.into(),
        ControlVerb::Stop(args) => StopRequest { now: args.now }.into(),
        ControlVerb::Reopen(_) => ReopenRequest {}.into(),
        ControlVerb::Signal(args) => {
            if signal_number(&args.signal).is_none() {
                return Err(value("the signal", &args.signal, ValueError::Signal));
            }
            SignalRequest {
                signal: args.signal.clone(),
                worker: args.worker,
            }
            .into()
        }
        ControlVerb::Launch(_) => LaunchRequest {}.into(),
        ControlVerb::Ping(_) => PingRequest {}.into(),
    })
}

fn value(option: &'static str, value: &str, source: impl Into<ValueError>) -> AskError {
    AskError::Usage(CliError::Value {
        option,
        value: harmless(value),
        source: source.into(),
    })
}

#[cfg(test)]
mod tests;
