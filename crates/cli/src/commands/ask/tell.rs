//! An answer as text for people, and as an exit code.

use super::failure::AskError;
use super::{receipt, status, why};
use crate::exit::Exit;
use crate::render::amounts::count;
use crate::terminal::{Screen, harmless};
use everup_api::{
    Aborted, ClientError, Launched, Outcome, Pong, Receipt, Reopened, Request, Scaled, Signalled, Status,
    Stopping, Why,
};
use serde::Deserialize;
use serde_json::Value;

/// What is said of an answer.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) text: String,
    pub(super) exit: Exit,
}

impl From<String> for Told {
    fn from(text: String) -> Self {
        let exit = Exit::Ok;
        Self { text, exit }
    }
}

/// Reads the answer to this request.
pub(super) fn answer(request: &Request, answer: &Value, screen: &Screen) -> Result<Told, AskError> {
    Ok(match request {
        Request::Ping(_) => pong(&read(answer)?).into(),
        Request::Status(_) => status::text(&read::<Status>(answer)?, screen).into(),
        Request::Why(_) => why::text(&read::<Why>(answer)?, screen).into(),
        Request::Reload(_) | Request::Restart(_) => {
            let receipt: Receipt = read(answer)?;
            let exit = if receipt.outcome == Outcome::Done {
                Exit::Ok
            } else {
                Exit::Reload
            };
            let text = receipt::text(request.verb(), &receipt, screen);
            Told { text, exit }
        }
        Request::Abort(_) => match read::<Aborted>(answer)?.aborted {
            true => "the reload is given up".to_owned().into(),
            false => "no reload is going on".to_owned().into(),
        },
        Request::Scale(_) => scaled(&read(answer)?).into(),
        Request::Stop(_) => {
            let Stopping { .. } = read(answer)?;
            "stopping".to_owned().into()
        }
        Request::Reopen(_) => harmless(&read::<Reopened>(answer)?.message).into(),
        Request::Signal(_) => {
            let sent = u64::from(read::<Signalled>(answer)?.sent);
            format!("sent to {}", count(sent, "worker")).into()
        }
        Request::Launch(_) => {
            let Launched { launched, message } = read(answer)?;
            let exit = if launched { Exit::Ok } else { Exit::Refused };
            let text = harmless(&message);
            Told { text, exit }
        }
        _ => answer.to_string().into(),
    })
}

fn read<'a, T: Deserialize<'a>>(answer: &'a Value) -> Result<T, AskError> {
    T::deserialize(answer).map_err(|error| ClientError::Protocol(error.to_string()).into())
}

fn pong(pong: &Pong) -> String {
    format!(
        "{} answers: everup {}, pid {}",
        harmless(&pong.app),
        harmless(&pong.version),
        pong.pid
    )
}

fn scaled(scaled: &Scaled) -> String {
    let Scaled { from, to, ready } = *scaled;
    let wanted = count(u64::from(to), "worker");
    match from == to {
        true => format!("{wanted} as before, {ready} ready"),
        false => format!("{wanted} instead of {from}, {ready} ready"),
    }
}
