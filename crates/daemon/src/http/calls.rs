//! The table of calls: `docs/openapi.json` is made from it.

use super::Noting;
use super::access::Caller;
use super::body::{self, Answer};
use super::events;
use super::places::Places;
use crate::daemon::{Daemon, Ending};
use crate::ops::Steps;
use crate::ops::stop::Left;
use everup_api::v1::{self, Done, On, Right, from_body};
use everup_api::{Error, ErrorCode, Reply, nearest};
use hyper::{Method, Response};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use tokio::sync::mpsc;

type Answering = Pin<Box<dyn Future<Output = Response<Answer>> + Send>>;

/// A call.
pub(crate) struct Call {
    /// The last part of its path.
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    /// What one must be allowed.
    pub(crate) right: Right,
    pub(crate) answer: fn(Arc<Daemon>, &'static Call, Asked) -> Answering,
}

/// What was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) query: String,
    pub(crate) last_event: Option<u64>,
    pub(crate) body: Vec<u8>,
    pub(super) places: Arc<Places>,
    /// Of a call that changes something.
    pub(super) noting: Option<Arc<Noting>>,
}

const fn get(name: &'static str, answer: fn(Arc<Daemon>, &'static Call, Asked) -> Answering) -> Call {
    Call {
        name,
        method: "GET",
        right: Right::View,
        answer,
    }
}

const fn post(
    name: &'static str,
    right: Right,
    answer: fn(Arc<Daemon>, &'static Call, Asked) -> Answering,
) -> Call {
    Call {
        name,
        method: "POST",
        right,
        answer,
    }
}

/// All of them.
pub(crate) static CALLS: &[Call] = &[
    get("ping", |daemon, _, _| now(body::ok(daemon.pong()))),
    get("list", |daemon, _, asked| {
        let targets = asked.values("target");
        now(body::result(daemon.look(&targets)))
    }),
    get("why", |daemon, _, asked| {
        let why = asked.number("limit").and_then(|limit| {
            let limit = limit.unwrap_or(20);
            daemon.why(
                &asked.values("target"),
                usize::try_from(limit).unwrap_or(usize::MAX),
            )
        });
        now(body::result(why))
    }),
    get("env", |daemon, _, asked| {
        let reveal = asked
            .values("reveal")
            .pop()
            .is_some_and(|value| value == "1" || value == "true");
        if reveal && asked.caller.right < Some(Right::Own) {
            let error = Error::new(
                ErrorCode::PermissionDenied,
                "only who owns the daemon sees secrets",
            );
            return now(body::failed(&error.with_hint("ask without `reveal`")));
        }
        now(body::result(daemon.environment(&asked.values("target"), reveal)))
    }),
    get("audit", |daemon, _, asked| {
        if asked.caller.right < Some(Right::Own) {
            let error = Error::new(
                ErrorCode::PermissionDenied,
                "only who owns the daemon sees who asked for what",
            );
            return now(body::failed(&error));
        }
        now(body::result(asked.number("limit").map(|limit| {
            let limit = limit.unwrap_or(100);
            daemon.audit.last(usize::try_from(limit).unwrap_or(usize::MAX))
        })))
    }),
    get("events", |daemon, _, asked| {
        let after = asked.number("after").map(|after| asked.last_event.or(after));
        let place = || asked.places.stream(asked.caller.owner());
        now(match after.and_then(|after| Ok((after, place()?))) {
            Ok((after, place)) => events::stream(daemon, after, place),
            Err(error) => body::failed(&error),
        })
    }),
    post("start", Right::Own, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, steps| async move {
            daemon.start(request, steps).await
        })
    }),
    post("plan", Right::Own, |daemon, _, asked| {
        now(body::result(
            from_body(&asked.body).and_then(|request| daemon.plan(&request)),
        ))
    }),
    post("apply", Right::Own, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, steps| async move {
            daemon.apply(request, steps).await
        })
    }),
    post("restart", Right::Operate, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, steps| async move {
            daemon.replace(request, everup::Cause::Restart, steps).await
        })
    }),
    post("reload", Right::Operate, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, steps| async move {
            daemon.replace(request, everup::Cause::Reload, steps).await
        })
    }),
    post("stop", Right::Operate, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request: On, steps| async move {
            daemon.stop(request, Left::Stopped, steps).await
        })
    }),
    post("delete", Right::Own, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request: On, steps| async move {
            daemon.stop(request, Left::Nothing, steps).await
        })
    }),
    post("scale", Right::Operate, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, steps| async move {
            daemon.scale(request, steps).await
        })
    }),
    post("signal", Right::Operate, |daemon, _, asked| {
        now(body::result(
            from_body(&asked.body).and_then(|request| daemon.signal(&request)),
        ))
    }),
    post("reset", Right::Operate, |daemon, _, asked| {
        now(body::result(
            from_body(&asked.body).and_then(|request| daemon.reset(&request)),
        ))
    }),
    post("abort", Right::Operate, |daemon, _, asked| {
        now(body::result(
            from_body(&asked.body).and_then(|request| daemon.abort(&request)),
        ))
    }),
    post("launch", Right::Operate, |daemon, _, asked| {
        now(body::result(
            from_body(&asked.body).and_then(|request| daemon.launch(&request)),
        ))
    }),
    post("send", Right::Operate, |daemon, _, asked| {
        now(body::result(
            from_body(&asked.body).and_then(|request| daemon.send(&request)),
        ))
    }),
    post("trigger", Right::Operate, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, steps| async move {
            daemon.trigger(request, steps).await
        })
    }),
    post("flush", Right::Operate, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, _| async move {
            daemon.flush(request).await
        })
    }),
    post("reopen", Right::Operate, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, _| async move {
            daemon.reopen(request).await
        })
    }),
    post("save", Right::Operate, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, _| async move {
            daemon.save(request).await
        })
    }),
    post("resurrect", Right::Own, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |_: v1::Save, steps| async move {
            daemon.resurrect(steps).await
        })
    }),
    post("upgrade", Right::Own, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |request, _| async move {
            daemon.upgrade(request).await
        })
    }),
    post("kill", Right::Own, |daemon, _, asked| {
        long(Arc::clone(&daemon), asked, move |_: v1::Save, steps| async move {
            let done = daemon.kill(steps, true).await;
            // The answer is given before the process ends: the server waits for its connections.
            daemon.end(Ending::Over);
            Ok(done)
        })
    }),
];

/// The call of this path.
pub(crate) fn find(method: &Method, path: &str) -> Result<&'static Call, Error> {
    let name = path.strip_prefix("/v1/").unwrap_or_default();
    let Some(call) = CALLS.iter().find(|call| call.name == name) else {
        let error = Error::new(ErrorCode::UnknownVerb, format!("there is no call {path}"));
        let names: Vec<&str> = CALLS.iter().map(|call| call.name).collect();
        return Err(match nearest(name, &names) {
            Some(name) => error.with_hint(format!("did you mean /v1/{name}?")),
            None => error.with_hint(format!("there are: {}", names.join(", "))),
        });
    };
    if method.as_str() != call.method {
        let error = Error::new(ErrorCode::UnknownVerb, format!("{path} is no {method}"));
        return Err(error.with_hint(format!("ask with {} {path}", call.method)));
    }
    Ok(call)
}

impl Asked {
    /// All values of a parameter.
    fn values(&self, name: &str) -> Vec<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| decoded(value))
            .collect()
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.values(name).pop() else {
            return Ok(None);
        };
        let wrong = |_| {
            Error::new(
                ErrorCode::InvalidValue,
                format!("`{text}` is no number for `{name}`"),
            )
        };
        text.parse().map(Some).map_err(wrong)
    }
}

/// Without `%20` and `+`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, after.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn now(response: Response<Answer>) -> Answering {
    Box::pin(std::future::ready(response))
}

/// An answer that takes its time: progress, then the end. It goes on when nobody listens any more. What ends before there
/// is any progress has a status of its own.
fn long<T, F, O>(daemon: Arc<Daemon>, asked: Asked, work: F) -> Answering
where
    T: serde::de::DeserializeOwned + Send + 'static,
    F: FnOnce(T, Steps) -> O + Send + 'static,
    O: Future<Output = Result<Done, Error>> + Send + 'static,
{
    Box::pin(async move {
        let request = match from_body(&asked.body) {
            Ok(request) => request,
            Err(error) => return body::failed(&error),
        };
        let (steps, mut told) = mpsc::channel(64);
        let work = work(request, Steps::new(steps));
        let mut work = tokio::spawn(async move {
            let result = work.await;
            if let Some(noting) = asked.noting {
                noting.note(&outcome(&result));
            }
            let mut done = result?;
            // What is said to be done is on disk, or it is said that it is not.
            done.notices.extend(daemon.saving.durable().await);
            done.notices
                .append(&mut daemon.warnings.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(done)
        });
        let Some(first) = told.recv().await else {
            // Nobody is left who could tell a step: its answer is all, with a status of its own.
            return body::result(flat(work.await));
        };
        let (lines, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut next = Some(first);
            // The work may be over before what it began: that goes on, and still has a say.
            let result = loop {
                if let Some(step) = next.take() {
                    // Nobody there any more: it goes on all the same.
                    lines.send(body::line(&Reply::<Done>::Progress(step))).await.ok();
                }
                next = tokio::select! {
                    biased;
                    step = told.recv() => step,
                    result = &mut work => break result,
                };
                if next.is_none() {
                    break work.await;
                }
            };
            while let Ok(step) = told.try_recv() {
                lines.send(body::line(&Reply::<Done>::Progress(step))).await.ok();
            }
            let last = match flat(result) {
                Ok(done) => Reply::Ok(done),
                Err(error) => Reply::Error(error),
            };
            lines.send(body::line(&last)).await.ok();
        });
        body::lines("application/x-ndjson", receiver)
    })
}

/// `ok`, or the code of the first error.
fn outcome(result: &Result<Done, Error>) -> String {
    let error = match result {
        Err(error) => Some(error),
        Ok(done) => done.apps.iter().find_map(|app| app.error.as_ref()),
    };
    error.map_or_else(|| "ok".into(), |error| error.code.word())
}

fn flat(result: Result<Result<Done, Error>, tokio::task::JoinError>) -> Result<Done, Error> {
    result.unwrap_or_else(|error| {
        Err(Error::new(
            ErrorCode::Internal,
            format!("a task of the daemon failed: {error}"),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_were_meant() {
        assert_eq!(find(&Method::GET, "/v1/list").unwrap().name, "list");
        let error = find(&Method::POST, "/v1/relaod").err().unwrap();
        assert_eq!(error.hint.as_deref(), Some("did you mean /v1/reload?"));
        let error = find(&Method::GET, "/v1/stop").err().unwrap();
        assert_eq!(error.hint.as_deref(), Some("ask with POST /v1/stop"));
        assert!(find(&Method::GET, "/").is_err());
    }

    #[test]
    fn text_of_a_query() {
        assert_eq!(decoded("a%20b+c%2Fd"), "a b c/d");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
