//! Connections, and answers to requests.

use super::super::told::{Outcome, Told, say};
use super::body::Payload;
use super::find::{Found, Hit, find};
use super::options::Options;
use super::select::{Selection, Version, Wishes, select};
use super::{base64, cannot_listen, listing, mime};
use crate::exit::Exit;
use everup::Worker;
use everup::worker::AcceptError;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::task::spawn_blocking;

/// Before accepting is tried again when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(10);
/// Threads that read files; more would not make a disk faster.
const READERS: usize = 4;

pub(super) fn run(worker: Worker, options: Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READERS)
        .build()
        .map_err(|error| {
            Told::new(
                Exit::Unexpected,
                format!("could not start: {}", crate::error::reason(&error)),
            )
        })?;
    runtime.block_on(serve(worker, options))
}

async fn serve(worker: Worker, options: Options) -> Outcome {
    let listener = worker
        .listen(options.place())
        .await
        .map_err(|error| cannot_listen(&error, &options))?;
    say(&format!(
        "Exposing {} directory on {}\n",
        options.root.display(),
        listener.local_addr()
    ));
    // Without it, the signals that ask us to stop would kill. `accept` ends then.
    drop(worker.on_drain());
    let options = Arc::new(options);
    let connections = GracefulShutdown::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(AcceptError::Drained) => break,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let options = Arc::clone(&options);
        let service = service_fn(move |request| answer(Arc::clone(&options), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(stream, service);
        let connection = connections.watch(connection);
        // A client that went away is no event.
        tokio::spawn(async move { connection.await.ok() });
    }
    connections.shutdown().await;
    Ok(Exit::Ok)
}

pub(super) type Answer = Response<Payload>;

async fn answer(options: Arc<Options>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    Ok(respond(options, request.into_parts().0).await)
}

pub(super) async fn respond(options: Arc<Options>, parts: Parts) -> Answer {
    let head = parts.method == Method::HEAD;
    let answer = match refuse(&options, &parts.method, &parts.headers) {
        Some(answer) => answer,
        None => {
            let path = parts.uri.path().to_owned();
            let looked =
                spawn_blocking(move || look(&options, &path, parts.uri.query(), &parts.headers)).await;
            looked.unwrap_or_else(|_| page(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error"))
        }
    };
    if head { without_body(answer) } else { answer }
}

fn refuse(options: &Options, method: &Method, headers: &HeaderMap) -> Option<Answer> {
    if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        let mut answer = page(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed");
        set(&mut answer, header::ALLOW, "GET, HEAD");
        return Some(answer);
    }
    if *method == Method::OPTIONS {
        let mut answer = Response::new(Payload::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        allow(&mut answer);
        return Some(answer);
    }
    let wanted = options.authorization()?;
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if given.is_some_and(|given| base64::same(given, wanted.as_bytes())) {
        return None;
    }
    let mut answer = page(StatusCode::UNAUTHORIZED, "401 Unauthorized");
    set(
        &mut answer,
        header::WWW_AUTHENTICATE,
        "Basic realm=\"Authentication service\", charset=\"UTF-8\"",
    );
    Some(answer)
}

fn look(options: &Options, path: &str, query: Option<&str>, headers: &HeaderMap) -> Answer {
    match find(options, path) {
        Found::File(hit) => file(hit, headers),
        Found::AddSlash => {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let mut answer = page(StatusCode::MOVED_PERMANENTLY, "301 Moved Permanently");
            // Two slashes at the front would name another host.
            set(
                &mut answer,
                header::LOCATION,
                &format!("/{}/{query}", path.trim_matches('/')),
            );
            answer
        }
        Found::Directory(folder, path) => match listing::read(&folder) {
            Ok(entries) => {
                let mut answer = page(StatusCode::OK, &listing::page(&path, &entries));
                allow(&mut answer);
                answer
            }
            Err(error) => failed(&error),
        },
        Found::Missing(Some(hit)) => whole(hit, StatusCode::NOT_FOUND),
        Found::Missing(None) => page(StatusCode::NOT_FOUND, "404 Not Found"),
        Found::Forbidden => page(StatusCode::FORBIDDEN, "403 Forbidden"),
        Found::Failed(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Answer {
    let text = format!(
        "Sorry, check with the site admin for error: {} ..\n",
        error.kind()
    );
    page(StatusCode::INTERNAL_SERVER_ERROR, &text)
}

fn file(hit: Hit, headers: &HeaderMap) -> Answer {
    let version = Version::new(hit.metadata.len(), hit.metadata.modified().unwrap_or(UNIX_EPOCH));
    let value = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let selection = select(
        &version,
        Wishes {
            if_none_match: value(header::IF_NONE_MATCH),
            if_modified_since: value(header::IF_MODIFIED_SINCE),
            if_range: value(header::IF_RANGE),
            range: value(header::RANGE),
        },
    );
    let mut answer = match selection {
        Selection::Whole => whole(hit, StatusCode::OK),
        Selection::Part(from, length) => {
            let mut answer = part(hit, StatusCode::PARTIAL_CONTENT, from, length);
            let range = format!("bytes {from}-{}/{}", from + length - 1, version.length);
            set(&mut answer, header::CONTENT_RANGE, &range);
            answer
        }
        Selection::NotModified => {
            let mut answer = Response::new(Payload::empty());
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer
        }
        Selection::OutOfRange => {
            let mut answer = page(StatusCode::RANGE_NOT_SATISFIABLE, "416 Range Not Satisfiable");
            set(
                &mut answer,
                header::CONTENT_RANGE,
                &format!("bytes */{}", version.length),
            );
            answer
        }
    };
    set(&mut answer, header::ETAG, &version.etag);
    if let Some(modified) = &version.modified {
        set(&mut answer, header::LAST_MODIFIED, modified);
    }
    set(&mut answer, header::ACCEPT_RANGES, "bytes");
    allow(&mut answer);
    answer
}

fn whole(hit: Hit, status: StatusCode) -> Answer {
    let length = hit.metadata.len();
    part(hit, status, 0, length)
}

fn part(hit: Hit, status: StatusCode, from: u64, length: u64) -> Answer {
    let kind = mime::of(&hit.path);
    let mut answer = match Payload::file(hit.file, from, length) {
        Ok(payload) => Response::new(payload),
        Err(error) => return failed(&error),
    };
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, kind);
    set(&mut answer, header::CONTENT_LENGTH, &length.to_string());
    answer
}

fn page(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Payload::text(text.to_owned()));
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, "text/html; charset=utf-8");
    set(&mut answer, header::CONTENT_LENGTH, &text.len().to_string());
    answer
}

/// As pm2: pages of other origins may read everything.
fn allow(answer: &mut Answer) {
    set(answer, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(answer, header::ACCESS_CONTROL_ALLOW_METHODS, "GET");
}

fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

fn without_body(mut answer: Answer) -> Answer {
    *answer.body_mut() = Payload::empty();
    answer
}
