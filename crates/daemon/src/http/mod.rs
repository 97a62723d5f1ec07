//! The control API: HTTP/1.1 on a UNIX socket.
//!
//! Job: connections, who is at their other end, requests to calls, answers to bytes. [`calls`] has the table of calls.
//! Invariants: at most [`places::CONNECTIONS`] at a time, and whoever is one too many is told so at once; a request has at
//! most [`BODY`] bytes, its head arrives within [`HEAD`] and its body within [`SLOW`]; a caller who goes away ends no
//! operation. Must not know: how anything is done.

mod access;
mod body;
pub(crate) mod calls;
mod events;
pub mod openapi;
mod places;

use crate::daemon::{Daemon, Ending};
use access::Access;
pub(crate) use access::Caller;
use body::Answer;
use everup_api::v1::AuditEntry;
use everup_api::{Error, ErrorCode};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use places::Places;
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// So long people may take who may do nothing.
const STRANGE: Duration = Duration::from_secs(2);
/// The longest request.
const BODY: usize = 8 << 20;
/// The head of a request arrives within this time.
const HEAD: Duration = Duration::from_secs(5);
/// And its body within this time.
const SLOW: Duration = Duration::from_secs(30);
/// How long the end waits for answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The headers of a request, in bytes.
const HEADERS: usize = 64 << 10;

/// Serves until the daemon is over, and all answers are given.
pub(crate) async fn serve(daemon: Arc<Daemon>, listener: UnixListener) {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let places = Arc::new(Places::new(descriptors));
    loop {
        let accepted = tokio::select! {
            () = daemon.ended(Ending::Over) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => admit(&daemon, stream, &places),
            // Out of descriptors: somebody closes one some day.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let answers = || timeout(LAST_ANSWERS, places.left());
    if daemon.ending() == Ending::HandOver {
        answers().await.ok();
        if let Some(successor) = daemon.successor() {
            // Nothing is dropped: what is open here is open there, this socket with its callers too.
            successor.go();
        }
    }
    drop(listener);
    // Answers that are under way.
    answers().await.ok();
}

/// A connection gets a place, or is told that there is none.
fn admit(daemon: &Arc<Daemon>, stream: UnixStream, places: &Arc<Places>) {
    let Some(caller) = caller(daemon, &stream) else {
        return;
    };
    let stranger = caller.right.is_none();
    let place = match stranger {
        true => places.stranger(),
        false => places.connection(caller.owner()),
    };
    let place = match place {
        Ok(place) => place,
        Err(error) => {
            // It fits: nothing was written before.
            rustix::io::write(&stream, &body::raw(&error)).ok();
            return;
        }
    };
    let (daemon, places) = (Arc::clone(daemon), Arc::clone(places));
    tokio::spawn(async move {
        let serving = connection(daemon, stream, caller, places);
        if stranger {
            timeout(STRANGE, serving).await.ok();
        } else {
            serving.await;
        }
        drop(place);
    });
}

fn caller(daemon: &Daemon, stream: &UnixStream) -> Option<Caller> {
    let peer = everup::peer::peer(stream.as_fd()).ok()?;
    let mut groups = everup::peer::peer_groups(stream.as_fd()).unwrap_or_default();
    groups.push(peer.gid);
    crate::socket::follow(&daemon.home);
    Some(Caller {
        uid: peer.uid,
        gid: peer.gid,
        pid: peer.pid.unwrap_or_default(),
        right: access(daemon).right(peer.uid, &groups),
    })
}

/// Who may do what now. The owner is told, once, of a file that cannot be understood.
fn access(daemon: &Daemon) -> Access {
    let file = daemon.home.access();
    let (access, wrong) = match Access::read(&file) {
        Ok(access) => (access, None),
        Err(why) => {
            let what = format!("{}: {why}; only the owner may do anything", file.display());
            (Access::default(), Some(what))
        }
    };
    let mut told = daemon.wrong_access.lock().unwrap_or_else(PoisonError::into_inner);
    if *told != wrong {
        told.clone_from(&wrong);
        wrong.into_iter().for_each(|wrong| daemon.warn(wrong));
    }
    access
}

async fn connection(daemon: Arc<Daemon>, stream: UnixStream, caller: Caller, places: Arc<Places>) {
    let serving = Arc::clone(&daemon);
    let service = service_fn(move |request| {
        let (daemon, places) = (Arc::clone(&serving), Arc::clone(&places));
        async move { Ok::<_, Infallible>(answer(daemon, caller, places, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEADERS)
        .max_headers(64);
    let serving = http.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        () = daemon.ended(Ending::Over) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    // The other end is gone, or speaks no HTTP.
    result.ok();
}

async fn answer(
    daemon: Arc<Daemon>,
    caller: Caller,
    places: Arc<Places>,
    request: Request<Incoming>,
) -> Response<Answer> {
    daemon.thrift.used();
    let (parts, incoming) = request.into_parts();
    let found = match calls::find(&parts.method, parts.uri.path()) {
        Ok(call) if caller.right < Some(call.right) => {
            denied(&daemon, caller, call);
            Err(refused(&daemon, caller, call))
        }
        other => other,
    };
    let call = match found {
        Ok(call) => call,
        Err(error) => return body::failed(&error),
    };
    let sent = match timeout(SLOW, whole(incoming)).await {
        Ok(Ok(sent)) => sent,
        Ok(Err(error)) => return body::failed(&error),
        Err(_) => {
            return body::failed(&Error::new(
                ErrorCode::TooSlow,
                "the request took too long to arrive",
            ));
        }
    };
    let last = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let mut asked = calls::Asked {
        caller,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        last_event: last.and_then(|id| id.trim().parse().ok()),
        body: sent,
        places,
        noting: None,
    };
    if call.method == "GET" {
        return (call.answer)(daemon, call, asked).await;
    }
    let noting = Arc::new(Noting::new(&daemon, caller, call, &asked.body));
    asked.noting = Some(Arc::clone(&noting));
    let answer = (call.answer)(daemon, call, asked).await;
    if let Some(outcome) = answer.body().outcome() {
        noting.note(&outcome);
    }
    answer
}

/// Writes a call into the audit journal, once.
#[derive(Debug)]
struct Noting {
    daemon: Arc<Daemon>,
    entry: AuditEntry,
    noted: AtomicBool,
}

impl Noting {
    fn new(daemon: &Arc<Daemon>, caller: Caller, call: &calls::Call, body: &[u8]) -> Self {
        Self {
            daemon: Arc::clone(daemon),
            entry: AuditEntry {
                at: crate::view::rfc3339(std::time::SystemTime::now()),
                uid: caller.uid,
                gid: caller.gid,
                pid: caller.pid,
                call: call.name.into(),
                targets: crate::audit::targets(body),
                outcome: String::new(),
            },
            noted: AtomicBool::new(false),
        }
    }

    fn note(&self, outcome: &str) {
        if !self.noted.swap(true, Ordering::Relaxed) {
            self.daemon.audit.note(&AuditEntry {
                outcome: outcome.into(),
                ..self.entry.clone()
            });
        }
    }
}

/// Who wanted to change something is known, too.
fn denied(daemon: &Arc<Daemon>, caller: Caller, call: &calls::Call) {
    if call.method != "GET" {
        Noting::new(daemon, caller, call, &[]).note("permission_denied");
    }
}

fn refused(daemon: &Daemon, caller: Caller, call: &calls::Call) -> Error {
    let what = format!("user {} may not say `{}` to this daemon", caller.uid, call.name);
    let file = daemon.home.access();
    let hint = format!("its owner may allow it in {}", file.display());
    Error::new(ErrorCode::PermissionDenied, what).with_hint(hint)
}

/// The whole body.
async fn whole(mut incoming: Incoming) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > BODY {
        return Err(too_long());
    }
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await;
        let Some(frame) = frame else { return Ok(all) };
        let frame = frame.map_err(|error| {
            Error::new(
                ErrorCode::NotARequest,
                format!("the request ended early: {error}"),
            )
        })?;
        let data: Bytes = frame.into_data().unwrap_or_default();
        if all.len() + data.len() > BODY {
            return Err(too_long());
        }
        all.extend_from_slice(&data);
    }
}

fn too_long() -> Error {
    Error::new(
        ErrorCode::TooLong,
        format!("the request has more than {BODY} bytes"),
    )
}
