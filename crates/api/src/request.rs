//! What may be asked, and reading it strictly: an unknown verb or field is refused by name.

mod amount;
mod fields;

pub use amount::{Amount, AmountError};

use crate::names::nearest;
use crate::{
    Aborted, Error, ErrorCode, Launched, Pong, Receipt, Reopened, Scaled, Signalled, Status, Stopping, Why,
};
use fields::Fields;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request, as a line: `{"verb":"why","limit":5}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Who is there?
    Ping(PingRequest),
    /// How is the app?
    Status(StatusRequest),
    /// Why did workers end?
    Why(WhyRequest),
    /// Replace all workers, without loss.
    Reload(ReloadRequest),
    /// Give the reload up that is going on.
    Abort(AbortRequest),
    /// Have more or fewer workers.
    Scale(ScaleRequest),
    /// Stop all workers, then start new ones.
    Restart(RestartRequest),
    /// End the app and everup.
    Stop(StopRequest),
    /// Open the log files anew.
    Reopen(ReopenRequest),
    /// Send a signal to workers.
    Signal(SignalRequest),
    /// Start the scheduled job now.
    Launch(LaunchRequest),
}

/// A request whose answer has a type.
pub trait Call: Into<Request> {
    /// The answer.
    type Reply: DeserializeOwned;
}

/// `ping`: answered by a [`Pong`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PingRequest {}

/// `status`: answered by a [`Status`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StatusRequest {}

/// `why`: answered by a [`Why`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WhyRequest {
    /// This worker only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// This many exits at most, the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// `reload`: answered by a [`Receipt`], after progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReloadRequest {}

/// `abort`: answered by an [`Aborted`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AbortRequest {}

/// `scale`: answered by a [`Scaled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ScaleRequest {
    /// How many, or how many more or fewer.
    pub workers: Amount,
}

/// `restart`: answered by a [`Receipt`], after progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RestartRequest {}

/// `stop`: answered by a [`Stopping`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StopRequest {
    /// Kill the workers instead of asking them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub now: bool,
}

/// `reopen`: answered by a [`Reopened`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReopenRequest {}

/// `signal`: answered by a [`Signalled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignalRequest {
    /// Its name or number: `USR2`, `SIGUSR2`, `12`.
    pub signal: String,
    /// To this worker; to all of them without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
}

/// `launch`: answered by a [`Launched`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LaunchRequest {}

macro_rules! calls {
    ($($request:ident is $variant:ident, answered by $reply:ty;)*) => {$(
        impl From<$request> for Request {
            fn from(request: $request) -> Self {
                Self::$variant(request)
            }
        }
        impl Call for $request {
            type Reply = $reply;
        }
    )*};
}

calls! {
    PingRequest is Ping, answered by Pong;
    StatusRequest is Status, answered by Status;
    WhyRequest is Why, answered by Why;
    ReloadRequest is Reload, answered by Receipt;
    AbortRequest is Abort, answered by Aborted;
    ScaleRequest is Scale, answered by Scaled;
    RestartRequest is Restart, answered by Receipt;
    StopRequest is Stop, answered by Stopping;
    ReopenRequest is Reopen, answered by Reopened;
    SignalRequest is Signal, answered by Signalled;
    LaunchRequest is Launch, answered by Launched;
}

impl Request {
    /// All verbs.
    pub const VERBS: [&'static str; 11] = [
        "ping", "status", "why", "reload", "abort", "scale", "restart", "stop", "reopen", "signal", "launch",
    ];

    /// Its verb.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Ping(_) => "ping",
            Self::Status(_) => "status",
            Self::Why(_) => "why",
            Self::Reload(_) => "reload",
            Self::Abort(_) => "abort",
            Self::Scale(_) => "scale",
            Self::Restart(_) => "restart",
            Self::Stop(_) => "stop",
            Self::Reopen(_) => "reopen",
            Self::Signal(_) => "signal",
            Self::Launch(_) => "launch",
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, as it goes back to the client.
    pub fn parse(line: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of(line)?;
        let verb = fields.verb()?;
        let request = match verb.as_str() {
            "ping" => Self::Ping(PingRequest {}),
            "status" => Self::Status(StatusRequest {}),
            "why" => Self::Why(WhyRequest {
                worker: fields.number("worker")?,
                limit: fields.number("limit")?,
            }),
            "reload" => Self::Reload(ReloadRequest {}),
            "abort" => Self::Abort(AbortRequest {}),
            "scale" => Self::Scale(ScaleRequest {
                workers: fields.amount("workers")?,
            }),
            "restart" => Self::Restart(RestartRequest {}),
            "stop" => Self::Stop(StopRequest {
                now: fields.flag("now")?,
            }),
            "reopen" => Self::Reopen(ReopenRequest {}),
            "signal" => Self::Signal(SignalRequest {
                signal: fields.text("signal")?,
                worker: fields.number("worker")?,
            }),
            "launch" => Self::Launch(LaunchRequest {}),
            other => return Err(unknown_verb(other)),
        };
        fields.end()?;
        Ok(request)
    }
}

fn unknown_verb(verb: &str) -> Error {
    let hint = match nearest(verb, &Request::VERBS) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there are: {}", Request::VERBS.join(", ")),
    };
    let shown: String = verb.chars().take(40).collect();
    Error::new(ErrorCode::UnknownVerb, format!("there is no verb `{shown}`")).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(line: &str) -> (ErrorCode, String, String) {
        let error = Request::parse(line.as_bytes()).unwrap_err();
        (error.code, error.message, error.hint.unwrap_or_default())
    }

    fn requests() -> Vec<Request> {
        let worker = Some(3);
        vec![
            PingRequest {}.into(),
            StatusRequest {}.into(),
            WhyRequest::default().into(),
            WhyRequest {
                worker,
                limit: Some(5),
            }
            .into(),
            ReloadRequest {}.into(),
            AbortRequest {}.into(),
            ScaleRequest {
                workers: Amount::To(4),
            }
            .into(),
            ScaleRequest {
                workers: Amount::More(1),
            }
            .into(),
            ScaleRequest {
                workers: Amount::Fewer(2),
            }
            .into(),
            RestartRequest {}.into(),
            StopRequest { now: false }.into(),
            StopRequest { now: true }.into(),
            ReopenRequest {}.into(),
            SignalRequest {
                signal: "USR2".into(),
                worker: None,
            }
            .into(),
            SignalRequest {
                signal: "12".into(),
                worker,
            }
            .into(),
            LaunchRequest {}.into(),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for request in requests() {
            let line = serde_json::to_string(&request).unwrap();
            assert!(
                line.starts_with(&format!(r#"{{"verb":"{}""#, request.verb())),
                "{line}"
            );
            assert_eq!(Request::parse(line.as_bytes()).unwrap(), request, "{line}");
        }
    }

    #[test]
    fn every_verb_is_read() {
        let known: Vec<&str> = requests().iter().map(Request::verb).collect();
        assert!(Request::VERBS.iter().all(|verb| known.contains(verb)));
    }

    #[test]
    fn unknown_things_are_named() {
        use ErrorCode::{InvalidValue, MissingField, NotARequest, UnknownField, UnknownVerb};
        for (line, code, message, hint) in [
            (
                r#"{"verb":"relod"}"#,
                UnknownVerb,
                "there is no verb `relod`",
                "did you mean `reload`?",
            ),
            (
                r#"{"verb":"why","limits":1}"#,
                UnknownField,
                "`why` has no field `limits`",
                "did you mean `limit`?",
            ),
            (
                r#"{"verb":"ping","x":1}"#,
                UnknownField,
                "`ping` has no field `x`",
                "it has none",
            ),
            (
                r#"{"verb":"signal","x":1,"signal":"1"}"#,
                UnknownField,
                "`signal` has no field `x`",
                "it has: signal, worker",
            ),
            (
                r#"{"verb":"scale"}"#,
                MissingField,
                "`scale` needs the field `workers`",
                "give a number, +N or -N, as text",
            ),
            (
                r#"{"verb":"scale","workers":"many"}"#,
                InvalidValue,
                "`workers` cannot be \"many\"",
                "give a number, +N or -N, as text",
            ),
            (
                r#"{"verb":"why","limit":-1}"#,
                InvalidValue,
                "`limit` cannot be -1",
                "give a whole number from 0 on",
            ),
            (
                r#"{"verb":"stop","now":"yes"}"#,
                InvalidValue,
                "`now` cannot be \"yes\"",
                "give true or false",
            ),
            (
                r#"{"verb":"signal","signal":{}}"#,
                InvalidValue,
                "`signal` cannot be {}",
                "give a text",
            ),
            (
                "[]",
                NotARequest,
                "a request is a JSON object, and this is something else",
                "",
            ),
            (
                r#"{"verb":7}"#,
                NotARequest,
                "the request has no `verb` that is a text",
                "",
            ),
            ("{}", NotARequest, "the request has no `verb` that is a text", ""),
        ] {
            let (is_code, is_message, is_hint) = refused(line);
            assert_eq!((is_code, is_message.as_str()), (code, message), "{line}");
            if !hint.is_empty() {
                assert_eq!(is_hint, hint, "{line}");
            }
        }
        let (code, message, _) = refused("{\"verb\":");
        assert_eq!(code, NotARequest);
        assert!(message.starts_with("not JSON: "), "{message}");
    }

    #[test]
    fn null_is_no_value_and_a_number_is_an_amount() {
        let parse = |line: &str| Request::parse(line.as_bytes()).unwrap();
        assert_eq!(
            parse(r#"{"verb":"why","worker":null}"#),
            WhyRequest::default().into()
        );
        assert_eq!(
            parse(r#"{"verb":"scale","workers":4}"#),
            ScaleRequest {
                workers: Amount::To(4)
            }
            .into()
        );
    }

    proptest! {
        #[test]
        fn garbage_is_refused_quietly(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _answer = Request::parse(&line);
        }

        #[test]
        fn strange_texts_are_answered_shortly(verb in ".{0,300}", field in ".{0,300}") {
            let line = serde_json::json!({"verb": verb, &field: field}).to_string();
            if let Err(error) = Request::parse(line.as_bytes()) {
                prop_assert!(error.message.chars().count() < 200);
            }
        }
    }
}
